"""Errors along gradient flow at twelve points and eight times, at two sizes, to be extrapolated.

Fits are exact, and so are the errors of each. What is fixed is n/(d(d + 1)), which at finite d is
what τ is in the limit. Ten minutes on two cores.
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
from iclkit.fits import fit_gamma_flow
from iclkit.runs import sweep

TIMES = np.geomspace(0.1, 200, 8)


def trained_gamma(
    seed: np.random.SeedSequence,
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float,
) -> dict[str, float]:
    """Both errors of one model at each time."""
    streams = backend.streams(seed, np)
    n, ell, k = round(tau * d * (d + 1)), round(alpha * d), round(kappa * d)
    w = draw_tasks(k, d, streams.tasks)
    each = w[assign_tasks(n, k, streams.tasks)]
    path = fit_gamma_flow(*draw_statistics(each, ell, rho, streams), TIMES, lam)
    laws = {"icl": population_moments(d, ell, rho), "idg": task_moments(w, ell, rho)}
    return {
        f"{test}_error_{i}": prediction_error(gamma, law)
        for test, law in laws.items()
        for i, gamma in enumerate(path)
    }


points = [
    (0.5, 2.0, 0.5, 0.1, 0.0),
    (2.0, 1.0, 0.5, 0.3, 0.0),
    (2.0, 5.0, 1.0, 0.1, 0.0),
    (0.8, 10.0, 2.0, 0.05, 0.0),
    (4.0, 1.0, 4.0, 0.1, 0.0),
    (0.5, 4.0, 8.0, 0.2, 0.0),
    (6.0, 3.0, 0.4, 0.02, 0.0),
    (3.0, 20.0, 0.7, 0.5, 0.0),
    (1.5, 0.5, 3.0, 0.1, 0.0),
    (6.0, 2.0, 1.5, 0.01, 0.0),
    (2.0, 10.0, 0.5, 0.1, 0.1),
    (4.0, 6.0, 6.0, 0.3, 0.01),
]
names = ("tau", "alpha", "kappa", "rho", "lam")
columns = {
    name: xr.DataArray(list(column), dims="point")
    for name, column in zip(names, zip(*points, strict=True), strict=True)
}
for d, runs in ((20, 96), (40, 24)):
    sweep(
        trained_gamma,
        columns | {"d": d},
        f"book/data/training-time-{d}.nc",
        name="trained_gamma",
        seed=d,
        runs=(runs, runs),
    )
