"""Training: AdamW by the book, networks side by side, and a run that survives its end."""

import functools
import os
import signal
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import iclkit.train
from iclkit.interpolation import interpolates
from iclkit.sweep import sweep
from iclkit.train import (
    Recipe,
    Sample,
    diverse_attention,
    first,
    pretraining,
    shuffled,
    train,
    trained_attention,
)

M, N, D = 3, 10, 3  # networks, prompts, dimension of what is trained in most tests


def line(params, x):
    """Predict with the simplest network, whose training numpy can repeat."""
    return x @ params["a"] + params["b"]


def problem(seed=0):
    """Three networks and their samples."""
    rng = np.random.default_rng(seed)
    params = {"a": rng.standard_normal((M, D)), "b": rng.standard_normal(M)}
    sample = Sample(rng.standard_normal((M, N, D)), rng.standard_normal((M, N)), np.ones((M, N)))
    return params, sample


RECIPE = Recipe(steps=300, rate=0.05, batches=3)


def fit(recipe=RECIPE, change=None, **options):
    params, sample = problem()
    if change is not None:
        params, sample = change(params, sample)
    return train(line, params, sample, recipe, **options)


def one(tree, row):
    return jax.tree.map(lambda leaf: leaf[row : row + 1], tree)


def assert_same(result, expected):
    jax.tree.map(np.testing.assert_array_equal, result, expected)


def assert_close(result, expected, tolerance=1e-12):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), result, expected
    )


@pytest.fixture(scope="module", autouse=True)
def _compiled_once():
    """Keep what is compiled for the next training with the same recipe."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(iclkit.train, "partial", functools.cache(partial))
        patch.setattr(iclkit.train, "_chunk", functools.cache(iclkit.train._chunk))
        yield


@pytest.fixture(scope="module")
def unbroken():
    return fit(seed=5)


# Steps ----------------------------------------------------------------------------------------


def adamw(params, x, y, rates, decay, clip):
    """AdamW on the full batch as its authors write it, one network, in numpy."""
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
    recipe = Recipe(150, 0.05, schedule, decay=0.3, clip=0.7)
    tolerance = {"cosine": 1e-8, "constant": 1e-12}[schedule]  # optax has cosines in float32
    rates = cosine(0.05, 150) if schedule == "cosine" else np.full(150, 0.05)
    params, sample = problem()
    result = train(line, params, sample, recipe)
    assert result.losses.shape == (150, M) and result.losses.dtype == np.float64
    for m in range(M):
        alone = {name: leaf[m] for name, leaf in params.items()}
        end, losses = adamw(alone, sample.inputs[m], sample.targets[m], rates, 0.3, 0.7)
        assert_close(jax.tree.map(lambda leaf, m=m: leaf[m], result.params), end, tolerance)
        np.testing.assert_allclose(result.losses[:, m], losses, rtol=100 * tolerance)
    # The test would notice other settings.
    other = adamw(alone, sample.inputs[m], sample.targets[m], rates, 0.3, np.inf)[0]
    assert abs(other["b"] - end["b"]) > 1e-4


@pytest.mark.parametrize(("schedule", "steps"), [("cosine", 1), ("cosine", 2)])
def test_shortest_trainings_learn(schedule, steps):
    params, sample = problem()
    result = fit(Recipe(steps, 0.05, schedule, decay=0.0))
    assert result.losses.shape == (steps, M)
    moved = np.abs(result.params["b"] - params["b"])
    np.testing.assert_allclose(moved, 0.05, rtol=1e-4)  # of two steps, the first has rate 0


def test_steps_are_rounded_up_to_passes():
    assert fit(Recipe(10, batches=3)).losses.shape == (4, M)


def test_a_line_is_found():
    params, sample = problem()
    result = fit(Recipe(1500, 0.03, decay=0.0))
    for m in range(M):
        design = np.column_stack([sample.inputs[m], np.ones(N)])
        best, misfit, *_ = np.linalg.lstsq(design, sample.targets[m], rcond=None)
        np.testing.assert_allclose(result.params["a"][m], best[:-1], atol=1e-4)
        assert result.losses[-1, m] == pytest.approx(misfit[0] / N, rel=1e-6)


def test_single_precision_is_single():
    single = fit(RECIPE._replace(dtype="float32", batches=1))
    assert single.params["a"].dtype == jnp.float32
    assert_close(single.params, fit(RECIPE._replace(batches=1)).params, 1e-4)
    kept = first(single.params)
    assert kept["a"].shape == (D,) and kept["a"].dtype == jnp.float64
    np.testing.assert_array_equal(kept["a"], single.params["a"][0])


# Minibatches and seeds ------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [1, 2, 3, 10])
def test_minibatches_are_a_partition(batches):
    inputs = {"x": np.arange(20.0).reshape(10, 2), "y": np.arange(10)}
    sample = jax.tree.map(jnp.asarray, Sample(inputs, np.arange(10.0), np.arange(10.0) / 2))
    orders = []
    for key in (1, 2):
        parts = shuffled(sample, jax.random.key(key), batches)
        size = 10 // batches
        assert parts.targets.shape == (batches, size)
        rows = np.asarray(parts.targets).ravel()
        assert len(set(rows)) == batches * size and set(rows) <= set(range(10))
        np.testing.assert_array_equal(np.ravel(parts.inputs["y"]), rows)
        np.testing.assert_array_equal(parts.inputs["x"].reshape(-1, 2)[:, 0], 2 * rows)
        np.testing.assert_array_equal(np.ravel(parts.weights), rows / 2)
        orders.append(tuple(rows))
    assert (orders[0] == orders[1]) == (batches == 1)


def test_same_seed_same_networks(unbroken):
    assert_same(fit(seed=5), unbroken)
    assert np.all(fit(seed=6).params["b"] != unbroken.params["b"])
    # Passes and networks have minibatches of their own.
    everyone = fit(change=lambda p, s: jax.tree.map(lambda leaf: leaf[[0, 0, 0]], (p, s)))
    assert len(set(everyone.losses[1])) == M


def test_networks_side_by_side_are_independent():
    recipe = RECIPE._replace(batches=1)
    together = fit(recipe)
    for m in range(M):
        alone = fit(recipe, lambda p, s, m=m: (one(p, m), one(s, m)))
        assert_close(alone.params, one(together.params, m))
        np.testing.assert_allclose(alone.losses[:, 0], together.losses[:, m], rtol=1e-10)


def test_prompts_of_weight_zero_do_not_count():
    """Neither what stands there, nor that something stands there."""

    def masked(params, sample):
        weights = sample.weights.copy()
        weights[:, 7:] = 0
        return params, sample._replace(weights=weights)

    def nonsense(params, sample):
        sample = masked(params, sample)[1]
        inputs, targets = sample.inputs.copy(), sample.targets.copy()
        inputs[:, 7:], targets[:, 7:] = 1e3, -1e5
        return params, sample._replace(inputs=inputs, targets=targets)

    def fewer(params, sample):
        return params, jax.tree.map(lambda leaf: leaf[:, :7], sample)

    recipe = RECIPE._replace(batches=1)
    expected = fit(recipe, fewer)
    for change in (masked, nonsense):
        result = fit(recipe, change)
        assert_close(result.params, expected.params)
        np.testing.assert_allclose(result.losses, expected.losses, rtol=1e-10)


def test_progress_is_quiet_unless_watched(capsys):
    fit(Recipe(5))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


# Checkpoints ----------------------------------------------------------------------------------


class Interruption(Exception):
    """As Ctrl-C, but nothing else takes notice."""


class Fuse:
    """A progress bar that ends the run at its nth update."""

    def __init__(self, n, end):
        self.left, self.end = n, end

    def __call__(self, *_):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def set_postfix_str(self, _):
        pass

    def update(self, _):
        self.left -= 1
        if self.left < 0:
            self.end()


def stop():
    raise Interruption


@pytest.fixture
def impatient(monkeypatch):
    """Write every checkpoint."""
    monkeypatch.setattr(iclkit.train, "_PATIENCE", -1)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch, impatient):
    """The state of a training that was interrupted half-way."""
    file = tmp_path / "state.npz"
    with monkeypatch.context() as patch, pytest.raises(Interruption):
        patch.setattr(iclkit.train, "_progress", Fuse(20, stop))
        fit(seed=5, checkpoint=file)
    return file


def passes_made(file):
    with np.load(file) as stored:
        return max(len(stored[name]) for name in stored.files if stored[name].ndim == 2)


def test_interrupted_training_ends_as_an_unbroken_one(checkpoint, unbroken, monkeypatch):
    assert passes_made(checkpoint) == 40  # of 100, in chunks of 2
    for updates in (0, 1, 13):  # 0: on being told of what is there already
        with monkeypatch.context() as patch, pytest.raises(Interruption):
            patch.setattr(iclkit.train, "_progress", Fuse(updates, stop))
            fit(seed=5, checkpoint=checkpoint)
    assert passes_made(checkpoint) == 68
    assert_same(fit(seed=5, checkpoint=checkpoint), unbroken)
    assert sorted(os.listdir(checkpoint.parent)) == ["state.npz"]


def test_finished_training_is_read_not_made(checkpoint, unbroken, monkeypatch):
    fit(seed=5, checkpoint=checkpoint)
    monkeypatch.setattr(iclkit.train, "_save", None)
    assert_same(fit(seed=5, checkpoint=str(checkpoint)), unbroken)


KILLED = """
import os, signal, sys
import iclkit.train, test_train
iclkit.train._PATIENCE = -1
end = lambda: os.kill(os.getpid(), signal.SIGKILL)
iclkit.train._progress = test_train.Fuse(30, end)
test_train.fit(seed=5, checkpoint=sys.argv[1])
"""


def test_killed_training_ends_as_an_unbroken_one(tmp_path, unbroken):
    file = tmp_path / "state.npz"
    run = [sys.executable, "-c", KILLED, str(file)]
    killed = subprocess.run(run, cwd=os.path.dirname(__file__), timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert passes_made(file) == 60
    assert_same(fit(seed=5, checkpoint=file), unbroken)


def test_kill_while_writing_leaves_the_checkpoint_before(checkpoint, unbroken, monkeypatch):
    before = checkpoint.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(Interruption):
        patch.setattr(os, "replace", lambda *_: stop())
        fit(seed=5, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before
    assert_same(fit(seed=5, checkpoint=checkpoint), unbroken)


def test_checkpoints_are_not_written_too_often(tmp_path):
    fit(Recipe(5), checkpoint=tmp_path / "state.npz")
    assert os.listdir(tmp_path) == []


def empty_array(file):
    with open(file, "wb") as stream:
        np.save(stream, np.zeros(3))


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-100]),
        lambda file: file.write_bytes(file.read_bytes()[:100]),
        lambda file: file.write_text("Something else entirely.\n" * 20),
        empty_array,
        lambda file: np.savez(file),
    ],
    ids=["empty", "cut", "head", "text", "array", "no arrays"],
)
def test_damaged_checkpoint_is_refused(checkpoint, damage):
    damage(checkpoint)
    before = checkpoint.read_bytes()
    with pytest.raises(ValueError, match=r"state\.npz is damaged: delete it and train again"):
        fit(seed=5, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_no_flipped_bit_goes_unnoticed(checkpoint, unbroken):
    fit(seed=5, checkpoint=checkpoint)
    content, refused = checkpoint.read_bytes(), 0
    for place in range(0, len(content), 37):
        flipped = bytearray(content)
        flipped[place] ^= 0x10
        checkpoint.write_bytes(flipped)
        try:
            assert_same(fit(seed=5, checkpoint=checkpoint), unbroken)
        except ValueError as problem:
            refused += "is damaged: delete" in str(problem)
    assert refused > 0.6 * len(content) / 37  # the rest are dates and such like


@pytest.mark.parametrize(
    "other",
    [
        {"change": lambda p, s: (one(p, 0), one(s, 0))},
        {"change": lambda p, s: (p | {"b": np.zeros((M, 1))}, s)},
        {"recipe": RECIPE._replace(dtype="float32")},
        {"recipe": RECIPE._replace(rate=0.06)},
        {"recipe": RECIPE._replace(steps=330)},
        {"recipe": RECIPE._replace(schedule="constant")},
        {"seed": 6},
        {"change": lambda *_: problem(1)},
        {"change": lambda p, s: (p, s._replace(targets=2 * s.targets))},
    ],
    ids=["m", "shape", "dtype", "rate", "steps", "schedule", "seed", "networks", "targets"],
)
def test_foreign_checkpoint_is_refused(checkpoint, other):
    before = checkpoint.read_bytes()
    with pytest.raises(ValueError, match=r"state\.npz belongs to another training: give another"):
        fit(**({"seed": 5, "checkpoint": checkpoint} | other))
    assert checkpoint.read_bytes() == before


# Divergence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [50, 500])
def test_divergence_is_noticed_and_located(monkeypatch, chunks):
    """Of two networks that climb an exponential, one stands still, the other overshoots."""
    monkeypatch.setattr(iclkit.train, "_CHUNKS", chunks)
    params, x = {"p": jnp.zeros(2)}, jnp.array([[0.0], [1.0]])
    sample = Sample(x, 1e140 * x, jnp.ones((2, 1)))
    recipe = Recipe(200, 50.0, "constant", decay=0.0)
    with pytest.raises(
        FloatingPointError, match=r"network 1 is not finite in pass 8: take a smaller rate than 50"
    ):
        train(lambda params, x: x * jnp.exp(params["p"]), params, sample, recipe)


def test_divergence_is_not_kept(tmp_path, impatient):
    file = tmp_path / "state.npz"
    sample = problem()[1]
    sample.targets[1, 0] = np.nan
    with pytest.raises(FloatingPointError, match="the loss of network 1 is not finite in pass 0"):
        fit(change=lambda p, _: (p, sample), checkpoint=file)
    assert not file.exists()


# Bad arguments --------------------------------------------------------------------------------


BAD = [
    ({"steps": 0}, ValueError, "steps must be an integer of at least 1, got 0"),
    ({"steps": 10.0}, TypeError, "steps must be an integer, got 10.0"),
    ({"rate": 0.0}, ValueError, r"rate must be positive .*, got 0.0"),
    ({"rate": np.nan}, ValueError, "rate must be positive .*, got nan"),
    ({"rate": np.inf}, ValueError, "rate must be positive and finite, got inf"),
    ({"rate": [0.1]}, ValueError, "rate must be a single number"),
    ({"schedule": "step"}, ValueError, "schedule must be one of cosine, constant, got 'step'"),
    ({"batches": 0}, ValueError, "batches must be an integer of at least 1, got 0"),
    ({"decay": -0.1}, ValueError, "decay must be finite and at least 0, got -0.1"),
    ({"decay": np.inf}, ValueError, "decay must be finite and at least 0, got inf"),
    ({"dtype": "float16"}, ValueError, "dtype must be one of float64, float32, got 'float16'"),
]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        *BAD,
        ({"clip": 0.0}, ValueError, "clip must be positive .*, got 0.0"),
        ({"clip": "a"}, TypeError, "clip must be a real number"),
    ],
)
def test_bad_recipes(change, error, message):
    with pytest.raises(error, match=message):
        fit(Recipe(**({"steps": 10} | change)))


def test_bad_seed_of_a_training():
    with pytest.raises(ValueError, match="seed must be an integer of at least 0, got -1"):
        fit(seed=-1)


POINT = {"model": "linear", "d": 3, "tau": 1.0, "alpha": 1.0, "rho": 0.1, "steps": 20}


@pytest.mark.parametrize("measure", [trained_attention, interpolates])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        *BAD,
        ({"model": "mlp"}, ValueError, "model must be one of linear, softmax, .*, got 'mlp'"),
        ({"d": 0}, ValueError, "d must be an integer of at least 1, got 0"),
        ({"tau": 1e-3}, ValueError, r"tau must be finite with n = tau \* d\*\*2 of at least 1"),
        ({"alpha": np.inf}, ValueError, r"alpha must be finite with ell = alpha \* d"),
        ({"rho": -1.0}, ValueError, "rho must be finite and at least 0, got -1.0"),
        ({"batches": 10}, ValueError, "batches must be at most n = 9, got 10"),
    ],
)
def test_bad_points(measure, change, error, message):
    if measure is interpolates and "dtype" in change:
        return
    point = POINT | change
    for call in (partial(measure, 0), measure.check):
        with pytest.raises(error, match=message):
            call(**point)


DIVERSE = {
    "model": "softmax", "d": 3, "alpha": 1.0, "kappa": 1.0, "rho": 0.1, "width": 4, "steps": 20,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": "linear"}, ValueError, "model must be one of the softmax models, got 'linear'"),
        ({"model": "mlp"}, ValueError, "model must be one of linear, softmax"),
        ({"kappa": 0.1}, ValueError, r"kappa must be finite with k = kappa \* d of at least 1"),
        ({"kappa": np.inf}, ValueError, r"kappa must be finite"),
        ({"width": 0}, ValueError, "width must be an integer of at least 1, got 0"),
        ({"size": 0}, ValueError, "size must be an integer of at least 1, got 0"),
        ({"rate": -1.0}, ValueError, "rate must be positive"),
        ({"steps": 0}, ValueError, "steps must be an integer of at least 1, got 0"),
        ({"rho": np.nan}, ValueError, "rho must be finite and at least 0"),
    ],
)
def test_bad_points_of_task_diversity(change, error, message):
    for call in (partial(diverse_attention, 0), diverse_attention.check):
        with pytest.raises(error, match=message):
            call(**(DIVERSE | change))


@pytest.mark.parametrize(
    ("measure", "point", "message"),
    [
        (trained_attention, POINT | {"tau": [1.0, 1e-3]}, "tau must be finite"),
        (interpolates, POINT | {"rho": [0.1, -1.0]}, "rho must be"),
        (diverse_attention, DIVERSE | {"kappa": [1.0, 0.1]}, "kappa must be finite"),
    ],
)
def test_sweeps_refuse_bad_points_before_they_train(measure, point, message, monkeypatch):
    monkeypatch.setattr(iclkit.train, "train", None)
    with pytest.raises(ValueError, match=message):
        sweep(measure, point, seed=1, workers=1)


# One run --------------------------------------------------------------------------------------


def test_pretraining_draws_what_it_says():
    start = pretraining(1, "softmax", 5, 3, 4, 0.0, tests=7)
    assert start.sample.inputs.shape == (1, 5, 5, 4) and start.sample.targets.shape == (1, 5)
    assert start.w.shape == (7, 3) and start.test.tokens.shape == (7, 4, 3)
    assert not np.any(start.sample.inputs[:, :, -1, -1])
    np.testing.assert_array_equal(start.sample.weights, 1.0)
    # Without noise, labels of the test are those of its tasks.
    np.testing.assert_allclose(start.test.target, np.sum(start.test.query * start.w, axis=1))
    more = pretraining(1, "softmax", 9, 3, 4, 0.0, tests=7)
    assert_same(more.params, start.params)
    assert_same(more.test, start.test)
    again = pretraining(1, "softmax", 5, 3, 4, 0.0, tests=7)
    assert_same(again, start)


def test_more_contexts_leave_the_tasks_of_the_first(monkeypatch):
    drawn = []
    draw = iclkit.train.draw_contexts
    monkeypatch.setattr(iclkit.train, "draw_contexts", lambda w, *a: drawn.append(w) or draw(w, *a))
    for n in (5, 9):
        pretraining(1, "softmax", n, 3, 4, 0.1, tests=2)
    np.testing.assert_array_equal(drawn[0], drawn[2][:5])
    np.testing.assert_array_equal(drawn[1], drawn[3])


def test_trained_attention_is_reproducible_and_adds_up():
    result = trained_attention(7, **POINT)
    assert trained_attention(7, **POINT) == result
    parts = [result[name] for name in ("signal", "odd_even", "even_odd", "even_even")]
    assert result["icl_error"] == pytest.approx(sum(parts), rel=1e-14)
    assert all(type(value) is float and value > 0 for value in result.values())
    assert result.keys() - {"icl_error", "signal", "odd_even", "even_odd", "even_even"} == {
        "train_loss", "gamma_error",
    }  # fmt: skip


def test_learning_helps():
    """One softmax block, on more contexts than it can learn by heart."""
    point = POINT | {"model": "softmax", "tau": 60.0, "alpha": 3.0, "rho": 0.01, "rate": 3e-2}
    result = trained_attention(1, **(point | {"steps": 600}))
    assert "gamma_error" not in result
    # Foretelling 0 has the error 1 + rho.
    assert result["train_loss"] < 0.7 and result["icl_error"] < 0.95


def test_fresh_contexts_have_tasks_of_the_list():
    tasks = np.random.default_rng(0).standard_normal((3, 2))
    fresh, with_noise = (
        jax.jit(partial(iclkit.train._fresh, batches=2, size=500, ell=4, rho=rho))
        for rho in (0.0, 0.25)
    )
    sample = fresh(tasks, jax.random.key(1))
    p, y = np.asarray(sample.inputs), np.asarray(sample.targets)
    assert p.shape == (2, 500, 5, 3) and y.shape == (2, 500)
    assert not np.any(p[:, :, -1, 2]) and np.all(sample.weights == 1)
    labels = np.concatenate([p[:, :, :-1, 2], y[:, :, None]], axis=2)
    misfit = np.abs(p[..., :2] @ tasks.T - labels[..., None]).max(axis=2)
    np.testing.assert_allclose(misfit.min(axis=2), 0, atol=1e-13)
    counts = np.bincount(misfit.argmin(axis=2).ravel())
    assert np.all(np.abs(counts - 1000 / 3) < 4 * np.sqrt(1000 * 2 / 9))
    x = p[..., :2].ravel()
    assert x.var() == pytest.approx(1 / 2, abs=4 * np.sqrt(2 / len(x)) / 2)
    noisy = with_noise(tasks, jax.random.key(1))
    np.testing.assert_array_equal(noisy.inputs[..., :2], p[..., :2])
    noise = np.asarray(noisy.targets) - y
    assert noise.var() == pytest.approx(0.25, abs=4 * 0.25 * np.sqrt(2 / 1000))
    other = fresh(tasks, jax.random.key(2))
    assert np.all(other.targets != sample.targets)


def test_one_task_is_learned_by_heart():
    """And all others are not; the same seed gives the same result."""
    point = DIVERSE | {"d": 2, "kappa": 0.5, "steps": 1500, "rate": 3e-2, "size": 16}
    result = diverse_attention(0, **point)
    assert result.keys() == {"icl_error", "idg_error", "train_loss"}
    assert 0.1 < result["idg_error"] < 0.3 * result["icl_error"]
    assert result["train_loss"] == pytest.approx(result["idg_error"], rel=0.3)
    assert diverse_attention(0, **point) == result
