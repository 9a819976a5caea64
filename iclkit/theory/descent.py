"""Depth as gradient descent: what L layers of linear attention can do with one context.

A layer that reads the context can make a gradient step on it. Without noise, L of them leave of
the task the part p(S) w, where S is the context's covariance and p(x) = Π (1 − η_l x) a polynomial
with p(0) = 1. All risks here are integrals of such polynomials: over the Marchenko–Pastur law for
isotropic tokens, over a given spectrum else. They are per dimension and do not hold the noise of
the query's label: the error of this book is ρ more. Labelled arrays stay labelled, as in
`iclkit.theory`, where arguments broadcast.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import minimize_scalar
from scipy.special import zeta

from iclkit import _validate, backend
from iclkit._labels import labelled, refuse, unlabelled
from iclkit._types import Seed, checked
from iclkit.data.contexts import draw_contexts
from iclkit.data.tasks import draw_tasks


class Law(NamedTuple):
    """A spectrum, or a quadrature rule for one.

    Attributes
    ----------
    nodes : numpy.ndarray of shape (m,)
        Eigenvalues x of the covariance that is descended on, at least 0.
    weights : numpy.ndarray of shape (m,)
        What the error along each of them counts.

    Examples
    --------
    >>> from iclkit.theory.descent import Law, best_step
    >>> law = Law([1.0, 2.0], [0.5, 0.5])
    >>> round(best_step(law, depth=1), 3)
    0.6
    """

    nodes: np.ndarray
    weights: np.ndarray


def marchenko_pastur(alpha: float, points: int) -> Law:
    """Gauss quadrature for the eigenvalues of S = (1/α) Σ x xᵀ, with isotropic tokens.

    Parameters
    ----------
    alpha : float
        Context length α = ℓ/d, positive and finite.
    points : int
        Nodes m, at least 1.

    Returns
    -------
    Law
        Exact for polynomials of degree at most 2m − 1, the atom at zero for α < 1 included.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    The nodes are the eigenvalues of the Jacobi matrix with the diagonal 1, 1 + c, 1 + c, …, and
    √c beside it, c = 1/α. Source: eq-mp-jacobi in the book.

    Examples
    --------
    >>> from iclkit.theory import descent
    >>> nodes, weights = descent.marchenko_pastur(alpha=0.5, points=2)
    >>> print(nodes.round(3), weights.round(3))
    [0.268 3.732] [0.789 0.211]
    >>> print((weights @ nodes).round(3), (weights @ nodes**2).round(3))  # 1 and 1 + 1/α
    1.0 3.0
    """
    c, m = 1 / _validate.finite("alpha", alpha), _validate.count("points", points)
    nodes, vectors = eigh_tridiagonal([1.0] + [1 + c] * (m - 1), [c**0.5] * (m - 1))
    return Law(np.maximum(nodes, 0), vectors[0] ** 2)


def power_law(nu: float, beta: float, width: int) -> Law:
    """Spectrum of a task of power-law structure, as far as a network of finite width sees it.

    Parameters
    ----------
    nu : float
        Eigenvalues of the tokens' covariance fall like λ_j = j^−ν, ν > 0.
    beta : float
        The task lies in them by λ_j w_j² = j^(−νβ − 1), β > 0.
    width : int
        Directions that the network has, at least 1: the first ones.

    Returns
    -------
    Law
        λ_j with the weights λ_j w_j², and last a node at zero with all that is beyond the width.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-power-law-task in the book; Bordelon, Letey and Pehlevan, arXiv 2510.01098.

    Examples
    --------
    >>> from iclkit.theory import descent
    >>> law = descent.power_law(nu=1.0, beta=1.0, width=3)
    >>> print(law.nodes.round(3))
    [1.    0.5   0.333 0.   ]
    >>> print(law.weights.round(3))  # the last is lost to the network
    [1.    0.25  0.111 0.284]
    """
    nu, beta = _validate.finite("nu", nu), _validate.finite("beta", beta)
    j = np.arange(1.0, _validate.count("width", width) + 1)
    decay = min(nu * beta + 1, 1e4)  # beyond that all but the first weight are 0, or NaN in scipy
    return Law(np.append(j**-nu, 0.0), np.append(j**-decay, zeta(decay, j.size + 1)))


def _check_law(law: Law) -> Law:
    """Return the nodes that count."""
    if not (isinstance(law, tuple) and len(law) == 2):
        raise TypeError(f"law must be a Law of nodes and weights, got {type(law).__name__}")
    nodes = unlabelled("law.nodes", law[0], (None,))
    weights = unlabelled("law.weights", law[1], nodes.shape)
    if np.any(nodes < 0) or np.any(weights < 0) or not weights.any():
        raise ValueError("law must have nodes and weights of at least 0, and a positive weight")
    nodes, weights = nodes[weights > 0], weights[weights > 0]
    for name, most in (("nodes", nodes.max()), ("weights", weights.max())):
        if most > 0 and not 1e-75 <= most <= 1e75:
            raise ValueError(
                f"law.{name} must be 0, or the largest between 1e-75 and 1e+75, got {most}"
            )
    return Law(nodes, weights)


# Risks ----------------------------------------------------------------------------------------


def descent_risk(steps: ArrayLike, law: Law, ridge: float = 0.0) -> float:
    """Risk after gradient steps of given sizes.

    Parameters
    ----------
    steps : array of shape (L,)
        Step sizes η_l; complex ones come in conjugate pairs.
    law : Law
        The spectrum.
    ridge : float
        Label noise over context length, ρ/α, at least 0.

    Returns
    -------
    float
        Σ weights · [p² + (ρ/α)(1 − p)²/x], with p = Π (1 − η_l x).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-descent-risk in the book.

    Examples
    --------
    >>> from iclkit.theory import descent
    >>> law = descent.Law([1.0, 2.0], [0.5, 0.5])
    >>> descent.descent_risk([1.0, 0.5], law)  # a step for each eigenvalue
    0.0
    >>> round(descent.descent_risk([1.0, 0.5], law, ridge=0.1), 3)  # noise is fitted, too
    0.075
    """
    law = _check_law(law)
    steps = _check_steps(steps)
    ridge = _validate.scalar(_validate.nonnegative, "ridge", ridge)
    x, rest, fitted = law.nodes, np.ones(law.nodes.size), np.zeros(law.nodes.size)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for step in steps:
            fitted = fitted + step * rest
            rest = rest * _one_minus(step, x)
        # (1 − p)/x: the sum has large terms that cancel, unless all steps are small.
        small = x * np.abs(steps).sum() < 1
        fitted = np.where(small, fitted, (1 - rest) / np.where(small, 1, x))
        risk = float(law.weights @ (np.abs(rest) ** 2 + ridge * x * np.abs(fitted) ** 2))
    if not np.isfinite(risk):
        raise ValueError(
            "steps must have a risk in the range of floats, "
            f"got steps up to {np.abs(steps).max():g} on nodes up to {x.max():g}"
        )
    return risk


def _check_steps(steps: Any) -> np.ndarray:
    refuse("steps", steps)
    split = False
    with suppress(ValueError):  # of nested lists, which are named below
        split = np.iscomplexobj(steps)
    if split:
        return _check_steps(np.real(steps)) + 1j * _check_steps(np.imag(steps))
    return unlabelled("steps", steps, (None,))


def _one_minus(step: Any, x: np.ndarray) -> np.ndarray:
    """1 − step·x, with the rounding error of the product, which is all there is beside a root."""
    real = np.real(step)
    (a, b), (c, d) = _halves(real), _halves(x)
    error = ((a * c - real * x) + a * d + b * c) + b * d
    rest: np.ndarray = (1 - real * x) - error
    if np.iscomplexobj(step):
        rest = rest - 1j * (np.imag(step) * x)
    return rest


def _halves(value: Any) -> tuple[Any, Any]:
    """Split numbers into two of half as many digits, between which products are exact."""
    high = value * (2.0**27 + 1)
    high = high - (high - value)
    return high, value - high


def best_step(law: Law, depth: int, ridge: float = 0.0) -> float:
    """Find the step size at which L equal steps have the least risk.

    Parameters
    ----------
    law : Law
        The spectrum.
    depth : int
        Number of layers L, at least 1.
    ridge : float
        Label noise over context length, ρ/α, at least 0.

    Returns
    -------
    float
        η, positive.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Without noise the risk is convex in η; with noise the best of 400 sizes is refined. The risk
    falls up to η = 1/(L(x + ρ/α)) for the largest node x, and no step is best at which that node
    alone has more risk than all have before the first step.

    Examples
    --------
    >>> from iclkit.theory import descent
    >>> law = descent.marchenko_pastur(alpha=2.0, points=10)
    >>> [round(descent.best_step(law, depth), 3) for depth in (1, 2, 4)]  # α/(1 + α)
    [0.667, 0.667, 0.667]
    >>> round(descent.best_step(law, depth=1, ridge=1.0), 3)  # noise makes it careful
    0.4
    """
    law, depth = _check_law(law), _validate.count("depth", depth)
    ridge = _validate.scalar(_validate.nonnegative, "ridge", ridge)
    nodes, weights = law
    top = np.argmax(nodes)
    if nodes[top] == 0:
        raise ValueError("law must have a positive node of positive weight, got none")
    least = 0.9 / (depth * (nodes[top] + ridge))
    most = 1.1 * (1 + (weights.sum() / weights[top]) ** (1 / (2 * depth))) / nodes[top]

    def risk(log_step: Any) -> Any:
        y = np.multiply.outer(np.exp(log_step), nodes)
        rest = (1 - y) ** depth
        fitted = 1 - rest
        return (rest**2 + ridge * fitted * (fitted / np.where(nodes > 0, nodes, 1))) @ weights

    grid = np.linspace(np.log(least), np.log(most), 400)
    i = int(np.argmin(risk(grid)))
    around = (grid[max(i - 1, 0)], grid[min(i + 1, grid.size - 1)])
    return float(np.exp(minimize_scalar(risk, bounds=around, options={"xatol": 1e-12}).x))


def best_steps(law: Law, depth: int, ridge: float = 0.0) -> np.ndarray:
    """Find the step sizes at which L steps have the least risk.

    Parameters
    ----------
    law : Law
        The spectrum.
    depth : int
        Number of layers L, at least 1 and less than the number of nodes that differ by more than
        rounding.
    ridge : float
        Label noise over context length, ρ/α, at least 0.

    Returns
    -------
    numpy.ndarray of shape (L,)
        Inverse roots of the polynomial of least risk, in increasing order of their real parts.
        With noise some can be complex: then steps with memory (momentum) reach the least risk,
        and plain steps come near it only.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    On a wide spectrum, such as a power law over hundreds of directions, the steps of sixteen and
    more layers are so large that what rounding them changes is more than the least risk: then a
    warning says so. Source: eq-best-polynomial in the book.

    Examples
    --------
    >>> from iclkit.theory import descent
    >>> law = descent.marchenko_pastur(alpha=1.0, points=10)
    >>> steps = descent.best_steps(law, depth=2)
    >>> print(steps.round(3))
    [0.333 1.   ]
    >>> print(round(descent.descent_risk(steps, law), 3), descent.untied_risk(1.0, 2).round(3))
    0.333 0.333
    """
    law, depth = _check_law(law), _validate.count("depth", depth)
    ridge = _validate.scalar(_validate.nonnegative, "ridge", ridge)
    unit = law.nodes.max()
    diagonal, beside = _jacobi(law._replace(nodes=law.nodes / (unit or 1)), depth + 1)
    J = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    at_zero = np.zeros(depth + 1)
    at_zero[0] = 1.0
    for k in range(depth):
        before = beside[k - 1] * at_zero[k - 1] if k else 0.0
        at_zero[k + 1] = -(diagonal[k] * at_zero[k] + before) / beside[k]
    # (x + ρ/α) p − ρ/α is orthogonal to all polynomials of degree less than L, and p(0) = 1.
    shift = ridge / unit
    system = np.vstack([J[:depth] + shift * np.eye(depth + 1)[:depth], at_zero])
    right = np.zeros(depth + 1)
    right[0], right[-1] = shift, 1.0
    p = np.linalg.solve(system, right)
    # What differs from the constant by no more than rounding has no digit that is right.
    if p[depth] == 0 or np.abs(p[1:]).max() <= np.finfo(float).eps * abs(p[0]):
        raise ValueError(f"ridge must leave something to gain by {depth} steps, got {ridge}")
    # Its roots are the eigenvalues of the comrade matrix.
    comrade = J[:depth, :depth].copy()
    comrade[-1] -= beside[depth - 1] * p[:depth] / p[depth]
    roots = np.linalg.eigvals(comrade)
    if not np.all(roots):
        raise ValueError(f"depth must be less than the number of different nodes, got {depth}")
    steps = 1 / (unit * roots)
    # By this orthogonality the least risk is the integral of p; where it is small, that of p² has
    # more digits.
    least = max(p[0], p @ p) * law.weights.sum()
    reached = descent_risk(steps, law, ridge)
    if not reached < 1.001 * least:
        warnings.warn(
            f"the steps have the least risk {least:.3g}, but {reached:.3g} when rounded to floats: "
            f"a depth of {depth} is too large for this law",
            RuntimeWarning,
            stacklevel=2,
        )
    return np.sort_complex(steps) if np.iscomplexobj(steps) else np.sort(steps)


def _jacobi(law: Law, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Recursion coefficients of the orthonormal polynomials of a law, by Lanczos."""
    diagonal, beside = np.zeros(size), np.zeros(size - 1)
    vectors = np.zeros((size, law.nodes.size))
    vectors[0] = np.sqrt(law.weights / law.weights.sum())
    for k in range(size):
        new = law.nodes * vectors[k]
        diagonal[k] = new @ vectors[k]
        if k == size - 1:
            break
        for _ in range(2):  # once more against rounding
            new -= vectors[: k + 1].T @ (vectors[: k + 1] @ new)
        beside[k] = np.linalg.norm(new)
        # Without a further node that is different, what is left of a vector is rounding.
        if not beside[k] > 4 * np.finfo(float).eps * np.linalg.norm(law.nodes * vectors[k]):
            raise ValueError(
                f"depth must be less than the number of different nodes, got {size - 1}"
            )
        vectors[k + 1] = new / beside[k]
    return diagonal, beside


@labelled()
def tied_risk(alpha: ArrayLike, depth: ArrayLike, noise: ArrayLike = 0.0) -> Any:
    """Least risk per dimension of L equal layers, isotropic tokens.

    Parameters
    ----------
    alpha : float or array
        Context length α = ℓ/d, positive and at most 1e12.
    depth : int or array
        Number of layers L, at least 0.
    noise : float or array
        Variance of the label noise ρ, at least 0.

    Returns
    -------
    float or array
        The risk at the best common step, broadcast over the arguments, without the noise of the
        query's label.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from iclkit.theory import descent
    >>> print(descent.tied_risk(alpha=1.0, depth=[0, 1, 2, 4]).round(3))
    [1.    0.5   0.375 0.273]
    >>> print(descent.untied_risk(alpha=1.0, depth=[0, 1, 2, 4]).round(3))
    [1.    0.5   0.333 0.2  ]
    """

    def least(alpha: float, depth: int, noise: float) -> float:
        if depth == 0:
            return 1.0
        ridge = noise / alpha
        if alpha > 1e12 or (noise and not 1e-75 <= ridge <= 1e75):
            raise ValueError(
                "alpha must be at most 1e+12, beyond which rounding hides the width of the "
                f"spectrum, and noise/alpha 0 or between 1e-75 and 1e+75, got {alpha} and {ridge}"
            )
        law = marchenko_pastur(alpha, depth + 1)
        return descent_risk(np.full(depth, best_step(law, depth, ridge)), law, ridge)

    return _at_each_point(least, alpha, depth, noise)


@labelled()
def untied_risk(alpha: ArrayLike, depth: ArrayLike, noise: ArrayLike = 0.0) -> Any:
    """Least risk per dimension of any L steps, isotropic tokens.

    Parameters
    ----------
    alpha : float or array
        Context length α = ℓ/d, positive and finite.
    depth : int or array
        Number of layers L, at least 0.
    noise : float or array
        Variance of the label noise ρ, at least 0.

    Returns
    -------
    float or array
        e_L of e_0 = 1, e_{L+1} = (ρ + e_L) / (α + ρ + e_L), broadcast over the arguments, without
        the noise of the query's label; 1/(1 + α + … + α^L) if ρ = 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    The least risk over all polynomials of degree L. Without noise real steps reach it; with noise
    it can take steps with memory, see `best_steps`. Source: eq-untied-recursion in the book.

    Examples
    --------
    >>> from iclkit.theory import descent
    >>> print(descent.untied_risk(alpha=2.0, depth=[0, 1, 2, 3]).round(3))
    [1.    0.333 0.143 0.067]
    >>> print(descent.untied_risk(2.0, 1000, noise=0.1).round(3))
    0.084
    >>> from iclkit.theory import bayes
    >>> print((bayes.ridge_error(2.0, 0.1) - 0.1).round(3))  # many layers are as good as any model
    0.084
    """

    def least(alpha: float, depth: int, noise: float) -> float:
        risk = 1.0
        for _ in range(depth):
            risk = (noise + risk) / (alpha + noise + risk)
        return risk

    return _at_each_point(least, alpha, depth, noise)


def _at_each_point(
    risk: Callable[[float, int, float], float], alpha: ArrayLike, depth: ArrayLike, noise: ArrayLike
) -> Any:
    for name, value in (("alpha", alpha), ("depth", depth), ("noise", noise)):
        _validate.refuse_subclasses(name, value)

    def at(*point: Any) -> float:
        return risk(*_point(*point))

    return np.vectorize(at, otypes=[float])(alpha, depth, noise)[()]


def _point(alpha: float, depth: int, noise: float) -> tuple[float, int, float]:
    noise = _validate.scalar(_validate.nonnegative, "noise", noise)
    return _validate.finite("alpha", alpha), _validate.count("depth", depth, least=0), noise


# At finite d ----------------------------------------------------------------------------------


def deep_attention(layers: Sequence[tuple[Any, Any]], prompts: Any) -> Any:
    """Predictions of layers of linear attention with a residual stream.

    Parameters
    ----------
    layers : sequence of pairs of arrays of shape (d + 1, d + 1)
        Of each layer the matrix between a token and those it attends to, and the one that is
        applied to what it attends to.
    prompts : array of shape (n, ell + 1, d + 1)
        Rows (xᵢ, yᵢ), and last (x_q, 0), see `iclkit.trained.prompts.write`; NumPy or JAX.

    Returns
    -------
    array of shape (n,)
        Minus the last entry of the last row.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, or arrays of NumPy hold or lead to other than finite real numbers.

    Notes
    -----
    Z ← Z + (d/ℓ) (Z M Z_cᵀ) (Z_c V), where Z_c are the rows of the context: none attends to the
    query. Source: eq-deep-attention in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.theory import descent
    >>> prompts = np.array([[[1.0, 2.0], [3.0, 0.0]]])  # the token 1 has the label 2: and 3?
    >>> descent.deep_attention(descent.descent_layers([0.5], d=1), prompts)
    array([3.])
    >>> descent.deep_attention(descent.descent_layers([0.5, 0.5], d=1), prompts)
    array([4.5])
    """
    tokens = _shaped("prompts", prompts, (None, None, None))
    if min(tokens.shape[1:]) < 2:
        raise ValueError(f"prompts must have ell and d of at least 1, got shape {tokens.shape}")
    if not isinstance(layers, Sequence):
        raise TypeError(f"layers must be a sequence of pairs of arrays, got {layers!r}")
    square = (tokens.shape[2], tokens.shape[2])
    pairs = [_pair(layer, square) for layer in layers]
    scale = (tokens.shape[2] - 1) / (tokens.shape[1] - 1)
    for between, value in pairs:
        context = tokens[:, :-1]
        # From the left the products would be as large as the context squared.
        with np.errstate(over="ignore", invalid="ignore"):
            tokens = tokens + scale * (tokens @ between) @ (context.mT @ (context @ value))
    if isinstance(tokens, np.ndarray) and not np.all(np.isfinite(tokens)):
        raise ValueError("layers must keep tokens finite, got products beyond the range of floats")
    return -tokens[:, -1, -1]


def _pair(layer: Any, square: tuple[int, int]) -> tuple[Any, Any]:
    if not isinstance(layer, Sequence) or len(layer) != 2:
        raise TypeError(f"layers must be pairs of arrays, got {layer!r}")
    return _shaped("layers", layer[0], square), _shaped("layers", layer[1], square)


def _shaped(name: str, value: Any, shape: tuple[int | None, ...]) -> Any:
    """Check an array of NumPy, and the shape of any other, which JAX may be compiling."""
    if isinstance(value, np.ndarray):
        return _validate.array(name, value, shape, keep_float32=True)
    if not isinstance(getattr(value, "shape", None), tuple) or hasattr(value, "dims"):
        raise TypeError(f"{name} must be an array, got {type(value).__name__}")
    if len(value.shape) != len(shape) or any(
        want not in (None, have) for have, want in zip(value.shape, shape, strict=True)
    ):
        wanted = _validate.written(shape)
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(value.shape)}")
    return value


def descent_layers(steps: ArrayLike, d: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Write gradient steps as layers of linear attention.

    Parameters
    ----------
    steps : array of shape (L,)
        Step sizes η_l, real.
    d : int
        Dimension, at least 1.

    Returns
    -------
    list of L pairs of arrays of shape (d + 1, d + 1)
        For `deep_attention`: tokens are compared by their x, and the labels are updated, by
        minus η times what is attended to.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-descent-layers in the book; von Oswald et al., arXiv 2212.07677.

    Examples
    --------
    >>> from iclkit.theory import descent
    >>> ((between, value),) = descent.descent_layers([0.5], d=2)
    >>> print(between.diagonal(), value[-1, -1])
    [1. 1. 0.] -0.5
    """
    steps = unlabelled("steps", steps, (None,))
    d = _validate.count("d", d)
    compare, label = np.diag([1.0] * d + [0.0]), np.diag([0.0] * d + [1.0])
    return [(compare, -step * label) for step in steps]


def _descent_sizes(
    *, d: int, alpha: float, rho: float, depth: int, tied: bool, contexts: int = 1
) -> int:
    d = _validate.count("d", d)
    _validate.count("contexts", contexts)
    _validate.scalar(_validate.nonnegative, "rho", rho)
    _validate.count("depth", depth)
    _validate.flag("tied", tied)
    return _validate.size("alpha", alpha, d, "ell = alpha * d")


@checked(_descent_sizes)
def gradient_descent(
    seed: Seed,
    *,
    d: int,
    alpha: float,
    rho: float,
    depth: int,
    tied: bool,
    contexts: int = 1,
) -> dict[str, float]:
    """Make L gradient steps on contexts, at the step sizes that are best for d → ∞.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    d : int
        Dimension, at least 1.
    alpha : float
        Context length α = ℓ/d, positive and finite; ℓ is rounded.
    rho : float
        Variance of the label noise, at least 0.
    depth : int
        Steps L, at least 1.
    tied : bool
        Whether all steps have one size.
    contexts : int
        Contexts to average over, at least 1, each with a task of its own.

    Returns
    -------
    dict
        `risk`, the mean of |ŵ − w|²/d.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or ℓ rounds to 0.

    Examples
    --------
    >>> from iclkit.theory import descent
    >>> point = {"d": 50, "alpha": 2.0, "rho": 0.0, "depth": 2, "tied": False}
    >>> risk = descent.gradient_descent(0, **point, contexts=200)["risk"]
    >>> bool(abs(risk - descent.untied_risk(2.0, 2)) < 0.03)
    True
    """
    ell = _descent_sizes(d=d, alpha=alpha, rho=rho, depth=depth, tied=tied, contexts=contexts)
    law, ridge = marchenko_pastur(alpha, depth + 2), rho / alpha
    steps = np.full(depth, best_step(law, depth, ridge)) if tied else best_steps(law, depth, ridge)
    streams = backend.streams(seed)
    w = draw_tasks(contexts, d, streams.tasks, prior="gaussian")
    drawn = draw_contexts(w, ell, rho, streams)
    found = np.zeros(w.shape, dtype=steps.dtype)
    for step in steps:
        residual = drawn.labels - np.einsum("nid,nd->ni", drawn.tokens, found)
        found = found + step * d / ell * np.einsum("nid,ni->nd", drawn.tokens, residual)
    # Conjugate steps in pairs leave a real result, up to rounding.
    return {"risk": float(np.mean((np.real(found) - w) ** 2))}
