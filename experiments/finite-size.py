"""What is left at finite size: one curve at four sizes, and points drawn at random at two.

A curve in τ at κ = 0.5, α = 1 and ρ = 0.1 at d = 12, 24, 48 and 100; 24 points at d = 30 and 10 at
d = 100, of all parameters and both ways to assign tasks; and four at d = 60 where the effect that
is smallest elsewhere, that of mixed blocks, is 0.4 to 1.1 % of both errors. An
hour on two cores.

The curve has its points at fixed n/(d(d + 1)), which at finite d is what τ is in the limit.
"""

import numpy as np
import xarray as xr

from iclkit.runs import linear_attention, sweep

per_parameter = xr.DataArray([0.25, 0.5, 0.75, 1.5, 2.0, 4.0], dims="point")
d = xr.DataArray([12, 24, 48, 100], dims="d")
sweep(
    linear_attention,
    {"tau": per_parameter * (1 + 1 / d), "alpha": 1.0, "kappa": 0.5, "rho": 0.1, "d": d},
    "book/data/finite-size.nc",
    name="linear_attention",
    seed=1,
    precision=0.004,
    runs=(20, 1200),
)


def points(count: int, seed: int) -> dict[str, xr.DataArray]:
    """Draw points, none of them close to the pole, where means of runs say little."""
    rng = np.random.default_rng(seed)
    below, above = np.geomspace(0.15, 0.8, 100), np.geomspace(1.25, 6, 100)
    drawn = {
        "tau": rng.choice(np.concatenate([below, above]), count).round(2),
        "alpha": rng.choice([1.0, 2.0, 3.0, 5.0, 10.0, 30.0], count),
        "kappa": rng.choice([0.4, 0.5, 0.7, 1.0, 1.5, 3.0, np.inf], count),
        "rho": rng.choice([0.0, 0.01, 0.1, 0.5, 1.0], count),
        "lam": rng.choice([0.0, 0.0, 0.01, 0.1, 1.0], count),
        "assignment": rng.choice(["uniform", "balanced"], count),
    }
    return {name: xr.DataArray(values, dims="point") for name, values in drawn.items()}


for size, count, seed in ((30, 24, 1), (100, 10, 2)):
    sweep(
        linear_attention,
        points(count, seed) | {"d": size},
        f"book/data/finite-size-{size}.nc",
        name="linear_attention",
        seed=seed,
        precision=0.003 if size == 30 else 0.0015,
        runs=(20, 1500),
    )

mixed = {"tau": [0.84, 0.8, 0.76, 0.7], "alpha": [10, 8, 10, 13], "kappa": [0.5, 0.6, 0.35, 1.0],
         "rho": [0.01, 0.005, 0.0, 0.03], "lam": [0, 0.001, 0.003, 0]}  # fmt: skip
sweep(
    linear_attention,
    {
        name: xr.DataArray(np.array(values, dtype=float), dims="point")
        for name, values in mixed.items()
    }
    | {"d": 60, "assignment": "balanced"},
    "book/data/finite-size-mixed.nc",
    name="linear_attention",
    seed=3,
    precision=0.002,
    runs=(20, 1500),
)
