"""The transformer: what it can see, how it scales, and what its trial measures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iclkit.trained.prompts import Fresh, Sample
from iclkit.trained.transformer import (
    BASE,
    LENGTHS,
    LOOKS,
    Labelled,
    Transformer,
    trained_blocks,
    trained_transformer,
)

POINT = {"d": 3, "alpha": 2.0, "rho": 0.1, "width": 8, "steps": 50, "rate": 1e-2}
POINT |= {"depth": 1, "heads": 2, "size": 8}


@pytest.fixture(scope="module", autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def network(seed=0, d=3, **options):
    model = Transformer(**{"width": 8, "depth": 2, "heads": 2} | options)
    params = model.init(jax.random.key(seed), d)
    # Where all is drawn, nothing is hidden by a zero or a one.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    moved = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return model, jax.tree.unflatten(tree, moved)


def prompts(n=5, ell=4, d=3, seed=0):
    drawn, _ = Fresh(d, ell, 0.1, "float64")(jax.random.key(seed), (n,))
    return drawn


@pytest.mark.parametrize("tokens", ["pairs", "interleaved"])
def test_every_label_is_predicted_from_those_before_it(tokens):
    model, params = network(tokens=tokens)
    z = prompts()
    before = model.predict(params, z)
    assert before.shape == ((5, 5) if tokens == "interleaved" else (5, 1))
    for row in range(4):
        for column in (0, 3):  # a token, and a label
            change = model.predict(params, z.at[:, row, column].add(1.0)) - before
            moved = np.abs(np.asarray(change)).max(axis=0) > 1e-9
            if tokens == "pairs":
                assert moved.tolist() == [True]
            else:  # the label of its own row is not seen
                first = row if column == 0 else row + 1
                assert moved.tolist() == [i >= first for i in range(5)]


def test_what_stands_in_the_place_of_the_query_label_is_not_read():
    """Interleaved, it is no token; in pairs it is one, and zero by the convention of prompts."""
    model, params = network(tokens="interleaved")
    z = prompts()
    other = model.predict(params, z.at[:, -1, -1].set(7.0))
    np.testing.assert_array_equal(model.predict(params, z), other)


@pytest.mark.parametrize(
    ("scaling", "scale", "shrink"), [("standard", 4**-0.5, 1.0), ("mup", 8**0.5 / 4, 16 / 8)]
)
def test_plain_numpy_predicts_the_same(scaling, scale, shrink):
    """Written down once more, one prompt and one head at a time."""
    model, params = network(positions=5, scaling=scaling)
    params = jax.tree.map(np.asarray, params)
    z = np.asarray(prompts())

    def norm(p, x):
        x = x - x.mean(axis=1, keepdims=True)
        return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]

    def dense(p, x):
        return x @ p["kernel"] + p.get("bias", 0.0)

    def gelu(x):  # by tanh, as JAX has it
        return x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))

    for prompt, predicted in zip(z, model.predict(params, z), strict=True):
        x = dense(params["embedding"], prompt) + params["positions"]
        for block in params["blocks"]:
            u, heads = norm(block["attended"], x), []
            q, k, v = (dense(block[name], u) for name in ("query", "key", "value"))
            for head in (slice(0, 4), slice(4, 8)):
                scores = scale * q[:, head] @ k[:, head].T
                weights = np.tril(np.exp(scores))
                heads.append(weights / weights.sum(axis=1, keepdims=True) @ v[:, head])
            x = x + dense(block["out"], np.concatenate(heads, axis=1))
            hidden = gelu(dense(block["inside"], norm(block["dense"], x)))
            x = x + dense(block["outside"], hidden)
        readout = params["readout"]
        last = norm(params["norm"], x)[-1] @ readout["kernel"] * shrink + readout["bias"]
        np.testing.assert_allclose(predicted, last)


def trained(model, params=None, steps=5, rate=1e-2):
    """Return predictions before and after some steps on one minibatch."""
    z = prompts(n=64, ell=6)
    targets = z[:, :-1, -1].mean(axis=1)[:, None]
    if params is None:
        params = model.init(jax.random.key(0), 3)
    optimiser = model.optimiser(1000, rate)
    state = optimiser.init(params)
    predict = jax.jit(model.predict)
    start = predict(params, z)

    @jax.jit
    def step(params, state):
        gradient = jax.grad(lambda p: jnp.mean((model.predict(p, z) - targets) ** 2))(params)
        updates, state = optimiser.update(gradient, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return np.asarray(start), np.asarray(predict(params, z))


def test_both_scalings_are_one_at_the_base_width():
    """From one draw they go the same way, and only the read-out is drawn by another law."""
    models = [Transformer(BASE, depth=1, scaling=scaling) for scaling in ("standard", "mup")]
    params = models[0].init(jax.random.key(0), 3)
    standard, scaled = (trained(model, params) for model in models)
    assert np.std(standard[1] - standard[0]) > 0.01
    np.testing.assert_allclose(scaled, standard, rtol=0, atol=1e-9)
    keys = jax.random.split(jax.random.key(1), 1000)
    drawn = [jax.vmap(lambda key, m=model: m.init(key, 3))(keys) for model in models]
    for one in drawn:  # of 16,000 numbers, whose variance is known to a per cent
        readout = one.pop("readout")["kernel"]
        assert np.var(readout) * BASE == pytest.approx(1, abs=0.05)
    jax.tree.map(np.testing.assert_array_equal, *drawn)


def test_a_step_moves_as_much_at_every_width_only_if_scaled():
    """The point of μP: at one rate, predictions move as far at width 256 as at 16."""
    moved = {
        (scaling, width): np.sqrt(np.mean(np.subtract(*trained(model)) ** 2))
        for scaling in ("standard", "mup")
        for width in (16, 256)
        for model in [Transformer(width, depth=1, heads=4, scaling=scaling)]
    }
    growth = {s: moved[s, 256] / moved[s, 16] for s in ("standard", "mup")}
    assert 0.4 < growth["mup"] < 2.5
    assert growth["standard"] > 2 * growth["mup"]


def test_rates_are_divided_inside_only():
    model = Transformer(64, depth=1, heads=4, scaling="mup")
    params = model.init(jax.random.key(0), 3)
    ones = jax.tree.map(jnp.ones_like, params)
    steps, states = {}, {}
    for scaling in ("standard", "mup"):
        optimiser = Transformer(64, depth=1, heads=4, scaling=scaling).optimiser(100, 1e-2)
        states = optimiser.init(params)
        for _ in range(2):  # the rate of the first step is zero, in a warm-up
            steps[scaling], states = optimiser.update(
                ones, states, jax.tree.map(jnp.zeros_like, params)
            )
    ratio = jax.tree.map(
        lambda a, b: float(a.ravel()[0] / b.ravel()[0]), steps["mup"], steps["standard"]
    )
    inside = ratio["blocks"][0]
    for name in ("query", "key", "value", "out", "inside", "outside"):
        assert inside[name]["kernel"] == pytest.approx(BASE / 64)
    assert inside["inside"]["bias"] == inside["attended"]["scale"] == pytest.approx(1)
    for name in ("embedding", "readout"):
        assert ratio[name]["kernel"] == pytest.approx(1)


@pytest.mark.parametrize("width", [16, 64])
def test_parameters_are_twelve_squares_of_the_width(width):
    params = jax.eval_shape(lambda key: Transformer(width).init(key, 5), jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == 4 * (12 * width**2 + 9 * width) + 7 * width + 3 * width + 1


def test_learned_positions_end():
    model, params = network(positions=5)
    model.predict(params, prompts(ell=4))
    with pytest.raises(ValueError, match="prompts must have at most 5 tokens, got 6"):
        model.predict(params, prompts(ell=5))


def test_labels_have_the_shape_of_predictions():
    for tokens in ("pairs", "interleaved"):
        inputs, targets = Labelled(Fresh(3, 4, 0.1, "float64"), tokens)(jax.random.key(0), (2, 7))
        model, params = network(tokens=tokens)
        assert model.predict(params, inputs[0]).shape == targets[0].shape
        plain: Sample = Fresh(3, 4, 0.1, "float64")(jax.random.key(0), (2, 7))
        np.testing.assert_array_equal(targets[..., -1], plain.targets)


# The trial --------------------------------------------------------------------------------------


def test_a_network_that_does_not_learn_is_measured_right():
    """At a rate of nothing predictions are about zero, and their distance is Bayes' mean square."""
    found = trained_transformer(0, **POINT | {"rate": 1e-12, "width": 32})
    # E (wᵀx)² = 1 is what Bayes explains and what it leaves.
    left = found["bayes_error"] - POINT["rho"]
    network = found["excess_100"]  # of a small random network, in which the query moves little
    assert 0 < left < 0.5 and network > 0.3 * (1 - left)
    assert found["icl_error"] == pytest.approx(found["bayes_error"] + found["excess_100"])
    assert found["excess_02"] == pytest.approx(found["excess_100"], rel=1e-3)
    assert {name for name in found if name.startswith("excess_ell")} == {
        f"excess_ell_{length:02d}" for length in LENGTHS
    }
    assert sum(name.startswith("excess") for name in found) == len(LENGTHS) + len(LOOKS)


def test_training_comes_nearer_to_bayes():
    longer = POINT | {"steps": 1000, "size": 32, "width": 16}
    found = trained_transformer(1, **longer)
    assert found["excess_100"] < 0.7 * found["excess_02"]
    assert found["train_loss"] == pytest.approx(found["icl_error"] - POINT["rho"], rel=0.35)


def test_one_task_is_learned_by_heart():
    point = POINT | {"kappa": 1 / 3, "steps": 1000, "size": 32, "width": 16}
    found = trained_transformer(2, **point)
    assert found["dmmse_error"] == pytest.approx(POINT["rho"])  # the posterior mean is the task
    assert found["idg_error"] < 0.3 < found["icl_error"]
    assert found["from_dmmse"] < found["from_ridge"]
    assert found["from_ridge"] == pytest.approx(found["excess_100"])


def test_a_fixed_sample_is_gone_through_again():
    point = POINT | {"steps": 1000, "width": 16, "size": 16}
    online, kept = (trained_transformer(3, **point | {"tau": tau}) for tau in (np.inf, 16 / 9))
    assert kept["train_loss"] < 0.3 * online["train_loss"]  # sixteen contexts, by heart
    assert kept["icl_error"] > online["icl_error"]


def test_blocks_are_trained_and_measured_alike():
    """On the same test, and by a loss that is their error; a network of its own learns from it."""
    point = {name: POINT[name] for name in ("d", "alpha", "rho")} | {"rate": 1e-2}
    point |= {"width": 16, "steps": 1000, "size": 32}
    found = trained_blocks(1, model="two-blocks", **point)
    other = trained_transformer(1, **POINT | {"steps": 50})
    assert found.keys() == other.keys()
    assert found["bayes_error"] == other["bayes_error"]
    assert found["excess_100"] < 0.7 * found["excess_02"]
    assert found["train_loss"] == pytest.approx(found["icl_error"] - POINT["rho"], rel=0.35)
    near = found["excess_ell_05"], found["excess_ell_07"]  # other contexts than those of training
    assert 0.8 * min(near) < found["excess_100"] < 1.2 * max(near)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "linear"}, "model must be one of one-block, softmax, two-blocks"),
        ({"steps": 60}, "steps must be a multiple of 50, got 60"),
        ({"width": 0}, "width must be an integer of at least 1, got 0"),
        ({"size": 0}, "size must be an integer of at least 1, got 0"),
        ({"rate": np.inf}, "rate must be positive and finite"),
        ({"rho": -1.0}, "rho must be finite and at least 0"),
    ],
)
def test_bad_blocks_are_refused_before_they_are_trained(change, message):
    point = {"model": "two-blocks", "d": 3, "alpha": 2.0, "rho": 0.1, "width": 8, "rate": 1e-2}
    with pytest.raises(ValueError, match=message):
        trained_blocks.check(**point | {"steps": 100} | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 9}, "width must be a multiple of heads = 2, got 9"),
        ({"heads": 0}, "heads must be an integer of at least 1, got 0"),
        ({"steps": 60}, "steps must be a multiple of 50, got 60"),
        ({"tokens": "words"}, "tokens must be one of pairs, interleaved, got 'words'"),
        ({"scaling": "muP"}, "scaling must be one of standard, mup, got 'muP'"),
        ({"kappa": 0.0}, "kappa must be positive"),
        ({"kappa": np.nan}, "kappa must be positive"),
        ({"tau": -1.0}, "tau must be positive"),
        ({"tau": 0.5}, "size must be at most n = 4, got 8"),
        ({"rate": np.inf}, "rate must be positive and finite"),
        ({"size": 0}, "size must be an integer of at least 1"),
    ],
)
def test_bad_point_is_refused_before_it_is_computed(change, message):
    with pytest.raises(ValueError, match=message):
        trained_transformer.check(**POINT | change)


def test_positions_are_a_flag_in_the_trial():
    with pytest.raises(TypeError, match="positions must be True or False, got 3"):
        trained_transformer.check(**POINT | {"positions": 3})
    found = trained_transformer(4, **POINT | {"positions": True})
    assert sum(name.startswith("excess_ell") for name in found) == sum(i <= 6 for i in LENGTHS)
