"""A practitioner's transformer on regression in context: rates and scalings, widths, tasks.

Which rate is best at which width, by the standard and by the μP scaling; three seeds of the best
for 30,000 steps, with and without positions, and with interleaved tokens; the two blocks of the
chapter on task diversity for as many contexts; and lists of tasks, with new contexts at every step
and with a fixed sample. Two hours on two cores.
"""

import sys

import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.transformer import trained_transformer

SETTING = {"d": 5, "alpha": 2.0, "rho": 0.01}


def together(rows, *names):
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return {name: xr.DataArray(list(column), dims="point") for name, column in columns}


def train(file, runs, seed, **grid):
    sweep(
        trained_transformer, SETTING | grid, f"book/data/{file}.nc", name="trained_transformer",
        seed=seed, runs=(runs, runs), workers=1,
    )  # fmt: skip


def rates():
    kinds = [(16, "standard"), *((w, s) for w in (32, 64) for s in ("standard", "mup"))]
    rows = [(*kind, rate) for kind in kinds for rate in (1e-3, 3e-3, 1e-2, 3e-2)]
    train("transformer-rates", 2, 901, steps=3000, **together(rows, "width", "scaling", "rate"))


if __name__ == "__main__":
    for part in sys.argv[1:] or ("rates",):
        globals()[part]()
