"""One run: draw tasks and contexts, fit Γ*, measure its exact errors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from iclkit import _validate, backend
from iclkit._types import Seed, checked
from iclkit.data._at import LawOrWord, law_at, span
from iclkit.data.contexts import Statistics, draw_statistics
from iclkit.data.laws import Law
from iclkit.data.moments import population_moments, prediction_error, task_moments
from iclkit.data.tasks import ASSIGNMENTS, _prior_of, assign_tasks, draw_tasks
from iclkit.fits.fit import fit_gamma
from iclkit.runs import _expected


class _Sizes(NamedTuple):
    n: int
    k: int
    ell: int
    fresh: bool  # κ = ∞: every context has its own task
    ell_test: int


def _sizes(
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    assignment: str = "uniform",
    prior: str | None = None,
    tasks: LawOrWord | None = None,
    test_tasks: LawOrWord | None = None,
    tokens: LawOrWord | None = None,
    test_tokens: LawOrWord | None = None,
    alpha_test: float | None = None,
    rho_test: float | None = None,
) -> _Sizes:
    """Check the parameters of a run, and turn ratios of the theory into whole numbers."""
    d = _validate.count("d", d)
    _validate.scalar(_validate.nonnegative, "rho", rho)
    _validate.scalar(_validate.signed, "lam", lam)
    _validate.choice("assignment", assignment, ASSIGNMENTS)
    laws = {"tasks": tasks, "test_tasks": test_tasks, "tokens": tokens, "test_tokens": test_tokens}
    for name, law in laws.items():
        law_at(name, law, d)
    _prior_of(prior, tasks)
    _prior_of(prior, test_tasks)
    if rho_test is not None:
        _validate.scalar(_validate.nonnegative, "rho_test", rho_test)
    n = _validate.size("tau", tau, d**2, "n = tau * d**2")
    ell = _validate.size("alpha", alpha, d, "ell = alpha * d")
    fresh = _validate.scalar(_validate.positive, "kappa", kappa) == np.inf
    k = n if fresh else _validate.size("kappa", kappa, d, "k = kappa * d")
    if alpha_test is None:
        return _Sizes(n, k, ell, fresh, ell)
    return _Sizes(n, k, ell, fresh, _validate.size("alpha_test", alpha_test, d, "ell = alpha * d"))


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
    prior: str | None = None,
    tasks: LawOrWord | None = None,
    test_tasks: LawOrWord | None = None,
    tokens: LawOrWord | None = None,
    test_tokens: LawOrWord | None = None,
    alpha_test: float | None = None,
    rho_test: float | None = None,
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
    prior : {"sphere", "gaussian"}, optional
        Law of u in tasks w = C^½ u, of pretraining and new ones, see `iclkit.data.draw_tasks`; by
        default on the sphere, and Gaussian where C is given.
    tasks, tokens : law or str, optional
        Covariances C of the tasks and Σ of the tokens: a matrix, eigenvalues, what
        `iclkit.data.laws` makes, or its name in words, such as "power_law(0.5)", see
        `iclkit.data.draw_tasks`; by default the identity.
    test_tasks, test_tokens : law or str, optional
        Those of contexts with new tasks; by default those of pretraining.
    alpha_test, rho_test : float, optional
        Context length and noise of all test contexts; by default those of pretraining.

    Returns
    -------
    dict
        Exact for this Γ*, `icl_error` on new tasks, and `idg_error` on the pretraining tasks, with
        tokens as in pretraining.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or n, k or ℓ rounds to 0; an `IndefiniteError` of
        `iclkit.fits.solvers` if λ is negative and too low for what is drawn.

    Notes
    -----
    The arrays live where `iclkit.backend.namespace` says. Laws may be bound by
    `functools.partial`, and as words be in the grid of `iclkit.runs.sweep`.

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
    n, k, ell, fresh, ell_test = _sizes(
        d=d, tau=tau, alpha=alpha, kappa=kappa, rho=rho, lam=lam, assignment=assignment,
        prior=prior, tasks=tasks, test_tasks=test_tasks, tokens=tokens, test_tokens=test_tokens,
        alpha_test=alpha_test, rho_test=rho_test,
    )  # fmt: skip
    tasks, tokens = law_at("tasks", tasks, d), law_at("tokens", tokens, d)
    streams = backend.streams(seed, backend.namespace())
    test = ell_test, rho if rho_test is None else rho_test
    w, of = draw_tasks(k, d, streams.tasks, prior=prior, tasks=tasks), None
    if fresh:
        pretraining = population_moments(d, *test, prior=prior, tasks=tasks, tokens=tokens)
    else:
        of = assign_tasks(n, k, streams.tasks, assignment=assignment)
        pretraining = task_moments(w, *test, tokens=tokens)
    statistics = draw_statistics(w, ell, rho, streams, of=of, tokens=tokens)
    del w, of  # as large as the data where each context has a task of its own
    gamma = _fit(statistics, lam, tokens)
    population = population_moments(
        d, *test, prior=prior,
        tasks=tasks if test_tasks is None else test_tasks,
        tokens=tokens if test_tokens is None else test_tokens,
    )  # fmt: skip
    return {
        "icl_error": prediction_error(gamma, population),
        "idg_error": prediction_error(gamma, pretraining),
    }


def _fit(statistics: Statistics, lam: float, tokens: Law | None) -> Any:
    x, h, y = statistics
    d = x.shape[1]
    directions = span(tokens, d, x)
    if directions is None or lam < 0:
        # Means over many runs are to show more digits than one run does.
        return fit_gamma(x, h, y, lam, accuracy=1e-5).gamma
    # In directions that tokens do not have, Γ is 0. Left in, they would rule out all quick solvers.
    xp = array_namespace(x)
    seen = xp.concat([h[:, :d] @ directions, h[:, d:]], axis=1)
    share = directions.shape[1] / d
    small = fit_gamma(x @ directions, seen, y, lam * share, accuracy=1e-5).gamma
    return directions @ xp.concat([small[:, :-1] @ directions.T, small[:, -1:]], axis=1)


# Not by the decorator, which is part of what files of results are recognised by.
linear_attention.expected = _expected.errors
