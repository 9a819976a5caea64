"""Orthogonal factors of columns in any units: what is small is as precise as what is large.

A product such as ΦᵀΦ squares the condition number, and an eigendecomposition loses what is below
the rounding of the largest entry, whether it is noise or a column in other units. Householder's
QR loses nothing by scales of columns, nor, with pivoting and sorted rows, by those of rows, and
neither does Jacobi's SVD. They are for matrices that fit on the host.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import lapack, qr, solve_triangular


class _Factors(NamedTuple):
    """matrix[:, order] = Q R · size[order], to rounding in each column; R has full rank."""

    q: np.ndarray
    r: np.ndarray
    order: np.ndarray
    size: np.ndarray

    def rows(self) -> np.ndarray:
        """Return R · size in the order of the matrix: its rows span the row space."""
        rows = np.empty_like(self.r)
        rows[:, self.order] = self.r
        return rows * self.size


def _factor(matrix: np.ndarray) -> _Factors:
    size = np.linalg.norm(matrix, axis=0)
    size[size == 0] = 1.0
    scaled = matrix / size
    # Large rows first: else a small one is lost in a sum with a large one.
    sorted_rows = np.argsort(-np.max(np.abs(scaled), axis=1), kind="stable")
    q, r, order = qr(scaled[sorted_rows], mode="economic", pivoting=True, check_finite=False)
    pivots = np.abs(np.diagonal(r))
    rank = np.count_nonzero(pivots > max(matrix.shape) * np.finfo(float).eps * pivots[0])
    q[sorted_rows] = q.copy()
    return _Factors(q[:, :rank], r[:rank], order, size)


def least_squares(matrix: np.ndarray, rhs: np.ndarray, units: np.ndarray | float = 1.0):
    """Minimise |A z - b|, and among the minimisers |z / units|."""
    factors = _factor(matrix)
    rank, columns = factors.r.shape
    reached = factors.q.T @ rhs
    if rank == 0:
        return np.zeros(columns)
    if rank == columns:
        solution = np.empty(columns)
        solution[factors.order] = solve_triangular(factors.r, reached, check_finite=False)
        return solution / factors.size
    # What is left is one equation a row, all independent: the shortest solution is in their span.
    span = _factor((factors.rows() * units).T)
    reached = (reached / span.size)[span.order]
    return units * (span.q @ solve_triangular(span.r, reached, trans="T", check_finite=False))


def second_moments(triangle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the eigenvalues of RᵀR, each to its own precision, and the eigenvectors, all columns."""
    columns = triangle.shape[1]
    span = _factor(triangle).rows().T
    values, rank = np.zeros(columns), span.shape[1]
    if rank == 0:
        return values, np.eye(columns)
    singular, vectors, _, scale, *_ = lapack.dgejsv(span, joba=2, jobu=1, jobv=3)
    values[:rank] = (singular * (scale[0] / scale[1])) ** 2
    return values, vectors
