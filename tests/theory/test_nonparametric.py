"""Linear attention on cosine features: quadrature, sampled contexts, and limits."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import block_diag
from scipy.special import zeta

from iclkit.theory import nonparametric as np_

NODES, WEIGHTS = np.polynomial.legendre.leggauss(120)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2


def random_covariance(rng, m):
    root = rng.standard_normal((m, m))
    return root @ root.T / m


def sampled(gamma, tasks, ell, rho, rng):
    """Squared errors over the query of one context for each task, features beyond m included."""
    m, M = len(gamma), tasks.shape[1]
    errors = []
    for theta in tasks:
        phi = np_.cosines(rng.uniform(size=ell), M)
        y = phi @ theta + rho**0.5 * rng.standard_normal(ell)
        answer = np.zeros(M)
        answer[:m] = gamma @ (y @ phi[:, :m]) / ell
        errors.append(np.sum((answer - theta) ** 2))
    return np.array(errors)


def test_features_are_orthonormal_and_of_mean_zero():
    phi = np_.cosines(NODES, 9)
    np.testing.assert_allclose(phi.T @ (WEIGHTS[:, None] * phi), np.eye(9), atol=1e-12)
    np.testing.assert_allclose(WEIGHTS @ phi, 0, atol=1e-12)


@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.booleans())
def test_scatter_is_what_quadrature_finds(m, seed, diagonal):
    rng = np.random.default_rng(seed)
    covariance = rng.uniform(size=m) if diagonal else random_covariance(rng, m)
    full = np.diag(covariance) if diagonal else covariance
    phi = np_.cosines(NODES, m)
    weights = WEIGHTS * np.sum((phi @ full) * phi, axis=1)
    np.testing.assert_allclose(
        np_.scatter(covariance), phi.T @ (weights[:, None] * phi), atol=1e-11 * m
    )


def test_variances_of_a_smooth_law_add_up_to_zeta():
    for a, m in ((0.75, 1), (1.0, 40), (3.0, 7)):
        variances, rest = np_.smooth_law(a, m)
        assert variances.sum() + rest == pytest.approx(zeta(2 * a + 1), rel=1e-12)
        assert variances[-1] == pytest.approx(m ** -(2 * a + 1), rel=1e-12)


@pytest.mark.parametrize(("ell", "rho", "m"), [(1, 0.5, 3), (7, 0.0, 4), (40, 2.0, 6)])
def test_the_risk_of_any_layer_is_that_of_sampled_contexts(ell, rho, m):
    """For correlated coefficients and a Γ without symmetry."""
    rng = np.random.default_rng([ell, m])
    covariance = random_covariance(rng, m)
    gamma = np_.best_gamma(covariance, ell, rho + 0.1) + 0.2 * rng.standard_normal((m, m))
    tasks = rng.multivariate_normal(np.zeros(m), covariance, size=4000)
    errors = sampled(gamma, tasks, ell, rho, rng)
    exact = np_.risk(gamma, covariance, ell, rho)
    assert abs(errors.mean() - exact) < 3 * errors.std(ddof=1) / len(errors) ** 0.5


def test_frequencies_without_a_feature_are_label_noise():
    """The layer has three features, and the functions sixteen frequencies."""
    (variances, _), m, ell, rho = np_.smooth_law(0.6, 16), 3, 12, 0.3
    rest, rng = variances[m:].sum(), np.random.default_rng(5)
    gamma = np_.best_gamma(variances[:m], ell, rho + rest)
    tasks = rng.standard_normal((6000, 16)) * variances**0.5
    errors = sampled(gamma, tasks, ell, rho, rng)
    exact = np_.risk(gamma, variances[:m], ell, rho + rest) + rest
    assert abs(errors.mean() - exact) < 3 * errors.std(ddof=1) / len(errors) ** 0.5
    # The same in the larger space, to rounding.
    padded = block_diag(gamma, np.zeros((13, 13)))
    assert np_.risk(padded, variances, ell, rho) == pytest.approx(exact, rel=1e-12)


@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.integers(1, 200), st.floats(0.01, 3))
def test_no_other_gamma_is_better(m, seed, ell, rho):
    rng = np.random.default_rng(seed)
    covariance = random_covariance(rng, m)
    for diagonal in (False, True):
        best = np_.best_gamma(covariance, ell, rho, diagonal=diagonal)
        least = np_.risk(best, covariance, ell, rho)
        for _ in range(3):
            step = 0.1 * rng.standard_normal((m, m))
            step = np.diag(np.diag(step)) if diagonal else step
            sides = [np_.risk(best + s * step, covariance, ell, rho) for s in (1, -1)]
            assert min(sides) > least
            # The minimum is where the linear term vanishes.
            assert sides[0] == pytest.approx(sides[1], rel=1e-8)


def test_what_no_task_has_is_ignored():
    law = np.array([1.0, 0.0, 0.3, 0.0])
    gamma = np_.best_gamma(law, 30, 0.2)
    assert not gamma[[1, 3]].any() and gamma[[0, 2], [0, 2]].all()
    assert not np_.best_gamma(law, 30, 0.2, diagonal=True)[1].any()


def test_long_contexts_tell_everything():
    law, _ = np_.smooth_law(1.0, 5)
    np.testing.assert_allclose(np_.best_gamma(law, 10**10, 0.3), np.eye(5), atol=1e-6)
    # One over the length, with the variance of the labels for the noise.
    ell = 10**8
    least = np_.risk(np_.best_gamma(law, ell, 0.3), law, ell, 0.3)
    own = np.diag(np_.scatter(law)) - law
    assert least * ell == pytest.approx(np.sum(0.3 + own), rel=1e-4)


@pytest.mark.parametrize("ell", [10**7, 10**12, 2**53])
def test_long_contexts_cancel_no_digits(ell):
    law, _ = np_.smooth_law(1.0, 50)
    D = 0.3 * np.eye(50) + np_.scatter(law) - np.diag(law)
    parallel = np.trace(np.linalg.inv(np.diag(1 / law) + ell * np.linalg.inv(D)))
    found = np_.risk(np_.best_gamma(law, ell, 0.3), law, ell, 0.3)
    assert found == pytest.approx(parallel, rel=1e-12, abs=0)


def test_the_worst_function_is_the_worst_of_many_and_one_that_was_sampled():
    rng, (m, ell, rho, a) = np.random.default_rng(3), (6, 9, 0.4, 0.8)
    law, _ = np_.smooth_law(a, m)
    gamma = np_.best_gamma(law, ell, rho) + 0.05 * rng.standard_normal((m, m))
    worst = np_.worst_risk(gamma, ell, rho, a)
    directions = rng.standard_normal((3000, m))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    tasks = directions * np.arange(1, m + 1) ** -a
    risks = [np_.risk(gamma, np.outer(theta, theta), ell, rho) for theta in tasks]
    assert 0.98 * worst < max(risks) <= worst * (1 + 1e-12)
    theta = tasks[np.argmax(risks)]
    errors = sampled(gamma, np.tile(theta, (6000, 1)), ell, rho, rng)
    assert abs(errors.mean() - max(risks)) < 3 * errors.std(ddof=1) / len(errors) ** 0.5


def test_the_posterior_is_better_than_the_layer_and_worse_than_shrinkage():
    (variances, _), ell, rho = np_.smooth_law(1.0, 60), 64, 0.5
    rng = np.random.default_rng(1)
    risks = [np_.posterior_risk(rng.uniform(size=ell), variances, rho) for _ in range(60)]
    bar = np.std(risks, ddof=1) / 60**0.5
    layer = np_.risk(np_.best_gamma(variances, ell, rho), variances, ell, rho)
    assert np_.shrinkage_risk(variances, ell, rho) + 3 * bar < np.mean(risks) < layer - 3 * bar


def test_the_posterior_has_the_variance_of_its_precision():
    """The other formula, in the space of the coefficients."""
    rng, (variances, _), rho = np.random.default_rng(2), np_.smooth_law(0.8, 7), 0.2
    x = rng.uniform(size=11)
    phi = np_.cosines(x, 7)
    expected = np.trace(np.linalg.inv(np.diag(1 / variances) + phi.T @ phi / rho))
    assert np_.posterior_risk(x, variances, rho) == pytest.approx(expected, rel=1e-10, abs=0)
    # Features that the tokens make orthogonal: the midpoints.
    middle = (np.arange(20) + 0.5) / 20
    shrunk = np_.shrinkage_risk(variances, 20, rho)
    assert np_.posterior_risk(middle, variances, rho) == pytest.approx(shrunk, rel=1e-10)


@pytest.mark.parametrize("rho", [1e-3, 1e-16])
@pytest.mark.parametrize("n", [2, 50])
def test_the_same_token_many_times_tells_one_value(n, rho):
    """Its labels are one label, with noise of a smaller variance."""
    variances = np.array([1.0, 0.1, 0.1, 0.1])
    phi = np_.cosines([0.3], 4)[0]
    told = np.sum((variances * phi) ** 2) / (variances @ phi**2 + rho / n)
    found = np_.posterior_risk(np.full(n, 0.3), variances, rho)
    assert found == pytest.approx(variances.sum() - told, rel=1e-10)


def test_the_posterior_is_precise_with_hardly_any_noise():
    """More tokens than coefficients: what is left is the noise of a regression."""
    variances, rho = np.array([1.0, 0.3, 0.1]), 1e-15
    phi = np_.cosines(np.linspace(0.05, 0.9, 40), 3)
    expected = rho * np.trace(np.linalg.inv(phi.T @ phi))
    found = np_.posterior_risk(np.linspace(0.05, 0.9, 40), variances, rho)
    assert found == pytest.approx(expected, rel=1e-10, abs=0)


# What is refused ------------------------------------------------------------------------------

RIGHT = {
    np_.cosines: {"x": [0.1, 0.2], "m": 3},
    np_.smooth_law: {"smoothness": 1.0, "m": 3},
    np_.scatter: {"covariance": [1.0, 0.5]},
    np_.best_gamma: {"covariance": [1.0, 0.5], "ell": 3, "rho": 0.1, "diagonal": False},
    np_.risk: {"gamma": np.eye(2), "covariance": [1.0, 0.5], "ell": 3, "rho": 0.1},
    np_.worst_risk: {"gamma": np.eye(2), "ell": 3, "rho": 0.1, "smoothness": 1.0},
    np_.shrinkage_risk: {"variances": [1.0, 0.5], "ell": 3, "rho": 0.1},
    np_.posterior_risk: {"x": [0.1, 0.2], "variances": [1.0, 0.5], "rho": 0.1},
}


@pytest.mark.parametrize("function", RIGHT, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "value",
    [None, "abc", np.nan, -np.inf, 1j, {}, object(), [[1.0], [2.0, 3.0]], -0.5],
    ids=lambda value: f"{type(value).__name__}-{value}" if value == -0.5 else type(value).__name__,
)
def test_garbage_is_refused_by_name(function, value):
    function(**RIGHT[function])
    for argument in RIGHT[function]:
        with pytest.raises((TypeError, ValueError), match=rf"\b{argument}\b"):
            function(**RIGHT[function] | {argument: value})


@pytest.mark.parametrize("function", RIGHT, ids=lambda f: f.__name__)
def test_labels_that_would_be_lost_are_refused(function):
    for name in {"x", "covariance", "gamma", "variances"} & RIGHT[function].keys():
        labelled = xr.DataArray(RIGHT[function][name])
        with pytest.raises(TypeError, match=rf"^{name} must be an array without labels"):
            function(**RIGHT[function] | {name: labelled})


@pytest.mark.parametrize(("function", "name", "value"), [
    (np_.cosines, "x", [1.1]), (np_.cosines, "m", 0), (np_.smooth_law, "smoothness", np.inf),
    (np_.smooth_law, "smoothness", 0.0), (np_.scatter, "covariance", [1.0, -0.1]),
    (np_.scatter, "covariance", [[1.0, 0.2], [0.1, 1.0]]), (np_.scatter, "covariance", []),
    (np_.scatter, "covariance", [[-1.0, 0.0], [0.0, 1.0]]), (np_.risk, "gamma", np.eye(3)),
    (np_.scatter, "covariance", np.ones((2, 3))), (np_.risk, "gamma", np.full((2, 2), np.nan)),
    (np_.shrinkage_risk, "rho", 0.0), (np_.posterior_risk, "rho", 0.0),
    (np_.posterior_risk, "variances", np.eye(2)), (np_.best_gamma, "ell", 2.5),
    (np_.smooth_law, "smoothness", 1e-4), (np_.smooth_law, "smoothness", 2e3),
    (np_.risk, "covariance", [[1.0, 2.0], [2.0, 1.0]]), (np_.risk, "gamma", np.eye(2) * 1e80),
    (np_.worst_risk, "gamma", np.eye(2) * 1e200), (np_.posterior_risk, "rho", 1e-20),
])  # fmt: skip
def test_what_is_refused(function, name, value):
    with pytest.raises((TypeError, ValueError), match=rf"^{name} must"):
        function(**RIGHT[function] | {name: value})
