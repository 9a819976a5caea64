"""Tokens that are correlated over positions: kernels, their four numbers, and exact errors.

A kernel is the covariance of tokens over positions, a symmetric positive semidefinite matrix: of ℓ
rows, where the query is independent of the context, or of ℓ + 1, where the last one is the query's.
Tokens are xᵢ = Σ Lᵢⱼ zⱼ with LLᵀ = kernel and independent z ~ N(0, I/d): all coordinates have the
same kernel.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device
from scipy.linalg import toeplitz

from iclkit import _validate, backend

# What is less than this share of the largest number is rounding.
_ROUNDING = 1e-12
_WORD = re.compile(r"(\w+)\(([^(),]+)\)")


class Correlation(NamedTuple):
    """The four numbers through which a kernel acts on linear attention.

    Attributes
    ----------
    t1 : float
        Tr K/ℓ, the mean variance of the tokens of a context; 1 for iid tokens.
    t2 : float
        Tr K²/ℓ, at least t1²; 1 for iid tokens.
    k0 : float
        |k|², where k is the covariance of the query and the tokens; 0 for an independent query.
    k1 : float
        kᵀKk, at least k0², and 0 where that is.

    Notes
    -----
    Source: eq-corr-numbers in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import data
    >>> data.correlation(np.eye(5), ell=5)
    Correlation(t1=1.0, t2=1.0, k0=0.0, k1=0.0)
    """

    t1: float
    t2: float
    k0: float
    k1: float


def kernel(word: str, ell: int, *, query: bool = False) -> np.ndarray:
    """Matrix of a stationary kernel that is given in words.

    Parameters
    ----------
    word : str
        "iid"; "ar(a)", which is aˡᵃᵍ, with a in [-1, 1]; "exponential(xi)", exp(−lag/ξ), with a
        positive ξ; or "power(gamma)", (1 + lag)^−γ, with a positive γ; such as "exponential(3)".
    ell : int
        Context length ℓ, at least 1.
    query : bool
        Whether the query is correlated with the context, as the token after its last one.

    Returns
    -------
    numpy.ndarray of shape (ell, ell) or (ell + 1, ell + 1)
        The larger one with a correlated query.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Any other kernel is as good where one is asked for; `scipy.linalg.toeplitz` makes stationary
    ones. Source: eq-corr-kernel in the book, and eq-corr-ar1 for "exponential(xi)".

    Examples
    --------
    >>> from iclkit import data
    >>> data.kernel("ar(-0.5)", 2, query=True)
    array([[ 1.  , -0.5 ,  0.25],
           [-0.5 ,  1.  , -0.5 ],
           [ 0.25, -0.5 ,  1.  ]])
    """
    size = _validate.count("ell", ell) + _validate.flag("query", query)
    try:
        values = _over_lags(word, np.arange(size, dtype=float))
    except (TypeError, ValueError) as problem:
        raise ValueError(
            "word must be iid, ar(a), exponential(xi) or power(gamma) with a number, "
            f"got {word!r}: {problem}"
        ) from None
    return np.asarray(toeplitz(values))


def _over_lags(word: str, lag: np.ndarray) -> np.ndarray:
    if word == "iid":
        return np.where(lag == 0, 1.0, 0.0)
    called = _WORD.fullmatch(word)
    family, number = (called[1], float(called[2])) if called else ("", np.nan)
    if family == "ar":
        if not abs(number) <= 1:
            raise ValueError("a must be between -1 and 1")
        return np.asarray(number**lag)
    if family == "exponential":
        return np.exp(-lag / _validate.finite("xi", number))
    if family == "power":
        return np.asarray((1 + lag) ** -_validate.finite("gamma", number))
    raise ValueError("there is no such kernel")


def _whole(kernel: Any, ell: int) -> np.ndarray:
    """Return a kernel with the row of its query, which is 0 but for its end if that is independent.

    With k the covariance of the query and the tokens, and 1 the query's variance, the kernel is
    positive semidefinite if K - kkᵀ is.
    """
    found = _validate.array("kernel", kernel, (None, None))
    if found.shape not in ((ell, ell), (ell + 1, ell + 1)):
        raise ValueError(
            f"kernel must have shape {(ell, ell)}, or {(ell + 1, ell + 1)} with a query, for "
            f"ell = {ell}, got {tuple(found.shape)}"
        )
    whole, given = np.eye(ell + 1), found.shape[0]
    whole[:given, :given] = backend.to_numpy(found)
    size = np.max(np.abs(whole[:ell, :ell]))
    units = np.append(np.full(ell, size**0.5), 1.0)  # of tokens, and of the query
    if np.any(np.abs(whole - whole.T) > _ROUNDING * units * units[:, None]):
        raise ValueError("kernel must be symmetric, got one that is not")
    whole = (whole + whole.T) / 2
    if abs(whole[ell, ell] - 1) > _ROUNDING:
        raise ValueError(f"kernel must have 1 for its query, the last, got {whole[ell, ell]}")
    whole[ell, ell] = 1.0
    least = np.linalg.eigvalsh(_given_query(whole))[0]
    if least < -_ROUNDING * ell * size:
        raise ValueError(
            f"kernel must be positive semidefinite, got one that has the variance {least:.3g} in "
            "some direction, given the query"
        )
    return whole


def _given_query(whole: np.ndarray) -> np.ndarray:
    """Return K - kkᵀ, the covariance of the tokens given the query."""
    k = whole[:-1, -1]
    return np.asarray(whole[:-1, :-1] - k[:, None] * k)


def correlation(kernel: Any, ell: int) -> Correlation:
    """Reduce a kernel to the four numbers that errors depend on.

    Parameters
    ----------
    kernel : array of shape (ell, ell) or (ell + 1, ell + 1)
        Covariance of the tokens over positions, symmetric and positive semidefinite, with any
        diagonal; the smaller one if the query is independent of the context. In the larger one,
        the query is the last, and has variance 1.
    ell : int
        Context length ℓ, at least 1.

    Returns
    -------
    Correlation
        t1, t2, k0 and k1, exact for this kernel.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-corr-numbers in the book.

    Examples
    --------
    >>> from iclkit import data
    >>> found = data.correlation(data.kernel("ar(0.5)", 100, query=True), ell=100)
    >>> [round(number, 3) for number in found]
    [1.0, 1.658, 0.333, 0.556]
    """
    ell = _validate.count("ell", ell)
    return _numbers(_whole(kernel, ell))


def _numbers(whole: np.ndarray) -> Correlation:
    K, k = whole[:-1, :-1], whole[:-1, -1]
    numbers = np.trace(K) / len(K), np.sum(K**2) / len(K), k @ k, k @ K @ k
    return Correlation(*map(float, numbers))


def _independent(kernel: Any, ell: int) -> tuple[float, float]:
    """Return t1 and t2 of a kernel whose query is independent of the context; 1 for None."""
    if kernel is None:
        return 1.0, 1.0
    t1, t2, k0, _ = _numbers(_whole(kernel, ell))
    if k0 > 0:
        raise ValueError(
            "kernel must have a query that is independent of the context, as A and B don't "
            "suffice for another, got one that is correlated: see iclkit.data.correlated_error"
        )
    return t1, t2


@np.errstate(over="ignore", invalid="ignore")  # see its end
def correlated_error(gamma: Any, ell: int, rho: float, kernel: Any, *, tasks: Any = None) -> float:
    """Exact mean squared error E(y - xᵀΓh)² of a given Γ on contexts of correlated tokens.

    Parameters
    ----------
    gamma : array of shape (d, d + 1)
        The predictor Γ.
    ell : int
        Context length ℓ, at least 1.
    rho : float
        Variance of the label noise, at least 0; noise is independent over positions.
    kernel : array of shape (ell, ell) or (ell + 1, ell + 1)
        Covariance of the tokens over positions, as in `correlation`.
    tasks : array of shape (k, d), optional
        Tasks that are equally likely, for the IDG error; by default new ones on the sphere of
        radius √d, for the ICL error.

    Returns
    -------
    float
        The error, label noise included; exact at finite d and ℓ, and for any kernel.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or the error is larger than any number.

    Notes
    -----
    (xᵀΓh)² has degree 6 in the tokens and labels, which are Gaussian for a given task: with
    Γ = [Γ₁, γ], each of the three parts of its mean is a sum over 15 pairings, in which the sums
    over positions factorise. With an independent query it is the error that `prediction_error` has
    from the moments A and B. With a correlated one there are terms in Tr Γ₁, and these two don't
    suffice. Source: eq-corr-risk in the book has its limit for large d.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import data
    >>> iid, near = np.eye(20), data.kernel("ar(0.5)", 20, query=True)
    >>> print(round(data.correlated_error(np.eye(10, 11), 20, 0.1, iid), 3))
    0.7
    >>> print(round(data.correlated_error(np.eye(10, 11), 20, 0.1, near), 3))
    1.237
    """
    gamma = _validate.array("gamma", gamma, (None, None))
    d = gamma.shape[0]
    gamma = _validate.array("gamma", gamma, (d, d + 1))
    ell = _validate.count("ell", ell)
    rho = _validate.scalar(_validate.nonnegative, "rho", rho)
    t1, t2, k0, k1 = _numbers(_whole(kernel, ell))
    xp = array_namespace(gamma)
    if tasks is None:
        # Of a task, all is quadratic, but for its length and odd terms: so 2d of the sphere do.
        axes = d**0.5 * xp.eye(d, dtype=gamma.dtype, device=device(gamma))
        w = xp.concat([axes, -axes])
    else:
        w = _validate.array("tasks", tasks, (None, d), like=gamma)
    main, last = gamma[:, :d], gamma[:, d]
    trace, twice = xp.linalg.trace(main), xp.sum(main * main.T)
    right, left, along = w @ main.T, w @ main, w @ last
    u, size = xp.vecdot(w, right), xp.vecdot(w, w) / d
    # Of labels over positions: E Σ yᵢ²/ℓ, E (Σ kᵢyᵢ)², E Σ Kᵢⱼyᵢyⱼ/ℓ and Σ (E yᵢyⱼ)²/ℓ.
    variance, near = size * t1 + rho, size * k1 + rho * k0
    scatter = size * t2 + rho * t1
    fourth = size**2 * t2 + 2 * size * rho * t1 + rho**2

    cross = (
        t1 * u
        + k0 / ell * (u + d * size * trace)
        + (variance + 2 / ell * size * k0) * along
    ) / d  # fmt: skip
    of_main = (
        scatter / ell * xp.sum(main**2)
        + (t1**2 + t2 / ell) / d * xp.vecdot(right, right)
        + 2 * k1 / (d * ell**2) * xp.vecdot(left, left)
        + 2 / d * (k0 * t1 / ell + k1 / ell**2) * (xp.vecdot(left, right) + trace * u)
        + near / ell**2 * (trace**2 + twice)
    )
    of_both = (
        (t1 * variance + 2 / ell * scatter) / d * (right @ last)
        + (k0 * variance / ell + 2 * near / ell**2) / d * (left @ last + trace * along)
        + (2 * k0 * t1 / ell + 4 * k1 / ell**2) / d**2 * u * along
    )
    of_last = (
        (variance**2 + 2 / ell * fourth) / d * (last @ last)
        + (4 * k0 * variance / ell + 8 * near / ell**2) / d**2 * along**2
    )  # fmt: skip
    error = float(xp.mean(size + rho - 2 * cross + of_main + 2 * of_both + of_last))
    if not np.isfinite(error):
        raise ValueError("gamma, kernel and tasks must have an error below 1e308, got a larger one")
    return error
