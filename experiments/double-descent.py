"""Double descent in the amount of pretraining, without ridge, at κ = 0.5 and ρ = 0.01.

First the size of paper 1's figure 1 (a, b), d = 100; then three smaller sizes at the same numbers
of contexts per parameter, to see what vanishes like 1/d. Half an hour on two cores.
"""

import numpy as np
import xarray as xr

from iclkit.sweep import linear_attention, sweep

RIDGELESS = {"kappa": 0.5, "rho": 0.01}

sweep(
    linear_attention,
    {"tau": np.round(np.geomspace(0.1, 10, 25), 3), "alpha": [0.2, 1.0, 10.0, 100.0], "d": 100}
    | RIDGELESS,
    "book/data/double-descent.nc",
    seed=1,
    runs=(10, 10),
)

# At finite d the threshold is at n = d(d + 1): these are numbers of contexts per parameter.
per_parameter = xr.DataArray([0.2, 0.4, 0.6, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0, 2.6], dims="point")
d = xr.DataArray([20, 40, 80], dims="d")
sweep(
    linear_attention,
    {"tau": per_parameter * (1 + 1 / d), "alpha": [1.0, 10.0, 100.0], "d": d} | RIDGELESS,
    "book/data/double-descent-sizes.nc",
    seed=2,
    runs=(10, 150),
)
