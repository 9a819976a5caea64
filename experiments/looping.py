"""Loops and layers of their own, trained on one spectrum and tested on others.

Step sizes and full layers, on a band of eigenvalues and on its two ends, with χ = 25; with half the
steps, too, and full layers with three times as many. Twenty minutes on a core.
"""

import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.shifts import SPECTRA, trained_shifts

steps = {"full": False, "rate": 0.1}
full = {"full": True, "rate": 3e-3, "size": 32}
for file, kind, trained, depths, runs in (
    ("looping-steps", steps, 4000, (1, 2, 3, 4, 6), 5),
    ("looping-full", full, 10_000, (2, 3, 4), 5),
    ("looping-full-half", full, 5000, (2, 3, 4), 3),
    ("looping-full-long", full, 30_000, (2, 3, 4), 3),
    ("looping-steps-half", steps, 2000, (3, 6), 3),
):
    points = [(spectrum, depth) for depth in depths for spectrum in SPECTRA]
    columns = {
        name: xr.DataArray(list(column), dims="point")
        for name, column in zip(("spectrum", "depth"), zip(*points, strict=True), strict=True)
    }
    sweep(
        trained_shifts,
        columns | kind | {"chi": 25.0, "steps": trained},
        f"book/data/{file}.nc",
        name="trained_shifts",
        seed=83,
        runs=(runs, runs),
        workers=1,
    )
