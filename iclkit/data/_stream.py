"""Training on contexts that are new at every step: what it takes, draws and ends with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from iclkit import _validate
from iclkit.backend import Streams
from iclkit.data.contexts import Statistics, draw_statistics
from iclkit.data.moments import population_moments, prediction_error
from iclkit.data.tasks import draw_tasks

# Numbers that are drawn at once, so that drawing costs little more than the numbers.
_BLOCK = 2**18


def length(d: int, alpha: float, rho: float, batch: int, steps: int) -> int:
    """Return ℓ, after a check of everything that a training takes besides its rate."""
    d = _validate.count("d", d)
    _validate.count("batch", batch)
    _validate.count("steps", steps)
    _validate.scalar(_validate.nonnegative, "rho", rho)
    return _validate.size("alpha", alpha, d, "ell = alpha * d")


def batches(
    d: int, ell: int, rho: float, batch: int, steps: int, streams: Streams
) -> Iterator[Statistics]:
    """Draw contexts for each step, with tasks of their own, and without the last entry of h."""
    at_once = max(1, _BLOCK // (batch * d))
    for done in range(0, steps, at_once):
        now = min(at_once, steps - done)
        w = draw_tasks(now * batch, d, streams.tasks)
        x, h, y = draw_statistics(w, ell, rho, streams)
        for rows in np.split(np.arange(now * batch), now):
            part = slice(rows[0], rows[-1] + 1)
            yield Statistics(x[part], h[part, :d], y[part])


def error(gamma: np.ndarray, ell: int, rho: float) -> float:
    """Return the exact error of Γ without its last column, or inf outside the range of floats."""
    if not np.abs(gamma).max() < 1e75:
        return float("inf")
    whole = np.concat([gamma, np.zeros((len(gamma), 1))], axis=1)
    return prediction_error(whole, population_moments(len(gamma), ell, rho))
