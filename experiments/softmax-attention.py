"""Softmax attention, trained: paper 1's figures 5 (b) and (c), and the residual connections.

Test errors against τ for one block with two optimisers and for two blocks; and how much two blocks
without residual connections learn by heart. Ten minutes on two cores.
"""

import numpy as np
import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.trials import interpolates, trained_attention

SETTING = {"alpha": 1.0, "rho": 0.01}

recipes = {
    "rate": [3e-2, 1e-4],
    "schedule": ["cosine", "constant"],
    "steps": [10_000, 40_000],
    "batches": [1, 10],
}
sweep(
    trained_attention,
    SETTING
    | {"model": "softmax", "d": 8, "tau": [0.2, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0]}
    | {name: xr.DataArray(np.array(values), dims="recipe") for name, values in recipes.items()},
    "book/data/softmax-attention.nc",
    name="trained_attention",
    seed=1,
    runs=(4, 4),
)

blocks = SETTING | {"rate": 2e-2, "steps": 8_000}
sweep(
    trained_attention,
    blocks | {"model": "two-blocks", "d": 5, "tau": [0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0]},
    "book/data/blocks-attention.nc",
    name="trained_attention",
    seed=2,
    runs=(4, 4),
)

sweep(
    interpolates,
    blocks | {"model": "two-blocks-bare", "d": 6, "tau": [2.5, 3.0, 3.5, 4.2]},
    "book/data/blocks-bare.nc",
    name="interpolates",
    seed=3,
    runs=(6, 6),
)
