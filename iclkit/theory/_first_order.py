r"""The 1/d correction of both errors, from one functional and its first derivatives.

Write Ω for the log-determinant of the fit's normal matrix, extended by a label of weight δ. Both
errors are derivatives of its mean: with respect to a ridge P and one, S, that is weighted with the
covariance C̃ of the test tasks, to a source J on tr C̃Γ, or to the number of contexts per task ν.
Tasks are added one by one; the leading order is a fixed point for (t_w, t_ζ), the normalised traces
that a task and the noise see, and the next order is an integral over the tasks so far, y = k'/d.
The derivation is in {doc}`theory/finite-size`. The last axis of arrays is that of the eigenvalues
of C, whose mean is 1, with the diagonal of C̃ beside them; isotropic tasks have one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from iclkit.theory import _equivalent, _spectrum
from iclkit.theory._jets import NU, J, Jet, P, S, constant, where

# Enough for 14 digits in the variable below, in which the integrand is smooth.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


# What makes up the first order, as the chapter names it; the last is n/(d(d + 1)) for n/d².
EFFECTS = (
    "few contexts", "spread of tasks", "mixed blocks", "one task at a time", "length of a context",
    "its fluctuations", "assignment", "last coordinate", "length of a task", "count",
)  # fmt: skip


class Corrections(NamedTuple):
    """Limits of what the errors are made of, and what comes to them times 1/d by each effect."""

    trace: np.ndarray  # tr C̃Γ
    trace_1: np.ndarray  # with an axis of EFFECTS, the last one, as the others of first order
    square: np.ndarray  # tr ΓΓᵀ
    square_1: np.ndarray
    last: np.ndarray  # squares of the last column
    idg: np.ndarray
    idg_1: np.ndarray
    # What the error on the pretraining tasks changes by with other test contexts.
    own_square: np.ndarray  # tr ΓRΓᵀ
    own_last: np.ndarray  # the last column times what the first ones miss of the mean task
    weighted: np.ndarray  # tr ΓC̃Γᵀ
    weighted_1: np.ndarray


class _Setting(NamedTuple):
    q: np.ndarray
    kappa: np.ndarray
    rho: np.ndarray
    ridge: Jet  # P, of which O takes derivatives
    source: Jet  # J, at 0
    nu: Jet  # contexts per task
    # With a spectrum, its eigenvalues and those of test tasks, their shares, and S, at 0.
    spectrum: Any = 1
    tested: Any = 1
    shares: np.ndarray | None = None
    weighted: Jet | float = 0.0

    def tr(self, entries: Jet) -> Jet:
        """Return a mean over the directions."""
        return entries if self.shares is None else entries.sum(self.shares)


class _State(NamedTuple):
    c: Jet
    l: Jet  # noqa: E741 - the letter of the derivation
    v: Jet
    f: Jet
    a: Jet
    b: Jet
    # What a direction has of the traces: a task with its label, noise, one of each.
    by_w: Jet
    by_zeta: Jet
    by_x: Jet

    def seen(self, at: _Setting) -> tuple[Jet, Jet]:
        """Return the traces t_w and t_ζ that follow."""
        return at.tr(self.by_w * at.spectrum), at.tr(self.by_zeta)


def _state(at: _Setting, start: np.ndarray, t_w: Jet, t_zeta: Jet) -> _State:
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
    learned = at.kappa * a * at.spectrum
    P_0 = at.ridge + learned + at.weighted * at.tested + at.kappa * at.q * b
    g = (learned + at.source * at.tested) / P_0
    alone, missed = 1 / P_0, 1 - g
    return _State(
        c, l, v, f, a, b,
        alone + (missed * missed).times_delta(), alone + (g * g).times_delta(),
        alone - (g * missed).times_delta(),
    )  # fmt: skip


def _fixed_point(
    at: _Setting, start: np.ndarray, t_w: np.ndarray, t_zeta: np.ndarray
) -> tuple[Jet, Jet, _State]:
    """Return t_w, t_ζ and what follows, by Newton's method with the derivatives at their limits."""
    # The two traces themselves are the variables, in the places of P and J.
    plain = at._replace(
        ridge=constant(at.ridge.parts[0, 0]),
        weighted=0.0,
        source=constant(np.zeros_like(t_w)),
        nu=constant(at.nu.parts[0, 0]),
    )
    w, zeta = constant(t_w, P=1.0), constant(t_zeta, J=1.0)
    (ww, wz), (zw, zz) = (
        (trace.parts[0, P], trace.parts[0, J])
        for trace in _state(plain, start, w, zeta).seen(plain)
    )
    rest = (1 - ww) * (1 - zz) - wz * zw
    w, zeta = constant(t_w), constant(t_zeta)
    # At δ = 0 and without derivatives they solve it; each step makes the next order exact.
    for _ in range(3):
        next_w, next_zeta = _state(at, start, w, zeta).seen(at)
        by_w, by_zeta = next_w - w, next_zeta - zeta
        w = w + ((1 - zz) * by_w + wz * by_zeta) / rest
        zeta = zeta + ((1 - ww) * by_zeta + zw * by_w) / rest
    return w, zeta, _state(at, start, w, zeta)


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
    law: _spectrum.Law | None = None,
) -> Corrections:
    """Corrections at arrays of one shape; here τ = n/(d(d + 1)), and κ is finite.

    Tasks are on the sphere unless they are `gaussian`, as those of a law are.
    """
    shape = tau.shape
    tau, alpha, kappa, rho, lam, uniform = (
        np.ravel(array)[:, None] for array in (tau, alpha, kappa, rho, lam, ~balanced)
    )
    q, scale = (1 + rho) / alpha, 1 + rho
    under = (lam == 0) & (tau < 1)  # where all is in units of the ridge that tends to zero
    ridge, zero = np.where(under, 1.0, tau * lam), np.zeros_like(tau)
    at = _Setting(
        q, kappa, rho, constant(ridge, P=1.0), constant(zero, J=1.0), constant(tau / kappa, nu=1.0)
    )
    if law is None:
        m, _, slack = _equivalent.equivalent(tau, q, kappa, lam)
        with np.errstate(divide="ignore"):
            start = 2 * (np.where(under, 1 - tau, m / (tau * slack)),)
    else:
        at = at._replace(
            spectrum=law.tasks, tested=law.test_tasks, shares=law.weights,
            weighted=constant(zero, S=1.0),
        )  # fmt: skip
        start = _spectrum.traces(law, tau, q, kappa, lam)
    t_w, t_zeta, state = _fixed_point(at, np.where(under, 0.0, 1.0), *start)
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
    # Traces that a task sees, without its label and with it on one side.
    C = at.spectrum
    t_h, t_x = at.tr(state.by_zeta * C), at.tr(state.by_x * C)

    # Second moments of the traces: w, x and z² before any task, and when y·d tasks have been added
    # T_w = w²/(1 − yF), T_x = x²/(1 − yF) and T_ζ = z² + y·a²x²·T_x, with F = a²w². Their integrals
    # are those of 1/(1 − yF), with y and without, and of y/(1 − yF)², at nodes in u with
    # y = (1 − exp(−Fu))/F.
    aa, ff, tt, xx = a * a, f * f, t_w * t_w, t_x * t_x
    ww = at.tr(state.by_w * state.by_w * C**2)
    wx = at.tr(state.by_x * state.by_x * C)
    zz = at.tr(state.by_zeta * state.by_zeta)
    F = aa * ww
    f2 = F.parts[0, 0]
    end = -np.log1p(-kappa * f2) / f2
    u = end * (_NODES + 1) / 2
    y, dy = -np.expm1(-f2 * u) / f2, np.exp(-f2 * u) * (end * _WEIGHTS / 2)
    grown = 1 / (1 - y * F)
    once, first, twice = grown.sum(dy), grown.sum(y * dy), (grown * grown).sum(y * dy)
    sum_w, sum_x = ww * once, wx * once
    sum_ww, sum_wx, sum_xx = ww * ww * twice, ww * wx * twice, wx * wx * twice
    sum_zeta = kappa * zz + aa * (wx * wx) * first

    noise = q * t_zeta * v
    pair = k_1 * k_1 + v * k_2
    few = 0.5 * kappa * (-(nu * x)).log1p()
    by_trace = -((ff + V_f) / tt)  # the slope of a
    spread = by_trace * (sum_w - kappa * tt)
    twisted = v * (nu - z * f - nu * f) / t_w + nu * k_1 * k_1
    mixed = -aa * (V_f / tt * sum_ww + q * twisted * sum_wx + q**2 * (nu * v * v) * sum_xx)
    single = 0.5 * aa * sum_w + q * (a * b) * sum_x
    length = (1 / alpha) * t_h * v - 2 * noise * (t_w * l * v) - noise * noise
    twice = (kappa / alpha) * (xx * pair + noise * noise + 4 * noise * t_x * k_1)
    twice = twice + q * pair * sum_x + q**2 * (v * v) * sum_zeta
    # The square length of a Gaussian task fluctuates together with what the task sees, and scales
    # the noise of its contexts, q = (|w|²/d + ρ)/α.
    scatter = t_zeta / alpha
    both = 2 * L_2 * scatter * at.tr(state.by_w * C**2)
    both = both + scatter * scatter / room * (1 if law is None else float(law.weights @ C**2))
    task = by_trace * tt - nu * (v * v) * both
    # The last coordinate of h is a square: in units of the law, its column has another ridge.
    held = constant(ridge if law is None else ridge / law.unit) + scale**2 * kappa * a
    omega = _beside(
        few, spread, mixed, single, kappa * nu * length, -nu * twice,
        -0.5 * uniform * kappa * (nu * x / room), held.log(), gaussian * kappa * task,
    )  # fmt: skip

    # d/dτ of what depends on τ through P = τλ and ν = τ/κ.
    def along(parts: np.ndarray) -> np.ndarray:
        change: np.ndarray = tau * np.where(lam > 0, lam * parts[P], 0.0) + tau / kappa * parts[NU]
        return change

    missing = at.tr(state.by_w * at.tested)
    meeting = at.tr(state.by_zeta * at.tested)
    traced, squared, weighted = (meeting - missing).parts[1], t_zeta.parts[1], meeting.parts[1]
    trace = (traced[0] + _spectrum.tested_mean(law)) / 2
    last = held.inverse().parts[1, 0]
    missed, own_square = (1 / v).parts[1], (t_h - a * xx).parts[1, 0]

    # What a context that is added has in its leverage beyond the mean: the variance of that.
    grown = 1 / (1 - kappa * F)
    T_w, T_x = ww * grown, wx * grown
    T_zeta = zz + kappa * aa * (wx * T_x)
    norm = 2 * (tt * L_2 + 2 * q * (t_w * t_zeta * l) + q**2 * (t_zeta * t_zeta))
    twice = 4 * (l * l) * (xx / alpha + q * T_x) + (8 / alpha) * q * (l * t_x * t_zeta)
    twice = twice + (2 / alpha) * q**2 * (t_zeta * t_zeta) + 2 * q**2 * T_zeta
    share = x / (v * room)
    none, half = constant(zero), 0.5 * (v * v)
    added = _beside(
        none, half * (2 * (L_2 * L_2) * (T_w - tt)), none, none, half * norm, half * twice,
        half * (uniform * (nu * share * share)) - (1 - uniform) * 0.5 * (x / room), none,
        half * (gaussian * 2 * (L_2 * L_2 * tt + both / room)),
    )  # fmt: skip
    # The derivative by ν, times 1/κ, as a jet; it is needed without further derivatives.
    along_nu = Jet(np.zeros_like(omega.parts))
    along_nu.parts[:, 0] = omega.parts[:, NU] / kappa
    idg_1 = ((along_nu + added) / v).parts[1, 0]

    limits = (
        trace, squared[0], last, missed[0], own_square, -scale * (f / held).parts[1, 0],
        weighted[0],
    )  # fmt: skip
    trace, square, last, idg, own_square, own_last, by_task = (
        np.broadcast_to(value[:, 0], tau.shape[:1]).reshape(shape) for value in limits
    )
    firsts = (
        (-omega.parts[1, J] / 2, along(traced) / 2), (omega.parts[1, P], along(squared)),
        (idg_1, along(missed)),
        (omega.parts[1, P if law is None else S], along(weighted)),
    )  # fmt: skip
    trace_1, square_1, idg_1, by_task_1 = (
        np.concatenate(pair, axis=1).reshape(*shape, len(EFFECTS)) for pair in firsts
    )
    return Corrections(
        trace, trace_1, square, square_1, last, idg, idg_1, own_square, own_last, by_task, by_task_1
    )
