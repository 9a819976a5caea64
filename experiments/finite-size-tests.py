"""Tests on single directions at three sizes; a fifth of the directions is long in pretraining.

Every fit is tested on new tasks of its own law, on tasks along one long direction, and along one
short direction; of directions that are alike, the error is a mean. Half an hour on one busy core.
"""

import numpy as np
import xarray as xr

from iclkit import backend
from iclkit.data import assign_tasks, draw_statistics, draw_tasks, population_moments
from iclkit.data.moments import Moments, prediction_error
from iclkit.fits import fit_gamma
from iclkit.runs import sweep


def along(directions: np.ndarray, ell: int, rho: float) -> Moments:
    """Moments of tasks √d z w/|w|, z normal, along one of the axes that are marked."""
    d, share = directions.size, directions * directions.size / directions.sum()
    B = np.append((1 + 1 / ell) * share + (1 + rho) * d / ell, 0.0)
    B[-1] = (1 + 2 / ell) * ((1 + rho) ** 2 + 2)  # E z⁴ is 3
    return Moments(np.eye(d, d + 1) * share[:, None], np.diag(B), 1 + rho)


def on_directions(
    seed: np.random.SeedSequence, *, d: int, tau: float, alpha: float, kappa: float, rho: float,
    lam: float, low: float,
) -> dict[str, float]:  # fmt: skip
    """Exact errors of one fit; pretraining tasks have variance `low` in the short directions."""
    n, ell, k, long = round(tau * d**2), round(alpha * d), round(kappa * d), np.arange(d) < d // 5
    spectrum = np.where(long, 5 - 4 * low, low)
    streams = backend.streams(seed, np)
    tasks = draw_tasks(k, d, streams.tasks, tasks=spectrum)
    of = assign_tasks(n, k, streams.tasks)
    gamma = fit_gamma(*draw_statistics(tasks[of], ell, rho, streams), lam, dtype="float32").gamma
    squares = tasks**2 / spectrum  # their means are 1
    return {
        "own": prediction_error(gamma, population_moments(d, ell, rho, tasks=spectrum)),
        "long": prediction_error(gamma, along(long, ell, rho)),
        "short": prediction_error(gamma, along(~long, ell, rho)),
        "square_long": float(squares[:, long].mean()),
        "square_short": float(squares[:, ~long].mean()),
    }


per_parameter = xr.DataArray([0.5, 2.0, 2.0], dims="point")
d = xr.DataArray([20, 40, 80], dims="d")
points = {
    "alpha": [1.0, 2.0, 1.0],
    "kappa": [1.0, 0.75, 1.5],
    "rho": [0.1, 0.1, 0.5],
    "lam": [0.0, 0.0, 0.2],
}
sweep(
    on_directions,
    {name: xr.DataArray(values, dims="point") for name, values in points.items()}
    | {"tau": per_parameter * (1 + 1 / d), "d": d, "low": 0.25},
    "book/data/finite-size-tests.nc",
    name="on_directions",
    seed=1,
    precision=0.0015,
    runs=(40, 800),
    workers=1,
)
