r"""The 1/d correction of both errors, from one functional and its first derivatives.

Write Ω for the log-determinant of the fit's normal matrix, extended by a label of weight δ. Both
errors are derivatives of its mean: with respect to a ridge P and a source J on tr Γ, or to the
number of contexts per task ν. Tasks are added one by one; the leading order is a fixed point for
(t_w, t_ζ), the normalised traces that a task and the noise see, and the next order is an integral
over the tasks so far, y = k'/d. The derivation is in {doc}`theory/finite-size`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from iclkit.theory import _equivalent
from iclkit.theory._jets import Jet, constant, where

# Enough for 14 digits in the variable below, in which the integrand is smooth.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


# What makes up the first order, as the chapter names it; the last is n/(d(d + 1)) for n/d².
EFFECTS = (
    "few contexts", "spread of tasks", "mixed blocks", "one task at a time", "length of a context",
    "its fluctuations", "assignment", "last coordinate", "length of a task", "count",
)  # fmt: skip


class Corrections(NamedTuple):
    """Limits of what the errors are made of, and what comes to them times 1/d by each effect."""

    trace: np.ndarray  # tr Γ
    trace_1: np.ndarray  # with an axis of EFFECTS, the last one, as the others of first order
    square: np.ndarray  # tr ΓΓᵀ
    square_1: np.ndarray
    last: np.ndarray  # squares of the last column
    idg: np.ndarray
    idg_1: np.ndarray
    # What the error on the pretraining tasks changes by with other test contexts.
    own_square: np.ndarray  # tr ΓRΓᵀ
    own_last: np.ndarray  # the last column times what the first ones miss of the mean task


class _Setting(NamedTuple):
    q: np.ndarray
    kappa: np.ndarray
    rho: np.ndarray
    ridge: Jet  # P, of which O takes derivatives
    source: Jet  # J, at 0
    nu: Jet  # contexts per task


class _State(NamedTuple):
    c: Jet
    l: Jet  # noqa: E741 - the letter of the derivation
    v: Jet
    f: Jet
    a: Jet
    b: Jet
    next_w: Jet
    next_zeta: Jet


def _state(at: _Setting, start: np.ndarray, t_w: Jet, t_zeta: Jet) -> _State:
    """Return what follows from the traces, and the traces that follow from it."""
    c = (at.q * t_zeta + start) + constant(at.rho).times_delta()
    B = c + (at.nu - 1) * t_w
    root = (B * B + 4 * (t_w * c)).sqrt()
    positive = B.parts[0, 0] > 0
    # The larger of the two forms, which has no difference; the other may divide by zero.
    with np.errstate(divide="ignore", invalid="ignore"):
        l = where(positive, 2 * c / (B + root), (root - B) / (2 * t_w))  # noqa: E741
    v = 1 / (c + t_w * l)
    f = at.nu * (t_w * v) * l
    a, b = f / t_w, at.nu * v
    P_0 = at.ridge + at.kappa * (a + at.q * b)
    g = (at.kappa * a + at.source) / P_0
    seen, one = 1 / P_0, 1 - g
    return _State(c, l, v, f, a, b, seen + (one * one).times_delta(), seen + (g * g).times_delta())


def _fixed_point(at: _Setting, start: np.ndarray, t: np.ndarray) -> tuple[Jet, Jet, _State]:
    """Return t_w, t_ζ and what follows, by Newton's method with the derivatives at t."""
    # The two traces themselves are the variables, in the places of P and J.
    plain = at._replace(
        ridge=constant(at.ridge.parts[0, 0]),
        source=constant(np.zeros_like(t)),
        nu=constant(at.nu.parts[0, 0]),
    )
    state = _state(plain, start, constant(t, P=1.0), constant(t, J=1.0))
    slope_w, slope_zeta = state.next_w.parts[0, 1], state.next_w.parts[0, 2]
    t_w = t_zeta = constant(t)
    # At δ = 0 and without derivatives t solves it; each step makes the next order exact.
    for _ in range(3):
        state = _state(at, start, t_w, t_zeta)
        rest_w, rest_zeta = state.next_w - t_w, state.next_zeta - t_zeta
        shared = (slope_w * rest_w + slope_zeta * rest_zeta) / (1 - slope_w - slope_zeta)
        t_w, t_zeta = t_w + rest_w + shared, t_zeta + rest_zeta + shared
    return t_w, t_zeta, _state(at, start, t_w, t_zeta)


def _beside(*effects: Jet) -> Jet:
    """Return one jet with the effects along its last axis."""
    parts = np.broadcast_arrays(*(effect.parts for effect in effects))
    return Jet(np.concatenate(parts, axis=-1))


def corrections(
    tau: np.ndarray,
    alpha: np.ndarray,
    kappa: np.ndarray,
    rho: np.ndarray,
    lam: np.ndarray,
    balanced: np.ndarray,
    gaussian: bool,
) -> Corrections:
    """Corrections at arrays of one shape; here τ = n/(d(d + 1)), and κ is finite.

    Tasks are on the sphere unless they are `gaussian`.
    """
    shape = tau.shape
    tau, alpha, kappa, rho, lam, uniform = (
        np.ravel(array)[:, None] for array in (tau, alpha, kappa, rho, lam, ~balanced)
    )
    q, scale = (1 + rho) / alpha, 1 + rho
    under = (lam == 0) & (tau < 1)  # where all is in units of the ridge that tends to zero
    m, _, slack = _equivalent.equivalent(tau, q, kappa, lam)
    with np.errstate(divide="ignore"):
        t = np.where(under, 1 - tau, m / (tau * slack))
    ridge = np.where(under, 1.0, tau * lam)
    at = _Setting(
        q, kappa, rho, constant(ridge, P=1.0), constant(np.zeros_like(t), J=1.0),
        constant(tau / kappa, nu=1.0),
    )  # fmt: skip
    t_w, t_zeta, state = _fixed_point(at, np.where(under, 0.0, 1.0), t)
    c, l, v, f, a, b = state[:6]  # noqa: E741
    nu = at.nu

    # Second moments of one task's contexts.
    x = t_w * l * v
    x = x * x
    room = 1 - nu * x
    L_2 = l * l / room
    V_f = nu * x * L_2
    z = c / t_w
    k_1, k_2 = v * l, v * (z * f + l)
    t_x = 0.5 * (t_w + t_zeta - constant(np.ones_like(t)).times_delta())

    # Second moments of the traces when y·d tasks have been added. Of two that a task sees it is
    # T_w = t_w²/(1 − yf²), enhanced by the tasks so far; of a task and noise, T_x = t_x²/(1 − yf²);
    # of noise, T_ζ = t_ζ² + y·a²t_x²·T_x. Their integrals are those of 1/(1 − yf²), with y and
    # without, and of y/(1 − yf²)², at nodes in u with y = (1 − exp(−f²u))/f².
    aa, ff, tt, xx = a * a, f * f, t_w * t_w, t_x * t_x
    f2 = ff.parts[0, 0]
    end = -np.log1p(-kappa * f2) / f2
    u = end * (_NODES + 1) / 2
    y, dy = -np.expm1(-f2 * u) / f2, np.exp(-f2 * u) * (end * _WEIGHTS / 2)
    grown = 1 / (1 - y * ff)
    once, first, twice = grown.sum(dy), grown.sum(y * dy), (grown * grown).sum(y * dy)
    sum_w, sum_x = tt * once, xx * once
    sum_ww, sum_wx, sum_xx = tt * tt * twice, tt * xx * twice, xx * xx * twice
    sum_zeta = kappa * (t_zeta * t_zeta) + aa * (xx * xx) * first

    noise = q * t_zeta * v
    pair = k_1 * k_1 + v * k_2
    few = 0.5 * kappa * (-(nu * x)).log1p()
    spread = (ff + V_f) * (constant(kappa) - sum_w / tt)
    twisted = v * (nu - z * f - nu * f) / t_w + nu * k_1 * k_1
    mixed = -aa * (V_f / tt * sum_ww + q * twisted * sum_wx + q**2 * (nu * v * v) * sum_xx)
    single = 0.5 * aa * sum_w + q * (a * b) * sum_x
    length = (1 / alpha) * t_zeta * v - 2 * noise * (t_w * l * v) - noise * noise
    twice = (kappa / alpha) * (xx * pair + noise * noise + 4 * noise * t_x * k_1)
    twice = twice + q * pair * sum_x + q**2 * (v * v) * sum_zeta
    # The square length of a Gaussian task has variance 2/d. It scales t_w, and the noise of its
    # contexts with q = (|w|²/d + ρ)/α; here are the derivatives of 1/v, v and l by it.
    scatter = t_zeta / alpha
    longer = t_w * L_2 + scatter / room
    v_r = -(v * v * longer)
    l_r = -(nu * t_w * (l * l) * (v + v_r))
    task = t_w * (v * l_r + l * v_r) + scatter * v_r
    held = constant(ridge) + scale**2 * kappa * a
    omega = _beside(
        few, spread, mixed, single, kappa * nu * length, -nu * twice,
        -0.5 * uniform * kappa * (nu * x / room), held.log(), gaussian * kappa * nu * task,
    )  # fmt: skip

    # d/dτ of what depends on τ through P = τλ and ν = τ/κ.
    def along(parts: np.ndarray) -> np.ndarray:
        change: np.ndarray = tau * np.where(lam > 0, lam * parts[1], 0.0) + tau / kappa * parts[3]
        return change

    traced, squared = (t_zeta - t_w).parts[1], t_zeta.parts[1]
    trace, last = (traced[0] + 1) / 2, held.inverse().parts[1, 0]
    missed, own_square = (1 / v).parts[1], (t_zeta - a * t_x * t_x).parts[1, 0]

    # What a context that is added has in its leverage beyond the mean: the variance of that.
    grown = 1 / (1 - kappa * ff)
    T_w, T_x = tt * grown, xx * grown
    T_zeta = t_zeta * t_zeta + kappa * aa * (xx * T_x)
    norm = 2 * (tt * L_2 + 2 * q * (t_w * t_zeta * l) + q**2 * (t_zeta * t_zeta))
    twice = 4 * (l * l) * (xx / alpha + q * T_x) + (8 / alpha) * q * (l * t_x * t_zeta)
    twice = twice + (2 / alpha) * q**2 * (t_zeta * t_zeta) + 2 * q**2 * T_zeta
    share = x / (v * room)
    none, half = constant(np.zeros_like(t)), 0.5 * (v * v)
    added = _beside(
        none, half * (2 * (L_2 * L_2) * (T_w - tt)), none, none, half * norm, half * twice,
        half * (uniform * (nu * share * share)) - (1 - uniform) * 0.5 * (x / room), none,
        half * (gaussian * (2 * longer * longer)),
    )  # fmt: skip
    # The derivative by ν, times 1/κ, as a jet; it is needed without further derivatives.
    along_nu = Jet(np.zeros_like(omega.parts))
    along_nu.parts[:, 0] = omega.parts[:, 3] / kappa
    idg_1 = ((along_nu + added) / v).parts[1, 0]

    limits = (
        trace, squared[0], last, missed[0], own_square, -scale * (f / held).parts[1, 0]
    )  # fmt: skip
    trace, square, last, idg, own_square, own_last = (
        np.broadcast_to(value[:, 0], tau.shape[:1]).reshape(shape) for value in limits
    )
    firsts = (
        (-omega.parts[1, 2] / 2, along(traced) / 2), (omega.parts[1, 1], along(squared)),
        (idg_1, along(missed)),
    )  # fmt: skip
    trace_1, square_1, idg_1 = (
        np.concatenate(pair, axis=1).reshape(*shape, len(EFFECTS)) for pair in firsts
    )
    return Corrections(trace, trace_1, square, square_1, last, idg, idg_1, own_square, own_last)
