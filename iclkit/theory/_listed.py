r"""Theory of tasks that are known as a list, for isotropic tokens.

With R = wᵀw/k₀ of the k₀ listed tasks, (R + x₀)⁻¹ stands for (c₀C + x₀)⁻¹ of the law C that they
are drawn from. With k other tasks of the same law it is (cC + x)⁻¹, which is the same but for a
factor x₀/x, where

    x = x₀·(1 − D/κ)/(1 − D/κ₀),   D = tr R(R + x₀)⁻¹.

So all traces at any κ are functions of R alone: C is never estimated. At κ = κ₀ they are those of
the list itself. What is searched for is x₀. The errors on new tasks take what vectors with their
law have along R; where there are no others, each task of the list is new to the rest of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import elementwise

from iclkit.theory import _minimum

_HALVINGS = 64
_DEEP = 1e-18  # of the largest x₀ that can be the root
_AT_ONCE = 2**22  # entries of an array
_EPS = 1e-12
# Logs of x₀ above its least value, in its unit, where a best one is looked for first.
_COARSE = np.arange(-20.0, 8.0, 0.5)


class Listed(NamedTuple):
    """Tasks of a list: k of them, eigenvalues of R, and squares of vectors along its axes.

    The vectors, one a row, have the law of new tasks. They may be those of the list, of which each
    is then left out of R where it is looked at.
    """

    k: int
    values: np.ndarray
    squares: np.ndarray
    left_out: bool


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
    ratio: np.ndarray  # x/x₀
    dratio: np.ndarray  # its derivative by x₀


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
    x, m = x0 * ratio, left / (x0 * ratio)
    return _Traces(x, D, m, (-dD / (ratio + x0 * dratio) - m) / x, ratio, dratio)


def _alignments(tasks: Listed, x0: np.ndarray, t: _Traces) -> tuple[np.ndarray, np.ndarray]:
    """Return wᵀFw/d of the vectors, a row for each point, and its derivative by x."""
    d = tasks.values.size
    g = 1 / (tasks.values + x0[:, None])
    a, da = g @ tasks.squares.T / d, -(g**2) @ tasks.squares.T / d
    if tasks.left_out:
        # 1 − wᵀ(R + x₀)⁻¹w/k, again in sums without cancellation.
        some = tasks.values > 0
        shares = tasks.squares[:, some] / (tasks.k * tasks.values[some])
        alone = 1 - shares.sum(axis=1)
        rest = np.where(alone > _EPS, alone, 0.0) + x0[:, None] * g[:, some] @ shares.T
        a, da = a / rest, da / rest**2
    ratio, dratio = t.ratio[:, None], t.dratio[:, None]
    return a / ratio, (da - a * dratio / ratio) / (ratio * (ratio + x0[:, None] * dratio))


def _noise(tasks: Listed, at: Points) -> np.ndarray:
    q: np.ndarray = (at.rho + tasks.values.mean()) / at.alpha
    return q


def _largest(tasks: Listed, at: Points) -> np.ndarray:
    """Return what x₀ is below at the root."""
    q = _noise(tasks, at)
    own = tasks.values.mean()
    largest: np.ndarray = 1.01 * (q + at.lam + (q + own) / at.tau + own / at.kappa)
    return largest


def solve(tasks: Listed, at: Points) -> np.ndarray:
    """Return x₀ at points; NaN where the list does not tell."""
    q = _noise(tasks, at)
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


class _Fitted(NamedTuple):
    icl: np.ndarray
    idg: np.ndarray
    ridge: np.ndarray
    icl_se: np.ndarray


def _fitted(tasks: Listed, at: Points, x0: np.ndarray) -> _Fitted:
    """Return both errors at x₀, the ridge, and the standard error of the mean over new tasks."""
    rows = max(1, _AT_ONCE // max(tasks.squares.shape))
    parts = [slice(i, i + rows) for i in range(0, x0.size, rows)]
    found = [_fitted_part(tasks, at.part(part), x0[part]) for part in parts]
    return _Fitted(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def _fitted_part(tasks: Listed, at: Points, x0: np.ndarray) -> _Fitted:
    q = _noise(tasks, at)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = _traces(tasks, at.kappa, x0)
        a, da = _alignments(tasks, x0, t)
        x, xi, g2 = t.x, np.maximum(t.x - q, 0.0), -t.dm
        rg2, f2, bg2 = t.m - x * g2, 1 - 2 * x * t.m + x**2 * g2, t.m - xi * g2
        slack = np.maximum(at.tau - 1 + xi * t.m, 0.0)
        share = (at.rho + q * t.freedom + x * xi * rg2) / (slack + xi * bg2)
        noise = (at.rho[:, None] + tasks.squares.mean(axis=1)) / at.alpha[:, None]
        each = noise * (f2 + share * bg2)[:, None] + share[:, None] * a
        each += (share * xi - x**2)[:, None] * da
        se = each.std(axis=1) / max(len(tasks.squares) - 1, 1) ** 0.5
    return _Fitted(at.rho + each.mean(axis=1), at.tau * share, xi * slack / at.tau, se)


def errors(tasks: Listed, at: Points) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ICL and the IDG error at points, and what the vectors leave open of the former.

    They are NaN where the list does not tell.
    """
    found = _fitted(tasks, at, solve(tasks, at))
    pole = (at.lam == 0) & (at.tau == 1)
    icl, idg, se = (np.where(pole, np.inf, e) for e in (found.icl, found.idg, found.icl_se))
    return icl, idg, se


def best_ridge(tasks: Listed, at: Points, test: int) -> np.ndarray:
    """Return the ridge at which the ICL error (0) or the IDG error (1) is least."""
    at = at._replace(lam=np.zeros_like(at.lam))
    # One vector that stands for all is enough to see about where the best ridge is.
    mean = (tasks.values if tasks.left_out else tasks.squares.mean(axis=0))[None]
    rough = tasks._replace(squares=mean)
    if test == 1 or not tasks.left_out:
        tasks = rough
    least, scale = solve(tasks, at), _largest(tasks, at)

    def fitted(y: np.ndarray, rows: Any, tasks: Listed = tasks) -> _Fitted:
        return _fitted(tasks, at.part(rows), least[rows] + scale[rows] * np.exp(y))

    def error(y: Any, rows: Any, tasks: Listed = tasks) -> np.ndarray:
        y, rows = np.broadcast_arrays(y, rows)
        return fitted(y.ravel(), rows.ravel().astype(int), tasks)[test].reshape(y.shape)

    rows = np.arange(least.size)
    coarse = np.nan_to_num(error(_COARSE[:, None], rows, rough), nan=np.inf)
    lowest = np.clip(coarse.argmin(axis=0), 2, _COARSE.size - 3)
    around = tuple(_COARSE[lowest + step] for step in (-2, 0, 2))
    fine = elementwise.find_minimum(error, around, args=(rows,), tolerances={"xatol": 1e-2})
    y = np.where(fine.success, fine.x, around[1])
    y = y + _minimum.stationary(lambda offset: fitted(y + offset, rows)[test])
    at_zero, found = errors(tasks, at)[test], fitted(y, rows)
    return np.where(np.isnan(least), np.nan, np.where(found[test] < at_zero, found[2], 0.0))
