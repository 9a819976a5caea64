"""Loops and layers of their own, trained on one spectrum and tested on others.

Step sizes and full layers, on a band of eigenvalues and on its two ends, with χ = 25; three seeds
of half the steps, too. Forty minutes on a core that others use as well.
"""

import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.shifts import trained_shifts

chi, spectra = 25.0, ("band", "ends")
kinds = ((False, 4000, 0.1, (1, 2, 3, 4, 6)), (True, 8000, 3e-3, (2, 3, 4)))
names = ("spectrum", "full", "depth", "steps", "rate")
for file, share, runs in (("looping", 1, 5), ("looping-half", 2, 3)):
    points = [
        (spectrum, full, depth, steps // share, rate)
        for full, steps, rate, depths in kinds
        for depth in depths
        for spectrum in spectra
    ]
    columns = {
        name: xr.DataArray(list(column), dims="point")
        for name, column in zip(names, zip(*points, strict=True), strict=True)
    }
    sweep(
        trained_shifts,
        columns | {"chi": chi},
        f"book/data/{file}.nc",
        name="trained_shifts",
        seed=83,
        runs=(runs, runs),
        workers=1,
    )
