"""Bayes estimators: limits against exact arithmetic and quadrature, means by their definition."""

import math

import array_api_strict
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import softmax

from iclkit import backend
from iclkit.data.contexts import draw_contexts
from iclkit.data.tasks import PRIORS, draw_tasks
from iclkit.runs.many import sweep
from iclkit.theory.bayes import (
    dmmse_error,
    dmmse_mean,
    estimators,
    mutual_information,
    ridge_error,
    ridge_mean,
)
from iclkit.theory.limit import stieltjes

INF = np.inf
priors = pytest.mark.parametrize("prior", PRIORS)


def log_floats(low, high):
    return st.floats(np.log10(low), np.log10(high)).map(lambda e: float(10.0**e))


ALPHA, RHO = log_floats(1e-3, 1e5), log_floats(1e-6, 1e3)


def marchenko_pastur(function, alpha):
    """Average of a function of the eigenvalue of XᵀX, by quadrature."""
    centre, radius = 1 + alpha, 2 * alpha**0.5

    def integrand(angle):
        value = centre + radius * np.cos(angle)
        return function(value) * (radius * np.sin(angle)) ** 2 / (2 * np.pi * value)

    bulk, _ = quad(integrand, 0, np.pi, epsabs=0, epsrel=1e-11)
    return bulk + max(0.0, 1 - alpha) * function(0.0)


# --- limits: Bayes ridge and the information -------------------------------------------------


def exact_limits(alpha, rho):
    """Error and information by the formulas of the book, with their cancellations."""
    with mp.workdps(400):
        alpha, rho = mp.mpf(alpha), mp.mpf(rho)
        b = rho + alpha - 1
        a = 2 / (b + mp.sqrt(b**2 + 4 * rho))
        information = (rho * a - 1 - mp.log(rho * a) + alpha * mp.log(1 + a)) / 2
        return float(rho + rho * a), float(information)


def test_limits_agree_with_400_digits_up_to_the_edge_of_floats():
    for alpha in (1e-75, 1e-10, 0.5, 1 - 2**-53, 1.0, 1 + 2**-52, 3.0, 1e10, 1e75):
        for rho in (1e-75, 1e-20, 1e-3, 1.0, 1e20, 1e75):
            error, information = exact_limits(alpha, rho)
            assert ridge_error(alpha, rho) == pytest.approx(error, rel=1e-14, abs=0)
            assert mutual_information(alpha, rho) == pytest.approx(information, rel=1e-14, abs=0)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("rho", [0.01, 2.0])
def test_limits_are_averages_over_the_spectrum(alpha, rho):
    variance = marchenko_pastur(lambda x: 1 / (1 + x / rho), alpha)
    information = marchenko_pastur(lambda x: np.log1p(x / rho) / 2, alpha)
    assert ridge_error(alpha, rho) == pytest.approx(rho + variance, rel=1e-9)
    assert mutual_information(alpha, rho) == pytest.approx(information, rel=1e-9)


@given(alpha=ALPHA, rho=RHO)
def test_ridge_error_is_the_stieltjes_transform(alpha, rho):
    expected = rho + rho / alpha * stieltjes(rho / alpha, alpha)
    assert ridge_error(alpha, rho) == pytest.approx(expected, rel=1e-13)


@given(alpha=ALPHA, rho=RHO)
def test_longer_contexts_tell_more_and_noise_tells_less(alpha, rho):
    assert rho <= ridge_error(2 * alpha, rho) <= ridge_error(alpha, rho) <= 1 + rho
    assert ridge_error(alpha, rho) < ridge_error(alpha, 2 * rho)
    assert mutual_information(alpha, rho) < mutual_information(2 * alpha, rho)
    assert mutual_information(alpha, 2 * rho) < mutual_information(alpha, rho)
    # The chain rule: one more token tells as much as its label varies, ½ log((ρ + v)/ρ).
    step = 1e-5 * alpha
    slope = (
        mutual_information(alpha + step, rho) - mutual_information(alpha - step, rho)
    ) / (2 * step)  # fmt: skip
    assert slope == pytest.approx(np.log(ridge_error(alpha, rho) / rho) / 2, rel=1e-3, abs=1e-9)


def test_limits_at_their_edges():
    np.testing.assert_array_equal(ridge_error([0.25, 1.0, 3.0, INF], 0.0), [0.75, 0, 0, 0])
    assert ridge_error(INF, 0.3) == 0.3
    np.testing.assert_array_equal(mutual_information([0.25, 1.0, 3.0, INF], 0.0), INF)
    assert mutual_information(INF, 0.3) == INF


# --- limits: dMMSE ----------------------------------------------------------------------------


def tempered(alpha, rho, beta, prior):
    """KL and error by quadrature: posterior precision ζ + βXᵀX/ρ, ζ such that E|w|² = d."""

    def average(function):
        return marchenko_pastur(lambda x: function(beta * x / rho), alpha)

    def excess_length(zeta):
        return average(lambda s: 1 / (zeta + s) + (s**2 + beta * s) / (zeta + s) ** 2) - 1

    zeta = brentq(excess_length, 0.1, 2, xtol=1e-14) if prior == "sphere" else 1.0
    variance = average(lambda s: 1 / (zeta + s))
    length = average(lambda s: (s**2 + beta * s) / (zeta + s) ** 2)
    bias = average(lambda s: (zeta**2 + beta * s) / (zeta + s) ** 2)
    divergence = (average(lambda s: np.log(zeta + s)) + variance + length - 1) / 2
    return divergence, rho + bias + (1 - beta) * variance


@priors
@pytest.mark.parametrize("alpha", [0.4, 1.0, 5.0])
@pytest.mark.parametrize("beta", [1e-3, 0.1, 0.8])
def test_dmmse_error_is_the_tempered_posterior(alpha, beta, prior):
    rho = 0.1
    divergence, error = tempered(alpha, rho, beta, prior)
    assert dmmse_error(alpha, rho, divergence, prior=prior) == pytest.approx(error, rel=1e-8)


@priors
def test_tempered_posterior_of_matrices(prior):
    """The same from tasks and tokens, with no knowledge of the spectrum."""
    rng, d, alpha, rho, beta = np.random.default_rng(0), 500, 2.0, 0.2, 0.3
    x = rng.standard_normal((int(alpha * d), d)) / d**0.5
    w = draw_tasks(1, d, rng)[0]
    y = x @ w + rho**0.5 * rng.standard_normal(len(x))
    inner = beta / rho * x.T @ x

    def posterior(zeta):
        covariance = np.linalg.inv(zeta * np.eye(d) + inner)
        return covariance, covariance @ x.T @ y * beta / rho

    def excess_length(zeta):
        covariance, mean = posterior(zeta)
        return np.trace(covariance) + mean @ mean - d

    zeta = brentq(excess_length, 0.2, 2, rtol=1e-3) if prior == "sphere" else 1.0
    covariance, mean = posterior(zeta)
    log_det = np.linalg.slogdet(covariance)[1]
    divergence = (np.trace(covariance) + mean @ mean - d - log_det) / (2 * d)
    error = rho + (mean - w) @ (mean - w) / d + (1 - beta) * np.trace(covariance) / d
    # Fluctuations are O(1/√d) here, 3 %; the two priors are 7 % apart.
    assert dmmse_error(alpha, rho, divergence, prior=prior) == pytest.approx(error, rel=0.03)


@pytest.mark.parametrize(("d", "error"), [(20, 1.056), (80, 1.421), (320, 1.672)])
def test_dmmse_error_at_known_points(d, error):
    assert dmmse_error(5, 0.01, math.log(d) / d) == pytest.approx(error, abs=6e-4)


def test_endless_contexts_find_the_nearest_task():
    m = np.array([0.01, 0.3, 0.9, 1 - 1e-9])  # overlap of the nearest of exp(ds) random directions
    sphere = dmmse_error(INF, 0.1, -np.log1p(-(m**2)) / 2)
    np.testing.assert_allclose(sphere, 0.1 + 2 * (1 - m), rtol=1e-12)
    v = 1 - m
    gaussian = dmmse_error(INF, 0.1, (v**2 - v - np.log(v)) / 2, prior="gaussian")
    np.testing.assert_allclose(gaussian, 0.1 + v + v**2, rtol=1e-12)


@priors
@settings(max_examples=25)
@given(alpha=ALPHA, rho=st.one_of(st.just(0.0), RHO), share=st.floats(1e-3, 0.998))
def test_dmmse_error_falls_from_a_wrong_task_to_ridge(prior, alpha, rho, share):
    threshold = min(mutual_information(alpha, rho), 20.0)
    error = dmmse_error(
        alpha, rho, [0.0, share * threshold, (share + 1e-3) * threshold], prior=prior
    )
    assert error[0] == pytest.approx(2 + rho, rel=1e-15)
    assert error[2] <= error[1] * (1 + 1e-14) and error[1] <= error[0]
    assert error[2] >= ridge_error(alpha, rho) * (1 - 1e-14)


@priors
@pytest.mark.parametrize("alpha", [0.4, 1.0, 5.0])
def test_dmmse_error_meets_ridge_at_the_threshold(alpha, prior):
    threshold = mutual_information(alpha, 0.1)
    ridge = ridge_error(alpha, 0.1)
    np.testing.assert_array_equal(
        dmmse_error(alpha, 0.1, threshold * np.array([1, 1.1, 1e9]), prior=prior), ridge
    )
    below = dmmse_error(alpha, 0.1, threshold * (1 - np.array([1e-2, 1e-4, 1e-6])), prior=prior)
    gaps = below - ridge
    assert gaps[0] / gaps[1] == pytest.approx(100, rel=0.2)  # linearly, with a kink
    assert gaps[1] / gaps[2] == pytest.approx(100, rel=0.01)


@priors
def test_dmmse_error_without_noise_is_the_limit_and_never_reaches_ridge(prior):
    for alpha in (0.3, 1.0, 4.0):
        limit = dmmse_error(alpha, 0.0, 0.4, prior=prior)
        gaps = [dmmse_error(alpha, rho, 0.4, prior=prior) - limit for rho in (1e-5, 1e-6)]
        assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.01)
    # Of the tasks that fit, one is as good as another: twice the error of their mean.
    assert dmmse_error(0.3, 0.0, 50.0, prior=prior) == pytest.approx(1.4, rel=1e-12)


@priors
def test_dmmse_error_at_the_edge_of_floats(prior):
    ratios = np.array([1e-75, 1e-10, 0.5, 1 - 2**-53, 1.0, 1 + 2**-52, 1e10, 1e75, INF])
    others = np.array([0.0, 1e-75, 1e-20, 1e-3, 1.0, 1e3, 1e75])
    alpha, rho, log_diversity = np.meshgrid(ratios, others, others, indexing="ij")
    error = dmmse_error(alpha, rho, log_diversity, prior=prior)
    assert np.all(error >= ridge_error(alpha, rho) * (1 - 1e-14))  # also false for NaN
    assert np.all(error <= (2 + rho) * (1 + 1e-14))
    assert np.all(np.diff(error, axis=2) <= 1e-14 * error[:, :, 1:])
    assert not np.any(np.isnan(mutual_information(alpha, rho)))


# --- ridge_mean -------------------------------------------------------------------------------


def context(n, ell, d, seed, xp=np):
    rng = np.random.default_rng(seed)
    return (xp.asarray(rng.standard_normal(shape)) for shape in ((n, ell, d), (n, ell)))


@pytest.mark.parametrize("ell", [1, 4, 5, 20])
@pytest.mark.parametrize("rho", [0.0, 1e-9, 0.3])
def test_ridge_mean_is_penalised_least_squares(ell, rho, xp):
    tokens, labels = context(3, ell, 5, 0, xp)
    mean = np.asarray(ridge_mean(tokens, labels, rho))
    for row in range(3):
        x, y = np.asarray(tokens)[row], np.asarray(labels)[row]
        padded = np.concatenate([x, rho**0.5 * np.eye(5)])
        expected = np.linalg.lstsq(padded, np.concatenate([y, np.zeros(5)]))[0]
        np.testing.assert_allclose(mean[row], expected, rtol=1e-7, atol=1e-9)


def test_ridge_mean_of_repeated_tokens_has_least_norm():
    tokens = np.ones((1, 4, 3)) * np.array([1.0, 2.0, 0.0])
    for few in (2, 4):
        mean = ridge_mean(tokens[:, :few, :], np.full((1, few), 5.0), 0.0)
        np.testing.assert_allclose(mean, [[1, 2, 0]], atol=1e-12)


@pytest.mark.parametrize("rho", [1e-75, 1e-40, 1e-18, 1e-14])
@pytest.mark.parametrize("few", [2, 4])
def test_little_noise_with_repeated_tokens(rho, few, xp):
    """Of a Gram matrix without full rank only noise was left: an error, or numbers like 1e20."""
    tokens = np.ones((3, few, 3)) * np.array(
        [[[1.0, 2.0, 0.0]], [[0.0, 0.1, 0.3]], [[7.0, 1.0, 2.0]]]
    )
    labels = np.full((3, few), 5.0) + np.arange(few)
    mean = ridge_mean(xp.asarray(tokens), xp.asarray(labels), rho)
    x = tokens[:, 0, :]
    expected = x * (labels.mean(axis=1) / (x**2).sum(axis=1))[:, None]
    np.testing.assert_allclose(np.asarray(mean), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("unit", [1e-60, 1e-20, 1e60])
def test_units_of_tokens_and_labels(unit):
    tokens, labels = context(3, 4, 6, 7)
    tasks = np.random.default_rng(1).standard_normal((9, 6))
    for mean, others in ((ridge_mean, ()), (dmmse_mean, (tasks,))):
        plain = mean(tokens, labels, *others, 0.0)
        both = mean(unit * tokens, unit * labels, *others, 0.0)
        np.testing.assert_allclose(both, plain, rtol=1e-9)


def test_ridge_mean_keeps_its_digits_for_little_noise():
    tokens, labels = context(3, 4, 9, 1)
    np.testing.assert_allclose(
        ridge_mean(tokens, labels, 1e-40), ridge_mean(tokens, labels, 0.0), rtol=1e-10
    )


# --- dmmse_mean -------------------------------------------------------------------------------


def naive(tokens, labels, tasks, rho):
    tokens, labels, tasks = (np.asarray(a, np.longdouble) for a in (tokens, labels, tasks))
    energy = ((labels[:, None, :] - tasks @ tokens.transpose(0, 2, 1)) ** 2).sum(axis=2)
    return softmax(-energy / (2 * np.longdouble(rho)), axis=1) @ tasks


@pytest.mark.parametrize("ell", [1, 3, 12])
@pytest.mark.parametrize("rho", [1e-60, 1e-6, 0.1, 1.0, 1e6])
def test_dmmse_mean_is_the_softmax_average(ell, rho, xp):
    tokens, labels = context(6, ell, 4, 2, xp)
    tasks = xp.asarray(np.random.default_rng(3).standard_normal((9, 4)))
    mean = dmmse_mean(tokens, labels, tasks, rho)
    assert isinstance(mean, type(tasks))
    np.testing.assert_allclose(
        np.asarray(mean), naive(tokens, labels, tasks, rho).astype(float), rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize("offset", [-1, 0, 1])
@pytest.mark.parametrize("blocks", [1, 2])
def test_dmmse_mean_in_blocks(offset, blocks):
    d = 60
    rows = 2**21 // (4 + (d + 1) * (d + 2) // 2)  # tasks of a block
    k = blocks * rows + offset
    tasks = draw_tasks(k, d, np.random.default_rng(4))
    answers = [
        0,
        min(rows, k - 1),
        k - 1,
        17,
    ]  # the task of each context, also at the ends of blocks
    for rho in (0.0, 0.1, 30.0, 1e5):
        tokens, labels, *_ = draw_contexts(tasks[answers], 5, rho, backend.streams(5))
        mean = dmmse_mean(tokens, labels, tasks, rho)
        expected = tasks[answers] if rho == 0 else naive(tokens, labels, tasks, rho)
        np.testing.assert_allclose(mean, expected.astype(float), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rho", [1e-2, 1e-4, 1e-6])
def test_dmmse_mean_tells_near_tasks_apart(rho):
    """Two tasks so near that little noise leaves both possible: energies that differ by O(ρ)."""
    rng, d, ell = np.random.default_rng(0), 100, 500
    tasks = draw_tasks(50, d, rng)
    tasks[1] = tasks[0] + 0.1 * rho**0.5 * rng.standard_normal(d)
    tokens, labels, *_ = draw_contexts(tasks[[0, 1, 0, 7]], ell, rho, backend.streams(6))
    labels[2] += 3.0  # a context that no task fits
    expected = naive(tokens, labels, tasks, rho)
    share = np.linalg.norm(expected[0] - tasks[0]) / np.linalg.norm(tasks[1] - tasks[0])
    assert 0.01 < share < 0.99
    error = np.abs(dmmse_mean(tokens, labels, tasks, rho) - expected)
    assert np.max(error) < 1e-8 * rho**0.5


def test_dmmse_mean_without_noise_shares_ties():
    tokens, labels = np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), np.array([[1.0], [3.0]])
    tasks = np.array([[1.0, 1.0], [1.0, -1.0], [5.0, 2.0], [1.0, 3.0]])
    nearly = np.concatenate([tasks, [[1 + 1e-6, 9.0]]])
    np.testing.assert_array_equal(dmmse_mean(tokens, labels, tasks, 0.0), [[1, 1], [1, 3]])
    np.testing.assert_array_equal(dmmse_mean(tokens, labels, nearly, 0.0), [[1, 1], [1, 3]])
    np.testing.assert_array_equal(dmmse_mean(tokens, labels, tasks[:3], 0), [[1, 0], [5, 2]])
    np.testing.assert_allclose(dmmse_mean(tokens, labels, tasks, 1e-3), [[1, 1], [1, 3]])


@given(seed=st.integers(0, 10**6), rho=st.one_of(st.just(0.0), log_floats(1e-75, 1e75)))
def test_dmmse_mean_is_an_average_of_tasks(seed, rho):
    tokens, labels = context(2, 3, 2, seed)
    tasks = np.random.default_rng(seed + 1).standard_normal((5, 2))
    np.testing.assert_allclose(
        dmmse_mean(tokens, labels, tasks[:1], rho), tasks[[0, 0]], rtol=1e-13
    )
    mean = dmmse_mean(tokens, labels, tasks, rho)
    assert np.all(mean >= tasks.min(axis=0) - 1e-12) and np.all(mean <= tasks.max(axis=0) + 1e-12)
    twice = dmmse_mean(tokens, labels, np.concatenate([tasks[::-1], tasks]), rho)
    if 1e-6 < rho or rho < 1e-20:  # in between, rounding decides between near-ties
        np.testing.assert_allclose(twice, mean, rtol=1e-6, atol=1e-6)


# --- one run ----------------------------------------------------------------------------------

POINT = {"d": 20, "alpha": 5.0, "kappa": 1.0, "rho": 0.01}


def mean_and_error(measure, runs, **point):
    values = [measure(estimators(seed, **(POINT | point))) for seed in range(runs)]
    return np.mean(values), np.std(values, ddof=1) / runs**0.5


def icl(errors):
    return errors["dmmse_icl_error"]


def test_estimators_depend_on_the_seed_alone():
    first = estimators(3, **POINT)
    assert first == estimators(3, **POINT) and first != estimators(4, **POINT)
    assert list(first) == [
        "dmmse_icl_error", "ridge_icl_error", "dmmse_idg_error", "ridge_idg_error"
    ]  # fmt: skip


@priors
def test_few_tasks_are_known_by_heart(prior):
    errors = estimators(0, **POINT, prior=prior)
    assert errors["dmmse_idg_error"] == pytest.approx(0.01, rel=1e-9)
    assert errors["dmmse_icl_error"] > 50 * errors["ridge_icl_error"]


def test_one_task_is_always_the_answer():
    errors = estimators(0, **(POINT | {"kappa": 0.05, "contexts": 7}))
    rng = backend.streams(0).tasks
    w, fresh = draw_tasks(1, 20, rng), draw_tasks(7, 20, rng)
    assert errors["dmmse_icl_error"] == pytest.approx(0.01 + np.mean((w - fresh) ** 2), rel=1e-12)
    assert errors["dmmse_idg_error"] == 0.01
    mean, error = mean_and_error(icl, 20, kappa=0.05)
    assert mean == pytest.approx(2.01, abs=4 * error)


@priors
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_ridge_reaches_its_limit(alpha, prior):
    def ridge(errors):
        return (errors["ridge_icl_error"] + errors["ridge_idg_error"]) / 2

    point = {"d": 100, "kappa": 0.2, "alpha": alpha, "rho": 0.2, "prior": prior, "contexts": 10}
    mean, error = mean_and_error(ridge, 20, **point)
    # The standard error is 1 % or less, and finite size adds a few 1/d².
    assert mean == pytest.approx(ridge_error(alpha, 0.2), abs=4 * error + 1e-3)
    assert error < 0.01 * mean


def test_countless_tasks_are_as_good_as_all():
    """In few dimensions exp(d·s_c) is small, and Gaussian tasks are what ridge is best for."""
    point = {"d": 3, "alpha": 2.0, "rho": 1.0, "prior": "gaussian", "contexts": 200}

    def gap(errors):  # on the same contexts
        return errors["dmmse_icl_error"] - errors["ridge_icl_error"]

    few, error = mean_and_error(gap, 10, **point, kappa=2.0)
    assert few > 0.1 + 4 * error
    many, error = mean_and_error(gap, 10, **point, kappa=3000.0)
    assert abs(many) < 4 * error + 2e-3 < 0.02


@priors
def test_dmmse_approaches_the_conjecture(prior):
    """The gap closes like (log d)/d; extrapolated, it is within a few hundredths of 0."""
    alpha, rho, log_diversity = 1.0, 0.5, 0.1
    limit = dmmse_error(alpha, rho, log_diversity, prior=prior)
    sizes, gaps, errors = [24, 36, 48], [], []
    for d in sizes:
        kappa = round(math.exp(d * log_diversity)) / d
        point = {"d": d, "alpha": alpha, "kappa": kappa, "rho": rho, "prior": prior}
        mean, error = mean_and_error(icl, 40, **point)
        gaps.append(mean - limit)
        errors.append(error)
    x = np.log(sizes) / sizes
    (slope, rest), covariance = np.polyfit(x, gaps, 1, w=1 / np.array(errors), cov="unscaled")
    assert slope > 0
    assert abs(rest) < 0.03 + 4 * covariance[1, 1] ** 0.5
    assert covariance[1, 1] ** 0.5 < 0.03


def test_estimators_in_a_sweep():
    grid = {
        "d": 8,
        "alpha": [1.0, 2.0],
        "kappa": 1.0,
        "rho": 0.1,
        "prior": "gaussian",
        "contexts": 5,
    }
    result = sweep(estimators, grid, seed=1, runs=(2, 2), workers=1)
    assert result.dmmse_icl_error.dims == ("alpha",) and np.all(result.ridge_idg_error > 0.1)


def test_a_sweep_checks_every_point_first():
    grid = {"d": 8, "alpha": [1.0, 0.01], "kappa": 1.0, "rho": 0.1}
    with pytest.raises(ValueError, match="alpha must be finite with ell = alpha"):
        sweep(estimators, grid, seed=1, workers=1)


# --- how the functions behave -----------------------------------------------------------------


def test_broadcasting():
    alpha, rho = np.array([0.5, 2.0])[:, None], np.array([0.0, 0.1, 3.0])
    for function in (ridge_error, mutual_information, lambda a, r: dmmse_error(a, r, 0.2)):
        values = function(alpha, rho)
        assert values.shape == (2, 3)
        for i, j in np.ndindex(2, 3):
            assert values[i, j] == function(alpha[i, 0], rho[j])
        assert isinstance(function(1, 0), float)
    assert dmmse_error(1.0, 0.1, [0.1, 0.2]).shape == (2,)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_single_task_is_known_or_not(prior):
    """Without diversity the posterior is the one task, whose distance to a new one is 2."""
    rng = np.random.default_rng(0)
    alpha, rho = 10 ** rng.uniform(-75, 75, (2, 3000))
    rho[::7] = 0.0
    informed = mutual_information(alpha, rho) > 0
    found = dmmse_error(alpha, rho, 0.0, prior=prior)[informed]
    np.testing.assert_allclose(found, 2 + rho[informed], rtol=1e-9)


@pytest.mark.parametrize("value", [-1.0, np.nan, -INF, [0.5, np.nan]])
@pytest.mark.parametrize("name", ["alpha", "rho", "log_diversity"])
def test_bad_values_are_named(name, value):
    point = {"alpha": 1.0, "rho": 0.1, "log_diversity": 0.1, name: value}
    message = rf"{name} must be .*, got (-1.0|nan|-inf)"
    with pytest.raises(ValueError, match=message):
        dmmse_error(**point)
    if name != "log_diversity":
        for function in (ridge_error, mutual_information):
            with pytest.raises(ValueError, match=message):
                function(point["alpha"], point["rho"])


def test_unknown_prior_is_refused():
    for function in (
        lambda prior: dmmse_error(1, 1, 1, prior=prior),
        lambda prior: estimators(0, **POINT, prior=prior),
    ):
        with pytest.raises(ValueError, match="prior must be one of sphere, gaussian, got 'cube'"):
            function("cube")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kappa": INF}, ValueError, "kappa must be finite with k = kappa .* got inf"),
        ({"kappa": 0.01}, ValueError, "kappa must be finite with k = kappa .* got 0.01"),
        ({"alpha": 0.01}, ValueError, "alpha must be finite with ell = alpha .* got 0.01"),
        ({"d": 0}, ValueError, "d must be an integer of at least 1, got 0"),
        ({"rho": -1.0}, ValueError, "rho must be finite and at least 0, got -1.0"),
        ({"contexts": 0}, ValueError, "contexts must be an integer of at least 1, got 0"),
        ({"contexts": 1.5}, TypeError, "contexts must be an integer, got 1.5"),
    ],
)
def test_bad_runs(change, error, message):
    for function in (lambda **point: estimators(0, **point), estimators.check):
        with pytest.raises(error, match=message):
            function(**(POINT | change))


X, Y, W = np.ones((2, 3, 4)), np.ones((2, 3)), np.ones((5, 4))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X[0], Y, W, 0.1), ValueError, r"tokens must have shape \(any, any, any\), got \(3, 4\)"),
        ((X, Y[:, :2], W, 0.1), ValueError, r"labels must have shape \(2, 3\), got \(2, 2\)"),
        ((X, Y * np.nan, W, 0.1), ValueError, "labels must be finite"),
        ((X, Y, W[:, :3], 0.1), ValueError, r"tasks must have shape \(any, 4\), got \(5, 3\)"),
        ((X, Y, W[:0], 0.1), ValueError, r"tasks must not be empty, got shape \(0, 4\)"),
        ((X, Y, W * 1j, 0.1), TypeError, "tasks must hold real numbers, got dtype complex128"),
        ((X, Y, W, -0.1), ValueError, "rho must be finite and at least 0, got -0.1"),
        (
            (X * 1e160, Y, W, 0.1),
            ValueError,
            r"tokens must have numbers of at most .*, got 1e\+160",
        ),
        (
            (X * 1e-160, Y, W, 0.0),
            ValueError,
            "tokens must be 0 or have numbers above .*, got 1e-160",
        ),
        (
            (X, Y * 1e160, W, 0.1),
            ValueError,
            r"labels must have numbers of at most .*, got 1e\+160",
        ),
        ((X, Y, W * 1e160, 0.1), ValueError, r"tasks must have numbers of at most .*, got 1e\+160"),
        ((X, Y, W, [0.1, 0.2]), ValueError, "rho must be a single number"),
        ((X, Y, array_api_strict.asarray(W), 0.1), TypeError, "tasks must be .* same"),
        ((X, array_api_strict.asarray(Y), W, 0.1), TypeError, "labels must be .* same library"),
    ],
)
def test_bad_contexts(arguments, error, message):
    with pytest.raises(error, match=message):
        dmmse_mean(*arguments)
    tokens, labels, tasks, rho = arguments
    if tasks is W:  # else they are what is wrong
        with pytest.raises(error, match=message):
            ridge_mean(tokens, labels, rho)
