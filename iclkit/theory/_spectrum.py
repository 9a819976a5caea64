"""What the expansion in 1/d takes from the limit for tasks with a spectrum."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from iclkit.data.laws import as_law
from iclkit.theory import _levels, _structured
from iclkit.theory._setting import Setting
from iclkit.theory._shrinkage import trace

Law: TypeAlias = Setting


def law_of(tasks: Any, sizes: np.ndarray | None = None) -> tuple[Law | None, float]:
    """Return the law of the tasks, and the mean of its spectrum, the unit of all errors."""
    if tasks is None:
        return None, 1.0
    d = as_law("tasks", tasks).d
    if d is not None and sizes is not None and np.any(sizes != d):
        other = sizes[sizes != d].flat[0]
        raise ValueError(f"tasks must be a law in d = {other:g} dimensions, got one in {d}")
    size = np.inf if sizes is None or not sizes.size else float(sizes.min())
    law = _structured.checked_law(tasks, None, None, None, size=size)
    return law, law.unit


def limits(
    law: Law,
    tau: np.ndarray,
    alpha: np.ndarray,
    kappa: np.ndarray,
    rho: np.ndarray,
    lam: np.ndarray,
    alpha_test: np.ndarray,
    rho_test: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return both errors, of numbers in the unit of the law."""
    law = law._replace(task_unit=1.0)
    return _structured.errors(law, [tau, alpha, kappa, rho, lam], alpha_test, rho_test)


def traces(
    law: Law, tau: np.ndarray, q: np.ndarray, kappa: np.ndarray, lam: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return tr CQ and tr Q of the inverse Q that a task and noise see, for columns of points."""
    columns = tau, q, kappa, np.zeros_like(tau), lam, np.zeros_like(tau), q, q
    point = _levels.Point(*(column[:, 0] for column in columns))
    xi = _levels.solve(law, point, _levels.nodes(law.tokens, law.weights))[:, None]
    endless = np.full(point.tau.shape, np.inf)
    g = _levels.equivalent(law, point.q, point.kappa, xi[:, 0], endless).g
    with np.errstate(divide="ignore", invalid="ignore"):
        slack = np.where(lam > 0, tau * (lam / xi), np.maximum(tau - 1, 0))
        scale = np.where(slack > 0, 1 / slack, xi) / (q + xi)
    task, noise = (trace(entries, law.weights)[:, None] for entries in (law.tasks * g, g))
    return scale * task, scale * noise
