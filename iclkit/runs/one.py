"""One run: draw tasks and contexts, fit Γ*, measure its exact errors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from iclkit import _validate, backend
from iclkit._types import Seed, checked
from iclkit.data.contexts import draw_statistics
from iclkit.data.moments import population_moments, prediction_error, task_moments
from iclkit.data.tasks import ASSIGNMENTS, PRIORS, assign_tasks, draw_tasks
from iclkit.fits.fit import fit_gamma
from iclkit.runs import _expected


class _Sizes(NamedTuple):
    n: int
    k: int
    ell: int
    fresh: bool  # κ = ∞: every context has its own task


def _sizes(
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    assignment: str = "uniform",
    prior: str = "sphere",
) -> _Sizes:
    """Check the parameters of a run, and turn ratios of the theory into whole numbers."""
    d = _validate.count("d", d)
    _validate.scalar(_validate.nonnegative, "rho", rho)
    _validate.scalar(_validate.signed, "lam", lam)
    _validate.choice("assignment", assignment, ASSIGNMENTS)
    _validate.choice("prior", prior, PRIORS)
    n = _validate.size("tau", tau, d**2, "n = tau * d**2")
    ell = _validate.size("alpha", alpha, d, "ell = alpha * d")
    fresh = _validate.scalar(_validate.positive, "kappa", kappa) == np.inf
    return _Sizes(n, n if fresh else _validate.size("kappa", kappa, d, "k = kappa * d"), ell, fresh)


@checked(_sizes)
def linear_attention(
    seed: Seed,
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    assignment: str = "uniform",
    prior: str = "sphere",
) -> dict[str, float]:
    """Fit Γ* to fresh data once, and measure its exact errors.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    d : int
        Dimension, at least 1.
    tau : float
        Pretraining contexts τ = n/d², positive and finite; n is rounded.
    alpha : float
        Context length α = ℓ/d, positive and finite; ℓ is rounded.
    kappa : float
        Task diversity κ = k/d, in (0, inf]; k is rounded, and at inf every context has its own
        task.
    rho : float
        Variance of the label noise, at least 0.
    lam : float
        Ridge λ; zero is the ridgeless limit, and a negative one may be too low for a draw, see
        `iclkit.fits.fit_gamma`.
    assignment : {"uniform", "balanced"}
        How contexts pick their task, see `iclkit.data.assign_tasks`.
    prior : {"sphere", "gaussian"}
        Law of the tasks, of pretraining and new ones, see `iclkit.data.draw_tasks`.

    Returns
    -------
    dict
        `icl_error` and `idg_error`, exact for this Γ*.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or n, k or ℓ rounds to 0; an `IndefiniteError` of
        `iclkit.fits.solvers` if λ is negative and too low for what is drawn.

    Notes
    -----
    The arrays live where `iclkit.backend.namespace` says.

    Examples
    --------
    >>> from iclkit import runs, theory
    >>> point = {"tau": 4.0, "alpha": 1.0, "kappa": 1.0, "rho": 0.1}
    >>> errors = runs.linear_attention(0, d=20, **point)
    >>> sorted(errors)
    ['icl_error', 'idg_error']
    >>> print(abs(errors["idg_error"] - theory.idg_error(**point)) < 0.1)  # d is small
    True
    """
    n, k, ell, fresh = _sizes(
        d=d, tau=tau, alpha=alpha, kappa=kappa, rho=rho, lam=lam, assignment=assignment, prior=prior
    )
    streams = backend.streams(seed, backend.namespace())
    population = population_moments(d, ell, rho, prior=prior)
    tasks = draw_tasks(k, d, streams.tasks, prior=prior)
    if fresh:
        w, pretraining = tasks, population
    else:
        w = tasks[assign_tasks(n, k, streams.tasks, assignment=assignment)]
        pretraining = task_moments(tasks, ell, rho)
    # Iterations in float32 keep the tolerance, and take little more than half the time.
    gamma = fit_gamma(*draw_statistics(w, ell, rho, streams), lam, dtype="float32").gamma
    return {
        "icl_error": prediction_error(gamma, population),
        "idg_error": prediction_error(gamma, pretraining),
    }


# Not by the decorator, which is part of what files of results are recognised by.
linear_attention.expected = _expected.errors
