r"""The errors at a finite dimension, to first order in 1/d.

Both errors are e(d) = e·(1 + c/d + O(d⁻²)) with the limit e of `iclkit.theory` and a coefficient c
that is known in closed form up to one integral: no fit, and no sampling. The limit and the
coefficient are those of τ = n/(d(d + 1)), contexts per parameter of Γ, so that without ridge the
pole is where it is at every d, at n = d(d + 1). `iclkit.theory.icl_error` and `idg_error` take `d`
and do the conversion. Steps of the derivation are heuristic, and were checked by simulation.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from iclkit import _validate
from iclkit._labels import labelled
from iclkit.data.tasks import ASSIGNMENTS
from iclkit.theory import _equivalent, _first_order, _fresh

_TESTS = ("icl", "idg")
FORMS = ("exp", "linear", "hybrid")
_ENDLESS = 1e9  # κ that stands for ∞ with a ridge: larger ones lose digits, smaller ones differ
_CLOSE = 1e-6  # to the pole, where the terms of c have lost their digits


@labelled()
def finite_size_coefficient(
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
    *,
    test: str = "icl",
    assignment: str = "uniform",
    alpha_test: ArrayLike | None = None,
    rho_test: ArrayLike | None = None,
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
        How contexts pick their task, see `iclkit.data.assign_tasks`.
    alpha_test, rho_test : float or array, optional
        Context length and noise of the test contexts, for new tasks only; by default those of
        pretraining.

    Returns
    -------
    float or array
        c, broadcast over the arguments. It has 12 digits, and fewer near the pole, where what is
        lost grows like 1/((τ − 1)² + λ), or for contexts of more than 10⁶ d tokens.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or (τ − 1)² + λ is below 1e-12, where
        `iclkit.theory.pole_strength` has the answer.

    Notes
    -----
    Tasks are on the sphere. The law of a context's features, the number of contexts per task and
    the last coordinate of h all count to this order. Source: eq-finite-size in the book.

    Examples
    --------
    >>> from iclkit import theory
    >>> point = {"tau": 1.2, "alpha": 1.0, "kappa": 0.5, "rho": 0.01}
    >>> print(theory.finite_size_coefficient(**point).round(3))
    5.706
    >>> print(theory.finite_size_coefficient(**point, test="idg", assignment="balanced").round(3))
    4.178
    """
    _validate.choice("test", test, _TESTS)
    _validate.choice("assignment", assignment, ASSIGNMENTS)
    point = _point(tau, alpha, kappa, rho, lam)
    other = _other_test(test, alpha_test, rho_test)
    limit, first = _to_first_order(test, assignment, *_broadcast(*point, *other))
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
        Dimension; by default the limit. With it, A·(1 + c/d), and τ = n/(d(d + 1)).
    test : {"icl", "idg"}
        The error on new tasks or on the pretraining tasks.
    assignment : {"uniform", "balanced"}
        How contexts pick their task, which counts at a finite d only.

    Returns
    -------
    float or array
        A, the same on both sides of the pole, broadcast over the arguments. The coefficient c is
        extrapolated to the pole, and has seven digits.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    At a finite d the error is that of a mean over draws, for d·|τ − 1| much above 1: at the pole
    itself there is none. Source: eq-pole-strength in the book.

    Examples
    --------
    >>> from iclkit import theory
    >>> print(theory.pole_strength(1.0, 0.5, 0.1, d=[20, 10**6]).round(3))
    [2.037 1.469]
    >>> print(theory.pole_strength(1.0, 0.5, 0.1).round(3))
    1.469
    """
    _validate.choice("test", test, _TESTS)
    _validate.choice("assignment", assignment, ASSIGNMENTS)
    _, alpha, kappa, rho, _ = _point(1.0, alpha, kappa, rho, 0.0)
    d = np.asarray(np.inf) if d is None else _validate.counts("d", d)
    d, alpha, kappa, rho = _broadcast(d, alpha, kappa, rho)
    q = (1 + rho) / alpha
    m = _equivalent.positive_root(q, 1 / kappa, _equivalent.one_minus_ratio(1.0, kappa))
    _, c, D = _equivalent.shift(m, np.zeros_like(q), q, kappa)
    # The numerator of eq-idg-error at ξ = 0, with the traces of `_equivalent.errors`.
    f2 = (c * m) ** 2 * (1 + (q / D) * (q * m) / kappa)
    strength = rho + q * f2 + c**2 * (q * m) * (q / D)
    strength = strength * ((1 + q) * m if test == "icl" else 1.0)
    if np.all(np.isinf(d)):
        return strength[()]
    # A polynomial through points above the pole, which are far enough from it to have digits.
    distance = 0.002 * np.arange(1, 7)
    weights = np.array([6, -15, 20, -15, 6, -1])  # of its value at the pole
    near = (array[..., None] for array in (alpha, kappa, rho))
    points = _broadcast(1 + distance, *near, 0.0, np.nan, np.nan)
    limit, first = _to_first_order(test, assignment, *points)
    return (strength * (1 + (first / limit) @ weights / d))[()]


def error(
    test: str,
    tau: Any,
    alpha: Any,
    kappa: Any,
    rho: Any,
    lam: Any,
    d: Any,
    assignment: str,
    form: str,
    alpha_test: Any = None,
    rho_test: Any = None,
) -> Any:
    """Return an error at finite d, for `iclkit.theory.icl_error` and its twin."""
    tau, alpha, kappa, rho, lam = _point(tau, alpha, kappa, rho, lam)
    size = _validate.counts("d", d)
    other: Any = _other_test(test, alpha_test, rho_test)
    if form == "hybrid" and (alpha_test is not None or rho_test is not None):
        raise ValueError("form must be exp or linear where the test contexts differ, got 'hybrid'")
    size, tau, alpha, kappa, rho, lam, *other = _broadcast(
        size, tau, alpha, kappa, rho, lam, *other
    )
    n = _validate.sizes("tau", tau, size**2, "n = tau * d**2")
    ell = _validate.sizes("alpha", alpha, size, "ell = alpha * d")
    endless = np.isinf(kappa)
    k = _validate.sizes("kappa", np.where(endless, 1.0, kappa), size, "k = kappa * d")
    kappa, tau, alpha = np.where(endless, np.inf, k / size), n / (size * (size + 1)), ell / size
    pole = (tau == 1) & (lam == 0)
    away = np.where(pole, 2.0, tau)
    limit, first = _to_first_order(test, assignment, away, alpha, kappa, rho, lam, *other)
    growth = first / limit / size
    _warn(np.where(pole, 0.0, growth), np.where(endless, np.inf, k), size)
    if form == "hybrid":
        kappa = np.full_like(kappa, np.inf)
        fresh, fresh_first = _to_first_order(
            "icl", assignment, away, alpha, kappa, rho, lam, *other
        )
        whole = np.vectorize(_fresh.leave_one_out, otypes=[float])(size, n + pole, ell, rho, lam)
        result = limit * (whole / fresh) * np.exp(growth - fresh_first / fresh / size)
    else:
        result = limit * (np.exp(growth) if form == "exp" else 1 + growth)
    return np.where(pole, np.inf, result)[()]


def _point(tau: Any, alpha: Any, kappa: Any, rho: Any, lam: Any) -> tuple[np.ndarray, ...]:
    """Check what all functions of this module take; two limits are not of finite size."""
    tau, alpha = _validate.positive("tau", tau), _validate.positive("alpha", alpha)
    for name, value in (("tau", tau), ("alpha", alpha)):
        if np.any(np.isinf(value)):
            raise ValueError(f"{name} must be finite at finite size, got inf")
    return (
        tau, alpha, _validate.positive("kappa", kappa), _validate.nonnegative("rho", rho),
        _validate.nonnegative("lam", lam),
    )  # fmt: skip


def _other_test(test: str, alpha_test: Any, rho_test: Any) -> tuple[Any, Any]:
    """Return the test's context length and noise, NaN where they are those of pretraining."""
    if test == "idg":
        for name, value in (("alpha_test", alpha_test), ("rho_test", rho_test)):
            if value is not None:
                raise ValueError(
                    f"{name} must be None for the IDG error at finite size, got {value!r}: "
                    "the first order is known for the contexts of pretraining"
                )
    alpha = np.nan if alpha_test is None else _validate.positive("alpha_test", alpha_test)
    return alpha, np.nan if rho_test is None else _validate.nonnegative("rho_test", rho_test)


def _broadcast(*values: Any) -> list[np.ndarray]:
    return [np.array(value) for value in np.broadcast_arrays(*values)]


def _limit(tau: Any, alpha: Any, kappa: Any, rho: Any, lam: Any) -> np.ndarray:
    q = (1 + rho) / alpha
    solution = _equivalent.equivalent(tau, q, kappa, lam)
    return _equivalent.errors(solution, tau, kappa, rho, q, rho, q)[0]


def _to_first_order(
    test: str,
    assignment: str,
    tau: np.ndarray,
    alpha: np.ndarray,
    kappa: np.ndarray,
    rho: np.ndarray,
    lam: np.ndarray,
    alpha_test: np.ndarray,
    rho_test: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return an error's limit and what comes to it times 1/d, at arrays of one shape."""
    close = (tau - 1) ** 2 + lam < _CLOSE**2
    if np.any(close):
        raise ValueError(
            f"tau must be {_CLOSE:g} or further from the pole, n = d(d + 1), or lam above "
            f"{_CLOSE**2:g}, to be expanded, got n/(d(d + 1)) = {tau[close].flat[0]}; "
            "see pole_strength"
        )
    own = np.isnan(alpha_test) & np.isnan(rho_test)
    alpha_test = np.where(np.isnan(alpha_test), alpha, alpha_test)
    rho_test = np.where(np.isnan(rho_test), rho, rho_test)
    endless = np.isinf(kappa)
    balanced = (assignment == "balanced") & ~endless
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of that is refused below
        found = _first_order.corrections(
            tau, alpha, np.where(endless, _ENDLESS, kappa), rho, lam, balanced
        )
        if test == "idg":
            limit, first = found.idg, found.idg_1
        else:
            q = (1 + rho_test) / alpha_test
            limit = 1 + rho_test - 2 * found.trace + (1 + q) * found.square
            first = -2 * found.trace_1 + (1 + q) * found.square_1
            first = first + found.square / alpha_test + (1 + rho_test) ** 2 * found.last
        explicit = endless & (lam == 0) & own
        q = (1 + rho) / alpha
        first = np.where(explicit, _fresh.first_order(tau, q, rho), first)
        limit = np.where(endless & own, _limit(tau, alpha, kappa, rho, lam), limit)
    beyond = ~np.isfinite(first) | ~np.isfinite(limit)
    if np.any(beyond):
        at = ", ".join(
            f"{name} = {value[beyond].flat[0]:g}"
            for name, value in zip(
                ("tau", "alpha", "kappa", "rho", "lam"), (tau, alpha, kappa, rho, lam), strict=True
            )
        )
        raise ValueError(f"the expansion in 1/d is beyond floats at {at}")
    return limit, first


def _warn(growth: np.ndarray, k: np.ndarray, d: np.ndarray) -> None:
    worst = np.abs(growth).argmax()
    if np.abs(growth).flat[worst] > 1 / 3:
        warnings.warn(
            f"the term of order 1/d is {growth.flat[worst]:+.2f} of the limit at "
            f"d = {d.flat[worst]:g}: terms that are left out may be as large as its square",
            RuntimeWarning,
            stacklevel=5,
        )
    if np.any(k <= 10):
        warnings.warn(
            f"with {k.min():g} tasks, terms of order 1/k² that are left out can be several per "
            "cent: the expansion is for k above 10",
            RuntimeWarning,
            stacklevel=5,
        )
