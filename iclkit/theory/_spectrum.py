"""What the expansion in 1/d takes from the limit for tasks with a spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np

from iclkit.theory.structured import _check, _equivalent, _Law, _solution, errors

Law = _Law


def law_of(tasks: Any) -> tuple[Law | None, float]:
    """Return the law of the tasks, and the mean of its spectrum, the unit of all errors."""
    return (None, 1.0) if tasks is None else _check(tasks)


def limits(law: Law, *point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both errors on contexts as in pretraining."""
    return errors((law.values, law.weights), *point)


@np.vectorize(excluded={0}, otypes=[float, float])
def traces(law: Law, tau: Any, q: Any, kappa: Any, lam: Any) -> tuple[Any, Any]:
    """Return tr CQ and tr Q of the inverse Q that a task and noise see."""
    xi, slack = _solution(law, tau, q, kappa, lam)
    _, _, g = _equivalent(law, q + xi, kappa)
    scale = (1 / (tau * slack) if slack > 0 else xi) / (q + xi)
    return scale * law.tr(law.values * g), scale * law.tr(g)
