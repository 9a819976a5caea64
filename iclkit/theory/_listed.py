r"""Theory of tasks that are known as a list, for isotropic tokens.

With R = wᵀw/k₀ of the k₀ listed tasks, (R + x₀)⁻¹ stands for (c₀C + x₀)⁻¹ of the law C that they
are drawn from. With k other tasks of the same law it is (cC + x)⁻¹, which is the same but for a
factor x₀/x, where

    x = x₀·(1 − D/κ)/(1 − D/κ₀),   D = tr R(R + x₀)⁻¹.

So all traces at any κ, and those of new tasks, are functions of R alone: C is never estimated. At
κ = κ₀ they are those of the list itself, and 1 − D/κ₀ is the divisor of generalised
cross-validation. What is searched for is x₀.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import elementwise

from iclkit.theory import _minimum

_HALVINGS = 64
_DEEP = 1e-18  # of the largest x₀ that can be the root
# Logs of x₀ above its least value, in its unit, where a best one is looked for first.
_COARSE = np.arange(-20.0, 8.0, 0.5)


class Listed(NamedTuple):
    """Tasks of a list: k of them, eigenvalues of R, and what new tasks have along each.

    The last is None where new tasks are of the law that those of the list are drawn from.
    """

    k: int
    values: np.ndarray
    new: np.ndarray | None


class Points(NamedTuple):
    """Points in the limit, arrays of one shape (m,); q = (ρ + tr R)/α."""

    tau: np.ndarray
    alpha: np.ndarray
    kappa: np.ndarray
    rho: np.ndarray
    lam: np.ndarray

    def part(self, rows: Any) -> Points:
        """Return some of the points."""
        return Points(*(a[rows] for a in self))


class _Traces(NamedTuple):
    x: np.ndarray
    freedom: np.ndarray  # D
    m: np.ndarray  # tr (R + x)⁻¹
    dm: np.ndarray  # its derivative by x
    a: np.ndarray  # tr C_test F(x)
    da: np.ndarray


def _traces(tasks: Listed, kappa: np.ndarray, x0: np.ndarray) -> _Traces:
    d, r = tasks.values.size, tasks.values
    g = 1 / (r + x0[:, None])
    D, dD = (r * g).mean(axis=1), -(r * g**2).mean(axis=1)
    # What is left of directions and of tasks, in sums without cancellation.
    some = r > 0
    seen = x0 * g[:, some].sum(axis=1)
    left = (d - some.sum() + seen) / d
    listed, dlisted = (tasks.k - some.sum() + seen) / tasks.k, -dD * d / tasks.k
    asked, dasked = 1 - D / kappa, -dD / kappa
    ratio, dratio = asked / listed, (dasked * listed - asked * dlisted) / listed**2
    x, dx = x0 * ratio, ratio + x0 * dratio
    m = left / x
    if tasks.new is None:
        a, da = D / asked, dD / asked**2
    else:
        a0, da0 = (tasks.new * g).mean(axis=1), -(tasks.new * g**2).mean(axis=1)
        a, da = a0 / ratio, (da0 - a0 * dratio / ratio) / ratio
    return _Traces(x, D, m, (-dD / dx - m) / x, a, da / dx)


def _noise(tasks: Listed, at: Points) -> tuple[np.ndarray, np.ndarray]:
    own = tasks.values.mean()
    new = own if tasks.new is None else tasks.new.mean()
    return (at.rho + own) / at.alpha, (at.rho + new) / at.alpha


def _largest(tasks: Listed, at: Points) -> np.ndarray:
    """Return what x₀ is below at the root."""
    q, _ = _noise(tasks, at)
    own = tasks.values.mean()
    largest: np.ndarray = 1.01 * (q + at.lam + (q + own) / at.tau + own / at.kappa)
    return largest


def solve(tasks: Listed, at: Points) -> np.ndarray:
    """Return x₀ at points; NaN where the list does not tell."""
    q, _ = _noise(tasks, at)
    ridgeless = (at.lam == 0) & (at.tau >= 1)

    def above(x0: np.ndarray) -> np.ndarray:
        t = _traces(tasks, at.kappa, x0)
        xi = t.x - q
        miss = np.where(ridgeless, 0.0, xi * t.m - at.tau * at.lam / xi - 1 + at.tau)
        found: np.ndarray = (xi > 0) & (miss >= 0)
        return found

    with np.errstate(divide="ignore", invalid="ignore"):
        high = _largest(tasks, at)
        low = _DEEP * high
        known = ~above(low) & above(high)
        for _ in range(_HALVINGS):
            middle = np.sqrt(low * high)
            over = above(middle)
            low, high = np.where(over, low, middle), np.where(over, middle, high)
    return np.where(known, high, np.nan)


def _fitted(tasks: Listed, at: Points, x0: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return both errors, and the ridge, at x₀."""
    q, q_test = _noise(tasks, at)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = _traces(tasks, at.kappa, x0)
        x, xi, g2 = t.x, np.maximum(t.x - q, 0.0), -t.dm
        rg2, f2, bg2 = t.m - x * g2, 1 - 2 * x * t.m + x**2 * g2, t.m - xi * g2
        slack = np.maximum(at.tau - 1 + xi * t.m, 0.0)
        share = (at.rho + q * t.freedom + x * xi * rg2) / (slack + xi * bg2)
        icl = at.rho + q_test * (f2 + share * bg2) + share * t.a + (share * xi - x**2) * t.da
    return icl, at.tau * share, xi * slack / at.tau


def errors(tasks: Listed, at: Points) -> tuple[np.ndarray, np.ndarray]:
    """Return the ICL and the IDG error at points; NaN where the list does not tell."""
    icl, idg, _ = _fitted(tasks, at, solve(tasks, at))
    pole = (at.lam == 0) & (at.tau == 1)
    return np.where(pole, np.inf, icl), np.where(pole, np.inf, idg)


def best_ridge(tasks: Listed, at: Points, test: int) -> np.ndarray:
    """Return the ridge at which the ICL error (0) or the IDG error (1) is least."""
    at = at._replace(lam=np.zeros_like(at.lam))
    least, scale = solve(tasks, at), _largest(tasks, at)

    def fitted(y: np.ndarray, rows: Any) -> tuple[np.ndarray, ...]:
        return _fitted(tasks, at.part(rows), least[rows] + scale[rows] * np.exp(y))

    def error(y: Any, rows: Any) -> np.ndarray:
        y, rows = np.broadcast_arrays(y, rows)
        return fitted(y.ravel(), rows.ravel().astype(int))[test].reshape(y.shape)

    rows = np.arange(least.size)
    coarse = np.nan_to_num(error(_COARSE[:, None], rows), nan=np.inf)
    lowest = np.clip(coarse.argmin(axis=0), 1, _COARSE.size - 2)
    around = tuple(_COARSE[lowest + step] for step in (-1, 0, 1))
    fine = elementwise.find_minimum(error, around, args=(rows,), tolerances={"xatol": 1e-3})
    y = np.where(fine.success, fine.x, around[1])
    y = y + _minimum.stationary(lambda offset: fitted(y + offset, rows)[test])
    at_zero, found = errors(tasks, at)[test], fitted(y, rows)
    return np.where(np.isnan(least), np.nan, np.where(found[test] < at_zero, found[2], 0.0))
