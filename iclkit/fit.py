"""Fitting Γ*: ridge regression of labels on the features x hᵀ.

Each solver takes (x, h, y, ridge) with the ridge already multiplied out, returns Γ and its number
of iterations, and is entered in `SOLVERS`; `_choose` is the rule that picks one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from iclkit import _validate
from iclkit.backend import solve_triangular

# Rows of packed features formed at a time: 2000 x d²/2 numbers are 29 MB at d = 60.
_BLOCK = 2000


class Fit(NamedTuple):
    """A fitted predictor, and how it was found.

    Attributes
    ----------
    gamma : array of shape (d, d + 1)
        The minimiser Γ*.
    solver : str
        The solver that found it.
    iterations : int
        Its iterations; 0 for a direct solver.
    residual : float
        Norm of the gradient of the objective at `gamma`, relative to its norm at Γ = 0.
    """

    gamma: Any
    solver: str
    iterations: int
    residual: float


def fit_gamma(x: Any, h: Any, y: Any, lam: float = 0.0, *, solver: str = "auto") -> Fit:
    """Minimise Σ(y − xᵀΓh)² + (n/d)·lam·‖Γ‖² over Γ.

    Parameters
    ----------
    x : array of shape (n, d)
        Queries.
    h : array of shape (n, d + 1)
        Context statistics, see `iclkit.contexts.context_statistic`.
    y : array of shape (n,)
        Labels of the queries.
    lam : float
        Ridge λ, at least 0. Zero is the ridgeless limit: of all minimisers the one of least norm,
        on both sides of n = d(d + 1).
    solver : {"auto", "dual", "primal"}
        "dual" factors the n x n kernel (XXᵀ) ∘ (HHᵀ), in 4dn² + n³/3 operations; "primal" the
        d(d+1) x d(d+1) Gram matrix of the features, in nd⁴/2 + d⁶/3. "auto" takes the cheaper
        of the two by these counts; without ridge, the one whose matrix is regular: the dual when
        n ≤ d(d + 1), the primal otherwise.

    Returns
    -------
    Fit
        Γ*, in the array library of the data, with the solver used and the residual reached.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, an array does not hold finite real numbers, `lam` is negative or
        not finite, or `solver` is unknown.

    Notes
    -----
    Source: eq-loss, eq-primal and eq-dual in the book.
    """
    x = _validate.array("x", x, (None, None))
    n, d = x.shape
    h = _validate.array("h", h, (n, d + 1))
    y = _validate.array("y", y, (n,))
    lam = _validate.scalar(_validate.nonnegative, "lam", lam)
    _validate.choice("solver", solver, ("auto", *SOLVERS))
    if solver == "auto":
        solver = _choose(n, d, lam)
    ridge = lam * n / d
    gamma, iterations = SOLVERS[solver](x, h, y, ridge)

    xp = array_namespace(x, h, y)
    at_zero = xp.linalg.matrix_norm(_adjoint(x, h, y))
    gradient = xp.linalg.matrix_norm(_adjoint(x, h, y - _predict(x, h, gamma)) - ridge * gamma)
    residual = float(gradient / at_zero) if at_zero > 0 else 0.0
    return Fit(gamma, solver, iterations, residual)


def _choose(n: int, d: int, lam: float) -> str:
    if lam == 0:
        return "dual" if n <= d * (d + 1) else "primal"
    dual, primal = 4 * d * n**2 + n**3 / 3, n * d**4 / 2 + d**6 / 3
    return "dual" if dual <= primal else "primal"


def _predict(x: Any, h: Any, gamma: Any) -> Any:
    """Predictions xᵀΓh: the feature matrix times Γ, without the feature matrix."""
    return array_namespace(x).vecdot(x @ gamma, h)


def _adjoint(x: Any, h: Any, r: Any) -> Any:
    """Σ r x hᵀ: the transposed feature matrix times r."""
    return x.T @ (r[:, None] * h)


def _solve_dual(x: Any, h: Any, y: Any, ridge: float) -> tuple[Any, int]:
    kernel = (x @ x.T) * (h @ h.T)
    rank = x.shape[1] * h.shape[1]
    return _adjoint(x, h, _solve_semidefinite(kernel, y, ridge, rank)), 0


def _solve_primal(x: Any, h: Any, y: Any, ridge: float) -> tuple[Any, int]:
    xp = array_namespace(x, h, y)
    rhs = xp.reshape(_adjoint(x, h, y), (-1,))
    solution = _solve_semidefinite(_feature_gram(x, h), rhs, ridge, x.shape[0])
    return xp.reshape(solution, (x.shape[1], h.shape[1])), 0


SOLVERS: dict[str, Callable[[Any, Any, Any, float], tuple[Any, int]]] = {
    "dual": _solve_dual,
    "primal": _solve_primal,
}


def _solve_semidefinite(matrix: Any, rhs: Any, ridge: float, rank: int) -> Any:
    """Solve (K + ridge·I) z = b for K ⪰ 0 of at most that rank; if singular, z has least norm."""
    xp = array_namespace(matrix)
    size = matrix.shape[0]
    precision = size * float(xp.finfo(matrix.dtype).eps)
    if ridge > 0 or rank >= size:
        identity = xp.eye(size, dtype=matrix.dtype, device=device(matrix))
        try:
            factor = xp.linalg.cholesky(matrix + ridge * identity)
            pivots = xp.linalg.diagonal(factor) ** 2
            # Pivots near rounding mean a hidden lack of rank, such as repeated contexts. Written
            # so that the NaNs that some libraries return instead of raising fail as well.
            regular = bool(xp.min(pivots) > 100 * precision * xp.max(pivots))
        except np.linalg.LinAlgError:
            regular = False
        if regular:
            return solve_triangular(factor, solve_triangular(factor, rhs), transpose=True)
    values, vectors = xp.linalg.eigh(matrix)
    kept = values > precision * xp.max(xp.abs(values))
    inverse = xp.where(kept, 1 / xp.where(kept, values + ridge, 1.0), 0.0)
    return vectors @ (inverse * (vectors.T @ rhs))


def _feature_gram(x: Any, h: Any) -> Any:
    """Σ (x ⊗ h)(x ⊗ h)ᵀ from the distinct products xᵢxⱼ and hₐh_b: a quarter of the work."""
    xp = array_namespace(x, h)
    n, d = x.shape
    x_pairs, h_pairs = _pairs(d), _pairs(d + 1)
    packed = xp.zeros((x_pairs.rows.size, h_pairs.rows.size), dtype=x.dtype, device=device(x))
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        packed += _products(x[start:stop, :], x_pairs).T @ _products(h[start:stop, :], h_pairs)
    # Entry ((i, a), (j, b)) of the Gram matrix is entry (ij, ab) of the packed one.
    place = x_pairs.place[:, None, :, None] * h_pairs.rows.size + h_pairs.place[None, :, None, :]
    flat = xp.take(xp.reshape(packed, (-1,)), xp.asarray(place.reshape(-1), device=device(x)))
    return xp.reshape(flat, (d * (d + 1), d * (d + 1)))


class _Pairs(NamedTuple):
    """The pairs i ≤ j: their rows, their columns, and the place of every (i, j) among them."""

    rows: np.ndarray
    columns: np.ndarray
    place: np.ndarray


def _pairs(d: int) -> _Pairs:
    rows, columns = np.triu_indices(d)
    place = np.zeros((d, d), dtype=int)
    place[rows, columns] = place[columns, rows] = np.arange(rows.size)
    return _Pairs(rows, columns, place)


def _products(block: Any, pairs: _Pairs) -> Any:
    """All products of two entries of each row."""
    xp = array_namespace(block)
    left, right = (xp.asarray(index, device=device(block)) for index in pairs[:2])
    return xp.take(block, left, axis=1) * xp.take(block, right, axis=1)
