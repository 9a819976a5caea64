"""Symmetry as a remedy: attention whose predictions are averaged over mirror images.

What was expected before the runs, from ranks of Jacobians (R = 3d² + 3d − 2 for one block):

- Linear attention, averaged while it trains, learns n = d(d + 1) contexts by heart and never one
  more, at every d and from every draw, as it is linear regression on so many features.
- Its test errors are those of the reduced theory with n/(d(d + 1)) for τ, but for terms of 1/d.
- One block, averaged while it trains, has the rank R − 1: it learns as many contexts by heart as
  without, and keeps a peak. Trained on the mirror images of its contexts, it has four labels a
  context to learn, so it can learn R/4 contexts: the peak lies below τ = R/4d², and beyond the
  error is below that of averages that are taken after training.

Half an hour on two cores.
"""

from iclkit.runs import sweep
from iclkit.trained.trials import linear_threshold, trained_attention

SETTING = {"alpha": 1.0, "rho": 0.01}

sweep(
    linear_threshold,
    SETTING | {"d": [6, 8, 10, 12, 16, 20], "mirrored": True},
    "book/data/mirrored-threshold.nc",
    name="linear_threshold",
    seed=1,
    runs=(4, 4),
)

# As `linear-attention.py` trains, and as `softmax-attention.py` does.
sweep(
    trained_attention,
    SETTING
    | {
        "model": "linear-mirrored", "d": 10, "steps": 20_000, "rate": 1e-2, "dtype": "float32",
        "tau": [0.5, 0.8, 1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0],
    },
    "book/data/mirrored-linear.nc",
    name="trained_attention",
    seed=1,
    runs=(3, 3),
)  # fmt: skip

block = {"d": 8, "tau": [0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0], "rate": 3e-2, "steps": 10_000}
for about, file in (
    ({"model": "one-block", "mirrored": True}, "mirrored-sample"),
    ({"model": "one-block-mirrored"}, "mirrored-block"),
):
    sweep(
        trained_attention,
        SETTING | block | about,
        f"book/data/{file}.nc",
        name="trained_attention",
        seed=1,
        runs=(3, 3),
    )
