"""Descent on fresh contexts at thirteen rates: dimensions, batches and training times.

The rates are shares of the largest one that is stable, from far below the best rate to far above.
The runs of d = 8 and 16 are the cheap experiments that the chapter extrapolates from; those of
d = 32 are there to be foretold, and scatter less, so that fewer will do. A quarter of an hour on
two cores.
"""

import numpy as np
import xarray as xr

from iclkit.runs import streaming_descent, sweep
from iclkit.trained.streams import streaming_adam

for d, least in (([8, 16], 32), ([8, 16, 32], 8)):
    sweep(
        streaming_descent,
        {
            "alpha": 2.0, "rho": 0.1, "d": d, "batch": [8, 16, 64, 256], "steps": [30, 100, 300],
            "share": np.geomspace(0.004, 0.6, 13).round(5).tolist(),
        },
        "book/data/learning-rates.nc",
        name="streaming_descent",
        seed=1,
        runs=(least, 32),
    )  # fmt: skip

# Adam, which has no theory here, with batches that grow like the number of parameters.
sizes = xr.DataArray([8, 16, 32], dims="d")
sweep(
    streaming_adam,
    {
        "alpha": 2.0, "rho": 0.1, "d": sizes, "batch": sizes**2 // 4, "steps": 300,
        "rate": np.geomspace(0.002, 0.016, 7).round(5).tolist(),
    },
    "book/data/learning-rates-adam.nc",
    name="streaming_adam",
    seed=1,
    runs=(32, 32),
)  # fmt: skip
