"""Γ trained by Adam on fresh contexts, beside the descent that has a theory."""

from __future__ import annotations

from typing import Any

import numpy as np

from iclkit import _validate, backend
from iclkit._types import Seed, checked
from iclkit.data.moments import population_moments, prediction_error
from iclkit.trained._jax import jax, jnp
from iclkit.trained.prompts import Fresh
from iclkit.trained.train import adamw, fit

# Numbers that are drawn together.
_BLOCK = 2**21


def _adam_sizes(*, d: int, alpha: float, rho: float, batch: int, steps: int, rate: float) -> int:
    d = _validate.count("d", d)
    _validate.count("batch", batch)
    _validate.count("steps", steps)
    _validate.finite("rate", rate)
    _validate.scalar(_validate.nonnegative, "rho", rho)
    return _validate.size("alpha", alpha, d, "ell = alpha * d")


def _predict(gamma: Any, prompts: Any) -> Any:
    """Return xᵀΓh without the last coordinate of h."""
    context, query = prompts[..., :-1, :], prompts[..., -1, :-1]
    scale = gamma.shape[0] / context.shape[-2]
    h = scale * jnp.einsum("...id,...i->...d", context[..., :-1], context[..., -1])
    return jnp.einsum("...d,de,...e->...", query, gamma, h)


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
        Fresh contexts b of each step, at least 1, with Gaussian tasks.
    steps : int
        Steps T, at least 1.
    rate : float
        Rate of Adam, constant, positive and finite.

    Returns
    -------
    dict
        `icl_error`, exact for the Γ of the last step.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or ℓ rounds to 0.
    FloatingPointError
        If the training diverges.

    Notes
    -----
    From Γ = 0, without the last coordinate of h, on the mean squared error of labels of the query
    without noise; in single precision.

    Examples
    --------
    >>> from iclkit.trained import streams
    >>> point = {"d": 4, "alpha": 2.0, "rho": 0.1, "batch": 16, "steps": 200}
    >>> print(streams.streaming_adam(0, **point, rate=0.01)["icl_error"] < 0.7)
    True
    """
    ell = _adam_sizes(d=d, alpha=alpha, rho=rho, batch=batch, steps=steps, rate=rate)
    optimiser = adamw(steps, rate, schedule="constant", decay=0.0, clip=np.inf)
    draw = Fresh(d, ell, rho, "float32")
    together = min(steps, max(1, _BLOCK // (batch * (ell + 1) * d)))
    number = backend.child_seed(seed, 0).generate_state(1)[0]
    gamma, _ = fit(
        _predict, jnp.zeros((d, d), "float32"), draw, optimiser, steps,
        key=jax.random.key(int(number)), shape=(together, batch),
    )  # fmt: skip
    whole = np.zeros((d, d + 1))
    whole[:, :d] = gamma
    return {"icl_error": prediction_error(whole, population_moments(d, ell, rho))}
