"""Errors and optimal ridges for laws of tasks and tokens: arguments checked, in units, in parts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from scipy.optimize import elementwise

from iclkit import _validate
from iclkit.data.laws import FewDirectionsWarning
from iclkit.theory import _dense, _levels, _minimum
from iclkit.theory._equivalent import one_minus_ratio
from iclkit.theory._levels import Nodes, Point
from iclkit.theory._setting import Setting, setting, together

_FEW = 20  # directions, below which errors were seen to be off by some per cent
_USED = 0.45  # share of all directions, from which on the dimension is small and not their number
_AT_ONCE = 2**16  # entries of an array that is in the cache
_REFINED = 4  # times that nodes are doubled
# Logs of an effective ridge above its least value where a best one is looked for first.
_COARSE = np.arange(-40.0, 14.0, 2.0)


def checked_law(*laws: Any, size: float = np.inf) -> Setting:
    """Return the setting of the laws, and warn where it has few directions, at a size if given."""
    tasks, test_tasks, tokens, test_tokens = laws
    law = setting(tasks, test_tasks, tokens, test_tokens, size)
    # Where most of them are used it is the dimension that is small, as with isotropic tasks.
    if law.effective < _FEW and law.share < _USED:
        warnings.warn(
            f"tasks have {law.effective:.3g} directions, (Tr ΣC)²/Tr(ΣC)², and the limit takes it "
            "that there are many: it may be off by some per cent, see FewDirectionsWarning",
            FewDirectionsWarning,
            stacklevel=_validate.callers_level(),
        )
    return law


def checked(
    laws: tuple[Any, ...], tau: Any, alpha: Any, kappa: Any, rho: Any, lam: Any
) -> tuple[Setting, list[np.ndarray]]:
    """Return the setting of the laws, and the checked numbers of a point."""
    law = checked_law(*laws)
    tau, alpha = _validate.positive("tau", tau), _validate.positive("alpha", alpha)
    if np.any(np.isinf(alpha)):
        raise ValueError("alpha must be positive and finite for tasks of a given law, got inf")
    kappa = _validate.positive("kappa", kappa)
    rho, lam = _validate.nonnegative("rho", rho), _validate.nonnegative("lam", lam)
    return law, [tau, alpha, kappa, rho, lam]


def errors(
    law: Setting, numbers: list[np.ndarray], alpha_test: np.ndarray, rho_test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ICL and the IDG error at checked numbers."""
    arrays = np.broadcast_arrays(*numbers, alpha_test, rho_test)
    shape = arrays[0].shape
    point = in_units(law, *(np.array(a, dtype=float).ravel() for a in arrays))
    icl, idg = _in_parts(law, point, solved)
    pole = (point.lam == 0) & (point.tau == 1)
    icl, idg = (np.where(pole, np.inf, law.unit * e).reshape(shape)[()] for e in (icl, idg))
    return icl, idg


def in_units(law: Setting, *numbers: np.ndarray) -> Point:
    """Return points in the units of a setting; the last two numbers are those of the test."""
    *point, alpha_test, rho_test = numbers
    tau, alpha, kappa, rho, lam = law.scaled(*point)
    rho_test, alpha_test = rho_test / law.unit, alpha_test / law.rank
    own = together(law.weights, law.tokens, law.tasks)
    new = together(law.weights, law.test_tokens, law.test_tasks)
    q, q_icl, q_idg = (
        variance / length
        for variance, length in (
            (rho + own, alpha), (rho_test + new, alpha_test), (rho_test + own, alpha_test)
        )
    )  # fmt: skip
    return Point(tau, q, kappa, rho, lam, rho_test, q_icl, q_idg)


def _method(law: Setting) -> ModuleType:
    """Return the module for laws that commute, or don't."""
    return _levels if law.tasks.ndim == 1 else _dense


def _in_parts(
    law: Setting, point: Point, solution: Callable[..., tuple[np.ndarray, ...]], *more: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Evaluate a solution at points, a part at a time, with nodes as many as are needed."""
    size, found = point.tau.size, []
    for refined in range(_REFINED):
        at = _levels.nodes(law.tokens, law.weights, refined)
        rows = max(1, _AT_ONCE // (at.tokens.size * law.weights.size))
        parts = [slice(i, i + rows) for i in range(0, size, rows)] or [slice(0, 0)]
        results = [solution(law, point.part(p), at, *(a[p] for a in more)) for p in parts]
        *found, xi = (np.concatenate(columns) for columns in zip(*results, strict=True))
        if all(_method(law).accurate(law, point.part(p), xi[p], at) for p in parts):
            break
    else:
        raise ValueError(
            "tokens must have eigenvalues within a range that can be interpolated, got "
            f"{law.tokens.min() * law.token_unit:g} to {law.tokens.max() * law.token_unit:g}"
        )
    return tuple(found)


def solved(law: Setting, point: Point, at: Nodes) -> tuple[np.ndarray, ...]:
    """Return both errors at points, and ξ."""
    method = _method(law)
    xi = method.solve(law, point, at)
    with np.errstate(divide="ignore", invalid="ignore"):
        ridgeless = np.maximum(one_minus_ratio(1.0, point.tau), 0.0)
        slack = np.where(point.lam > 0, point.lam / xi, ridgeless)
    icl, idg, _ = method.errors_at(law, point, xi, slack, at)
    return icl, idg, xi


def effective_ridge(law: Setting, numbers: list[np.ndarray]) -> np.ndarray:
    """Return ξ, in the unit of λ, at checked numbers."""
    arrays = [np.array(a, dtype=float) for a in np.broadcast_arrays(*numbers)]
    point = in_units(law, *(a.ravel() for a in (*arrays, arrays[1], arrays[3])))
    (xi,) = _in_parts(law, point, _ridged)
    return np.reshape(xi * law.ridge_unit, arrays[0].shape)


def best_ridge(
    law: Setting,
    numbers: list[np.ndarray],
    alpha_test: np.ndarray,
    rho_test: np.ndarray,
    test: int,
) -> np.ndarray:
    """Return the ridge at which the ICL error (0) or the IDG error (1) is least."""
    arrays = np.broadcast_arrays(*numbers, alpha_test, rho_test)
    point = in_units(law, *(np.array(a, dtype=float).ravel() for a in arrays))
    tau = point.tau
    (least,) = _in_parts(law, point, _ridged)
    with np.errstate(over="ignore"):
        scale = (point.q + 1) * (1 + 1 / point.tau)
    quiet = point._replace(rho_test=np.zeros_like(tau))

    def fitted(xi: np.ndarray, rows: np.ndarray, point: Point = quiet) -> tuple[np.ndarray, ...]:
        """Return both errors without the test's noise, which hides digits, and 1 − spent/τ."""
        return _in_parts(law, point.part(rows), _given, xi)

    def error(y: Any, rows: Any) -> np.ndarray:
        y, rows = np.broadcast_arrays(y, rows)
        some = rows.ravel().astype(int)
        xi = least[some] + scale[some] * np.exp(y.ravel())
        return fitted(xi, some)[test].reshape(y.shape)

    rows = np.arange(tau.size)
    with np.errstate(divide="ignore", invalid="ignore"):
        lowest = np.clip(error(_COARSE[:, None], rows).argmin(axis=0), 1, _COARSE.size - 2)
        around = tuple(_COARSE[lowest + step] for step in (-1, 0, 1))
        tolerances = {"xatol": 1e-3}
        fine = elementwise.find_minimum(error, around, args=(rows,), tolerances=tolerances)
        y = np.where(fine.success, fine.x, around[1])
        xi = least + scale * np.exp(y)
        at_zero, at_best = error(np.full(tau.size, -np.inf), rows), fitted(xi, rows)[test]
        better = at_best < np.where(tau == 1, np.inf, at_zero) * (1 - 4 * np.finfo(float).eps)
        xi = xi * np.exp(_minimum.stationary(lambda off: fitted(xi * np.exp(off), rows)[test]))
        ridge = np.where(better, xi * fitted(xi, rows)[2], 0.0)
    return np.reshape(np.maximum(ridge, 0.0) * law.ridge_unit, arrays[0].shape)


def _ridged(law: Setting, point: Point, at: Nodes) -> tuple[np.ndarray, np.ndarray]:
    """Return ξ at points, twice."""
    xi = _method(law).solve(law, point, at)
    return xi, xi


def _given(law: Setting, point: Point, at: Nodes, xi: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return both errors at points and 1 − spent/τ from ξ, which is returned, too."""
    return (*_method(law).errors_at(law, point, xi, None, at), xi)
