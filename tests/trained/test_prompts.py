"""Samplers: what each draws has the law that it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iclkit.theory.descent import power_law
from iclkit.trained.prompts import Fixed, Fresh, Grams, Listed, Rotated, Sample
from iclkit.trained.trials import _rotations

LAW = power_law(1.5, 0.8, 3)
SPECTRUM, WEIGHTS = LAW.nodes[:-1], LAW.weights[:-1]
KEY = jax.random.key(1)


@pytest.fixture(scope="module", autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("batches", [1, 2, 3, 10])
def test_minibatches_are_a_partition(batches):
    inputs = {"x": jnp.arange(20.0).reshape(10, 2), "y": jnp.arange(10)}
    draw, size, orders = Fixed(Sample(inputs, jnp.arange(10.0))), 10 // batches, []
    for key in (1, 2):
        parts = draw(jax.random.key(key), (batches, size))
        assert parts.targets.shape == (batches, size)
        rows = np.asarray(parts.targets).ravel()
        assert len(set(rows)) == batches * size and set(rows) <= set(range(10))
        np.testing.assert_array_equal(np.ravel(parts.inputs["y"]), rows)
        np.testing.assert_array_equal(parts.inputs["x"].reshape(-1, 2)[:, 0], 2 * rows)
        orders.append(tuple(rows))
    assert (orders[0] == orders[1]) == (batches == 1)


def test_minibatches_of_one_draw_are_not_more_than_there_is():
    draw = Fixed(Sample(jnp.ones((5, 2)), jnp.ones(5)))
    with pytest.raises(ValueError, match=r"shape must hold at most the n = 5 .*, got \(2, 3\)"):
        draw(KEY, (2, 3))
    draw = Fixed(draw.sample, overlap=True)
    assert draw(KEY, (2, 5)).targets.shape == (2, 5)
    with pytest.raises(ValueError, match=r"shape must hold at most the n = 5 .*, got \(2, 6\)"):
        draw(KEY, (2, 6))


@pytest.mark.parametrize(("n", "size"), [(1, 1), (7, 1), (7, 3), (7, 6), (7, 7)])
def test_minibatches_that_overlap_are_subsets_of_one_law(n, size):
    count = 40_000
    draw = Fixed(Sample(jnp.arange(n), jnp.arange(n)), overlap=True)
    rows = np.asarray(draw(KEY, (count, size)).targets)
    chosen = np.zeros((count, n))
    np.add.at(chosen, (np.arange(count)[:, None], rows), 1)
    assert chosen.max() == 1  # none twice in a minibatch
    share = size / n
    pair = share * (size - 1) / max(n - 1, 1)
    expected = np.where(np.eye(n, dtype=bool), share, pair)
    error = np.sqrt(expected * (1 - expected) / count)
    assert np.all(np.abs(chosen.T @ chosen / count - expected) <= 4.5 * error)


SAMPLERS = {
    "listed": Listed(jnp.ones((4, 3)), 5, 0.2),
    "fresh": Fresh(3, 5, 0.2, "float64"),
    "rotated": Rotated(jnp.eye(3)[None], jnp.asarray(SPECTRUM), jnp.asarray(WEIGHTS), 5),
}


@pytest.mark.parametrize("draw", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("shape", [(7,), (2, 3)])
def test_prompts_hide_the_label_of_the_query(draw, shape):
    sample = draw(KEY, shape)
    assert sample.inputs.shape == (*shape, 6, 4) and sample.targets.shape == shape
    assert not np.any(sample.inputs[..., -1, -1]) and np.all(sample.inputs[..., :-1, -1])
    assert np.all(draw(jax.random.key(2), shape).targets != sample.targets)
    single = jax.tree.map(jnp.float32, draw)
    if not isinstance(draw, Fresh):  # it has no arrays, and names its precision
        assert single(KEY, shape).inputs.dtype == single(KEY, shape).targets.dtype == np.float32


def test_listed_tasks_are_those_of_the_list():
    tasks = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2)))
    sample, noisy = (Listed(tasks, 4, rho)(KEY, (2, 500)) for rho in (0.0, 0.25))
    p, y = np.asarray(sample.inputs), np.asarray(sample.targets)
    labels = np.concatenate([p[:, :, :-1, 2], y[:, :, None]], axis=2)
    misfit = np.abs(p[..., :2] @ np.asarray(tasks).T - labels[..., None]).max(axis=2)
    np.testing.assert_allclose(misfit.min(axis=2), 0, atol=1e-13)
    counts = np.bincount(misfit.argmin(axis=2).ravel())
    assert np.all(np.abs(counts - 1000 / 3) < 4 * np.sqrt(1000 * 2 / 9))
    x = p[..., :2].ravel()
    assert x.var() == pytest.approx(1 / 2, abs=4 * np.sqrt(2 / len(x)) / 2)
    np.testing.assert_array_equal(noisy.inputs[..., :2], p[..., :2])
    noise = np.asarray(noisy.targets) - y
    assert noise.var() == pytest.approx(0.25, abs=4 * 0.25 * np.sqrt(2 / 1000))


def test_fresh_tasks_are_gaussian_and_queries_without_noise():
    """Without noise the label is a function of the prompt: with n = ℓ > d, of least squares."""
    clean, noisy = (Fresh(4, 6, rho, "float64")(KEY, (5000,)) for rho in (0.0, 0.5))
    x, y = np.asarray(clean.inputs[..., :-1]), np.asarray(clean.inputs[:, :-1, -1])
    w = np.linalg.solve(x[:, :4], y[:, :4, None])[..., 0]
    np.testing.assert_allclose(np.sum(w * x[:, -1], axis=1), clean.targets, rtol=1e-6, atol=1e-6)
    assert np.var(w) == pytest.approx(1, abs=4 * np.sqrt(2 / 20_000))
    assert np.var(x) == pytest.approx(1 / 4, rel=0.02)
    np.testing.assert_array_equal(noisy.targets, clean.targets)
    noise = np.asarray(noisy.inputs[:, :-1, -1]) - y
    assert np.var(noise) == pytest.approx(0.5, abs=4 * 0.5 * np.sqrt(2 / 30_000))


def test_rotated_contexts_have_axes_of_their_own_and_exact_labels():
    pool = _rotations(np.random.SeedSequence(3), 3)
    assert pool.shape == (4096, 3, 3) and np.abs(pool @ pool.mT - np.eye(3)).max() < 1e-12
    alone = _rotations(np.random.SeedSequence(3), 1)
    assert alone.shape == (4096, 1, 1) and set(np.unique(alone)) == {-1.0, 1.0}
    parts = jax.tree.map(jnp.asarray, (pool, SPECTRUM, WEIGHTS))
    sample = Rotated(*parts, 4)(KEY, (20_000,))
    x, y = np.asarray(sample.inputs[..., :-1]), np.asarray(sample.inputs[:, :-1, -1])
    w = np.linalg.solve(x[:, :3], y[:, :3, None])[..., 0]
    for row, label in ((3, y[:, 3]), (4, sample.targets)):  # the others are labelled by the same w
        gap = np.abs(np.sum(x[:, row] * w, axis=1) - label)
        assert np.quantile(gap, 0.99) < 1e-8
    assert np.mean(np.asarray(sample.targets) ** 2) == pytest.approx(WEIGHTS.sum(), rel=0.05)
    # On average over rotations tokens have no direction; within one, the spectrum.
    assert np.allclose(x[:, 0].T @ x[:, 0] / 20_000, SPECTRUM.mean() * np.eye(3), atol=0.03)
    one = Rotated(parts[0][:1], *parts[1:], 4)(jax.random.key(5), (20_000,)).inputs
    x, y, bars = np.asarray(one[:, 0, :-1]), np.asarray(one[:, 0, -1]), np.sqrt(2 / 20_000)
    seen = pool[0].T @ (x.T @ x / 20_000) @ pool[0]
    assert np.allclose(seen, np.diag(SPECTRUM), atol=5 * bars * SPECTRUM.max())
    # and the label its share of each direction
    mean = np.mean((y[:, None] * (x @ pool[0])) ** 2, axis=0)
    expected = SPECTRUM * (WEIGHTS.sum() + 2 * WEIGHTS)
    assert np.allclose(mean, expected, rtol=0.1)


def test_covariances_and_products_are_those_of_gaussian_tokens():
    ell, size, rest = 5, 40_000, 0.3
    sample = Grams(jnp.asarray(SPECTRUM), jnp.asarray(WEIGHTS), rest, ell)(KEY, (size,))
    (S, product), goal = jax.tree.map(np.asarray, (sample.inputs, sample.targets))
    rng = np.random.default_rng(2)
    X = rng.standard_normal((size, ell, 3)) * np.sqrt(SPECTRUM)
    w = np.sqrt(WEIGHTS / SPECTRUM) * rng.standard_normal((size, 3))
    y = np.einsum("nid,nd->ni", X, w) + np.sqrt(rest) * rng.standard_normal((size, ell))
    expected = X.mT @ X / ell, np.einsum("nid,ni->nd", X, y) / ell, np.sqrt(SPECTRUM) * w
    pairs = []
    for some, b, left in ((S, product, goal), expected):
        squares = np.einsum("nij,njk->nik", some, some)
        parts = some, squares, b[:, :, None] * b[:, None], b[:, :, None] * left[:, None]
        pairs.append([(part.mean(axis=0), part.std(axis=0) / size**0.5) for part in parts])
    for (ours, bar), (theirs, other) in zip(*pairs, strict=True):
        assert np.all(np.abs(ours - theirs) < 5 * np.hypot(bar, other) + 1e-12)
