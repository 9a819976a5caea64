"""The conditional-moment lemma, and the exact error of any Γ at finite d and ℓ."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from iclkit import _validate
from iclkit.data.tasks import PRIORS


class Moments(NamedTuple):
    """All that the error of a predictor depends on.

    Attributes
    ----------
    A : array of shape (d, d + 1)
        E[w hᵀ] over tasks and contexts.
    B : array of shape (d + 1, d + 1)
        E[h hᵀ].
    label_variance : float
        E[y²] = E|w|²/d + ρ.

    Examples
    --------
    >>> from iclkit import data
    >>> A, B, label_variance = data.population_moments(10, 20, 0.1)
    >>> A.shape, B.shape, label_variance
    ((10, 11), (11, 11), 1.1)
    """

    A: Any
    B: Any
    label_variance: float


def _noise(rho: float) -> float:
    return _validate.scalar(_validate.nonnegative, "rho", rho)


def _assemble(first: Any, cross: Any, last: Any) -> Any:
    """Put the symmetric matrix [[first, cross], [crossᵀ, last]] together."""
    xp = array_namespace(first)
    top = xp.concat([first, cross[:, None]], axis=1)
    bottom = xp.concat([cross, xp.reshape(last, (1,))])[None, :]
    return xp.concat([top, bottom], axis=0)


def conditional_moments(w: Any, ell: int, rho: float) -> tuple[Any, Any]:
    """Mean and second moment of the context statistic h for a given task.

    Parameters
    ----------
    w : array of shape (d,)
        The task; any length.
    ell : int
        Context length ℓ, at least 1.
    rho : float
        Variance of the label noise, at least 0.

    Returns
    -------
    mean : array of shape (d + 1,)
        E[h | w].
    second : array of shape (d + 1, d + 1)
        E[hhᵀ | w].

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: lem-conditional-moments in the book; exact at every d and ℓ.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import data
    >>> mean, second = data.conditional_moments(np.array([1.0, 1.0]), ell=10, rho=0.5)
    >>> mean
    array([1. , 1. , 1.5])
    >>> (second - np.outer(mean, mean)).round(3)  # the covariance
    array([[0.4 , 0.1 , 0.3 ],
           [0.1 , 0.4 , 0.3 ],
           [0.3 , 0.3 , 0.45]])
    """
    w = _validate.array("w", w, (None,))
    moments = task_moments(w[None, :], ell, rho)
    mean = array_namespace(w).concat([w, w[:1] * 0 + moments.label_variance])
    return mean, moments.B


def task_moments(tasks: Any, ell: int, rho: float) -> Moments:
    """Moments over contexts whose task is one of the given ones, each equally likely (IDG).

    Parameters
    ----------
    tasks : array of shape (k, d)
        The tasks.
    ell : int
        Context length ℓ, at least 1.
    rho : float
        Variance of the label noise, at least 0.

    Returns
    -------
    Moments
        Exact at finite d and ℓ, in the array library of `tasks`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-moments-ab in the book. For tests with another context length or noise, give theirs.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import data
    >>> found = data.task_moments(np.array([[1.0, 1.0], [1.0, -1.0]]), ell=10, rho=0.1)
    >>> found.A, found.label_variance
    (array([[1. , 0. , 1.1],
           [0. , 1. , 0. ]]), 1.1)
    """
    tasks = _validate.array("tasks", tasks, (None, None))
    ell, rho = _validate.count("ell", ell), _noise(rho)
    xp = array_namespace(tasks)
    k, d = tasks.shape
    variance = xp.sum(tasks**2, axis=1) / d + rho
    average = float(xp.mean(variance))
    covariance = tasks.T @ tasks / k
    weighted = variance @ tasks / k
    first = (1 + 1 / ell) * covariance + (d / ell) * average * xp.eye(d, dtype=tasks.dtype)
    last = (1 + 2 / ell) * xp.mean(variance**2)
    return Moments(
        A=xp.concat([covariance, weighted[:, None]], axis=1),
        B=_assemble(first, (1 + 2 / ell) * weighted, last),
        label_variance=average,
    )


def population_moments(d: int, ell: int, rho: float, *, prior: str = "sphere") -> Moments:
    """Moments over contexts with a fresh task each (ICL).

    Parameters
    ----------
    d : int
        Dimension, at least 1.
    ell : int
        Context length ℓ, at least 1.
    rho : float
        Variance of the label noise, at least 0.
    prior : {"sphere", "gaussian"}
        Law of the tasks, see `iclkit.data.draw_tasks`.

    Returns
    -------
    Moments
        Exact at finite d and ℓ, as numpy arrays.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-moments-ab in the book. Both laws have E[wwᵀ] = I; a Gaussian task has a
    fluctuating |w|², which adds 2/d to E[(|w|²/d)²] and shows in the last entry of B only.

    Examples
    --------
    >>> from iclkit import data
    >>> print(data.population_moments(2, ell=10, rho=0.1).B.round(3))
    [[1.32  0.    0.   ]
     [0.    1.32  0.   ]
     [0.    0.    1.452]]
    >>> print(data.population_moments(2, 10, 0.1, prior="gaussian").B[-1, -1].round(3))
    2.652
    """
    d, ell, rho = _validate.count("d", d), _validate.count("ell", ell), _noise(rho)
    _validate.choice("prior", prior, PRIORS)
    spread = 2 / d if prior == "gaussian" else 0.0
    first = (1 + 1 / ell + (d / ell) * (1 + rho)) * np.eye(d)
    last = (1 + 2 / ell) * np.asarray((1 + rho) ** 2 + spread)
    return Moments(
        A=np.eye(d, d + 1),
        B=_assemble(first, np.zeros(d), last),
        label_variance=1 + rho,
    )


def _check(moments: Moments, like: Any = None) -> Moments:
    """Check the shapes of moments, and move them to the array library of `like`."""
    source = "Moments, as of iclkit.data.population_moments"
    _validate.instance("moments", moments, Moments, source)
    A = _validate.array("moments.A", moments.A, (None, None))
    d = A.shape[0]
    A = _validate.array("moments.A", A, (d, d + 1))
    B = _validate.array("moments.B", moments.B, (d + 1, d + 1))
    if like is not None:
        xp = array_namespace(like)
        A, B = (xp.asarray(array) for array in (A, B))
    variance = _validate.scalar(
        _validate.nonnegative, "moments.label_variance", moments.label_variance
    )
    return Moments(A, B, variance)


def prediction_error(gamma: Any, moments: Moments) -> float:
    """Exact mean squared error E(y − xᵀΓh)² of a given Γ.

    Parameters
    ----------
    gamma : array of shape (d, d + 1)
        The predictor Γ.
    moments : Moments
        Of the test contexts: `task_moments` of the pretraining tasks for the IDG error,
        `population_moments` for the ICL error.

    Returns
    -------
    float
        The error, label noise included.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not match or the arrays do not hold finite real numbers.

    Notes
    -----
    Source: eq-error-quadratic in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import data
    >>> population = data.population_moments(10, ell=20, rho=0.1)
    >>> print(data.prediction_error(np.zeros((10, 11)), population))  # knowing nothing
    1.1
    >>> print(round(data.prediction_error(np.eye(10, 11), population), 3))
    0.7
    """
    gamma = _validate.array("gamma", gamma, (None, None))
    moments = _check(moments, like=gamma)
    d: int = moments.A.shape[0]
    gamma = _validate.array("gamma", gamma, (d, d + 1))
    xp = array_namespace(gamma)
    inner = xp.sum(gamma * (gamma @ moments.B - 2 * moments.A))
    return moments.label_variance + float(inner) / d


def optimal_gamma(moments: Moments, ridge: float = 0.0) -> Any:
    """Γ = A (B + ridge·I)⁻¹, the best predictor when contexts are unlimited.

    Parameters
    ----------
    moments : Moments
        Of the pretraining contexts.
    ridge : float
        Added to the diagonal of B, at least 0. With ridge = ξ, the effective ridge, this is the
        mean of the fitted Γ* in the limit.

    Returns
    -------
    array of shape (d, d + 1)
        The minimiser of the error over `moments` when `ridge` is 0; if B is singular, which
        needs noiseless labels of few tasks, the one of least norm.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-population-optimum in the book.

    Examples
    --------
    >>> from iclkit import data
    >>> population = data.population_moments(10, ell=20, rho=0.1)
    >>> gamma = data.optimal_gamma(population)
    >>> print(gamma.shape, gamma[0, 0].round(3))  # times the identity
    (10, 11) 0.625
    >>> round(data.prediction_error(gamma, population), 3)
    0.475
    """
    moments = _check(moments)
    ridge = _validate.scalar(_validate.nonnegative, "ridge", ridge)
    xp = array_namespace(moments.A, moments.B)
    d = moments.A.shape[0]
    shifted = moments.B + ridge * xp.eye(d + 1, dtype=moments.B.dtype)
    return moments.A @ xp.linalg.pinv(shifted)
