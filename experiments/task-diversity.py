"""The gap between new and old tasks against task diversity: paper 1's figure 4, at its d = 100.

Linear attention at τ = 0.2 α, without ridge; then the window around κ = 1; then one curve at three
sizes. Ten minutes on two cores.
"""

import numpy as np
import xarray as xr

from iclkit.sweep import linear_attention, sweep

RHO = 0.01

alpha = xr.DataArray([1.0, 10.0, 100.0], dims="alpha")
sweep(
    linear_attention,
    {
        "alpha": alpha, "tau": 0.2 * alpha,
        "kappa": [0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 4.0, 10.0, 30.0, 100.0],
        "rho": RHO, "d": 100,
    },
    "book/data/task-diversity.nc",
    seed=41,
    runs=(4, 10),
)  # fmt: skip

# κ = 1 + z √q, with k rounded to a whole number of tasks.
alpha = xr.DataArray([10.0, 40.0], dims="alpha")
z = xr.DataArray(np.arange(-3.0, 4.0), dims="z")
sweep(
    linear_attention,
    {
        "alpha": alpha, "tau": 0.2 * alpha,
        "kappa": (100 * (1 + z * np.sqrt((1 + RHO) / alpha))).round() / 100,
        "rho": RHO, "d": 100,
    },
    "book/data/task-diversity-window.nc",
    seed=42,
    runs=(5, 10),
)  # fmt: skip

d = xr.DataArray([50, 100, 200], dims="d")
sweep(
    linear_attention,
    {
        "alpha": 10.0, "tau": 2.0 * (1 + 1 / d), "kappa": [0.5, 1.0, 2.0], "rho": RHO, "d": d,
    },
    "book/data/task-diversity-sizes.nc",
    seed=43,
    precision=0.004,
    runs=(5, 24),
)  # fmt: skip
