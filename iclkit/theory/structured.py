r"""The limit theory for tasks that are longer in some directions than in others.

The tasks have a covariance C, w ~ N(0, C), and the tokens are isotropic. All that the errors
depend on is the spectrum of C; "tr" is the mean over it. With q = (ρ + tr C)/α the covariance R of
the k tasks has the deterministic equivalent (R + x)⁻¹ ≃ (cC + x)⁻¹, where w = x/c is the root of

    κ(1 − x/w) = tr C(C + w)⁻¹.

As λ makes ξ of n contexts, so x makes w of k tasks: both are effective ridges, and one function
finds them. With w as the unknown, all that follows is sums, products and quotients of numbers
between 0 and 1, or nearly, and nothing cancels. `iclkit.theory` takes C as `tasks`; C = I is what
it has in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from iclkit import _validate
from iclkit._labels import refuse, require_broadcast, unlabelled

_LEAST, _MOST = 1e-75, 1e75  # the mean of a spectrum, as for all other numbers of the theory
# A power law has its first directions one by one, and the others in bins of a common logarithm.
_ALONE, _BINS = 3000, 1500


def power_law_tasks(nu: float, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Spectrum C_j ∝ j^−ν with tr C = 1.

    Parameters
    ----------
    nu : float
        Exponent ν > 0. Above 1 the first directions hold a fixed share of a task, whatever d is.
    d : int
        Dimension, at least 1.

    Returns
    -------
    spectrum : numpy.ndarray of shape (m,)
        Eigenvalues; from j = 3001 on they are means over bins.
    weights : numpy.ndarray of shape (m,)
        Shares of the d directions that have them. The pair is what `iclkit.theory.icl_error` takes
        as `tasks`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-power-law-tasks in the book.

    Examples
    --------
    >>> from iclkit.theory import structured
    >>> spectrum, weights = structured.power_law_tasks(1.0, d=10**6)
    >>> print(len(spectrum), round(float(weights @ spectrum), 3))
    4499 1.0
    >>> print(round(float(spectrum[0] / spectrum[9]), 3))
    10.0
    """
    nu, d = _validate.finite("nu", nu), _validate.count("d", d)
    edges = np.arange(1.0, min(d, _ALONE) + 2)
    if d > _ALONE:
        further = np.round(np.geomspace(_ALONE + 1, d + 1, _BINS))
        edges = np.append(edges, np.unique(further)[1:])
    count = np.diff(edges)
    # The sum over a bin, by the midpoint rule where it has more than one j.
    spectrum = (edges[:-1] + (count - 1) / 2) ** -nu
    weights = count / d
    return spectrum / (weights @ spectrum), weights


def errors(
    tasks: ArrayLike | tuple[ArrayLike, ArrayLike],
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
) -> tuple[Any, Any]:
    """Both errors for tasks of a given law: what `iclkit.theory.icl_error` and its twin return.

    Parameters
    ----------
    tasks : array of shape (m,) or (d, d), or a pair of arrays of shape (m,)
        Eigenvalues of the tasks' covariance C, at least 0, with a mean between 1e-75 and 1e75, each
        of as many directions; or C itself; or eigenvalues and the shares of the directions that
        have them, which are divided by their sum. Negative eigenvalues that are zeros to rounding
        count as zeros.
    tau, alpha, kappa, rho, lam
        Numbers or plain arrays, as in `iclkit.theory.icl_error`; α is finite.

    Returns
    -------
    icl, idg : float or numpy.ndarray
        The errors on new tasks of the law and on the pretraining tasks, label noise included,
        broadcast over the parameters; inf at τ = 1 without ridge.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    An exact limit where tr C²/d vanishes; for ν ≥ 1 in `power_law_tasks` it does not, and what
    this function returns is the formula only. Source: eq-structured-errors in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import theory
    >>> from iclkit.theory import structured
    >>> icl, idg = structured.errors(np.ones(5), tau=4.0, alpha=1.0, kappa=1.0, rho=0.1)
    >>> bool(np.isclose(icl, theory.icl_error(4.0, 1.0, 1.0, 0.1)))  # C = I
    True
    >>> icl, idg = structured.errors(([4.0, 0.0], [0.25, 0.75]), 4.0, 1.0, 1.0, 0.1)
    >>> print(round(float(icl), 3), round(float(idg), 3))
    0.437 0.407
    """
    law, mean = _check(tasks)
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam}
    for name, value in point.items():
        refuse(name, value)
    require_broadcast(point)
    tau, alpha = _validate.positive("tau", tau), _validate.positive("alpha", alpha)
    if np.any(np.isinf(alpha)):
        raise ValueError("alpha must be positive and finite for tasks of a given law, got inf")
    kappa = _validate.positive("kappa", kappa)
    rho, lam = _validate.nonnegative("rho", rho), _validate.nonnegative("lam", lam)

    def at(*point: float) -> tuple[float, float]:
        return _errors_at(law, *point)

    icl, idg = np.vectorize(at, otypes=[float, float])(tau, alpha, kappa, rho / mean, lam / mean)
    return (mean * icl)[()], (mean * idg)[()]


class _Law(NamedTuple):
    """A spectrum in units of its mean."""

    values: np.ndarray
    weights: np.ndarray
    positive: np.ndarray  # the weights of positive eigenvalues
    rank: float  # and their sum

    def tr(self, entries: np.ndarray) -> float:
        return float(self.weights @ entries)


def _eigenvalues(covariance: np.ndarray) -> np.ndarray:
    C = unlabelled("tasks", covariance, (None, None))
    rounding = C.shape[0] * np.finfo(float).eps
    if C.shape[0] != C.shape[1] or np.abs(C - C.T).max() > rounding * np.abs(C).max():
        raise ValueError(
            "tasks must be eigenvalues, eigenvalues and their shares as a tuple, or a symmetric "
            f"matrix, got an array of shape {C.shape} that is not symmetric"
        )
    values = np.linalg.eigvalsh(C)
    return np.where(np.abs(values) > rounding * np.abs(values).max(), values, 0.0)


def _check(tasks: Any) -> tuple[_Law, float]:
    """Return the law, and the mean that is its unit."""
    spectrum, weights = tasks, None
    if isinstance(tasks, tuple) and len(tasks) == 2 and np.ndim(tasks[0]) == 1:
        spectrum, weights = tasks
    elif getattr(tasks, "ndim", 1) == 2:
        spectrum = _eigenvalues(tasks)
    C = unlabelled("tasks", spectrum, (None,))
    share = np.ones(C.shape) if weights is None else unlabelled("tasks[1]", weights, C.shape)
    # What solvers of eigenvalues leave of a zero is no negative number.
    C = np.where(np.abs(C) > C.size * np.finfo(float).eps * C.max(), C, np.maximum(C, 0.0))
    for what, array in (("eigenvalues", C), ("shares", share)):
        if np.any(array < 0):
            raise ValueError(f"tasks must have {what} of at least 0, got {array.min()}")
    if not np.any((share > 0) & (C > 0)):
        raise ValueError("tasks must have a positive eigenvalue of positive share, got none")
    share, C = share[share > 0] / share.sum(), C[share > 0]
    with np.errstate(over="ignore"):
        mean = float(share @ C)
    if not _LEAST <= mean <= _MOST:
        raise ValueError(f"tasks must have a mean eigenvalue between 1e-75 and 1e+75, got {mean}")
    positive = np.where(C > 0, share, 0.0)
    return _Law(C / mean, share, positive, 1 - float(share @ (C == 0))), mean


def _effective_ridge(
    freedom: Callable[[float], tuple[float, float]],
    most: float,
    samples: float,
    ridge: float,
    bracket: tuple[float, float],
) -> float:
    """Return the z for which samples·(1 − ridge/z) degrees of freedom are spent.

    `freedom` says of z how many are spent of `most`, and how many are not.
    """
    if np.isinf(samples) or (ridge == 0 and samples >= most):
        return ridge
    low, high = bracket

    def excess(log_z: float) -> float:
        z = low * np.exp(log_z)
        spent, unspent = freedom(z)
        lost = samples * (ridge / z)
        # Two forms of one equation, neither with a difference of nearly equal numbers.
        if samples > most / 2:
            left, right = unspent + max(samples - most, 0), lost + max(most - samples, 0)
        else:
            left, right = samples, spent + lost
        distance: float = np.log(left) - np.log(right)
        return distance

    # Increasing in z; at an end that is the root, rounding decides about the sign.
    width = np.log(high / low)
    if not excess(0.0) < 0:
        return low
    if not excess(width) > 0:
        return high
    # At worst this bisects in every third step: 2000 leave nothing to be found.
    root: float = low * np.exp(brentq(excess, 0.0, width, xtol=1e-15, rtol=1e-15, maxiter=2000))
    return root


def _equivalent(law: _Law, x: float, kappa: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Return c, and of each direction the shares cC/(cC + x) and x/(cC + x)."""

    def freedom(w: float) -> tuple[float, float]:
        total = law.values + w
        return law.tr(law.values / total), float(law.positive @ (w / total))

    w = _effective_ridge(freedom, law.rank, kappa, x, (x, x + 1 / kappa))
    return x / w, law.values / (law.values + w), w / (law.values + w)


def _solution(law: _Law, tau: float, q: float, kappa: float, lam: float) -> tuple[float, float]:
    """Return the effective ridge, and λ over it."""

    def freedom(xi: float) -> tuple[float, float]:
        x = q + xi
        _, h, g = _equivalent(law, x, kappa)
        return law.tr(h + q / x * g), xi / x * law.tr(g)

    bracket = max(lam, q * (1 - min(tau, 1)) / tau), lam + (q + 1) / tau
    xi = _effective_ridge(freedom, 1.0, tau, lam, bracket)
    if lam > 0:
        return xi, lam / xi
    return xi, 1.0 if np.isinf(tau) else max(tau - 1, 0) / tau


def _errors_at(
    law: _Law, tau: float, alpha: float, kappa: float, rho: float, lam: float
) -> tuple[float, float]:
    if lam == 0 and tau == 1:
        return np.inf, np.inf
    q = (rho + 1) / alpha
    xi, slack = _solution(law, tau, q, kappa, lam)
    x = q + xi
    c, h, g = _equivalent(law, x, kappa)
    p = q / x
    # Traces with G = (R + x)⁻¹ and B = q + R; see eq-structured-traces in the book.
    spread = law.tr(h * g) / (c * kappa)  # of the eigenvectors, times x
    lost = spread / (1 + spread)
    f2 = law.tr(h * (h + g * lost))  # tr R²G²
    last = p * g + h * (1 + p * spread) / (1 + spread)
    bg2 = law.tr(g * last)  # x tr BG²
    endless = rho + q * law.tr(h) + xi * law.tr(h * g) / (1 + spread)
    idg = endless / (slack + xi / x * bg2 / tau)
    icl = rho + law.tr(law.values * g * (g + h * lost)) + q * f2
    return icl + idg / tau * law.tr((p * g + h / c) * last), idg
