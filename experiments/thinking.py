"""Fits that are applied up to four times, at twelve points and two sizes, to be extrapolated.

No point is among them at which four applications make the error four times that of one, and where
they make it more than twice, two sizes are not enough, and there is a third one. What is fixed is
n/(d(d + 1)), which at finite d is what τ is in the limit. Five minutes on two cores.
"""

import numpy as np
import xarray as xr

from iclkit import optimal_ridge
from iclkit.runs import looped_attention, sweep

inf = np.inf
points = [
    (3.0, 2.0, inf, 0.1, 0.0, 1.0),
    (1.5, 1.0, inf, 0.1, 0.0, 1.0),
    (0.5, 4.0, inf, 0.1, 0.0, 1.0),
    (1.2, 4.0, inf, 0.02, float(optimal_ridge(1.2, 4.0, inf, 0.02)), 1.0),
    (8.0, 0.5, inf, 0.1, 0.0, 1.0),
    (6.0, 3.0, inf, 0.3, 0.5, 0.8),
    (3.0, 2.0, 2.0, 0.1, 0.0, 1.0),
    (4.0, 1.0, 0.5, 0.1, 0.0, 1.0),
    (0.5, 3.0, 1.0, 0.1, 0.05, 1.0),
    (6.0, 3.0, 3.0, 0.02, 0.0, 1.0),
    (4.0, 0.5, 1.2, 0.1, 0.0, 0.7),
    (2.0, 6.0, 0.7, 0.2, 0.3, 1.2),
]
names = ("tau", "alpha", "kappa", "rho", "lam", "step")
columns = {
    name: xr.DataArray(list(column), dims="point")
    for name, column in zip(names, zip(*points, strict=True), strict=True)
}
few = columns["kappa"] < inf
for name, some in (("endless", ~few), ("few", few)):
    here = {key: column[some.values] for key, column in columns.items()}
    growing = xr.DataArray([1 if name == "endless" else 2], dims="point")
    for d, runs in ((40, 60), (80, 24), (160, 24)):
        at = here if d < 160 else {key: column[growing] for key, column in here.items()}
        sweep(
            looped_attention,
            at | {"tau": at["tau"] * (1 + 1 / d), "d": d, "depth": 4, "contexts": 40},
            f"book/data/thinking-{name}-{d}.nc",
            name="looped_attention",
            seed=d,
            runs=(runs, runs),
        )
