"""Laws of tasks and of tokens: how much of them lies in which direction.

A law is what a covariance says. Where the library takes one, a symmetric matrix will do, or a list
of eigenvalues, or eigenvalues and the shares of the directions that have them; the functions here
make others. Eigenvalues without a basis lie along the axes, in their order: two such laws meet
direction by direction, whatever the shares of either. Nothing is normalised.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from iclkit import _validate
from iclkit._labels import unlabelled

_LEAST, _MOST = 1e-75, 1e75  # the mean of a spectrum, as for all other numbers of the theory
# A power law has its first directions one by one, and the others in bins of a common logarithm.
_ALONE, _BINS = 3000, 1500
# A shorter list of eigenvalues has levels, not directions.
_DIRECTIONS = 20
_EPS = np.finfo(float).eps


class Law(NamedTuple):
    """A law of tasks or of tokens, as the functions of this module make it.

    Attributes
    ----------
    values : numpy.ndarray of shape (m,)
        Eigenvalues of the covariance, at least 0.
    weights : numpy.ndarray of shape (m,)
        Shares of the directions that have them; their sum is 1.
    basis : numpy.ndarray of shape (m, m), optional
        Eigenvectors, one a column; None where they are the axes.
    d : int, optional
        The number of directions, where it is known.
    vectors : numpy.ndarray of shape (k, m), optional
        The vectors that simulated tasks are picked from; None where they are drawn.

    Examples
    --------
    >>> from iclkit.data import laws
    >>> laws.low_rank(0.25)[:2]
    (array([4., 0.]), array([0.25, 0.75]))
    """

    values: np.ndarray
    weights: np.ndarray
    basis: np.ndarray | None = None
    d: int | None = None
    vectors: np.ndarray | None = None


# What stands for a law where one is an argument, see `as_law`.
AnyLaw: TypeAlias = Law | ArrayLike | tuple[ArrayLike, ArrayLike]


class FewDirectionsWarning(RuntimeWarning):
    """The tasks have so few directions that the limit theory is off by some per cent.

    The limit takes it that the variance of labels is the same for every task. For Gaussian tasks
    it fluctuates by a share (2/N)^½, where N = (Tr ΣC)²/Tr(ΣC)² counts directions. It warns for N
    below 20, and below 0.45 d, as else it is d that is small. A law has a dimension d, or one is
    given; shares and less than 20 eigenvalues have none of their own. A power law C_j ∝ j^−ν with
    ν > 1 keeps N small, whatever d is: at ν = 1.5, with N about 5, simulated errors on new tasks
    were 3.4 ± 0.3 % above the formulas, extrapolated in 1/d, without ridge at τ = κ = 2, and
    1.3 ± 0.4 % with fresh tasks and a small ridge; at d = 80 they were 6 to 7 % above. These are
    no limits: the term of first order, c/d, falls up to some hundred dimensions and then rises, to
    7 and 9 % at d = 10⁶.

    Examples
    --------
    >>> import warnings
    >>> from iclkit import theory
    >>> from iclkit.data import laws
    >>> heavy = laws.power_law(1.5, d=100)
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     error = theory.icl_error(2.0, 1.0, 1.0, 0.1, tasks=heavy)
    >>> print(said[0].category.__name__)
    FewDirectionsWarning
    """


def isotropic(variance: float = 1.0) -> Law:
    """Law with the same variance in all directions.

    Parameters
    ----------
    variance : float
        That variance, positive.

    Returns
    -------
    Law
        One eigenvalue, of all directions.

    Raises
    ------
    ValueError, TypeError
        If the argument is outside its range.

    Examples
    --------
    >>> from iclkit.data import laws
    >>> print(laws.isotropic().values)
    [1.]
    """
    return Law(np.array([_validate.finite("variance", variance)]), np.ones(1))


def power_law(nu: float, d: int) -> Law:
    """Law with eigenvalues C_j ∝ j^−ν, of mean 1.

    Parameters
    ----------
    nu : float
        Exponent ν > 0. Above 1 the first directions hold a fixed share, whatever d is.
    d : int
        Dimension, at least 1.

    Returns
    -------
    Law
        Its eigenvalues fall; from j = 3001 on they are means over bins.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-power-law-tasks in the book.

    Examples
    --------
    >>> from iclkit.data import laws
    >>> law = laws.power_law(1.0, d=10**6)
    >>> print(len(law.values), round(float(law.weights @ law.values), 3))
    4499 1.0
    >>> print(round(float(law.values[0] / law.values[9]), 3))
    10.0
    """
    nu, d = _validate.finite("nu", nu), _validate.count("d", d)
    edges = np.arange(1.0, min(d, _ALONE) + 2)
    if d > _ALONE:
        further = np.round(np.geomspace(_ALONE + 1, d + 1, _BINS))
        edges = np.append(edges, np.unique(further)[1:])
    count = np.diff(edges)
    # The sum over a bin, by the midpoint rule where it has more than one j.
    values = (edges[:-1] + (count - 1) / 2) ** -nu
    weights = count / d
    return Law(values / (weights @ values), weights, d=d)


def low_rank(share: float) -> Law:
    """Law on a share of the directions, the first ones, with mean 1.

    Parameters
    ----------
    share : float
        That share, in (0, 1].

    Returns
    -------
    Law
        The eigenvalues 1/share and 0.

    Raises
    ------
    ValueError, TypeError
        If the argument is outside its range.

    Examples
    --------
    >>> from iclkit.data import laws
    >>> print(laws.low_rank(0.5).values)
    [2. 0.]
    """
    return two_level(share, 0.0)


def two_level(share: float, low: float) -> Law:
    """Law with two eigenvalues and mean 1.

    Parameters
    ----------
    share : float
        Share of the directions, the first ones, with the higher eigenvalue, in (0, 1].
    low : float
        The lower eigenvalue, in [0, 1].

    Returns
    -------
    Law
        The eigenvalues low + (1 − low)/share and low.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from iclkit.data import laws
    >>> print(laws.two_level(0.25, 0.2).values)
    [3.4 0.2]
    """
    share, low = _validate.finite("share", share), _validate.scalar(_validate.ridge, "low", low)
    for name, value in (("share", share), ("low", low)):
        if value > 1:
            raise ValueError(f"{name} must be at most 1, got {value}")
    if share == 1:
        return isotropic()
    return Law(np.array([low + (1 - low) / share, low]), np.array([share, 1 - share]))


def spectrum(values: ArrayLike, weights: ArrayLike | None = None) -> Law:
    """Law with given eigenvalues, along the axes in their order.

    Parameters
    ----------
    values : array of shape (m,)
        Eigenvalues, at least 0, with a mean between 1e-75 and 1e75. What is negative by rounding
        only is 0.
    weights : array of shape (m,), optional
        Shares of the directions that have them, which are divided by their sum; by default all the
        same. Then 20 or more eigenvalues are one direction each.

    Returns
    -------
    Law
        The law.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from iclkit.data import laws
    >>> print(laws.spectrum([4.0, 1.0], [1, 3]).weights)
    [0.25 0.75]
    """
    return _spectrum("values", "weights", values, weights)


def covariance(matrix: ArrayLike) -> Law:
    """Law with a given covariance.

    Parameters
    ----------
    matrix : array of shape (d, d)
        The covariance, symmetric and without negative eigenvalues, to rounding.

    Returns
    -------
    Law
        Eigenvalues with their eigenvectors.

    Raises
    ------
    ValueError, TypeError
        If the argument is outside its range.

    Examples
    --------
    >>> from iclkit.data import laws
    >>> print(laws.covariance([[2.0, 1.0], [1.0, 2.0]]).values)
    [1. 3.]
    """
    return _covariance("matrix", matrix)


def vectors(tasks: ArrayLike) -> Law:
    """Law with the second moments of given vectors, about the origin.

    Parameters
    ----------
    tasks : array of shape (k, d)
        Task vectors w, one a row, with C = wᵀw/k. Tokens have covariance Σ/d, and go in times √d.

    Returns
    -------
    Law
        Eigenvalues with their eigenvectors. With k not much above d they are spread more widely
        than those of the law that the vectors are drawn from. Simulated tasks are picked from the
        vectors; `iclkit.data.laws.covariance` of wᵀw/k has Gaussian ones.

    Raises
    ------
    ValueError, TypeError
        If the argument is outside its range.

    Examples
    --------
    >>> from iclkit.data import laws
    >>> print(laws.vectors([[3.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).values.round(3))
    [0.667 3.   ]
    """
    w = unlabelled("tasks", tasks, (None, None))
    # In units in which no square overflows.
    unit = float(np.abs(w).max()) or 1.0
    law = _covariance("tasks", (w / unit).T @ (w / unit) / len(w))
    law = law._replace(values=law.values * unit * unit, vectors=w)
    return _checked_mean("tasks", law)


def as_law(name: str, value: Any) -> Law:
    """Return the law that an argument stands for.

    Parameters
    ----------
    name : str
        What to call the argument in errors.
    value : Law, array of shape (m,) or (d, d), or a pair of arrays of shape (m,)
        A law, eigenvalues, a covariance, or eigenvalues and shares.

    Returns
    -------
    Law
        The law.

    Raises
    ------
    ValueError, TypeError
        If it is none of these.

    Examples
    --------
    >>> from iclkit.data import laws
    >>> print(laws.as_law("tasks", ([4.0, 0.0], [0.25, 0.75])).weights)
    [0.25 0.75]
    """
    if isinstance(value, Law):
        law = _spectrum(name, f"{name}.weights", value.values, value.weights)
        if value.basis is None:
            return law._replace(d=value.d)
        size = law.values.size
        basis = unlabelled(f"{name}.basis", value.basis, (size, size))
        vectors = value.vectors
        if vectors is not None:
            vectors = unlabelled(f"{name}.vectors", vectors, (None, size))
        return Law(law.values, law.weights, basis, size, vectors)
    if isinstance(value, str):
        raise TypeError(
            f"{name} must be a law, got {value!r}: words are for simulations, and otherwise "
            "iclkit.data.laws makes laws"
        )
    if isinstance(value, tuple) and len(value) == 2 and _is_row(value[0]):
        return _spectrum(name, f"{name}[1]", *value)
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        raise ValueError(
            f"{name} must be an array if it is a matrix, or a tuple of eigenvalues and their "
            f"shares, got a nested {type(value).__name__}"
        )
    if getattr(value, "ndim", 1) == 2:
        return _covariance(name, value)
    return _spectrum(name, "", value, None)


def eigenvalues(law: Law, d: int) -> np.ndarray:
    """Eigenvalues of a law in d dimensions, in its order.

    Parameters
    ----------
    law : Law
        The law.
    d : int
        Dimension, at least 1; that of the basis where there is one.

    Returns
    -------
    numpy.ndarray of shape (d,)
        Means of what the law has in each d-th part of its directions, so that their mean is that of
        the law.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from iclkit.data import laws
    >>> print(laws.eigenvalues(laws.low_rank(0.5), 4))
    [2. 2. 0. 0.]
    """
    d = _validate.count("d", d)
    if law.basis is not None and d != len(law.basis):
        raise ValueError(f"d must be {len(law.basis)}, as for the law, got {d}")
    if law.values.size == d and np.all(law.weights == law.weights[0]):
        return law.values
    ends = np.append(0.0, np.cumsum(law.weights))
    ends[-1] = 1.0
    total = np.append(0.0, np.cumsum(law.weights * law.values))
    found: np.ndarray = np.diff(np.interp(np.arange(d + 1) / d, ends, total)) * d
    # What is left of differences where the law is constant over a part is rounding.
    inside = np.searchsorted(ends, (np.arange(d) + 0.5) / d, side="right") - 1
    plain = law.values[np.minimum(inside, law.values.size - 1)]
    return np.where(np.abs(found - plain) < 1e-12 * law.values.max(), plain, found)


def matrix(law: Law, d: int) -> np.ndarray:
    """Covariance of a law in d dimensions.

    Parameters
    ----------
    law : Law
        The law.
    d : int
        Dimension, at least 1; that of the basis where there is one.

    Returns
    -------
    numpy.ndarray of shape (d, d)
        The covariance.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from iclkit.data import laws
    >>> print(laws.matrix(laws.low_rank(0.5), 2))
    [[2. 0.]
     [0. 0.]]
    """
    values = eigenvalues(law, d)
    if law.basis is None:
        diagonal: np.ndarray = np.diag(values)
        return diagonal
    found = (law.basis * values) @ law.basis.T
    symmetric: np.ndarray = (found + found.T) / 2
    return symmetric


def _spectrum(name: str, named: str, values: Any, weights: Any) -> Law:
    C = unlabelled(name, values, (None,))
    share = np.ones(C.shape) if weights is None else unlabelled(named, weights, C.shape)
    # What solvers of eigenvalues leave of a zero is no negative number.
    C = np.where(np.abs(C) > C.size * _EPS * C.max(), C, np.maximum(C, 0.0))
    for what, array in (("eigenvalues", C), ("shares", share)):
        if np.any(array < 0):
            raise ValueError(f"{name} must have {what} of at least 0, got {array.min()}")
    if not np.any((share > 0) & (C > 0)):
        raise ValueError(f"{name} must have a positive eigenvalue of positive share, got none")
    d = C.size if weights is None and C.size >= _DIRECTIONS else None
    some = share > 0
    law = Law(C[some], share[some] / share.sum(), None, d) if weights is not None else Law(
        C, share / C.size, None, d
    )  # fmt: skip
    return _checked_mean(name, law)


def _is_row(value: Any) -> bool:
    try:
        return bool(np.ndim(value) == 1)
    except ValueError:  # a nested list of several lengths
        return False


def _checked_mean(name: str, law: Law) -> Law:
    with np.errstate(over="ignore"):
        mean = float(law.weights @ law.values)
    if not _LEAST <= mean <= _MOST:
        raise ValueError(f"{name} must have a mean eigenvalue between 1e-75 and 1e+75, got {mean}")
    return law


def _covariance(name: str, value: Any) -> Law:
    C = unlabelled(name, np.asarray(value) if isinstance(value, list) else value, (None, None))
    rounding = C.shape[0] * _EPS
    if C.shape[0] != C.shape[1] or np.abs(C - C.T).max() > rounding * np.abs(C).max():
        raise ValueError(
            f"{name} must be eigenvalues, eigenvalues and their shares as a tuple, or a symmetric "
            f"matrix, got an array of shape {C.shape} that is not symmetric; "
            "task vectors, one a row, go through iclkit.data.laws.vectors"
        )
    values, basis = np.linalg.eigh(C)
    values = np.where(np.abs(values) > rounding * np.abs(values).max(), values, 0.0)
    return _spectrum(name, "", values, None)._replace(basis=basis, d=values.size)
