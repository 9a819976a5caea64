"""Fits: against numpy's least squares, on both sides of the threshold and where data repeat."""

import pickle
import tracemalloc
import warnings

import array_api_strict
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit.backend import streams
from iclkit.data.contexts import draw_statistics
from iclkit.data.moments import population_moments, prediction_error, task_moments
from iclkit.data.tasks import assign_tasks, draw_tasks
from iclkit.fits import _linalg, cost, fit, solvers
from iclkit.fits.fit import ConvergenceWarning, fit_gamma, fit_gamma_path
from iclkit.fits.solvers import PATH_SOLVERS, SOLVERS, Problem, metric


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
    result = fit_gamma(x, h, y, lam, solver=solver)
    expected = reference(x, h, y, lam)
    # Normal equations square the condition number, which is largest at n = d(d + 1) = 42.
    condition = np.linalg.cond(features(x, h)) if lam == 0 else 1e3
    tolerance = 1e-14 * max(condition, 1e2) ** 2
    np.testing.assert_allclose(result.gamma, expected, atol=tolerance * np.abs(expected).max())
    assert result.residual < tolerance
    assert result.iterations == 0
    if solver != "auto":
        assert result.solver == solver
    elif lam == 0:
        assert result.solver == ("dual" if n <= 42 else "primal")


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
        result = fit_gamma(x, h, y, solver=solver)
        np.testing.assert_allclose(result.gamma, expected, atol=1e-9 * np.abs(expected).max())


def test_a_primal_solution_below_the_threshold_is_as_exact_as_asked():
    """There a ridge alone keeps out what rounding adds, and no residual sees that."""
    rng = np.random.default_rng(58)
    for d, n, ridge in ((1, 1, 1e-12), (3, 5, 1e-9), (5, 29, 1e-7), (5, 20, 1e-4)):
        x, h = rng.standard_normal((n, d)), rng.standard_normal((n, d + 1))
        y = rng.standard_normal(n)
        expected = exact(x, h, y, ridge)
        for rtol in (1e-5, 1e-9, 1e-12):
            found = fit_gamma(x, h, y, ridge, solver="primal", rtol=rtol)
            bound = max(rtol, 1e-13) * np.linalg.cond(features(x, h)) ** 2
            assert np.linalg.norm(found.gamma - expected) < bound * np.linalg.norm(expected)


def test_a_bootstrap_has_a_minimum_norm_solution():
    d, n = 24, 900
    some = np.random.default_rng(0).integers(0, 500, n)  # of 500 contexts, for 600 features
    x, h, y = (part[some] for part in data(n, d))
    fit = fit_gamma(x, h, y)
    expected = reference(x, h, y, 0.0)
    np.testing.assert_allclose(fit.gamma, expected, atol=1e-9 * np.abs(expected).max())
    # As good by its residual, and not the same.
    other = fit_gamma(x, h, y, solver="primal-cg", rtol=1e-5).gamma
    assert np.linalg.norm(other) > 1.01 * np.linalg.norm(fit.gamma)
    assert fit_gamma(*data(n, d)).solver != "primal"


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
            result = fit_gamma(*(xp.asarray(part) for part in (x, h, y)), lam)
            assert type(result.gamma) is type(xp.asarray(x))
            assert isinstance(result.residual, float)
            expected = fit_gamma(x, h, y, lam).gamma
            np.testing.assert_allclose(
                np.asarray(result.gamma), expected, atol=1e-8 * np.abs(expected).max()
            )


@pytest.mark.parametrize("solver", ["auto", *PATH_SOLVERS])
def test_every_ridge_of_a_path_keeps_the_tolerance(solver):
    """Also where iterations are stopped, and for the ridge that they serve last."""
    for n, seed in ((30, 0), (60, 1), (30, 2)):
        x, h, y = data(n, 6, seed)
        for rtol in (1e-2, 1e-4, 1e-6):
            path = fit_gamma_path(x, h, y, [1e-2, 0.1, 1.0, 10.0], solver=solver, rtol=rtol)
            assert np.all(path.residual <= rtol)


def test_a_fit_predicts_and_knows_its_error(xp):
    x, h, y = data(60, 5)
    fit = fit_gamma(*(xp.asarray(part) for part in (x, h, y)))
    expected = features(x, h) @ np.ravel(np.asarray(fit.gamma))
    there = xp.asarray(x), xp.asarray(h)
    np.testing.assert_allclose(np.asarray(fit.predict(*there)), expected, rtol=1e-12)
    moments = population_moments(5, 10, 0.1)
    assert fit.error(moments) == prediction_error(fit.gamma, moments) > 0.1
    with pytest.raises(ValueError, match=r"h must have shape \(1, 6\), got \(60, 6\)"):
        fit.predict(there[0][:1, :], there[1])
    with pytest.raises(ValueError, match=r"gamma must have shape \(4, 5\), got \(5, 6\)"):
        fit.predict(there[0][:, :4], there[1][:, :5])
    with pytest.raises(TypeError, match="moments must be Moments"):
        fit.error(0.1)


def test_zero_labels_give_zero():
    x, h, y = data(10, 3)
    for solver in ("auto", "dual-cg", "dual-mixed"):
        result = fit_gamma(x, h, 0 * y, solver=solver)
        assert result.residual == 0 and not np.any(result.gamma)
    path = fit_gamma_path(x, h, 0 * y, [0.0, 1.0], solver="cg")
    assert not np.any(path.residual) and not np.any(path.gamma)


def test_other_real_types_are_taken():
    x, h, y = (part.astype(np.float32) for part in data(10, 3))
    assert fit_gamma(x, h, y).gamma.dtype == np.float64
    result = fit_gamma(np.array([[1], [2]]), np.array([[1, 0], [0, 1]]), np.array([3, 4]))
    np.testing.assert_allclose(result.gamma, [[3.0, 2.0]], rtol=1e-14)


X, H, Y = np.ones((4, 2)), np.ones((4, 3)), np.ones(4)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        ((X, H[:, :2], Y), {}, ValueError, r"h must have shape \(4, 3\), got \(4, 2\)"),
        ((X, H, Y[:3]), {}, ValueError, r"y must have shape \(4,\), got \(3,\)"),
        ((X[0], H, Y), {}, ValueError, r"x must have shape \(any, any\), got \(2,\)"),
        ((X[:0], H[:0], Y[:0]), {}, ValueError, "x must not be empty"),
        ((X * np.inf, H, Y), {}, ValueError, "x must be finite"),
        ((X, H, Y * np.nan), {}, ValueError, "y must be finite"),
        ((X, H * 1j, Y), {}, TypeError, "h must hold real numbers, got dtype complex128"),
        ((X.astype(object), H, Y), {}, TypeError, "x must hold real numbers, got dtype object"),
        ((X, H, Y > 0), {}, TypeError, "y must hold real numbers, got dtype bool"),
        ((np.ma.masked_array(X, X > 0), H, Y), {}, TypeError, "x must be a plain array, got Mask"),
        ((X.tolist(), H, Y), {}, TypeError, "x must be an array, got list"),
        ((X, H, Y, -1.0), {}, ValueError, "lam must be above .* no minimum, got -1.0"),
        (
            (X, H, Y, -1.0),
            {"solver": "primal"},
            ValueError,
            "solver must be auto or dual for",
        ),
        ((X, H, Y, np.nan), {}, ValueError, "lam must be finite, got nan"),
        ((X, H, Y, np.inf), {}, ValueError, "lam must be finite, got inf"),
        ((X, H, Y, 1e308), {}, ValueError, "lam must be 0 or between 1e-75 and 1e.75 in"),
        ((X, H, Y, [1.0]), {}, ValueError, "lam must be a single number"),
        ((X, H, Y), {"solver": "magic"}, ValueError, "solver must be one of auto, dual"),
        ((X, H, Y), {"dtype": "float16"}, ValueError, "dtype must be one of float32, float64"),
        ((X, H, Y), {"rtol": 1e-13}, ValueError, "rtol must be between 1e-12 and 0.1, got 1e-13"),
        ((X, H, Y), {"accuracy": 1e-11}, ValueError, "accuracy must be between 1e-10 and 0.1"),
        ((X, H, Y), {"accuracy": "1e-4"}, TypeError, "accuracy must be a real number"),
        ((X, H, Y), {"rtol": 0.5}, ValueError, "rtol must be between 1e-12 and 0.1, got 0.5"),
        ((X, H, Y), {"rtol": np.nan}, ValueError, "rtol must be positive"),
        ((X, H, Y), {"solver": "primal-cg"}, ValueError, "solver must be a dual one or primal wh"),
        ((X, H, Y, 1.0), {"solver": "primal-mixed"}, ValueError, "solver must be a dual one or pr"),
    ],
)
def test_bad_arguments(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        fit_gamma(*arguments, **keywords)


@pytest.mark.parametrize(
    ("lams", "keywords", "error", "message"),
    [
        ([], {}, ValueError, "lams must be a sequence of at least one, got shape"),
        ([[1.0]], {}, ValueError, "lams must be a sequence of at least one, got shape"),
        (1.0, {}, ValueError, "lams must be a sequence of at least one, got shape"),
        ([1.0, -1.0], {}, ValueError, "lams must be finite and at least 0, got -1.0"),
        ([1.0, np.nan], {}, ValueError, "lams must be finite and at least 0, got nan"),
        (["a"], {}, TypeError, "lams must be a real number"),
        ([1.0], {"solver": "dual"}, ValueError, "solver must be one of auto, cg, eigen"),
        ([1.0], {"rtol": 1.0}, ValueError, "rtol must be between"),
    ],
)
def test_bad_arguments_of_a_path(lams, keywords, error, message):
    with pytest.raises(error, match=message):
        fit_gamma_path(X, H, Y, lams, **keywords)


# Every solver -------------------------------------------------------------------------------------


def allowed(n, d):
    """Solvers that promise Γ* here; those for n > d(d + 1) alone refuse, see above."""
    return [name for name in SOLVERS if n > d * (d + 1) or name in ("primal", *DUAL)]


DUAL = ("dual", "dual-mixed", "dual-cg")


def gradient(x, h, y, gamma, lam):
    """The whitened gradient relative to that at 0, written with matrices of full size."""
    n, d = x.shape
    phi, ridge = features(x, h), lam * n / d
    covariance = np.kron(x.T @ x, h.T @ h) / n + ridge * np.eye(d * (d + 1))
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-11 * values[-1]
    root = vectors[:, kept] / np.sqrt(values[kept])

    def whitened(g):
        return np.linalg.norm(root.T @ (phi.T @ (y - phi @ g) - ridge * g))

    return whitened(np.ravel(gamma)) / whitened(np.zeros(d * (d + 1)))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n", [1, 5, 20, 36, 42, 43, 50, 150])
def test_every_solver_finds_the_minimiser(solver, n):
    x, h, y = data(n, 6)
    if solver not in allowed(n, 6):
        return
    for lam in (0.0, 1e-2, 1e3):
        if lam == 0 and n > 42 and solver in DUAL:
            continue  # labels that no Γ meets
        result = fit_gamma(x, h, y, lam, solver=solver, rtol=1e-9)
        assert result.solver == solver and result.residual <= 1e-9
        assert (result.iterations > 0) == ("-" in solver)
        expected = reference(x, h, y, lam)
        condition = np.linalg.cond(features(x, h)) if lam == 0 else 1e2
        np.testing.assert_allclose(
            result.gamma, expected, rtol=0, atol=1e-8 * condition * np.abs(expected).max()
        )


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("n", [20, 60])
@pytest.mark.parametrize("lam", [0.0, 0.1])
def test_residual_is_the_whitened_gradient(solver, n, lam):
    x, h, y = data(n, 5)
    if (
        solver != "auto"
        and (solver not in allowed(n, 5) or (lam == 0 and n > 30))
        and (solver in DUAL or n <= 30)
    ):
        return
    # A loose tolerance leaves a residual that is no rounding.
    for rtol in (1e-2, 1e-5):
        result = fit_gamma(x, h, y, lam, solver=solver, rtol=rtol)
        assert result.residual <= rtol
        expected = gradient(x, h, y, result.gamma, lam)
        assert result.residual == pytest.approx(expected, rel=1e-6, abs=1e-12)
    path = fit_gamma_path(x, h, y, [lam, 1.0], solver="cg", rtol=1e-2)
    for gamma, residual, ridge in zip(path.gamma, path.residual, (lam, 1.0), strict=True):
        assert residual == pytest.approx(gradient(x, h, y, gamma, ridge), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("solver", DUAL)
def test_ridgeless_minimiser_has_least_norm(solver):
    x, h, y = data(60, 8)
    gamma = fit_gamma(x, h, y, solver=solver, rtol=1e-10).gamma
    phi = features(x, h)
    assert np.linalg.norm(phi @ gamma.ravel() - y) < 1e-8 * np.linalg.norm(y)
    # It has no part that the data do not see, so that any other interpolant is longer.
    seen = np.linalg.lstsq(phi.T, gamma.ravel(), rcond=None)[0]
    np.testing.assert_allclose(phi.T @ seen, gamma.ravel(), atol=1e-10 * np.abs(gamma).max())
    other = np.linalg.norm(gamma)
    unseen = np.linalg.svd(phi)[2][60:]
    for direction in unseen[:3]:
        assert np.linalg.norm(gamma.ravel() + 0.1 * other * direction) > other


@settings(max_examples=60)
@given(
    d=st.integers(1, 6),
    ratio=st.floats(0.01, 3),
    seed=st.integers(0, 999),
    lam=st.sampled_from([0.0, 1e-3, 1.0, 1e6]),
    alpha=st.sampled_from([1, 10, 100]),
    scales=st.tuples(*[st.sampled_from([1e-8, 1.0, 1e8])] * 3),
    dtype=st.sampled_from([None, "float32"]),
    odd=st.sampled_from(["", "zero column", "constant column", "zero queries"]),
)
def test_promise_is_kept_for_any_data(d, ratio, seed, lam, alpha, scales, dtype, odd):
    n = max(1, round(ratio * d * (d + 1)))
    draw = streams(seed)
    x, h, y = draw_statistics(draw_tasks(n, d, draw.tasks), alpha * d, 0.1, draw)
    if odd.endswith("column"):
        h[:, 0] = 0 if odd == "zero column" else 1
    elif odd:
        x[:] = 0
    expected = reference(x, h, y, lam)
    if not odd.endswith("column"):
        # A scale of the data is a scale of the answer.
        rescaled = (part * scale for part, scale in zip((x, h, y), scales, strict=True))
        ridge = lam * (scales[0] * scales[1]) ** 2
        back = scales[2] / scales[0] / scales[1]
    else:
        rescaled, ridge, back = (x, h, y), lam, 1.0
    x, h, y = rescaled
    assert ridge <= 1e75
    for solver in ("auto", *allowed(n, d)):
        if lam == 0 and solver in DUAL and n > d * (d + 1):
            continue
        if lam == 0 and solver in DUAL and odd:
            continue  # contexts may outnumber the features that are left
        result = fit_gamma(x, h, y, ridge, solver=solver, dtype=dtype, rtol=1e-5)
        assert result.residual <= 1e-5
        assert result.gamma.dtype == np.float64 and np.all(np.isfinite(result.gamma))
        if lam > 0 or not 0.7 < ratio < 1.5:
            error = np.abs(result.gamma / back - expected).max()
            assert error <= 2e-2 * np.abs(expected).max()


@pytest.mark.parametrize("n", [100, 110, 130])
def test_extreme_scales_do_not_overflow(n):
    x, h, y = data(n, 10)
    for solver in allowed(n, 10):
        for ridge in (0.0, 1e-5, 1e15, 1e75):
            if ridge == 0 and solver in DUAL and n > 110:
                continue
            plain = fit_gamma(x, h, y, ridge, solver=solver, rtol=1e-5)
            assert plain.residual <= 1e-5
            for scale in (1e-30, 1.0, 1e30):
                lam = ridge * scale**2
                if lam > 1e75 or 0 < lam < 1e-60:
                    continue
                for dtype in (None, "float32"):
                    scaled = fit_gamma(scale * x, h, y, lam, solver=solver, dtype=dtype, rtol=1e-5)
                    assert scaled.residual <= 1e-5
                    if n != 110 or ridge > 1:
                        np.testing.assert_allclose(
                            scaled.gamma * scale,
                            plain.gamma,
                            atol=1e-2 * np.abs(plain.gamma).max(),
                            rtol=0,
                        )
    phi = features(x, h)
    np.testing.assert_allclose(
        fit_gamma(x, h, y, 1e75).gamma.ravel(), phi.T @ y / (1e75 * n / 10), rtol=1e-10
    )
    path = fit_gamma_path(1e30 * x, h, 1e-60 * y, [0.0, 1e60, 1e75], rtol=1e-8)
    plain = fit_gamma_path(x, h, y, [0.0, 1.0, 1e15], rtol=1e-8)
    for one, other in zip(path.gamma * 1e90, plain.gamma, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


# Units --------------------------------------------------------------------------------------------


def exact(x, h, y, lam):
    """The minimiser in 120 digits, from the definition, for features of full rank or a ridge."""
    n, d = x.shape
    with mpmath.workdps(120):
        rows = [
            [mpmath.mpf(a) * mpmath.mpf(b) for a in q for b in c] for q, c in zip(x, h, strict=True)
        ]
        phi, labels = mpmath.matrix(rows), mpmath.matrix(y.tolist())
        dual = n <= d * (d + 1)
        system = phi * phi.T if dual else phi.T * phi
        for i in range(system.rows):
            system[i, i] += mpmath.mpf(lam) * n / d
        z = mpmath.lu_solve(system, labels if dual else phi.T * labels)
        return np.array([float(entry) for entry in (phi.T * z if dual else z)]).reshape(d, d + 1)


POWER = st.floats(-12, 12)


@st.composite
def units(draw, d):
    """Units of the columns of x, of h, and of y: alone, each, all alike, or as those of labels."""
    x, h, y, c = np.ones(d), np.ones(d + 1), 1.0, 10.0 ** draw(POWER)
    kind = draw(st.sampled_from(["column", "columns", "x", "h", "y", "labels"]))
    if kind == "column":
        (x if draw(st.booleans()) else h)[draw(st.integers(0, d - 1))] = c
    elif kind == "columns":
        x, h = (10.0 ** np.array([draw(POWER) for _ in ones]) for ones in (x, h))
    elif kind == "labels":
        h, y = np.append(np.full(d, c), c * c), c
    else:
        x, h, y = (
            part * (c if name == kind else 1) for name, part in (("x", x), ("h", h), ("y", y))
        )
    return x, h, y


@pytest.mark.parametrize("xp", [np, array_api_strict], ids=["numpy", "array-api-strict"])
@pytest.mark.parametrize("how", [{"rtol": 1e-5}, {"accuracy": 1e-4}], ids=["rtol", "accuracy"])
def test_iterations_that_break_down_say_so_once(how, xp):
    rng = np.random.default_rng(0)
    x, h, y = rng.standard_normal((4, 1)), rng.standard_normal((4, 2)), rng.standard_normal(4)
    arrays = [xp.asarray(part) for part in (x, h * [1e10, 1e-8], y)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit_gamma(*arrays, solver="dual-cg", **how)
    assert [warning.category for warning in caught] == [ConvergenceWarning]


@pytest.mark.parametrize("xp", [np, array_api_strict], ids=["numpy", "array-api-strict"])
@pytest.mark.parametrize("path", [False, True], ids=["fit", "path"])
@settings(max_examples=25)
@given(st.data(), st.integers(1, 3), st.integers(0, 99), st.sampled_from([0.0, 1e-12, 1e-3, 1e3]))
def test_no_unit_of_a_column_counts(xp, path, data, d, seed, lam):
    n = data.draw(st.sampled_from([1, 2, d * (d + 1) - 1, d * (d + 1), d * (d + 1) + 2, 24]))
    rng = np.random.default_rng(seed)
    x, h, y = rng.standard_normal((n, d)), rng.standard_normal((n, d + 1)), rng.standard_normal(n)
    condition = np.linalg.cond(features(x, h)) ** 2
    of_x, of_h, of_y = data.draw(units(d))
    x, h, y = x * of_x, h * of_h, y * of_y
    lam *= float(np.max(of_x) * np.max(of_h)) ** 2
    expected, weight = exact(x, h, y, lam), np.outer(of_x, of_h) / of_y
    there = [xp.asarray(part) for part in (x, h, y)]
    solvers = ("auto", "cg", "eigen") if path else ("auto", *allowed(n, d))
    for solver in solvers:
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            if path:
                found = fit_gamma_path(*there, [lam], solver=solver)
                gamma, residual = np.asarray(found.gamma[0, ...]), found.residual[0]
            else:
                found = fit_gamma(*there, lam, solver=solver, rtol=1e-5)
                gamma, residual = np.asarray(found.gamma), found.residual
        # A solver asked for by name may miss, and says so; the others never do.
        missed = [warning.category for warning in record]
        assert missed == ([] if residual <= 1e-5 else [ConvergenceWarning])
        assert not missed or solver.endswith(("cg", "mixed"))
        if not missed:
            # What an entry adds to the labels tells how much it counts.
            error = np.abs((gamma - expected) * weight).max()
            assert error <= 1e-5 * condition * np.linalg.norm(expected * weight)


@settings(max_examples=40)
@given(st.data(), st.integers(1, 4), st.integers(0, 99), st.sampled_from([0, 1]))
def test_the_norm_of_the_residual_knows_no_units(data, d, seed, tiny):
    """It is gᵀP⁻¹g, the same for a gradient g in any units, and for columns all but dependent."""
    rng = np.random.default_rng(seed)
    x, h, g = rng.standard_normal((40, d)), rng.standard_normal((40, d + 1)), np.ones((d, d + 1))
    of_x, of_h, _ = data.draw(units(d))
    h[:, 1] += 1e7 * tiny * h[:, 0]
    inverses = [np.linalg.inv(np.linalg.qr(part)[1]) for part in (x, h)]
    expected = np.linalg.norm(inverses[0].T @ g @ inverses[1]) * 40**0.5
    found = np.linalg.norm(metric(x * of_x, h * of_h, 0.0).whiten(g * np.outer(of_x, of_h)))
    assert found == pytest.approx(expected, rel=1e-5 if tiny else 1e-7)


@pytest.mark.parametrize("formed", [solvers._FORMED, 0])
@pytest.mark.parametrize("n", [1, 4, 11])
def test_a_tiny_ridge_lets_nothing_of_rounding_in(monkeypatch, formed, n):
    """The primal system of few contexts is singular but for the ridge."""
    monkeypatch.setattr(solvers, "_FORMED", formed)
    x, h, y = data(n, 3)
    for lam in 10.0 ** np.arange(-20.0, 0):
        gamma, expected = fit_gamma(x, h, y, lam, solver="primal").gamma, exact(x, h, y, lam)
        np.testing.assert_allclose(gamma, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("formed", [solvers._FORMED, 0])
def test_contexts_told_apart_by_a_tiny_column(monkeypatch, formed):
    """What is below rounding of a square is found, or a warning says that it is not."""
    monkeypatch.setattr(solvers, "_FORMED", formed)
    x, h, y = np.ones((2, 1)), np.array([[1, 1e-9], [1, -1e-9]]), np.array([1.0, -1.0])
    if formed:
        np.testing.assert_allclose(fit_gamma(x, h, y).gamma, [[0, 1e9]], atol=1e-6)
        return
    with pytest.warns(ConvergenceWarning, match="dual has reached a residual of 1.0e"):
        fit_gamma(x, h, y)


def test_columns_that_are_all_but_dependent():
    """No unit makes these regular: squares lose them, an orthogonal factor does not."""
    rng = np.random.default_rng(0)
    x, h, y = rng.standard_normal((60, 2)), rng.standard_normal((60, 3)), rng.standard_normal(60)
    h[:, 1] = h[:, 0] + 1e-9 * h[:, 1]
    result = fit_gamma(x, h, y)
    assert result.residual <= 1e-5
    expected = exact(x, h, y, 0.0)
    np.testing.assert_allclose(result.gamma, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("formed", [solvers._FORMED, 0])
@pytest.mark.parametrize("side", ["dual", "primal"])
@pytest.mark.parametrize("seed", range(10))
def test_repetition_does_not_hide_which_minimiser_is_shortest(monkeypatch, formed, side, seed):
    """The residual cannot tell, and so the rank must be known, in any units."""
    monkeypatch.setattr(solvers, "_FORMED", formed)
    rng = np.random.default_rng(seed)
    d, different = 3, rng.integers(1, 12)
    some = np.append(np.arange(different), rng.integers(0, different, 20))
    x, h = (rng.standard_normal((different, d + k)) for k in (0, 1))
    powers = 9 if formed else 2 if side == "primal" else 0  # a spectrum alone loses digits
    x = x * 10.0 ** rng.uniform(-powers, powers, d)
    h = h * 10.0 ** rng.uniform(-powers, powers, d + 1)
    result = fit_gamma(x[some], h[some], y := 1.0 * some, solver=side)
    expected = exact(x, h, y[:different], 0.0)
    weight = np.outer(np.abs(x).max(axis=0), np.abs(h).max(axis=0))
    error = np.abs((result.gamma - expected) * weight).max()
    assert result.residual <= 1e-5 and error <= 1e-3 * np.abs(expected * weight).max()


@pytest.mark.parametrize("ridge", [0.0, 1e-22])
def test_a_hidden_lack_of_rank_is_seen(ridge):
    """A factor exists, by rounding alone: its solution must not be taken."""
    factored = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        half = rng.standard_normal((30, 29)) * 10.0 ** rng.uniform(-3, 3, (30, 1))
        matrix = half @ half.T
        factored += solvers._factor(matrix.copy(), ridge) is not None
        assert solvers._solve_definite(matrix, half @ np.ones(29), ridge) is None
        # A matrix of full rank is no such case, in whatever units.
        regular = matrix + np.diag(np.diagonal(matrix)) / 1e4
        assert solvers._solve_definite(regular, half @ np.ones(29), ridge) is not None
    assert factored > 10  # such that there was something to see


def test_iterations_that_lead_nowhere_end():
    """Columns from 1e-4 to 1e4 were allowed 1.9e9 iterations."""
    rng = np.random.default_rng(0)
    x, h, y = rng.standard_normal((12, 4)), rng.standard_normal((12, 5)), rng.standard_normal(12)
    h *= 10.0 ** np.linspace(-4, 4, 5)
    for seed in range(5):
        x[:2] = x[2] * (1 + 1e-12 * np.random.default_rng(seed).standard_normal((2, 4)))
        h[:2] = h[2]
        for run in (
            lambda: fit_gamma(x, h, y, solver="dual-cg", rtol=1e-5),
            lambda: fit_gamma_path(x, h, y, [0.0, 1e-20], solver="cg"),
        ):
            with pytest.warns(ConvergenceWarning, match="cg has reached a residual"):
                assert 0 < run().iterations <= 220


def test_numbers_out_of_range_are_refused():
    x, h, y = data(10, 3)
    scale = np.array([1.0, 1.0, 1e-60])
    for arguments, name in (
        ((x * scale, h, y), "x must be 0 or have numbers above 1e-75 in size, and columns within"),
        ((x, h * 1e-100, y), "h must be 0 or have numbers above 1e-75"),
        ((x, h, y * 1e-100), "y must be 0 or have numbers above 1e-75"),
        ((x, h * 1e100, y), "h must have numbers of at most 1e.75 in size"),
    ):
        with pytest.raises(ValueError, match=name):
            fit_gamma(*arguments)
        with pytest.raises(ValueError, match=name):
            fit_gamma_path(*arguments, [0.1])


# Ridges below zero --------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    d=st.integers(2, 6),
    ratio=st.floats(0.1, 3),
    seed=st.integers(0, 99),
    share=st.floats(0.01, 0.9),
    scales=st.tuples(*[st.sampled_from([1e-8, 1.0, 1e8])] * 3),
)
def test_below_zero_the_minimiser_solves_the_normal_equations(d, ratio, seed, share, scales):
    n = max(1, round(ratio * d * (d + 1)))
    x, h, y = (part * scale for part, scale in zip(data(n, d, seed), scales, strict=True))
    phi = features(x, h)
    least = np.linalg.svd(phi)[1][-1] ** 2 * d / n
    lam = -share * least
    found = fit_gamma(x, h, y, lam)
    assert found.solver == ("dual" if n <= d * (d + 1) else "primal")
    # In the span of the features: with more parameters than contexts there is no other minimum.
    basis = np.linalg.svd(phi, full_matrices=False)[2]
    inside = phi @ basis.T
    matrix = inside.T @ inside + lam * n / d * np.eye(basis.shape[0])
    assert np.linalg.eigvalsh(matrix)[0] > 0
    expected = (basis.T @ np.linalg.solve(matrix, inside.T @ y)).reshape(d, d + 1)
    condition = np.linalg.cond(matrix)
    assert np.abs(found.gamma - expected).max() <= 1e-12 * condition * np.abs(expected).max()
    # And the residual says so.
    gradient = phi.T @ (y - phi @ found.gamma.ravel()) - lam * n / d * found.gamma.ravel()
    assert np.linalg.norm(gradient) <= 1e-10 * condition * np.linalg.norm(phi.T @ y)
    assert found.residual <= 1e-5


@pytest.mark.parametrize("n", [10, 30, 31, 60])
def test_a_ridge_that_is_too_low_is_refused_with_the_lowest(xp, n):
    x, h, y = data(n, 5)
    edge = -(np.linalg.svd(features(x, h))[1][-1] ** 2) * 5 / n
    there = [xp.asarray(part) for part in (x, h, y)]
    found = fit_gamma(*there, 0.999 * edge)
    assert found.residual <= 1e-5 and type(found.gamma) is type(there[0])
    for lam in (1.001 * edge, 10 * edge):
        with pytest.raises(solvers.IndefiniteError, match="lam must be above -.*, got -") as e:
            fit_gamma(*there, lam)
        assert e.value.least == pytest.approx(edge, rel=1e-7)
        again = pickle.loads(pickle.dumps(e.value))
        assert again.least == e.value.least and str(again) == str(e.value)


def test_repeated_contexts_allow_no_ridge_below_zero():
    x, h, y = (np.concatenate([part, part]) for part in data(8, 4))
    with pytest.raises(ValueError, match="lam must be above .* for these data"):
        fit_gamma(x, h, y, -1e-9)


def test_nothing_breaks_at_zero_ridge_in_a_fit():
    for n in (20, 90):
        x, h, y = data(n, 6)
        at_zero = fit_gamma(x, h, y).gamma
        gaps = [fit_gamma(x, h, y, lam).gamma - at_zero for lam in (-1e-5, 1e-5)]
        assert np.linalg.norm(gaps[0] + gaps[1]) < 0.1 * np.linalg.norm(gaps[0])


def test_only_the_regular_side_goes_below_zero():
    for n, other in ((20, "primal"), (60, "dual")):
        for solver in (other, "dual-cg", "dual-mixed"):
            with pytest.raises(ValueError, match="solver must be auto or .* for lam < 0 here, got"):
                fit_gamma(*data(n, 5), -1e-3, solver=solver)


# What is promised of errors -----------------------------------------------------------------------


def draw(d, tau, alpha, kappa, seed=0):
    draws = streams(seed)
    n = round(tau * d**2)
    tasks = draw_tasks(round(kappa * d), d, draws.tasks)
    w = tasks[assign_tasks(n, len(tasks), draws.tasks)]
    moments = (population_moments(d, alpha * d, 0.1), task_moments(tasks, alpha * d, 0.1))
    return draw_statistics(w, alpha * d, 0.1, draws), moments


def errors(gamma, moments):
    return np.array([prediction_error(gamma, part) for part in moments])


@pytest.mark.parametrize("alpha", [1, 10, 100])
@pytest.mark.parametrize("kappa", [0.5, 4])
@pytest.mark.parametrize("tau", [0.3, 0.8, 1.3, 4.0])
def test_errors_are_as_accurate_as_asked(tau, alpha, kappa):
    d = 20
    statistics, moments = draw(d, tau, alpha, kappa)
    side = "dual" if tau < 1 else "primal"
    for lam in (0.0, 1e-2):
        exact = errors(fit_gamma(*statistics, lam, solver=side).gamma, moments)
        for dtype in (None, "float32"):
            for accuracy in (1e-2, 1e-4, 1e-7):
                result = fit_gamma(
                    *statistics, lam, solver=f"{side}-cg", dtype=dtype, accuracy=accuracy
                )
                assert result.gamma.dtype == np.float64
                np.testing.assert_allclose(errors(result.gamma, moments), exact, rtol=accuracy)
            result = fit_gamma(*statistics, lam, solver=f"{side}-cg", dtype=dtype, rtol=1e-5)
            assert result.residual <= 1e-5
            np.testing.assert_allclose(errors(result.gamma, moments), exact, rtol=1e-4)


@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("lam", [0.0, 1e-3])
def test_errors_at_the_threshold_itself(quick, beyond, lam):
    """There the theory of the errors has a pole, and a fit is still to be asked for accuracy."""
    d = 9
    statistics, moments = draw(d, (d * (d + 1) + beyond) / d**2, 10, 2)
    side = "dual" if beyond <= 0 else "primal"
    exact = errors(fit_gamma(*statistics, lam, solver=side).gamma, moments)
    for solver in ("auto", f"{side}-cg"):
        found = fit_gamma(*statistics, lam, solver=solver)
        np.testing.assert_allclose(errors(found.gamma, moments), exact, rtol=1e-4)


def off(found, exact, *moments):
    """Shares of the errors by which those of a fit are off."""
    return abs(errors(found.gamma, moments) / errors(exact.gamma, moments) - 1)


@pytest.mark.parametrize("solver", ["auto", "dual-cg"])
@pytest.mark.parametrize("accuracy", [1e-2, 1e-8])
@pytest.mark.parametrize("d", [1, 2, 14])
def test_as_many_contexts_as_features(d, accuracy, solver):
    statistics, moments = data(d * (d + 1), d), population_moments(d, 2 * d, 0.1)
    found = fit_gamma(*statistics, solver=solver, accuracy=accuracy, dtype="float64")
    assert off(found, fit_gamma(*statistics, solver="dual"), moments) < accuracy


def test_default_where_contexts_are_as_many_as_features():
    statistics, moments = data(420, 20), population_moments(20, 40, 0.1)
    assert off(fit_gamma(*statistics), fit_gamma(*statistics, solver="dual"), moments) < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_context_takes_one_step(dtype):
    for d in (1, 4):
        x, h, y = data(1, d, seed=1)
        found = fit_gamma(x, h, y, solver="dual-cg", dtype=dtype)
        np.testing.assert_allclose(found.predict(x, h), y, rtol=1e-6)


@pytest.mark.parametrize("side", ["dual", "primal"])
@pytest.mark.parametrize("scale", [0.03, 1.0, 4.0, 11.0])
def test_accuracy_knows_no_units(scale, side):
    """Of numbers that are near enough to 1 to be left as they are."""
    x, h, y = data(50 if side == "dual" else 300, 10)
    exact, moments = fit_gamma(x, h, y, solver=side), population_moments(10, 20, 0.1)
    for accuracy in (1e-2, 1e-4, 1e-6):
        how = {"solver": f"{side}-cg", "accuracy": accuracy, "dtype": "float32"}
        found = fit_gamma(scale * x, scale * h, y, **how)
        found = found._replace(gamma=scale**2 * found.gamma)
        assert off(found, exact, moments) < accuracy


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("ell", "rho"), [(10**6, 1e-8), (10**9, 1e-10), (10**12, 0.0)])
def test_errors_that_are_a_small_part_of_the_labels(ell, rho, dtype):
    """Less than float32 knows of the squares of labels."""
    draws, moments = streams(1), population_moments(10, ell, rho)
    statistics = draw_statistics(draw_tasks(300, 10, draws.tasks), ell, rho, draws)
    exact = fit_gamma(*statistics, solver="primal")
    assert exact.error(moments) < 1e-4
    for accuracy in (0.1, 1e-4):
        found = fit_gamma(*statistics, solver="primal-cg", dtype=dtype, accuracy=accuracy)
        assert off(found, exact, moments) < accuracy


@pytest.mark.parametrize("n", [100, 240, 265, 272, 280])
@pytest.mark.parametrize("accuracy", [1e-6, 1e-8, 1e-10])
def test_passes_in_float32_are_as_accurate_as_asked(n, accuracy):
    """Each begins with what rounding has left, and not with the labels."""
    side, moments = "dual" if n <= 272 else "primal", population_moments(16, 32, 0.1)
    for seed in range(3):
        statistics = data(n, 16, seed)
        exact = fit_gamma(*statistics, solver=side)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            found = fit_gamma(*statistics, solver=f"{side}-cg", dtype="float32", accuracy=accuracy)
        assert (caught and n == 272) or off(found, exact, moments) < accuracy


@pytest.mark.parametrize(("d", "n", "ell"), [(3, 48, 3 * 10**6), (5, 200, 5 * 10**5)])
@pytest.mark.parametrize("solver", ["auto", "primal"])
def test_direct_solvers_are_as_accurate_with_one_task_and_endless_contexts(solver, d, n, ell):
    """Where squares of the features lose digits, and the errors are a millionth of the labels."""
    for seed in range(4):
        draws = streams(seed)
        w = draw_tasks(1, d, draws.tasks)
        statistics = draw_statistics(np.repeat(w, n, axis=0), ell, 1e-6, draws)
        moments = population_moments(d, ell, 1e-6), task_moments(w, ell, 1e-6)
        exact = fit_gamma(*statistics, solver="primal", accuracy=1e-10)
        assert off(fit_gamma(*statistics, solver=solver), exact, *moments).max() < 1e-6


@pytest.mark.parametrize("lam", [1e-8, 1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_ridge_where_features_are_dependent(lam, dtype):
    """As with one task and no noise, where w·h is the last entry of h."""
    draws = streams(3)
    w = draw_tasks(1, 12, draws.tasks)
    statistics = draw_statistics(np.repeat(w, 400, axis=0), 12, 0.0, draws)
    exact = fit_gamma(*statistics, lam, solver="primal", accuracy=1e-10)
    moments = population_moments(12, 12, 0.0), task_moments(w, 12, 0.0)
    for accuracy in (1e-2, 1e-4):
        found = fit_gamma(*statistics, lam, solver="primal-cg", dtype=dtype, accuracy=accuracy)
        assert off(found, exact, *moments).max() < accuracy


@pytest.mark.parametrize("tau", [0.95, 1.0, 1.05])
@pytest.mark.parametrize(("alpha", "kappa"), [(1, 2), (10, 2), (100, 0.5)])
def test_errors_near_the_threshold(tau, alpha, kappa):
    statistics, moments = draw(24, tau, alpha, kappa)
    side = "dual" if tau <= 1 else "primal"
    exact = fit_gamma(*statistics, solver=side)
    for dtype in (None, "float32"):
        result = fit_gamma(*statistics, solver=f"{side}-mixed", dtype=dtype)
        assert result.iterations <= 10
        np.testing.assert_allclose(
            errors(result.gamma, moments), errors(exact.gamma, moments), rtol=1e-6
        )


def test_data_in_float32_are_fitted_as_they_are():
    statistics, moments = draw(16, 2.0, 10, 2)
    single = [part.astype(np.float32) for part in statistics]
    double = [part.astype(np.float64) for part in single]
    for solver in ("auto", "primal", "primal-mixed", "primal-cg"):
        one = fit_gamma(*single, solver=solver, dtype="float32", rtol=1e-5)
        other = fit_gamma(*double, solver=solver, rtol=1e-5)
        assert one.gamma.dtype == np.float64 and one.residual <= 1e-5
        np.testing.assert_allclose(
            errors(one.gamma, moments), errors(other.gamma, moments), rtol=1e-4
        )
    for precision in (np.float32, np.dtype("float32"), "float32"):
        assert fit_gamma(*single, dtype=precision, rtol=1e-5).residual <= 1e-5


@pytest.mark.parametrize("solver", [name for name in SOLVERS if "-" in name])
def test_data_in_float32_are_fitted_to_the_digits_of_float64(solver):
    """What iterates in float32 may form what it likes; what is checked is what was given."""
    single = [part.astype(np.float32) for part in data(60 if solver in DUAL else 200, 10)]
    double = [part.astype(np.float64) for part in single]
    expected = fit_gamma(*double, solver=solver.split("-")[0]).gamma
    for how in ({"rtol": 1e-10}, {"accuracy": 1e-9}):
        for dtype in ("float32", "float64"):
            found = fit_gamma(*single, solver=solver, dtype=dtype, **how).gamma
            np.testing.assert_allclose(found, expected, atol=1e-7 * np.abs(expected).max())


def test_directions_of_little_variance_count_in_float32():
    """Long contexts on few tasks: most of HᵀH is below the rounding of float32 products."""
    d = 12
    draws = streams(0)
    w = draw_tasks(2, d, draws.tasks)[assign_tasks(400, 2, draws.tasks)]
    statistics = draw_statistics(w, 10**7 * d, 0.1, draws)
    single = [part.astype(np.float32) for part in statistics]
    exact = fit_gamma(*(part.astype(np.float64) for part in single), solver="primal")
    loose = metric(*single[:2], 0.0)
    assert np.all(loose.variances > 0)
    result = fit_gamma(*single, solver="primal-cg", dtype="float32", rtol=1e-5)
    assert result.residual <= 1e-5
    np.testing.assert_allclose(np.linalg.norm(result.gamma), np.linalg.norm(exact.gamma), rtol=1e-2)


def memory(function, *arguments, **keywords):
    tracemalloc.start()
    function(*arguments, **keywords)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return used


def test_memory_is_that_of_few_vectors():
    d, n = 20, 20_000
    rng = np.random.default_rng(0)
    x, h, y = rng.standard_normal((n, d)), rng.standard_normal((n, d + 1)), rng.standard_normal(n)
    single = [part.astype(np.float32) for part in (x, h)]
    whole = x.nbytes + h.nbytes
    # Neither data in float64 nor data in float32 are copied, where the precision is theirs.
    for dtype, parts in (("float64", (x, h)), (None, single)):
        assert memory(fit_gamma, *parts, y, solver="primal-cg", dtype=dtype) < 0.35 * whole
    # Other data are copied once, into half of their space.
    mixed = memory(fit_gamma, x, h, y, solver="primal-cg")
    assert 0.5 * whole < mixed < 0.85 * whole
    dual = memory(fit_gamma, x[:300], h[:300], y[:300], solver="dual-cg")
    assert dual < 0.2 * whole


# When a solver fails ------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Let the cost decide for problems of any size."""
    monkeypatch.setattr(fit, "_WORTH_A_CHOICE", 0.0)


def prefer(monkeypatch, solver):
    operations = cost.operations
    monkeypatch.setattr(
        cost,
        "operations",
        lambda name, *rest: operations(name, *rest) * (1e-9 if name == solver else 1),
    )


def repeated(n, d):
    x, h, y = data(n, d)
    return np.concatenate([x, x]), np.concatenate([h, h]), np.concatenate([y, y + 1])


@pytest.mark.parametrize("solver", ["dual-cg", "dual-mixed"])
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_labels_that_cannot_all_be_met(quick, monkeypatch, solver, dtype):
    x, h, y = repeated(30, 8)
    for how, what in (({"rtol": 1e-5}, "a residual of .* above rtol"), ({}, "above")):
        with pytest.warns(ConvergenceWarning, match=f"{solver} has reached .*{what}"):
            result = fit_gamma(x, h, y, solver=solver, dtype=dtype, **how)
    assert result.residual > 1e-5 and result.solver == solver
    prefer(monkeypatch, solver)
    result = fit_gamma(x, h, y, dtype=dtype)
    assert result.solver == "dual" and result.residual <= 1e-5
    expected = reference(x, h, y, 0.0)
    np.testing.assert_allclose(result.gamma, expected, atol=1e-8 * np.abs(expected).max())


def test_a_ridge_too_small_for_the_dual_side(quick, monkeypatch):
    """Just above the threshold the dual side is cheaper, but its system is all but singular."""
    (x, h, y), _ = draw(20, 421 / 400, 100, 0.5)
    exact = fit_gamma(x, h, y, 1e-14, solver="primal").gamma
    for formed in (solvers._FORMED, 0):  # from the features, and where these are too many
        monkeypatch.setattr(solvers, "_FORMED", formed)
        result = fit_gamma(x, h, y, 1e-14, solver="dual")
        assert result.residual <= 1e-5
        np.testing.assert_allclose(result.gamma, exact, atol=1e-4 * np.abs(exact).max())
    result = fit_gamma(x, h, y, 1e-14, rtol=1e-5)
    assert result.solver == "primal" and result.residual <= 1e-5
    assert fit_gamma(x, h, y, 1e-2, rtol=1e-5, dtype="float64").solver.startswith("dual")


def test_a_path_falls_back_too(monkeypatch):
    x, h, y = repeated(30, 8)
    lams = [0.0, 0.1]
    with pytest.warns(ConvergenceWarning, match="cg has reached a residual"):
        result = fit_gamma_path(x, h, y, lams, solver="cg")
    assert result.solver == "cg" and result.residual[0] > 1e-5
    monkeypatch.setattr(cost, "eigen_operations", lambda size: 1e30)
    result = fit_gamma_path(x, h, y, lams)
    assert result.solver == "eigen" and np.max(result.residual) <= 1e-5
    for gamma, lam in zip(result.gamma, lams, strict=True):
        np.testing.assert_allclose(gamma, reference(x, h, y, lam), atol=1e-8)
    # What does not fit into memory is not tried.
    monkeypatch.setattr(fit, "_LARGEST", 0)
    with pytest.warns(ConvergenceWarning, match="cg has reached"):
        fit_gamma_path(x, h, y, lams)
    monkeypatch.setattr(cost, "eigen_operations", lambda size: -1e30)
    with pytest.warns(ConvergenceWarning, match="cg has reached"):
        fit_gamma_path(x, h, y, lams)


@pytest.mark.parametrize("side", ["dual", "primal"])
def test_a_factor_that_fails(quick, monkeypatch, side):
    x, h, y = data(60 if side == "dual" else 90, 8)
    expected = fit_gamma(x, h, y, solver=side).gamma
    tries = []

    def refuse(matrix):
        tries.append(matrix.dtype)
        if matrix.dtype == np.float32:
            raise np.linalg.LinAlgError("not definite")
        return np.linalg.cholesky(matrix)

    def invalid(matrix):
        return np.nan * matrix if matrix.dtype == np.float32 else np.linalg.cholesky(matrix)

    for failing in (refuse, invalid):
        monkeypatch.setattr(_linalg, "cholesky", failing)
        with pytest.warns(ConvergenceWarning, match=f"{side}-mixed has reached"):
            result = fit_gamma(x, h, y, solver=f"{side}-mixed")
        assert result.iterations == 0 and result.residual == 1 and not np.any(result.gamma)
        with monkeypatch.context() as chosen:
            prefer(chosen, f"{side}-mixed")
            result = fit_gamma(x, h, y)
        assert result.solver == side and result.residual <= 1e-5
        np.testing.assert_allclose(result.gamma, expected, atol=1e-8 * np.abs(expected).max())
    assert tries[:3] == [np.float32] * 3  # each with a larger lift


def test_a_factor_is_lifted_until_it_is_definite():
    """Repeated contexts with the same labels: a kernel of half the rank, yet consistent."""
    x, h, y = (np.concatenate([part, part]) for part in data(60, 10))
    result = fit_gamma(x, h, y, solver="dual-mixed")
    assert result.residual <= 1e-5
    expected = reference(x, h, y, 0.0)
    np.testing.assert_allclose(result.gamma, expected, atol=1e-4 * np.abs(expected).max())


def test_nan_is_no_convergence(monkeypatch):
    bad = solvers.Solution(np.full((5, 6), np.nan), 3, np.nan, np.nan)
    x, h, y = data(20, 5)
    monkeypatch.setitem(SOLVERS, "dual-cg", lambda problem: bad)
    for how, what in (({"rtol": 1e-5}, "a residual"), ({}, "errors that may be off by a share")):
        with pytest.warns(ConvergenceWarning, match=f"dual-cg has reached {what} of nan"):
            result = fit_gamma(x, h, y, solver="dual-cg", **how)
    assert np.isnan(result.residual)
    monkeypatch.setitem(solvers.PATH_SOLVERS, "cg", lambda problem, ridges: ([bad.gamma], 3))
    with pytest.warns(ConvergenceWarning, match="cg has reached a residual of nan"):
        fit_gamma_path(x, h, y, [1.0], solver="cg")


def test_one_warning_that_points_to_the_caller():
    for call in (fit_gamma, lambda *data, **how: fit_gamma_path(*data, [0.0], **how)):
        solver = "dual-cg" if call is fit_gamma else "cg"
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            call(*repeated(30, 8), solver=solver)
        (warning,) = record
        assert warning.category is ConvergenceWarning and warning.filename == __file__


@pytest.mark.parametrize("garbage", ["nothing", "noise", "nan", "half"])
@pytest.mark.parametrize(("solver", "n"), [("dual-cg", 30), ("primal-cg", 90)])
def test_float32_that_goes_nowhere_is_given_up(monkeypatch, garbage, solver, n):
    x, h, y = data(n, 7)
    true, precisions = solvers.conjugate_gradients, []

    def stagnating(operator, rhs, **keywords):
        precisions.append(rhs.dtype)
        (z,), iterations = true(operator, rhs, **keywords)
        if rhs.dtype == np.float32:
            z = {"nothing": 0 * z, "noise": 1e3 * z[::-1], "nan": np.nan * z, "half": z * 0.4}[
                garbage
            ]
        return [z], iterations

    monkeypatch.setattr(solvers, "conjugate_gradients", stagnating)
    result = fit_gamma(x, h, y, solver=solver, dtype="float32", rtol=1e-9)
    assert precisions[0] == np.float32 and precisions[-1] == np.float64
    assert precisions.count(np.float32) == 1 and result.residual <= 1e-9
    expected = fit_gamma(x, h, y, solver=solver.split("-")[0]).gamma
    np.testing.assert_allclose(result.gamma, expected, atol=1e-6 * np.abs(expected).max())


def test_float32_reaches_what_only_float64_can():
    for n, solver in ((60, "dual-cg"), (200, "primal-cg")):
        x, h, y = data(n, 10)
        for rtol in (1e-3, 1e-6, 1e-12):
            assert fit_gamma(x, h, y, solver=solver, dtype="float32", rtol=rtol).residual <= rtol


# The choice ---------------------------------------------------------------------------------------


def docstring_costs(n, d, ridge, t):
    """What the docstring of `fit_gamma` says, without the smaller terms."""
    features = d * (d + 1)
    dual, primal = 2 * d * n**2 + n**3 / 3, n * d**4 / 2 + features**3 / 3
    product = 4 * n * d**2
    costs = {}
    if n <= features or ridge > 0:
        costs |= {"dual": 1.5 * dual, "dual-mixed": dual / 2 + 4 * product}
    if n > features or ridge > 0:
        costs["primal"] = 1.5 * primal
    if n > features:
        costs["primal-mixed"] = primal / 2 + 4 * product
    iterating = "dual-cg" if n <= features else "primal-cg"
    costs[iterating] = cost.iterations(iterating, n, d, t, ridge) * product
    return costs


@pytest.mark.parametrize("d", [30, 60, 100])
@pytest.mark.parametrize("tau", [0.05, 0.3, 0.9, 1.0, 1.02, 1.1, 2.0, 8.0])
def test_choice_is_that_of_the_docstring(d, tau):
    (x, h, y), _ = draw(d, min(tau, 1.0), 10, 2)
    n = round(tau * d**2)
    # More contexts than these have the same second moments; their number alone matters here.
    rows = np.arange(n) % len(x)
    x, h, y = x[rows] * (1 + 1e-9 * np.arange(n)[:, None]), h[rows], y[rows]  # all different
    for lam in (0.0, 1e-3, 1.0):
        ridge = lam * n / d
        problem = Problem(x, h, y, ridge, 1e-5, np.float64)
        t = np.linalg.eigvalsh(h.T @ h / n) * np.mean(x**2)
        costs = docstring_costs(n, d, ridge, t)
        chosen = fit._choose(problem)
        # The terms left out are of relative order 1/d, and the solution with a factor in float32.
        assert costs[chosen] <= 2.2 * min(costs.values())


def test_small_problems_are_solved_directly():
    for n, d in ((5, 4), (60, 8), (200, 12)):
        for lam in (0.0, 1.0):
            assert fit_gamma(*data(n, d), lam).solver in ("dual", "primal")


def test_large_problems_iterate():
    (x, h, y), _ = draw(30, 3.0, 10, 2)
    result = fit_gamma(x, h, y)
    assert result.solver == "primal-cg"
    for dtype in ("float32", "float64"):
        result = fit_gamma(x, h, y, dtype=dtype, rtol=1e-5)
        assert result.solver == "primal-cg" and result.residual <= 1e-5


def test_no_matrix_above_8_gib():
    def bytes_of(solver, n, d):
        if solver.endswith("cg"):
            return 0
        size = n if solver.startswith("dual") else d * (d + 1)
        return size**2 * (4 if solver.endswith("mixed") else 8)

    for d in (100, 180, 200, 214, 216, 300):
        for n in (1000, 32_000, 33_000, 46_000, 47_000, 10**6):
            for ridge in (0.0, 1.0):
                eligible = fit._eligible(n, d, ridge)
                assert any(solver.endswith("cg") for solver in eligible)
                assert all(bytes_of(solver, n, d) <= 2**33 for solver in eligible)
                below = n <= d * (d + 1)
                wanted = {*DUAL} if below else {"primal", "primal-mixed", "primal-cg"}
                if ridge > 0:
                    wanted |= {"primal"} if below else {"dual", "dual-mixed"}
                assert set(eligible) == {s for s in wanted if bytes_of(s, n, d) <= 2**33}


# Paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["auto", "cg", "eigen"])
@pytest.mark.parametrize("n", [10, 42, 43, 100])
def test_a_path_is_made_of_fits(xp, solver, n):
    x, h, y = data(n, 6)
    lams = [0.3, 0.0, 1e-2, 30.0, 0.3, 1e9]
    if solver == "cg" and n in (42, 43):
        lams.remove(0.0)  # as ill-conditioned as can be, and without a preconditioner
    path = fit_gamma_path(*(xp.asarray(p) for p in (x, h, y)), lams, solver=solver, rtol=1e-9)
    assert path.gamma.shape == (len(lams), 6, 7) and path.gamma.dtype == xp.float64
    assert type(path.gamma) is type(xp.asarray(x)) and isinstance(path.residual, np.ndarray)
    assert path.residual.shape == (len(lams),) and np.max(path.residual) <= 1e-9
    assert path.solver == solver or (solver == "auto" and path.solver in ("cg", "eigen"))
    assert (path.iterations > 0) == (path.solver == "cg")
    for gamma, lam in zip(np.asarray(path.gamma), lams, strict=True):
        alone = fit_gamma(x, h, y, lam, rtol=1e-9).gamma
        condition = np.linalg.cond(features(x, h)) if lam == 0 else 1e2
        np.testing.assert_allclose(
            gamma, alone, rtol=0, atol=1e-8 * condition * np.abs(alone).max()
        )
    single = fit_gamma_path(x, h, y, np.array([0.3]), solver=path.solver, rtol=1e-9)
    np.testing.assert_allclose(single.gamma[0], np.asarray(path.gamma)[0], rtol=1e-6)


@settings(max_examples=25)
@given(
    d=st.integers(1, 5),
    n=st.integers(1, 60),
    seed=st.integers(0, 99),
    lams=st.lists(
        st.one_of(st.just(0.0), st.floats(1e-2, 1e2), st.just(1e75)), min_size=1, max_size=4
    ),
)
def test_paths_keep_the_promise(d, n, seed, lams):
    x, h, y = data(n, d, seed)
    for solver in ("auto", "eigen"):
        path = fit_gamma_path(x, h, y, lams, solver=solver)
        assert np.all(path.residual <= 1e-5)


def test_a_path_takes_the_faster_way():
    (x, h, y), _ = draw(24, 0.8, 10, 2)
    assert fit_gamma_path(x, h, y, [0.0]).solver == "cg"
    (x, h, y), _ = draw(10, 0.99, 100, 2)
    assert fit_gamma_path(x, h, y, [0.0, 1.0]).solver == "eigen"
    assert fit_gamma_path(x, h, y, [1.0, 10.0]).solver == "cg"
