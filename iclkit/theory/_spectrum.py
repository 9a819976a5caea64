"""What the expansion in 1/d takes from the limit for tasks with a spectrum."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from iclkit.data.laws import as_law
from iclkit.theory import _levels, _structured
from iclkit.theory._setting import Setting
from iclkit.theory._shrinkage import trace

Law: TypeAlias = Setting


def law_of(
    tasks: Any, test_tasks: Any = None, sizes: np.ndarray | None = None
) -> tuple[Law | None, float, Any]:
    """Return the law of the tasks, its mean, the unit of errors, and var |w|²/d of test tasks.

    The variance is of order 1/d, and left out, where no eigenvalue is large; but a law of test
    tasks may be a single direction. It needs a dimension, that of the sizes or of the law.
    """
    if tasks is None and test_tasks is None:
        return None, 1.0, 0.0
    for name, given in (("tasks", tasks), ("test_tasks", test_tasks)):
        d = None if given is None else as_law(name, given).d
        if d is not None and sizes is not None and np.any(sizes != d):
            other = sizes[sizes != d].flat[0]
            raise ValueError(f"{name} must be a law in d = {other:g} dimensions, got one in {d}")
    size = np.inf if sizes is None or not sizes.size else float(sizes.min())
    law = _structured.checked_law(tasks, test_tasks, None, None, size=size)
    variance: Any = 0.0
    if test_tasks is not None:
        new = as_law("test_tasks", test_tasks)
        at: Any = new.d if sizes is None else sizes
        variance = 0.0 if at is None else 2 / at * float(new.weights @ new.values**2)
    return law, law.unit, variance / law.unit**2


def tested_mean(law: Law | None) -> float:
    """Return the mean of the spectrum of test tasks, in the unit of the law."""
    return 1.0 if law is None else float(law.weights @ law.test_tasks)


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
