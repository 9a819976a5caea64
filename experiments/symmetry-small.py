"""Symmetry as a remedy at a second size: one block at d = 4, trained in three ways.

As it is, on the mirror images of its contexts, and as a mean over them; see `symmetry.py` for
what was expected. Ten minutes on two cores.
"""

import numpy as np
import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.trials import trained_attention

ways: dict[str, list[object]] = {
    "model": ["one-block", "one-block", "one-block-mirrored"],
    "mirrored": [False, True, False],
}
sweep(
    trained_attention,
    {
        "d": 4, "alpha": 1.0, "rho": 0.01, "rate": 3e-2, "steps": 5_000,
        "tau": [0.5, 0.7, 0.9, 1.25, 1.75, 2.5, 3.5, 5.0],
    }
    | {name: xr.DataArray(np.array(values), dims="way") for name, values in ways.items()},
    "book/data/mirrored-small.nc",
    name="trained_attention",
    seed=4,
    runs=(4, 4),
)  # fmt: skip
