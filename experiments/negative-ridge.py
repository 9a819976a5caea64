"""What a ridge below zero changes: both errors with it and without, of the same draws.

Two points where it pays, at growing sizes: one for the pretraining tasks and one for new ones. A
few minutes on two cores.

At finite d the threshold is at n = d(d + 1): there n/(d(d + 1)) is what τ is in the limit.
"""

import copy
from typing import Any

import numpy as np
import xarray as xr

from iclkit.runs import linear_attention, sweep


def change(seed: np.random.SeedSequence, *, lam: float, **point: Any) -> dict[str, float]:
    """Both errors without ridge, and what the ridge adds to them."""
    without, ridged = (
        linear_attention(copy.deepcopy(seed), lam=ridge, **point) for ridge in (0.0, lam)
    )
    gains = {f"{name}_change": ridged[name] - without[name] for name in without}
    return without | gains


d = xr.DataArray([80, 120, 160, 200], dims="d")
sweep(
    change,
    {"lam": -4.0, "tau": 0.1 * (1 + 1 / d), "alpha": 0.5, "kappa": 0.05, "rho": 0.0, "d": d},
    "book/data/negative-ridge-idg.nc",
    name="change_by_ridge",
    seed=1,
    precision=0.015,
    runs=(20, 100),
)

d = xr.DataArray([12, 16, 24, 32], dims="d")
sweep(
    change,
    {"lam": -0.019, "tau": 12 * (1 + 1 / d), "alpha": 29.0, "kappa": 1.75, "rho": 0.01, "d": d},
    "book/data/negative-ridge-icl.nc",
    name="change_by_ridge",
    seed=2,
    precision=0.04,
    runs=(20, 100),
)
