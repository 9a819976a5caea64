"""What the expansion in 1/d takes from the limit for tasks with a spectrum."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import elementwise

from iclkit.theory._setting import Setting, setting


class Law(NamedTuple):
    """Eigenvalues of the tasks' covariance, of mean 1, and their shares."""

    values: np.ndarray
    weights: np.ndarray
    setting: Setting

    def tr(self, entries: np.ndarray) -> np.ndarray:
        """Return a mean over the directions, which stays as an axis."""
        found: np.ndarray = np.sum(entries * self.weights, axis=-1, keepdims=True)
        return found


def law_of(tasks: Any) -> tuple[Law | None, float]:
    """Return the law of the tasks, and the mean of its spectrum, the unit of all errors."""
    if tasks is None:
        return None, 1.0
    found = setting(tasks, None, None, None)
    return Law(found.tasks, found.weights, found), found.unit


def limits(
    law: Law,
    tau: np.ndarray,
    alpha: np.ndarray,
    kappa: np.ndarray,
    rho: np.ndarray,
    lam: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return both errors on contexts as in pretraining, in units of the law."""
    from iclkit.theory import _structured  # which itself says who called, as the expansion does

    unit = law.setting.unit
    numbers = [tau, alpha, kappa, unit * rho, unit * lam]
    icl, idg = _structured.errors(law.setting, numbers, alpha, unit * rho)
    return icl / unit, idg / unit


def traces(
    law: Law, tau: np.ndarray, q: np.ndarray, kappa: np.ndarray, lam: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return tr CQ and tr Q of the inverse Q that a task and noise see; arrays are columns."""
    from iclkit.theory import _structured

    unit = law.setting.unit
    xi = _structured.effective_ridge(law.setting, [tau, 1 / q, kappa, 0 * q, unit * lam]) / unit

    def excess(w: np.ndarray, x: np.ndarray, kappa: np.ndarray) -> np.ndarray:
        spent = (law.values / (law.values + w[..., None])) @ law.weights
        found: np.ndarray = kappa * (w - x) / w - spent
        return found

    # As λ makes ξ of n contexts, so x makes w of k tasks.
    x = q + xi
    w = elementwise.find_root(excess, (x, x + 1 / kappa), args=(x, kappa)).x
    g = w / (law.values + w)
    with np.errstate(divide="ignore"):
        slack = np.where(lam > 0, lam / xi, np.maximum(tau - 1, 0.0) / tau)
        scale = np.where(slack > 0, 1 / (tau * slack), xi) / x
    return scale * law.tr(law.values * g), scale * law.tr(g)
