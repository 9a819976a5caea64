"""Moments: the lemma against Monte Carlo, and the error against a brute-force test set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit.backend import streams
from iclkit.data.contexts import context_statistic, draw_contexts, draw_statistics
from iclkit.data.moments import (
    Moments,
    conditional_moments,
    optimal_gamma,
    population_moments,
    prediction_error,
    task_moments,
)
from iclkit.data.tasks import draw_tasks


def z_scores(samples, expected):
    return (samples.mean(axis=0) - expected) / (samples.std(axis=0) / np.sqrt(len(samples)))


@pytest.mark.parametrize("ell", [1, 2, 5])
@pytest.mark.parametrize("scale", [0.6, 1.0])
def test_conditional_moments_against_whole_contexts(ell, scale):
    d, n, rho = 3, 100_000, 0.3
    w = scale * draw_tasks(1, d, np.random.default_rng(1))[0]
    contexts = draw_contexts(np.tile(w, (n, 1)), ell, rho, streams(ell))
    h = context_statistic(contexts.tokens, contexts.labels)
    mean, second = conditional_moments(w, ell, rho)
    assert np.max(np.abs(z_scores(h, mean))) < 4
    assert np.max(np.abs(z_scores(np.einsum("ni,nj->nij", h, h), second))) < 4


@given(
    d=st.integers(1, 6),
    ell=st.integers(1, 50),
    rho=st.just(0.0) | st.floats(1e-75, 3),
    scale=st.floats(0.1, 3),
    seed=st.integers(0, 99),
)
def test_covariance_of_h_is_positive(d, ell, rho, scale, seed):
    w = scale * draw_tasks(1, d, np.random.default_rng(seed))[0]
    mean, second = conditional_moments(w, ell, rho)
    covariance = second - np.outer(mean, mean)
    assert np.linalg.eigvalsh(covariance).min() > -1e-12 * np.trace(second)
    np.testing.assert_allclose(second, second.T, rtol=1e-14)


def test_task_moments_are_the_average():
    tasks = draw_tasks(5, 3, np.random.default_rng(2), prior="gaussian")
    moments = task_moments(tasks, 4, 0.2)
    pairs = [conditional_moments(w, 4, 0.2) for w in tasks]
    np.testing.assert_allclose(moments.B, np.mean([second for _, second in pairs], axis=0))
    A = np.mean([np.outer(w, mean) for w, (mean, _) in zip(tasks, pairs, strict=True)], axis=0)
    np.testing.assert_allclose(moments.A, A)
    assert moments.label_variance == pytest.approx(0.2 + np.sum(tasks**2) / 15)


@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
def test_population_moments_are_the_limit_of_many_tasks(prior):
    d, k = 3, 200_000
    tasks = draw_tasks(k, d, np.random.default_rng(3), prior=prior)
    many, population = task_moments(tasks, 4, 0.2), population_moments(d, 4, 0.2, prior=prior)
    np.testing.assert_allclose(many.A, population.A, atol=30 / np.sqrt(k))
    np.testing.assert_allclose(many.B, population.B, atol=60 / np.sqrt(k))
    assert many.label_variance == pytest.approx(population.label_variance, rel=8 / np.sqrt(k))


@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
def test_error_against_a_test_set(prior):
    d, ell, rho, n = 3, 5, 0.2, 200_000
    rng = np.random.default_rng(4)
    gamma = rng.standard_normal((d, d + 1))
    few = draw_tasks(4, d, rng, prior=prior)
    cases = [
        (draw_tasks(n, d, rng, prior=prior), population_moments(d, ell, rho, prior=prior)),
        (few[rng.integers(0, 4, n)], task_moments(few, ell, rho)),
    ]
    for w, moments in cases:
        x, h, y = draw_statistics(w, ell, rho, streams(6))
        squares = (y - np.einsum("ni,ij,nj->n", x, gamma, h)) ** 2
        assert abs(z_scores(squares, prediction_error(gamma, moments))) < 4


@given(seed=st.integers(0, 200))
def test_the_optimum_is_optimal(seed):
    rng = np.random.default_rng(seed)
    moments = task_moments(draw_tasks(3, 4, rng), 6, 0.1)
    best = optimal_gamma(moments)
    lowest = prediction_error(best, moments)
    step = rng.standard_normal(best.shape)
    # Exactly quadratic: the rise is the curvature, without a linear part.
    rise = prediction_error(best + step, moments) - lowest
    assert rise == pytest.approx(np.trace(step @ moments.B @ step.T) / 4, rel=1e-9)
    assert rise > 0


@pytest.mark.parametrize("seed", range(4))
def test_a_singular_second_moment_has_an_optimum_too(seed):
    """Noiseless labels of one task make h dependent: B was inverted as if it were regular."""
    moments = task_moments(draw_tasks(1, 8, np.random.default_rng(seed)), 6, 0.0)
    best = optimal_gamma(moments)
    np.testing.assert_allclose(best @ moments.B, moments.A, atol=1e-10)
    nearly = optimal_gamma(moments, 1e-9)
    np.testing.assert_allclose(best, nearly, atol=1e-6)


def test_ridge_shrinks_the_optimum():
    moments = population_moments(4, 6, 0.1)
    norms = [np.linalg.norm(optimal_gamma(moments, ridge)) for ridge in (0.0, 0.5, 5.0)]
    assert norms[0] > norms[1] > norms[2]
    np.testing.assert_allclose(
        optimal_gamma(moments, 0.5) @ (moments.B + 0.5 * np.eye(5)), moments.A, atol=1e-14
    )


def test_array_libraries(xp):
    rng = np.random.default_rng(5)
    tasks, gamma = draw_tasks(3, 4, rng), rng.standard_normal((4, 5))
    there, here = task_moments(xp.asarray(tasks), 6, 0.1), task_moments(tasks, 6, 0.1)
    np.testing.assert_allclose(np.asarray(there.B), here.B, rtol=1e-14)
    assert prediction_error(xp.asarray(gamma), there) == pytest.approx(
        prediction_error(gamma, here)
    )
    population = population_moments(4, 6, 0.1)
    assert prediction_error(xp.asarray(gamma), population) == pytest.approx(
        prediction_error(gamma, population)
    )
    np.testing.assert_allclose(np.asarray(optimal_gamma(there)), optimal_gamma(here), rtol=1e-10)
    mean, _ = conditional_moments(xp.asarray(tasks[0]), 6, 0.1)
    np.testing.assert_allclose(np.asarray(mean), np.r_[tasks[0], 1.1], rtol=1e-14)


def test_bad_arguments():
    moments = population_moments(4, 6, 0.1)
    with pytest.raises(ValueError, match=r"gamma must have shape \(4, 5\), got \(3, 5\)"):
        prediction_error(np.ones((3, 5)), moments)
    with pytest.raises(ValueError, match="gamma must be finite"):
        prediction_error(np.full((4, 5), np.nan), moments)
    with pytest.raises(ValueError, match=r"moments.B must have shape \(5, 5\)"):
        prediction_error(np.ones((4, 5)), Moments(moments.A, np.eye(4), 1.1))
    with pytest.raises(ValueError, match="moments.label_variance must be finite"):
        prediction_error(np.ones((4, 5)), moments._replace(label_variance=np.nan))
    with pytest.raises(ValueError, match="ridge must be finite and at least 0, got -1"):
        optimal_gamma(moments, -1)
    with pytest.raises(ValueError, match="ell must be"):
        population_moments(4, 0, 0.1)
    with pytest.raises(ValueError, match="prior must be one of"):
        population_moments(4, 3, 0.1, prior="cube")
    with pytest.raises(ValueError, match=r"w must have shape \(any,\)"):
        conditional_moments(np.ones((1, 3)), 3, 0.1)
