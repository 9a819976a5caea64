"""Layers wider than their tokens, and what is read off what networks predict."""

import jax
import numpy as np
import pytest
from scipy.stats import ortho_group

from iclkit import backend
from iclkit.data.contexts import draw_contexts
from iclkit.data.tasks import draw_tasks
from iclkit.trained import wide
from iclkit.trained.depth import STARTS, Layers, Reading, written
from iclkit.trained.prompts import write
from iclkit.trained.wide import Wide, estimate, moves, nearest_step


@pytest.fixture(scope="module", autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def some_contexts(d=3, ell=5, n=40, rho=0.3, seed=1):
    streams = backend.streams(seed)
    w = draw_tasks(n, d, streams.tasks, prior="gaussian")
    return draw_contexts(w, ell, rho, streams)


def broken(name):
    contexts = some_contexts()
    return contexts._replace(**{name: np.nan * getattr(contexts, name)})


def descend(contexts, steps):
    """Estimates on the way, token by token."""
    (n, ell, d), found = contexts.tokens.shape, []
    w = np.zeros((n, d))
    for step in [0.0, *steps]:
        residual = contexts.labels - np.einsum("nid,nd->ni", contexts.tokens, w)
        w = w + step * d / ell * np.einsum("nid,ni->nd", contexts.tokens, residual)
        found.append(w)
    return np.stack(found)


@pytest.mark.parametrize("width", [4, 9])
def test_streams_that_start_equal_make_gradient_steps(width):
    contexts, network = some_contexts(), Wide(3)
    params = network.init(jax.random.key(0), 3, width, "equal")
    found = estimate(network, params, write(contexts))
    np.testing.assert_allclose(found, descend(contexts, [1 / 3] * 3), atol=1e-10)


def test_a_stream_is_what_its_formula_says():
    contexts, network = some_contexts(n=2), Wide(2)
    params = network.init(jax.random.key(3), 3, 6, "random")
    for prompt, found in zip(
        write(contexts), network.predict(params, write(contexts)), strict=True
    ):
        rows = prompt @ np.asarray(params["embedding"])
        for layer in range(2):
            query, key, value = (
                np.asarray(params["layers"][name][layer]) for name in ("query", "key", "value")
            )
            change = np.zeros_like(rows)
            for i in range(6):
                for j in range(5):  # none attends to the query
                    score = (rows[i] @ query) @ (rows[j] @ key) / 6**0.5
                    change[i] += 3 / 5 * score * (rows[j] @ value)
            rows = rows + change
        assert found == pytest.approx(rows[-1] @ np.asarray(params["readout"]))


@pytest.mark.parametrize("start", STARTS)
def test_initial_streams(start):
    params = Wide(2).init(jax.random.key(1), 3, 60, start)
    assert params["embedding"].shape == (4, 60) and params["readout"].shape == (60,)
    if start == "random":
        for leaf in (params["embedding"], *params["layers"].values()):
            assert float(np.var(leaf)) == pytest.approx(1 / 60, rel=0.15)


def test_estimates_are_those_of_any_query():
    contexts, network = some_contexts(), Layers("full", 2)
    params = network.init(jax.random.key(2), 3, "random")
    prompts = write(contexts)
    found = estimate(network, params, prompts)[-1]
    prompts[:, -1, :-1] = np.random.default_rng(0).standard_normal((40, 3))
    expected = np.sum(found * prompts[:, -1, :-1], axis=1)
    np.testing.assert_allclose(network.predict(params, prompts), expected, atol=1e-10)


def test_gradient_steps_are_read_exactly_and_others_are_not():
    contexts, steps = some_contexts(), [0.4, -0.1, 0.7]
    found = moves(descend(contexts, steps), contexts)
    np.testing.assert_allclose(found.steps, steps, rtol=1e-10)
    np.testing.assert_allclose(found.shares, 1, rtol=1e-10)
    still = moves(np.zeros((2, 40, 3)), contexts)
    assert still.steps[0] == still.shares[0] == 0
    params = written(Reading(np.array([0.3, 0.8]), np.array([-0.2, 0.0])), 3)
    found = moves(estimate(Layers("full", 2), params, write(contexts)), contexts)
    assert found.steps[0] == pytest.approx(0.3) and found.shares[0] == pytest.approx(1)
    assert found.shares[1] < 0.99  # a step on changed tokens is none on the context


def test_readings_do_not_depend_on_how_a_network_is_written():
    contexts = some_contexts()
    network, turn = Wide(2), ortho_group.rvs(7, random_state=1)
    params = network.init(jax.random.key(4), 3, 7, "random")
    turned = jax.tree.map(np.asarray, params)
    stretch = np.diag(np.linspace(0.5, 2, 7))
    turned["embedding"] = turned["embedding"] @ turn
    turned["readout"] = turn.T @ turned["readout"]
    layers = turned["layers"]
    turned["layers"] = {
        "query": turn.T @ layers["query"] @ stretch,
        "key": turn.T @ layers["key"] @ np.linalg.inv(stretch),
        "value": turn.T @ layers["value"] @ turn,
    }
    one, other = (
        moves(estimate(network, each, write(contexts)), contexts) for each in (params, turned)
    )
    np.testing.assert_allclose(one.steps, other.steps, rtol=1e-8)
    np.testing.assert_allclose(one.shares, other.shares, rtol=1e-6, atol=1e-8)


def test_the_nearest_of_equal_steps_are_themselves():
    contexts = some_contexts()
    last = descend(contexts, [0.35] * 3)[-1]
    for predicted in (last, np.sum(last * contexts.query, axis=1)):
        step, share = nearest_step(predicted, contexts, 3)
        assert step == pytest.approx(0.35, abs=1e-4) and share == pytest.approx(1, abs=1e-6)


def test_predictions_of_zero_are_explained_by_nothing():
    step, share = nearest_step(np.zeros(40), some_contexts(), 3)
    assert step == pytest.approx(0, abs=1e-4) and share == 0


def test_steps_nearest_to_the_posterior_mean_are_the_best_steps():
    # |ŵ_η − w|² = |ŵ_η − E w|² + |E w − w|² on average, at every η
    rho, ell, d = 0.3, 8, 4
    contexts = some_contexts(d, ell, 20_000, rho, seed=5)
    S = d / ell * contexts.tokens.mT @ contexts.tokens
    b = d / ell * np.einsum("nid,ni->nd", contexts.tokens, contexts.labels)
    ridge = np.linalg.solve(S + rho * d / ell * np.eye(d), b[:, :, None])[:, :, 0]
    step, _ = nearest_step(ridge, contexts, 2)
    streams = backend.streams(5)
    w = draw_tasks(20_000, d, streams.tasks, prior="gaussian")
    risks = [
        np.mean((descend(contexts, [eta] * 2)[-1] - w) ** 2)
        for eta in (step - 0.1, step, step + 0.1)
    ]
    assert risks[1] < min(risks[0], risks[2])


def test_steps_beside_are_the_steps_they_say():
    test = wide._draw(3, 4, 8, 0.2)
    found = wide._beside(test, 2, 0.2)
    made = descend(test.contexts, [found["equal_step"]] * 2)[-1]
    assert found["equal_risk"] == pytest.approx(np.mean((made - test.w) ** 2))
    assert found["bayes_risk"] < found["own_risk"] < found["equal_risk"]


@pytest.mark.parametrize("width", [None, 5])
def test_readings_of_trained_layers(width):
    point = {"d": 3, "alpha": 2.0, "rho": 0.1, "depth": 2, "start": "random", "width": width}
    found = wide.trained_layers(1, **point, steps=3, size=5)
    names = "risk equal_step equal_risk own_risk bayes_risk step share step_1 step_2 share_1"
    names += " share_2" + " read_risk steps_risk read_1 read_2 token_1 token_2" * (width is None)
    assert set(found) == set(names.split())
    assert all(np.isfinite(value) for value in found.values())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Wide(0), "depth must be"),
        (lambda: Wide(1).init(jax.random.key(0), 3, 3, "equal"), "width must be .* at least 4"),
        (lambda: Wide(1).init(jax.random.key(0), 3, 4, "some"), "start must be one of"),
        (lambda: moves(np.zeros((2, 3)), some_contexts()), "estimates must have shape"),
        (lambda: moves(np.zeros((2, 40, 3)), None), "contexts must be"),
        (lambda: nearest_step(np.zeros(3), some_contexts(), 1), "predicted must have shape"),
        (lambda: nearest_step(np.full(40, np.nan), some_contexts(), 1), "predicted must be fin"),
        (lambda: nearest_step(np.ones(40), some_contexts(), 0), "depth must be"),
        (lambda: nearest_step([[1.0], 2.0], some_contexts(), 1), "predicted must be an array"),
        (lambda: nearest_step(np.ma.ones(40), some_contexts(), 1), "predicted must be"),
        (lambda: nearest_step(np.ones(40), broken("tokens"), 1), "contexts.tokens must be fin"),
        (lambda: nearest_step(np.ones(40), broken("query"), 1), "contexts.query must be fin"),
        (lambda: moves(np.zeros((2, 40, 3)), broken("labels")), "contexts.labels must be fin"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize("name", ["depth", "d", "alpha", "rho", "steps", "width"])
def test_bad_points_are_refused(name):
    point = {"d": 3, "alpha": 2.0, "rho": 0.1, "depth": 2, "steps": 3, "width": 5}
    for trial, more in ((wide.trained_layers, {"start": "equal"}), (wide.trained_blocks, {})):
        with pytest.raises(ValueError, match=f"{name} must be"):
            trial.check(**(point | more | {name: -1}))
