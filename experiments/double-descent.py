"""Double descent in τ at d = 100, as in figure 1 of paper 1.

(a, b) errors without ridge at κ = 0.5 for four context lengths; (c) ICL error at α = 10 and κ = ∞
for several ridges. Half an hour on two cores.
"""

import numpy as np

from iclkit.sweep import linear_attention, sweep

TAU = np.round(np.geomspace(0.1, 10, 25), 3)

sweep(
    linear_attention,
    {"tau": TAU, "alpha": [0.2, 1.0, 10.0, 100.0], "d": 100, "kappa": 0.5, "rho": 0.01},
    "book/data/double-descent.nc",
    seed=1,
    runs=(10, 10),
)
