"""Fits: against numpy's least squares, on both sides of the threshold and where data repeat."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit.backend import streams
from iclkit.contexts import draw_statistics
from iclkit.fit import fit_gamma
from iclkit.tasks import draw_tasks


def data(n, d, seed=0, rho=0.1):
    draw = streams(seed)
    return draw_statistics(draw_tasks(n, d, draw.tasks), 2 * d, rho, draw)


def features(x, h):
    return np.einsum("ni,na->nia", x, h).reshape(len(x), -1)


def reference(x, h, y, lam):
    """Least squares on explicit features; a ridge is √ridge more rows."""
    n, d = x.shape
    phi = features(x, h)
    if lam > 0:
        phi = np.concatenate([phi, np.sqrt(lam * n / d) * np.eye(phi.shape[1])])
        y = np.concatenate([y, np.zeros(phi.shape[1])])
    return np.linalg.lstsq(phi, y, rcond=None)[0].reshape(d, d + 1)


@pytest.mark.parametrize("solver", ["auto", "dual", "primal"])
@pytest.mark.parametrize("lam", [0.0, 1e-3, 2.0])
@pytest.mark.parametrize("n", [1, 20, 41, 42, 43, 90])
def test_agrees_with_least_squares(solver, lam, n):
    x, h, y = data(n, 6)
    fit = fit_gamma(x, h, y, lam, solver=solver)
    expected = reference(x, h, y, lam)
    # Normal equations square the condition number, which is largest at n = d(d + 1) = 42.
    condition = np.linalg.cond(features(x, h)) if lam == 0 else 1e3
    tolerance = 1e-14 * max(condition, 1e2) ** 2
    np.testing.assert_allclose(fit.gamma, expected, atol=tolerance * np.abs(expected).max())
    assert fit.residual < tolerance
    assert fit.iterations == 0
    if solver != "auto":
        assert fit.solver == solver
    elif lam == 0:
        assert fit.solver == ("dual" if n <= 42 else "primal")


@settings(max_examples=40)
@given(d=st.integers(1, 5), n=st.integers(1, 60), seed=st.integers(0, 99), lam=st.floats(1e-2, 10))
def test_primal_and_dual_agree(d, n, seed, lam):
    x, h, y = data(n, d, seed)
    one, other = (fit_gamma(x, h, y, lam, solver=solver).gamma for solver in ("primal", "dual"))
    np.testing.assert_allclose(one, other, atol=1e-8 * np.abs(one).max())


def test_auto_takes_the_cheaper_solver_where_both_are_regular():
    def operations(solver, n, d):
        return {"dual": 4 * d * n**2 + n**3 / 3, "primal": n * d**4 / 2 + d**6 / 3}[solver]

    for d in (4, 12):
        for n in (d, d**2 // 2, d * (d + 1), 2 * d**2):
            chosen = fit_gamma(*data(n, d), 0.1).solver
            other = {"dual": "primal", "primal": "dual"}[chosen]
            assert operations(chosen, n, d) <= operations(other, n, d)


def test_repeated_contexts_have_a_minimum_norm_solution():
    x, h, y = (np.concatenate([part, part]) for part in data(15, 4))
    expected = reference(x, h, y, 0.0)
    for solver in ("dual", "primal"):
        fit = fit_gamma(x, h, y, solver=solver)
        np.testing.assert_allclose(fit.gamma, expected, atol=1e-9 * np.abs(expected).max())


def test_ridgeless_is_the_limit_of_ridge():
    for n in (20, 90):
        x, h, y = data(n, 6)
        limit = fit_gamma(x, h, y).gamma
        gaps = [np.linalg.norm(fit_gamma(x, h, y, lam).gamma - limit) for lam in (1e-5, 1e-6)]
        assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.02)


def test_interpolates_below_the_threshold_only():
    for n, exact in ((42, True), (43, False)):
        x, h, y = data(n, 6)
        gamma = fit_gamma(x, h, y).gamma
        error = np.max(np.abs(np.einsum("ni,ij,nj->n", x, gamma, h) - y))
        assert (error < 1e-6) == exact


def test_array_libraries(xp):
    for n in (20, 60):
        x, h, y = data(n, 5)
        for lam in (0.0, 0.3):
            fit = fit_gamma(*(xp.asarray(part) for part in (x, h, y)), lam)
            assert type(fit.gamma) is type(xp.asarray(x)) and isinstance(fit.residual, float)
            expected = fit_gamma(x, h, y, lam).gamma
            np.testing.assert_allclose(
                np.asarray(fit.gamma), expected, atol=1e-8 * np.abs(expected).max()
            )


def test_zero_labels_give_zero():
    x, h, y = data(10, 3)
    fit = fit_gamma(x, h, 0 * y)
    assert fit.residual == 0 and not np.any(fit.gamma)


def test_other_real_types_are_taken():
    x, h, y = (part.astype(np.float32) for part in data(10, 3))
    assert fit_gamma(x, h, y).gamma.dtype == np.float64
    fit = fit_gamma(np.array([[1], [2]]), np.array([[1, 0], [0, 1]]), np.array([3, 4]))
    np.testing.assert_allclose(fit.gamma, [[3.0, 2.0]], rtol=1e-14)


X, H, Y = np.ones((4, 2)), np.ones((4, 3)), np.ones(4)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        ((X, H[:, :2], Y), {}, ValueError, r"h must have shape \(4, 3\), got \(4, 2\)"),
        ((X, H, Y[:3]), {}, ValueError, r"y must have shape \(4\), got \(3,\)"),
        ((X[0], H, Y), {}, ValueError, r"x must have shape \(any, any\), got \(2,\)"),
        ((X[:0], H[:0], Y[:0]), {}, ValueError, "x must have shape"),
        ((X * np.inf, H, Y), {}, ValueError, "x must be finite"),
        ((X, H, Y * np.nan), {}, ValueError, "y must be finite"),
        ((X, H * 1j, Y), {}, TypeError, "h must hold real numbers, got dtype complex128"),
        ((X.astype(object), H, Y), {}, TypeError, "x must hold real numbers, got dtype object"),
        ((X, H, Y > 0), {}, TypeError, "y must hold real numbers, got dtype bool"),
        ((np.ma.masked_array(X, X > 0), H, Y), {}, TypeError, "x must be a plain array, got Mask"),
        ((X.tolist(), H, Y), {}, TypeError, "x must be an array, got list"),
        ((X, H, Y, -1.0), {}, ValueError, "lam must be finite and at least 0, got -1.0"),
        ((X, H, Y, np.nan), {}, ValueError, "lam must be finite and at least 0, got nan"),
        ((X, H, Y, np.inf), {}, ValueError, "lam must be finite and at least 0, got inf"),
        ((X, H, Y, 1e308), {}, ValueError, "lam must be 0 or between 1e-75 and 1e.75, got 1e.308"),
        ((X, H, Y, [1.0]), {}, ValueError, "lam must be a single number"),
        ((X, H, Y), {"solver": "magic"}, ValueError, "solver must be one of auto, dual"),
    ],
)
def test_bad_arguments(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        fit_gamma(*arguments, **keywords)
