r"""The errors where tasks commute with tokens: all is a list of directions.

Row i of Γ, in the eigenbasis of the tokens, sees the ridge z_i = ξ/s_i and with it its own
shrinkage. What depends on the row is a smooth function of log z, which is known at nodes and
interpolated. Isotropic tokens have one node. With the shares h and g of `_shrinkage` all terms
are products and quotients of numbers of one sign, and nothing cancels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from iclkit.theory._equivalent import one_minus_ratio
from iclkit.theory._setting import Setting
from iclkit.theory._shrinkage import effective_ridge, shrinkage, trace

FLOOR = 1e-300  # of what is interpolated in logs
ACCURATE = 1e-10  # relative error of what is interpolated


class Point(NamedTuple):
    """Points of one setting in its units, each (points,), and their test."""

    tau: np.ndarray
    q: np.ndarray
    kappa: np.ndarray
    rho: np.ndarray
    lam: np.ndarray
    rho_test: np.ndarray
    q_icl: np.ndarray  # of new tasks at test
    q_idg: np.ndarray  # of the pretraining tasks at test

    def part(self, rows: Any) -> Point:
        return Point(*(array[rows] for array in self))


class Nodes(NamedTuple):
    tokens: np.ndarray  # (n,) eigenvalues of tokens
    rows: np.ndarray | None  # (m, n) from nodes to rows; None where all rows are alike
    mean: np.ndarray  # (n,) from nodes to the mean over rows
    others: np.ndarray  # eigenvalues between the nodes, and what leads to them, for a check
    to_others: np.ndarray

    def to_rows(self, values: np.ndarray) -> np.ndarray:
        """Interpolate positive functions of log z, (points, n), to (points, m)."""
        if self.rows is None:
            return values
        found: np.ndarray = np.exp(np.log(np.maximum(values, FLOOR)) @ self.rows.T)
        return found


class State(NamedTuple):
    """The equivalent at nodes; vectors are (rows,), matrices (rows, m) or (rows, 1)."""

    v: np.ndarray
    g: np.ndarray
    h: np.ndarray
    K: np.ndarray
    z_share: np.ndarray  # z/K
    q_share: np.ndarray  # qΣ/K
    spent: np.ndarray  # tr BG
    unspent: np.ndarray  # z tr G
    growth: np.ndarray  # z tr BG²
    hg_z: np.ndarray  # tr hg z/K
    hg_q: np.ndarray  # tr hg qΣ/K
    room: np.ndarray  # 1 + (v/κ) tr hg
    ratio: np.ndarray  # e/c


def nodes(tokens: np.ndarray, weights: np.ndarray, refined: int = 0) -> Nodes:
    """Return the eigenvalues of tokens themselves, or Chebyshev's nodes in their logs."""
    few, where = np.unique(tokens, return_inverse=True)
    if few.size == 1:
        return Nodes(few, None, np.ones(1), few[:0], np.empty((0, 1)))
    wide = np.log(few[-1] / few[0])
    count = int(32 + 4 * wide) * 2**refined
    if few.size <= count:
        rows = (where[:, None] == np.arange(few.size)) * 1.0
        return Nodes(few, rows, weights @ rows, few[:0], np.empty((0, few.size)))
    angle = (np.arange(count) + 0.5) * np.pi / count
    signs = (-1.0) ** np.arange(count) * np.sin(angle)

    def interpolation(y: np.ndarray) -> np.ndarray:
        difference = y[:, None] - np.cos(angle)
        hit = np.abs(difference) < 1e-15
        share = np.where(hit.any(axis=1)[:, None], hit, signs / np.where(hit, 1.0, difference))
        found: np.ndarray = share / share.sum(axis=1, keepdims=True)
        return found

    between = np.cos(np.linspace(angle[0], angle[-1], 9) + np.pi / count / 2)[:-1]
    rows = interpolation(2 * np.log(few / few[0]) / wide - 1)[where]
    tokens, others = (few[0] * np.exp((y + 1) / 2 * wide) for y in (np.cos(angle), between))
    return Nodes(tokens, rows, weights @ rows, others, interpolation(between))


def _trace(weights: np.ndarray, entries: np.ndarray, factor: np.ndarray) -> np.ndarray:
    if factor.shape[1] == 1:
        found: np.ndarray = trace(entries, weights) * factor[:, 0]
        return found
    return trace(entries * factor, weights)


def equivalent(
    law: Setting, q: np.ndarray, kappa: np.ndarray, z: np.ndarray, start: np.ndarray
) -> State:
    """Return the state for rows of q, κ, z."""
    w = law.weights
    K = q[:, None] * law.tokens + z[:, None]
    v, g, h = shrinkage(law.tokens**2 * law.tasks / K, w, kappa, start)
    z_share, q_share = z[:, None] / K, q[:, None] * law.tokens / K
    hg = h * g
    hg_z, hg_q = _trace(w, hg, z_share), _trace(w, hg, q_share)
    room = 1 + v * (hg_z + hg_q) / kappa
    ratio = (1 + v * hg_q / kappa) / room
    return State(
        v, g, h, K, z_share, q_share,
        spent=trace(h, w) + _trace(w, g, q_share),
        unspent=_trace(w, g, z_share),
        growth=ratio * hg_z + _trace(w, g * g, z_share * q_share),
        hg_z=hg_z, hg_q=hg_q, room=room, ratio=ratio,
    )  # fmt: skip


def solve(law: Setting, point: Point, at: Nodes) -> np.ndarray:
    """Return the effective ridge ξ of points."""
    n = at.tokens.size
    guess = np.full((point.tau.size, n), np.inf)

    def freedom(rows: np.ndarray, xi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        z = (xi[:, None] / at.tokens).ravel()
        q, kappa = np.repeat(point.q[rows], n), np.repeat(point.kappa[rows], n)
        state = equivalent(law, q, kappa, z, guess[rows].ravel())
        guess[rows] = state.v.reshape(-1, n)
        spent, unspent, growth = (
            trace(array.reshape(-1, n), at.mean)
            for array in (state.spent, state.unspent, state.growth)
        )
        return spent, unspent, growth

    inverse = float(law.weights @ (1 / law.tokens * np.ones_like(law.weights)))
    energy = float(law.weights @ (law.tokens**2 * law.tasks))
    with np.errstate(over="ignore"):
        low = np.maximum(point.lam, point.q * (1 - np.minimum(point.tau, 1)) / inverse**2)
        high = point.lam + (point.q + energy) / point.tau
    return effective_ridge(freedom, point.tau, point.lam, low, high)


def accurate(law: Setting, point: Point, xi: np.ndarray, at: Nodes) -> bool:
    """Say whether there were nodes enough, from what is interpolated between them."""
    if not at.others.size or not xi.size:
        return True

    def logs(tokens: np.ndarray) -> list[np.ndarray]:
        n = tokens.size
        z = (xi[:, None] / tokens).ravel()
        q, kappa = np.repeat(point.q, n), np.repeat(point.kappa, n)
        state = equivalent(law, q, kappa, z, np.full(z.shape, np.inf))
        some = (state.v, state.growth, state.hg_q, state.room)
        return [np.log(np.maximum(array, FLOOR)).reshape(-1, n) for array in some]

    pairs = zip(logs(at.tokens), logs(at.others), strict=True)
    off = [np.abs(nodes @ at.to_others.T - others).max() for nodes, others in pairs]
    return bool(max(off) < ACCURATE)


def unused(spent: Any, unspent: Any, tau: Any) -> np.ndarray:
    """Return 1 − spent/τ, the share of contexts that a fit does not use up."""
    over = one_minus_ratio(1.0, tau) + unspent / tau
    found: np.ndarray = np.where(spent < 0.5, 1 - spent / tau, over)
    return found


def errors_at(
    law: Setting, point: Point, xi: np.ndarray, slack: np.ndarray | None, at: Nodes
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ICL error, the IDG error and 1 − spent/τ, which may be known, from ξ."""
    n, w, s, C = at.tokens.size, law.weights, law.tokens, law.tasks
    s_t, C_t = law.test_tokens, law.test_tasks
    q, kappa = np.repeat(point.q, n), np.repeat(point.kappa, n)
    z = (xi[:, None] / at.tokens).ravel()
    state = equivalent(law, q, kappa, z, np.full(z.shape, np.inf))
    g, h, K, v, room = state.g, state.h, state.K, state.v, state.room
    # What the test weighs, in units of K at s = 1, which cancel.
    M = s_t * (point.q_icl[:, None] + s_t * C_t)
    M = np.repeat(M, n, axis=0)
    unit = q + z
    hg_test = trace(h * g * (M * (unit[:, None] / K)), w)
    last = g * (state.ratio[:, None] * h + state.q_share * g)
    bg2_test = trace(M / K * last, w)
    bg2_q = _trace(w, last, state.q_share)
    rbg2 = (
        trace(h * h, w)
        + (2 - state.ratio) * state.hg_q
        + state.hg_z * (v * state.hg_z / kappa) / room
    )

    def mean(values: np.ndarray) -> np.ndarray:
        return trace(values.reshape(-1, n), at.mean)

    # Rows, each (points, m).
    own_z = xi[:, None] / s
    own_K = point.q[:, None] * s + own_z
    if at.rows is None:
        row_g, row_h = g, h
    else:
        row_v = at.to_rows(v.reshape(-1, n))
        p = s**2 * C / own_K
        row_g, row_h = row_v / (p + row_v), p / (p + row_v)
    stretched = at.to_rows(np.reshape(v * state.hg_q / kappa / room, (-1, n)))
    tested = at.to_rows(np.reshape(v * hg_test / kappa / room, (-1, n)))
    inner = 1 / at.to_rows(room.reshape(-1, n))
    hg = row_g * row_h
    f2 = trace(row_h**2 + hg * (own_K / (point.q[:, None] * s)) * stretched, w)
    mean_bias = trace(hg * (own_K / s) * inner, w)
    bias = s_t * C_t * (row_g - row_h * ((s_t - s) / s)) ** 2
    spread = (s_t / s**2) * hg * (own_K / (point.q[:, None] + own_z)) * tested
    memory = (s_t / s) ** 2 * point.q_icl[:, None] * row_h**2
    shifted = w * (s_t / s)
    shift = np.array([shifted.sum()]) if at.rows is None else shifted @ at.rows
    if slack is None:
        slack = unused(mean(state.spent), mean(state.unspent), point.tau)
    endless = point.rho + point.q * f2 + mean_bias
    growth = mean(state.growth)
    with np.errstate(divide="ignore", invalid="ignore"):
        idg = endless / (slack + growth / point.tau)
        S = idg / point.tau
        icl = point.rho_test + trace(bias + spread + memory, w)
        icl = icl + S * trace(bg2_test.reshape(-1, n), shift)
        other = point.rho_test + mean_bias + point.q_idg * f2
        other = other + S * (mean(rbg2) + point.q_idg / point.q * mean(bg2_q))
    own = (point.q_idg == point.q) & (point.rho_test == point.rho)
    return icl, np.where(own, idg, other), slack
