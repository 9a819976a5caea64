"""Orthogonal factors: against 100 digits, for columns in units up to 40 powers of ten apart."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit.fits import _graded

POWERS = st.floats(-20, 20)


def exactly(array):
    return mpmath.matrix(array.tolist())


def shortest(matrix, rhs):
    """Least squares of full rank in 100 digits: the shortest solution, or the only minimiser."""
    with mpmath.workdps(100):
        a, b = exactly(matrix), exactly(rhs)
        if a.rows <= a.cols:
            z = a.T * mpmath.lu_solve(a * a.T, b)
        else:
            z = mpmath.lu_solve(a.T * a, a.T * b)
        return np.array([float(entry) for entry in z])


@given(st.data(), st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
def test_least_squares_know_no_units(data, rows, columns, seed):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** np.array(data.draw(st.lists(POWERS, min_size=columns, max_size=columns)))
    matrix, rhs = rng.standard_normal((rows, columns)) * scale, rng.standard_normal(rows)
    found, expected = _graded.least_squares(matrix, rhs), shortest(matrix, rhs)
    # What an entry adds to the labels tells how much it counts.
    condition = np.linalg.cond(matrix / scale)
    error = np.abs((found - expected) * scale).max()
    assert error <= 1e-13 * condition**2 * np.abs(expected * scale).max()


@pytest.mark.parametrize("rows", [3, 8])
def test_the_shortest_in_the_units_asked_for(rows):
    rng = np.random.default_rng(0)
    units, rhs = 10.0 ** rng.uniform(-6, 6, 5), rng.standard_normal(rows)
    matrix = rng.standard_normal((rows, 2)) @ rng.standard_normal((2, 5)) / units
    found = _graded.least_squares(matrix, rhs, units)
    expected = units * (np.linalg.pinv(matrix * units, rcond=1e-10) @ rhs)
    np.testing.assert_allclose(found / units, expected / units, rtol=1e-8)


def test_dependent_columns_share_a_solution_and_empty_ones_have_none():
    column, rhs = np.array([1.0, 2.0, 2.0]), np.array([1.0, 2.0, 5.0])
    matrix = np.stack([column, 0 * column, 2 * column], axis=1)
    expected = column @ rhs / (column @ column) * np.array([1, 0, 2]) / 5
    np.testing.assert_allclose(_graded.least_squares(matrix, rhs), expected, rtol=1e-14)
    np.testing.assert_array_equal(_graded.least_squares(0 * matrix, rhs), np.zeros(3))


@given(st.data(), st.integers(1, 5), st.integers(0, 99))
def test_each_eigenvalue_has_its_own_precision(data, size, seed):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** np.array(data.draw(st.lists(POWERS, min_size=size, max_size=size)))
    triangle = np.triu(rng.standard_normal((size, size))) + 3 * np.eye(size)
    values, vectors = _graded.second_moments(triangle * scale)
    with mpmath.workdps(150):
        moments = exactly(triangle * scale).T * exactly(triangle * scale)
        expected = [float(value) for value in mpmath.eigsy(moments, eigvals_only=True)]
        # Eigenvectors too: each residual is small beside its own eigenvalue, in units of columns.
        for value, vector in zip(values, vectors.T, strict=True):
            left = moments * exactly(vector) - mpmath.mpf(float(value)) * exactly(vector)
            sizes = (float(mpmath.sqrt(moments[i, i])) * value**0.5 for i in range(size))
            assert all(abs(entry) <= 1e-11 * s for entry, s in zip(left, sizes, strict=True))
    np.testing.assert_allclose(np.sort(values), expected, rtol=1e-11)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(size), atol=1e-14)


def test_dependent_columns_have_no_variance_in_any_units():
    rng = np.random.default_rng(1)
    columns = rng.standard_normal((40, 2)) @ rng.standard_normal((2, 5))
    scale = 10.0 ** np.array([0, -12, 12, 5, -3])
    triangle = np.linalg.qr(columns * scale)[1]
    values, vectors = _graded.second_moments(triangle)
    assert np.count_nonzero(values) == 2
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(5), atol=1e-14)
    # The directions without variance are exact beside each column, whatever its unit is.
    terms = (columns * scale)[:, :, None] * vectors[None, :, values == 0]
    assert np.all(np.abs(terms.sum(axis=1)) <= 1e-12 * np.abs(terms).sum(axis=1))
    assert _graded.second_moments(np.zeros((3, 3)))[0].tolist() == [0, 0, 0]
