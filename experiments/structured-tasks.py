"""Pretraining on tasks of a covariance, tested on three laws, at four sizes.

Every fit is tested on new tasks of its own law, of an isotropic one, and of its own with the
spectrum in reverse order, and on its pretraining tasks. The first sweep has three spectra whose
largest eigenvalue stays small beside d; the second a point where more tasks harm a test on the
reversed spectrum; the third a spiky spectrum without ridge. Twenty minutes on one busy core.
"""

import numpy as np

from iclkit import backend
from iclkit.data import (
    assign_tasks,
    draw_statistics,
    draw_tasks,
    laws,
    population_moments,
    prediction_error,
    task_moments,
)
from iclkit.fits import fit_gamma
from iclkit.runs import sweep

LAWS = {
    "power law 0.6": lambda d: laws.power_law(0.6, d),
    "two levels": lambda d: laws.two_level(0.5, 0.05),
    "low rank": lambda d: laws.low_rank(0.5),
    "power law 1.5": lambda d: laws.power_law(1.5, d),
}


def on_three_laws(
    seed: np.random.SeedSequence,
    *,
    law: str,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float,
) -> dict[str, float]:
    """Errors of one fit on new tasks of three laws, and on those of pretraining."""
    C = laws.eigenvalues(LAWS[law](d), d)
    n, k, ell = round(tau * d**2), round(kappa * d), round(alpha * d)
    streams = backend.streams(seed, np)
    tasks = draw_tasks(k, d, streams.tasks, tasks=C)
    of = assign_tasks(n, k, streams.tasks)
    gamma = fit_gamma(*draw_statistics(tasks[of], ell, rho, streams), lam, dtype="float32").gamma
    tests = {"own": C, "isotropic": np.ones(d), "reversed": C[::-1]}
    found = {
        name: prediction_error(gamma, population_moments(d, ell, rho, tasks=test))
        for name, test in tests.items()
    }
    return found | {"idg": prediction_error(gamma, task_moments(tasks, ell, rho))}


GRIDS = {
    "": {
        "law": list(LAWS)[:3],
        "kappa": [0.25, 0.5, 1.0, 4.0],
        "tau": 1.0,
        "alpha": 5.0,
        "lam": 0.1,
    },
    "-harm": {"law": "two levels", "kappa": [0.25, 4.0], "tau": 1.0, "alpha": 2.0, "lam": 0.3},
    "-spiky": {"law": "power law 1.5", "kappa": 2.0, "tau": 2.0, "alpha": 5.0, "lam": 0.0},
}
for name, grid in GRIDS.items():
    sweep(
        on_three_laws,
        grid | {"rho": 0.1, "d": [16, 24, 40, 56]},
        f"book/data/structured-tasks{name}.nc",
        name="on_three_laws",
        seed=1,
        precision=0.008 if name == "-spiky" else 0.005,
        runs=(20, 600),
        workers=1,
    )
