"""How many contexts trained attention learns by heart: paper 1's figure 5 (d).

To one context for linear attention; by the share of successes for softmax attention, one block and
two, after AdamW and a Levenberg–Marquardt polish; and with fewer steps. An hour on two cores.
"""

from iclkit.runs import sweep
from iclkit.trained.trials import interpolates, linear_threshold

SETTING = {"alpha": 1.0, "rho": 0.01}

sweep(
    linear_threshold,
    SETTING | {"d": [6, 8, 10, 12, 16, 20]},
    "book/data/linear-threshold.nc",
    name="linear_threshold",
    seed=1,
    runs=(6, 6),
)

softmax = SETTING | {"model": "softmax", "rate": 3e-2}
sweep(
    interpolates,
    softmax | {"d": [6, 8, 10, 12, 16], "tau": [1.3, 1.6, 1.9, 2.2], "steps": 10_000},
    "book/data/softmax-threshold.nc",
    name="interpolates",
    seed=2,
    runs=(8, 8),
)

block = SETTING | {"model": "one-block", "rate": 3e-2}
tau = [1.5, 1.9, 2.3, 2.7, 3.1]
sweep(
    interpolates,
    block | {"d": [6, 8, 10, 12], "tau": tau, "steps": 10_000},
    "book/data/one-block-threshold.nc",
    name="interpolates",
    seed=7,
    runs=(4, 4),
)

sweep(
    interpolates,
    block | {"d": [6, 8, 10], "tau": tau, "steps": 5_000},
    "book/data/one-block-threshold-steps.nc",
    name="interpolates",
    seed=8,
    runs=(4, 4),
)

sweep(
    interpolates,
    SETTING
    | {
        "model": "two-blocks", "rate": 2e-2, "d": [4, 5, 6, 7, 8],
        "tau": [2.5, 3.0, 3.5, 4.2, 5.0],
        "steps": 8_000,
    },
    "book/data/blocks-threshold.nc",
    name="interpolates",
    seed=3,
    runs=(6, 6),
)  # fmt: skip

sweep(
    interpolates,
    SETTING
    | {
        "model": "two-blocks", "rate": 2e-2, "d": [4, 6],
        "tau": [2.5, 3.0, 3.5, 4.2, 5.0], "steps": [2_000, 4_000],
    },
    "book/data/blocks-threshold-steps.nc",
    name="interpolates",
    seed=6,
    runs=(6, 6),
)  # fmt: skip

sweep(
    interpolates,
    softmax | {"d": [6, 8, 12], "tau": [1.3, 1.6, 1.9, 2.2], "steps": [2_500, 5_000]},
    "book/data/softmax-threshold-steps.nc",
    name="interpolates",
    seed=4,
    runs=(8, 8),
)

sweep(
    linear_threshold,
    SETTING | {"d": [28], "starts": 1},
    "book/data/linear-threshold-large.nc",
    name="linear_threshold",
    seed=5,
    runs=(2, 2),
)
