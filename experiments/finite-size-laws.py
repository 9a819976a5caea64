"""Gaussian tasks, and other test contexts, at three sizes.

Tasks on the sphere and Gaussian ones have the same directions here, and their contexts the same
random numbers, so that the difference of their errors has little noise. Every fit is tested on the
contexts of pretraining and on others. Twenty minutes on two cores.
"""

import numpy as np
import xarray as xr

from iclkit import backend
from iclkit.data import (
    assign_tasks,
    draw_statistics,
    draw_tasks,
    population_moments,
    prediction_error,
    task_moments,
)
from iclkit.fits import fit_gamma
from iclkit.runs import sweep


def both_priors(
    seed: np.random.SeedSequence,
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float,
    assignment: str,
    alpha_test: float,
    rho_test: float,
) -> dict[str, float]:
    """Errors of two fits, for both laws of tasks, on both kinds of test contexts."""
    n, fresh = round(tau * d**2), kappa == np.inf
    k = n if fresh else round(kappa * d)
    tests = {"": (round(alpha * d), rho), "_other": (round(alpha_test * d), rho_test)}
    found = {}
    for prior in ("sphere", "gaussian"):
        streams = backend.streams(seed, np)
        tasks = draw_tasks(k, d, streams.tasks, prior=prior)
        of = np.arange(n) if fresh else assign_tasks(n, k, streams.tasks, assignment=assignment)
        drawn = draw_statistics(tasks[of], round(alpha * d), rho, streams)
        gamma = fit_gamma(*drawn, lam, dtype="float32").gamma
        for end, (ell, noise) in tests.items():
            population = population_moments(d, ell, noise, prior=prior)
            own = population if fresh else task_moments(tasks, ell, noise)
            found[f"icl_{prior}{end}"] = prediction_error(gamma, population)
            found[f"idg_{prior}{end}"] = prediction_error(gamma, own)
    found["square_length"] = float(np.mean(tasks**2))  # of the Gaussian tasks; its mean is 1
    return found


per_parameter = xr.DataArray([0.5, 0.5, 0.6, 1.5, 2.0, 3.0], dims="point")
d = xr.DataArray([12, 24, 48], dims="d")
points = {
    "alpha": [1.0, 5.0, 2.0, 0.5, 1.0, 2.0],
    "kappa": [0.5, 0.5, 2.0, np.inf, 0.5, 1.0],
    "rho": [0.1, 0.2, 0.0, 0.1, 0.1, 0.5],
    "lam": [0.0, 0.0, 0.05, 0.0, 0.0, 0.1],
    "assignment": ["uniform", "balanced", "uniform", "uniform", "balanced", "uniform"],
    "alpha_test": [4.0, 1.0, 1.0, 2.0, 4.0, 0.5],
    "rho_test": [0.1, 0.5, 0.5, 0.0, 0.5, 0.0],
}
sweep(
    both_priors,
    {name: xr.DataArray(values, dims="point") for name, values in points.items()}
    | {"tau": per_parameter * (1 + 1 / d), "d": d},
    "book/data/finite-size-laws.nc",
    name="both_priors",
    seed=1,
    precision=0.003,
    runs=(20, 800),
)
