r"""The errors at a finite dimension, to first order in 1/d.

Both errors are e(d) = e·(1 + c/d + O(d⁻²)) with the limit e of `iclkit.theory` and a coefficient c
that is known in closed form up to one integral: no fit, and no sampling. The limit and the
coefficient are those of τ = n/(d(d + 1)), contexts per parameter of Γ, so that without ridge the
pole is where it is at every d, at n = d(d + 1). `iclkit.theory.icl_error` and `idg_error` take `d`
and do the conversion. Steps of the derivation are heuristic, and were checked by simulation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from iclkit import _validate
from iclkit._labels import labelled
from iclkit.data.laws import AnyLaw
from iclkit.data.tasks import ASSIGNMENTS, PRIORS
from iclkit.theory import _equivalent, _expansion, _spectrum
from iclkit.theory._first_order import EFFECTS

_TESTS = ("icl", "idg")
# From the pole of a strength to the next singularity of c; closer ones leave no digits.
_NEAREST = 2e-3


@labelled("tasks", "test_tasks")
def finite_size_coefficient(
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
    *,
    test: str = "icl",
    assignment: str = "uniform",
    prior: str = "sphere",
    tasks: AnyLaw | None = None,
    test_tasks: AnyLaw | None = None,
    alpha_test: ArrayLike | None = None,
    rho_test: ArrayLike | None = None,
    effect: str | None = None,
) -> Any:
    """Coefficient c of an error e·(1 + c/d + O(d⁻²)) at finite size.

    Parameters
    ----------
    tau : float or array
        Contexts per parameter, τ = n/(d(d + 1)), positive and finite. In the limit e it is τ, too.
    alpha : float or array
        Context length α = ℓ/d, positive and finite.
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    lam : float or array
        Ridge λ, at least 0.
    test : {"icl", "idg"}
        The error on new tasks or on the pretraining tasks.
    assignment : {"uniform", "balanced"}
        How contexts pick their task, see `iclkit.data.assign_tasks`. Balanced is for many contexts
        of each task, n/k of them; at κ = ∞, where each context has a task of its own, both are the
        same.
    prior : {"sphere", "gaussian"}
        Law of isotropic tasks, see `iclkit.data.draw_tasks`.
    tasks : law, optional
        The covariance of Gaussian tasks, as in `iclkit.theory.icl_error`; by default the identity.
    test_tasks : law, optional
        The covariance of new tasks, by default that of pretraining; it may be a single direction.
        What is on its diagonal in the eigenbasis of the tasks counts. By the variance of |w|²/d,
        which counts in a few directions only, its dimension does, too: a law without one, by the
        shares of its directions, has none. `iclkit.theory.icl_error` takes it from its `d`.
    alpha_test, rho_test : float or array, optional
        Context length and noise of the test contexts; by default those of pretraining.
    effect : str, optional
        The part of c that comes by one effect, of these: "few contexts", "spread of tasks",
        "mixed blocks", "one task at a time", "length of a context", "its fluctuations",
        "assignment", "last coordinate", "length of a task", and "count", which is that of contexts
        per d(d + 1) and not per d². All parts add up to c, at κ = ∞ to seven digits; for the error
        on the pretraining tasks, each holds what it does to the fit, and to the leverage of a
        context that is added. Of "assignment", a balanced one leaves nothing for new tasks, and for
        those of pretraining that the context added is a whole one.

    Returns
    -------
    float or array
        c, broadcast over the arguments. It has eleven digits where the error is of order one, and
        fewer near the pole, where what is lost grows like 1/((τ − 1)² + λ), or for contexts of more
        than 10⁶ d tokens.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range; if there are test tasks for the error on those of
        pretraining; if (τ − 1)² + λ is below 1e-12, where
        `iclkit.theory.pole_strength` has the answer; or if no digits would be left.

    Notes
    -----
    The law of a context's features, the number of contexts per task and the last coordinate of h
    all count to this order; the length of a task, where it fluctuates, does so, too. Source:
    eq-first-order, eq-finite-length, eq-finite-other-context, eq-finite-spectrum and
    eq-finite-other-tasks in the book.

    Examples
    --------
    >>> from iclkit import theory
    >>> point = {"tau": 1.2, "alpha": 1.0, "kappa": 0.5, "rho": 0.01}
    >>> print(theory.finite_size_coefficient(**point).round(3))
    5.706
    >>> print(theory.finite_size_coefficient(**point, test="idg", assignment="balanced").round(3))
    4.435
    """
    _validate.choice("test", test, _TESTS)
    _validate.choice("assignment", assignment, ASSIGNMENTS)
    _validate.choice("prior", prior, PRIORS)
    if effect is not None:
        _validate.choice("effect", effect, EFFECTS)
    tau, alpha, kappa, rho, lam = _expansion.point(tau, alpha, kappa, rho, lam)
    if test == "idg" and test_tasks is not None:
        raise ValueError("test_tasks must be None for the pretraining tasks, test='idg'")
    law, unit, variance = _spectrum.law_of(tasks, test_tasks)
    how = assignment, prior == "gaussian" or tasks is not None, law, variance
    other = _expansion.other_test(alpha_test, rho_test, unit)
    points = _expansion.broadcast(tau, alpha, kappa, rho / unit, lam / unit, *other)
    limit, first = _expansion.to_first_order(test, *how, *points, effect=effect)
    return (first / limit)[()]


@labelled()
def pole_strength(
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    *,
    d: ArrayLike | None = None,
    test: str = "icl",
    assignment: str = "uniform",
    prior: str = "sphere",
) -> Any:
    """Strength A of the pole of an error without ridge, which is A/|τ − 1| close to τ = 1.

    Parameters
    ----------
    alpha : float or array
        Context length α = ℓ/d, positive and finite.
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    d : int or array, optional
        Dimension; by default the limit. With it, A·(1 + c/d), and τ = n/(d(d + 1)); ℓ and k are
        not rounded.
    test : {"icl", "idg"}
        The error on new tasks or on the pretraining tasks.
    assignment : {"uniform", "balanced"}
        How contexts pick their task, which counts at a finite d only. Balanced is for many contexts
        of each task.
    prior : {"sphere", "gaussian"}
        Law of the tasks, which counts at a finite d only.

    Returns
    -------
    float or array
        A, the same on both sides of the pole, broadcast over the arguments. The coefficient c is
        extrapolated to the pole, and has seven digits, or four with long contexts at κ close to 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or no digits would be left.

    Notes
    -----
    At a finite d the error is that of a mean over draws, for d·|τ − 1| much above 1: at the pole
    itself there is none. Source: eq-pole-strength in the book.

    Examples
    --------
    >>> from iclkit import theory
    >>> print(theory.pole_strength(1.0, 0.5, 0.1, d=[20, 10**6]).round(3))
    [0.78  0.563]
    >>> print(theory.pole_strength(1.0, 0.5, 0.1).round(3))
    0.563
    """
    _validate.choice("test", test, _TESTS)
    _validate.choice("assignment", assignment, ASSIGNMENTS)
    _validate.choice("prior", prior, PRIORS)
    _, alpha, kappa, rho, _ = _expansion.point(1.0, alpha, kappa, rho, 0.0)
    d = np.asarray(np.inf) if d is None else _validate.counts("d", d)
    d, alpha, kappa, rho = _expansion.broadcast(d, alpha, kappa, rho)
    q = (1 + rho) / alpha
    m = _equivalent.positive_root(q, 1 / kappa, _equivalent.one_minus_ratio(1.0, kappa))
    _, c, D = _equivalent.shift(m, np.zeros_like(q), q, kappa)
    # The numerator of eq-idg-error at ξ = 0, with the traces of `_equivalent.errors`.
    f2 = (c * m) ** 2 * (1 + (q / D) * (q * m) / kappa)
    strength = rho + q * f2 + c**2 * (q * m) * (q / D)
    strength = strength * ((1 + q) * m if test == "icl" else 1.0)
    if np.all(np.isinf(d)):
        return strength[()]
    # A polynomial through points above the pole, which are far enough from it to have digits. With
    # long contexts c changes fast near τ = κ, where it has a branch point off the real axis.
    away = np.hypot(_equivalent.one_minus_ratio(1.0, kappa), 2 * np.sqrt(q))
    if np.any(away < _NEAREST):
        worst = away.argmin()
        raise ValueError(
            f"alpha must be at most {4 * (1 + rho.flat[worst]) / _NEAREST**2:g} at finite size for "
            f"kappa = {kappa.flat[worst]:g}, close to 1, got {alpha.flat[worst]:g}"
        )
    distance = np.minimum(0.002, 0.008 * away)[..., None] * np.arange(1, 7)
    weights = np.array([6, -15, 20, -15, 6, -1])  # of its value at the pole
    near = (array[..., None] for array in (alpha, kappa, rho))
    points = _expansion.broadcast(1 + distance, *near, 0.0, np.nan, np.nan)
    how = assignment, prior == "gaussian", None, 0.0
    limit, first = _expansion.to_first_order(test, *how, *points)
    coefficient = np.sum(first / limit * weights, axis=-1)
    return (strength * (1 + coefficient / d))[()]
