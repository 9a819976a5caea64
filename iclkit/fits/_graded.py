"""Orthogonal factors of columns in any units: what is small is as precise as what is large.

A product such as ΦᵀΦ squares the condition number, and an eigendecomposition loses what is below
the rounding of the largest entry, whether it is noise or a column in other units. Householder's
QR loses nothing by scales of columns, nor, with pivoting and sorted rows, by those of rows, and
neither does Jacobi's SVD. They are for matrices that fit on the host.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack, qr, solve_triangular


def _factor(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Q, R and an order of the columns with matrix[:, order] = Q R, to rounding in each row.

    Source: A. J. Cox and N. J. Higham, Stability of Householder QR factorization for weighted
    least squares problems (1998).
    """
    # Large rows first: else a small one is lost in a sum with a large one.
    rows = np.argsort(-np.max(np.abs(matrix), axis=1), kind="stable")
    q, r, order = qr(matrix[rows], mode="economic", pivoting=True, check_finite=False)
    q[rows] = q.copy()
    return q, r, order


def _independent(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Q and B with matrix = Q B, to rounding in each column; the rows of B are a basis."""
    size = np.linalg.norm(matrix, axis=0)
    q, r, order = _factor(matrix / np.where(size > 0, size, 1.0))
    pivots = np.abs(np.diagonal(r))
    rank = np.count_nonzero(pivots > max(matrix.shape) * np.finfo(float).eps * pivots[0])
    rows = np.empty((rank, matrix.shape[1]))
    rows[:, order] = r[:rank]
    return q[:, :rank], rows * size


def least_squares(
    matrix: np.ndarray, rhs: np.ndarray, units: np.ndarray | float = 1.0
) -> np.ndarray:
    """Minimise |A z - b|, and among the minimisers |z / units|."""
    basis, rows = _independent(matrix)
    if rows.size == 0:
        return np.zeros(matrix.shape[1])
    # One equation a row is left, all independent: the shortest solution is in their span.
    q, r, order = _factor((rows * units).T)
    reached = (basis.T @ rhs)[order]
    solution: np.ndarray = q @ solve_triangular(r, reached, trans="T", check_finite=False)
    return units * solution


def second_moments(triangle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the eigenvalues of RᵀR, each to its own precision, and the eigenvectors, all columns."""
    rows = _independent(triangle)[1]
    columns = triangle.shape[1]
    square = np.zeros((columns, columns))
    square[: len(rows)] = rows
    if not rows.size:
        return np.zeros(columns), np.eye(columns)
    # Of its ways, the one that is accurate in each entry of V for any scales of columns.
    singular, _, vectors, scale, *_ = lapack.dgejsv(square, joba=0, jobu=0, jobv=0)
    values = (singular * (scale[0] / scale[1])) ** 2
    values[len(rows) :] = 0.0
    return values, vectors
