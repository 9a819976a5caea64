"""Own runs at the settings of numbers that others have published, of linear attention alone.

Each sweep takes d, n, k, ℓ and λ row by row from a file in book/data/published, whose contents are
numbers of the authors with their source. Under an hour on a share of one core.
"""

import json
from pathlib import Path
from typing import Any

import xarray as xr

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
    runs=(4, 4),
    workers=ONE,
)  # fmt: skip

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
