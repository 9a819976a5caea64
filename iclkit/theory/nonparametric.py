"""Linear attention on cosine features: nonparametric regression in context, exactly.

Tokens are uniform on [0, 1], the features of a token are φ_j(x) = √2 cos(πjx), and a task is a
function f = Σ θ_j φ_j with coefficients of mean zero. A context of ℓ labels y = f(x) + noise is
h = (1/ℓ) Σ y φ(x), and a query is answered by φ(x)ᵀ Γ h. A product of four cosines has a mean that
can be counted, so the risk of every Γ is exact at every ℓ and m, as it is in `iclkit.data.moments`
for Gaussian tokens.

Risks are means over the query and count no label noise. A covariance of the coefficients, about
zero, is given by its diagonal or as a matrix. Frequencies above those of the features act exactly
as label noise if their coefficients are correlated with no others: where they have the variance r,
take ρ + r for ρ, and add r to the risk.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh
from scipy.special import zeta

from iclkit import _validate
from iclkit._labels import refuse, unlabelled

# Below, 2a + 1 has lost digits; above, all variances but the first are below the smallest number.
_SMOOTHNESS = 1e-3, 1e3
_EPS = np.finfo(float).eps


def cosines(x: ArrayLike, m: int) -> np.ndarray:
    """Features of tokens, √2 cos(πjx) for j = 1 … m.

    Parameters
    ----------
    x : array of shape (n,)
        Tokens, between 0 and 1.
    m : int
        Number of features, at least 1.

    Returns
    -------
    numpy.ndarray of shape (n, m)
        Orthonormal under the uniform law, and of mean zero.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from iclkit.theory import nonparametric
    >>> print(nonparametric.cosines([0.0, 0.5], m=3).round(3))
    [[ 1.414  1.414  1.414]
     [ 0.    -1.414 -0.   ]]
    """
    x, m = _tokens(x), _validate.count("m", m)
    phi: np.ndarray = np.sqrt(2) * np.cos(np.pi * np.multiply.outer(x, np.arange(1, m + 1)))
    return phi


def _tokens(x: ArrayLike) -> np.ndarray:
    tokens = unlabelled("x", x, (None,))
    if not np.all((tokens >= 0) & (tokens <= 1)):
        raise ValueError(f"x must be between 0 and 1, got {tokens.min()} to {tokens.max()}")
    return tokens


def smooth_law(smoothness: float, m: int) -> tuple[np.ndarray, float]:
    """Variances j^−(2a+1) of the first m coefficients, and the variance of all others together.

    Parameters
    ----------
    smoothness : float
        a, between 0.001 and 1000: functions with about a derivatives.
    m : int
        Number of features, at least 1.

    Returns
    -------
    variances : numpy.ndarray of shape (m,)
        Those of the features.
    rest : float
        That of f which no feature has.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-np-model in the book.

    Examples
    --------
    >>> from iclkit.theory import nonparametric
    >>> variances, rest = nonparametric.smooth_law(1.0, m=3)
    >>> print(variances.round(3), round(rest, 3))
    [1.    0.125 0.037] 0.04
    """
    a, m = _validate.finite("smoothness", smoothness), _validate.count("m", m)
    least, most = _SMOOTHNESS
    if not least <= a <= most:
        raise ValueError(f"smoothness must be between {least:g} and {most:g}, got {a}")
    power = 2 * a + 1
    return np.arange(1.0, m + 1) ** -power, float(zeta(power, m + 1))


def _covariance(name: str, value: ArrayLike) -> np.ndarray:
    """Return a covariance as a matrix."""
    refuse(name, value)
    array = _validate.signed(name, value)
    if array.ndim == 1 and array.size:
        return np.diag(_validate.nonnegative(name, array))
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
        raise ValueError(f"{name} must have shape (m,) or (m, m), got {array.shape}")
    rounding = 1e-9 * np.abs(array).max()
    if not np.allclose(array, array.T, rtol=0, atol=rounding):
        raise ValueError(f"{name} must be a covariance, symmetric, got {array}")
    least = np.linalg.eigvalsh(array)[0]
    if least < -rounding:
        raise ValueError(f"{name} must be a covariance, got one with the eigenvalue {least}")
    return array


def scatter(covariance: ArrayLike) -> np.ndarray:
    """Mean of f(x)² φ(x) φ(x)ᵀ over tokens and tasks: what labels add to the noise.

    Parameters
    ----------
    covariance : array of shape (m,) or (m, m)
        Of the coefficients; a vector is a diagonal, of numbers that are at least 0.

    Returns
    -------
    numpy.ndarray of shape (m, m)
        Symmetric. Entries with i − j odd are zero for a diagonal covariance.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    The matrix is multiplication by the function E f(x)². This is a sum of cosines, of which a
    product φ_i φ_j takes those of the frequencies i + j and |i − j|. Source: eq-np-scatter in the
    book.

    Examples
    --------
    >>> from iclkit.theory import nonparametric
    >>> print(nonparametric.scatter([1.0, 0.5, 0.1]))
    [[2.1  0.   0.75]
     [0.   1.85 0.  ]
     [0.75 0.   1.65]]
    """
    return _scatter(_covariance("covariance", covariance))


def _scatter(covariance: np.ndarray) -> np.ndarray:
    j = np.arange(1, len(covariance) + 1)
    plus, minus = np.add.outer(j, j), np.abs(np.subtract.outer(j, j))
    # E f(x)² as a sum of cos(πnx), the constant first; then E φ_i φ_j cos(πnx) is ½ for each n.
    both = np.concatenate([plus.ravel(), minus.ravel()])
    half = np.bincount(both, np.tile(covariance.ravel(), 2)) / 2
    half[0] *= 2
    matrix: np.ndarray = half[plus] + half[minus]
    return matrix


def _spread(covariance: np.ndarray, ell: int, rho: float) -> np.ndarray:
    """Return the covariance of h for a given task, averaged over tasks."""
    spread: np.ndarray = (rho * np.eye(len(covariance)) + _scatter(covariance) - covariance) / ell
    return spread


def best_gamma(
    covariance: ArrayLike, ell: int, rho: float, *, diagonal: bool = False
) -> np.ndarray:
    """Γ with the least risk, what unlimited pretraining finds.

    Parameters
    ----------
    covariance : array of shape (m,) or (m, m)
        Of the coefficients; a vector is a diagonal, of numbers that are at least 0.
    ell : int
        Labels in a context, at least 1.
    rho : float
        Variance of the label noise, at least 0; frequencies without a feature included.
    diagonal : bool
        The best one among diagonal Γ.

    Returns
    -------
    numpy.ndarray of shape (m, m)
        Zero in the row of a coefficient without variance.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.
    numpy.linalg.LinAlgError
        If ρ = 0 and the context's second moments have no inverse.

    Notes
    -----
    A B⁻¹ with A = E θhᵀ, the covariance, and B = E hhᵀ. Source: eq-np-moments in the book.

    Examples
    --------
    >>> from iclkit.theory import nonparametric
    >>> print(nonparametric.best_gamma([1.0, 0.1], ell=50, rho=0.5, diagonal=True).round(3))
    [[0.978 0.   ]
     [0.    0.763]]
    """
    C = _covariance("covariance", covariance)
    ell, rho = _validate.count("ell", ell), _validate.scalar(_validate.nonnegative, "rho", rho)
    B = C + _spread(C, ell, rho)
    if _validate.flag("diagonal", diagonal):
        with np.errstate(invalid="ignore"):
            return np.diag(np.nan_to_num(np.diag(C) / np.diag(B)))
    gamma: np.ndarray = np.linalg.solve(B, C).T
    return gamma


def risk(gamma: ArrayLike, covariance: ArrayLike, ell: int, rho: float) -> float:
    """Risk of any Γ on tasks of any covariance, those of a finite list among them.

    Parameters
    ----------
    gamma : array of shape (m, m)
        The layer.
    covariance : array of shape (m,) or (m, m)
        Of the coefficients at test; a vector is a diagonal, of numbers that are at least 0.
    ell : int
        Labels in a context, at least 1.
    rho : float
        Variance of the label noise, at least 0; frequencies without a feature included.

    Returns
    -------
    float
        E (φ(x)ᵀΓh − f(x))², label noise and frequencies without a feature not included.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-np-moments in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.theory import nonparametric
    >>> law = [1.0, 0.1]
    >>> best = nonparametric.best_gamma(law, ell=50, rho=0.5)
    >>> risks = [nonparametric.risk(gamma, law, 50, 0.5) for gamma in (best, np.eye(2))]
    >>> print(np.round(risks, 4))
    [0.0452 0.053 ]
    """
    C = _covariance("covariance", covariance)
    gamma = _gamma(gamma, len(C))
    ell, rho = _validate.count("ell", ell), _validate.scalar(_validate.nonnegative, "rho", rho)
    # What is missing and what is scattered, apart: in one sum, long contexts would cancel digits.
    missing = np.eye(len(C)) - gamma
    return float(np.vdot(missing, missing @ C) + np.vdot(gamma, gamma @ _spread(C, ell, rho)))


def _gamma(value: ArrayLike, m: int | None = None) -> np.ndarray:
    gamma = unlabelled("gamma", value, (None, None))
    if gamma.shape[0] != gamma.shape[1]:
        raise ValueError(f"gamma must have shape (m, m), got {gamma.shape}")
    if m is not None and len(gamma) != m:
        raise ValueError(f"gamma must be of the size of covariance, {m}, got {gamma.shape}")
    return gamma


def worst_risk(gamma: ArrayLike, ell: int, rho: float, smoothness: float) -> float:
    """Largest risk of a given Γ over the functions of a Sobolev ball.

    Parameters
    ----------
    gamma : array of shape (m, m)
        The layer. Rows and columns of zeros add functions that no feature has.
    ell : int
        Labels in a context, at least 1.
    rho : float
        Variance of the label noise, at least 0.
    smoothness : float
        a, positive and finite: the ball is Σ j^(2a) θ_j² ≤ 1, for the m frequencies.

    Returns
    -------
    float
        The supremum, which a function attains; label noise of the query not included.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    For a given f the risk is a quadratic form of θ plus ρ|Γ|²/ℓ. Source: eq-np-worst in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.theory import nonparametric
    >>> print(nonparametric.worst_risk(np.zeros((3, 3)), ell=50, rho=0.5, smoothness=1.0))
    1.0
    >>> print(round(nonparametric.worst_risk(np.eye(3), ell=50, rho=0.5, smoothness=1.0), 3))
    0.081
    """
    gamma = _gamma(gamma)
    ell, rho = _validate.count("ell", ell), _validate.scalar(_validate.nonnegative, "rho", rho)
    smoothness, m = _validate.finite("smoothness", smoothness), len(gamma)
    square, left = gamma.T @ gamma, np.eye(m) - gamma
    form = left.T @ left + (_scatter(square) - square) / ell
    weights = np.arange(1.0, m + 1) ** -smoothness
    form = weights[:, None] * form * weights
    top = eigh(form, eigvals_only=True, subset_by_index=(m - 1, m - 1))[0]
    return float(top + rho / ell * np.trace(square))


def shrinkage_risk(variances: ArrayLike, ell: int, rho: float) -> float:
    """Risk of the best shrinkage of coefficients that are seen in noise ρ/ℓ, each by itself.

    Parameters
    ----------
    variances : array of shape (m,)
        Of the coefficients, at least 0.
    ell : int
        Labels in a context, at least 1.
    rho : float
        Variance of the label noise, positive and finite.

    Returns
    -------
    float
        Σ v_j (ρ/ℓ)/(v_j + ρ/ℓ).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    What a context would tell if its tokens made the features orthogonal. For Gaussian coefficients
    and noise no estimator has a smaller mean risk, and for others none that is linear in labels.
    Source: eq-np-floor in the book.

    Examples
    --------
    >>> from iclkit.theory import nonparametric
    >>> print(round(nonparametric.shrinkage_risk([1.0, 0.1], ell=50, rho=0.5), 4))
    0.019
    """
    variances = _variances(variances)
    level = _validate.finite("rho", rho) / _validate.count("ell", ell)
    return float(np.sum(variances * level / (variances + level)))


def _variances(value: ArrayLike) -> np.ndarray:
    return _validate.nonnegative("variances", unlabelled("variances", value, (None,)))


def posterior_risk(x: ArrayLike, variances: ArrayLike, rho: float) -> float:
    """Risk of the posterior mean, the least that any estimator has, for given tokens.

    Parameters
    ----------
    x : array of shape (n,)
        Tokens of the context, between 0 and 1.
    variances : array of shape (m,)
        Of the coefficients, at least 0: all of them, as there is no other frequency in f.
    rho : float
        Variance of the label noise, positive, finite, and large enough for the tokens: from 1e-19
        of the largest eigenvalue of the covariance of labels.

    Returns
    -------
    float
        Variance of the posterior, a Gaussian process, as a mean over the query.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    For Gaussian coefficients; for others of the same variances it is the risk of kernel ridge
    regression. Source: eq-np-floor in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.theory import nonparametric
    >>> tokens = np.random.default_rng(0).uniform(size=50)
    >>> print(round(nonparametric.posterior_risk(tokens, [1.0, 0.1], rho=0.5), 4))
    0.0187
    """
    tokens, variances = _tokens(x), _variances(variances)
    rho = _validate.finite("rho", rho)
    scaled = cosines(tokens, variances.size) * np.sqrt(variances)
    _, s, seen = np.linalg.svd(scaled, full_matrices=False)
    # Singular values are right to rounding of the largest one, which √ρ has to exceed by far.
    least = (1e6 * _EPS * s[0]) ** 2
    if rho < least:
        raise ValueError(f"rho must be at least {least:g} for these tokens, got {rho}")
    shares = seen**2
    unseen = variances @ (1 - shares.sum(axis=0)) if len(s) < len(variances) else 0.0
    return float(unseen + shares @ variances @ (rho / (s**2 + rho)))
