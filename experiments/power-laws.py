"""Softmax attention on power-law tasks: context length, blocks, width and training data.

The four axes meet at a context length of 32 and a width of 32. A step takes 128 new contexts, so
that training steps count the data. A point takes three seeds.
"""

import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.trials import trained_softmax

points = [
    *((model, ell, 32, 4000) for model in ("softmax", "two-blocks") for ell in (4, 8, 16, 32, 64)),
    ("three-blocks", 32, 32, 4000),
    *((model, 32, h, 4000) for model in ("softmax", "two-blocks") for h in (8, 16, 64)),
    *(("two-blocks", 32, 32, steps) for steps in (500, 1000, 2000, 8000)),
]
names = ("model", "ell", "width", "steps")
columns = {
    name: xr.DataArray(list(column), dims="point")
    for name, column in zip(names, zip(*points, strict=True), strict=True)
}
sweep(
    trained_softmax,
    columns | {"nu": 1.5, "beta": 0.8, "directions": 16, "rate": 3e-3, "size": 128},
    "book/data/softmax-power-laws.nc",
    name="trained_softmax",
    seed=72,
    runs=(3, 3),
)
