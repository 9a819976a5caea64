"""Training through the loop, with and without a ridge, from both starts: half an hour on a core."""

import numpy as np
import xarray as xr

from iclkit import optimal_ridge
from iclkit.runs import sweep
from iclkit.trained.loops import trained_loop

settings = ((2.0, 2.0, 0.1, 4), (4.0, 2.0, 0.1, 4), (8.0, 2.0, 0.1, 4), (1.2, 4.0, 0.02, 8))
points = [
    (*setting, start, share * float(optimal_ridge(*setting[:2], np.inf, setting[2])))
    for setting in settings
    for start in ("zero", "once")
    for share in (0.0, 0.1, 0.3, 1.0, 3.0)
]
names = ("tau", "alpha", "rho", "depth", "start", "lam")
columns = {
    name: xr.DataArray(list(column), dims="point")
    for name, column in zip(names, zip(*points, strict=True), strict=True)
}
sweep(
    trained_loop,
    columns | {"d": 16, "looks": 300},
    "book/data/looped-loss.nc",
    name="trained_loop",
    seed=71,
    runs=(6, 6),
)
