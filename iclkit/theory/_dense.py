r"""The errors where tasks don't commute with tokens: matrices in the basis of the tokens.

The formulas are those of `_levels` with F = (cP + K)⁻¹ as a matrix, P = ΣCΣ and K = qΣ + z. With
the eigenvectors U and eigenvalues p of K^(−½)PK^(−½) it is K^(−½)U(g/1)UᵀK^(−½), and the shares g
and h of `_shrinkage` are as before. Each node takes one decomposition, of order d³.

Tokens at test that don't commute with those of pretraining couple the rows of Γ, i and j, and with
them the resolvents at z_i and z_j, of which the equivalent of two is taken.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from iclkit.theory._levels import ACCURATE, FLOOR, Nodes, Point, unused
from iclkit.theory._setting import Setting
from iclkit.theory._shrinkage import effective_ridge, shrinkage


class State(NamedTuple):
    """The equivalent at one node."""

    v: float
    K: np.ndarray
    F: np.ndarray
    T: np.ndarray  # FPF/v, which has the shares gh
    mean: np.ndarray  # 1 − KF, the equivalent of ΣRΣG
    spent: float
    unspent: float
    growth: float  # z tr BG²
    hg_q: float  # tr T qΣ
    room: float
    ratio: float


def _state(law: Setting, q: float, kappa: float, z: float, start: float) -> State:
    s, m = law.tokens, law.tokens.size
    K = q * s + z
    root = np.sqrt(K)
    factor = s / root
    p, U = np.linalg.eigh(factor[:, None] * law.tasks * factor)
    p = np.where(p > m * np.finfo(float).eps * p[-1], p, 0.0)
    found = shrinkage(p[None], law.weights, np.array([kappa]), np.array([start]))
    v, g, h = float(found[0][0]), found[1][0], found[2][0]
    U = U / root[:, None]
    F, T = (U * g) @ U.T, (U * (g * h)) @ U.T
    hg_z, hg_q = float(z * np.trace(T)) / m, float(q * np.diag(T) @ s) / m
    room = 1 + v * (hg_z + hg_q) / kappa
    ratio = (1 + v * hg_q / kappa) / room
    return State(
        v, K, F, T,
        mean=K[:, None] * ((U * h) @ U.T),
        spent=float(np.mean(h)) + float(q * np.diag(F) @ s) / m,
        unspent=float(z * np.trace(F)) / m,
        growth=ratio * hg_z + float(z * q * (F**2 @ s).mean()),
        hg_q=hg_q, room=room, ratio=ratio,
    )  # fmt: skip


def solve(law: Setting, point: Point, at: Nodes) -> np.ndarray:
    """Return the effective ridge ξ of points."""
    guess = np.full((point.tau.size, at.tokens.size), np.inf)

    def freedom(rows: np.ndarray, xi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = np.empty((3, rows.size))
        for i, (row, ridge) in enumerate(zip(rows, xi, strict=True)):
            for j, s in enumerate(at.tokens):
                q, kappa = float(point.q[row]), float(point.kappa[row])
                state = _state(law, q, kappa, float(ridge / s), float(guess[row, j]))
                guess[row, j] = state.v
                part = np.array([state.spent, state.unspent, state.growth])
                found[:, i] = (0.0 if j == 0 else found[:, i]) + at.mean[j] * part
        return found[0], found[1], found[2]

    inverse = float(law.weights @ (1 / law.tokens))
    energy = float(law.weights @ (law.tokens**2 * np.diag(law.tasks)))
    low = np.maximum(point.lam, point.q * (1 - np.minimum(point.tau, 1)) / inverse**2)
    with np.errstate(divide="ignore"):
        high = point.lam + (point.q + energy) / point.tau
    return effective_ridge(freedom, point.tau, point.lam, low, high)


def accurate(law: Setting, point: Point, xi: np.ndarray, at: Nodes) -> bool:
    """Say whether there were nodes enough, from what is interpolated between them."""
    if not at.others.size:
        return True

    def logs(q: float, kappa: float, ridge: float, tokens: np.ndarray) -> np.ndarray:
        states = [_state(law, q, kappa, ridge / float(s), np.inf) for s in tokens]
        some = [(s.v, s.growth, s.hg_q, s.room) for s in states]
        found: np.ndarray = np.log(np.maximum(np.array(some), FLOOR))
        return found

    for q, kappa, ridge in zip(point.q, point.kappa, xi, strict=True):
        known, found = (logs(q, kappa, ridge, tokens) for tokens in (at.tokens, at.others))
        if not np.abs(at.to_others @ known - found).max() < ACCURATE:
            return False
    return True


def errors_at(
    law: Setting, point: Point, xi: np.ndarray, slack: np.ndarray | None, at: Nodes
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ICL error, the IDG error and 1 − spent/τ, which may be known, from ξ."""
    known = np.full(xi.shape, np.nan) if slack is None else slack
    numbers = (*point, xi, known)
    found = [_errors(law, at, *(float(a[i]) for a in numbers)) for i in range(xi.size)]
    icl, idg, slack = np.array(found).reshape(-1, 3).T
    return icl, idg, slack


def _errors(law: Setting, at: Nodes, *numbers: float) -> tuple[float, float, float]:
    tau, q, kappa, rho, _, rho_test, q_icl, q_idg, xi, known = numbers
    s, C_t, m = law.tokens, law.test_tasks, law.tokens.size
    S_t = law.test_tokens if law.test_tokens.ndim == 2 else np.diag(law.test_tokens)
    s_t, M = np.diag(S_t), q_icl * S_t + S_t @ C_t @ S_t
    states = [_state(law, q, kappa, xi / float(token), np.inf) for token in at.tokens]
    rows, scalars = [], []
    for state in states:
        F, T, H, scale = state.F, state.T, state.mean, state.K / s
        remembered = state.K**2 * np.diag(T) * state.v / kappa / state.room
        # What a row of Γ leaves of a task at test: KFΣ/s, with the tokens of pretraining.
        left = state.K[:, None] * F * s - H * (s_t - s)
        hg_test = float(np.sum(T * M)) / m
        bg2_q = state.ratio * state.hg_q + q**2 * float(s @ F**2 @ s) / m
        bg2_test = state.ratio * hg_test + q * float(np.sum(((F * s) @ F) * M)) / m
        rows.append([
            (H**2 @ s + remembered * state.hg_q / q) / s,
            scale * state.K * np.diag(T) / state.room,
            s_t / s**2 * (np.sum((left @ C_t) * left, axis=1)
                          + q_icl * H**2 @ s_t + remembered * hg_test),
        ])  # fmt: skip
        rbg2 = state.spent - state.growth - bg2_q
        scalars.append([state.growth, rbg2, bg2_q, state.spent, state.unspent, bg2_test])
    table = np.log(np.maximum(np.array(rows), FLOOR))  # (nodes, 3, m)
    to_rows = np.ones((m, 1)) if at.rows is None else at.rows
    f2, mean_bias, bias = np.exp(np.einsum("in,nki->ki", to_rows, table)) @ law.weights
    if law.test_tokens.ndim == 2:
        bias = _coupled_bias(law, states, to_rows, q, kappa, xi, q_icl)
    growth, rbg2, bg2_q, spent, unspent, _ = at.mean @ np.array(scalars)
    shifted = (law.weights * s_t / s) @ to_rows @ np.array(scalars)[:, -1]
    slack = float(unused(spent, unspent, tau)) if np.isnan(known) else known
    endless = rho + q * f2 + mean_bias
    room = slack + growth / tau
    idg = endless / room if room > 0 else np.inf
    icl = rho_test + bias + (idg / tau * shifted if tau < np.inf else 0.0)
    if q_idg != q or rho_test != rho:
        spread = rbg2 + q_idg / q * bg2_q
        idg = rho_test + mean_bias + q_idg * f2 + (idg / tau * spread if tau < np.inf else 0.0)
    return icl, idg, slack


def _coupled_bias(
    law: Setting,
    states: list[State],
    to_rows: np.ndarray,
    q: float,
    kappa: float,
    xi: float,
    q_icl: float,
) -> float:
    """Return the error of the mean Γ, but for label noise, where rows meet in Σ_test.

    G_iMG_j ≃ F_i(M + r_ij P)F_j with r_ij = (c_i/κ) tr PF_iMF_j / (1 + tr F_jPF_iK_i/κ), where the
    room is one in which nothing cancels: c_i(1 + tr PF_i/κ) = 1 leads to it.
    """
    s, S_t, C_t, m = law.tokens, law.test_tokens, law.test_tasks, law.tokens.size
    M, P = q_icl * S_t + S_t @ C_t @ S_t, s[:, None] * law.tasks * s
    K = q * s + xi / s
    # Rows of F, between nodes by what is bounded, K^½FK^½.
    roots = [np.sqrt(state.K) for state in states]
    bounded = np.array([r[:, None] * state.F * r for r, state in zip(roots, states, strict=True)])
    at_row = q * s + (xi / s)[:, None]  # of row i, K at all tokens
    F = np.einsum("in,nij->ij", to_rows, bounded) / np.sqrt(at_row * K[:, None])
    mean = (np.eye(m) - K[:, None] * F) / s[:, None]  # Γ
    missed = np.eye(m) - mean @ S_t
    # r at pairs of nodes, c = 1/v.
    response = np.empty((len(states), len(states)))
    for i, one in enumerate(states):
        PF, KFP = P @ one.F, (one.K[:, None] * one.F) @ P
        for j, two in enumerate(states):
            room = 1 + np.sum(KFP * two.F) / m / kappa
            response[i, j] = np.sum((PF @ M) * two.F) / m / kappa / one.v / room
    # It can be negative off the diagonal, where Cauchy and Schwarz bound it by both ends.
    size = np.sqrt(np.maximum(np.diag(response), FLOOR))
    at_ends = np.exp(to_rows @ np.log(size))
    coupled = np.outer(at_ends, at_ends)
    coupled *= to_rows @ (response / np.outer(size, size)) @ to_rows.T
    scale = K / s
    remembered = coupled * (scale[:, None] * (F @ P @ F.T) * scale)
    parts = np.sum(S_t * (missed @ C_t @ missed.T + q_icl * mean @ S_t @ mean.T + remembered))
    return float(parts) / m
