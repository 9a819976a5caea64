"""The conditional-moment lemma, and the exact error of any Γ at finite d and ℓ."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from iclkit import _validate
from iclkit.data import _at, laws
from iclkit.data.kernels import _independent
from iclkit.data.tasks import _prior_of


class Moments(NamedTuple):
    """All that the error of a predictor depends on.

    Attributes
    ----------
    A : array of shape (d, d + 1)
        d E[x y hᵀ] = E[Σw hᵀ] over queries, tasks and contexts.
    B : array of shape (d + 1, d + 1)
        E[h hᵀ].
    label_variance : float
        E[y²] = E[wᵀΣw]/d + ρ.
    tokens : array of shape (d, d), optional
        Covariance Σ of the queries x times d; None for the identity.

    Examples
    --------
    >>> from iclkit import data
    >>> moments = data.population_moments(10, 20, 0.1)
    >>> moments.A.shape, moments.B.shape, moments.label_variance
    ((10, 11), (11, 11), 1.1)
    """

    A: Any
    B: Any
    label_variance: float
    tokens: Any = None


def _noise(rho: float) -> float:
    return _validate.scalar(_validate.nonnegative, "rho", rho)


def _assemble(first: Any, cross: Any, last: Any) -> Any:
    """Put the symmetric matrix [[first, cross], [crossᵀ, last]] together."""
    xp = array_namespace(first)
    top = xp.concat([first, cross[:, None]], axis=1)
    bottom = xp.concat([cross, xp.reshape(last, (1,))])[None, :]
    return xp.concat([top, bottom], axis=0)


def _coloured(moments: Moments, root: Any) -> Moments:
    """Return the moments for tokens z·root of tasks w from those for z of tasks w·root."""
    if root is None:
        return moments
    xp = array_namespace(moments.A)
    d = moments.A.shape[0]
    root = xp.eye(d, dtype=moments.A.dtype) * root if root.ndim == 1 else root
    both = _assemble(root, root[0, :] * 0, root[0, 0] * 0 + 1)
    return Moments(
        A=root @ moments.A @ both,
        B=both @ moments.B @ both,
        label_variance=moments.label_variance,
        tokens=root @ root,
    )


def conditional_moments(
    w: Any, ell: int, rho: float, *, tokens: _at.LawOrWord | None = None, kernel: Any = None
) -> tuple[Any, Any]:
    """Mean and second moment of the context statistic h for a given task.

    Parameters
    ----------
    w : array of shape (d,)
        The task; any length.
    ell : int
        Context length ℓ, at least 1.
    rho : float
        Variance of the label noise, at least 0.
    tokens : law or str, optional
        Covariance Σ of the tokens, as in `iclkit.data.draw_contexts`.
    kernel : array of shape (ell, ell) or (ell + 1, ell + 1), optional
        Covariance of the tokens over positions, as in `iclkit.data.correlation`, with a query that
        is independent of the context; for others, there is `iclkit.data.correlated_error`.

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
    moments = task_moments(w[None, :], ell, rho, tokens=tokens, kernel=kernel)
    t1, _ = _independent(kernel, ell)
    direction = w if moments.tokens is None else moments.tokens @ w
    square = moments.label_variance + (t1 - 1) * (moments.label_variance - rho)
    return array_namespace(w).concat([t1 * direction, w[:1] * 0 + square]), moments.B


def task_moments(
    tasks: Any, ell: int, rho: float, *, tokens: _at.LawOrWord | None = None, kernel: Any = None
) -> Moments:
    """Moments over contexts whose task is one of the given ones, each equally likely (IDG).

    Parameters
    ----------
    tasks : array of shape (k, d)
        The tasks.
    ell : int
        Context length ℓ, at least 1.
    rho : float
        Variance of the label noise, at least 0.
    tokens : law or str, optional
        Covariance Σ of the tokens, as in `iclkit.data.draw_contexts`.
    kernel : array of shape (ell, ell) or (ell + 1, ell + 1), optional
        Covariance of the tokens over positions, as in `iclkit.data.correlation`, with a query that
        is independent of the context; for others, there is `iclkit.data.correlated_error`.

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
    With s = ρ + wᵀΣw/d, A is the mean of [Σwwᵀ Σ, s Σw], and B that of (d/ℓ)sΣ + (1 + 1/ℓ)Σwwᵀ Σ
    with (1 + 2/ℓ)sΣw at its side and (1 + 2/ℓ)s² in the corner. With a kernel, sums over positions
    have its t1 and t2, see `iclkit.data.Correlation`.

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
    root = _at.root(_at.law_at("tokens", tokens, d), d, tasks)
    tasks = _at.times(tasks, root)
    t1, t2 = _independent(kernel, ell)
    size = xp.sum(tasks**2, axis=1) / d
    variance, scatter = t1 * size + rho, t2 * size + t1 * rho  # of y, and Σ yᵢyⱼKᵢⱼ/ℓ
    fourth = t2 * size**2 + 2 * t1 * size * rho + rho**2  # Σ (E yᵢyⱼ)²/ℓ
    covariance = tasks.T @ tasks / k
    weighted, cross = variance @ tasks / k, (t1 * variance + 2 / ell * scatter) @ tasks / k
    first = (t1**2 + t2 / ell) * covariance
    first += (d / ell) * xp.mean(scatter) * xp.eye(d, dtype=tasks.dtype)
    moments = Moments(
        A=xp.concat([t1 * covariance, weighted[:, None]], axis=1),
        B=_assemble(first, cross, xp.mean(variance**2 + 2 / ell * fourth)),
        label_variance=float(xp.mean(size + rho)),
    )
    return _coloured(moments, root)


def population_moments(
    d: int,
    ell: int,
    rho: float,
    *,
    prior: str | None = None,
    tasks: _at.LawOrWord | None = None,
    tokens: _at.LawOrWord | None = None,
    kernel: Any = None,
) -> Moments:
    """Moments over contexts with a fresh task each (ICL).

    Parameters
    ----------
    d : int
        Dimension, at least 1.
    ell : int
        Context length ℓ, at least 1.
    rho : float
        Variance of the label noise, at least 0.
    prior : {"sphere", "gaussian"}, optional
    tasks : law or str, optional
        Law of the tasks, see `iclkit.data.draw_tasks`.
    tokens : law or str, optional
        Covariance Σ of the tokens, as in `iclkit.data.draw_contexts`.
    kernel : array of shape (ell, ell) or (ell + 1, ell + 1), optional
        Covariance of the tokens over positions, as in `iclkit.data.correlation`, with a query that
        is independent of the context; for others, there is `iclkit.data.correlated_error`.

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
    Source: eq-moments-ab in the book. Both priors have E[wwᵀ] = C; with P = Σ^½CΣ^½, the variance
    of a label given its task fluctuates by 2 Tr P²/d² if tasks are Gaussian, and on the sphere by
    2(Tr P²/d − (Tr P/d)²)/(d + 2). That shows in the last entry of B only.

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
    law, prior = _at.law_at("tasks", tasks, d), _prior_of(prior, tasks)
    if law is not None and law.vectors is not None:
        return task_moments(law.vectors, ell, rho, tokens=tokens, kernel=kernel)
    t1, t2 = _independent(kernel, ell)
    seen = np.eye(d) if law is None else laws.matrix(law, d)
    root = _at.root(_at.law_at("tokens", tokens, d), d, seen)
    seen = _at.times(_at.times(seen, root).T, root)  # P, the tasks as isotropic tokens see them
    variance, square = np.trace(seen) / d, np.sum(seen**2) / d
    spread = 2 * square / d if prior == "gaussian" else 2 * (square - variance**2) / (d + 2)
    first = (t1**2 + t2 / ell) * seen + (d / ell) * (t2 * variance + t1 * rho) * np.eye(d)
    fourth = t2 * (variance**2 + spread) + 2 * t1 * variance * rho + rho**2
    last = np.asarray((t1 * variance + rho) ** 2 + t1**2 * spread + 2 / ell * fourth)
    moments = Moments(
        A=np.concat([t1 * seen, np.zeros((d, 1))], axis=1),
        B=_assemble(first, np.zeros(d), last),
        label_variance=float(variance + rho),
    )
    return _coloured(moments, root)


def _check(moments: Moments, like: Any = None) -> Moments:
    """Check the shapes of moments, and move them to the array library of `like`."""
    source = "Moments, as of iclkit.data.population_moments"
    _validate.instance("moments", moments, Moments, source)
    A = _validate.array("moments.A", moments.A, (None, None))
    d = A.shape[0]
    A = _validate.array("moments.A", A, (d, d + 1))
    B = _validate.array("moments.B", moments.B, (d + 1, d + 1))
    tokens = moments.tokens
    if tokens is not None:
        tokens = _validate.array("moments.tokens", tokens, (d, d))
    if like is not None:
        xp = array_namespace(like)
        A, B = (xp.asarray(array) for array in (A, B))
        tokens = None if tokens is None else xp.asarray(tokens)
    variance = _validate.scalar(
        _validate.nonnegative, "moments.label_variance", moments.label_variance
    )
    return Moments(A, B, variance, tokens)


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
    Source: eq-error-quadratic in the book; with a covariance of tokens
    E[y²] + (Tr ΣΓBΓᵀ − 2 Tr ΓAᵀ)/d.

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
    quadratic = gamma @ moments.B
    if moments.tokens is not None:
        quadratic = moments.tokens @ quadratic
    inner = xp.sum(gamma * (quadratic - 2 * moments.A))
    return moments.label_variance + float(inner) / d


def optimal_gamma(moments: Moments, ridge: float = 0.0) -> Any:
    """Γ with ΣΓB + ridge·Γ = A, the best predictor when contexts are unlimited.

    Parameters
    ----------
    moments : Moments
        Of the pretraining contexts.
    ridge : float
        At least 0. With ridge = ξ, the effective ridge, this is the mean of the fitted Γ* in the
        limit.

    Returns
    -------
    array of shape (d, d + 1)
        The minimiser of the error over `moments` plus ridge·‖Γ‖²/d, for isotropic tokens
        A (B + ridge·I)⁻¹; without ridge and with B or Σ singular, as noiseless labels of few tasks
        make them, the one of least norm.

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
    if moments.tokens is not None and ridge > 0:
        return _shrunk(moments, ridge)
    # The last entry of h has the units of a square: far from 1, it would hide the others, or they
    # it. Powers of 2 change no digit.
    unit = 2.0 ** (10 * round(np.log2(moments.label_variance or 1.0) / 20))
    units = xp.asarray([unit] * d + [unit**2], dtype=moments.B.dtype, device=device(moments.B))
    scaled = Moments(moments.A / units, moments.B / units / units[:, None], 1.0, moments.tokens)
    if moments.tokens is not None:
        return _shrunk(scaled, 0.0) / units
    shifted = scaled.B + ridge * xp.eye(d + 1, dtype=moments.B.dtype) / units**2
    return scaled.A @ xp.linalg.pinv(shifted) / units


def _shrunk(moments: Moments, ridge: float) -> Any:
    """Solve ΣΓB + ridge·Γ = A in the eigenvectors of Σ and B."""
    xp = array_namespace(moments.A, moments.B)
    (s, left), (b, right) = (_eigen(matrix) for matrix in (moments.tokens, moments.B))
    total = s[:, None] * b + ridge
    inverse = xp.where(total > 0, 1 / xp.where(total > 0, total, 1.0), 0.0)
    return left @ (inverse * (left.T @ moments.A @ right)) @ right.T


def _eigen(matrix: Any) -> tuple[Any, Any]:
    """Return eigenvalues, those that are 0 to rounding as 0, and eigenvectors."""
    xp = array_namespace(matrix)
    values, vectors = xp.linalg.eigh(matrix)
    rounding = matrix.shape[0] * xp.finfo(matrix.dtype).eps
    return xp.where(values > rounding * xp.max(values), values, 0.0), vectors
