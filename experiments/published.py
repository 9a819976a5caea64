"""Own runs at the settings of numbers that others have published, of linear attention alone.

Each sweep takes d, n, k, ℓ and λ row by row from a file in book/data/published, whose contents are
numbers of the authors with their source. Where their evaluation of a fit is not the exact error, a
run has their number beside the exact one, of the same Γ*. Half an hour on one core.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from iclkit import backend
from iclkit.data import (
    Moments,
    assign_tasks,
    draw_statistics,
    draw_tasks,
    population_moments,
    prediction_error,
    task_moments,
)
from iclkit.fits import fit_gamma
from iclkit.runs import linear_attention, sweep
from iclkit.theory.bayes import estimators

ONE = 1  # a process: these runs share their machine


def rows(file: str, **where: Any) -> dict[str, xr.DataArray]:
    """Columns of a published table along "point", of the rows that have the values given."""
    published = json.loads((Path("book/data/published") / f"{file}.json").read_text())
    table = [dict(zip(published["columns"], row, strict=True)) for row in published["values"]]
    chosen = [row for row in table if all(row[name] == value for name, value in where.items())]
    return {name: xr.DataArray([row[name] for row in chosen], dims="point") for name in chosen[0]}


def sizes(row: dict[str, xr.DataArray], d: Any) -> dict[str, Any]:
    """Turn whole numbers n, k and ℓ of a table into the ratios that a run takes."""
    return {"d": d, "tau": row["n"] / d**2, "alpha": row["ell"] / d, "kappa": row["k"] / d}


# Tasks on the sphere, each used equally often ----------------------------------------------------

balanced = {"assignment": "balanced"}
row = rows("lu2024-double-descent-d100")
sweep(
    linear_attention,
    sizes(row, 100) | balanced | {"rho": 0.01, "lam": 1e-8},
    "book/data/published-double-descent.nc",
    name="linear_attention",
    seed=61,
    runs=(6, 6),
    workers=ONE,
)

# At κ = 0.2 and 0.4, n is τ d² as it stands, and context-length-b.nc has the same points.
row = rows("lu2024-context-length-tau0.5")
few = row["kappa"] < 0.5
sweep(
    linear_attention,
    {name: value[~few] for name, value in sizes(row, xr.full_like(row["k"], 100)).items()}
    | balanced
    | {"rho": 0.1, "lam": 1e-9},
    "book/data/published-context-length.nc",
    name="linear_attention",
    seed=62,
    runs=(6, 6),
    workers=ONE,
)

row = rows("lu2024-task-diversity-alpha10")
sweep(
    linear_attention,
    sizes(row, 100) | balanced | {"rho": 0.01, "lam": 1e-6},
    "book/data/published-task-diversity.nc",
    name="linear_attention",
    seed=63,
    runs=(4, 4),
    workers=ONE,
)

for d, runs in (10, 12), (64, 4):
    row = rows("lu2026-gtask-d10-d64", d=d)
    sweep(
        linear_attention,
        sizes(row, d) | balanced | {"rho": 0.01, "lam": 1e-6},
        f"book/data/published-task-gap-d{d}.nc",
        name="linear_attention",
        seed=64,
        runs=(runs, runs),
        workers=ONE,
    )

# Gaussian tasks ----------------------------------------------------------------------------------

row = rows("letey2026-correlated-tokens", curve="corr0")
sweep(
    linear_attention,
    {
        "tau": 4.0, "alpha": row["ell"] / 32, "kappa": 10.0, "rho": 0.01, "lam": 1e-8, "d": 32,
        "prior": "gaussian",
    },
    "book/data/published-independent-tokens.nc",
    name="linear_attention",
    seed=65,
    runs=(6, 6),
    workers=ONE,
)  # fmt: skip


def as_on_sphere(tasks: np.ndarray, ell: int, rho: float) -> Moments:
    """Moments of the tasks given, but as if each had |w|² = d."""
    k, d = tasks.shape
    covariance, mean = tasks.T @ tasks / k, (1 + rho) * tasks.mean(axis=0)
    corner = np.array([[(1 + rho) ** 2]])
    first = (1 + 1 / ell) * covariance + (d / ell) * (1 + rho) * np.eye(d)
    edge = (1 + 2 / ell) * mean[:, None]
    B = np.block([[first, edge], [edge.T, (1 + 2 / ell) * corner]])
    return Moments(np.hstack([covariance, mean[:, None]]), B, 1 + rho)


def gaussian_tasks(
    seed: np.random.SeedSequence,
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float,
) -> dict[str, float]:
    """Errors of one fit, as if tasks lay on the sphere and exactly."""
    n, k, ell = round(tau * d**2), round(kappa * d), round(alpha * d)
    streams = backend.streams(seed, np)
    tasks = draw_tasks(k, d, streams.tasks, prior="gaussian")
    w = tasks[assign_tasks(n, k, streams.tasks, assignment="balanced")]
    gamma = fit_gamma(*draw_statistics(w, ell, rho, streams), lam, dtype="float32").gamma
    moments = {
        "icl_error": population_moments(d, ell, rho),
        "idg_error": as_on_sphere(tasks, ell, rho),
        "exact_icl_error": population_moments(d, ell, rho, prior="gaussian"),
        "exact_idg_error": task_moments(tasks, ell, rho),
    }
    return {name: prediction_error(gamma, of) for name, of in moments.items()}


# Tasks longer in some directions -----------------------------------------------------------------


def spectrum(law: str, d: int) -> np.ndarray:
    """Eigenvalues of a law of tasks, in the order of the authors, with mean 1."""
    j = np.arange(1.0, d + 1)
    if law == "rising":
        values = j
    elif law == "falling":
        values = j[::-1]
    elif law == "falling last":  # (d − j)^−0.5, j from 0
        values = j[::-1] ** -0.5
    else:  # j^−ν: "0" is isotropic
        values = j ** -float(law)
    return values / values.mean()


def structured_tasks(
    seed: np.random.SeedSequence,
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float,
    law: str,
    tests: str,
) -> dict[str, float]:
    """Errors of one fit on other laws of tasks, by the authors' quadratic form.

    It leaves out what is of order 1/ℓ or 1/d in the fourth moments; `exact_matched` has it.
    """
    n, k, ell = int(tau * d**2), round(kappa * d), int(alpha * d)
    streams = backend.streams(seed, np)
    train = spectrum(law, d)
    tasks = draw_tasks(k, d, streams.tasks, prior="gaussian") * train**0.5
    w = tasks[assign_tasks(n, k, streams.tasks)]
    gamma = fit_gamma(*draw_statistics(w, ell, rho, streams), lam, dtype="float32").gamma
    along, squares = np.diag(gamma), np.sum(gamma**2, axis=0)

    def error(c: np.ndarray, ell: int, *, exact: bool = False) -> float:
        x = c.mean() + rho
        corner = (1 + 2 / ell) * (x**2 + 2 * np.sum(c**2) / d**2) if exact else x**2
        signal = (1 + exact / ell) * c @ squares[:d] + x * d / ell * squares[:d].sum()
        return float(x - 2 / d * c @ along + (signal + corner * squares[d]) / d)

    found = {"matched": error(train, ell), "exact_matched": error(train, ell, exact=True)}
    if tests == "directions":
        for j in np.linspace(0, d - 1, d // 2).astype(int):
            found[f"direction_{j}"] = error(d * (np.arange(d) == j), ell)
    elif tests == "lengths":
        for i, length in enumerate(np.logspace(-1, 3, 21)):
            found[f"length_{i}"] = error(train, int(length * d))
    elif tests == "five":
        found["spike"] = error(d * (np.arange(d) == d - 1), ell)
        for name, other in ("identity", "0"), ("anti", "0.5"), ("aligned", "falling last"):
            found[name] = error(spectrum(other, d), ell)
    else:
        found["other"] = error(spectrum(tests, d), ell)
    return found


def structured(file: str, runs: int, point: dict[str, Any]) -> None:
    """Sweep over fits that are tested on other laws."""
    sweep(
        structured_tasks,
        {"rho": 0.01, "lam": 1e-6} | point,
        f"book/data/published-{file}.nc",
        name="structured_tasks",
        seed=67,
        runs=(runs, runs),
        workers=ONE,
    )


spiked = {"tau": 4.0, "alpha": 2.0, "tests": "directions"}
row = rows("letey2025-spiked-d80", test_direction=0)
structured("spiked-d80", 2, spiked | {"d": 80, "kappa": row["k"][::5] / 80, "law": "rising"})

# Bayes estimators --------------------------------------------------------------------------------


def bayes(file: str, seed: int, runs: int, point: dict[str, Any]) -> None:
    """Sweep over lists of Gaussian tasks."""
    sweep(
        estimators,
        point | {"prior": "gaussian"},
        f"book/data/published-{file}.nc",
        name="estimators",
        seed=seed,
        runs=(runs, runs),
        workers=ONE,
    )


# Each of theirs has 10,000 contexts, or 1000, and one list of tasks.
noisy = {"d": 100, "alpha": 1.0, "rho": 0.25}
k = rows("lu2024-bayes-alpha1-noisy", error="IDG")["k"]
bayes("bayes-noisy", 71, 6, noisy | {"kappa": k[k < 6e3] / 100, "contexts": 100})
for d, contexts in (10, 300), (64, 150):
    k = rows("lu2026-dmmse-d10-d64", d=d)["k"]
    point = {"d": d, "alpha": 10.0, "rho": 0.01, "kappa": k / d, "contexts": contexts}
    bayes(f"bayes-gap-d{d}", 74, 4, point)

# Dearer fits, of larger n or d -------------------------------------------------------------------

row = rows("lu2024-diversity-gaussian-alpha100")
sweep(
    gaussian_tasks,
    sizes(row, 50) | {"rho": 0.25, "lam": 1e-15},
    "book/data/published-gaussian-tasks.nc",
    name="gaussian_tasks",
    seed=66,
    runs=(2, 2),
    workers=ONE,
)

row = rows("letey2025-isotropic-alpha04-d120")
short = {"d": 120, "tau": 5.0, "alpha": 0.4, "law": "0", "tests": "0"}
structured("isotropic", 2, short | {"kappa": row["k"][::3] / 120})

k = rows("lu2024-bayes-alpha5")["k"]
bayes("bayes", 73, 2, {"d": 100, "alpha": 5.0, "rho": 0.01, "kappa": k[::2] / 100, "contexts": 50})

row = rows("letey2025-spiked-d120", test_direction=0)
structured("spiked-d120", 2, spiked | {"d": 120, "kappa": row["k"][::5] / 120, "law": "falling"})

structured(
    "test-length", 2,
    {
        "d": 150, "tau": 4.0, "alpha": 2.0, "kappa": 1.0, "lam": 1e-4,
        "law": ["0", "1.5"], "tests": "lengths",
    },
)  # fmt: skip

row = rows("letey2025-powerlaw-d120")
law = xr.DataArray([f"{nu:g}" for nu in row["nu_train"].values], dims="point")
power = {"d": 120, "tau": 5.0, "alpha": 0.5, "law": law, "tests": "1"}
structured("power-law", 2, power | {"kappa": row["k"] / 120})

# Few points where n is a quarter of a million and more.
five = {"tests": "five"}
long = {"d": 50, "tau": 100.0, "alpha": 50.0, "law": "rising"}
structured("linear-d50", 2, five | long | {"kappa": [0.2, 1.2, 2.2]})

# The largest score of the first figure, at 40 runs more.
sweep(
    linear_attention,
    {"d": 100, "tau": 0.5, "alpha": 1.0, "kappa": 0.5, "rho": 0.01, "lam": 1e-8} | balanced,
    "book/data/published-again.nc",
    name="linear_attention",
    seed=68,
    runs=(40, 40),
    workers=ONE,
)
