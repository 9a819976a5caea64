"""Fits tested in other ways than they were trained: contexts, noise, tokens, and the worst tasks.

The first sweep has isotropic tasks and tokens, without ridge, and tests on eight kinds of contexts,
on new tasks and on those of pretraining. The second is the same where contexts are fewer than
parameters, and the model is worse than an answer of zero. The third has tokens and tasks whose
covariances don't commute, tested on tokens of three kinds. The fourth has tasks of a law that are
tested on the worst laws nearby: that of one who knows the settings, and that of one who knows the
fit. Fifteen minutes on one busy core.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq

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
from iclkit.theory import structured

# Small sizes are there to be extrapolated.
warnings.filterwarnings("ignore", "tasks have .* directions")
# Of each test, by its name, the length of contexts over that of pretraining, and the noise, which
# is that of pretraining where there is none.
CONTEXTS = {
    "quarter": (0.25, None),
    "half": (0.5, None),
    "own": (1.0, None),
    "double": (2.0, None),
    "fourfold": (4.0, None),
    "long": (16.0, None),
    "quiet": (1.0, 0.0),
    "noisy": (1.0, 1.0),
}
RADIUS = 0.5
TASKS = {
    "two levels": lambda d: laws.two_level(0.5, 0.1),
    "power law": lambda d: laws.power_law(0.5, d),
}


def fitted(
    seed: np.random.SeedSequence,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float,
    tasks: np.ndarray | None = None,
    tokens: np.ndarray | None = None,
    squares: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Tasks and Γ of one run, with or without the mean square of labels as an input."""
    n, k, ell = round(tau * d**2), round(kappa * d), round(alpha * d)
    streams = backend.streams(seed, np)
    w = draw_tasks(k, d, streams.tasks, tasks=tasks)
    of = assign_tasks(n, k, streams.tasks)
    x, h, y = draw_statistics(w[of], ell, rho, streams, tokens=tokens)
    if not squares:
        h[:, -1] = 0
    return w, fit_gamma(x, h, y, lam, dtype="float32").gamma


def contexts_and_noise(
    seed: np.random.SeedSequence,
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float,
) -> dict[str, float]:
    """Errors of one fit on new and old tasks, for test contexts of six lengths and two noises."""
    w, gamma = fitted(seed, d, tau, alpha, kappa, rho, lam)
    found = {}
    for name, (longer, noise) in CONTEXTS.items():
        ell, noise = round(longer * alpha * d), rho if noise is None else noise
        found[f"icl_{name}"] = prediction_error(gamma, population_moments(d, ell, noise))
        found[f"idg_{name}"] = prediction_error(gamma, task_moments(w, ell, noise))
    return found


def covariances(d: int) -> dict[str, np.ndarray]:
    """Laws that don't commute: tokens along the axes, tasks and other tokens in bases of their own.

    The bases are those of d = 8 in blocks, so that they are the same at each multiple of 8.
    """
    rng = np.random.default_rng(11)
    turn, other = (np.linalg.qr(rng.standard_normal((8, 8)))[0] for _ in range(2))

    def block(values: np.ndarray, basis: np.ndarray) -> np.ndarray:
        C = np.kron((basis * (values / values.mean())) @ basis.T, np.eye(d // 8))
        symmetric: np.ndarray = (C + C.T) / 2
        return symmetric

    flat, falls = np.eye(8), np.geomspace(2.0, 0.3, 8)
    return {
        "own": block(falls, flat),
        "tasks": block(np.array([3.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.3, 0.2]), turn),
        "reversed": block(falls[::-1], flat),
        "turned": block(falls, other),
    }


def other_tokens(
    seed: np.random.SeedSequence,
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float,
) -> dict[str, float]:
    """Errors of one fit on new tasks with tokens of three covariances."""
    of = covariances(d)
    _, gamma = fitted(seed, d, tau, alpha, kappa, rho, lam, of["tasks"], of["own"])
    ell = round(alpha * d)
    return {
        test: prediction_error(
            gamma, population_moments(d, ell, rho, tasks=of["tasks"], tokens=of[test])
        )
        for test in ("own", "reversed", "turned")
    }


def worst_of_fit(gamma: np.ndarray, C: np.ndarray, ell: int, rho: float) -> float:
    """Largest error at the distance RADIUS, for one who knows Γ: the dual at its root."""
    d = len(C)
    G = gamma[:, :d]
    size = float(np.sum(G**2)) / ell
    missed = np.eye(d) - G
    levels, basis = np.linalg.eigh(missed.T @ missed + G.T @ G / ell + size * np.eye(d))
    shares = C @ basis**2

    def excess(gap: float) -> float:
        moved = levels / (levels[-1] + gap - levels)
        return float(np.mean(shares * moved**2)) - RADIUS**2

    gap = brentq(excess, 1e-9 * levels[-1], 1e6 * levels[-1], xtol=1e-12, rtol=1e-12)
    eta = levels[-1] + gap
    task_part = eta * RADIUS**2 + np.mean(shares * eta * levels / (eta - levels))
    return float(rho * (1 + size) + task_part)


def worst_tasks(
    seed: np.random.SeedSequence,
    *,
    law: str,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float,
) -> dict[str, float]:
    """Errors of one fit on its own law, on the worst one by the settings, and by the fit."""
    C = laws.eigenvalues(TASKS[law](d), d)
    _, gamma = fitted(seed, d, tau, alpha, kappa, rho, lam, C, squares=False)
    ell = round(alpha * d)
    blind = structured.worst_law(RADIUS, tau, alpha, kappa, rho, lam, tasks=C)
    return {
        "own": prediction_error(gamma, population_moments(d, ell, rho, tasks=C)),
        "blind": prediction_error(gamma, population_moments(d, ell, rho, tasks=blind)),
        "knowing": worst_of_fit(gamma, C, ell, rho),
    }


BELOW = {"tau": 0.5, "alpha": 2.0, "rho": 0.25, "lam": 0.0}
PLAIN = {"tau": 4.0, "alpha": 4.0, "rho": 0.1, "lam": 0.0}
RIDGED = {"tau": 1.5, "alpha": 4.0, "rho": 0.1, "lam": 0.2}
SWEEPS: dict[str, tuple[Callable[..., dict[str, float]], dict[str, Any]]] = {
    "": (contexts_and_noise, PLAIN | {"kappa": [0.5, 1.0, 4.0], "d": [24, 32, 48]}),
    "-below": (contexts_and_noise, BELOW | {"kappa": [0.25, 1.0, 4.0], "d": [48, 64, 96]}),
    "-tokens": (other_tokens, RIDGED | {"kappa": [0.5, 4.0], "d": [16, 24, 32, 48]}),
    "-worst": (
        worst_tasks, RIDGED | {"law": list(TASKS), "kappa": [0.5, 4.0], "d": [16, 24, 40, 56]}
    ),
}  # fmt: skip
if __name__ == "__main__":
    for name, (run, grid) in SWEEPS.items():
        sweep(
            run,
            grid,
            f"book/data/train-one-way{name}.nc",
            name=run.__name__,
            seed=1,
            precision=0.003,
            runs=(24, 1500),
            workers=1,
        )
