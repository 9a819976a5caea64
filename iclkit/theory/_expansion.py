"""An error at finite d: its limit, the first order, and what is refused or told."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from iclkit import _validate
from iclkit.theory import _equivalent, _first_order, _fresh, _spectrum

FORMS = ("exp", "linear", "hybrid")
_ENDLESS = 1e9  # κ that stands for ∞ with a ridge: larger ones lose digits, smaller ones differ
_CLOSE = 1e-6  # to the pole, where the terms of c have lost their digits
_BLOCK = 2**16  # eigenvalues times points that are expanded at once
_LARGEST = 50  # power of e in a form, which then is not even an order of magnitude
_LOST = 1e-4  # of the limit, by differences that the first order is made of, too


def error(
    test: str,
    tau: Any,
    alpha: Any,
    kappa: Any,
    rho: Any,
    lam: Any,
    d: Any,
    assignment: str,
    form: str,
    prior: str,
    tasks: Any,
    test_tasks: Any,
    alpha_test: Any,
    rho_test: Any,
) -> Any:
    """Return an error at finite d, for `iclkit.theory.icl_error` and its twin."""
    tau, alpha, kappa, rho, lam = point(tau, alpha, kappa, rho, lam)
    size = _validate.counts("d", d)
    if form == "hybrid" and not (tasks is None and test_tasks is None):
        raise ValueError("form must be exp or linear where tasks are given, got 'hybrid'")
    law, unit, variance = _spectrum.law_of(tasks, test_tasks, size)
    gaussian = prior == "gaussian" or tasks is not None
    rho, lam = rho / unit, lam / unit
    other: Any = other_test(alpha_test, rho_test, unit)
    size, tau, alpha, kappa, rho, lam, *other = broadcast(size, tau, alpha, kappa, rho, lam, *other)
    n = _validate.sizes("tau", tau, size**2, "n = tau * d**2")
    ell = _validate.sizes("alpha", alpha, size, "ell = alpha * d")
    endless = np.isinf(kappa)
    k = _validate.sizes("kappa", np.where(endless, 1.0, kappa), size, "k = kappa * d")
    seen = np.ones(k.shape)  # share of the tasks that have a context
    if assignment == "balanced":
        # With as many tasks as contexts or more, n tasks have one each, and new ones are fresh.
        seen = np.where(endless, 1.0, np.minimum(n / k, 1.0))
        k, endless = np.minimum(k, n), endless | ((k >= n) & (test == "icl"))
    kappa, tau, alpha = np.where(endless, np.inf, k / size), n / (size * (size + 1)), ell / size
    pole = (tau == 1) & (lam == 0)
    away = np.where(pole, 2.0, tau)
    at = (away, alpha, kappa, rho, lam)
    whole: Any = None
    if form == "hybrid":
        leave_one_out = np.vectorize(_fresh.leave_one_out, otypes=[float])
        ell_test = np.where(np.isnan(other[0]), ell, other[0] * size)
        rho_test = np.where(np.isnan(other[1]), rho, other[1])
        whole = leave_one_out(size, n + pole, ell, rho, lam, ell_test, rho_test, gaussian)
    result, growth = _in_form(
        form, whole, size, test, assignment, gaussian, law, variance, *at, *other
    )
    _warn(np.where(pole, 0.0, growth), np.where(endless, np.inf, k), size)
    if test == "idg" and np.any(seen < 1):
        at = (away, alpha, np.full_like(kappa, np.inf), rho, lam)
        fresh, _ = _in_form(
            form, whole, size, "icl", assignment, gaussian, law, variance, *at, *other
        )
        result = np.where(seen < 1, seen * result + (1 - seen) * fresh, result)
    return np.where(pole, np.inf, unit * result)[()]


def _in_form(
    form: str,
    whole: Any,
    size: np.ndarray,
    test: str,
    assignment: str,
    gaussian: bool,
    law: _spectrum.Law | None,
    variance: Any,
    tau: Any,
    alpha: Any,
    kappa: Any,
    rho: Any,
    lam: Any,
    *other: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Return an error in one of the forms, and its first order over the limit."""
    how = assignment, gaussian, law, variance
    limit, first = to_first_order(test, *how, tau, alpha, kappa, rho, lam, *other)
    growth = first / limit / size
    if form == "linear":
        return limit * (1 + growth), growth
    power, scale = growth, limit
    if form == "hybrid":
        at = (tau, alpha, np.full_like(kappa, np.inf), rho, lam)
        fresh, fresh_first = to_first_order("icl", *how, *at, *other)
        power, scale = growth - fresh_first / fresh / size, limit * (whole / fresh)
    beyond = power > _LARGEST
    if np.any(beyond):
        raise ValueError(
            f"d must be larger for form={form!r}, got {size[beyond].flat[0]:g}, where the term of "
            f"order 1/d is {growth[beyond].flat[0]:+.3g} of the limit"
        )
    return scale * np.exp(power), growth


def point(tau: Any, alpha: Any, kappa: Any, rho: Any, lam: Any) -> tuple[np.ndarray, ...]:
    """Check what all functions of this module take; two limits are not of finite size."""
    tau, alpha = _validate.positive("tau", tau), _validate.positive("alpha", alpha)
    for name, value in (("tau", tau), ("alpha", alpha)):
        if np.any(np.isinf(value)):
            raise ValueError(f"{name} must be finite at finite size, got inf")
    return (
        tau, alpha, _validate.positive("kappa", kappa), _validate.nonnegative("rho", rho),
        _validate.nonnegative("lam", lam),
    )  # fmt: skip


def other_test(alpha_test: Any, rho_test: Any, unit: float = 1.0) -> tuple[Any, Any]:
    """Return the test's context length and noise, NaN where they are those of pretraining."""
    alpha = np.nan if alpha_test is None else _validate.positive("alpha_test", alpha_test)
    rho = np.nan if rho_test is None else _validate.nonnegative("rho_test", rho_test)
    return alpha, rho / unit


def broadcast(*values: Any) -> list[np.ndarray]:
    """Return arrays of one shape, each with a memory of its own."""
    return [np.array(value) for value in np.broadcast_arrays(*values)]


def to_first_order(
    test: str,
    assignment: str,
    gaussian: bool,
    law: _spectrum.Law | None,
    variance: Any,
    tau: np.ndarray,
    alpha: np.ndarray,
    kappa: np.ndarray,
    rho: np.ndarray,
    lam: np.ndarray,
    alpha_test: np.ndarray,
    rho_test: np.ndarray,
    *,
    effect: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return an error's limit and what comes to it times 1/d, at arrays of one shape.

    With the name of an effect, only what comes by that. `variance` is that of |w|²/d of test tasks.
    """
    close = (tau - 1) ** 2 + lam < _CLOSE**2
    if np.any(close):
        raise ValueError(
            f"tau must be {_CLOSE:g} or further from the pole, n = d(d + 1), or lam above "
            f"{_CLOSE**2:g}, to be expanded, got n/(d(d + 1)) = {tau[close].flat[0]}; "
            "see pole_strength"
        )
    own = np.isnan(alpha_test) & np.isnan(rho_test)
    alpha_test = np.where(np.isnan(alpha_test), alpha, alpha_test)
    rho_test = np.where(np.isnan(rho_test), rho, rho_test)
    endless = np.isinf(kappa)
    balanced = (assignment == "balanced") & ~endless
    points = (tau, alpha, np.where(endless, _ENDLESS, kappa), rho, lam, balanced)
    mean = _spectrum.tested_mean(law)
    q, q_test = (1 + rho) / alpha, (mean + rho_test) / alpha_test
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # refused below
        found = _in_blocks(points, gaussian, law)
        if law is None:
            solution = _equivalent.equivalent(tau, q, kappa, lam)
            icl, idg = _equivalent.errors(solution, tau, kappa, rho, q, rho_test, q_test)
        else:
            icl, idg = _spectrum.limits(law, tau, alpha, kappa, rho, lam, alpha_test, rho_test)
        limit = icl
        difference = mean + rho_test - 2 * found.trace + found.weighted + q_test * found.square
        if test == "idg":
            # By the exact moments the rest of the error is the same for all test contexts.
            limit, difference = idg, found.idg + rho_test - rho + (q_test - q) * found.square
        effects = _effects(test, found, mean, variance, alpha, rho, alpha_test, rho_test)
        first = effects.sum(axis=-1)
        if effect is not None:
            first = effects[..., _first_order.EFFECTS.index(effect)]
        explicit = endless & (lam == 0) & own & (effect is None) & (law is None)
        first = np.where(explicit, _fresh.first_order(tau, q, rho, gaussian), first)
        # What the limit has lost where it is a difference, the first order has lost, too.
        lost = np.abs(difference / limit - 1)
        beyond = ~np.isfinite(first / limit) | ~(explicit | (lost < _LOST))
    if np.any(beyond):
        at = ", ".join(
            f"{name} = {value[beyond].flat[0]:g}"
            for name, value in zip(
                ("tau", "alpha", "kappa", "rho", "lam"), (tau, alpha, kappa, rho, lam), strict=True
            )
        )
        raise ValueError(f"the expansion in 1/d is beyond floats at {at}")
    return limit, first


def _effects(
    test: str,
    found: _first_order.Corrections,
    mean: float,
    variance: Any,
    alpha: np.ndarray,
    rho: np.ndarray,
    alpha_test: np.ndarray,
    rho_test: np.ndarray,
) -> np.ndarray:
    """Return what comes to an error times 1/d by each effect, along a last axis."""
    q, q_test = (1 + rho) / alpha, (mean + rho_test) / alpha_test
    names = _first_order.EFFECTS
    # The features of a test context, too, have a length that fluctuates, and a last coordinate.
    if test == "icl":
        effects: np.ndarray = found.weighted_1 - 2 * found.trace_1
        effects = effects + q_test[..., None] * found.square_1
        fluctuations = found.weighted / alpha_test
        last = ((mean + rho_test) ** 2 + variance) * found.last
    else:
        more = rho_test - rho
        effects = found.idg_1 + (q_test - q)[..., None] * found.square_1
        fluctuations = (1 / alpha_test - 1 / alpha) * found.own_square
        last = 2 * more * found.own_last + more * (2 + rho + rho_test) * found.last
    effects[..., names.index("its fluctuations")] += fluctuations
    effects[..., names.index("last coordinate")] += last
    return effects


def _in_blocks(
    points: tuple[np.ndarray, ...], gaussian: bool, law: _spectrum.Law | None
) -> _first_order.Corrections:
    """Return the corrections at all points, so many at once as memory allows."""

    def at(block: tuple[np.ndarray, ...]) -> _first_order.Corrections:
        tau, alpha, kappa, rho, lam, balanced = block
        return _first_order.corrections(tau, alpha, kappa, rho, lam, balanced, gaussian, law)

    if law is None or points[0].size * law.tasks.size < _BLOCK:
        return at(points)
    shape, count = points[0].shape, points[0].size * law.tasks.size // _BLOCK + 1
    blocks = zip(*(np.array_split(np.ravel(array), count) for array in points), strict=True)
    parts = [at(block) for block in blocks if block[0].size]
    joined = (np.concatenate(each) for each in zip(*parts, strict=True))
    return _first_order.Corrections(*(array.reshape(*shape, *array.shape[1:]) for array in joined))


def _warn(growth: np.ndarray, k: np.ndarray, d: np.ndarray) -> None:
    if not growth.size:
        return
    worst = np.abs(growth).argmax()
    if np.abs(growth).flat[worst] > 1 / 3:
        warnings.warn(
            f"the term of order 1/d is {growth.flat[worst]:+.2f} of the limit at "
            f"d = {d.flat[worst]:g}: terms that are left out may be as large as its square",
            RuntimeWarning,
            stacklevel=_validate.callers_level(),
        )
    if np.any(k <= 10):
        warnings.warn(
            f"with {k.min():g} tasks, terms of order 1/k² that are left out can be several per "
            "cent: the expansion is for k above 10",
            RuntimeWarning,
            stacklevel=_validate.callers_level(),
        )
