"""Networks trained on power-law tasks: what they are given, and that training finds known steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import iclkit.scaling
from iclkit.descent import power_law
from iclkit.scaling import trained_shape, trained_softmax

SHAPE = {"nu": 1.5, "beta": 0.8, "ell": 20, "depth": 2, "width": 3, "tied": True, "steps": 20}
SOFTMAX = {"model": "softmax", "nu": 1.5, "beta": 0.8, "directions": 3, "ell": 4, "width": 5}
SOFTMAX |= {"steps": 20, "size": 16}
LAW = power_law(1.5, 0.8, 3)
SPECTRUM, WEIGHTS = LAW.nodes[:-1], LAW.weights[:-1]


# What is drawn --------------------------------------------------------------------------------


def test_covariances_and_products_are_those_of_gaussian_tokens():
    ell, size, rest = 5, 40_000, 0.3
    draw = {"size": size, "ell": ell, "weights": WEIGHTS, "rest": rest}
    sample = iclkit.scaling._seen(jnp.asarray(SPECTRUM), jax.random.key(1), 1, **draw)
    (S, product), goal = (np.asarray(leaf)[0] for leaf in sample.inputs), sample.targets[0]
    rng = np.random.default_rng(2)
    X = rng.standard_normal((size, ell, 3)) * np.sqrt(SPECTRUM)
    w = np.sqrt(WEIGHTS / SPECTRUM) * rng.standard_normal((size, 3))
    y = np.einsum("nid,nd->ni", X, w) + np.sqrt(rest) * rng.standard_normal((size, ell))
    expected = X.mT @ X / ell, np.einsum("nid,ni->nd", X, y) / ell, np.sqrt(SPECTRUM) * w
    pairs = []
    for some, b, left in ((S, product, np.asarray(goal)), expected):
        squares = np.einsum("nij,njk->nik", some, some)
        parts = some, squares, b[:, :, None] * b[:, None], b[:, :, None] * left[:, None]
        pairs.append([(part.mean(axis=0), part.std(axis=0) / size**0.5) for part in parts])
    for (ours, bar), (theirs, other) in zip(*pairs, strict=True):
        assert np.all(np.abs(ours - theirs) < 5 * np.hypot(bar, other) + 1e-12)


def test_contexts_have_a_rotation_each_and_exact_labels():
    pool = iclkit.scaling._rotations(np.random.SeedSequence(3), 3)
    assert np.abs(pool @ pool.mT - np.eye(3)).max() < 1e-12
    shape, ell = (20_000,), 4
    drawn = iclkit.scaling._draw(pool, jax.random.key(4), shape, ell, SPECTRUM, WEIGHTS)
    prompt, y, w = (np.asarray(part) for part in drawn)
    assert prompt.shape == (20_000, 5, 4) and not np.any(prompt[:, -1, -1])
    np.testing.assert_allclose(np.einsum("nid,nd->ni", prompt[:, :, :-1], w), y, atol=1e-12)
    np.testing.assert_array_equal(prompt[:, :-1, -1], y[:, :-1])
    assert np.mean(y**2) == pytest.approx(WEIGHTS.sum(), rel=0.05)
    x = prompt[:, 0, :-1]
    # On average over rotations tokens have no direction; within one, the spectrum.
    assert np.allclose(x.T @ x / 20_000, SPECTRUM.mean() * np.eye(3), atol=0.03)
    alone = iclkit.scaling._rotations(np.random.SeedSequence(3), 1)
    assert set(np.unique(alone)) == {-1.0, 1.0}
    one = jnp.broadcast_to(pool[:1], pool.shape)
    prompt, _, _ = iclkit.scaling._draw(one, jax.random.key(5), shape, ell, SPECTRUM, WEIGHTS)
    x = np.asarray(prompt[:, 0, :-1])
    bars = np.sqrt(2 / 20_000) * SPECTRUM.max()
    seen = np.asarray(pool[0].T @ (x.T @ x / 20_000) @ pool[0])
    assert np.allclose(seen, np.diag(SPECTRUM), atol=5 * bars)


@pytest.mark.parametrize("sizes", [0.7, [0.7, 0.2, -0.4]])
def test_steps_are_gradient_steps(sizes):
    rng = np.random.default_rng(6)
    X, w = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 3))
    S, product = X.mT @ X / 5, np.einsum("nid,nie,ne->nd", X, X, w) / 5
    found = np.zeros((2, 3))
    for step in np.broadcast_to(sizes, 3):
        found += step * (product - np.einsum("nij,nj->ni", S, found))
    ours = iclkit.scaling._descend(jnp.asarray(sizes), (S, product), spectrum=SPECTRUM, depth=3)
    np.testing.assert_allclose(ours, np.sqrt(SPECTRUM) * found, rtol=1e-12)


# Training -------------------------------------------------------------------------------------


def test_training_finds_the_best_step_of_one_layer():
    result = trained_shape(1, **(SHAPE | {"depth": 1, "steps": 600, "size": 200}))
    ell, rest = SHAPE["ell"], LAW.weights[-1]
    # E S Λ S = (1 + 1/ℓ) Λ³ + Λ tr Λ²/ℓ, and the noise from beyond adds tr Λ² · rest/ℓ.
    scatter = SPECTRUM @ SPECTRUM / ell * (WEIGHTS.sum() + rest)
    curvature = (1 + 1 / ell) * WEIGHTS @ SPECTRUM**2 + scatter
    best = WEIGHTS @ SPECTRUM / curvature
    least = WEIGHTS.sum() + rest - (WEIGHTS @ SPECTRUM) ** 2 / curvature
    assert result["step_mean"] == pytest.approx(best, rel=0.03)
    assert result["risk"] == pytest.approx(least, rel=0.07)


@pytest.mark.parametrize("tied", [True, False])
def test_result_of_a_shape_is_complete_and_repeats(tied):
    result = trained_shape(1, **(SHAPE | {"tied": tied}))
    assert result.keys() == {"risk", "step_mean", "step_least", "step_most"}
    assert result == trained_shape(1, **(SHAPE | {"tied": tied}))
    assert result != trained_shape(2, **(SHAPE | {"tied": tied}))
    assert (result["step_least"] == result["step_most"]) == tied
    assert result["step_least"] <= result["step_mean"] <= result["step_most"]
    assert LAW.weights[-1] < result["risk"] < LAW.weights.sum()


def test_softmax_repeats_and_learns():
    result = trained_softmax(1, **SOFTMAX)
    assert result == trained_softmax(1, **SOFTMAX) != trained_softmax(2, **SOFTMAX)
    longer = trained_softmax(1, **(SOFTMAX | {"ell": 16, "steps": 600, "size": 128}))
    assert longer["risk"] < 0.8 < result["risk"]


@pytest.mark.parametrize(
    ("measure", "change", "error", "message"),
    [
        (trained_shape, {"ell": 0}, ValueError, "ell must be"),
        (trained_shape, {"width": 21}, ValueError, "width must be at most ell = 20, got 21"),
        (trained_shape, {"width": 0}, ValueError, "width must be"),
        (trained_shape, {"nu": 0.0}, ValueError, "nu must be"),
        (trained_shape, {"beta": np.nan}, ValueError, "beta must be"),
        (trained_shape, {"depth": 0}, ValueError, "depth must be"),
        (trained_shape, {"tied": 1}, TypeError, "tied must be True or False"),
        (trained_shape, {"rate": np.inf}, ValueError, "rate must be positive and finite"),
        (trained_shape, {"steps": 0}, ValueError, "steps must be"),
        (trained_softmax, {"model": "linear"}, ValueError, "model must be one of the softmax"),
        (trained_softmax, {"model": "none"}, ValueError, "model must be"),
        (trained_softmax, {"directions": 0}, ValueError, "directions must be"),
        (trained_softmax, {"ell": 0}, ValueError, "ell must be"),
        (trained_softmax, {"rate": np.inf}, ValueError, "rate must be positive and finite"),
        (trained_softmax, {"size": 0}, ValueError, "size must be"),
    ],
)
def test_bad_input_is_refused(measure, change, error, message):
    point = (SHAPE if measure is trained_shape else SOFTMAX) | change
    with pytest.raises(error, match=message):
        measure(1, **point)
    with pytest.raises(error, match=message):
        measure.check(**point)


def test_a_diverging_training_is_named():
    with pytest.raises(FloatingPointError, match="take a smaller rate"):
        trained_shape(1, **(SHAPE | {"depth": 64, "rate": 1e6, "steps": 100}))
