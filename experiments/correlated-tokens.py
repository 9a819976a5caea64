"""Tokens that are correlated over positions: seven points at four sizes, to be extrapolated.

Kernels of all families, with queries that are correlated with their context or not, tested on
contexts as in pretraining, with an independent query, of iid tokens, and of one more kind. A run
is the mean of some fits. What is fixed is n/(d(d + 1)), which at finite d is what τ is in the
limit. Two minutes on one core.
"""

from typing import Any

import numpy as np
import xarray as xr

from iclkit import backend
from iclkit.runs import correlated_tokens, sweep


def mean_of_fits(seed: np.random.SeedSequence, *, fits: int, **point: Any) -> dict[str, float]:
    """Errors of `correlated_tokens`, means over some fits."""
    found = [correlated_tokens(backend.child_seed(seed, fit), **point) for fit in range(fits)]
    return {name: float(np.mean([errors[name] for errors in found])) for name in found[0]}


near, far = "correlated", "independent"
points = [
    (2.0, 2.0, 1.0, 0.1, 0.0, "exponential(2)", near, "exponential(2)", far),
    (0.5, 3.0, 0.5, 0.1, 0.1, "exponential(3)", near, "exponential(0.5)", far),
    (2.0, 4.0, 0.3, 0.5, 0.0, "exponential(3)", far, "exponential(3)", near),
    (2.0, 4.0, 0.3, 0.5, 0.0, "iid", far, "exponential(3)", near),
    (1.0, 2.0, np.inf, 0.1, 0.2, "power(0.8)", near, "power(0.8)", far),
    (4.0, 4.0, 10.0, 0.01, 0.0, "exponential(4)", near, "exponential(4)", far),
    (0.5, 3.0, 2.0, 0.1, 0.0, "ar(-0.6)", near, "ar(-0.6)", far),
]
names = (
    "tau", "alpha", "kappa", "rho", "lam", "kernel", "query", "test_kernel", "test_query",
)  # fmt: skip
columns = {
    name: xr.DataArray(list(column), dims="point")
    for name, column in zip(names, zip(*points, strict=True), strict=True)
}
d = xr.DataArray([20, 30, 40, 60], dims="d")
# More of them at the points and sizes where single fits differ more.
fits = [
    [12, 12, 6, 3],
    [8, 8, 6, 4],
    [12, 12, 6, 3],
    [12, 12, 6, 3],
    [10, 10, 6, 3],
    [2, 2, 1, 1],
    [8, 8, 6, 4],
]
sweep(
    mean_of_fits,
    columns
    | {
        "tau": columns["tau"] * (1 + 1 / d),
        "d": d,
        "fits": xr.DataArray(fits, dims=("point", "d")),
    },
    "book/data/correlated-tokens.nc",
    name="mean_of_fits of correlated_tokens",
    seed=1,
    runs=(12, 12),
    workers=1,
)
