"""A practitioner's transformer on regression in context: rates, scalings and widths.

Which rate is best at which width, by the standard and by the μP scaling; then three seeds of long
trainings, with and without positions, and with interleaved tokens. Two hours on one core.
"""

from functools import partial

import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.transformer import trained_transformer

SETTING = {"d": 5, "alpha": 2.0, "rho": 0.01}

train = partial(sweep, trained_transformer, name="trained_transformer", workers=1)

kinds = [(16, "standard"), *((w, s) for w in (32, 64) for s in ("standard", "mup"))]
rows = [(*kind, rate) for kind in kinds for rate in (1e-3, 3e-3, 1e-2, 3e-2)]
names = ("width", "scaling", "rate")
columns = {
    name: xr.DataArray(list(column), dims="point")
    for name, column in zip(names, zip(*rows, strict=True), strict=True)
}
train(
    SETTING | {"steps": 3000} | columns,
    "book/data/transformer-rates.nc",
    seed=901,
    runs=(2, 2),
)

# By μP one rate is the best of these at every width.
best = SETTING | {"scaling": "mup", "rate": 3e-3, "steps": 30_000}
for file, network, seed in (
    ("transformer", {"width": [16, 32, 64]}, 902),
    ("transformer-positions", {"width": 32, "positions": True}, 903),
    ("transformer-interleaved", {"width": 32, "tokens": "interleaved"}, 904),
):
    train(best | network, f"book/data/{file}.nc", seed=seed, runs=(3, 3))
