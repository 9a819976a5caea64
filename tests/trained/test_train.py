"""Training: AdamW by the book, the steps asked for, and divergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import iclkit.trained.train
from iclkit.trained.prompts import Fixed, Sample
from iclkit.trained.train import adamw, fit

N, D = 10, 3  # prompts, dimension of what is trained in most tests


@pytest.fixture(scope="module", autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def line(params, x):
    """Predict with the simplest network, whose training numpy can repeat."""
    return x @ params["a"] + params["b"]


def problem(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    params = {"a": 3 * rng.standard_normal(D), "b": rng.standard_normal()}
    sample = Sample(rng.standard_normal((N, D)), rng.standard_normal(N))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (params, sample))


def train(optimiser, steps, batches=1, key=0, dtype=np.float64):
    params, sample = problem(dtype=dtype)
    shape = (batches, N // batches)
    key = jax.random.key(key)
    return fit(line, params, Fixed(sample), optimiser, steps, key=key, shape=shape)


def assert_same(result, expected):
    jax.tree.map(np.testing.assert_array_equal, result, expected)


# Steps ----------------------------------------------------------------------------------------


def by_hand(params, x, y, rates, decay, clip=1.0):
    """AdamW on the full batch as its authors write it, in numpy, gradients cut to a norm."""
    theta = np.append(params["a"], params["b"])
    x = np.column_stack([x, np.ones(len(x))])
    mean, square, losses = 0, 0, []
    for t, rate in enumerate(rates, start=1):
        residual = x @ theta - y
        losses.append(np.mean(residual**2))
        gradient = 2 * residual @ x / len(y)
        gradient = gradient * min(1, clip / np.linalg.norm(gradient))
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        step = (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        theta = theta - rate * (step + decay * theta)
    return {"a": theta[:-1], "b": theta[-1]}, losses


def cosine(rate, steps):
    rise = max(steps // 50, 1)
    t = np.arange(steps)
    fall = (1 + np.cos(np.pi * (t - rise) / (steps - rise))) / 2
    return rate * np.where(t < rise, t / rise, fall)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_steps_are_those_of_adamw(schedule):
    tolerance = {"cosine": 1e-8, "constant": 1e-12}[schedule]  # optax has cosines in float32
    rates = cosine(0.05, 150) if schedule == "cosine" else np.full(150, 0.05)
    params, sample = problem()
    end, losses = train(adamw(150, 0.05, schedule=schedule, decay=0.3), 150)
    expected, theirs = by_hand(params, *map(np.asarray, sample), rates, 0.3)
    assert losses.shape == (150,) and losses.dtype == np.float64
    for name in "ab":
        np.testing.assert_allclose(end[name], expected[name], rtol=0, atol=tolerance)
    np.testing.assert_allclose(losses, theirs, rtol=100 * tolerance)
    # The cut and the decay are felt.
    assert abs(train(adamw(150, 0.05, schedule=schedule), 150)[0]["b"] - end["b"]) > 1e-4


def test_gradients_are_cut_to_the_norm():
    params, sample = problem()
    rates, theirs = np.full(60, 0.05), map(np.asarray, sample)
    end, _ = train(adamw(60, 0.05, schedule="constant", decay=0.0, clip=np.inf), 60)
    expected, _ = by_hand(params, *theirs, rates, 0.0, clip=np.inf)
    np.testing.assert_allclose(end["b"], expected["b"], rtol=0, atol=1e-12)
    cut, _ = train(adamw(60, 0.05, schedule="constant", decay=0.0), 60)
    assert abs(cut["b"] - end["b"]) > 1e-4


@pytest.mark.parametrize("steps", [1, 2])
def test_shortest_trainings_learn(steps):
    end, losses = train(adamw(steps, 0.05, decay=0.0), steps)
    assert losses.shape == (steps,)
    moved = np.abs(end["b"] - problem()[0]["b"])
    np.testing.assert_allclose(moved, 0.05, rtol=1e-4)  # of two steps, the first has rate 0


@pytest.mark.parametrize("chunks", [1, 7, 50])
@pytest.mark.parametrize(("steps", "batches"), [(1, 5), (10, 3), (51, 1), (120, 5)])
def test_as_many_steps_as_asked_for_however_they_are_divided(steps, batches, chunks, monkeypatch):
    optimiser = adamw(steps, 0.05)
    expected = train(optimiser, steps, batches)
    monkeypatch.setattr(iclkit.trained.train, "_CHUNKS", chunks)
    end, losses = train(optimiser, steps, batches)
    assert losses.shape == (steps,) and int(np.sum(losses != losses[-1])) == steps - 1
    for ours, theirs in zip(jax.tree.leaves(end), jax.tree.leaves(expected[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_a_line_is_found():
    params, sample = problem()
    end, losses = train(adamw(2500, 0.03, decay=0.0), 2500)
    design = np.column_stack([sample.inputs, np.ones(N)])
    best, misfit, *_ = np.linalg.lstsq(design, np.asarray(sample.targets), rcond=None)
    np.testing.assert_allclose(end["a"], best[:-1], atol=1e-4)
    assert losses[-1] == pytest.approx(misfit[0] / N, rel=1e-6)


def test_precision_is_that_of_what_is_given():
    optimiser = adamw(300, 0.05)
    single, double = (train(optimiser, 300, dtype=dtype)[0] for dtype in (np.float32, np.float64))
    assert single["a"].dtype == jnp.float32 and double["a"].dtype == jnp.float64
    np.testing.assert_allclose(single["a"], double["a"], rtol=0, atol=1e-4)
    assert np.any(single["a"] != double["a"])


def test_same_key_same_network():
    optimiser = adamw(60, 0.05)
    once, again, other = (train(optimiser, 60, 3, key) for key in (5, 5, 6))
    assert_same(once, again)
    assert np.all(other[0]["a"] != once[0]["a"])


def test_every_round_draws_anew():
    def draw(key, shape):
        return Sample(jax.random.normal(key, (*shape, D)), jnp.zeros(shape))

    draw = jax.tree_util.Partial(draw)
    params, optimiser = {"a": jnp.ones(D), "b": 0.0}, adamw(12, 1e-12)
    _, losses = fit(line, params, draw, optimiser, 12, key=jax.random.key(1), shape=(3, 4))
    assert len(set(np.round(losses, 6))) == 12  # the rate moves far less than that
    assert np.mean(losses) == pytest.approx(D, abs=4 * D * np.sqrt(2 / 48))


def test_equal_arguments_are_compiled_once():
    assert adamw(10, 0.1) is adamw(10, 0.1) is not adamw(11, 0.1)
    train(adamw(20, 0.1), 20)
    compiled = iclkit.trained.train._rounds._cache_size()
    train(adamw(20, 0.1), 20, key=3)
    assert iclkit.trained.train._rounds._cache_size() == compiled


# Divergence and bad arguments -----------------------------------------------------------------


@pytest.mark.parametrize("chunks", [1, 50])
def test_divergence_is_noticed_and_located(chunks, monkeypatch):
    """On climbing an exponential."""
    monkeypatch.setattr(iclkit.trained.train, "_CHUNKS", chunks)
    sample = Sample(jnp.ones(1), jnp.full(1, 1e140))
    optimiser = adamw(200, 50.0, schedule="constant", decay=0.0)
    climb = {"p": jnp.zeros(())}
    with pytest.raises(FloatingPointError, match="not finite in step 8: take a smaller rate"):
        fit(
            lambda params, x: x * jnp.exp(params["p"]), climb, Fixed(sample), optimiser, 200,
            key=jax.random.key(0), shape=(1, 1),
        )  # fmt: skip


def test_bad_data_never_pass():
    params, sample = problem()
    bad = Fixed(sample._replace(targets=sample.targets.at[3].set(jnp.nan)))
    with pytest.raises(FloatingPointError, match="not finite in step 0"):
        fit(line, params, bad, adamw(5, 0.1), 5, key=jax.random.key(0), shape=(1, N))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be an integer of at least 1, got 0"),
        ({"steps": 10.0}, TypeError, "steps must be an integer, got 10.0"),
        ({"rate": 0.0}, ValueError, r"rate must be positive .*, got 0.0"),
        ({"rate": np.nan}, ValueError, "rate must be positive .*, got nan"),
        ({"rate": np.inf}, ValueError, "rate must be positive and finite, got inf"),
        ({"rate": [0.1]}, ValueError, "rate must be a single number"),
        ({"schedule": "step"}, ValueError, "schedule must be one of cosine, constant, got 'step'"),
        ({"decay": -0.1}, ValueError, "decay must be finite and at least 0, got -0.1"),
        ({"clip": -1.0}, ValueError, r"clip must be positive .*, got -1.0"),
        ({"decay": np.inf}, ValueError, "decay must be finite and at least 0, got inf"),
    ],
)
def test_bad_optimisers(change, error, message):
    with pytest.raises(error, match=message):
        adamw(**({"steps": 10, "rate": 0.1} | change))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be an integer of at least 1, got 0"),
        ({"shape": (0, N)}, ValueError, "shape must be an integer of at least 1, got 0"),
        ({"shape": (1, 2.5)}, TypeError, "shape must be an integer, got 2.5"),
        ({"shape": 3}, TypeError, "shape must be two integers, got 3"),
        ({"shape": (1, 2, 3)}, TypeError, r"shape must be two integers, got \(1, 2, 3\)"),
        ({"predict": np.ones(3)}, TypeError, "predict must be a function"),
        ({"draw": None}, TypeError, "draw must be a function, got None"),
        ({"optimiser": None}, TypeError, "optimiser must be an optax.GradientTransformation"),
        ({"shape": (2, N)}, ValueError, rf"shape must hold at most the n = {N} prompts"),
    ],
)
def test_bad_arguments_of_a_fit(change, error, message):
    params, sample = problem()
    options = {
        "predict": line, "draw": Fixed(sample), "optimiser": adamw(3, 0.1), "steps": 3,
        "shape": (1, N), "key": jax.random.key(0),
    }  # fmt: skip
    with pytest.raises(error, match=message):
        fit(params=params, **(options | change))


def test_another_loss_is_trained_on():
    """The absolute error, whose best constant is the median."""
    sample = Sample(jnp.zeros(5), jnp.array([0.0, 1.0, 2.0, 10.0, 100.0]))
    end, losses = fit(
        lambda params, x: params + x, jnp.zeros(()), Fixed(sample), adamw(400, 0.1, decay=0.0), 400,
        key=jax.random.key(0), shape=(1, 5), loss=lambda found, y: abs(found - y),
    )  # fmt: skip
    assert losses[0] == pytest.approx(113 / 5)
    assert end == pytest.approx(2.0, abs=0.05)
