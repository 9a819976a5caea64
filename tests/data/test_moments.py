"""Moments: the lemma against Monte Carlo, and the error against a brute-force test set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit.backend import streams
from iclkit.data import laws
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

# Two laws with different eigenvectors, in two dimensions and in three.
SIGMA, C = np.array([[1.5, 0.4], [0.4, 0.6]]), np.array([[0.8, -0.5], [-0.5, 1.9]])
SIGMA_3 = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]])
SIGMAS = pytest.mark.parametrize("tokens", [None, np.array([2.0, 1.0, 0.1]), SIGMA_3],
                                 ids=["isotropic", "along the axes", "correlated"])  # fmt: skip


def z_scores(samples, expected):
    return (samples.mean(axis=0) - expected) / (samples.std(axis=0) / np.sqrt(len(samples)))


@pytest.mark.parametrize("ell", [1, 2, 5])
@pytest.mark.parametrize("scale", [0.6, 1.0])
@SIGMAS
def test_conditional_moments_against_whole_contexts(ell, scale, tokens):
    d, n, rho = 3, 100_000, 0.3
    w = scale * draw_tasks(1, d, np.random.default_rng(1))[0]
    contexts = draw_contexts(np.tile(w, (n, 1)), ell, rho, streams(ell), tokens=tokens)
    h = context_statistic(contexts.tokens, contexts.labels)
    mean, second = conditional_moments(w, ell, rho, tokens=tokens)
    assert np.max(np.abs(z_scores(h, mean))) < 4
    assert np.max(np.abs(z_scores(np.einsum("ni,nj->nij", h, h), second))) < 4


def gauss(count):
    """Nodes of `count` standard normal numbers, and weights: exact to the fifth power of each."""
    node, weight = np.polynomial.hermite_e.hermegauss(3)
    nodes = np.stack(np.meshgrid(*[node] * count, indexing="ij")).reshape(count, -1).T
    weights = np.stack(np.meshgrid(*[weight] * count, indexing="ij")).reshape(count, -1).T
    return nodes, np.prod(weights / weight.sum(), axis=1)


def contexts_at(z, w, ell, rho, root):
    """Context statistics of tokens and noise that are given as standard normal numbers."""
    z = z.reshape(len(z), ell, 3)
    tokens = z[:, :, :2] @ root / 2**0.5
    labels = np.einsum("nld,nd->nl", tokens, w) + rho**0.5 * z[:, :, 2]
    return context_statistic(tokens, labels)


def root_of(matrix):
    s, V = np.linalg.eigh(matrix)
    return (V * s**0.5) @ V.T


@pytest.mark.parametrize("ell", [1, 2, 3])
def test_conditional_moments_are_integrals(ell):
    w, rho = np.array([0.7, -1.2]), 0.3
    z, weights = gauss(3 * ell)
    h = contexts_at(z, np.broadcast_to(w, (len(z), 2)), ell, rho, root_of(SIGMA))
    mean, second = conditional_moments(w, ell, rho, tokens=SIGMA)
    np.testing.assert_allclose(mean, weights @ h, rtol=1e-12)
    np.testing.assert_allclose(second, (h.T * weights) @ h, rtol=1e-12)


@pytest.mark.parametrize("tokens", [None, SIGMA], ids=["isotropic", "of a law"])
@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
def test_moments_of_correlated_tokens_are_integrals(prior, tokens):
    """Over tasks and contexts; the kernel has any diagonal."""
    ell, rho, Sigma = 2, 0.3, np.eye(2) if tokens is None else tokens
    kernel = np.array([[1.3, -0.8], [-0.8, 0.7]])
    if prior == "gaussian":
        u, weights_u = gauss(2)
    else:
        angle = 2 * np.pi * np.arange(8) / 8
        u, weights_u = 2**0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1), np.full(8, 1 / 8)
    u = u @ root_of(C)
    z, weights_z = gauss(3 * ell)
    z = z.reshape(len(z), ell, 3)
    z[:, :, :2] = root_of(kernel) @ z[:, :, :2]
    h = [contexts_at(z, np.broadcast_to(w, (len(z), 2)), ell, rho, root_of(Sigma)) for w in u]
    means, seconds = (
        [weights_z @ one for one in h], [(one.T * weights_z) @ one for one in h]
    )  # fmt: skip
    for w, mean, second in zip(u[:3], means, seconds, strict=False):
        found = conditional_moments(w, ell, rho, tokens=tokens, kernel=kernel)
        np.testing.assert_allclose(found[0], mean, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(found[1], second, rtol=1e-12, atol=1e-14)
    for weights, moments in (
        (weights_u,
         population_moments(2, ell, rho, prior=prior, tasks=C, tokens=tokens, kernel=kernel)),
        (np.full(len(u), 1 / len(u)), task_moments(u, ell, rho, tokens=tokens, kernel=kernel)),
    ):  # fmt: skip
        A = sum(p * np.outer(Sigma @ w, mean) for p, w, mean in zip(weights, u, means, strict=True))
        np.testing.assert_allclose(moments.A, A, rtol=1e-12, atol=1e-14)
        B = np.tensordot(weights, seconds, axes=1)
        np.testing.assert_allclose(moments.B, B, rtol=1e-12, atol=1e-14)
        variance = rho + sum(p * w @ Sigma @ w / 2 for p, w in zip(weights, u, strict=True))
        assert moments.label_variance == pytest.approx(variance)


@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
@pytest.mark.parametrize("ell", [1, 2])
def test_population_moments_and_error_are_integrals(ell, prior):
    """Over tasks, contexts and queries, with an exact rule for each."""
    rho, gamma = 0.3, np.array([[0.4, -0.2, 0.1], [0.3, 0.9, -0.5]])
    if prior == "gaussian":
        u, weights_u = gauss(2)
    else:
        angle = 2 * np.pi * np.arange(8) / 8
        u, weights_u = 2**0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1), np.full(8, 1 / 8)
    z, weights_z = gauss(3 * ell)
    w = np.repeat(u @ root_of(C), len(z), axis=0)
    h = contexts_at(np.tile(z, (len(u), 1)), w, ell, rho, root_of(SIGMA))
    weights = np.outer(weights_u, weights_z).ravel()
    moments = population_moments(2, ell, rho, prior=prior, tasks=C, tokens=SIGMA)
    np.testing.assert_allclose(moments.A, SIGMA @ (w.T * weights) @ h, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(moments.B, (h.T * weights) @ h, rtol=1e-12, atol=1e-14)
    residual = w - h @ gamma.T  # of the label of a query x: x·residual, and the noise
    error = rho + weights @ np.einsum("ni,ij,nj->n", residual, SIGMA / 2, residual)
    assert prediction_error(gamma, moments) == pytest.approx(error, rel=1e-12)


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


@SIGMAS
def test_task_moments_are_the_average(tokens):
    tasks = draw_tasks(5, 3, np.random.default_rng(2), prior="gaussian")
    moments = task_moments(tasks, 4, 0.2, tokens=tokens)
    pairs = [conditional_moments(w, 4, 0.2, tokens=tokens) for w in tasks]
    np.testing.assert_allclose(moments.B, np.mean([second for _, second in pairs], axis=0))
    A = np.mean([np.outer(w, mean) for w, (mean, _) in zip(tasks, pairs, strict=True)], axis=0)
    Sigma = np.eye(3) if tokens is None else tokens if tokens.ndim == 2 else np.diag(tokens)
    np.testing.assert_allclose(moments.A, Sigma @ A)
    assert moments.label_variance == pytest.approx(0.2 + np.trace(tasks @ Sigma @ tasks.T) / 15)


def test_moments_of_a_list_are_those_of_its_tasks():
    tasks = draw_tasks(5, 3, np.random.default_rng(2), prior="gaussian")
    listed = population_moments(3, 4, 0.2, tasks=laws.vectors(tasks), tokens=SIGMA_3)
    for one, other in zip(listed, task_moments(tasks, 4, 0.2, tokens=SIGMA_3), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
def test_isotropic_laws_change_no_bit(prior):
    w = draw_tasks(5, 7, np.random.default_rng(2))
    one = population_moments(7, 4, 0.2, prior=prior)
    for law in ("isotropic", np.ones(7), np.eye(7)):
        pairs = [(one, population_moments(7, 4, 0.2, prior=prior, tasks=law, tokens=law))]
        pairs += [(task_moments(w, 4, 0.2), task_moments(w, 4, 0.2, tokens=law))]
        for mine, theirs in pairs:
            for before, after in zip(mine[:3], theirs[:3], strict=True):
                np.testing.assert_array_equal(before, after)


@given(seed=st.integers(0, 200))
def test_moments_turn_with_their_laws(seed):
    """A permutation or a rotation of both laws turns A and B, and leaves the error as it is."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0] if seed % 2 else np.eye(3)[[2, 0, 1]]
    C_3, gamma = np.diag([2.0, 1.0, 0.1]), rng.standard_normal((3, 4))

    def turned(matrix):
        return (turn @ matrix @ turn.T + (turn @ matrix @ turn.T).T) / 2

    one = population_moments(3, 5, 0.2, tasks=C_3, tokens=SIGMA_3)
    other = population_moments(3, 5, 0.2, tasks=turned(C_3), tokens=turned(SIGMA_3))
    both = np.block([[turn, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])
    np.testing.assert_allclose(other.A, turn @ one.A @ both.T, atol=1e-13)
    np.testing.assert_allclose(other.B, both @ one.B @ both.T, atol=1e-13)
    error = prediction_error(turn @ gamma @ both.T, other)
    assert error == pytest.approx(prediction_error(gamma, one), rel=1e-11)


@given(
    a=st.floats(1e-15, 1e15),
    b=st.floats(1e-15, 1e15),
    prior=st.sampled_from(["sphere", "gaussian"]),
)
def test_moments_have_any_units(a, b, prior):
    """Tokens in units of a and tasks in units of b, so that labels have those of ab."""
    one = population_moments(3, 5, 0.2, prior=prior, tasks=[2.0, 1.0, 0.1], tokens=SIGMA_3)
    C_3, rho = b * np.array([2.0, 1.0, 0.1]), 0.2 * a * b
    other = population_moments(3, 5, rho, prior=prior, tasks=C_3, tokens=a * SIGMA_3)
    h = np.array([a * b**0.5] * 3 + [a * b])
    np.testing.assert_allclose(other.A, one.A * a * b**0.5 * h, rtol=1e-12)
    np.testing.assert_allclose(other.B, one.B * h[:, None] * h, rtol=1e-12)
    gamma = np.random.default_rng(0).standard_normal((3, 4))
    error = prediction_error(gamma * b**0.5 / h, other)
    assert error == pytest.approx(a * b * prediction_error(gamma, one), rel=1e-11)


def test_whitening_is_exact():
    """Tokens of covariance Σ are isotropic ones with tasks of Σ^½CΣ^½, also at test."""
    root, C_3 = root_of(SIGMA_3), np.diag([2.0, 1.0, 0.1])
    seen, gamma = root @ C_3 @ root, np.random.default_rng(0).standard_normal((3, 4))
    one = population_moments(3, 5, 0.2, tasks=C_3, tokens=SIGMA_3)
    white = population_moments(3, 5, 0.2, tasks=(seen + seen.T) / 2)
    both = np.block([[root, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])
    error = prediction_error(root @ gamma @ both, white)
    assert prediction_error(gamma, one) == pytest.approx(error, rel=1e-12)
    lowest = prediction_error(optimal_gamma(white), white)
    assert prediction_error(optimal_gamma(one), one) == pytest.approx(lowest, rel=1e-12)


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
@SIGMAS
@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_the_optimum_is_optimal(seed, tokens, ridge):
    rng = np.random.default_rng(seed)
    moments = task_moments(draw_tasks(3, 3, rng), 6, 0.1, tokens=tokens)
    Sigma = np.eye(3) if moments.tokens is None else moments.tokens

    def objective(gamma):
        return prediction_error(gamma, moments) + ridge * np.sum(gamma**2) / 3

    best = optimal_gamma(moments, ridge)
    step = rng.standard_normal(best.shape)
    # Exactly quadratic: the rise is the curvature, without a linear part.
    rise = objective(best + step) - objective(best)
    curvature = np.trace(Sigma @ step @ moments.B @ step.T) + ridge * np.sum(step**2)
    assert rise == pytest.approx(curvature / 3, rel=1e-9)
    assert rise > 0


def test_the_optimum_is_zero_where_there_are_no_tokens():
    """With Σ singular and noiseless labels of one task, it is the minimiser of least norm."""
    law = np.array([2.0, 0.0, 1.0])
    for rho in (0.0, 0.2):
        moments = task_moments(draw_tasks(1, 3, np.random.default_rng(0)), 6, rho, tokens=law)
        best, nearly = optimal_gamma(moments), optimal_gamma(moments, 1e-9)
        np.testing.assert_array_equal(best[1, :], 0)
        np.testing.assert_allclose(best, nearly, atol=1e-6)
        np.testing.assert_allclose(np.diag(law) @ best @ moments.B, moments.A, atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_a_singular_second_moment_has_an_optimum_too(seed):
    """Noiseless labels of one task make h dependent: B was inverted as if it were regular."""
    moments = task_moments(draw_tasks(1, 8, np.random.default_rng(seed)), 6, 0.0)
    best = optimal_gamma(moments)
    np.testing.assert_allclose(best @ moments.B, moments.A, atol=1e-10)
    nearly = optimal_gamma(moments, 1e-9)
    np.testing.assert_allclose(best, nearly, atol=1e-6)


@pytest.mark.parametrize("tokens", [None, SIGMA_3], ids=["isotropic", "correlated"])
def test_the_optimum_has_any_unit(tokens):
    """In large units, the last entry of h once hid all others."""
    tasks = draw_tasks(40, 3, np.random.default_rng(0))
    lowest = []
    for unit in (1.0, 1e-25, 1e-9, 1e8, 1e15):
        moments = task_moments(unit * tasks, 10, 0.1 * unit**2, tokens=tokens)
        lowest.append(prediction_error(optimal_gamma(moments), moments) / unit**2)
    np.testing.assert_allclose(lowest, lowest[0], rtol=1e-11)


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
    for law in (np.array([2.0, 1.0, 0.1, 0.5]), np.diag([1.0, 2.0, 3.0, 4.0]) + 0.3):
        there = task_moments(xp.asarray(tasks), 6, 0.1, tokens=law)
        here = task_moments(tasks, 6, 0.1, tokens=law)
        np.testing.assert_allclose(np.asarray(there.B), here.B, rtol=1e-13)
        assert prediction_error(xp.asarray(gamma), here) == pytest.approx(
            prediction_error(gamma, there._replace(A=here.A, B=here.B, tokens=here.tokens))
        )
        best = optimal_gamma(there, 0.2)
        np.testing.assert_allclose(np.asarray(best), optimal_gamma(here, 0.2), rtol=1e-10)
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
    with pytest.raises(ValueError, match=r"moments.tokens must have shape \(4, 4\)"):
        prediction_error(np.ones((4, 5)), moments._replace(tokens=np.eye(3)))
    with pytest.raises(ValueError, match="tokens must be a law in d = 4 dimensions, got one in 3"):
        population_moments(4, 6, 0.1, tokens=np.eye(3))
    with pytest.raises(ValueError, match="tasks must have eigenvalues of at least 0"):
        population_moments(4, 6, 0.1, tasks=[1.0, 1.0, 1.0, -1.0])
    with pytest.raises(ValueError, match="prior must be None for tasks that are picked"):
        population_moments(4, 6, 0.1, tasks=laws.vectors(np.eye(4)), prior="gaussian")
    with pytest.raises(ValueError, match="ridge must be finite and at least 0, got -1"):
        optimal_gamma(moments, -1)
    with pytest.raises(ValueError, match="ell must be"):
        population_moments(4, 0, 0.1)
    with pytest.raises(ValueError, match="prior must be one of"):
        population_moments(4, 3, 0.1, prior="cube")
    with pytest.raises(ValueError, match=r"w must have shape \(any,\)"):
        conditional_moments(np.ones((1, 3)), 3, 0.1)
