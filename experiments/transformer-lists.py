"""A practitioner's transformer that is trained on a list of tasks, with new contexts and without.

Eight lists, from one task to a thousand; new contexts at every step, then a sample of 10,000 that
is gone through again and again. An hour on one core.
"""

import numpy as np

from iclkit.runs import sweep
from iclkit.trained.transformer import trained_transformer

for file, tau, seed in (("lists", np.inf, 906), ("lists-sample", 400.0, 907)):
    sweep(
        trained_transformer,
        {
            "d": 5, "alpha": 2.0, "rho": 0.01, "width": 32, "scaling": "mup", "rate": 3e-3,
            "steps": 10_000, "tau": tau, "kappa": [0.2, 0.6, 1.0, 2.4, 6.4, 20.0, 50.0, 200.0],
        },
        f"book/data/transformer-{file}.nc",
        name="trained_transformer",
        seed=seed,
        runs=(2, 2),
        workers=1,
    )  # fmt: skip
