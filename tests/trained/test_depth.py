"""Networks that make gradient steps, and what is read off them."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit import backend
from iclkit.data.contexts import draw_contexts
from iclkit.data.tasks import draw_tasks
from iclkit.theory.descent import deep_attention, descent_layers
from iclkit.trained.depth import LAYERS, STARTS, Layers, Reading, written
from iclkit.trained.prompts import write


@pytest.fixture(scope="module", autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def some_contexts(d=3, ell=5, n=4, seed=1):
    streams = backend.streams(seed)
    w = draw_tasks(n, d, streams.tasks, prior="gaussian")
    return draw_contexts(w, ell, 0.3, streams)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("layers", LAYERS)
def test_initial_networks(layers, start):
    network = Layers(layers, 4)
    params = network.init(jax.random.key(1), 3, start)
    shape, full = () if layers.endswith("tied") else (4,), layers.startswith("full")
    if full:
        assert params["between"].shape == params["value"].shape == (*shape, 4, 4)
    else:
        assert params["steps"].shape == shape
        assert np.all((params["steps"] > 0) & (params["steps"] < 0.5))
    if start == "equal":
        np.testing.assert_allclose(network.read(params).steps, 0.25)
        assert not np.any(network.read(params).tokens)
    elif full:
        for matrices in network.init(jax.random.key(1), 60, start).values():
            assert float(jnp.var(matrices)) == pytest.approx(1 / (4 * 61), rel=0.05)
    else:
        other = network.init(jax.random.key(2), 3, start)
        assert not np.any(params["steps"] == other["steps"])


@given(st.lists(st.floats(-1, 2), min_size=1, max_size=4))
def test_step_sizes_make_gradient_steps(steps):
    prompts, depth = write(some_contexts()), len(steps)
    expected = deep_attention(descent_layers(np.array(steps), 3), prompts)
    found = Layers("scalar", depth).predict({"steps": jnp.array(steps)}, prompts)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    expected = deep_attention(descent_layers(np.full(3, steps[0]), 3), prompts)
    found = Layers("scalar-tied", 3).predict({"steps": jnp.array(steps[0])}, prompts)
    np.testing.assert_allclose(found, expected, atol=1e-10)


@given(st.lists(st.tuples(st.floats(-1, 2), st.floats(-0.5, 0.5)), min_size=1, max_size=3))
def test_what_is_written_does_what_it_says_and_is_read(numbers):
    steps, tokens = np.array(numbers).T
    params, network = written(Reading(steps, tokens), 3), Layers("full", len(steps))
    for found, given_ in zip(network.read(params), (steps, tokens), strict=True):
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
    ours = network.predict(params, write(contexts))
    scale = 1 + np.abs(expected).max()
    np.testing.assert_allclose(ours / scale, expected / scale, atol=1e-9)


def test_one_full_layer_again_and_again_is_as_many_equal_ones():
    prompts = write(some_contexts())
    tied, network = Layers("full-tied", 3), Layers("full", 3)
    params = tied.init(jax.random.key(5), 3, "random")
    repeated = {name: jnp.stack([matrices] * 3) for name, matrices in params.items()}
    expected = deep_attention([(params["between"], params["value"])] * 3, prompts)
    np.testing.assert_allclose(tied.predict(params, prompts), expected, rtol=1e-12)
    np.testing.assert_allclose(network.predict(repeated, prompts), expected, rtol=1e-12)
    for found, other in zip(tied.read(params), network.read(repeated), strict=True):
        np.testing.assert_array_equal(found, other)


def test_reading_of_random_layers_by_hand():
    network = Layers("full", 2)
    params = network.init(jax.random.key(3), 3, "random")
    found = network.read(params)
    for layer in range(2):
        M, V = np.asarray(params["between"][layer]), np.asarray(params["value"][layer])
        compared = np.trace(M[:3, :3]) / 3
        assert found.steps[layer] == pytest.approx(-V[3, 3] * compared)
        assert found.tokens[layer] == pytest.approx(np.trace(V[:3, :3]) / 3 * compared)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Layers("some", 1), "layers must be one of"),
        (lambda: Layers("full", 0), "depth must be an integer of at least 1, got 0"),
        (lambda: Layers("full", 1).init(jax.random.key(0), 2, "some"), "start must be one of"),
        (lambda: Layers("full", 1).init(jax.random.key(0), 0, "equal"), "d must be"),
        (lambda: Layers("full", 1).init(jax.random.key(0), 0, "random"), "d must be"),
        (lambda: written(Reading(np.ones(2), np.ones(3)), 2), r"reading.tokens must have shape"),
        (lambda: written(Reading(np.ones(1), np.full(1, np.nan)), 2), "reading.tokens must be fin"),
        (lambda: written(Reading(np.ones(1), np.ones(1)), 0), "d must be"),
        (lambda: written((np.ones(1), np.ones(1)), 2), "reading must be a Reading"),
        (lambda: written(None, 2), "reading must be a Reading"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize("method", ["predict", "read"])
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("other", [*(Layers(name, 2) for name in LAYERS), Layers("scalar", 1)])
def test_parameters_of_another_network_are_refused(method, layers, other):
    network, prompts = Layers(layers, 2), write(some_contexts())
    params = other.init(jax.random.key(0), 3, "equal")
    given_ = (params, prompts) if method == "predict" else (params,)
    foreign = pytest.raises(ValueError, match="params must be those of")
    with contextlib.nullcontext() if network == other else foreign:
        getattr(network, method)(*given_)


@pytest.mark.parametrize("method", ["predict", "read"])
@pytest.mark.parametrize(("layers", "other"), [("full-tied", "full"), ("full", "full-tied")])
def test_matrices_of_two_networks_are_refused(method, layers, other):
    network, prompts = Layers(layers, 2), write(some_contexts())
    params = network.init(jax.random.key(0), 3, "equal")
    for name in params:
        mixed = params | {name: Layers(other, 2).init(jax.random.key(0), 3, "equal")[name]}
        given_ = (mixed, prompts) if method == "predict" else (mixed,)
        with pytest.raises(ValueError, match="params must be those of"):
            getattr(network, method)(*given_)
