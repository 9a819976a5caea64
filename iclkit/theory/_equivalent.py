r"""The deterministic equivalent behind the limit theory, for ridges above and below zero.

Arguments are arrays, or numbers, that have been checked and broadcast, with q = (1 + ρ)/α; see
`limit` for the unknowns. With λ ≥ 0 the fit spends s ≤ min(τ, 1) degrees of freedom. Below zero it
spends

    s = min(τ, 1) + v,   λ = −v(|τ − 1| − v)/(τm),

and goes on until T = τ − tr B²G² is 0 at v = v_e: there dλ/dv is 0, and the errors diverge. As
tr B²G² ≥ s², v_e is at most √τ − min(τ, 1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from iclkit.theory._numbers import root, root_between, where, where_needed

# τ = ∞ would leave s without bound; from here on, the errors are those of τ = ∞ to rounding.
_MOST_TAU = 1e75
# Logs of v, below its bound, between which all ridges in the range of floats lie.
_SMALLEST = -600.0


class Equivalent(NamedTuple):
    """The deterministic equivalent: what the limit depends on besides q."""

    m: np.ndarray  # M_κ(q + ξ)
    xi: np.ndarray  # effective ridge ξ
    slack: np.ndarray  # 1 − s/τ, the share of contexts that the fit does not use up


def one_minus_ratio(a: Any, b: Any) -> Any:
    """1 − a/b for finite a, exact to rounding also near a = b, and 1 at b = ∞."""
    endless = b == np.inf
    finite = where(endless, 1.0, b)
    return where(endless, 1.0, (finite - a) / finite)


def positive_root(x: Any, ratio: Any, gap: Any) -> Any:
    """Solve x m + m/(1 + ratio·m) = 1 for m ≥ 0, with gap = 1 − ratio known more exactly."""
    b = x + gap
    length = np.hypot(b, 2 * np.sqrt(x * ratio))
    with np.errstate(divide="ignore", invalid="ignore"):
        return where(b < 0, (length - b) / (2 * x * ratio), 2 / (b + length))


def most_freedom(tau: Any, kappa: Any, q: Any, ridged: Any) -> Any:
    """Return the degrees of freedom s that the data allow."""
    most = np.minimum(tau, 1.0)
    # With endless contexts the features have rank κ, and a ridge never spends more than that.
    return where((q == 0) & ridged, np.minimum(most, kappa), most)


def equivalent(tau: Any, q: Any, kappa: Any, lam: Any) -> Equivalent:
    """Return the equivalent for a ridge from the edge on, see `edge`."""
    ridged = lam > 0
    most = most_freedom(tau, kappa, q, ridged)
    s, rest = where_needed(ridged, _spent, (most, q, tau, kappa, lam), (most, 0 * most))
    m, xi, slack = from_freedom(s, rest, most, q, tau, kappa)
    m, xi = where_needed(ridged, _by_slack, (slack, q, kappa, lam), (m, xi))
    found = where_needed(lam < 0, _below_zero, (tau, q, kappa, lam), (m, xi, slack))
    return Equivalent(*found)


def _spent(most: Any, *at: Any) -> tuple[Any, Any]:
    """Return s and the rest of `most` with a ridge."""
    return split(root(_log_ridge_excess, (most, *at)), most)


def _by_slack(slack: Any, q: Any, kappa: Any, lam: Any) -> tuple[Any, Any]:
    """Return M_κ(q + ξ) and ξ = λ/(1 − s/τ) with a ridge.

    Where s is near κ, a change of s in its last digit changes u in many. This ξ is free of that: it
    depends on s the less, the more u does.
    """
    xi = lam / slack
    return positive_root(q + xi, 1 / kappa, one_minus_ratio(1.0, kappa)), xi


def from_freedom(s: Any, rest: Any, most: Any, q: Any, tau: Any, kappa: Any) -> Equivalent:
    u, unspent, slack = _state(s, rest, most, q, tau, kappa)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Equivalent(s * u, unspent / (s * u), slack)


def split(z: Any, most: Any) -> tuple[Any, Any]:
    """Return s and the rest of `most`, each to full relative precision, from z = log(rest/s)."""
    return most * expit(-z), most * expit(z)


def _state(s: Any, rest: Any, most: Any, q: Any, tau: Any, kappa: Any) -> tuple[Any, Any, Any]:
    """Return u = M_{κ/s}(q), 1 − s and 1 − s/τ, from s and rest = most − s."""
    near = one_minus_ratio(most, kappa) + rest / kappa
    gap = where(rest < s, near, one_minus_ratio(s, kappa))
    u, unspent = positive_root(q, s / kappa, gap), (1 - most) + rest
    return u, unspent, one_minus_ratio(most, tau) + rest / tau


def _log_ridge_excess(z: Any, most: Any, q: Any, tau: Any, kappa: Any, lam: Any) -> Any:
    """Log of the ridge that leads to s(z), over the wanted one: increasing in z."""
    s, rest = split(z, most)
    u, unspent, slack = _state(s, rest, most, q, tau, kappa)
    with np.errstate(divide="ignore"):
        return np.log(unspent) + np.log(slack) - np.log(s) - np.log(u) - np.log(lam)


def shift(m: Any, xi: Any, q: Any, kappa: Any) -> tuple[Any, Any, Any]:
    """Return x = q + ξ, c = 1/(1 + m/κ) and x + c², which is 0 where the spectrum of R begins."""
    c = 1 / (1 + m / kappa)
    # What is left of q below zero is lost in the sum where m is large, but x = (1 − cm)/m as well.
    x = where((xi < 0) & (q * m > 1), (1 - c * m) / m, q + xi)
    return x, c, x + c * c


def traces(m: Any, x: Any, c: Any, D: Any, q: Any, kappa: Any) -> tuple[Any, Any, Any]:
    """Return tr RG², tr R²G² and tr BG² for G = (R + x)⁻¹ and B = q + R; see eq-traces."""
    f = c * m  # tr RG
    f2 = f * f * (1 + (x / D) * (x * m) / kappa)
    return c * c * m / D, f2, m * (q + c * c) / D


def errors(
    solution: Equivalent, tau: Any, kappa: Any, rho: Any, q: Any, rho_test: Any, q_test: Any
) -> tuple[Any, Any]:
    m, xi, slack = solution
    with np.errstate(divide="ignore", invalid="ignore"):
        x, c, D = shift(m, xi, q, kappa)
        rg2, f2, bg2 = traces(m, x, c, D, q, kappa)
        x2_g2 = (x * m) * (x / D)  # x² tr G²
        x2_rg2 = c * c * x2_g2  # x² tr RG²

        room = slack + xi * bg2 / tau  # 1 − tr B²G²/τ
        idg = where(room <= 0, np.inf, (rho + q * f2 + x2_rg2) / room)
        variance = idg / tau
        icl = rho_test + x2_g2 + q_test * f2 + (1 + q_test) * bg2 * variance
        idg = rho_test + x2_rg2 + q_test * f2 + (q_test * bg2 + q * rg2 + f2) * variance
    return icl, idg


def endless_contexts(tau: Any, kappa: Any, rho: Any, q_test: Any, rho_test: Any) -> tuple[Any, Any]:
    """Limits λ → 0, then α → ∞, of both errors for κ ≤ min(τ, 1), where M_κ(q) diverges."""
    most = np.minimum(tau, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = where(tau == np.inf, 0.0, (most - kappa) / np.abs(tau - 1))
        variance = where(tau < 1, (1 - kappa) / (1 - tau) / (tau - kappa), 1 / (tau - 1)) * rho
        # tr BG² grows like 1/q: infinite, unless ρ = 0, τ = ∞ or q_test shrinks with q.
        growth = where((rho > 0) & (tau < np.inf), np.inf, kappa * share)
        icl = rho_test + (1 - kappa) + q_test * kappa + (1 + q_test) * growth
        joint = (1 + rho_test) / (1 + rho) * rho * share
        noisy = where(rho > 0, joint + kappa * variance, 0.0)
        idg = rho_test + where(q_test > 0, q_test * (kappa + growth), noisy)
    return icl, idg


def from_effective_ridge(xi: Any, tau: Any, kappa: Any, q: Any) -> Equivalent:
    m = positive_root(q + xi, 1 / kappa, one_minus_ratio(1.0, kappa))
    spent = (q + 1 / (1 + m / kappa)) * m
    slack = where(spent < 0.5, 1 - spent / tau, one_minus_ratio(1.0, tau) + xi * m / tau)
    return Equivalent(m, xi, slack)


# Below zero ---------------------------------------------------------------------------------------


def beyond(v: Any, tau: Any, q: Any, kappa: Any) -> Equivalent:
    """Return the equivalent of a fit that spends v more than without ridge, and no ridge for it."""
    low, tau = np.minimum(tau, 1.0), np.minimum(tau, _MOST_TAU)
    s, left = low + v, abs(tau - 1) - v  # v is at most half of that distance
    m = s * positive_root(q, s / kappa, one_minus_ratio(low, kappa) - v / kappa)
    unspent, slack = where(tau < 1, left, -v), where(tau < 1, -v, left) / tau
    return Equivalent(m, unspent / m, slack)


def edge(tau: Any, q: Any, kappa: Any) -> tuple[Any, Any]:
    """Return v_e and λ_e ≤ 0; both are 0 where no fit goes on below zero."""
    gap = abs(np.minimum(tau, _MOST_TAU) - 1)
    none = (tau == 1) | ((q == 0) & (kappa <= np.minimum(tau, 1.0)))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # √τ − min(τ, 1) = |τ − 1|/(1 + √τ)·min(√τ, 1), without a difference.
        square_root = np.sqrt(np.minimum(tau, _MOST_TAU))
        most = gap / (1 + square_root) * np.minimum(square_root, 1.0)
        low, high = _SMALLEST + 0 * most, 0 * most
        for _ in range(70):
            middle = (low + high) / 2
            m, xi, slack = beyond(most * np.exp(middle), tau, q, kappa)
            x, c, D = shift(m, xi, q, kappa)
            # Only a huge τ leads to where x + c² is nothing but rounding.
            fine = (D > 32 * np.finfo(float).eps * abs(x)) & (
                slack + xi * (m * (q + c * c) / D) / tau > 0
            )
            low, high = where(fine, middle, low), where(fine, high, middle)
        v = where(none, 0.0, most * np.exp(low))
        return v, where(none, 0.0, ridge_below(v, tau, q, kappa))


def ridge_below(v: Any, tau: Any, q: Any, kappa: Any) -> Any:
    """Return the ridge that leads to v."""
    solution = beyond(v, tau, q, kappa)
    return solution.xi * solution.slack


def _below_zero(tau: Any, q: Any, kappa: Any, lam: Any) -> Equivalent:
    most, _ = edge(tau, q, kappa)

    def log_excess(z: Any, most: Any, tau: Any, q: Any, kappa: Any, lam: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(-ridge_below(most * np.exp(z), tau, q, kappa)) - np.log(-lam)

    arguments = (most, tau, q, kappa, lam)
    z, found = root_between(log_excess, (_SMALLEST, 0.0), arguments)
    # At the edge, rounding decides about the sign of the excess.
    return beyond(most * np.exp(where(found, z, 0.0)), tau, q, kappa)
