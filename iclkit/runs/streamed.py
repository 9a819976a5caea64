"""One run of training on a stream of fresh contexts."""

from __future__ import annotations

import numpy as np

from iclkit import _validate, backend
from iclkit._types import Seed, checked
from iclkit.data import _stream
from iclkit.theory import streaming


def _stream_sizes(*, d: int, alpha: float, rho: float, batch: int, steps: int, share: float) -> int:
    _validate.finite("share", share)
    ell = _stream.length(d, alpha, rho, batch, steps)
    streaming.largest_rate(batch, d, ell, rho)  # knows how much noise is too much
    return ell


@checked(_stream_sizes)
def streaming_descent(
    seed: Seed, *, d: int, alpha: float, rho: float, batch: int, steps: int, share: float
) -> dict[str, float]:
    """Train Γ by gradient descent on fresh contexts.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    d : int
        Dimension, at least 1.
    alpha : float
        Context length α = ℓ/d, positive and finite; ℓ is rounded.
    rho : float
        Variance of the label noise, from 0 to 1e9.
    batch : int
        Fresh contexts b of each step, at least 1.
    steps : int
        Steps T, at least 1.
    share : float
        Rate η over that from which on the mean error does not stay bounded,
        `iclkit.theory.streaming.largest_rate`; positive and finite.

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
    From Γ = 0, without the last coordinate of h. Source: eq-rates-step in the book.

    Examples
    --------
    >>> from iclkit import runs
    >>> from iclkit.theory import streaming
    >>> point = {"d": 8, "rho": 0.1, "batch": 16, "steps": 100}
    >>> print(runs.streaming_descent(0, **point, alpha=2.0, share=0.1)["icl_error"] < 0.6)
    True
    >>> rate = 0.1 * streaming.largest_rate(16, 8, 16, 0.1)
    >>> print(streaming.icl_error(100, rate, 16, 8, 16, 0.1).round(3))
    0.514
    """
    ell = _stream_sizes(d=d, alpha=alpha, rho=rho, batch=batch, steps=steps, share=share)
    rate = share * float(streaming.largest_rate(batch, d, ell, rho))
    gamma = np.zeros((d, d))
    with np.errstate(over="ignore", invalid="ignore"):
        for x, h, y in _stream.batches(d, ell, rho, batch, steps, backend.streams(seed)):
            residual = y - np.vecdot(x @ gamma, h)
            gamma += rate / batch * (x * residual[:, None]).T @ h
    return {"icl_error": _stream.error(gamma, ell, rho)}
