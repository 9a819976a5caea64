"""Γ trained by Adam on fresh contexts, beside the descent that has a theory."""

from __future__ import annotations

import numpy as np

from iclkit import _validate, backend
from iclkit._types import Seed, checked
from iclkit.data import _stream
from iclkit.trained._jax import jax, jnp, optax


def _adam_sizes(*, d: int, alpha: float, rho: float, batch: int, steps: int, rate: float) -> int:
    _validate.finite("rate", rate)
    return _stream.length(d, alpha, rho, batch, steps)


@checked(_adam_sizes)
def streaming_adam(
    seed: Seed, *, d: int, alpha: float, rho: float, batch: int, steps: int, rate: float
) -> dict[str, float]:
    """Train Γ by Adam on fresh contexts, as `iclkit.runs.streaming_descent` does by descent.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    d : int
        Dimension, at least 1.
    alpha : float
        Context length α = ℓ/d, positive and finite; ℓ is rounded.
    rho : float
        Variance of the label noise, at least 0.
    batch : int
        Fresh contexts b of each step, at least 1.
    steps : int
        Steps T, at least 1.
    rate : float
        Rate of Adam, constant, positive and finite.

    Returns
    -------
    dict
        `icl_error`, exact for the Γ of the last step; inf where it leaves the range of floats.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or ℓ rounds to 0.

    Notes
    -----
    From Γ = 0, without the last coordinate of h. The same seed draws the same contexts for both.

    Examples
    --------
    >>> from iclkit.trained import streams
    >>> point = {"d": 4, "alpha": 2.0, "rho": 0.1, "batch": 16, "steps": 100}
    >>> print(streams.streaming_adam(0, **point, rate=0.02)["icl_error"] < 0.7)
    True
    """
    ell = _adam_sizes(d=d, alpha=alpha, rho=rho, batch=batch, steps=steps, rate=rate)
    gamma, optimiser = np.zeros((d, d)), optax.adam(rate)
    with jax.enable_x64(True):
        state = optimiser.init(jnp.asarray(gamma))
        for x, h, y in _stream.batches(d, ell, rho, batch, steps, backend.streams(seed)):
            residual = y - np.vecdot(x @ gamma, h)
            gradient = jnp.asarray(-(x * residual[:, None]).T @ h / batch)
            update, state = optimiser.update(gradient, state)
            gamma += np.asarray(update)
    return {"icl_error": _stream.error(gamma, ell, rho)}
