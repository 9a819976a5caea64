"""Random trigram models: what counts, a low-rank fit and a Transformer lose on new text.

A point of the first file takes five networks, one of the second twelve runs of a second or less.
"""

import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.ngrams import counted_trigrams, trained_trigrams

points = [(kind, V, 30_000) for V in (8, 32, 4, 16) for kind in ("shared", "arbitrary")]
network = {"depth": 2, "heads": 4, "width": 32, "length": 16, "steps": 2000}
columns = {
    name: xr.DataArray(list(column), dims="point")
    for name, column in zip(("kind", "V", "N"), zip(*points, strict=True), strict=True)
}
sweep(
    trained_trigrams,
    columns | network | {"size": 32},
    "book/data/counting-n-grams-networks.nc",
    name="trained_trigrams",
    seed=102,
    runs=(5, 5),
)

sweep(
    counted_trigrams,
    {"kind": ["arbitrary", "shared"], "V": 8, "N": [300, 1000, 3000, 10_000, 30_000]},
    "book/data/counting-n-grams.nc",
    name="counted_trigrams",
    seed=101,
    runs=(12, 12),
)

# Where the order is close: other sizes of a minibatch.
sweep(
    trained_trigrams,
    network | {"kind": "shared", "V": 8, "N": 30_000, "size": [16, 64]},
    "book/data/counting-n-grams-recipes.nc",
    name="trained_trigrams",
    seed=103,
    runs=(5, 5),
)
