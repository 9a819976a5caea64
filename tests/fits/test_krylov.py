"""Shifted conjugate gradients: against numpy's solve and scipy's conjugate gradients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import cg

from iclkit.fits.krylov import conjugate_gradients


def spd(size, condition, seed=0):
    """A random matrix with eigenvalues from 1 to the condition number."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((size, size)))[0]
    return (q * np.geomspace(1, condition, size)) @ q.T, rng.standard_normal(size)


def times(matrix):
    return lambda z: matrix @ z


@pytest.mark.parametrize("shifts", [(0.0,), (0.5, 0.0, 30.0, 1e-3), (2.0, 7.0, 2.0), (1e12, 1.0)])
def test_every_shift_is_solved_to_the_tolerance(xp, shifts):
    matrix, rhs = spd(40, 1e3)
    a, b = xp.asarray(matrix), xp.asarray(rhs)
    solutions, iterations = conjugate_gradients(times(a), b, shifts, rtol=1e-10, maxiter=400)
    assert len(solutions) == len(shifts) and 0 < iterations < 400
    for shift, z in zip(shifts, solutions, strict=True):
        assert type(z) is type(b)
        system = matrix + shift * np.eye(40)
        left = rhs - system @ np.asarray(z)
        assert np.linalg.norm(left) <= 1.1e-10 * np.linalg.norm(rhs)
        np.testing.assert_allclose(
            np.asarray(z), np.linalg.solve(system, rhs), atol=1e-9 * np.abs(rhs).max()
        )
    # The smallest shift alone takes the same products.
    alone = conjugate_gradients(times(a), b, [min(shifts)], rtol=1e-10, maxiter=400)
    assert alone[1] == iterations


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_one_shift_makes_the_steps_of_scipy(steps):
    matrix, rhs = spd(30, 50)
    (z,), iterations = conjugate_gradients(times(matrix), rhs, rtol=1e-30, maxiter=steps)
    assert iterations == steps
    np.testing.assert_allclose(z, cg(matrix, rhs, rtol=0, maxiter=steps)[0], atol=1e-9)
    with_shift = matrix + 3 * np.eye(30)
    (z,), _ = conjugate_gradients(times(matrix), rhs, [3.0], rtol=1e-30, maxiter=steps)
    np.testing.assert_allclose(z, cg(with_shift, rhs, rtol=0, maxiter=steps)[0], atol=1e-9)
    # As one of several, it makes the same steps.
    _, z = conjugate_gradients(times(matrix), rhs, [0.0, 3.0], rtol=1e-9, maxiter=steps)[0]
    expected = cg(with_shift, rhs, rtol=1e-9, maxiter=steps)[0]
    np.testing.assert_allclose(z, expected, atol=1e-8)


def test_scipy_stops_at_the_same_iteration():
    matrix, rhs = spd(60, 1e4)
    for rtol in (1e-2, 1e-5, 1e-8):
        steps = []
        cg(matrix, rhs, rtol=rtol, callback=lambda _, steps=steps: steps.append(1))
        mine = conjugate_gradients(times(matrix), rhs, rtol=rtol, maxiter=1000)[1]
        # The two round differently, and on every processor in another way. The residual falls in
        # zigzag, every other step, so a crossing that rounding decides moves the count by two.
        assert abs(mine - len(steps)) <= 1 + 0.02 * len(steps)


@given(
    size=st.integers(1, 30),
    exponent=st.floats(0, 4),
    seed=st.integers(0, 999),
    shifts=st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e12)), min_size=1, max_size=5),
    scale=st.sampled_from([1e-30, 1e-8, 1.0, 1e8, 1e30]),
)
def test_random_systems(size, exponent, seed, shifts, scale):
    matrix, rhs = spd(size, 10**exponent, seed)
    rhs *= scale
    solutions, iterations = conjugate_gradients(
        times(matrix), rhs, shifts, rtol=1e-6, maxiter=50 * size + 50
    )
    assert iterations < 50 * size + 50
    for shift, z in zip(shifts, solutions, strict=True):
        left = rhs - matrix @ z - shift * z
        assert np.linalg.norm(left) <= 1.01e-6 * np.linalg.norm(rhs)


def test_nothing_is_done_for_a_zero_right_hand_side():
    def never(z):
        raise AssertionError("called")

    solutions, iterations = conjugate_gradients(
        never, np.zeros((2, 3)), [0.0, 1.0], rtol=1e-5, maxiter=9
    )
    assert iterations == 0
    assert [z.shape for z in solutions] == [(2, 3)] * 2 and not np.any(solutions)


def test_a_singular_consistent_system_gives_the_solution_of_least_norm():
    rng = np.random.default_rng(1)
    factor = rng.standard_normal((30, 12))
    matrix, rhs = factor @ factor.T, factor @ rng.standard_normal(12)
    shifts = [0.0, 4.0]
    solutions, _ = conjugate_gradients(times(matrix), rhs, shifts, rtol=1e-12, maxiter=200)
    np.testing.assert_allclose(solutions[0], np.linalg.pinv(matrix) @ rhs, atol=1e-9)
    np.testing.assert_allclose(
        solutions[1], np.linalg.solve(matrix + 4 * np.eye(30), rhs), atol=1e-9
    )


@pytest.mark.parametrize("shifts", [(0.0,), (0.0, 1.0)])
def test_a_system_without_a_solution_ends_in_finite_numbers(shifts):
    rng = np.random.default_rng(2)
    factor = rng.standard_normal((30, 12))
    inconsistent = factor @ factor.T, rng.standard_normal(30)
    indefinite = np.diag(np.linspace(-1, 1, 30)), np.ones(30)
    no_curvature = np.zeros((30, 30)), np.ones(30)
    for matrix, rhs in (inconsistent, indefinite, no_curvature):
        solutions, iterations = conjugate_gradients(
            times(matrix), rhs, shifts, rtol=1e-10, maxiter=300
        )
        assert iterations <= 300 and np.all(np.isfinite(solutions))
    # The positive shift makes the inconsistent system a regular one.
    if len(shifts) == 2:
        z = conjugate_gradients(times(inconsistent[0]), rhs, [1.0], rtol=1e-10, maxiter=300)[0][0]
        expected = np.linalg.solve(inconsistent[0] + np.eye(30), rhs)
        np.testing.assert_allclose(z, expected, atol=1e-8)


def test_a_nan_ends_the_iteration():
    solutions, iterations = conjugate_gradients(
        lambda z: np.nan * z, np.ones(4), rtol=1e-5, maxiter=50
    )
    assert iterations == 0 and not np.any(solutions)


def test_matrices_as_unknowns_and_another_norm():
    matrix, rhs = spd(30, 100)
    stopped = []

    def largest(residual):
        stopped.append(residual)
        return float(np.abs(residual).max())

    (z,), iterations = conjugate_gradients(
        lambda g: (matrix @ g.ravel()).reshape(5, 6),
        rhs.reshape(5, 6),
        rtol=1e-7,
        maxiter=300,
        norm=largest,
    )
    assert z.shape == (5, 6) and len(stopped) == iterations + 1
    left = [np.abs(residual).max() / np.abs(rhs).max() for residual in stopped]
    assert left[-1] <= 1e-7 < min(left[:-1])
    np.testing.assert_allclose(matrix @ z.ravel(), rhs, atol=1.1e-7 * np.abs(rhs).max())


def test_maxiter_is_kept():
    matrix, rhs = spd(50, 1e6)
    for most in (0, 1, 17):
        assert conjugate_gradients(times(matrix), rhs, rtol=1e-9, maxiter=most)[1] == most


def test_precision_is_that_of_the_right_hand_side(xp):
    matrix, rhs = spd(30, 10)
    a, b = (xp.asarray(part, dtype=xp.float32) for part in (matrix, rhs))
    solutions, _ = conjugate_gradients(times(a), b, [0.0, 1.0, 1e12], rtol=1e-5, maxiter=100)
    for shift, z in zip((0.0, 1.0, 1e12), solutions, strict=True):
        assert z.dtype == xp.float32
        expected = np.linalg.solve(matrix + shift * np.eye(30), rhs)
        np.testing.assert_allclose(np.asarray(z), expected, atol=1e-4 * np.abs(expected).max())


def test_each_system_knows_how_much_nearer_it_has_come():
    """Falls of the squared distance add up to it, for every shift."""
    rng = np.random.default_rng(3)
    a = rng.standard_normal((60, 25))
    matrix, rhs, shifts = a.T @ a, rng.standard_normal(25), (2.0, 0.0, 0.5)
    falls = [[] for _ in shifts]

    def enough(index, z, size, fall):
        falls[index].append(fall)
        return False

    conjugate_gradients(lambda z: matrix @ z, rhs, shifts, maxiter=25, enough=enough)
    for shift, steps in zip(shifts, falls, strict=True):
        distance = rhs @ np.linalg.solve(matrix + shift * np.eye(25), rhs)
        assert len(steps) == 25 and min(steps) > 0
        assert np.sum(steps) == pytest.approx(distance, rel=1e-8)


def test_a_system_that_is_done_is_left_alone():
    matrix, rhs = np.diag([1.0, 2.0, 4.0]), np.ones(3)
    (first, second), products = conjugate_gradients(
        lambda z: matrix @ z, rhs, (0.0, 1.0), maxiter=3,
        enough=lambda index, z, size, fall: index == 1,
    )  # fmt: skip
    assert products == 3 and np.allclose(first, [1, 0.5, 0.25])
    assert not np.allclose(second, [0.5, 1 / 3, 0.2], rtol=1e-2)
