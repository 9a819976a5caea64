"""What each way of fitting Γ costs, foretold by the theory that the book is about.

A Krylov solver needs about ½√χ·log(2/rtol) iterations, χ being the condition number of its system,
as long as this is less than the number of its eigenvalues.
The edges of the spectra of sample covariance matrices follow from the same deterministic
equivalents as the errors do, so that χ is known from the variances of the features alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from iclkit import _validate

# The solvers of `iclkit.fits.fit`: a side, and how its system is solved.
SOLVERS = ("dual", "dual-mixed", "dual-cg", "primal", "primal-mixed", "primal-cg")

T = TypeVar("T")

# Where an edge is looked for, first and then between two of these.
_STEPS = np.geomspace(1e-6, 1e6, 61)
_BETWEEN = np.linspace(0.0, 1.0, 7)


def _remembered(
    function: Callable[[np.ndarray, int, int, float], T],
) -> Callable[[np.ndarray, int, int, float], T]:
    """Compute but once what a fit asks for several times."""

    @lru_cache(maxsize=8)
    def found(t: tuple[float, ...], d: int, n: int, ridge: float) -> T:
        return function(np.array(t), d, n, ridge)

    return lambda t, d, n, ridge: found(tuple(t.tolist()), d, n, ridge)


def plain_edges(t: np.ndarray, d: int, n: int, ridge: float) -> tuple[float, float]:
    """Edges of the spectrum of ΦΦᵀ + ridge (for n ≤ d(d + 1)) or ΦᵀΦ + ridge (above).

    Parameters
    ----------
    t : array of shape (d + 1,)
        Variances of the features along the axes of h, each shared by d features; positive.
    d : int
        Dimension.
    n : int
        Contexts.
    ridge : float
        What is added to the diagonal, at least 0.

    Returns
    -------
    tuple of float
        Lower and upper edge in the limit of large d; the lower one is above 0 also at
        n = d(d + 1), where one eigenvalue apart is left.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    The edges are the extrema of z(u) = 1/u − (d/n) Σ t/(tu − 1), the inverse function of the
    companion Stieltjes transform: for n < d(d + 1) the left edge is the maximum over u < 0, above
    the one over u > 1/min t; the right edge is the minimum over 0 < u < 1/max t.
    Source: eq-spectral-edges in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import cost
    >>> t = np.ones(11)
    >>> [round(edge, 2) for edge in cost.plain_edges(t, d=10, n=50, ridge=0.0)]
    [11.68, 308.32]
    >>> [round(edge, 2) for edge in cost.plain_edges(t, d=10, n=100, ridge=10.0)]
    [10.24, 429.76]
    """
    return _plain_edges(*_check(t, d, n, ridge))


@_remembered
def _plain_edges(t: np.ndarray, d: int, n: int, ridge: float) -> tuple[float, float]:
    def z(u: np.ndarray) -> np.ndarray:
        values: np.ndarray = 1 / u - d / n * np.sum(1 / (u[:, None] - 1 / t), axis=1)
        return values

    def left(steps: np.ndarray) -> np.ndarray:
        return z(-steps / np.mean(t) if n <= d * t.size else (1 + steps) / t.min())

    lowest = max(_greatest(left), 0.0)
    highest = -_greatest(lambda steps: -z(1 / ((1 + steps) * t.max())))
    # Where the left edge vanishes, the least eigenvalue is as if one row more had been there.
    lowest = max(lowest, t.min() / (4 * max(n, d * t.size) ** 2))
    return float(n * lowest + ridge), float(n * highest + ridge)


def whitened_edges(t: np.ndarray, d: int, n: int, ridge: float) -> tuple[float, float]:
    """Edges of the spectrum of (ΦᵀΦ + ridge) P⁻¹ with P = n·covariance + ridge.

    Parameters
    ----------
    t : array of shape (d + 1,)
        Variances of the features along the axes of h, each shared by d features; positive.
    d : int
        Dimension.
    n : int
        Contexts, more than d(d + 1) if `ridge` is 0.
    ridge : float
        What is added to the diagonal, at least 0.

    Returns
    -------
    tuple of float
        Lower and upper edge in the limit of large d; for ridge = 0 they are (1 − β)² and (1 + β)²
        with β² = d(d + 1)/n.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Off the spectrum, 1/q = 1 + d Σ t/(nt(q − z) + ridge(1 − z)) ties q to z: the left edge is the
    largest z of 0 < q < 1, with all terms positive, and the right edge the least z of q > 1, with
    all terms negative. Source: eq-whitened-edge in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import cost
    >>> t = np.geomspace(1, 1000, 11)  # of no account, as the system is preconditioned
    >>> beta = (110 / 400) ** 0.5
    >>> [round(edge, 2) for edge in cost.whitened_edges(t, d=10, n=400, ridge=0.0)]
    [0.23, 2.32]
    >>> round((1 - beta) ** 2, 2), round((1 + beta) ** 2, 2)
    (0.23, 2.32)
    """
    return _whitened_edges(*_check(t, d, n, ridge))


@_remembered
def _whitened_edges(t: np.ndarray, d: int, n: int, ridge: float) -> tuple[float, float]:
    beta = (d * t.size / n) ** 0.5
    if ridge == 0:
        return max(max(1 - beta, 0.0) ** 2, 1 / (4 * n**2)), (1 + beta) ** 2

    def z(q: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        for _ in range(30):
            middle = (low + high) / 2
            terms = t / (n * t * (q - middle)[:, None] + ridge * (1 - middle)[:, None])
            above = 1 / q > 1 + d * np.sum(terms, axis=1)
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return low

    def poles(q: np.ndarray) -> np.ndarray:
        values: np.ndarray = (n * t * q[:, None] + ridge) / (n * t + ridge)
        return values

    def left(steps: np.ndarray) -> np.ndarray:
        q = steps / (1 + steps)
        return z(q, np.zeros_like(q), poles(q).min(axis=1))

    def right(steps: np.ndarray) -> np.ndarray:
        q = 1 + steps
        return -z(q, poles(q).max(axis=1), q * (1 + d * t.size / n / steps))

    return max(_greatest(left), 1 / (4 * n**2)), -_greatest(right)


def mean_resolvent(t: np.ndarray, d: int, n: int, ridge: float) -> float:
    """Mean m of the diagonal of (ΦΦᵀ + ridge)⁻¹.

    Parameters
    ----------
    t : array of shape (d + 1,)
        Variances of the features along the axes of h, each shared by d features; positive.
    d : int
        Dimension.
    n : int
        Contexts, fewer than d(d + 1) if `ridge` is 0.
    ridge : float
        What is added to the diagonal, at least 0.

    Returns
    -------
    float
        In the limit of large d; inf where the matrix has no inverse.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    The root of ridge·m + d Σ mt/(1 + nmt) = 1. The fit has n(1 − ridge·m) degrees of freedom.
    Source: eq-resolvent-mean in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import cost
    >>> round(cost.mean_resolvent(np.ones(11), d=10, n=60, ridge=0.0), 3)  # 1/(110 − 60)
    0.02
    """
    return _mean_resolvent(*_check(t, d, n, ridge))


@_remembered
def _mean_resolvent(t: np.ndarray, d: int, n: int, ridge: float) -> float:
    if ridge == 0 and n >= d * t.size:
        return np.inf
    # The sum is increasing and concave in m: from below, Newton's method neither stops nor passes.
    m = 1 / (ridge + d * t.sum())
    for _ in range(100):
        ahead = n * m * t
        missing = 1 - ridge * m - d / n * np.sum(ahead / (1 + ahead))
        step = missing / (ridge + d * np.sum(t / (1 + ahead) ** 2))
        m += step
        if not step > 1e-12 * m:
            break
    return float(m)


def iterations(
    solver: str, n: int, d: int, t: np.ndarray, ridge: float = 0.0, rtol: float = 1e-5
) -> float:
    """Foretell the iterations of a solver of `iclkit.fits.fit`.

    Parameters
    ----------
    solver : str
        Its name, see `iclkit.fits.fit_gamma`.
    n : int
        Contexts.
    d : int
        Dimension.
    t : array of shape (d + 1,)
        Variances of the features along the axes of h, each shared by d features; positive.
    ridge : float
        What is added to the diagonal of the system, at least 0.
    rtol : float
        Relative tolerance.

    Returns
    -------
    float
        For conjugate gradients ½√χ·log(2/rtol), a seventh less on the primal side, where it has
        been seen to stop early, and less near n = d(d + 1), where they end after a few d(d + 1);
        a few for the refinement of a factor; 0 for a direct solver.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import cost
    >>> t = np.ones(11)
    >>> cost.iterations("dual", n=50, d=10, t=t)
    0.0
    >>> few, many = (cost.iterations("dual-cg", n, d=10, t=t) for n in (50, 105))
    >>> print(few < many)  # near n = d(d + 1) the system is hard
    True
    """
    _validate.choice("solver", solver, SOLVERS)
    rtol = _validate.finite("rtol", rtol)
    return _iterations(solver, *_check(t, d, n, ridge), rtol)


def _iterations(solver: str, t: np.ndarray, d: int, n: int, ridge: float, rtol: float) -> float:
    if solver.endswith("mixed"):
        return 4.0
    if not solver.endswith("cg"):
        return 0.0
    primal = solver == "primal-cg"
    features = d * t.size
    if primal:
        edges, hardest = _whitened_edges(t, d, n, ridge), (1.0, 16.0 * features**2)
    else:
        edges, hardest = _plain_edges(t, d, n, ridge), _plain_edges(t, d, features, 0.0)
    bound, at_threshold = (
        0.5 * (high / low) ** 0.5 * np.log(2 / rtol) for low, high in (edges, hardest)
    )
    # The bound takes the spectrum for an interval. Near n = d(d + 1) it has so few eigenvalues at
    # its lower end that they are dealt with one by one, and that many iterations end it: fitted
    # to fits at d = 12 to 36, see eq-iterations-threshold in the book.
    one_by_one = 0.36 * (features * at_threshold) ** 0.5
    found: float = 1 / (1 / ((0.85 if primal else 1.0) * bound) + 1 / one_by_one)
    return found


def operations(solver: str, n: int, d: int, iterations: float, float32: bool = False) -> float:
    """Foretell the time of a solver, in float64 operations of a large matrix product.

    Parameters
    ----------
    solver : str
        Its name, see `iclkit.fits.fit_gamma`.
    n : int
        Contexts.
    d : int
        Dimension.
    iterations : float
        As `iterations` foretells them.
    float32 : bool
        Whether a "cg" solver works in float32, at half the price.

    Returns
    -------
    float
        Multiplications and additions that take the same time. The coefficients were fitted to
        one core of a common server; `benchmarks/` measures them.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from iclkit.fits import cost
    >>> for n in 500, 2000:  # a matrix of n rows, or 20 iterations
    ...     direct, cg = cost.operations("dual", n, 50, 0), cost.operations("dual-cg", n, 50, 20)
    ...     print(direct < cg)
    True
    False
    """
    _validate.choice("solver", solver, SOLVERS)
    n, d = _validate.count("n", n), _validate.count("d", d)
    iterations = _validate.scalar(_validate.ridge, "iterations", iterations)
    float32 = _validate.flag("float32", float32)
    # The last term is what an iteration takes however small it is, some tens of microseconds.
    product = 4 * n * d**2 * (1.2 + 25 / d) + 5e5
    side, _, method = solver.partition("-")
    form: float
    if method == "cg":
        return (iterations * (0.5 if float32 else 1.0) + 3) * product
    if side == "dual":
        size, form = n, 2 * d * n**2 + 20 * n**2
    else:
        size, form = d * (d + 1), n * d**4 / 2
    if method == "mixed":
        # Forming and factoring in float32; a triangular solve waits for memory, not arithmetic.
        return (form + size**3 / 3) / 2 + iterations * (product + 40 * size**2)
    return 1.5 * (form + size**3 / 3) + 60 * size**2


def eigen_operations(size: int) -> float:
    """Foretell the time of a symmetric eigendecomposition, in the units of `operations`.

    Parameters
    ----------
    size : int
        Rows of the matrix.

    Returns
    -------
    float
        Operations of a large matrix product that take the same time.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from iclkit.fits import cost
    >>> cost.eigen_operations(1000) / cost.eigen_operations(500)
    8.0
    >>> cost.eigen_operations(1000) > cost.operations("dual", n=1000, d=40, iterations=0)
    True
    """
    return 30.0 * float(_validate.count("size", size)) ** 3


def _greatest(function: Callable[[np.ndarray], np.ndarray]) -> float:
    """Find the maximum over (0, inf) of a function that changes over scales, not within them."""
    steps = _STEPS
    for _ in range(6):
        values = function(steps)
        at = int(np.argmax(values))
        low, high = steps[max(at - 1, 0)], steps[min(at + 1, steps.size - 1)]
        steps = low * (high / low) ** _BETWEEN
    return float(values.max())


def _check(t: Any, d: int, n: int, ridge: float) -> tuple[np.ndarray, int, int, float]:
    d, n = _validate.count("d", d), _validate.count("n", n)
    t = _validate.positive("t", t)
    if t.shape != (d + 1,) or np.any(np.isinf(t)):
        raise ValueError(f"t must be {d + 1} finite numbers, one more than d, got {t}")
    return t, d, n, _validate.scalar(_validate.ridge, "ridge", ridge)
