"""The error against the length of contexts, without ridge: paper 1's figure 2, at its d = 100.

The three panels, and the first of them with tasks picked at random; then one curve at three sizes,
to see what vanishes like 1/d; then what a small ridge does to contexts so long that the two limits
λ → 0 and α → ∞ compete. Twenty minutes on two cores.
"""

import numpy as np
import xarray as xr

from iclkit.runs import linear_attention, sweep

panel_a = {
    "kappa": [0.1, 0.3, 0.5, 0.7, 10.0], "alpha": np.round(np.geomspace(0.1, 1000, 13), 3),
    "tau": 0.5, "rho": 0.5, "d": 100,
}  # fmt: skip

# Each task is used equally often, here and in (b), as in the published runs of (b).
sweep(
    linear_attention,
    panel_a | {"assignment": "balanced"},
    "book/data/context-length-a.nc",
    name="linear_attention",
    seed=16,
    runs=(5, 10),
)

# The same points, where contexts pick their task at random.
sweep(
    linear_attention,
    panel_a,
    "book/data/context-length-uniform.nc",
    name="linear_attention",
    seed=11,
    runs=(5, 10),
)

# Five of the lengths are those of the published runs.
sweep(
    linear_attention,
    {
        "kappa": [0.2, 0.4, 0.6, 1.5],
        "alpha": [0.1, 0.3, 1.0, 2.35, 5.5, 11.0, 22.7, 50.0, 100.0, 300.0, 1000.0],
        "tau": 0.5, "rho": 0.1, "d": 100, "assignment": "balanced",
    },
    "book/data/context-length-b.nc",
    name="linear_attention",
    seed=12,
    precision=0.005,
    runs=(10, 20),
)  # fmt: skip

sweep(
    linear_attention,
    {
        "kappa": [0.25, 0.75, 1.0, 1.5], "alpha": np.round(np.geomspace(0.1, 1000, 9), 3),
        "tau": 20.0, "rho": 0.5, "d": 100,
    },
    "book/data/context-length-c.nc",
    name="linear_attention",
    seed=13,
    runs=(3, 10),
)  # fmt: skip

# At finite d, n/(d(d + 1)) is what τ is in the limit.
d = xr.DataArray([50, 100, 200], dims="d")
sweep(
    linear_attention,
    {
        "kappa": 0.6, "alpha": [1.0, 10.0, 100.0, 1000.0],
        "tau": 0.5 * (1 + 1 / d), "rho": 0.1, "d": d, "assignment": "balanced",
    },
    "book/data/context-length-sizes.nc",
    name="linear_attention",
    seed=14,
    precision=0.005,
    runs=(5, 12),
)  # fmt: skip

sweep(
    linear_attention,
    {
        "lam": [0.0, 1e-4, 1e-2], "alpha": np.round(np.geomspace(1, 1e6, 13), 2),
        "tau": 2.0 * (1 + 1 / 40), "kappa": 0.5, "rho": 0.1, "d": 40,
    },
    "book/data/context-length-limits.nc",
    name="linear_attention",
    seed=15,
    precision=0.02,
    runs=(10, 40),
)  # fmt: skip
