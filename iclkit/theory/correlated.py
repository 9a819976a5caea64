r"""Errors of the fit where tokens of a context are correlated with each other, and with its query.

Tokens at positions 1..ℓ and the query have a kernel of correlations, of which the limit sees four
numbers, see `iclkit.data.Correlation`: t₁ = 1, t₂ = Tr K²/ℓ, and of the query's column k₀ = |k|²
and k₁ = kᵀKk. They enter by

    q = (ρ + t₂)/α,   φ = k₀/α,   ψ = (k₁ − k₀² + ρk₀)/α².

With an independent query, φ = ψ = 0, all is as for independent tokens in contexts of the effective
length α(1 + ρ)/(ρ + t₂). A query that is correlated with its context is seen by tr Γ: with a share
φ of it that helps, and a noise ψ. The mean of Γ* becomes

    g + v(tr G − G),   G = (R + x)⁻¹,   g = (1 + φ)f₁/Δ,   v = (x + ψ)/Δ,

with Δ = 1 + 2φf₁ + φ²f₁ + ψ tr G and f₁ = tr RG. Both errors are sums of squares of that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import matmul_toeplitz

from iclkit import _validate
from iclkit._labels import labelled, unlabelled
from iclkit.data.kernels import Correlation
from iclkit.theory import _equivalent

# What rounding may leave of bounds that a kernel of correlations keeps.
_ROUNDING = 1e-9
# And what numbers may be, so that no square of what they make of a context is beyond a float.
_MOST = 1e60


@labelled("correlation", "correlation_test")
def icl_error(
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
    *,
    correlation: Correlation,
    correlation_test: Correlation | None = None,
    alpha_test: ArrayLike | None = None,
    rho_test: ArrayLike | None = None,
) -> Any:
    """Error on new tasks after pretraining on correlated tokens.

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d in (0, inf).
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0, independent from position to position.
    lam : float or array
        Ridge λ, at least 0.
    correlation : Correlation
        The numbers of the kernel in pretraining, at most 1e60, with t₁ = 1; see `ar1`, `stationary`
        and, of a context of finite length, `iclkit.data.correlation`.
    correlation_test : Correlation, optional
        Those of the test contexts; by default those of pretraining. Independent tokens are
        ``ar1(0.0)``.
    alpha_test, rho_test : float or array, optional
        Context length, inf allowed, and noise of the test contexts; by default those of
        pretraining.

    Returns
    -------
    float or array
        The error, label noise included, broadcast over the arguments; inf at τ = 1 without ridge.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or no kernel has these numbers: t₂ ≥ 1,
        k₁ ≥ k₀², and k₁ = 0 where k₀ is.

    Notes
    -----
    The limit needs Tr K⁴/(Tr K²)² → 0, and bounded t₂, k₀ and k₁, as tokens have whose correlations
    fall like a power above ½, or above ⅔ with a correlated query. It is tested by simulation, not
    proved. Source: eq-corr-icl in the book.

    Examples
    --------
    >>> from iclkit.theory import correlated
    >>> point = {"tau": 4.0, "alpha": 4.0, "kappa": 10.0, "rho": 0.01}
    >>> for query in (False, True):
    ...     kernel = correlated.ar1(0.6, query=query)
    ...     print(correlated.icl_error(**point, correlation=kernel).round(3))
    0.489
    0.438
    """
    point = _point(tau, alpha, kappa, rho, lam, alpha_test, rho_test)
    return _errors(point, correlation, correlation_test)[0][()]


@labelled("correlation", "correlation_test")
def idg_error(
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
    *,
    correlation: Correlation,
    correlation_test: Correlation | None = None,
    alpha_test: ArrayLike | None = None,
    rho_test: ArrayLike | None = None,
) -> Any:
    """Error on new contexts of the pretraining tasks after pretraining on correlated tokens.

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d in (0, inf).
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0, independent from position to position.
    lam : float or array
        Ridge λ, at least 0.
    correlation : Correlation
        The numbers of the kernel in pretraining, at most 1e60, with t₁ = 1; see `ar1`, `stationary`
        and, of a context of finite length, `iclkit.data.correlation`.
    correlation_test : Correlation, optional
        Those of the test contexts; by default those of pretraining. Independent tokens are
        ``ar1(0.0)``.
    alpha_test, rho_test : float or array, optional
        Context length, inf allowed, and noise of the test contexts; by default those of
        pretraining.

    Returns
    -------
    float or array
        The error, label noise included, broadcast over the arguments; inf at τ = 1 without ridge.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or no kernel has these numbers: t₂ ≥ 1,
        k₁ ≥ k₀², and k₁ = 0 where k₀ is.

    Notes
    -----
    See `icl_error`. Source: eq-corr-idg in the book.

    Examples
    --------
    >>> from iclkit.theory import correlated
    >>> kernel = correlated.ar1(0.6, query=True)
    >>> print(correlated.idg_error(4.0, 4.0, [0.3, 10.0], 0.01, correlation=kernel).round(3))
    [0.182 0.42 ]
    """
    point = _point(tau, alpha, kappa, rho, lam, alpha_test, rho_test)
    return _errors(point, correlation, correlation_test)[1][()]


@labelled()
def effective_context(alpha: ArrayLike, rho: ArrayLike, t2: ArrayLike) -> Any:
    """Length of contexts of independent tokens that are worth as much as correlated ones.

    Parameters
    ----------
    alpha : float or array
        Context length α = ℓ/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    t2 : float or array
        t₂ = Tr K²/ℓ, at least 1, as a kernel K with a diagonal of ones has it.

    Returns
    -------
    float or array
        α(1 + ρ)/(ρ + t₂) ≤ α, broadcast over the arguments.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Exact in the limit for queries that are independent of their context, with the lengths of
    pretraining and of the test each from its own noise and kernel. A query that isn't takes two
    numbers more. Source: eq-corr-effective in the book.

    Examples
    --------
    >>> from iclkit import theory
    >>> from iclkit.theory import correlated
    >>> kernel = correlated.ar1(0.6)
    >>> short = correlated.effective_context(4.0, 0.01, kernel.t2)
    >>> print(short.round(3))
    1.892
    >>> print(theory.icl_error(4.0, short, 10.0, 0.01).round(3))  # as with these tokens at α = 4
    0.489
    """
    alpha, rho = _validate.positive("alpha", alpha), _validate.nonnegative("rho", rho)
    t2 = _validate.nonnegative("t2", t2)
    less = t2 < 1 - _ROUNDING
    if np.any(less):
        raise ValueError(f"t2 must be at least 1, got {t2[less].flat[0]}")
    return (alpha * ((1 + rho) / (rho + np.maximum(t2, 1))))[()]


def ar1(a: float, *, query: bool = False) -> Correlation:
    """Numbers of the exponential kernel a^|i−j| in the limit of a long context.

    Parameters
    ----------
    a : float
        Correlation of neighbours, in (−1, 1): e^(−1/ξ) for a correlation length ξ.
    query : bool
        Whether the query is correlated with the context, as the token after its last one.

    Returns
    -------
    Correlation
        t₁ = 1, t₂ = (1 + a²)/(1 − a²), and with a correlated query k₀ = a²/(1 − a²) and k₁ = k₀t₂.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    A context of finite length differs by O(1/ℓ), see `iclkit.data.correlation`. Source:
    eq-corr-ar1 in the book.

    Examples
    --------
    >>> from iclkit.theory import correlated
    >>> print(correlated.ar1(0.5))
    Correlation(t1=1.0, t2=1.6666666666666667, k0=0.0, k1=0.0)
    """
    _validate.flag("query", query)
    a = _validate.scalar(_validate.real, "a", a)
    if not abs(a) < 1:
        raise ValueError(f"a must be between -1 and 1, got {a}")
    gap = (1 - a) * (1 + a)
    t2, k0 = (1 + a**2) / gap, a**2 / gap
    return Correlation(1.0, t2, *((k0, k0 * t2) if query else (0.0, 0.0)))


def stationary(r: ArrayLike, *, query: bool = False) -> Correlation:
    """Numbers of a stationary kernel in the limit of a long context.

    Parameters
    ----------
    r : array of shape (m,)
        Correlations r₀ = 1, r₁, … of a token with those 0, 1, … positions before; from m on, 0.
    query : bool
        Whether the query is correlated with the context, as the token after its last one.

    Returns
    -------
    Correlation
        t₁ = 1, t₂ = 1 + 2Σⱼ rⱼ², and with a correlated query k₀ = Σⱼ rⱼ² and k₁ = Σᵢⱼ rᵢ rⱼ r(i−j),
        with sums over i, j ≥ 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or the sequence has a negative spectrum, which no
        tokens have.

    Notes
    -----
    Source: eq-corr-stationary in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.theory import correlated
    >>> moving_average = correlated.stationary([1.0, 0.5], query=True)
    >>> print(moving_average)
    Correlation(t1=1.0, t2=1.5, k0=0.25, k1=0.25)
    >>> power_law = correlated.stationary((1.0 + np.arange(100_000)) ** -2.0)
    >>> print(round(power_law.t2, 4))
    1.1646
    """
    _validate.flag("query", query)
    r = unlabelled("r", r, (None,))
    if r[0] != 1:
        raise ValueError(f"r must begin with 1, got {r[0]}")
    spectrum = np.fft.hfft(r, 8 * r.size)
    if spectrum.min() < -_ROUNDING * spectrum.max():
        raise ValueError(f"r must have a spectrum of at least 0, got {spectrum.min()}")
    tail = r[1:]
    k0 = float(tail @ tail)
    if not query or not tail.size:
        return Correlation(1.0, 1 + 2 * k0, 0.0, 0.0)
    k1 = float(tail @ matmul_toeplitz(r[:-1], tail))
    return Correlation(1.0, 1 + 2 * k0, k0, k1)


def _point(
    tau: Any, alpha: Any, kappa: Any, rho: Any, lam: Any, alpha_test: Any, rho_test: Any
) -> tuple[np.ndarray, ...]:
    tau, alpha = _validate.positive("tau", tau), _validate.positive("alpha", alpha)
    if np.any(np.isinf(alpha)):
        raise ValueError("alpha must be finite, got inf")
    kappa, rho = _validate.positive("kappa", kappa), _validate.nonnegative("rho", rho)
    lam = _validate.nonnegative("lam", lam)
    alpha_test = alpha if alpha_test is None else _validate.positive("alpha_test", alpha_test)
    rho_test = rho if rho_test is None else _validate.nonnegative("rho_test", rho_test)
    return np.broadcast_arrays(tau, alpha, kappa, rho, lam, alpha_test, rho_test)


def _seen(name: str, correlation: Any, alpha: Any, rho: Any) -> tuple[Any, Any, Any]:
    """Return q, φ and ψ."""
    if not isinstance(correlation, Correlation):
        raise TypeError(f"{name} must be a Correlation, got {type(correlation).__name__}")
    t1, t2, k0, k1 = (
        _validate.scalar(_validate.real, f"{field} of {name}", value)
        for field, value in correlation._asdict().items()
    )
    if not abs(t1 - 1) <= _ROUNDING:
        raise ValueError(f"t1 of {name} must be 1, got {t1}")
    if not 1 - _ROUNDING <= t2 <= _MOST:
        raise ValueError(f"t2 of {name} must be between 1 and {_MOST:g}, got {t2}")
    if not 0 <= k0 <= _MOST:
        raise ValueError(f"k0 of {name} must be between 0 and {_MOST:g}, got {k0}")
    if not k0**2 * (1 - _ROUNDING) <= k1 <= _MOST:
        raise ValueError(f"k1 of {name} must be between k0² = {k0**2} and {_MOST:g}, got {k1}")
    if k0 == 0 < k1:
        raise ValueError(f"k1 of {name} must be 0 where k0 is, of an independent query, got {k1}")
    across = max(k1 - k0**2, 0.0)  # the variance of kᵀx̃, of what the query doesn't explain
    return (rho + t2) / alpha, k0 / alpha, (across + rho * k0) / alpha / alpha


def _errors(
    point: tuple[np.ndarray, ...], correlation: Correlation, correlation_test: Correlation | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return both errors for checked arrays of one shape."""
    tau, alpha, kappa, rho, lam, alpha_test, rho_test = point
    q, phi, psi = _seen("correlation", correlation, alpha, rho)
    at_test = correlation if correlation_test is None else correlation_test
    name = "correlation" if correlation_test is None else "correlation_test"
    q_t, phi_t, psi_t = _seen(name, at_test, alpha_test, rho_test)

    m, xi, slack = _equivalent.equivalent(tau, q, kappa, lam)
    x, c, D = _equivalent.shift(m, xi, q, kappa)
    rg2, f2, bg2 = _equivalent.traces(m, x, c, D, q, kappa)
    f1 = c * m
    room = slack + xi * bg2 / tau  # 1 − tr B²G²/τ

    # The mean of Γ* is g + v(tr G − G), and what the query leaves of tr Γ*, 1 − φg, less that vG.
    delta = 1 + phi * (2 + phi) * f1 + psi * m
    g, v = (1 + phi) * f1 / delta, (x + psi) / delta
    spread = (v * f1) ** 2 * (m / D) / kappa  # v²[tr G² − (tr G)²]; with R for tr, c² times that
    size = g**2 + spread
    with np.errstate(divide="ignore"):
        fixed = rho + psi * g**2 + q * size + (v * f1) ** 2 + c**2 * spread
        variance = fixed / room / tau
        noise, gap = rho_test + psi_t * g**2 + q_t * size, (phi - phi_t) * g
        icl = noise + (gap + v * m) ** 2 + spread + (1 + q_t) * bg2 * variance
        idg = noise + (gap + v * f1) ** 2 + c**2 * spread
        idg = idg + (q_t * bg2 + q * rg2 + f2) * variance
    diverges = (tau == 1) & (lam == 0)
    return np.where(diverges, np.inf, icl), np.where(diverges, np.inf, idg)
