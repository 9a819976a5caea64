"""Khatri-Rao products: against the explicit n x d(d + 1) matrix, which they never form."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit import backend
from iclkit.fits import _products, features


def draw(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((n, d + 1)), rng


def explicit(x, h):
    return np.einsum("ni,na->nia", x, h).reshape(len(x), -1)


@pytest.fixture(params=[None, 1, 7], ids=["one block", "rows", "sevens"])
def blocks(request, monkeypatch):
    """Divide the rows into blocks of this size, here and in every product."""
    if request.param is not None:
        whole = backend.row_blocks
        monkeypatch.setattr(_products, "row_blocks", lambda a, rows=None: whole(a, request.param))


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 4), (7, 3), (23, 5)])
def test_products_are_those_of_the_explicit_matrix(xp, blocks, n, d):
    x, h, rng = draw(n, d)
    phi = explicit(x, h)
    gamma, r = rng.standard_normal((d, d + 1)), rng.standard_normal(n)
    a, b, c, s = (xp.asarray(part) for part in (x, h, gamma, r))
    same = {"rtol": 1e-12, "atol": 1e-12}
    predicted = phi @ gamma.ravel()
    np.testing.assert_allclose(np.asarray(features.predict(a, b, c)), predicted, **same)
    np.testing.assert_allclose(
        np.asarray(features.adjoint(a, b, s)), (phi.T @ r).reshape(d, d + 1), **same
    )
    np.testing.assert_allclose(
        np.asarray(features.normal(a, b, c)), (phi.T @ predicted).reshape(d, d + 1), **same
    )
    for function, expected in ((features.kernel, phi @ phi.T), (features.gram, phi.T @ phi)):
        matrix = function(a, b)
        assert type(matrix) is type(a)
        np.testing.assert_allclose(np.asarray(matrix), expected, **same)
    # The arguments stay as they are.
    np.testing.assert_array_equal(np.asarray(a), x)
    np.testing.assert_array_equal(np.asarray(b), h)


@given(n=st.integers(1, 40), d=st.integers(1, 6), seed=st.integers(0, 999))
def test_adjoint_is_adjoint(n, d, seed):
    x, h, rng = draw(n, d, seed)
    gamma, r = rng.standard_normal((d, d + 1)), rng.standard_normal(n)
    one = features.predict(x, h, gamma) @ r
    other = np.sum(gamma * features.adjoint(x, h, r))
    scale = np.linalg.norm(features.predict(x, h, gamma)) * np.linalg.norm(r)
    assert abs(one - other) <= 1e-12 * scale
    twice = features.adjoint(x, h, features.predict(x, h, gamma))
    np.testing.assert_allclose(
        features.normal(x, h, gamma), twice, atol=1e-12 * np.abs(twice).max(), rtol=0
    )


@pytest.mark.parametrize("data", ["float32", "float64"])
@pytest.mark.parametrize("operand", ["float32", "float64"])
def test_precision_is_that_of_the_operand(xp, data, operand):
    x, h, rng = draw(30, 4)
    gamma, r = rng.standard_normal((4, 5)), rng.standard_normal(30)
    a, b = (xp.asarray(part, dtype=getattr(xp, data)) for part in (x, h))
    c, s = (xp.asarray(part, dtype=getattr(xp, operand)) for part in (gamma, r))
    phi = explicit(*(np.asarray(part, dtype=np.float64) for part in (a, b)))
    c64, s64 = (np.asarray(part, dtype=np.float64) for part in (c, s))
    results = (
        (features.predict(a, b, c), phi @ c64.ravel()),
        (features.adjoint(a, b, s), phi.T @ s64),
        (features.normal(a, b, c), phi.T @ (phi @ c64.ravel())),
    )
    eps = np.finfo(operand).eps
    for result, expected in results:
        assert result.dtype == getattr(xp, operand)
        error = np.abs(np.asarray(result, dtype=np.float64).ravel() - expected).max()
        assert error <= 30 * eps * np.abs(expected).max()
        # Rounding of the data alone is not seen as rounding of the result.
        assert operand == "float64" or error > 0


def peak(function, *arguments):
    tracemalloc.start()
    function(*arguments)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return used


def test_the_explicit_matrix_is_never_formed():
    n, d = 2000, 60
    x, h, rng = draw(n, d)
    gamma, r = rng.standard_normal((d, d + 1)), rng.standard_normal(n)
    whole = 8 * n * d * (d + 1)
    for dtype in (np.float64, np.float32):
        c, s = gamma.astype(dtype), r.astype(dtype)
        assert peak(features.predict, x, h, c) < whole / 40
        assert peak(features.adjoint, x, h, s) < whole / 40
        assert peak(features.normal, x, h, c) < whole / 40
    # The matrices themselves, and little besides them.
    assert peak(features.kernel, x, h) < 8 * n**2 * 1.1
    size = 20 * 21
    assert peak(features.gram, x[:, :20].copy(), h[:, :21].copy()) < 8 * size**2 * 1.5 + 8 * (
        1024 * 441
    )
