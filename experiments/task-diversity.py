"""The gap between new and old tasks against task diversity: paper 1's figure 4, at its d = 100.

Linear attention at τ = 0.2 α, without ridge; then the window around κ = 1; then one curve at three
sizes. Then the posterior mean over the pretraining tasks and Bayes ridge: at d = 100; at a fixed κ
and growing d; and with so many tasks, exp(d s), that it stops memorising. Half an hour on two
cores.
"""

import numpy as np
import xarray as xr

from iclkit.runs import linear_attention, sweep
from iclkit.theory.bayes import estimators

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
    name="linear_attention",
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
    name="linear_attention",
    seed=42,
    runs=(5, 10),
)  # fmt: skip

# The extrapolation weighs d = 100 and 200 most; a fit at 200 takes ten times as long as one at 100.
d = xr.DataArray([50, 100, 200], dims="d")
sweep(
    linear_attention,
    {
        "alpha": 10.0, "tau": 2.0 * (1 + 1 / d), "kappa": [0.5, 1.0, 2.0], "rho": RHO, "d": d,
    },
    "book/data/task-diversity-sizes.nc",
    name="linear_attention",
    seed=43,
    precision=0.0024,
    runs=(18, 48),
)  # fmt: skip

sweep(
    estimators,
    {"alpha": [1.0, 10.0], "kappa": np.round(np.geomspace(0.1, 1000, 13), 2), "rho": RHO, "d": 100},
    "book/data/task-diversity-bayes.nc",
    name="estimators",
    seed=44,
    precision=0.02,
    runs=(5, 10),
)

sweep(
    estimators,
    {"alpha": 5.0, "kappa": 1.0, "rho": RHO, "d": [20, 40, 80, 160, 320]},
    "book/data/task-diversity-bayes-sizes.nc",
    name="estimators",
    seed=45,
    precision=0.005,
    runs=(20, 40),
)

# As many tasks as dimensions, for the first order in √(1/d).
cases = [("sphere", 2.0, 1.0, 1.0), ("sphere", 1.0, 3.0, 0.5), ("gaussian", 2.0, 1.0, 1.0)]
prior, alpha, kappa, rho = (
    xr.DataArray(list(column), dims="case") for column in zip(*cases, strict=True)
)
sweep(
    estimators,
    {"prior": prior, "alpha": alpha, "kappa": kappa, "rho": rho, "d": [20, 40, 80, 160]},
    "book/data/task-diversity-bayes-first.nc",
    name="estimators",
    seed=47,
    runs=(20, 20),
)

# k = exp(d s) tasks, on both sides of s_c = 0.247.
rates = {10: [0.8, 1.0, 1.2], 20: [0.4, 0.5, 0.6], 40: []}
points = [(d, s) for d in rates for s in [0.1, 0.15, 0.2, 0.25, 0.3, *rates[d]]]
d, s = (xr.DataArray(list(column), dims="point") for column in zip(*points, strict=True))
sweep(
    estimators,
    {
        "prior": ["gaussian", "sphere"],
        "alpha": 0.5, "kappa": np.exp(d * s).round() / d, "rho": 0.5, "d": d, "contexts": 200,
    },
    "book/data/task-diversity-bayes-many.nc",
    name="estimators",
    seed=46,
    runs=(5, 20),
)  # fmt: skip
