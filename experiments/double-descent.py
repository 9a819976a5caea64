"""Double descent in the amount of pretraining: paper 1's figure 1, at its d = 100 and ρ = 0.01.

Panels (a, b) without ridge at κ = 0.5 and panel (c) with ridges at κ = ∞; the ridge that is optimal
at κ = 0.5; the height of the peak at the threshold itself; and one curve at three sizes, to see
what vanishes like 1/d. A quarter of an hour on two cores.

At finite d the threshold is at n = d(d + 1): there n/(d(d + 1)) is what τ is in the limit.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from iclkit.runs import linear_attention, load, sweep
from iclkit.theory import optimal_ridge

RHO = 0.01


def begun_with(file: str, lam: xr.DataArray) -> xr.DataArray:
    """Go on with the ridges of an earlier session: another search finds other last digits."""
    return load(file).lam.drop_vars("tau") if Path(file).exists() else lam


sweep(
    linear_attention,
    {
        "tau": np.round(np.geomspace(0.1, 10, 25), 3), "alpha": [0.2, 1.0, 10.0, 100.0], "d": 100,
        "kappa": 0.5, "rho": RHO,
    },
    "book/data/double-descent.nc",
    name="linear_attention",
    seed=1,
    runs=(5, 10),
)  # fmt: skip

tau = xr.DataArray(np.round(np.geomspace(0.1, 10, 21), 3), dims="tau")
best = optimal_ridge(tau / 1.01, 10.0, np.inf, RHO)
fixed = xr.DataArray([0.0, 0.01, 0.1, 1.0], dims="curve")
lams = xr.concat([fixed.broadcast_like(best.expand_dims(curve=4)), best], dim="curve")
sweep(
    linear_attention,
    {
        "lam": begun_with("book/data/double-descent-ridge.nc", lams),
        "tau": tau, "alpha": 10.0, "kappa": np.inf, "rho": RHO, "d": 100,
    },
    "book/data/double-descent-ridge.nc",
    name="linear_attention",
    seed=3,
    runs=(5, 10),
)  # fmt: skip

# First the ridge that is best on new tasks, then the one that is best on those of pretraining.
tau = xr.DataArray(np.round(np.geomspace(0.1, 10, 13), 3), dims="tau")
tuned = [optimal_ridge(tau / 1.01, 10.0, 0.5, RHO, test=test) for test in ("icl", "idg")]
sweep(
    linear_attention,
    {
        "lam": begun_with("book/data/double-descent-tuned.nc", xr.concat(tuned, dim="tuned_for")),
        "tau": tau, "alpha": 10.0, "kappa": 0.5, "rho": RHO, "d": 100,
    },
    "book/data/double-descent-tuned.nc",
    name="linear_attention",
    seed=4,
    runs=(5, 10),
)  # fmt: skip

sweep(
    linear_attention,
    {
        "lam": np.round(np.geomspace(1e-4, 1, 9), 6),
        "tau": 1.01, "alpha": 10.0, "kappa": 0.5, "rho": RHO, "d": 100,
    },
    "book/data/double-descent-peak.nc",
    name="linear_attention",
    seed=5,
    runs=(5, 10),
)  # fmt: skip

per_parameter = xr.DataArray([0.25, 0.5, 0.75, 1.33, 2.0, 4.0], dims="point")
d = xr.DataArray([50, 100, 200], dims="d")
sweep(
    linear_attention,
    {"tau": per_parameter * (1 + 1 / d), "alpha": 10.0, "d": d, "kappa": 0.5, "rho": RHO},
    "book/data/double-descent-sizes.nc",
    name="linear_attention",
    seed=2,
    precision=0.005,
    runs=(5, 16),
)
