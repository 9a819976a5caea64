"""Trained depth: the networks, what is read off them, and that training finds known steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import iclkit.depth
from iclkit import attention, backend
from iclkit.contexts import draw_contexts
from iclkit.depth import LAYERS, STARTS, Reading, initial, predict, read, trained_depth, written
from iclkit.descent import deep_attention, descent_layers
from iclkit.sweep import sweep
from iclkit.tasks import draw_tasks

POINT = {
    "d": 3, "alpha": 2.0, "rho": 0.1, "depth": 2, "layers": "scalar", "start": "random",
    "steps": 3, "size": 5,
}  # fmt: skip
NAMES = {
    "risk", "read_risk", "steps_risk", "step_mean", "step_least", "step_most", "token_first",
}  # fmt: skip


def some_contexts(d=3, ell=5, n=4, seed=1):
    streams = backend.streams(seed)
    w = draw_tasks(n, d, streams.tasks, prior="gaussian")
    return draw_contexts(w, ell, 0.3, streams)


# Networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("layers", LAYERS)
def test_initial_networks(layers, start):
    params = initial(jax.random.key(1), layers, start, 4, 3)
    if layers == "full":
        assert params["between"].shape == params["value"].shape == (4, 4, 4)
    else:
        assert params["steps"].shape == (() if layers == "scalar-tied" else (4,))
        assert np.all((params["steps"] > 0) & (params["steps"] < 0.5))
    if start == "equal":
        np.testing.assert_allclose(read(params, 4).steps, 0.25)
        assert not np.any(read(params, 4).tokens)
    elif layers == "full":
        many = initial(jax.random.key(1), layers, start, 4, 60)
        for matrices in many.values():
            assert float(jnp.var(matrices)) == pytest.approx(1 / (4 * 61), rel=0.05)
    else:
        other = initial(jax.random.key(2), layers, start, 4, 3)
        assert not np.any(params["steps"] == other["steps"])


@given(st.lists(st.floats(-1, 2), min_size=1, max_size=4))
def test_step_sizes_make_gradient_steps(steps):
    prompts = attention.prompts(some_contexts())
    expected = deep_attention(descent_layers(np.array(steps), 3), prompts)
    params = {"steps": jnp.array(steps)}
    np.testing.assert_allclose(predict(params, prompts, len(steps)), expected, atol=1e-10)
    tied = {"steps": jnp.array(steps[0])}
    expected = deep_attention(descent_layers(np.full(3, steps[0]), 3), prompts)
    np.testing.assert_allclose(predict(tied, prompts, 3), expected, atol=1e-10)


@given(st.lists(st.tuples(st.floats(-1, 2), st.floats(-0.5, 0.5)), min_size=1, max_size=3))
def test_what_is_written_does_what_it_says_and_is_read(numbers):
    steps, tokens = np.array(numbers).T
    network = written(Reading(steps, tokens), 3)
    for found, given_ in zip(read(network, len(steps)), (steps, tokens), strict=True):
        np.testing.assert_allclose(found, given_, rtol=1e-14)
    contexts = some_contexts()
    X, S = contexts.tokens, 3 / 5 * contexts.tokens.mT @ contexts.tokens
    b = 3 / 5 * np.einsum("nid,ni->nd", X, contexts.labels)
    found, seen = np.zeros_like(b), np.broadcast_to(np.eye(3), S.shape)
    for step, token in numbers:
        gradient = b - np.einsum("nij,nj->ni", S, found)
        found = found + step * np.einsum("nij,njk,nk->ni", seen, seen, gradient)
        seen = seen @ (np.eye(3) + token * S @ seen @ seen)
    expected = np.sum(found * contexts.query, axis=1)
    ours = predict(network, attention.prompts(contexts), len(steps))
    scale = 1 + np.abs(expected).max()
    np.testing.assert_allclose(ours / scale, expected / scale, atol=1e-9)


def test_reading_of_random_layers_by_hand():
    params = initial(jax.random.key(3), "full", "random", 2, 3)
    found = read(params, 2)
    for layer in range(2):
        M, V = np.asarray(params["between"][layer]), np.asarray(params["value"][layer])
        compared = np.trace(M[:3, :3]) / 3
        assert found.steps[layer] == pytest.approx(-V[3, 3] * compared)
        assert found.tokens[layer] == pytest.approx(np.trace(V[:3, :3]) / 3 * compared)


# Training -------------------------------------------------------------------------------------


def test_fresh_contexts_are_those_of_the_book():
    like = jnp.zeros(4)
    sample = iclkit.depth._fresh(like, jax.random.key(5), 2, size=5000, ell=3, rho=0.5)
    assert sample.inputs.shape == (2, 5000, 4, 5) and sample.targets.shape == (2, 5000)
    assert not np.any(sample.inputs[:, :, -1, -1])
    x, y = np.asarray(sample.inputs[..., :-1]), np.asarray(sample.inputs[:, :, :-1, -1])
    assert np.var(x) == pytest.approx(1 / 4, rel=0.02)
    assert np.var(y) == pytest.approx(1.5, rel=0.03)
    assert np.var(sample.targets) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    ("layers", "depth"), [("scalar-tied", 2), ("scalar", 2), ("full", 1), ("full", 2)]
)
def test_result_is_complete_and_repeats(layers, depth):
    point = POINT | {"layers": layers, "depth": depth}
    result = trained_depth(1, **point)
    assert result.keys() == NAMES and all(np.isfinite(list(result.values())))
    assert result == trained_depth(1, **point) != trained_depth(2, **point)
    assert result["step_least"] <= result["step_mean"] <= result["step_most"]
    if layers != "full":
        assert result["read_risk"] == result["steps_risk"] == result["risk"]
    if depth == 1:
        assert result["token_first"] == 0 and result["read_risk"] == result["steps_risk"]


def test_training_finds_the_best_step_of_one_layer():
    # E tr S² = (ℓ + d + 1)/ℓ at finite d, in place of 1 + 1/α
    point = POINT | {"layers": "scalar-tied", "depth": 1, "d": 4, "alpha": 2.0, "rho": 0.0}
    result = trained_depth(3, **(point | {"steps": 400, "size": 100}))
    best = 8 / (8 + 4 + 1)
    assert result["step_mean"] == pytest.approx(best, abs=0.02)
    assert result["risk"] == pytest.approx(1 - best, rel=0.05)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"d": 0}, ValueError, "d must be"),
        ({"alpha": 0.01}, ValueError, "alpha must be finite"),
        ({"alpha": np.inf}, ValueError, "alpha must be finite"),
        ({"rho": -1.0}, ValueError, "rho must be"),
        ({"depth": 0}, ValueError, "depth must be"),
        ({"depth": 1.5}, TypeError, "depth must be"),
        ({"layers": "some"}, ValueError, "layers must be one of"),
        ({"start": "some"}, ValueError, "start must be one of"),
        ({"steps": 0}, ValueError, "steps must be"),
        ({"rate": 0.0}, ValueError, "rate must be"),
        ({"rate": np.inf}, ValueError, "rate must be"),
        ({"size": 0}, ValueError, "size must be"),
    ],
)
def test_arguments_are_checked_before_training(change, error, message, monkeypatch):
    monkeypatch.setattr(iclkit.depth, "train", None)
    with pytest.raises(error, match=message):
        trained_depth(0, **(POINT | change))
    with pytest.raises(error, match=message):
        sweep(trained_depth, POINT | change, seed=1, workers=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": "some"}, "layers must be"),
        ({"start": "some"}, "start must be"),
        ({"depth": 0}, "depth must be"),
        ({"d": 0}, "d must be"),
    ],
)
def test_initial_checks_its_arguments(change, message):
    arguments = {"layers": "full", "start": "equal", "depth": 1, "d": 2} | change
    with pytest.raises(ValueError, match=message):
        initial(jax.random.key(0), **arguments)
