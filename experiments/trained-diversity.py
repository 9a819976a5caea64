"""Task diversity in a trained network: paper 1's figure 6, at a small size.

Two softmax blocks, trained on new contexts at every step; and on a fixed sample by the recipe and
with the network of the published runs, which have no residual connection around the attention. Half
an hour on two cores.
"""

import numpy as np

from iclkit.runs import sweep
from iclkit.trained.trials import diverse_attention, trained_attention

sweep(
    diverse_attention,
    {
        "model": "two-blocks", "d": 5, "alpha": 2.0, "rho": 0.01, "width": 20, "steps": 6000,
        "kappa": [0.2, 0.4, 0.6, 1.0, 1.6, 2.4, 4.0, 8.0, 20.0, 50.0, 100.0, 200.0],
    },
    "book/data/diverse-attention.nc",
    name="diverse_attention",
    seed=1,
    runs=(3, 3),
)  # fmt: skip

# A quarter of the steps, with a schedule of their own length.
sweep(
    diverse_attention,
    {
        "model": "two-blocks", "d": 5, "alpha": 2.0, "rho": 0.01, "width": 20, "steps": 1500,
        "kappa": 20.0,
    },
    "book/data/diverse-attention-steps.nc",
    name="diverse_attention",
    seed=3,
    runs=(4, 4),
)  # fmt: skip

fixed = {
    "tau": 10.0, "alpha": 1.0, "rho": 0.01, "steps": 220_000, "rate": 1e-4,
    "schedule": "constant", "batches": 10, "overlap": True, "clip": np.inf, "dtype": "float32",
}  # fmt: skip
sweep(
    trained_attention,
    fixed | {"model": "two-blocks-mlp-residual", "d": 5, "kappa": [0.2, 0.6, 1.0, 1.6, 2.4, 4.0]},
    "book/data/fixed-diversity.nc",
    name="trained_attention",
    seed=2,
    runs=(3, 3),
)
