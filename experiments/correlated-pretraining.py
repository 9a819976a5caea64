"""Pretraining on contexts that remember, with few tasks and without ridge, tested on iid tokens.

n/(d(d + 1)) is fixed, as in correlated-tokens.py. Five minutes on one core.
"""

import xarray as xr

from iclkit.runs import correlated_tokens, sweep

d = xr.DataArray([16, 32, 48], dims="d")
sweep(
    correlated_tokens,
    {
        "tau": 3.0 * (1 + 1 / d), "alpha": 20.0, "kappa": 0.5, "rho": 0.1, "d": d,
        "kernel": ["iid", "exponential(3)", "exponential(10)", "exponential(30)"],
        "query": "independent",
    },
    "book/data/correlated-pretraining.nc",
    name="correlated_tokens",
    seed=2,
    precision=0.01,
    runs=(12, 150),
    workers=1,
)  # fmt: skip
