"""Contexts: the O(d) draw against whole contexts, in moments and in distribution."""

import numpy as np
import pytest
from scipy import stats

from iclkit.backend import streams
from iclkit.data.contexts import context_statistic, draw_contexts, draw_statistics
from iclkit.data.tasks import draw_tasks


def raw(w, ell, rho, seed):
    contexts = draw_contexts(w, ell, rho, streams(seed))
    return contexts.query, context_statistic(contexts.tokens, contexts.labels), contexts.target


def fast(w, ell, rho, seed):
    return tuple(draw_statistics(w, ell, rho, streams(seed)))


def test_shapes_and_model():
    w = draw_tasks(50, 4, np.random.default_rng(0))
    contexts = draw_contexts(w, 6, 0.0, streams(0))
    assert contexts.tokens.shape == (50, 6, 4) and contexts.labels.shape == (50, 6)
    np.testing.assert_allclose(contexts.labels, np.einsum("nld,nd->nl", contexts.tokens, w))
    np.testing.assert_allclose(contexts.target, np.sum(contexts.query * w, axis=1))


def test_statistic_is_its_definition():
    rng = np.random.default_rng(1)
    tokens, labels = rng.standard_normal((3, 5, 2)), rng.standard_normal((3, 5))
    h = context_statistic(tokens, labels)
    for row in range(3):
        np.testing.assert_allclose(h[row, :2], 2 / 5 * labels[row] @ tokens[row], rtol=1e-13)
        np.testing.assert_allclose(h[row, 2], np.mean(labels[row] ** 2), rtol=1e-13)


@pytest.mark.parametrize("ell", [1, 2, 9])
@pytest.mark.parametrize("rho", [0.0, 0.4])
@pytest.mark.parametrize("scale", [0.7, 1.0])
def test_both_draws_have_the_same_moments(ell, rho, scale):
    d, n = 3, 60_000
    w = np.tile(scale * draw_tasks(1, d, np.random.default_rng(5)), (n, 1))
    one, other = raw(w, ell, rho, 1), fast(w, ell, rho, 2)

    def products(x, h, y):
        joined = np.concatenate([x, h, y[:, None]], axis=1)
        pairs = np.einsum("ni,nj->nij", joined, joined).reshape(n, -1)
        return np.concatenate([joined, pairs], axis=1)

    a, b = products(*one), products(*other)
    error = np.sqrt((a.var(axis=0) + b.var(axis=0)) / n)
    assert np.max(np.abs(a.mean(axis=0) - b.mean(axis=0)) / error) < 4.2


@pytest.mark.parametrize("ell", [1, 3, 20])
def test_both_draws_have_the_same_distribution(ell):
    d, n, rho = 4, 20_000, 0.3
    w = np.tile(draw_tasks(1, d, np.random.default_rng(5)), (n, 1))
    (_, h_raw, _), (_, h_fast, _) = raw(w, ell, rho, 3), fast(w, ell, rho, 4)
    rng = np.random.default_rng(0)
    for direction in rng.standard_normal((6, d + 1)):
        assert stats.ks_2samp(h_raw @ direction, h_fast @ direction).pvalue > 1e-3
    # Beyond projections: the part across w against the labels' size.
    across = [
        np.linalg.norm(h[:, :d] - h[:, :d] @ w[0][:, None] * w / d, axis=1) for h in (h_raw, h_fast)
    ]
    ratios = [a / np.sqrt(h[:, d]) for a, h in zip(across, (h_raw, h_fast), strict=True)]
    assert stats.ks_2samp(*ratios).pvalue > 1e-3


def test_noise_has_its_own_stream():
    w = draw_tasks(10, 4, np.random.default_rng(0))
    quiet, loud = fast(w, 5, 0.0, 0), fast(w, 5, 0.5, 0)
    np.testing.assert_array_equal(quiet[0], loud[0])  # the same queries
    np.testing.assert_allclose(quiet[2], np.sum(quiet[0] * w, axis=1))
    assert not np.allclose(quiet[2], loud[2])


def test_a_task_of_zero_is_only_noise():
    x, h, y = fast(np.zeros((2000, 3)), 4, 0.5, 0)
    assert np.all(np.isfinite(h)) and np.mean(h[:, 3]) == pytest.approx(0.5, rel=0.1)
    _, h, _ = fast(np.zeros((3, 3)), 4, 0.0, 0)
    np.testing.assert_array_equal(h, 0)


def test_one_long_context_is_cheap():
    w = draw_tasks(2, 3, np.random.default_rng(0))
    _, h, _ = fast(w, 10**12, 0.1, 0)
    np.testing.assert_allclose(h, np.c_[w, [1.1, 1.1]], atol=1e-4)


W = np.ones((2, 3))


@pytest.mark.parametrize("draw", [draw_contexts, draw_statistics])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones(3), 4, 0.1), ValueError, r"w must have shape \(any, any\), got \(3,\)"),
        ((np.ones((0, 3)), 4, 0.1), ValueError, "w must not be empty"),
        ((W * np.nan, 4, 0.1), ValueError, "w must be finite"),
        ((W * 1j, 4, 0.1), TypeError, "w must hold real numbers, got dtype complex128"),
        ((W.astype(object), 4, 0.1), TypeError, "w must hold real numbers, got dtype object"),
        (([[1.0, 2.0]], 4, 0.1), TypeError, "w must be an array, got list"),
        ((W, 0, 0.1), ValueError, "ell must be an integer of at least 1, got 0"),
        ((W, 2.0, 0.1), TypeError, "ell must be an integer, got 2.0"),
        ((W, 4, -0.1), ValueError, "rho must be finite and at least 0, got -0.1"),
        ((W, 4, np.nan), ValueError, "rho must be finite and at least 0, got nan"),
        ((W, 4, [0.1, 0.2]), ValueError, r"rho must be a single number, got an array of shape"),
    ],
)
def test_bad_arguments(draw, arguments, error, message):
    with pytest.raises(error, match=message):
        draw(*arguments, streams(0))


def test_statistic_checks_shapes():
    with pytest.raises(ValueError, match=r"labels must have shape \(2, 3\), got \(2, 4\)"):
        context_statistic(np.ones((2, 3, 4)), np.ones((2, 4)))
