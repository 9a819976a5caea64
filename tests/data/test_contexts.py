"""Contexts: the O(d) draw against whole contexts, in moments and in distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.linalg import toeplitz

from iclkit.backend import streams
from iclkit.data.contexts import context_statistic, draw_contexts, draw_statistics
from iclkit.data.moments import conditional_moments
from iclkit.data.tasks import draw_tasks

SIGMA = {
    "isotropic": None,
    "along the axes": np.array([2.0, 1.0, 0.1]),
    "correlated": np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]]),
}
tokens_of_any_law = pytest.mark.parametrize("tokens", SIGMA.values(), ids=SIGMA)


def raw(w, ell, rho, seed, tokens=None, kernel=None):
    contexts = draw_contexts(w, ell, rho, streams(seed), tokens=tokens, kernel=kernel)
    return contexts.query, context_statistic(contexts.tokens, contexts.labels), contexts.target


def fast(w, ell, rho, seed, tokens=None, kernel=None):
    return tuple(draw_statistics(w, ell, rho, streams(seed), tokens=tokens, kernel=kernel))


def any_kernel(size):
    """A random one: the last token has variance 1, the others have any."""
    root = np.random.default_rng(size).standard_normal((size, size + 1))
    root[-1] /= np.linalg.norm(root[-1])
    return root @ root.T


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
@tokens_of_any_law
def test_both_draws_have_the_same_moments(ell, rho, scale, tokens):
    d, n = 3, 60_000
    w = np.tile(scale * draw_tasks(1, d, np.random.default_rng(5)), (n, 1))
    one, other = raw(w, ell, rho, 1, tokens), fast(w, ell, rho, 2, tokens)

    def products(x, h, y):
        joined = np.concatenate([x, h, y[:, None]], axis=1)
        pairs = np.einsum("ni,nj->nij", joined, joined).reshape(n, -1)
        return np.concatenate([joined, pairs], axis=1)

    a, b = products(*one), products(*other)
    error = np.sqrt((a.var(axis=0) + b.var(axis=0)) / n)
    assert np.max(np.abs(a.mean(axis=0) - b.mean(axis=0)) / error) < 4.2


@pytest.mark.parametrize("ell", [1, 3, 20])
@tokens_of_any_law
def test_both_draws_have_the_same_distribution(ell, tokens):
    d, n, rho = 3, 20_000, 0.3
    w = np.tile(draw_tasks(1, d, np.random.default_rng(5)), (n, 1))
    (_, h_raw, _), (_, h_fast, _) = raw(w, ell, rho, 3, tokens), fast(w, ell, rho, 4, tokens)
    rng = np.random.default_rng(0)
    for direction in rng.standard_normal((6, d + 1)):
        assert stats.ks_2samp(h_raw @ direction, h_fast @ direction).pvalue > 1e-3
    # Beyond projections: the part across w against the labels' size.
    across = [
        np.linalg.norm(h[:, :d] - h[:, :d] @ w[0][:, None] * w / d, axis=1) for h in (h_raw, h_fast)
    ]
    ratios = [a / np.sqrt(h[:, d]) for a, h in zip(across, (h_raw, h_fast), strict=True)]
    assert stats.ks_2samp(*ratios).pvalue > 1e-3


@pytest.mark.parametrize("draw", [raw, fast])
def test_isotropic_tokens_change_no_bit(draw):
    w = draw_tasks(10, 3, np.random.default_rng(0))
    for tokens in ("isotropic", np.ones(3), np.eye(3)):
        for one, other in zip(draw(w, 5, 0.2, 0), draw(w, 5, 0.2, 0, tokens), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("draw", [raw, fast])
@pytest.mark.parametrize("name", ["along the axes", "correlated"])
def test_tokens_of_a_law_are_isotropic_ones_of_another_task(draw, name):
    """Exact whitening, context by context."""
    tokens = SIGMA[name]
    Sigma = tokens if tokens.ndim == 2 else np.diag(tokens)
    s, V = np.linalg.eigh(Sigma)
    root = (V * np.sqrt(s)) @ V.T
    w = draw_tasks(10, 3, np.random.default_rng(0))
    x, h, y = draw(w, 5, 0.2, 0, tokens)
    white_x, white_h, white_y = draw(w @ root, 5, 0.2, 0)
    np.testing.assert_allclose(x, white_x @ root, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(h[:, :3], white_h[:, :3] @ root, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(h[:, 3], white_h[:, 3], rtol=1e-12)
    np.testing.assert_allclose(y, white_y, rtol=1e-12, atol=1e-13)


@given(scale=st.floats(-60, 60), seed=st.integers(0, 99))
def test_tokens_have_any_unit(scale, seed):
    w, unit = draw_tasks(4, 3, np.random.default_rng(seed)), 2.0 ** int(scale)
    one = fast(w, 5, 0.0, seed, np.array([2.0, 1.0, 0.1]))
    other = fast(w, 5, 0.0, seed, unit**2 * np.array([2.0, 1.0, 0.1]))
    units = unit, np.array([unit**2] * 4), unit  # h₂ is y², as h₁ is yx
    for mine, theirs, factor in zip(one, other, units, strict=True):
        np.testing.assert_allclose(theirs, factor * mine, rtol=1e-13)


def test_directions_without_tokens_are_empty():
    w = draw_tasks(10, 3, np.random.default_rng(0))
    x, h, _ = fast(w, 5, 0.2, 0, np.array([1.0, 0.0, 2.0]))
    assert np.all(x[:, 1] == 0) and np.all(h[:, 1] == 0) and np.all(h[:, [0, 2]] != 0)


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


# Tokens that are correlated over positions.


@pytest.mark.parametrize("ell", [1, 2, 6])
@pytest.mark.parametrize("query", [False, True], ids=["independent", "correlated"])
@pytest.mark.parametrize("tokens", [None, SIGMA["correlated"]], ids=["isotropic", "of a law"])
def test_both_draws_of_correlated_tokens_have_the_same_law(ell, query, tokens):
    """Products of up to three numbers, and the distribution along random directions."""
    d, n, rho = 3, 60_000, 0.4
    kernel = any_kernel(ell + 1) if query else any_kernel(ell)
    w = np.tile(draw_tasks(1, d, np.random.default_rng(5)), (n, 1))
    one, other = (
        np.concatenate([x, h, y[:, None]], axis=1)
        for x, h, y in (raw(w, ell, rho, 1, tokens, kernel), fast(w, ell, rho, 2, tokens, kernel))
    )

    def products(joined):
        pairs = np.einsum("ni,nj->nij", joined, joined).reshape(n, -1)
        triples = np.einsum("ni,nj->nij", pairs[:, ::5], joined).reshape(n, -1)
        return np.concatenate([joined, pairs, triples], axis=1)

    a, b = products(one), products(other)
    error = np.sqrt((a.var(axis=0) + b.var(axis=0)) / n)
    assert np.max(np.abs(a.mean(axis=0) - b.mean(axis=0)) / error) < 4.5
    for direction in np.random.default_rng(0).standard_normal((4, 2 * d + 2)):
        assert stats.ks_2samp(one @ direction, other @ direction).pvalue > 1e-4


def test_whole_contexts_have_their_kernel():
    """Each coordinate by itself, and no two of them together."""
    d, ell, n = 2, 3, 100_000
    kernel = any_kernel(ell + 1)
    drawn = draw_contexts(np.zeros((n, d)), ell, 0.0, streams(0), kernel=kernel)
    x = np.concatenate([drawn.tokens, drawn.query[:, None, :]], axis=1) * d**0.5
    products = np.einsum("nia,njb->nijab", x, x)
    expected = np.einsum("ij,ab->ijab", kernel, np.eye(d))
    z = (products.mean(axis=0) - expected) / (products.std(axis=0) / n**0.5)
    assert np.max(np.abs(z)) < 4


@pytest.mark.parametrize("ell", [1, 4])
def test_a_kernel_of_independent_tokens_is_none(ell):
    d, n = 3, 40_000
    w = np.tile(draw_tasks(1, d, np.random.default_rng(5)), (n, 1))
    plain, with_kernel = fast(w, ell, 0.3, 1), fast(w, ell, 0.3, 2, kernel=np.eye(ell))
    for direction in np.random.default_rng(0).standard_normal((4, d + 1)):
        assert stats.ks_2samp(plain[1] @ direction, with_kernel[1] @ direction).pvalue > 1e-3


def test_a_query_that_is_a_token_of_the_context():
    """All the same token: without noise, the label is the root of the mean square."""
    w = draw_tasks(50, 3, np.random.default_rng(0))
    x, h, y = fast(w, 4, 0.0, 0, kernel=np.ones((5, 5)))
    np.testing.assert_allclose(h[:, 3], y**2, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(h[:, :3], 3 * y[:, None] * x, rtol=1e-6, atol=1e-6)


def test_blocks_of_contexts_do_not_show():
    """More contexts than fit a block, with more tokens than dimensions."""
    w = np.tile(draw_tasks(1, 2, np.random.default_rng(5)), (3000, 1))
    kernel = toeplitz(0.8 ** np.arange(200.0))
    x, h, y = fast(w, 200, 0.3, 1, kernel=kernel)
    assert h.shape == (3000, 3) and len(np.unique(h[:, 0])) == 3000
    mean, second = conditional_moments(w[0], 200, 0.3, kernel=kernel)
    deviation = np.sqrt(np.diag(second) - mean**2)
    assert np.max(np.abs(h.mean(axis=0) - mean) / deviation) < 4 / 3000**0.5


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


@pytest.mark.parametrize("draw", [draw_contexts, draw_statistics])
def test_bad_tokens(draw):
    for tokens, message in [
        ("cube", "tokens must be a law, or in words"),
        (np.eye(4), "tokens must be a law in d = 3 dimensions, got one in 4"),
        (np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), "tokens must be eigenval"),
        (np.zeros(3), "tokens must have a positive eigenvalue"),
    ]:
        with pytest.raises(ValueError, match=message):
            draw(W, 4, 0.1, streams(0), tokens=tokens)


def test_statistic_checks_shapes():
    with pytest.raises(ValueError, match=r"labels must have shape \(2, 3\), got \(2, 4\)"):
        context_statistic(np.ones((2, 3, 4)), np.ones((2, 4)))
