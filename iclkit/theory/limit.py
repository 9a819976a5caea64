r"""The limit theory: Stieltjes transform, effective ridge and the two errors, in closed form.

Throughout q = (1 + ρ)/α, and "tr" is the normalised trace (1/d)Tr. Every quantity is a sum,
product or quotient of nonnegative numbers, so nothing cancels. What makes that possible is the
choice of the unknown: not the effective ridge ξ, but the degrees of freedom s = tr B(B + ξ)⁻¹ that
the fit spends, for which

    M_κ(q + ξ) = s·u,   ξ = (1 − s)/(s·u),   u = M_{κ/s}(q),   λ = ξ·(1 − s/τ).

Without ridge s = min(τ, 1); with one, λ is monotone in s and one root is to be found. A ridge may
be negative down to the edge λ_e, where the errors diverge, see `iclkit.theory.ridge_edge`.
Arguments other than 0 and inf must lie between 1e-75 and 1e75, where no product overflows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import elementwise
from scipy.special import expit

from iclkit import _validate
from iclkit._labels import labelled
from iclkit.data.laws import AnyLaw
from iclkit.data.tasks import ASSIGNMENTS, PRIORS
from iclkit.theory import _equivalent, _expansion, _minimum
from iclkit.theory._numbers import together, where, where_needed

_TESTS = ("icl", "idg")
_LAWS = ("tasks", "test_tasks", "tokens", "test_tokens")
# Where extrema are looked for first: logs of one share of freedom over the other, with a
# ridge above zero and below, or of y/(1 − y).
_COARSE_RIDGE = np.linspace(-80, 80, 321)
_COARSE_BELOW = np.linspace(-150, 80, 461)
_COARSE_CONTEXT = np.linspace(-30, 30, 61)


@labelled()
def stieltjes(x: ArrayLike, kappa: ArrayLike) -> Any:
    """M_κ(x) = tr (R + x)⁻¹ for the covariance R of k = κd random tasks.

    Parameters
    ----------
    x : float or array
        Distance to the spectrum on the negative axis, at least 0.
    kappa : float or array
        Task diversity κ = k/d in (0, inf].

    Returns
    -------
    float or array
        The value; inf at x = 0 for κ ≤ 1, where R has no inverse.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    The positive root m of xm + m/(1 + m/κ) = 1. Source: eq-stieltjes in the book.

    Examples
    --------
    >>> from iclkit import theory
    >>> print(theory.stieltjes(1.0, float("inf")))  # endless tasks: R = I, and M is 1/(1 + x)
    0.5
    >>> print(theory.stieltjes([0.0, 0.5], 2.0).round(3))
    [2.    0.828]
    >>> print(theory.stieltjes(0.0, 0.5))  # fewer tasks than dimensions: R has no inverse
    inf
    """
    x, kappa = together(_validate.nonnegative("x", x), _validate.positive("kappa", kappa))
    with np.errstate(divide="ignore"):
        return _equivalent.positive_root(x, 1 / kappa, _equivalent.one_minus_ratio(1.0, kappa))


@labelled(*_LAWS)
def effective_ridge(
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
    *,
    tasks: AnyLaw | None = None,
    tokens: AnyLaw | None = None,
) -> Any:
    """Ridge ξ that makes a fit with unlimited data equal, on average, to one with n contexts.

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d in (0, inf].
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    lam : float or array
        Ridge λ, at least `iclkit.theory.ridge_edge`, which is at most 0; with laws at least 0.
    tasks, tokens : law, optional
        Covariances, as for `iclkit.theory.icl_error`; by default the identity.

    Returns
    -------
    float or array
        ξ ≥ λ, broadcast over the arguments; negative for λ < 0 and τ > 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    The root of ξ M_κ(q + ξ) − τλ/ξ = 1 − τ. With tokens of eigenvalues s, each row of Γ sees ξ/s.
    Source: eq-effective-ridge, and with tokens eq-tk-ridge, in the book.

    Examples
    --------
    >>> from iclkit import theory
    >>> print(theory.effective_ridge(tau=[0.5, 2.0], alpha=1.0, kappa=1.0, rho=0.1).round(3))
    [1.891 0.   ]
    >>> print(theory.effective_ridge(0.5, 1.0, 1.0, 0.1, lam=0.2).round(3))
    2.275
    """
    if tasks is not None or tokens is not None:
        from iclkit.theory import _structured

        law, numbers = _structured.checked((tasks, None, tokens, None), tau, alpha, kappa, rho, lam)
        return _structured.effective_ridge(law, numbers)[()]
    tau, alpha, kappa, rho, lam = together(*_parameters(tau, alpha, kappa, rho, lam))
    return _solution(tau, (1 + rho) / alpha, kappa, lam)[0].xi


@labelled(*_LAWS)
def icl_error(
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
    *,
    d: ArrayLike | None = None,
    assignment: str = "uniform",
    form: str = "exp",
    prior: str = "sphere",
    tasks: AnyLaw | None = None,
    test_tasks: AnyLaw | None = None,
    tokens: AnyLaw | None = None,
    test_tokens: AnyLaw | None = None,
    alpha_test: ArrayLike | None = None,
    rho_test: ArrayLike | None = None,
) -> Any:
    """Error on new tasks: the in-context-learning error e_ICL.

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d in (0, inf]; at inf and λ = 0, the limit λ → 0 is taken first. With
        laws it is finite.
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    lam : float or array
        Ridge λ, at least `iclkit.theory.ridge_edge`, which is at most 0; with laws at least 0.
    d : int or array, optional
        Dimension, at least 1; by default the limit. At a finite d the error is that of first order
        in 1/d, with n = τd², ℓ and k rounded as in `iclkit.simulate`. It does not hold close to the
        pole, for d·|n/(d(d + 1)) − 1| of order one or less. Units of labels count then if a ridge
        acts, as h has their squares, too.
    assignment : {"uniform", "balanced"}
        How contexts pick their task, see `iclkit.data.assign_tasks`; in the limit it does not
        count.
    form : {"exp", "linear", "hybrid"}
        With c of `iclkit.theory.finite_size_coefficient` and the limit e at n/(d(d + 1)): "exp"
        is e·exp(c/d), "linear" is e·(1 + c/d), and "hybrid" has what single contexts fluctuate to
        all orders, as if tasks were fresh, which is known for isotropic ones. They differ by terms
        of order 1/d²; "linear" is negative where c < −d.
    prior : {"sphere", "gaussian"}
        Law of isotropic tasks, see `iclkit.data.draw_tasks`; in the limit it does not count. Those
        of a law are Gaussian.
    tasks, tokens : law, optional
        Covariances C of the tasks and Σ of the tokens, w ~ N(0, C) and x ~ N(0, Σ/d): a matrix,
        eigenvalues, eigenvalues and the shares of the directions that have them, or what
        `iclkit.data.laws` makes; by default the identity. Nothing is normalised.
    test_tasks, test_tokens : law, optional
        Those at test; by default those of pretraining. Of tasks counts what is on the diagonal in
        the eigenbasis of pretraining, where there is one of both C and Σ. Tokens at test that don't
        have the eigenvectors of those of pretraining take a step that is not proved,
        eq-two-resolvents, tested by simulation.
    alpha_test, rho_test : float or array, optional
        Context length and noise of the test contexts; by default those of pretraining.

    Returns
    -------
    float or array
        The error, label noise included, broadcast over the arguments; inf where it diverges.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or not covered at finite d: τ and α are finite then,
        λ is at least 0, and there is no law of tokens.

    Warns
    -----
    RuntimeWarning
        If |c|/d is above 1/3, or there are at most 10 tasks, where terms that are left out count.
    iclkit.data.laws.FewDirectionsWarning
        If tasks have so few directions that the limit is off by some per cent.

    Notes
    -----
    Source: eq-icl-error and eq-other-context, and for laws eq-structured-errors and eq-tk-errors,
    in the book; at finite d, eq-first-order and eq-finite-other-tasks.

    Examples
    --------
    >>> from iclkit import theory
    >>> from iclkit.data import laws
    >>> print(theory.icl_error(tau=[0.5, 1.0, 4.0], alpha=1.0, kappa=1.0, rho=0.1).round(3))
    [1.487   inf 0.983]
    >>> print(theory.icl_error(4.0, 1.0, 1.0, 0.1, lam=0.2).round(3))
    0.923
    >>> law = laws.power_law(0.5, d=100)
    >>> print(theory.icl_error(4.0, 1.0, 1.0, 0.1, tasks=law).round(3))
    0.909
    >>> print(theory.icl_error(4.0, 1.0, 1.0, 0.1, tasks=law, test_tasks=laws.isotropic()).round(3))
    0.995
    """
    _validate.choice("assignment", assignment, ASSIGNMENTS)
    _validate.choice("form", form, _expansion.FORMS)
    _validate.choice("prior", prior, PRIORS)
    laws = (tasks, test_tasks, tokens, test_tokens)
    if d is None:
        return _errors(tau, alpha, kappa, rho, lam, laws, alpha_test, rho_test)[0]
    _refuse_laws((None, None, *laws[2:]), f"at finite size, d = {d}, where tasks may have a law")
    point = (tau, alpha, kappa, rho, lam)
    how = (assignment, form, prior, tasks, test_tasks)
    return _expansion.error("icl", *point, d, *how, alpha_test, rho_test)


@labelled(*_LAWS)
def idg_error(
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
    *,
    d: ArrayLike | None = None,
    assignment: str = "uniform",
    form: str = "exp",
    prior: str = "sphere",
    tasks: AnyLaw | None = None,
    tokens: AnyLaw | None = None,
    alpha_test: ArrayLike | None = None,
    rho_test: ArrayLike | None = None,
) -> Any:
    """Error on new contexts of the pretraining tasks: the in-distribution error e_IDG.

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d in (0, inf]; at inf and λ = 0, the limit λ → 0 is taken first. With
        laws it is finite.
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    lam : float or array
        Ridge λ, at least `iclkit.theory.ridge_edge`, which is at most 0; with laws at least 0.
    d : int or array, optional
        Dimension, at least 1; by default the limit. At a finite d the error is that of first order
        in 1/d, with n = τd², ℓ and k rounded as in `iclkit.simulate`. It does not hold close to the
        pole, for d·|n/(d(d + 1)) − 1| of order one or less. Units of labels count then if a ridge
        acts, as h has their squares, too.
    assignment : {"uniform", "balanced"}
        How contexts pick their task, see `iclkit.data.assign_tasks`; in the limit it does not
        count.
    form : {"exp", "linear", "hybrid"}
        With c of `iclkit.theory.finite_size_coefficient` and the limit e at n/(d(d + 1)): "exp"
        is e·exp(c/d), "linear" is e·(1 + c/d), and "hybrid" has what single contexts fluctuate to
        all orders, as if tasks were fresh, which is known for isotropic ones. They differ by terms
        of order 1/d²; "linear" is negative where c < −d.
    prior : {"sphere", "gaussian"}
        Law of isotropic tasks, see `iclkit.data.draw_tasks`; in the limit it does not count. Those
        of a law are Gaussian.
    tasks, tokens : law, optional
        Covariances C of the tasks and Σ of the tokens, w ~ N(0, C) and x ~ N(0, Σ/d): a matrix,
        eigenvalues, eigenvalues and the shares of the directions that have them, or what
        `iclkit.data.laws` makes; by default the identity. Nothing is normalised.
    alpha_test, rho_test : float or array, optional
        Context length and noise of the test contexts; by default those of pretraining.

    Returns
    -------
    float or array
        The error, label noise included, broadcast over the arguments; inf where it diverges.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or not covered at finite d: τ and α are finite then,
        λ is at least 0, and there is no law but that of the tasks.

    Warns
    -----
    RuntimeWarning
        If |c|/d is above 1/3, or there are at most 10 tasks, where terms that are left out count.
    iclkit.data.laws.FewDirectionsWarning
        If tasks have so few directions that the limit is off by some per cent.

    Notes
    -----
    Source: eq-idg-error and eq-other-context, and for laws eq-structured-errors and eq-tk-errors,
    in the book; at finite d, eq-first-order.

    Examples
    --------
    >>> from iclkit import theory
    >>> point = {"tau": 4.0, "alpha": 1.0, "kappa": [0.1, 1.0, 100.0], "rho": 0.1}
    >>> print(theory.idg_error(**point).round(3))  # few tasks are easily known by heart
    [0.264 0.67  0.83 ]
    >>> print((theory.icl_error(**point) - theory.idg_error(**point)).round(3))
    [0.94  0.313 0.003]
    """
    _validate.choice("assignment", assignment, ASSIGNMENTS)
    _validate.choice("form", form, _expansion.FORMS)
    _validate.choice("prior", prior, PRIORS)
    laws = (tasks, None, tokens, None)
    if d is None:
        return _errors(tau, alpha, kappa, rho, lam, laws, alpha_test, rho_test)[1]
    _refuse_laws((None, *laws[1:]), f"at finite size, d = {d}, where tasks may have a law")
    point = (tau, alpha, kappa, rho, lam)
    how = (assignment, form, prior, tasks, None)
    return _expansion.error("idg", *point, d, *how, alpha_test, rho_test)


@labelled()
def ridge_edge(tau: ArrayLike, alpha: ArrayLike, kappa: ArrayLike, rho: ArrayLike) -> Any:
    """Edge λ_e ≤ 0 down to which a ridge may be lowered; there both errors diverge.

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d in (0, inf].
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.

    Returns
    -------
    float or array
        λ_e, broadcast over the arguments; 0 at τ = 1, and at α = ∞ for κ ≤ min(τ, 1).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    −λ_e is d/n times the least eigenvalue of ΦᵀΦ for τ > 1 and of ΦΦᵀ for τ < 1, in the limit. At
    a finite d the least eigenvalue is smaller, often by much, and a fit ends before λ_e, see
    `iclkit.fits.fit_gamma`. For κ = ∞ it is λ_e = −(1 + q)(1 − τ^(−1/2))². Source: eq-ridge-edge
    in the book.

    Examples
    --------
    >>> from iclkit import theory
    >>> edge = theory.ridge_edge(tau=0.1, alpha=0.5, kappa=0.05, rho=0.0)
    >>> print(edge.round(2))
    -10.62
    >>> print(theory.idg_error(0.1, 0.5, 0.05, 0.0, lam=[edge, -4.0, 0.0]).round(3))
    [  inf 0.359 0.395]
    """
    tau, alpha, kappa, rho, _ = together(*_parameters(tau, alpha, kappa, rho, 0.0))
    return _equivalent.edge(tau, (1 + rho) / alpha, kappa)[1]


@labelled(*_LAWS)
def optimal_ridge(
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    *,
    test: str = "icl",
    negative: bool = False,
    tasks: AnyLaw | None = None,
    test_tasks: AnyLaw | None = None,
    tokens: AnyLaw | None = None,
    test_tokens: AnyLaw | None = None,
    alpha_test: ArrayLike | None = None,
    rho_test: ArrayLike | None = None,
) -> Any:
    """Ridge λ* at which an error is smallest, of all λ ≥ 0 or of all that are possible.

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d in (0, inf].
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    test : {"icl", "idg"}
        The error to be minimised: on new tasks or on the pretraining tasks.
    negative : bool
        Whether λ may go below 0, down to `iclkit.theory.ridge_edge`; not with laws.
    tasks, test_tasks, tokens, test_tokens : law, optional
        Covariances in pretraining and at test, as for `iclkit.theory.icl_error`; those at test are
        for new tasks only.
    alpha_test, rho_test : float or array, optional
        Context length and noise of the contexts that the error will be measured on; by default
        those of pretraining.

    Returns
    -------
    float or array
        λ*, broadcast over the arguments; 0 where no ridge that is allowed does better. It has about
        ten digits, and fewer where the error hardly depends on λ: at 111 random points, half were
        right to 5e-13, and the worst to 2e-9.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Warns
    -----
    iclkit.data.laws.FewDirectionsWarning
        If tasks have so few directions that the limit is off by some per cent.

    Notes
    -----
    A search over the degrees of freedom s of the fit, which say λ explicitly, and from there
    Newton's method in log ξ, which says λ, too, or below zero in the logit of s. For κ = ∞ and test
    contexts as in pretraining the result is λ* = (1 + q)[ρ(1 + q) + q]/τ; for other ones it is one
    root. With contexts as in pretraining it can be negative only for τ > 2 on new tasks, and for
    τ < 1/2 on those of pretraining. Source: eq-optimal-ridge, thm-negative-ridge and
    eq-ridge-for-the-test in the book.

    Examples
    --------
    >>> from iclkit import theory
    >>> best = theory.optimal_ridge(tau=2.0, alpha=1.0, kappa=1.0, rho=0.1)
    >>> print(best.round(3))
    1.963
    >>> error = theory.icl_error(2.0, 1.0, 1.0, 0.1, lam=[0.9 * best, best, 1.1 * best])
    >>> print(error.argmin())
    1
    >>> print(theory.optimal_ridge(2.0, 1.0, 1.0, 0.1, alpha_test=[0.5, 1.0, 10.0]).round(3))
    [4.604 1.963 0.513]
    >>> point = {"tau": 0.1, "alpha": 0.5, "kappa": 0.05, "rho": 0.0, "test": "idg"}
    >>> print(theory.optimal_ridge(**point), theory.optimal_ridge(**point, negative=True).round(2))
    0.0 -7.7
    """
    _validate.choice("test", test, _TESTS)
    _validate.flag("negative", negative)
    laws = (tasks, test_tasks, tokens, test_tokens)
    if any(law is not None for law in laws):
        if negative:
            raise ValueError("negative must be False with laws, where a ridge is at least 0")
        if test == "idg":
            _refuse_laws((None, test_tasks, None, test_tokens), "for the pretraining tasks")
        from iclkit.theory import _structured

        law, numbers = _structured.checked(laws, tau, alpha, kappa, rho, 0.0)
        of_test = _checked_test(numbers[1], numbers[3], alpha_test, rho_test)
        return _structured.best_ridge(law, numbers, *of_test, _TESTS.index(test))[()]
    tau, alpha, kappa, rho, _ = _parameters(tau, alpha, kappa, rho, 0.0)
    changed = alpha_test is not None or rho_test is not None
    alpha_test, rho_test = _checked_test(alpha, rho, alpha_test, rho_test)
    arrays = (tau, kappa, rho, (1 + rho) / alpha, rho_test, (1 + rho_test) / alpha_test)
    point = tuple(map(np.array, np.broadcast_arrays(*arrays)))
    tau, kappa, _, q, _, _ = point
    ridge, least = _best_from_zero_on(test, *point)
    # With contexts as in pretraining, no ridge below zero does better than none beyond τ = 1.
    some = np.full(tau.shape, True) if changed else (tau > 1) if test == "icl" else (tau < 1)
    some &= _equivalent.edge(tau, q, kappa)[1] < 0 if negative else False
    if np.any(some):
        below, error = _best_below_zero(test, *(array[some] for array in point))
        ridge[some] = np.where(error < least[some], below, ridge[some])
    return ridge[()]


def _best_from_zero_on(
    test: str, tau: Any, kappa: Any, rho: Any, q: Any, rho_test: Any, q_test: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best ridge from zero on and, of its error, what must be undercut."""
    most = _equivalent.most_freedom(tau, kappa, q, ridged=True)

    def fit(z: Any, tau: Any, kappa: Any, q: Any, most: Any) -> Any:
        return _equivalent.from_freedom(*_equivalent.split(z, most), most, q, tau, kappa)

    def error(
        z: Any, tau: Any, kappa: Any, rho: Any, q: Any, most: Any, rho_test: Any, q_test: Any
    ) -> Any:
        solution = fit(z, tau, kappa, q, most)
        both = _equivalent.errors(solution, tau, kappa, rho, q, rho_test, q_test)
        return both[_TESTS.index(test)]

    point = (tau, kappa, rho, q, most, rho_test, q_test)
    with np.errstate(divide="ignore", invalid="ignore"):
        lowest = error(_COARSE_RIDGE.reshape(-1, *(1,) * tau.ndim), *point).argmin(axis=0)
        middle = np.clip(lowest, 1, _COARSE_RIDGE.size - 2)
        around = tuple(_COARSE_RIDGE[middle + step] for step in (-1, 0, 1))
        fine = elementwise.find_minimum(error, around, args=point)
        z = np.where(fine.success, fine.x, around[1])
        best = fit(z, tau, kappa, q, most)
        # Where the smallest error is at λ = 0, others near it are the same to rounding.
        at_zero, least = error(-np.inf, *point), error(z, *point)
        better = (least < at_zero * (1 - 4 * np.finfo(float).eps)) & (lowest > 0)
        ridge = _stationary_ridge(best.xi, tau, kappa, rho, q, q_test, test)
        least = np.where(better, least, at_zero) * (1 - 4 * np.finfo(float).eps)
        return np.where(better, ridge, 0.0), least


def _best_below_zero(
    test: str, tau: Any, kappa: Any, rho: Any, q: Any, rho_test: Any, q_test: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best ridge below zero, and its error."""
    most, edge = _equivalent.edge(tau, q, kappa)
    which = _TESTS.index(test)

    def error(
        z: Any, tau: Any, kappa: Any, rho: Any, q: Any, most: Any, q_test: Any, noise: Any
    ) -> Any:
        solution = _equivalent.beyond(most * expit(z), tau, q, kappa)
        return _equivalent.errors(solution, tau, kappa, rho, q, noise, q_test)[which]

    point = (tau, kappa, rho, q, most, q_test)
    with np.errstate(divide="ignore", invalid="ignore"):
        lowest = error(_COARSE_BELOW[:, None], *point, rho_test).argmin(axis=0)
        middle = np.clip(lowest, 1, _COARSE_BELOW.size - 2)
        around = tuple(_COARSE_BELOW[middle + step] for step in (-1, 0, 1))
        fine = elementwise.find_minimum(error, around, args=(*point, rho_test))
        z = np.where(fine.success, fine.x, around[1])
        least = np.where(lowest > 0, error(z, *point, rho_test), np.inf)
        z = z + _minimum.stationary(lambda offset: error(z + offset, *point, 0.0))
        ridge = _equivalent.ridge_below(most * expit(z), tau, q, kappa)
        return np.maximum(ridge, np.nextafter(edge, 0.0)), least


@labelled()
def critical_noise(tau: ArrayLike, kappa: ArrayLike, *, test: str = "icl") -> Any:
    """Noise ρ_c above which a finite context length is the best one in pretraining without ridge.

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    test : {"icl", "idg"}
        The error in question: on new tasks or on the pretraining tasks.

    Returns
    -------
    float or array
        ρ_c: up to it the error is smallest for α → ∞, above it at a finite α, `optimal_context`.
        It is 0 where any noise is enough and inf where none is; at τ = 1, where errors are
        infinite, the limit τ → 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-critical-noise-icl and eq-critical-noise-idg in the book.

    Examples
    --------
    >>> from iclkit import theory
    >>> print(theory.critical_noise(tau=[0.2, 0.5, 2.0], kappa=1.0).round(3))  # at last: any noise
    [2.916 0.417 0.   ]
    >>> print(theory.critical_noise(2.0, 1.0, test="idg"))  # and none is
    inf
    """
    _validate.choice("test", test, _TESTS)
    tau, _, kappa, _, _ = _parameters(tau, 1.0, kappa, 0.0, 0.0)
    return _stationary_noise(-np.inf, tau, kappa, test)[()]


@labelled()
def optimal_context(tau: ArrayLike, kappa: ArrayLike, rho: ArrayLike, *, test: str = "icl") -> Any:
    """Context length α* at which pretraining without ridge leads to the smallest error.

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    test : {"icl", "idg"}
        The error to be minimised: on new tasks or on the pretraining tasks.

    Returns
    -------
    float or array
        α*, broadcast over the arguments: inf where the error is smallest for α → ∞, 0 where it is
        for α → 0. At τ = 1, where errors are infinite, the limit τ → 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    The length is that of the test contexts, too. The error is stationary where ρ = ρ_s(c), an
    explicit function of c = 1/(1 + m/κ). It increases with c, so that there is one root at most;
    but for e_ICL at κ < 1 − 2/τ it has a maximum, and the root below that competes with α = 0.
    Source: eq-stationary-noise and thm-critical-noise in the book.

    Examples
    --------
    >>> from iclkit import theory
    >>> threshold = theory.critical_noise(tau=0.5, kappa=1.0)
    >>> print(theory.optimal_context(0.5, 1.0, [0.9 * threshold, 1.5 * threshold]).round(3))
    [   inf 16.075]
    """
    _validate.choice("test", test, _TESTS)
    tau, _, kappa, rho, _ = np.broadcast_arrays(*_parameters(tau, 1.0, kappa, rho, 0.0))
    best = np.full(tau.shape, np.inf)
    finite = rho > _stationary_noise(-np.inf, tau, kappa, test)
    if np.any(finite):
        best[finite] = _finite_optimum(tau[finite], kappa[finite], rho[finite], test)
    return best[()]


def _parameters(
    tau: ArrayLike, alpha: ArrayLike, kappa: ArrayLike, rho: ArrayLike, lam: ArrayLike
) -> tuple[np.ndarray, ...]:
    return (
        _validate.positive("tau", tau),
        _validate.positive("alpha", alpha),
        _validate.positive("kappa", kappa),
        _validate.nonnegative("rho", rho),
        _validate.signed("lam", lam),
    )


def _checked_test(
    alpha: Any, rho: Any, alpha_test: Any, rho_test: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the test's context length and noise, which by default are those of pretraining."""
    return (
        alpha if alpha_test is None else _validate.positive("alpha_test", alpha_test),
        rho if rho_test is None else _validate.nonnegative("rho_test", rho_test),
    )


def _solution(tau: Any, q: Any, kappa: Any, lam: Any) -> tuple[_equivalent.Equivalent, Any]:
    """Return the equivalent, and where the errors diverge."""
    below = lam < 0
    (edge,) = where_needed(below, _passed_edge, (tau, q, kappa, lam), (0 * lam,))
    return _equivalent.equivalent(tau, q, kappa, lam), ((tau == 1) | below) & (lam == edge)


def _passed_edge(tau: Any, q: Any, kappa: Any, lam: Any) -> tuple[Any]:
    """Return the edge, which no ridge may be below."""
    _, edge = _equivalent.edge(tau, q, kappa)
    if np.any(lam < edge):
        worst = np.argmin(lam - edge)
        raise ValueError(
            f"lam must be at least ridge_edge, there {edge.flat[worst]}, got {lam.flat[worst]}"
        )
    return (edge,)


def _refuse_laws(laws: tuple[Any, ...], where: str) -> None:
    for name, law in zip(_LAWS, laws, strict=True):
        if law is not None:
            raise ValueError(f"{name} must be None {where}")


def _errors(
    tau: Any, alpha: Any, kappa: Any, rho: Any, lam: Any, laws: tuple[Any, ...], alpha_test: Any,
    rho_test: Any,
) -> tuple[Any, Any]:  # fmt: skip
    if all(law is None for law in laws):
        tau, alpha, kappa, rho, lam = _parameters(tau, alpha, kappa, rho, lam)
        test = _checked_test(alpha, rho, alpha_test, rho_test)
        return _isotropic_errors(tau, alpha, kappa, rho, lam, *test)
    from iclkit.theory import _structured  # most who use this module have no use for that one

    law, numbers = _structured.checked(laws, tau, alpha, kappa, rho, lam)
    test = _checked_test(numbers[1], numbers[3], alpha_test, rho_test)
    if not law.isotropic:
        return _structured.errors(law, numbers, *test)
    # In closed form, each error in units of the variance of its tasks.
    alpha_test, rho_test = test[0] / law.rank, test[1]
    point, own, new = law.scaled(*numbers), law.unit, law.test_unit
    icl, idg = _isotropic_errors(*point, alpha_test, rho_test / own)
    if new != own:
        icl = _isotropic_errors(*point, alpha_test, rho_test / new)[0]
    return new * icl, own * idg


def _isotropic_errors(
    tau: Any, alpha: Any, kappa: Any, rho: Any, lam: Any, alpha_test: Any, rho_test: Any
) -> tuple[Any, Any]:
    """Return both errors for checked numbers."""
    tau, alpha, kappa, rho, lam, alpha_test, rho_test = together(
        tau, alpha, kappa, rho, lam, alpha_test, rho_test
    )
    q, q_test = (1 + rho) / alpha, (1 + rho_test) / alpha_test
    solution, diverges = _solution(tau, q, kappa, lam)
    both = _equivalent.errors(solution, tau, kappa, rho, q, rho_test, q_test)

    endless = (q == 0) & (lam == 0) & (kappa <= np.minimum(tau, 1.0))
    at = (tau, kappa, rho, q_test, rho_test)
    icl, idg = where_needed(endless, _equivalent.endless_contexts, at, both)
    return where(diverges, np.inf, icl), where(diverges, np.inf, idg)


def _stationary_ridge(
    xi: Any, tau: Any, kappa: Any, rho: Any, q: Any, q_test: Any, test: str
) -> np.ndarray:
    """Refine λ* from an effective ridge nearby."""

    def error(offset: Any) -> Any:
        solution = _equivalent.from_effective_ridge(xi * np.exp(offset), tau, kappa, q)
        # Without the noise of the test, a constant that would hide digits.
        return _equivalent.errors(solution, tau, kappa, rho, q, 0.0, q_test)[_TESTS.index(test)]

    xi = xi * np.exp(_minimum.stationary(error))
    ridge: np.ndarray = xi * _equivalent.from_effective_ridge(xi, tau, kappa, q).slack
    return ridge


def _ridgeless_state(z: Any, tau: Any, kappa: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return c, f = tr RG = cm and h = qm for the fit without ridge, as z goes over all reals.

    From α = ∞ at z = -inf, c grows to 1, while f falls to 0; there is q = ch/f.
    """
    y, rest = expit(z), expit(-z)
    s = np.minimum(tau, 1.0)
    low = np.minimum(s, kappa)
    c = np.maximum(_equivalent.one_minus_ratio(s, kappa), 0.0) * rest + y
    return c, low * rest, (s - low) + low * y


def _stationary_noise(z: Any, tau: Any, kappa: Any, test: str) -> np.ndarray:
    """Noise ρ_s at which an error without ridge is stationary in α at a given z, see there."""
    c, f, h = _ridgeless_state(z, tau, kappa)
    p = f / kappa  # 1 − c
    with np.errstate(divide="ignore", invalid="ignore"):
        if test == "idg":
            noise = c**2 * f**2 * (1 - f + c)
            noise += 2 * c * h * (f + p - 3 * f * p - f**2 * (1 - 3 * p + p**2))
            noise -= h**2 * (f + p - 6 * f * p - 2 * p**2 + 6 * f * p**2)
            return np.where(tau < 1, noise / (2 * f * p * (1 - tau)), np.inf)
        below = tau - 3 * f * h + (2 - tau) * kappa * c
        # One form for small c and h, one for small f and p: each cancels at the other end.
        bias = c**3 * (1 - h) ** 2 * (1 - 4 * h) + c**2 * h * (3 - 10 * h + 9 * h**2)
        bias = (bias + c * h * (1 + 2 * h) * (2 - 3 * h) + h**3) / f
        other = 1 - (2 * h - 1) * (4 * h - 3) / kappa + p**3 * f * (4 * h - 1)
        other = other + (p / kappa) * (3 - 15 * h + 17 * h**2 - 3 * h**3)
        above = np.where(f > 0.5, bias, other) / (c + h * p) ** 2
        above = (tau - 1) * above + 1 + h * (1 - 3 * f) / kappa
        noise = c**2 / (1 + c) * np.where(tau < 1, below / f, above / p)
        noise = np.where(c > 0, noise, 0.0)
    return np.where(np.isinf(tau) | np.isinf(kappa), np.inf, noise)


def _finite_optimum(tau: Any, kappa: Any, rho: Any, test: str) -> np.ndarray:
    """Best α where the noise is above ρ_c."""

    def excess(z: Any, tau: Any, kappa: Any, rho: Any) -> np.ndarray:
        noise = _stationary_noise(z, tau, kappa, test)
        with np.errstate(divide="ignore", invalid="ignore"):
            above: np.ndarray = np.where(noise > 0, np.log(noise), -1e3) - np.log(rho)
        return above

    # Where ρ_s turns, its first root is below its maximum, and α = 0 may be better than that. On
    # the border of that region ρ_s stays bounded, and close to it a root is at α = 0 to rounding.
    turns = (test == "icl") & (tau * (1 - kappa) >= 2)
    coarse = _stationary_noise(_COARSE_CONTEXT[:, None], tau[turns], kappa[turns], test)
    top = np.full(tau.shape, np.inf)
    top[turns] = _COARSE_CONTEXT[coarse.argmax(axis=0)]
    found = np.ones(tau.shape, dtype=bool)
    found[turns] = coarse.max(axis=0) > rho[turns]
    best = np.zeros(tau.shape)
    tau, kappa, rho, top, turns = (array[found] for array in (tau, kappa, rho, top, turns))
    right = np.minimum(top, 1.0)
    point = (tau, kappa, rho)
    bracket = elementwise.bracket_root(excess, right - 2, right, xmax=top, args=point)
    z = elementwise.find_root(excess, bracket.bracket, args=point).x
    c, f, h = _ridgeless_state(z, tau, kappa)
    q, most, none = c * h / f, np.minimum(tau, 1.0), np.zeros(tau.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        solution = _equivalent.from_freedom(most, none, most, q, tau, kappa)
        error = _equivalent.errors(solution, tau, kappa, rho, q, rho, q)[0]
        shortest = (1 + rho) * np.maximum(tau, 1.0) / np.abs(tau - 1)
    shorter = (turns & (error >= shortest)) | ~bracket.success
    best[found] = np.where(shorter, 0.0, (1 + rho) / q)
    return best
