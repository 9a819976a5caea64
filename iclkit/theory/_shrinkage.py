r"""The two roots of the theory for a spectrum: of the tasks' equation, and of the contexts'.

A finite number of tasks shrinks their covariance by c = 1/v, where v ≥ 1 is the root of

    κ(v − 1) = tr v p/(p + v),   p the eigenvalues of K^(−½)PK^(−½), P = ΣCΣ, K = qΣ + z.

As a function of v, left minus right is convex: Newton's method falls from the right to the root,
and no bracket is needed. Written with the shares h = p/(p + v) and g = v/(p + v) no step has a
difference of nearly equal numbers. A finite number of contexts leads to the effective ridge ξ,
where Newton's method in log ξ has a bracket to fall back on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_CLOSE = 1e-8  # after such a step Newton's method, which is quadratic, has arrived
_NARROW = 4 * np.finfo(float).eps
_MOST_STEPS = 2000


def trace(entries: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the means of rows, each the same whatever rows are beside it."""
    found: np.ndarray = np.add.reduce(entries * weights, axis=-1)
    return found


def shrinkage(
    p: np.ndarray, weights: np.ndarray, kappa: np.ndarray, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return v (rows,), and g and h (rows, m), for p (rows, m) and κ (rows,)."""
    zero = np.all(p[:1] == 0, axis=0)
    positive = np.where(zero, 0.0, weights)
    # Exactly 1 for full rank, whatever the sum of the weights is to rounding.
    rank = 1 - float(weights @ zero)
    gap, few = kappa - rank, kappa < rank / 2
    most = 1 + trace(p, weights) / kappa
    v = most.copy() if start is None else np.minimum(start, most)
    endless = np.isinf(kappa)
    v[endless] = 1.0
    rows = np.flatnonzero(~endless)
    fresh = start is not None  # from a guess to the left of the root, the first step may be long
    for _ in range(_MOST_STEPS):
        if not rows.size:
            break
        part = p if rows.size == len(p) else p[rows]
        now = v[rows, None]
        share = 1 / (part + now)
        g, h = now * share, part * share
        spread = trace(g * h, weights)
        # Two forms of one slope, each without a difference of nearly equal numbers on its side.
        many = gap[rows] + trace(g, positive) + spread
        slope = np.where(few[rows], kappa[rows] - trace(h * h, weights), many)
        with np.errstate(divide="ignore", invalid="ignore"):
            new = (kappa[rows] + now[:, 0] * spread) / slope
        new = np.where((slope > 0) & (new <= most[rows]), new, most[rows])
        step = now[:, 0] - new
        v[rows] = new if fresh else np.minimum(new, now[:, 0])
        going = (np.abs(step) if fresh else step) > _CLOSE * new
        rows, fresh = rows[going], False
    else:
        raise ArithmeticError(f"no shrinkage was found in {_MOST_STEPS} steps")
    share = 1 / (p + v[:, None])
    return v, v[:, None] * share, p * share


def effective_ridge(
    freedom: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]],
    tau: np.ndarray,
    lam: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """Return the ξ at which τ(1 − λ/ξ) degrees of freedom are spent of one.

    `freedom` says, of some rows and of ξ there, how many are spent, how many are not, and how fast
    the latter grow with log ξ. At λ = 0 from τ = 1 on, and at τ = ∞, it is λ.
    """
    xi = lam.copy()
    rows = np.flatnonzero(np.isfinite(tau) & ((lam > 0) | (tau < 1)))
    with np.errstate(divide="ignore"):
        low, high = np.log(low), np.log(high)
    seen = np.zeros((2, lam.size), dtype=bool)
    z = np.where(lam > 0, np.minimum(low + 1, (low + high) / 2), (low + high) / 2)
    for _ in range(_MOST_STEPS):
        if not rows.size:
            break
        at, t = z[rows], tau[rows]
        xi_now = np.exp(at)
        spent, unspent, growth = freedom(rows, xi_now)
        lost = t * (lam[rows] / xi_now)
        # Two forms of one equation, neither with a difference of nearly equal numbers.
        much = t > 0.5
        left = np.where(much, unspent + np.maximum(t - 1, 0), t)
        right = np.where(much, lost + np.maximum(1 - t, 0), spent + lost)
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.log(left) - np.log(right)
            slope = np.where(much, growth / left, growth / right) + lost / right
            step = -excess / slope
        below = excess < 0
        low[rows], high[rows] = np.where(below, at, low[rows]), np.where(below, high[rows], at)
        seen[:, rows] |= np.array([below, ~below])
        # An end of the first bracket may be the root to rounding, and is tried once.
        new = np.clip(at + step, low[rows], high[rows])
        tried = ((new == low[rows]) & seen[0, rows]) | ((new == high[rows]) & seen[1, rows])
        halved = ~np.isfinite(new) | (tried & (new != at))
        new = np.where(halved, (low[rows] + high[rows]) / 2, new)
        z[rows] = new
        going = (np.abs(new - at) > _CLOSE) | halved
        rows = rows[going & (high[rows] - low[rows] > _NARROW * (1 + np.abs(at)))]
    else:
        raise ArithmeticError(f"no effective ridge was found in {_MOST_STEPS} steps")
    solved = np.isfinite(tau) & ((lam > 0) | (tau < 1))
    xi[solved] = np.exp(z[solved])
    return xi
