"""Full linear attention, trained: paper 1's figure 5 (a), and what its curves depend on.

Test errors against τ at d = 10 and 20, at d = 40 where errors are published, and at d = 10 with
several optimisers; and at d = 20 by the recipe of paper 1. Half an hour on two cores.
"""

import numpy as np
import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.trials import trained_attention

SETTING = {"model": "linear", "alpha": 1.0, "rho": 0.01}
TAU = [0.25, 0.5, 0.8, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2.0, 2.5, 3.0, 5.0]

d = xr.DataArray([10, 20], dims="d")
sweep(
    trained_attention,
    SETTING
    | {
        "d": d, "tau": TAU, "steps": d.copy(data=[20_000, 30_000]), "batches": d.copy(data=[1, 10]),
        "rate": d.copy(data=[1e-2, 3e-3]), "dtype": "float32",
    },
    "book/data/linear-attention.nc",
    name="trained_attention",
    seed=1,
    runs=(4, 4),
)  # fmt: skip

sweep(
    trained_attention,
    SETTING
    | {
        "d": 40, "tau": [0.5, 1.1, 2.0], "steps": 40_000, "rate": 3e-3, "batches": 10,
        "dtype": "float32",
    },
    "book/data/linear-attention-40.nc",
    name="trained_attention",
    seed=2,
    runs=(3, 3),
)  # fmt: skip

recipes = {
    "rate": [1e-3, 3e-3, 1e-2, 1e-4, 1e-4],
    "schedule": ["cosine", "cosine", "cosine", "constant", "constant"],
    "steps": [20_000, 20_000, 20_000, 25_000, 100_000],
    "batches": [1, 1, 1, 10, 10],
}
sweep(
    trained_attention,
    SETTING
    | {"d": 10, "tau": [0.5, 1.1, 1.4], "dtype": "float32"}
    | {name: xr.DataArray(np.array(values), dims="recipe") for name, values in recipes.items()},
    "book/data/linear-attention-recipes.nc",
    name="trained_attention",
    seed=3,
    runs=(4, 4),
)

# The authors' own: every minibatch drawn by itself, 11 of them in each of 20,000 iterations.
paper = {
    "steps": 220_000, "rate": 1e-4, "schedule": "constant", "batches": 10, "overlap": True,
    "clip": np.inf, "dtype": "float32",
}  # fmt: skip
sweep(
    trained_attention,
    SETTING | paper | {"d": 20, "tau": [0.5, 0.8, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0]},
    "book/data/linear-attention-paper.nc",
    name="trained_attention",
    seed=4,
    runs=(5, 5),
)
