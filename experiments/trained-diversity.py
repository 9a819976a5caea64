"""Task diversity in a trained network: paper 1's figure 6, at a small size.

Two softmax blocks, trained on new contexts at every step. Fifteen minutes on two cores.
"""

from iclkit.runs import sweep
from iclkit.trained.trials import diverse_attention

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
