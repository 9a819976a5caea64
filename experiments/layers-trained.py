"""Layers of linear attention and softmax blocks, trained on one task, beside gradient steps.

Layers with all their matrices, at three dimensions, one to four of them, with and without noise,
some of them with twice or four times the steps of training; layers in streams wider than their
tokens, from random matrices and from gradient steps; and blocks of softmax attention at two
dimensions.
An hour on one core.
"""

from typing import Any

import numpy as np
import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.wide import trained_blocks, trained_layers

full = {"d": [6, 8, 12], "rho": [0.0, 0.25], "start": "equal"}
wide = {"d": 6, "rho": 0.25, "width": [7, 14, 28]}
blocks = {"d": [6, 12], "rho": 0.25, "depth": [1, 2], "width": 32}
# What a layer does has as many names as there are layers, so that each depth has a file.
points: list[tuple[str, dict[str, Any]]] = [
    *((f"full-{L}", full | {"depth": L, "steps": steps})
      for L, steps in ((2, 3000), (1, 1000), (4, 3000))),
    ("wide-2", wide | {"depth": 2, "start": "random"}),
    ("blocks", blocks | {"steps": 6000}),
    *((f"doubled-{L}", full | {"d": 8, "depth": L, "steps": 6000}) for L in (2, 4)),
    ("full-3", full | {"depth": 3}),
    ("wide-equal-2", wide | {"depth": 2, "start": "equal"}),
    ("doubled-3", full | {"d": 8, "depth": 3, "steps": 6000}),
    ("quadrupled-4", full | {"d": 8, "rho": 0.0, "depth": 4, "steps": 12_000}),
]  # fmt: skip
own_seeds = {"full-3": 68, "wide-equal-2": 69}
for name, grid in points:
    trial: Any = trained_blocks if name.startswith("blocks") else trained_layers
    runs = 3 if trial is trained_blocks else 5
    listed = {
        key: xr.DataArray(values, dims=key) for key, values in grid.items() if np.ndim(values)
    }
    sweep(
        trial,
        {"alpha": 1.0, "size": 64, "steps": 3000} | grid | listed,
        f"book/data/layers-{name}.nc",
        name="trained_blocks" if trial is trained_blocks else "trained_layers",
        seed=own_seeds.get(name, 67),
        runs=(runs, runs),
        workers=1,
    )
