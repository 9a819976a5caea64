"""Fresh tasks, κ = ∞, at finite size: a new task in every context.

Without ridge the first order has an explicit form. With `leave_one_out`, one context is left out
and its fluctuations are kept to all orders, so that only what contexts do to each other is of first
order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import root


def first_order(tau: Any, q: Any, rho: Any, gaussian: bool = False) -> np.ndarray:
    """Return what comes to the error times 1/d without ridge; τ = n/(d(d + 1)) is not 1."""
    s = 1 + rho
    over = 2 * s * q**4 + 2 * q**3 * (2 * rho**2 + rho * tau + 7 * rho + 6)
    over = over + q**2 * (12 * rho**2 + 2 * rho * tau + 28 * rho + tau**2 + 2 * tau + 8)
    over = over + q * (10 * rho**2 + 2 * rho * tau + 12 * rho + tau**2 + 2 * tau - 2) + 2 * rho * s
    under = 2 * s * q**4 + 4 * s * (rho + 3) * q**3 + (12 * rho**2 + 30 * rho + 12 - tau) * q**2
    under = under + (10 * rho**2 + 14 * rho + 2 - tau) * q + 2 * rho * s
    # The last coordinate of h, which above the threshold is one more direction and no more.
    last = q**2 * s - q * (rho**3 + 3 * rho**2 + rho + (1 - tau) ** 2)
    last = last - rho**3 - 3 * rho**2 - 2 * rho + (s**2 - 1) * tau**2 - 2 * (1 - tau)
    with np.errstate(divide="ignore", invalid="ignore"):
        over = over / (tau * s * (1 + q) ** 3 * (tau - 1))
        last = last * tau * (1 + q - s**2) / ((1 + q) * (1 + q * (1 - tau) + (s**2 - 1) * tau) ** 2)
        under = tau * under / (s * (1 + q) ** 3 * (1 - tau)) + last
        longer = q * (rho * (rho + 3) + np.maximum(tau - 1, 0.0) * (q * s + 1)) + rho * s
        longer = 2 * (q + s) * longer / ((1 + q) ** 3 * s**2 * np.abs(tau - 1))
        longer = np.where(tau > 1, longer / tau, longer * tau)  # by the length of Gaussian tasks
    first: np.ndarray = np.where(tau > 1, over, under)
    return first + longer if gaussian else first


def _gauss_gamma(shape: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for the mean over a gamma variable, divided by its mean."""
    # Golub and Welsch's way; the weights of scipy.special.roots_genlaguerre overflow.
    i = np.arange(count)
    diagonal, beside = 2 * i + shape, np.sqrt(i[1:] * (i[1:] + shape - 1))
    nodes, vectors = eigh_tridiagonal(diagonal, beside)
    return nodes / shape, vectors[0] ** 2


def leave_one_out(
    d: int, n: int, ell: int, rho: float, lam: float,
    ell_test: float, rho_test: float, gaussian: bool = False,
) -> float:  # fmt: skip
    """Return the error of both tests at κ = ∞; n = d(d + 1) without ridge has none."""
    counts = (14, 14, 10, 10) if min(d, ell) < 20 else (5, 5, 3, 4)
    rules = [_gauss_gamma(d / 2, counts[0]), _gauss_gamma(ell / 2, counts[1])]
    nodes, weights = np.polynomial.hermite_e.hermegauss(counts[2])
    rules.append((nodes, weights / weights.sum()))
    rules.append(_gauss_gamma((d - 1) / 2, counts[3]) if d > 1 else (np.zeros(1), np.ones(1)))
    rules.append(_gauss_gamma(d / 2, 4) if gaussian else (np.ones(1), np.ones(1)))
    X, Y, normal, V, R = np.meshgrid(*(rule[0] for rule in rules), indexing="ij", sparse=True)
    mean = np.einsum("i,j,k,l,m->ijklm", *(rule[1] for rule in rules))

    # R is |w|²/d.
    along = Y * np.sqrt(d * R) + np.sqrt(Y * d * rho / ell) * normal
    first = X * (along**2 + Y * (R + rho) * V * (d - 1) * d / ell) / d  # X|h₁|²/d
    last = X * ((R + rho) * Y) ** 2
    overlap = X * along * np.sqrt(R / d)
    # Below the threshold all is in units of the ridge, which tends to zero.
    under = lam == 0 and n < d * (d + 1)
    one, penalty = (0.0, 1.0) if under else (1.0, lam)
    ratio = d**2 / n
    slope = ratio * first, ratio * last / d  # of the leverage, by each of the unknowns

    def excess(log_c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Say by what factor 1/c is missed, less 1, and how that changes with log c."""
        c = np.exp(log_c)
        seen = 1 / (one + c[0] * slope[0] + c[1] * slope[1])
        inverse = penalty + np.array([(mean * part * seen).sum() for part in (first, last)])
        change = [[-(mean * part * by * seen**2).sum() for by in slope] for part in (first, last)]
        return c * inverse - 1, np.diag(c * inverse) + np.outer(c, c) * np.array(change)

    # With few contexts the penalty is most of it; from there c falls towards the solution.
    log_c = np.zeros(2) if n >= d * (d + 1) else np.full(2, -np.log(penalty))
    with np.errstate(all="ignore"):  # what comes of that is refused below
        for _ in range(20):
            log_c = log_c - np.log1p(excess(log_c)[0])
        found = root(excess, log_c, jac=True, tol=1e-14)
        c = np.exp(found.x)
        missed, change = excess(found.x)
    if not np.abs(missed).max() < 1e-10:
        raise ValueError(
            f"the hybrid form is beyond floats at d = {d:g}, n = {n:g}, ell = {ell:g}, "
            f"rho = {rho:g}, lam = {lam:g}"
        )
    seen = 1 / (one + c[0] * slope[0] + c[1] * slope[1])
    trace = c[0] * (mean * overlap * seen).sum()
    by_c = np.array([-c[0] * (mean * overlap * by * seen**2).sum() for by in slope])
    by_c[0] += trace / c[0]
    left = X * R + rho - trace * overlap
    loss_by_c = [
        -(mean * (seen * change * overlap + left * by * seen**2)).sum()
        for change, by in zip(by_c, slope, strict=True)
    ]
    # A penalty λ_i adds c_i to the excess, and moves the solution accordingly.
    square, last_square = -c * np.linalg.solve(change.T, c * np.array(loss_by_c))
    error = 1 + rho_test - 2 * trace + (1 + (1 + d * (1 + rho_test)) / ell_test) * square
    label_square = (1 + rho_test) ** 2 + (2 / d if gaussian else 0.0)
    return float(error + (1 + 2 / ell_test) * label_square * last_square)
