"""Own runs at the settings of numbers that others have published, of linear attention alone.

Each sweep takes d, n, k, ℓ and λ row by row from a file in book/data/published, whose contents are
numbers of the authors with their source. A quarter of an hour on one core.
"""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from iclkit import backend, fit_gamma
from iclkit.data import (
    Moments,
    assign_tasks,
    correlated_error,
    draw_statistics,
    draw_tasks,
    kernel,
    population_moments,
    prediction_error,
)
from iclkit.runs import linear_attention, sweep

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
    runs=(10, 10),
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
    runs=(10, 10),
    workers=ONE,
)

row = rows("lu2024-task-diversity-alpha10")
sweep(
    linear_attention,
    sizes(row, 100) | balanced | {"rho": 0.01, "lam": 1e-6},
    "book/data/published-task-diversity.nc",
    name="linear_attention",
    seed=63,
    runs=(10, 10),
    workers=ONE,
)

for d in (10, 64):
    row = rows("lu2026-gtask-d10-d64", d=d)
    sweep(
        linear_attention,
        sizes(row, d) | balanced | {"rho": 0.01, "lam": 1e-6},
        f"book/data/published-task-gap-d{d}.nc",
        name="linear_attention",
        seed=64,
        runs=(12, 12),
        workers=ONE,
    )

# Three of these again, with 40 runs: what scored highest in the first figure, a single published
# fit at α = 20, and a task gap whose published spread is not that of the gap.
sweep(
    linear_attention,
    {
        name: xr.DataArray(values, dims="point")
        for name, values in {
            "d": [100, 100, 64], "tau": [0.5, 4.0, 10.0], "alpha": [1.0, 20.0, 10.0],
            "kappa": [0.5, 50.0, 16.0], "lam": [1e-8, 1e-6, 1e-6],
        }.items()
    } | balanced | {"rho": 0.01},
    "book/data/published-again.nc",
    name="linear_attention",
    seed=68,
    runs=(40, 40),
    workers=ONE,
)  # fmt: skip

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
    runs=(10, 10),
    workers=ONE,
)  # fmt: skip


def fitted(
    seed: Any, spectrum: np.ndarray, *, tau: float, alpha: float, kappa: float, rho: float,
    lam: float, assignment: str = "uniform",
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Draw Gaussian tasks of a diagonal covariance, and fit Γ* to contexts that use them."""
    d = len(spectrum)
    streams = backend.streams(seed, np)
    tasks = draw_tasks(round(kappa * d), d, streams.tasks, prior="gaussian") * spectrum**0.5
    w = tasks[assign_tasks(round(tau * d**2), len(tasks), streams.tasks, assignment=assignment)]
    drawn = draw_statistics(w, round(alpha * d), rho, streams)
    return tasks, fit_gamma(*drawn, lam, dtype="float32").gamma


def as_on_the_sphere(
    seed: Any, *, d: int, alpha: float, rho: float, **point: Any
) -> dict[str, float]:
    """Errors of Gaussian tasks by moments that take |w|² for d, as the authors do."""
    tasks, gamma = fitted(seed, np.ones(d), alpha=alpha, rho=rho, assignment="balanced", **point)
    ell, R, cross = round(alpha * d), tasks.T @ tasks / len(tasks), (1 + rho) * tasks.mean(axis=0)
    B = np.zeros((d + 1, d + 1))
    B[:d, :d] = (1 + 1 / ell) * R + d / ell * (1 + rho) * np.eye(d)
    B[d, :d] = B[:d, d] = (1 + 2 / ell) * cross
    B[d, d] = (1 + 2 / ell) * (1 + rho) ** 2
    old = Moments(np.hstack([R, cross[:, None]]), B, 1 + rho)
    return {
        "icl_error": prediction_error(gamma, population_moments(d, ell, rho)),
        "idg_error": prediction_error(gamma, old),
    }


row = rows("lu2024-diversity-gaussian-alpha100")
sweep(
    as_on_the_sphere,
    sizes(row, 50) | {"rho": 0.25, "lam": 1e-15},
    "book/data/published-gaussian.nc",
    name="as_on_the_sphere",
    seed=69,
    runs=(3, 3),
    workers=ONE,
)


def on_sequences(
    seed: Any, *, d: int, tau: float, alpha: float, kappa: float, rho: float, lam: float,
    length: float, query: bool,
) -> dict[str, float]:  # fmt: skip
    """Error on new Gaussian tasks with tokens of an exponential kernel, in pretraining and test."""
    n, ell, streams = round(tau * d**2), round(alpha * d), backend.streams(seed, np)
    along = kernel(f"exponential({length})" if length else "iid", ell, query=query)
    tasks = draw_tasks(round(kappa * d), d, streams.tasks, prior="gaussian")
    w = tasks[assign_tasks(n, len(tasks), streams.tasks)]
    gamma = fit_gamma(*draw_statistics(w, ell, rho, streams, kernel=along), lam).gamma
    new = draw_tasks(5 * n, d, streams.tasks, prior="gaussian")
    return {"icl_error": correlated_error(gamma, ell, rho, along, tasks=new)}


# The dimension of the published ones, and one below and above, for the limit.
sweep(
    on_sequences,
    {
        "tau": 4.0, "alpha": 4.0, "kappa": 10.0, "rho": 0.01, "lam": 1e-8, "d": [16, 32, 64],
        "length": np.arange(11.0), "query": [False, True],
    },
    "book/data/published-correlated-tokens.nc",
    name="on_sequences",
    seed=71,
    precision=0.003,
    runs=(10, 40),
    workers=ONE,
)  # fmt: skip

# Tasks longer in some directions -----------------------------------------------------------------


def spectrum_of(law: str, d: int) -> np.ndarray:
    """Variances of the entries of a task, of mean 1: rising, falling, spike-j, or powers of j."""
    j = np.arange(1.0, d + 1)
    if law.startswith("spike-"):
        values = (j == int(law.removeprefix("spike-")) + 1) * 1.0
    else:
        named = {"rising": j, "falling": j[::-1]}
        values = named[law] if law in named else j ** -float(law)
    scaled: np.ndarray = values / values.mean()
    return scaled


def moments_without(spectrum: np.ndarray, alpha: float, rho: float) -> Moments:
    """Moments without the terms of order 1/ℓ and 1/d of the fourth moment, as the authors do."""
    d, x = len(spectrum), 1 + rho
    A = np.hstack([np.diag(spectrum), np.zeros((d, 1))])
    return Moments(A, np.diag([*(spectrum + x / alpha), x**2]), x)


def on_laws(
    seed: Any, *, d: int, law: str, rho: float, alpha: float,
    tests: list[tuple[np.ndarray, float]], **point: Any,
) -> dict[str, float]:  # fmt: skip
    """Errors of one Γ* on tasks of several laws, in their order."""
    gamma = fitted(seed, spectrum_of(law, d), rho=rho, alpha=alpha, **point)[1]
    return {
        f"error_{i}": prediction_error(gamma, moments_without(spectrum, length, rho))
        for i, (spectrum, length) in enumerate(tests)
    }


LAWS = {  # as the tables name them
    "identity": "0",
    "power law (j+1)^-0.5, antialigned": "0.5",
    "spike": "spike-49",
}
for file, d, law, setting, many in (
    ("spiked-d80", 80, "rising", {"tau": 4.0, "alpha": 2.0}, 4),
    ("spiked-d120", 120, "falling", {"tau": 4.0, "alpha": 2.0}, 2),
    ("linear-d50", 50, "rising", {"tau": 100.0, "alpha": 50.0}, 2),
):
    row = rows(f"letey2025-{file}")
    first = row["k"] == row["k"][0]
    tests = []
    for to in row["test_law" if "test_law" in row else "test_direction"][first].values.tolist():
        if to == "C_train":
            spectrum = spectrum_of(law, d)
        elif to == "power law (d-j)^-0.5, aligned":
            spectrum = spectrum_of("0.5", d)[::-1]
        else:
            spectrum = spectrum_of(LAWS.get(to, f"spike-{to}"), d)
        tests.append((spectrum, setting["alpha"]))
    sweep(
        functools.partial(on_laws, tests=tests),
        setting | {"d": d, "law": law, "rho": 0.01, "lam": 1e-6}
        | {"kappa": np.unique(row["k"]) / d},
        f"book/data/published-{file}.nc",
        name=f"on_laws, of {file}",
        seed=70,
        runs=(many, many),
        workers=ONE,
    )  # fmt: skip
