r"""Errors while training goes on: along gradient flow, descent, and with momentum, from Γ = 0.

The loss that is descended on is ½(d/n)Σ(y − xᵀΓh)² + ½λ|Γ|², and with it goes the *unit of time*:
dΓ/dt is minus its gradient, so that t compares with 1/λ. Descent with rate η on it has t = kη after
k steps. Whoever descends on the mean squared error (1/n)Σ(y − xᵀΓh)² with learning rate η' is at
t = 2η'k/d.

What training leaves of a residual with eigenvalue s is r(s), e⁻ᵗˢ for the flow. With complex ridges
z and weights w that have Σ w z/(s + z) = r(s) for all s ≥ 0, Γ is Σ w Γ(z) of ridge fits Γ(z), and

    e = Σ_j Σ_k w_j w_k E(z_j, z_k),

where E is polarised, the error of ridge fits where both ridges are one. The weights are those of a
contour integral, 13 nodes above the real axis and as many below for the flow, see `_flow_nodes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from iclkit import _validate
from iclkit._labels import labelled
from iclkit.theory import _equivalent

_TESTS = ("icl", "idg")
_PARTS = ("all", "mean", "variance")
# More nodes lose digits to rounding, fewer to truncation.
_NODES = 13
# Times, or entries of E, that are computed together.
_BLOCK = 400_000
# Steps of descent: nodes grow with them, and their pairs with the square.
_MOST_STEPS = 500
# Beyond, the nodes have been tried less, and digits are lost.
_LEAST, _MOST = 1e-9, 1e9
# Times among which the best one is looked for first.
_TIMES = 240
# No time counts as better than the last by less, relative to the error.
_TELLING = 1e-11


@labelled("step", "momentum", "part")
def icl_error(
    t: ArrayLike,
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
    *,
    step: float | None = None,
    momentum: float = 0.0,
    part: str = "all",
    alpha_test: ArrayLike | None = None,
    rho_test: ArrayLike | None = None,
) -> Any:
    """Error on new tasks of a model that was trained for a time t.

    Parameters
    ----------
    t : float or array
        Training time in [0, inf], in the unit of the module: 2·(learning rate)·(steps)/d for
        descent on the mean squared error.
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d in (0, inf]; finite where t is inf.
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    lam : float or array
        Ridge λ of the loss, at least 0: weight decay.
    step : float, optional
        Rate η of descent, on the loss of the module; t is then a multiple kη with k of at most
        500. By default the flow, η → 0.
    momentum : float
        Momentum β in [0, 1) of the heavy ball, Γ ← Γ − η∇ + β(Γ − Γ_before); it needs a `step`.
    part : {"all", "mean", "variance"}
        The error; that of the average of Γ over data sets, label noise included; or what is left.
    alpha_test, rho_test : float or array, optional
        Context length and noise of the test contexts; by default those of pretraining.

    Returns
    -------
    float or array
        The error, label noise included, broadcast over the arguments; inf where it diverges, at
        t = inf.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, which is from 1e-9 to 1e9 besides 0 and inf, or descent
        diverges, η(s₊ + λ) ≥ 2(1 + β) with s₊ of `upper_edge`.

    Notes
    -----
    To 1e-12, relative to the error. Source: eq-tt-sum and eq-tt-pair in the book.

    Examples
    --------
    >>> from iclkit.theory import flow
    >>> point = {"tau": 5.0, "alpha": 20.0, "kappa": 0.3, "rho": 0.1}
    >>> print(flow.icl_error([0.0, 1.73, float("inf")], **point).round(4))  # learned, and forgotten
    [1.1    0.8235 1.2096]
    >>> print(flow.icl_error([0.0, 1.73, 100.0], **point, part="mean").round(4))
    [1.1    0.8174 0.816 ]
    >>> print(flow.icl_error(1.7, **point, step=0.1).round(4))  # 17 steps
    0.8233
    """
    return _error(
        "icl", t, tau, alpha, kappa, rho, lam, step, momentum, part, alpha_test, rho_test
    )  # fmt: skip


@labelled("step", "momentum", "part")
def idg_error(
    t: ArrayLike,
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
    *,
    step: float | None = None,
    momentum: float = 0.0,
    part: str = "all",
    alpha_test: ArrayLike | None = None,
    rho_test: ArrayLike | None = None,
) -> Any:
    """Error on new contexts of the pretraining tasks, of a model that was trained for a time t.

    Parameters
    ----------
    t : float or array
        Training time in [0, inf], in the unit of the module: 2·(learning rate)·(steps)/d for
        descent on the mean squared error.
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d in (0, inf]; finite where t is inf.
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    lam : float or array
        Ridge λ of the loss, at least 0: weight decay.
    step : float, optional
        Rate η of descent, on the loss of the module; t is then a multiple kη with k of at most
        500. By default the flow, η → 0.
    momentum : float
        Momentum β in [0, 1) of the heavy ball, Γ ← Γ − η∇ + β(Γ − Γ_before); it needs a `step`.
    part : {"all", "mean", "variance"}
        The error; that of the average of Γ over data sets, label noise included; or what is left.
    alpha_test, rho_test : float or array, optional
        Context length and noise of the test contexts; by default those of pretraining.

    Returns
    -------
    float or array
        The error, label noise included, broadcast over the arguments; inf where it diverges, at
        t = inf.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, which is from 1e-9 to 1e9 besides 0 and inf, or descent
        diverges, η(s₊ + λ) ≥ 2(1 + β) with s₊ of `upper_edge`.

    Notes
    -----
    To 1e-12, relative to the error. Source: eq-tt-sum and eq-tt-pair in the book.

    Examples
    --------
    >>> from iclkit.theory import flow
    >>> point = {"tau": 5.0, "alpha": 20.0, "kappa": 0.3, "rho": 0.1}
    >>> print(flow.idg_error([0.0, 8.0, float("inf")], **point).round(4))
    [1.1    0.1255 0.1452]
    """
    return _error(
        "idg", t, tau, alpha, kappa, rho, lam, step, momentum, part, alpha_test, rho_test
    )  # fmt: skip


@labelled("step", "momentum")
def train_loss(
    t: ArrayLike,
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
    *,
    step: float | None = None,
    momentum: float = 0.0,
) -> Any:
    """Mean squared error on the pretraining contexts themselves, after a time t of training.

    Parameters
    ----------
    t : float or array
        Training time in [0, inf], in the unit of the module: 2·(learning rate)·(steps)/d for
        descent on the mean squared error.
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d in (0, inf]; finite where t is inf.
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    lam : float or array
        Ridge λ of the loss, at least 0: weight decay. Its penalty is not part of what is returned.
    step : float, optional
        Rate η of descent, on the loss of the module; t is then a multiple kη with k of at most
        500. By default the flow, η → 0.
    momentum : float
        Momentum β in [0, 1) of the heavy ball, Γ ← Γ − η∇ + β(Γ − Γ_before); it needs a `step`.

    Returns
    -------
    float or array
        The mean of (y − xᵀΓh)², broadcast over the arguments.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, which is from 1e-9 to 1e9 besides 0 and inf, or descent
        diverges, η(s₊ + λ) ≥ 2(1 + β) with s₊ of `upper_edge`.

    Notes
    -----
    To 1e-12, relative to its value at t = 0: where labels are learned by heart, τ < 1, it ends in
    rounding. Source: eq-tt-sum and eq-tt-pair in the book.

    Examples
    --------
    >>> from iclkit.theory import flow
    >>> point = {"tau": 5.0, "alpha": 20.0, "kappa": 0.3, "rho": 0.1}
    >>> print(flow.train_loss([0.0, 8.0, float("inf")], **point).round(4))
    [1.1    0.1004 0.0929]
    """
    return _error("train", t, tau, alpha, kappa, rho, lam, step, momentum, "all", None, None)


@labelled("test")
def optimal_time(
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
    *,
    test: str = "icl",
    alpha_test: ArrayLike | None = None,
    rho_test: ArrayLike | None = None,
) -> Any:
    """Time t* at which the flow is best stopped.

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d, positive and finite.
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    lam : float or array
        Ridge λ of the loss, at least 0: weight decay.
    test : {"icl", "idg"}
        Which of the two errors is smallest there.
    alpha_test, rho_test : float or array, optional
        Context length and noise of the test contexts; by default those of pretraining.

    Returns
    -------
    float or array
        t* in the unit of the module, broadcast over the arguments; inf where no finite time has an
        error that, without the noise of the test's labels, is smaller than the last by a share of
        more than 1e-11.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, which is from 1e-9 to 1e9 besides 0 and inf.

    Notes
    -----
    A root of the derivative, near the least of 240 errors. A minimum is flat: the error at t* is
    what can be told of a simulation, not t*. Source: eq-tt-sum in the book.

    Examples
    --------
    >>> from iclkit.theory import flow
    >>> print(flow.optimal_time(5.0, 20.0, [0.3, 1.0, 2.0], 0.1).round(2))
    [ 1.73 12.25 16.43]
    >>> print(flow.optimal_time(100.0, 20.0, 2.0, 0.1))  # never forgotten
    inf
    """
    _validate.choice("test", test, _TESTS)
    point = _point(0.0, tau, alpha, kappa, rho, lam, alpha_test, rho_test)
    _require_finite(point.alpha)
    flat = point.flat()
    best = [_best(test, flat.at([i])) for i in range(flat.t.size)]
    return np.reshape(best, point.t.shape)[()]


@labelled("test")
def finally_rises(
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    *,
    test: str = "icl",
    alpha_test: ArrayLike | None = None,
    rho_test: ArrayLike | None = None,
) -> Any:
    """Say whether an error rises at the end of the flow, as t → ∞.

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d, positive and finite.
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    test : {"icl", "idg"}
        Which of the two errors.
    alpha_test, rho_test : float or array, optional
        Context length and noise of the test contexts; by default those of pretraining.

    Returns
    -------
    bool or array
        Whether it does, broadcast over the arguments.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, which is from 1e-9 to 1e9 besides 0 and inf.

    Notes
    -----
    The slope at last is that of the eigenvalues at the lower edge of the loss's spectrum: its sign
    is the opposite of that of d E(ξ, ξ_∞)/dξ at the edge. An error that falls at last may have
    risen before, and may have been smaller. Source: eq-tt-late in the book.

    Examples
    --------
    >>> from iclkit.theory import flow
    >>> print(flow.finally_rises(20.0, 20.0, [0.3, 3.0, 300.0], 0.1))
    [ True False  True]
    >>> print(flow.finally_rises(float("inf"), 20.0, [0.2, 0.3], 0.1))  # the border is κ = 1/4
    [ True False]
    """
    _validate.choice("test", test, _TESTS)
    point = _point(0.0, tau, alpha, kappa, rho, 0.0, alpha_test, rho_test)
    _require_finite(point.alpha)
    return _late_slope(test, point)[()] > 0


@labelled()
def upper_edge(tau: ArrayLike, alpha: ArrayLike, kappa: ArrayLike, rho: ArrayLike) -> Any:
    """Largest eigenvalue s₊ of the loss's second derivative: descent converges for η·s₊ < 2.

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d in (0, inf].
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.

    Returns
    -------
    float or array
        s₊, broadcast over the arguments; the smallest that is not zero is −λ_e of
        `iclkit.theory.ridge_edge`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, which is from 1e-9 to 1e9 besides 0 and inf.

    Notes
    -----
    At a finite d the largest eigenvalue is larger, by much where contexts are few and short.
    Source: eq-tt-edge in the book.

    Examples
    --------
    >>> from iclkit.theory import flow
    >>> print(flow.upper_edge([5.0, float("inf")], 20.0, 0.3, 0.1).round(2))
    [8.86 8.04]
    """
    point = _point(0.0, tau, alpha, kappa, rho, 0.0, None, None)
    return _upper_edge(point)[()]


# Arguments ------------------------------------------------------------------------------------


class _Point(NamedTuple):
    """Checked arguments that have been broadcast."""

    t: np.ndarray
    tau: np.ndarray
    alpha: np.ndarray
    kappa: np.ndarray
    rho: np.ndarray
    lam: np.ndarray
    alpha_test: np.ndarray
    rho_test: np.ndarray

    @property
    def q(self) -> Any:
        return (1 + self.rho) / self.alpha

    @property
    def q_test(self) -> Any:
        return (1 + self.rho_test) / self.alpha_test

    def flat(self) -> _Point:
        return _Point(*map(np.ravel, self))

    def at(self, index: Any) -> _Point:
        return _Point(*(array[index] for array in self))


def _point(
    t: Any, tau: Any, alpha: Any, kappa: Any, rho: Any, lam: Any, alpha_test: Any, rho_test: Any
) -> _Point:
    alpha, rho = _validate.positive("alpha", alpha), _validate.nonnegative("rho", rho)
    t = _validate.real("t", t)
    _validate.nonnegative("t", np.where(np.isposinf(t), 0.0, t))
    point = _Point(
        t,
        _validate.positive("tau", tau),
        alpha,
        _validate.positive("kappa", kappa),
        rho,
        _validate.nonnegative("lam", lam),
        alpha if alpha_test is None else _validate.positive("alpha_test", alpha_test),
        rho if rho_test is None else _validate.nonnegative("rho_test", rho_test),
    )
    for name, array in point._asdict().items():
        far = (array > 0) & np.isfinite(array) & ((array < _LEAST) | (array > _MOST))
        if np.any(far):
            raise ValueError(
                f"{name} must be between {_LEAST:g} and {_MOST:g}, where it is neither 0 nor inf, "
                f"got {array[far].flat[0]}"
            )
    return _Point(*np.broadcast_arrays(*point))


def _require_finite(alpha: np.ndarray, where: str = "") -> None:
    if np.any(np.isinf(alpha)):
        raise ValueError(f"alpha must be finite{where}, got inf")


def _check_descent(step: Any, momentum: Any) -> tuple[float | None, float]:
    momentum = _validate.scalar(_validate.nonnegative, "momentum", momentum)
    if momentum >= 1:
        raise ValueError(f"momentum must be below 1, got {momentum}")
    if step is not None:
        return _validate.finite("step", step), momentum
    if momentum:
        raise ValueError(f"momentum must be 0 for the flow, which has no step, got {momentum}")
    return None, momentum


def _steps(point: _Point, step: float, momentum: float) -> np.ndarray:
    """Return the number of steps for each time."""
    ratio = point.t / step
    if np.any(ratio > _MOST_STEPS * (1 + 1e-9)):
        raise ValueError(
            f"t must be at most {_MOST_STEPS} steps of {step}, got {point.t[ratio.argmax()]}: the "
            "flow, without step, is close for small steps"
        )
    k: np.ndarray = np.rint(ratio)
    if np.any(off := np.abs(ratio - k) > 1e-9 * np.maximum(k, 1)):
        raise ValueError(f"t must be a multiple of the step {step}, got {point.t[off][0]}")
    top = _upper_edge(point) + point.lam
    if np.any(step * top >= 2 * (1 + momentum)):
        raise ValueError(
            f"step must be below 2(1 + momentum)/(upper_edge + lam), there "
            f"{2 * (1 + momentum) / top.max()}, got {step}: descent diverges"
        )
    return k


# Nodes ----------------------------------------------------------------------------------------


def _flow_nodes() -> tuple[np.ndarray, np.ndarray]:
    """Return ζ = zt above the real axis, and weights: Σ over these and conjugates is e^(−ts).

    The hyperbola of Weideman and Trefethen, Math. Comp. 76 (2007).
    """
    h, mu, phi = 1.081792140 / _NODES, 4.492075287 * _NODES, 1.172104229
    u = (np.arange(_NODES) + 0.5) * h
    zeta = mu * (1 + np.sin(1j * u - phi))
    return zeta, h * mu / (2 * np.pi) * np.cos(1j * u - phi) * np.exp(zeta) / zeta


def _descent_nodes(k: int, step: float, momentum: float) -> tuple[np.ndarray, np.ndarray]:
    """Return ridges z above the real axis, and weights, after k steps.

    From the generating function Σ ζᵏ r_k(s) on a circle close to the unit one.
    """
    number = 4 * k + 48
    turns = (np.arange(number // 2) + 0.5) / number
    zeta = 10 ** (-13 / number) * np.exp(-2j * np.pi * turns)
    z = (1 - zeta) * (1 - momentum * zeta) / (step * zeta)
    return z, zeta**-k / (number * (1 - zeta))


# The equivalent at two ridges -----------------------------------------------------------------


def _spent(m: Any, q: Any, kappa: Any) -> Any:
    """Return tr B(B + ξ)⁻¹, which is 1 − ξm without its difference."""
    return (q + 1 / (1 + m / kappa)) * m


class _State(NamedTuple):
    """What the errors take of a ridge z."""

    m: Any  # M_κ(x)
    xi: Any
    slack: Any  # z/ξ
    x: Any  # q + ξ
    c: Any


def _transform(x: Any, kappa: Any) -> Any:
    """M_κ(x) off the spectrum, with principal roots of each factor: the sheet for all of them."""
    low, high = 1 - kappa**-0.5, 1 + kappa**-0.5
    b, root = x + 1 - 1 / kappa, np.sqrt(x + high**2) * np.sqrt(x + low**2)
    plus, minus = root + b, root - b
    first = np.abs(plus) >= np.abs(minus)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(first, 2 / plus, minus * np.where(first, 1.0, kappa) / (2 * x))


def _solve(z: Any, q: Any, tau: Any, kappa: Any) -> _State:
    """Solve ξ(τ − 1 + ξM(q + ξ)) = τz for the ξ above the real axis, as z is."""
    xi = z + (1 + q) / tau
    for _ in range(60):  # maps the half plane into itself
        m = _transform(q + xi, kappa)
        xi = (xi + z + xi * _spent(m, q, kappa) / tau) / 2
    for _ in range(12):
        m = _transform(q + xi, kappa)
        c = 1 / (1 + m / kappa)
        # 1 − tr B(B + ξ)⁻¹/τ is one difference or the other, the one that keeps digits.
        left = np.where(
            np.abs(xi * m) < 0.5,
            _equivalent.one_minus_ratio(1.0, tau) + xi * m / tau,
            1 - (q + c) * m / tau,
        )
        slope = left + xi * m * ((q + c**2) / (q + xi + c**2)) / tau
        move = (xi * left - z) / slope
        for _ in range(6):
            move = np.where((xi - move).imag > 0, move, move / 2)
        xi = np.where((xi - move).imag > 0, xi - move, xi)
    m = _transform(q + xi, kappa)
    return _State(m, xi, z / xi, q + xi, 1 / (1 + m / kappa))


def _real_state(tau: Any, q: Any, kappa: Any, lam: Any) -> _State:
    """Return the state of a ridge λ ≥ 0."""
    m, xi, slack = _equivalent.equivalent(tau, q, kappa, lam)
    x, c, _ = _equivalent.shift(m, xi, q, kappa)
    return _State(m, xi, slack, x, c)


def _pair(
    test: str, one: _State, two: _State, tau: Any, kappa: Any, rho: Any, q: Any, q_test: Any
) -> tuple[Any, Any]:
    """Return E of two ridges, without the noise of the test's labels, in two parts.

    The first is that of the mean predictor, the second the variance. The training loss is whole.
    """
    cc, xx = one.c * two.c, one.x * two.x
    # Traces of G₁G₂: nothing is subtracted, so that ridges may meet.
    g = two.m / (one.x + cc)
    rg = cc * g
    f = rg * (one.c + two.x * two.m / kappa)
    b = (q + cc) * g
    room = one.slack + two.xi * b / tau  # 1 − tr B²G₁G₂/τ
    own = (rho + q * f + xx * rg) / room
    if test == "train":
        return one.slack * two.slack * own, 0.0
    if test == "icl":
        return xx * g + q_test * f, (1 + q_test) * b * (own / tau)
    return xx * rg + q_test * f, (q_test * b + q * rg + f) * (own / tau)


def _numbers(point: _Point) -> tuple[np.ndarray, ...]:
    return point.tau, point.kappa, point.rho, point.q, point.q_test


def _summed(
    test: str, z: np.ndarray, weights: np.ndarray, point: _Point, rates: Any = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Sum both parts of E over pairs of nodes, z of shape (nodes, points).

    With rates, those of the exponentials at the nodes, return derivatives by time.
    """
    state = _solve(z, point.q, point.tau, point.kappa)
    both = _State(*(np.concatenate([part, part.conj()]) for part in state))
    w = weights[:, None]
    w_both = np.concatenate([w, w.conj()])
    rates = np.broadcast_to(rates, z.shape)
    derivative = bool(np.any(rates))
    rates_both = np.concatenate([rates, rates.conj()])
    mean, variance = np.zeros(z.shape[1]), np.zeros(z.shape[1])
    for j in range(len(z)):
        one = _State(*(part[j] for part in state))
        factor = 2 * w[j] * w_both
        if derivative:
            factor = factor * (rates[j] + rates_both)
        first, second = _pair(test, one, both, *_numbers(point))
        mean += np.sum(factor * first, axis=0).real
        variance += np.sum(factor * second, axis=0).real
    return mean, variance


def _at_last(test: str, point: _Point) -> tuple[np.ndarray, np.ndarray]:
    """Return both parts of E at t = ∞, those of the ridge fit."""
    state = _real_state(point.tau, point.q, point.kappa, point.lam)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, variance = _pair(test, state, state, *_numbers(point))
    pole = (point.tau == 1) & (point.lam == 0)
    if test == "train":
        return np.where(pole, 0.0, mean), np.zeros_like(mean)
    return mean, np.where(pole, np.inf, variance)


def _blocks(size: int, pairs: int) -> Iterator[slice]:
    length = max(1, _BLOCK // pairs)
    return (slice(start, start + length) for start in range(0, size, length))


def _error(
    test: str, t: Any, tau: Any, alpha: Any, kappa: Any, rho: Any, lam: Any, step: Any,
    momentum: Any, part: str, alpha_test: Any, rho_test: Any,
) -> Any:  # fmt: skip
    _validate.choice("part", part, _PARTS)
    step, momentum = _check_descent(step, momentum)
    point = _point(t, tau, alpha, kappa, rho, lam, alpha_test, rho_test)
    shape = point.t.shape
    point = point.flat()
    ended = np.isinf(point.t)
    _require_finite(point.alpha[ended], " where t is inf")
    # What Γ = 0 leaves, to which the noise of the test comes at last.
    mean = 1 + point.rho if test == "train" else np.ones_like(point.t)
    variance = np.zeros_like(mean)
    if np.any(ended):
        if step is not None:
            raise ValueError(f"t must be finite for descent with a step, {step}, got inf")
        last = point.at(ended)
        mean[ended], variance[ended] = _at_last(test, last)
    running = np.flatnonzero((point.t > 0) & ~ended)
    some = point.at(running)
    if step is None:
        zeta, weights = _flow_nodes()
        for block in _blocks(running.size, 2 * _NODES):
            here = some.at(block)
            z = here.lam + zeta[:, None] / here.t
            mean[running[block]], variance[running[block]] = _summed(test, z, weights, here)
    elif running.size:
        steps = _steps(some, step, momentum)
        for k in np.unique(steps).astype(int):
            z, weights = _descent_nodes(k, step, momentum)
            found = running[steps == k]
            for block in _blocks(found.size, 4 * k + 48):
                at = found[block]
                here = point.at(at)
                mean[at], variance[at] = _summed(test, here.lam + z[:, None], weights, here)
    if test == "train":
        mean = np.maximum(mean, 0.0)  # rounding may leave less
    else:
        mean = point.rho_test + mean
    whole: np.ndarray = {"all": mean + variance, "mean": mean, "variance": variance}[part]
    return whole.reshape(shape)[()]


# Where the spectrum ends ----------------------------------------------------------------------


def _upper_edge(point: _Point) -> np.ndarray:
    """Return s₊ from the root of tr B²(B + ξ)⁻² = τ left of the spectrum."""
    tau, q, kappa = point.tau, point.q, point.kappa
    end = (1 + kappa**-0.5) ** 2
    low, high = np.full(tau.shape, -200.0), np.full(tau.shape, 90.0)
    for _ in range(80):
        v = (low + high) / 2
        _, _, squares = _left(v, q, kappa, end)
        low, high = np.where(squares > tau, v, low), np.where(squares > tau, high, v)
    xi, spent, _ = _left((low + high) / 2, q, kappa, end)
    top: np.ndarray = np.where(np.isinf(tau), q + end, -xi * (1 - spent / tau))
    return top


def _left(v: Any, q: Any, kappa: Any, end: Any) -> tuple[Any, Any, Any]:
    """Return ξ, left of the spectrum by the share eᵛ, tr BG and tr B²G²."""
    beyond = (q + end) * np.exp(v)
    x = -end - beyond
    # Both factors of the root are below zero, and so is their product.
    root = -np.sqrt(beyond) * np.sqrt(beyond + 4 * kappa**-0.5)
    m = 2 / (x + 1 - 1 / kappa + root)
    c = 1 / (1 + m / kappa)
    g = m / (root * c)  # tr G², as x + c² is the root times c
    squares = q * (q + 2 * c**2) * g + c**2 * g * (c + x * m / kappa)
    return x - q, (q + c) * m, squares


def _late_slope(test: str, point: _Point) -> np.ndarray:
    """Return a number with the sign of the slope of an error as t → ∞."""
    q, kappa = point.q, point.kappa
    # With endless contexts the predictor of the last task direction ends at r/(q + r), and is
    # best at r_t/(q_t + r_t), where new tasks have r_t = 1.
    r = (1 - kappa**-0.5) ** 2
    endless = point.q_test * r - q if test == "icl" else point.q_test - q
    tau = np.where(np.isinf(point.tau), 2.0, point.tau)
    v, _ = _equivalent.edge(tau, q, kappa)
    edge = _equivalent.beyond(v, tau, q, kappa)
    last = _real_state(tau, q, kappa, np.zeros(tau.shape))
    # By a complex step.
    size = np.where(tau == 1, 1.0, np.abs(edge.xi)) * 1e-30
    xi = edge.xi + 1j * size
    m = _transform(q + xi, kappa)
    state = _State(m, xi, 1 - _spent(m, q, kappa) / tau, q + xi, 1 / (1 + m / kappa))
    numbers = point._replace(tau=tau)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, variance = _pair(test, last, state, *_numbers(numbers))
        slope = -(mean + variance).imag / size
    slope = np.where(tau == 1, 1.0, slope)  # to the pole
    return np.where(np.isinf(point.tau), endless, slope)


def _best(test: str, point: _Point) -> float:
    """Return the best time for arrays of one number."""
    zeta, weights = _flow_nodes()
    zeta = zeta[:, None]

    def along(log_t: Any, derivative: bool = False) -> Any:
        t = np.exp(np.atleast_1d(log_t))
        here = _Point(*np.broadcast_arrays(t, *point[1:]))
        rates = zeta / t if derivative else 0.0
        mean, variance = _summed(test, point.lam + zeta / t, weights, here, rates)
        return mean + variance

    slowest = point.lam - _equivalent.edge(point.tau, point.q, point.kappa)[1]
    # From the second order in t, which bends the first.
    noise = (1 + point.rho) * (1 + point.q) / point.tau
    bend = point.lam + (1 + point.q_test) * (1 + 1 / point.kappa + noise)
    fastest = np.maximum(_upper_edge(point) + point.lam, bend)
    start, stop = np.log(1e-3 / fastest), np.log(40 / np.maximum(slowest, 1e-12 * fastest))
    grid = np.linspace(start, stop, _TIMES)[:, 0]
    errors = along(grid)
    least = int(errors.argmin())
    last = float(np.sum(_at_last(test, point)))
    if least == _TIMES - 1 or errors[least] > last * (1 - _TELLING):
        return np.inf
    ends = grid[max(least - 1, 0)], grid[least + 1]
    if not along(ends[0], True)[0] < 0 < along(ends[1], True)[0]:
        return float(np.exp(grid[least]))  # noise of labels beyond which nothing can be told
    return float(np.exp(brentq(lambda log_t: along(log_t, True)[0], *ends, xtol=1e-13)))
