"""Networks that are trained to predict mean and variance, beside Bayes, also where tests differ.

Five networks, each trained once for all of its tests; the same with fewer steps, with another level
of noise in every context, and with another loss; and ten after a few steps, which a chapter can
afford to repeat. Twenty minutes of one core.
"""

import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.intervals import trained_intervals

tests = [("noise", factor) for factor in (1.0, 0.0625, 0.25, 4.0, 16.0)]
tests += [("task", factor) for factor in (0.5, 2.0, 4.0)]
tests += [("length", factor) for factor in (0.25, 0.5, 2.0, 4.0)]
tests += [("tokens", factor) for factor in (0.5, 2.0)]
few = [("noise", 1.0), ("noise", 4.0), ("task", 2.0)]


def columns(points: list[tuple[str, float]]) -> dict[str, xr.DataArray]:
    """Make one axis of the tests."""
    names = zip(("shift", "factor"), zip(*points, strict=True), strict=True)
    return {name: xr.DataArray(list(column), dims="test") for name, column in names}


# One process, in which a network is trained once.
setting = {"d": 4, "alpha": 2.0, "rho": 0.25, "width": 32, "network": [0, 1, 2, 3, 4]}
main = setting | {"loss": "likelihood", "spread": 1.0}
for file, seed, grid in (
    ("uncertainty", 111, columns(tests) | main | {"steps": 12_000}),
    ("uncertainty-steps", 112, columns(few) | main | {"steps": [3000, 6000]}),
    ("uncertainty-levels", 113, columns(tests) | main | {"steps": 12_000, "spread": 8.0}),
    ("uncertainty-squares", 114, columns(few) | main | {"steps": 6000, "loss": "two-squares"}),
    ("uncertainty-short", 115, columns(few) | main | {"steps": 1000, "network": list(range(10))}),
):
    sweep(
        trained_intervals, grid, f"book/data/{file}.nc",
        name="trained_intervals", seed=seed, runs=(2, 2), workers=1,
    )  # fmt: skip
