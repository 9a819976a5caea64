"""Softmax attention, trained: paper 1's figures 5 (b) and (c), and the residual connections.

Test errors against τ for one block with two recipes, for the same block at d = 20 as published, and
for two blocks; and how much two blocks without residual connections learn by heart. An hour on two
cores.
"""

import numpy as np
import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.trials import interpolates, trained_attention

SETTING = {"alpha": 1.0, "rho": 0.01}

# The second is the authors' own: every minibatch drawn by itself, 11 in each of 20,000 iterations.
recipes: dict[str, list[object]] = {
    "rate": [3e-2, 1e-4],
    "schedule": ["cosine", "constant"],
    "steps": [10_000, 220_000],
    "batches": [1, 10],
    "overlap": [False, True],
    "clip": [1.0, np.inf],
    "dtype": ["float64", "float32"],
}
sweep(
    trained_attention,
    SETTING
    | {"model": "one-block", "d": 20, "tau": [0.5, 1.0, 1.3, 2.0, 3.0, 6.0]}
    | {name: values[1] for name, values in recipes.items()},
    "book/data/one-block-paper.nc",
    name="trained_attention",
    seed=5,
    runs=(5, 5),
)

sweep(
    trained_attention,
    SETTING
    | {"model": "one-block", "d": 8, "tau": [0.2, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0]}
    | {name: xr.DataArray(np.array(values), dims="recipe") for name, values in recipes.items()},
    "book/data/one-block.nc",
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

# What was lost in some published runs: the residual connection around the attention alone.
sweep(
    interpolates,
    blocks
    | {"model": "two-blocks-mlp-residual", "d": 6, "tau": [0.7, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]},
    "book/data/blocks-mlp-residual.nc",
    name="interpolates",
    seed=4,
    runs=(6, 6),
)
