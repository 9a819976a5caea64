"""Linear algebra: against numpy, and with cupy's functions told from fakes."""

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from iclkit.fits import _linalg


def test_solve_triangular(xp):
    rng = np.random.default_rng(0)
    factor = np.tril(rng.standard_normal((6, 6))) + 6 * np.eye(6)
    rhs = rng.standard_normal(6)
    for transpose in (False, True):
        z = _linalg.solve_triangular(xp.asarray(factor), xp.asarray(rhs), transpose=transpose)
        matrix = factor.T if transpose else factor
        np.testing.assert_allclose(matrix @ np.asarray(z), rhs, rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cholesky(xp, dtype):
    rng = np.random.default_rng(0)
    half = rng.standard_normal((30, 40))
    matrix = (half @ half.T).astype(dtype)
    given = xp.asarray(matrix, copy=True)
    factor = _linalg.cholesky(given)
    assert factor.dtype == getattr(xp, dtype)
    lower = np.tril(np.asarray(factor))
    np.testing.assert_allclose(lower @ lower.T, matrix, rtol=0, atol=100 * np.finfo(dtype).eps * 40)
    if xp is np:
        # The factor stands where the matrix was: no second one of its size is made.
        assert np.shares_memory(factor, given)
    else:
        np.testing.assert_array_equal(np.asarray(given), matrix)


def test_cholesky_refuses_an_indefinite_matrix(xp):
    for matrix in (np.diag([1.0, -1.0, 1.0]), np.ones((3, 3)) - 2 * np.eye(3)):
        with pytest.raises(np.linalg.LinAlgError):
            _linalg.cholesky(xp.asarray(matrix))


def test_preconditioned_conjugate_gradients(xp):
    rng = np.random.default_rng(0)
    scales = np.geomspace(1, 1e4, 50)
    half = rng.standard_normal((50, 80))
    matrix = (half @ half.T) * scales * scales[:, None]
    rhs = rng.standard_normal(50)
    a, b, weights = (xp.asarray(part) for part in (matrix, rhs, 1 / scales**2))
    seen = []

    def operator(v):
        seen.append(type(v))
        return a @ v

    solution, iterations = _linalg.conjugate_gradients(
        operator, b, lambda v: weights * v, rtol=1e-12, maxiter=500
    )
    assert type(solution) is type(b) and set(seen) == {type(b)} and 0 < iterations < 200
    expected = np.linalg.solve(matrix, rhs)
    np.testing.assert_allclose(np.asarray(solution), expected, atol=1e-6 * np.abs(expected).max())
    few = _linalg.conjugate_gradients(operator, b, lambda v: weights * v, rtol=1e-12, maxiter=3)
    assert few[1] == 3


def test_a_breakdown_of_conjugate_gradients_is_no_warning():
    for operator in (lambda v: 0 * v, lambda v: np.nan * v):
        solution, _ = _linalg.conjugate_gradients(
            operator, np.ones(3), lambda v: v, rtol=1e-9, maxiter=5
        )
        assert not np.all(np.isfinite(solution))


def test_device_arrays_stay_on_the_device(monkeypatch):
    """What cannot run here: which functions are called with cupy arrays, told from fakes."""
    rng = np.random.default_rng(0)
    matrix, rhs = np.eye(4) + 0.1, rng.standard_normal(4)
    calls = []

    def spy(name):
        module = __import__("scipy." + name.rpartition(".")[0], fromlist=["_"])
        function = getattr(module, name.rpartition(".")[2])

        def called(*arguments, **keywords):
            calls.append(name)
            return function(*arguments, **keywords)

        return called

    fakes = {
        "linalg": types.SimpleNamespace(solve_triangular=spy("linalg.solve_triangular")),
        "sparse.linalg": types.SimpleNamespace(
            cg=spy("sparse.linalg.cg"), LinearOperator=spy("sparse.linalg.LinearOperator")
        ),
    }
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, f"cupyx.scipy.{name}", fake)
    for name in ("cupyx", "cupyx.scipy", "cupyx.scipy.sparse"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(_linalg, "is_cupy_array", lambda array: True)
    monkeypatch.setattr(_linalg, "is_numpy_array", lambda array: False)
    solution, _ = _linalg.conjugate_gradients(
        lambda v: matrix @ v, rhs, lambda v: v, rtol=1e-12, maxiter=9
    )
    np.testing.assert_allclose(matrix @ solution, rhs, rtol=1e-9)
    assert calls == ["sparse.linalg.LinearOperator"] * 2 + ["sparse.linalg.cg"]
    z = _linalg.solve_triangular(np.tril(matrix), rhs, transpose=True)
    np.testing.assert_allclose(np.tril(matrix).T @ z, rhs, rtol=1e-12)
    assert calls[3:] == ["linalg.solve_triangular"]


def test_factors_on_a_device_are_refused_or_right():
    """On a cupy without a GPU, which like cupy says nothing of factors that fail."""
    code = """
import fake_cupy
fake_cupy.install()
import cupy, numpy as np
from iclkit.fits import _linalg
half = np.random.default_rng(0).standard_normal((4, 9))
matrix, rhs = half @ half.T, np.ones((4, 2))
factor = _linalg.cholesky(cupy.asarray(matrix))
z = _linalg.solve_triangular(factor, cupy.asarray(rhs))
z = _linalg.solve_triangular(factor, z, transpose=True)
np.testing.assert_allclose(matrix @ z.get(), rhs, rtol=1e-12)
for wrong in (np.diag([1.0, -1.0, 1.0]), np.ones((3, 3)) - 2 * np.eye(3)):
    try:
        _linalg.cholesky(cupy.asarray(wrong))
    except np.linalg.LinAlgError:
        continue
    raise AssertionError(wrong)
assert np.all(cupy.linalg.cholesky(cupy.asarray(np.diag([1.0, -1.0]))).get() == np.diag([1, -1]))
"""
    there = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
