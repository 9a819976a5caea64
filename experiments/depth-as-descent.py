"""Trained depth: whether layers find the gradient steps that as many layers could make.

Step sizes alone, common or one for each layer, from random and from equal starts, and layers of
linear attention with all their matrices. A point takes three seeds. Eight minutes on two cores.
"""

import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.trials import trained_depth

noises = (0.0, 0.25)
points = [
    *((d, L, r, "scalar-tied", "random", 1000)
      for d in (8, 16, 32) for L in (1, 2, 4) for r in noises),
    *((d, L, 0.0, "scalar", "random", 1000) for d in (8, 32) for L in (2, 4)),
    *((8, L, 0.0, "scalar", "equal", 3000) for L in (2, 4)),
    *((8, L, 0.0, "full", "equal", 3000) for L in (1, 2, 3)),
    *((8, 2, 0.0, "full", "random", steps) for steps in (3000, 12_000)),
]  # fmt: skip
names = ("d", "depth", "rho", "layers", "start", "steps")
columns = {
    name: xr.DataArray(list(column), dims="point")
    for name, column in zip(names, zip(*points, strict=True), strict=True)
}
sweep(
    trained_depth,
    columns | {"alpha": 1.0, "rate": 0.01, "size": 128},
    "book/data/depth-as-descent.nc",
    name="trained_depth",
    seed=61,
    runs=(3, 3),
)
