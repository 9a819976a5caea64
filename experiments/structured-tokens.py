"""Pretraining with tokens of a covariance, tested with the same ones and with isotropic ones.

Every fit is tested on new tasks, with tokens as in pretraining and with isotropic ones, and on its
pretraining tasks. Nine points have tokens of a covariance, and two of them tasks in a basis of
their own; the last two have isotropic tokens, tasks of low rank and long contexts. Each has four
sizes, and the two that are farthest from theory have a second sample. Half an hour on a busy core.
"""

import numpy as np
import xarray as xr

from iclkit import backend
from iclkit.data import (
    assign_tasks,
    draw_statistics,
    draw_tasks,
    laws,
    population_moments,
    prediction_error,
    task_moments,
)
from iclkit.fits import fit_gamma
from iclkit.runs import sweep

LAWS = {
    "flat": lambda d: laws.isotropic(),
    "power 0.3": lambda d: laws.power_law(0.3, d),
    "power 0.5": lambda d: laws.power_law(0.5, d),
    "quarter": lambda d: laws.two_level(0.25, 0.2),
    "half": lambda d: laws.two_level(0.5, 0.2),
    "low rank": lambda d: laws.low_rank(0.5),
}


def law_of(name: str, d: int) -> np.ndarray:
    """Return eigenvalues of a law, in reverse order or in a basis of their own if its name says so.

    >>> law_of("half, reversed", 2)
    array([0.2, 1.8])
    """
    name, _, how = name.partition(", ")
    values = laws.eigenvalues(LAWS[name](d), d)
    if how == "rotated":
        basis = np.linalg.qr(np.random.default_rng(d).standard_normal((d, d)))[0]
        return laws.matrix(laws.spectrum(values)._replace(basis=basis, d=d), d)
    return values[::-1] if how == "reversed" else values


def on_tokens(
    seed: np.random.SeedSequence,
    *,
    tokens: str,
    tasks: str,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float,
) -> dict[str, float]:
    """Errors of one fit on new tasks, with tokens of two laws, and on those of pretraining."""
    S, C = law_of(tokens, d), law_of(tasks, d)
    n, ell = round(tau * d**2), round(alpha * d)
    k = n if kappa == np.inf else round(kappa * d)
    streams = backend.streams(seed, np)
    w = draw_tasks(k, d, streams.tasks, tasks=C)
    of = np.arange(n) if kappa == np.inf else assign_tasks(n, k, streams.tasks)
    drawn = draw_statistics(w[of], ell, rho, streams, tokens=S)
    gamma = fit_gamma(*drawn, lam, dtype="float32").gamma
    own = population_moments(d, ell, rho, tasks=C, tokens=S)
    other = population_moments(d, ell, rho, tasks=C)
    old = own if kappa == np.inf else task_moments(w, ell, rho, tokens=S)
    return {
        name: prediction_error(gamma, moments)
        for name, moments in (("icl", own), ("shifted", other), ("idg", old))
    }


# tokens, tasks, τ, α, κ, λ
POINTS = [
    ("power 0.5", "flat", 2.0, 3.0, 1.0, 0.0),
    ("power 0.3", "quarter", 1.5, 2.0, np.inf, 0.0),
    ("power 0.3", "power 0.5, rotated", 2.0, 5.0, 1.0, 0.1),
    ("quarter", "power 0.5", 1.0, 3.0, 2.0, 0.1),
    ("power 0.5", "flat", 0.5, 3.0, 0.5, 0.0),
    ("quarter", "flat", 0.5, 3.0, 0.5, 0.0),
    ("half", "power 0.5", 0.75, 2.0, 1.0, 0.0),
    ("half", "power 0.5, reversed", 0.375, 3.0, np.inf, 0.05),
    ("half", "power 0.5, rotated", 0.625, 3.0, 0.75, 0.01),
    ("flat", "low rank", 2.0, 15.0, 1.0, 0.0),
    ("flat", "low rank", 2.0, 15.0, 0.25, 0.0),
]
# With few contexts or tasks the corrections in 1/d are larger, and fits quicker.
SMALL, LARGE = [16, 24, 40, 80], [24, 40, 56, 88]
names = ("tokens", "tasks", "tau", "alpha", "kappa", "lam")
columns = zip(names, zip(*POINTS, strict=True), strict=True)
grid = {name: xr.DataArray(list(column), dims="point") for name, column in columns}
few = (grid["tau"] < 1) | (grid["kappa"] < 1)
sizes = [LARGE if is_few else SMALL for is_few in few.values]

# The points that are farthest from theory in the first sample are drawn a second time.
FAR = [5, 10]

if __name__ == "__main__":
    for name, some, seed, runs in (("", slice(None), 1, (40, 300)), ("-again", FAR, 2, (120, 300))):
        part = {key: column[some] for key, column in grid.items()}
        at = xr.DataArray(sizes, dims=("point", "size"))[some]
        sweep(
            on_tokens,
            part | {"rho": 0.1, "d": at},
            f"book/data/structured-tokens{name}.nc",
            name="on_tokens",
            seed=seed,
            precision=0.005,
            runs=runs,
            workers=1,
        )
