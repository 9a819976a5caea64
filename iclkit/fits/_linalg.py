"""Linear algebra that the array API standard does not have, by scipy or its twin on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_cupy_array, is_numpy_array


def cholesky(matrix: Any) -> Any:
    """Factor a positive definite matrix; the matrix may be overwritten.

    Parameters
    ----------
    matrix : array of shape (n, n)
        Symmetric positive definite.

    Returns
    -------
    array of shape (n, n)
        Lower triangular L with matrix = L Lᵀ; above its diagonal anything may stand.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a pivot is not positive; some libraries return NaN instead.
    """
    if is_cupy_array(matrix):
        from cupyx import errstate

        # Left alone, cupy does not look at what cuSOLVER reports, and returns half a factor.
        with errstate(linalg="raise"):
            return array_namespace(matrix).linalg.cholesky(matrix)
    if is_numpy_array(matrix):
        from scipy.linalg import cholesky as factor

        # The transpose of a symmetric matrix is the same matrix in the order that LAPACK wants,
        # so that the factor takes its place and not as much memory again.
        return factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    return array_namespace(matrix).linalg.cholesky(matrix)


def conjugate_gradients(
    operator: Callable[[Any], Any],
    rhs: Any,
    preconditioner: Callable[[Any], Any],
    *,
    rtol: float,
    maxiter: int,
) -> tuple[Any, int]:
    """Solve a symmetric positive definite system by preconditioned conjugate gradients.

    Parameters
    ----------
    operator : callable
        Takes a vector to the matrix times it.
    rhs : array of shape (n,)
        The right-hand side b.
    preconditioner : callable
        Takes a vector to about the inverse matrix times it.
    rtol : float
        Stop when the norm of the residual is at most this times that of `rhs`.
    maxiter : int
        Stop after as many iterations.

    Returns
    -------
    solution : array of shape (n,)
        What was reached.
    iterations : int
        Their number.
    """
    if is_cupy_array(rhs):
        from cupyx.scipy.sparse.linalg import LinearOperator, cg
    else:
        from scipy.sparse.linalg import LinearOperator, cg
    operators, b = (operator, preconditioner), rhs
    if not (is_cupy_array(rhs) or is_numpy_array(rhs)):
        # Correct for any library, at the price of copies to the host.
        xp, b = array_namespace(rhs), np.asarray(rhs)

        def on_host(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
            return lambda v: np.asarray(f(xp.asarray(v)))

        operators = on_host(operator), on_host(preconditioner)
    shape, steps = 2 * rhs.shape, []
    A, M = (LinearOperator(shape, matvec=f, dtype=b.dtype) for f in operators)
    with np.errstate(all="ignore"):  # a breakdown shows in the solution
        solution, _ = cg(A, b, rtol=rtol, maxiter=maxiter, M=M, callback=lambda _: steps.append(1))
    return array_namespace(rhs).asarray(solution), len(steps)


def solve_triangular(factor: Any, rhs: Any, *, transpose: bool = False) -> Any:
    """Solve L z = b, or Lᵀ z = b, where the array lives.

    Parameters
    ----------
    factor : array of shape (n, n)
        Lower triangular L.
    rhs : array of shape (n,) or (n, m)
        The right-hand side b, or some of them.
    transpose : bool
        Solve with Lᵀ instead of L.

    Returns
    -------
    array of the shape of `rhs`
        The solution z.
    """
    how = {"lower": True, "trans": int(transpose)}
    if is_numpy_array(factor):
        import scipy.linalg

        # A look at every number of the factor would take as long as the solve.
        return scipy.linalg.solve_triangular(factor, rhs, check_finite=False, **how)
    if is_cupy_array(factor):
        from cupyx.scipy.linalg import solve_triangular as solve

        # cuBLAS wants columns together, where the factor has rows: its transpose is no copy.
        return solve(factor.T, rhs, lower=False, trans=int(not transpose))
    # The array API has no triangular solve: correct for any library, at the price of an LU.
    return array_namespace(factor).linalg.solve(factor.T if transpose else factor, rhs)
