"""Networks of every shape at three budgets, whose step sizes are trained on power-law tasks.

N = L d is 16, 64 or 256, with the width a power of two from 1 to 64; one step size for all layers,
and at N = 64 some networks with a size for each. A point takes two seeds.
"""

import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.trials import trained_shape

points = [
    *((nu, N // d, d, True, 3000, 0.01)
      for nu in (1.0, 2.0) for N in (16, 64, 256) for d in (1, 2, 4, 8, 16, 32, 64)
      if 1 <= N // d <= 64),
    *((2.0, L, 64 // L, False, 10_000, 0.03) for L in (2, 4, 8)),
]  # fmt: skip
names = ("nu", "depth", "width", "tied", "steps", "rate")
columns = {
    name: xr.DataArray(list(column), dims="point")
    for name, column in zip(names, zip(*points, strict=True), strict=True)
}
sweep(
    trained_shape,
    columns | {"beta": 1 / columns["nu"], "ell": 1000, "size": 32},
    "book/data/trained-shapes.nc",
    name="trained_shape",
    seed=71,
    runs=(2, 2),
)
