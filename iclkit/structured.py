r"""The limit theory for tasks that are longer in some directions than in others.

The tasks have a covariance C, w ~ N(0, C), and the tokens are isotropic. All that the errors
depend on is the spectrum of C; "tr" is the mean over it. With q = (ρ + tr C)/α the covariance of
the k tasks has the deterministic equivalent (R + x)⁻¹ ≃ (cC + x)⁻¹, where v = 1/c is the root of

    κ(v − 1) = tr vC/(C + vx),

which Newton's method reaches from v = 1 + tr C/(κx) without passing it. All that follows is sums,
products and quotients of nonnegative numbers. For C = I this is `iclkit.theory`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq

from iclkit import _validate

# A power law has its first directions one by one, and the others in bins of a common logarithm.
_ALONE, _BINS = 3000, 1500


def power_law_tasks(nu: float, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Spectrum C_j ∝ j^−ν with tr C = 1.

    Parameters
    ----------
    nu : float
        Exponent ν > 0. Above 1 the first directions hold a fixed share of a task, whatever d is.
    d : int
        Dimension, at least 1.

    Returns
    -------
    spectrum : numpy.ndarray of shape (m,)
        Eigenvalues; from j = 3001 on they are means over bins.
    weights : numpy.ndarray of shape (m,)
        Shares of the d directions that have them.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-power-law-tasks in the book.
    """
    nu, d = _validate.finite("nu", nu), _validate.count("d", d)
    edges = np.arange(1.0, min(d, _ALONE) + 2)
    if d > _ALONE:
        further = np.round(np.geomspace(_ALONE + 1, d + 1, _BINS))
        edges = np.append(edges, np.unique(further)[1:])
    count = np.diff(edges)
    # The sum over a bin, by the midpoint rule where it has more than one j.
    spectrum = (edges[:-1] + (count - 1) / 2) ** -nu
    weights = count / d
    return spectrum / (weights @ spectrum), weights


def icl_error(
    spectrum: Any,
    weights: Any = None,
    *,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
) -> float:
    """Error on new tasks of the same law: the in-context-learning error e_ICL.

    Parameters
    ----------
    spectrum : array of shape (m,)
        Eigenvalues of the tasks' covariance C, at least 0 and not all 0.
    weights : array of shape (m,), optional
        Shares of the directions that have them, at least 0; divided by their sum. Equal ones by
        default.
    tau : float
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float
        Context length α = ℓ/d, positive and finite.
    kappa : float
        Task diversity κ = k/d in (0, inf].
    rho : float
        Variance of the label noise, at least 0.
    lam : float
        Ridge λ, at least 0.

    Returns
    -------
    float
        The error, label noise included; inf at τ = 1 without ridge.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    An exact limit where tr C²/d vanishes; for ν ≥ 1 in `power_law_tasks` it does not, and what
    this function returns is the formula only. Source: eq-structured-errors in the book.
    """
    return _errors(spectrum, weights, tau, alpha, kappa, rho, lam)[0]


def idg_error(
    spectrum: Any,
    weights: Any = None,
    *,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
) -> float:
    """Error on new contexts of the pretraining tasks: the in-distribution error e_IDG.

    Parameters
    ----------
    spectrum : array of shape (m,)
        Eigenvalues of the tasks' covariance C, at least 0 and not all 0.
    weights : array of shape (m,), optional
        Shares of the directions that have them, at least 0; divided by their sum. Equal ones by
        default.
    tau : float
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float
        Context length α = ℓ/d, positive and finite.
    kappa : float
        Task diversity κ = k/d in (0, inf].
    rho : float
        Variance of the label noise, at least 0.
    lam : float
        Ridge λ, at least 0.

    Returns
    -------
    float
        The error, label noise included; inf at τ = 1 without ridge.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    See `icl_error`. Source: eq-structured-errors in the book.
    """
    return _errors(spectrum, weights, tau, alpha, kappa, rho, lam)[1]


class _Spectrum(NamedTuple):
    values: np.ndarray
    weights: np.ndarray

    def tr(self, entries: np.ndarray) -> float:
        return float(self.weights @ entries)


def _check(spectrum: Any, weights: Any) -> _Spectrum:
    C = _validate.array("spectrum", np.asarray(spectrum), (None,))
    share = np.ones(C.shape) if weights is None else np.asarray(weights)
    share = _validate.array("weights", share, C.shape)
    for name, array in (("spectrum", C), ("weights", share)):
        if np.any(array < 0):
            raise ValueError(f"{name} must be at least 0, got {array.min()}")
    if not share @ C > 0:
        raise ValueError("spectrum must have a positive eigenvalue of positive weight, got none")
    return _Spectrum(C, share / share.sum())


def _inverse_shrinkage(law: _Spectrum, x: float, kappa: float) -> float:
    """Return v = 1/c, by Newton's method from above: the equation is convex in v."""
    if np.isinf(kappa):
        return 1.0
    C, v = law.values, 1 + law.tr(law.values) / (kappa * x)
    while True:
        held = C / (C + v * x)
        step = (kappa * (v - 1) - v * law.tr(held)) / (kappa - law.tr(held**2))
        if not step > 4 * np.finfo(float).eps * v:
            return max(v, 1.0)
        v -= step


def _freedom(law: _Spectrum, xi: float, q: float, kappa: float) -> float:
    """Return s = tr B(B + ξ)⁻¹ with B = q + R."""
    v = _inverse_shrinkage(law, q + xi, kappa)
    F = v / (law.values + v * (q + xi))
    return law.tr((law.values / v + q) * F)


def _effective_ridge(law: _Spectrum, q: float, tau: float, kappa: float, lam: float) -> float:
    if np.isinf(tau) or (lam == 0 and tau >= 1):
        return lam

    def excess(log_xi: float) -> float:
        xi = np.exp(log_xi)
        return 1 - lam / xi - _freedom(law, xi, q, kappa) / tau

    least = max(lam, q * (1 - tau) / tau)
    most = lam + (q + law.tr(law.values)) / tau
    # Rounding may hide the sign at an end of the bracket, where the root can be.
    bracket = np.log(least) - 1e-9, np.log(most) + 1e-9
    return float(np.exp(brentq(excess, *bracket, xtol=1e-15, rtol=1e-15)))


def _errors(
    spectrum: Any, weights: Any, tau: Any, alpha: Any, kappa: Any, rho: Any, lam: Any
) -> tuple[float, float]:
    law = _check(spectrum, weights)
    tau = _validate.scalar(_validate.positive, "tau", tau)
    alpha = _validate.finite("alpha", alpha)
    kappa = _validate.scalar(_validate.positive, "kappa", kappa)
    rho = _validate.scalar(_validate.nonnegative, "rho", rho)
    lam = _validate.scalar(_validate.nonnegative, "lam", lam)
    if lam == 0 and tau == 1:
        return np.inf, np.inf
    C, q = law.values, (rho + law.tr(law.values)) / alpha
    xi = _effective_ridge(law, q, tau, kappa, lam)
    slack = lam / xi if lam > 0 else max(1 - 1 / tau, 0.0)
    x = q + xi
    c = 1 / _inverse_shrinkage(law, x, kappa)
    F = 1 / (c * C + x)
    spread = law.tr(C * F**2) / kappa
    slope, chi, hat = (c * a / (1 + x * spread) for a in (spread, 1.0, 1 + q * spread))
    # Traces with G = (R + x)⁻¹ and B = q + R; see eq-structured-traces in the book.
    f1 = law.tr(c * C * F)
    f2 = law.tr(C * F**2 * (c**2 * C + x**2 * slope))
    bg2 = F**2 * (q + hat * C)
    endless = rho + q * f1 + x * xi * chi * law.tr(C * F**2)
    idg = endless / (slack + xi * law.tr(bg2) / tau)
    icl = rho + law.tr(C * (x * F) ** 2 * (1 + slope * C)) + q * f2
    return icl + idg / tau * law.tr((q + C) * bg2), idg
