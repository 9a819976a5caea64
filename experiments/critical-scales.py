"""Errors of fits at the interpolation threshold, n = d(d + 1), where they have no mean.

Six dimensions, 2000 fits each, as medians of so wide a law need many; then the shape of the peak,
a context at a time, at three. Eight minutes on two cores.
"""

import numpy as np
import xarray as xr

from iclkit.runs import linear_attention, sweep

d = xr.DataArray([10, 14, 20, 28, 40, 56], dims="point")
sweep(
    linear_attention,
    {"d": d, "tau": (d + 1) / d, "alpha": 10.0, "kappa": np.inf, "rho": 0.01},
    "book/data/threshold-pole.nc",
    name="linear_attention",
    seed=81,
    runs=(2000, 2000),
)

# The numbers of contexts next to n = d(d + 1), for the width of the peak.
d = xr.DataArray([6, 10, 15], dims="size")
beyond = xr.DataArray(range(-8, 9), dims="beyond")
sweep(
    linear_attention,
    {"d": d, "tau": (d * (d + 1) + beyond) / d**2, "alpha": 10.0, "kappa": np.inf, "rho": 0.01},
    "book/data/threshold-width.nc",
    name="linear_attention",
    seed=82,
    runs=(200, 200),
)
