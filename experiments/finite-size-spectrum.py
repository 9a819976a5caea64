"""Tasks with a spectrum at three sizes: a fifth of the directions is longer than the others.

Half an hour on two cores.
"""

import numpy as np
import xarray as xr

from iclkit import backend
from iclkit.data import (
    Moments,
    assign_tasks,
    draw_statistics,
    draw_tasks,
    prediction_error,
    task_moments,
)
from iclkit.fits import fit_gamma
from iclkit.runs import sweep


def with_spectrum(
    seed: np.random.SeedSequence,
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float,
    assignment: str,
    low: float,
) -> dict[str, float]:
    """Exact errors for tasks of variance `low` in four fifths of the directions, 1 on average."""
    n, ell, fresh = round(tau * d**2), round(alpha * d), kappa == np.inf
    k = n if fresh else round(kappa * d)
    spectrum = np.where(np.arange(d) < d // 5, 5 - 4 * low, low)
    streams = backend.streams(seed, np)
    tasks = draw_tasks(k, d, streams.tasks, prior="gaussian") * spectrum**0.5
    of = np.arange(n) if fresh else assign_tasks(n, k, streams.tasks, assignment=assignment)
    gamma = fit_gamma(*draw_statistics(tasks[of], ell, rho, streams), lam, dtype="float32").gamma
    B = np.append((1 + 1 / ell) * spectrum + (1 + rho) * d / ell, 0.0)
    B[-1] = (1 + 2 / ell) * ((1 + rho) ** 2 + 2 * np.mean(spectrum**2) / d)
    new = Moments(np.eye(d, d + 1) * spectrum[:, None], np.diag(B), 1 + rho)
    old = new if fresh else task_moments(tasks, ell, rho)
    return {
        "icl_error": prediction_error(gamma, new),
        "idg_error": prediction_error(gamma, old),
        "square_length": float(np.mean(tasks**2)),  # its mean is 1
    }


per_parameter = xr.DataArray([0.5, 2.0, 2.0, 0.5, 2.0, 0.5], dims="point")
d = xr.DataArray([10, 20, 40], dims="d")
points = {
    "alpha": [1.0, 1.0, 2.0, 5.0, 1.0, 2.0],
    "kappa": [0.5, 0.5, 1.0, 1.0, np.inf, np.inf],
    "rho": [0.1, 0.1, 0.5, 0.2, 0.1, 0.1],
    "lam": [0.0, 0.0, 0.1, 0.05, 0.0, 0.05],
    "assignment": ["uniform", "balanced", "uniform", "balanced", "uniform", "uniform"],
    "low": [0.25, 0.25, 0.25, 0.25, 0.25, 0.6],
}
sweep(
    with_spectrum,
    {name: xr.DataArray(values, dims="point") for name, values in points.items()}
    | {"tau": per_parameter * (1 + 1 / d), "d": d},
    "book/data/finite-size-spectrum.nc",
    name="with_spectrum",
    seed=1,
    precision=0.0025,
    runs=(20, 1200),
)
