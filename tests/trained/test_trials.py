"""Trials: they refuse bad points before they compute, and what they measure is right."""

import inspect
from functools import partial

import jax
import numpy as np
import pytest
from threadpoolctl import threadpool_info

import iclkit.trained.trials
from iclkit.runs.many import sweep
from iclkit.theory.descent import power_law
from iclkit.trained.attention import MODELS, interpolation_rank
from iclkit.trained.interpolation import INTERPOLATED
from iclkit.trained.trials import (
    diverse_attention,
    interpolates,
    linear_threshold,
    pretraining,
    trained_attention,
    trained_depth,
    trained_shape,
    trained_softmax,
)

SAMPLE = {"model": "linear", "d": 3, "tau": 1.0, "alpha": 1.0, "rho": 0.1, "steps": 20}
DIVERSE = {"model": "softmax", "d": 3, "alpha": 1.0, "kappa": 1.0, "rho": 0.1}
DIVERSE |= {"width": 4, "steps": 20}
DEPTH = {"d": 3, "alpha": 2.0, "rho": 0.1, "depth": 2, "layers": "scalar", "start": "random"}
DEPTH |= {"steps": 3, "size": 5}
SHAPE = {"nu": 1.5, "beta": 0.8, "ell": 20, "depth": 2, "width": 3, "tied": True, "steps": 20}
SOFTMAX = {"model": "softmax", "nu": 1.5, "beta": 0.8, "directions": 3, "ell": 4, "width": 5}
SOFTMAX |= {"steps": 20, "size": 16}
POINTS = {
    trained_attention: SAMPLE,
    interpolates: SAMPLE,
    linear_threshold: {"d": 3, "alpha": 1.0, "rho": 0.01},
    diverse_attention: DIVERSE,
    trained_depth: DEPTH,
    trained_shape: SHAPE,
    trained_softmax: SOFTMAX,
}
TRIALS = {trial.__name__: trial for trial in POINTS}


# Bad points -----------------------------------------------------------------------------------

# What is allowed of a parameter is the same in every trial.
BAD = {
    "model": [("mlp", ValueError, "model must be one of .*softmax, .*, got 'mlp'")],
    "tau": [(1e-3, ValueError, r"tau must be finite with n = tau \* d\*\*2 of at least 1")],
    "alpha": [
        (1e-2, ValueError, r"alpha must be finite with ell = alpha \* d of at least 1"),
        (np.inf, ValueError, "alpha must be finite"),
    ],
    "kappa": [
        (0.1, ValueError, r"kappa must be finite with k = kappa \* d of at least 1"),
        (np.nan, ValueError, "kappa must be"),
    ],
    "rho": [
        (-1.0, ValueError, "rho must be finite and at least 0, got -1.0"),
        (np.nan, ValueError, "rho must be finite and at least 0"),
        (np.inf, ValueError, "rho must be finite and at least 0"),
    ],
    "rate": [
        (0.0, ValueError, r"rate must be positive .*, got 0.0"),
        (np.nan, ValueError, "rate must be positive .*, got nan"),
        (np.inf, ValueError, "rate must be positive and finite, got inf"),
        ([0.1], ValueError, "rate must be a single number"),
    ],
    "decay": [
        (-0.1, ValueError, "decay must be finite and at least 0, got -0.1"),
        (np.inf, ValueError, "decay must be finite and at least 0, got inf"),
    ],
    "clip": [
        (0.0, ValueError, "clip must be positive .*, got 0.0"),
        (np.nan, ValueError, "clip must be positive .*, got nan"),
    ],
    "mirrored": [(1, TypeError, "mirrored must be True or False, got 1")],
    "overlap": [(1, TypeError, "overlap must be True or False, got 1")],
    "schedule": [("step", ValueError, "schedule must be one of cosine, constant, got 'step'")],
    "dtype": [("float16", ValueError, "dtype must be one of float64, float32, got 'float16'")],
    "layers": [("some", ValueError, "layers must be one of scalar-tied, scalar, full-tied")],
    "start": [("some", ValueError, "start must be one of equal, random")],
    "tied": [(1, TypeError, "tied must be True or False, got 1")],
    "nu": [(0.0, ValueError, "nu must be positive"), (np.inf, ValueError, "nu must be")],
    "beta": [(np.nan, ValueError, "beta must be positive")],
} | {
    name: [
        (0, ValueError, rf"{name} must be an integer of at least \d, got 0"),
        (2.0, TypeError, f"{name} must be an integer, got 2.0"),
        (True, ValueError, f"{name} must be an integer of at least"),
    ]
    for name in (
        "d", "ell", "depth", "width", "size", "steps", "batches", "directions", "starts",
        "iterations",
    )
}  # fmt: skip
CASES = [
    *(
        (trial, {name: value}, error, message)
        for trial in POINTS
        for name in inspect.signature(trial).parameters
        if name != "seed"
        for value, error, message in BAD[name]
    ),
    (trained_attention, {"batches": 10}, ValueError, "batches must be at most n = 9, got 10"),
    (linear_threshold, {"d": 2}, ValueError, "d must be an integer of at least 3, got 2"),
    (diverse_attention, {"kappa": np.inf}, ValueError, "kappa must be finite"),
    (diverse_attention, {"model": "linear"}, ValueError, "model must be .* got 'linear'"),
    (trained_softmax, {"model": "linear"}, ValueError, "model must be .* got 'linear'"),
    (trained_shape, {"width": 21}, ValueError, "width must be at most ell = 20, got 21"),
    (trained_shape, {"other": 21}, TypeError, "unexpected keyword argument 'other'"),
]


@pytest.mark.parametrize(("trial", "change", "error", "message"), CASES)
def test_bad_points_are_refused_before_anything_is_drawn(
    trial, change, error, message, monkeypatch
):
    monkeypatch.setattr(iclkit.trained.trials.backend, "child_seed", None)
    for call in (partial(trial, 0), trial.check):
        with pytest.raises(error, match=message):
            call(**(POINTS[trial] | change))


@pytest.mark.parametrize("seed", [-1, 1.5, "one"])
@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
def test_bad_seeds_are_refused(trial, seed):
    with pytest.raises((ValueError, TypeError), match="seed must be|must be an integer"):
        trial(seed, **POINTS[trial])


@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
def test_sweeps_refuse_bad_points_before_they_train(trial):
    name = next(name for name in ("alpha", "nu") if name in POINTS[trial])
    with pytest.raises(ValueError, match=f"{name} must be"):
        sweep(trial, POINTS[trial] | {name: [POINTS[trial][name], np.inf]}, seed=1, workers=1)


# All trials -----------------------------------------------------------------------------------

KEYS = {
    trained_attention: "icl_error signal odd_even even_odd even_even train_loss gamma_error",
    interpolates: "interpolated train_loss polished_loss icl_error polished_error",
    linear_threshold: "threshold loss_above",
    diverse_attention: "icl_error idg_error train_loss",
    trained_depth: "risk read_risk steps_risk step_mean step_least step_most token_first",
    trained_shape: "risk step_mean step_least step_most",
    trained_softmax: "risk",
}


@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
def test_a_seed_has_one_result(trial):
    """And the caller's JAX and BLAS are as they were."""
    before = jax.config.jax_enable_x64, threadpool_info()
    result = trial(1, **POINTS[trial])
    assert (jax.config.jax_enable_x64, threadpool_info()) == before
    assert set(result) == set(KEYS[trial].split())
    assert all(type(value) is float and np.isfinite(value) for value in result.values())
    assert trial(1, **POINTS[trial]) == result != trial(2, **POINTS[trial])
    with jax.enable_x64(not before[0]):
        assert trial(1, **POINTS[trial]) == result


@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
def test_trials_are_documented_with_what_they_raise(trial):
    assert [*inspect.signature(trial).parameters][0] == "seed"
    assert trial.__doc__.count("\n    Raises\n    ------\n") == 1


# A fixed sample -------------------------------------------------------------------------------


def test_pretraining_draws_what_it_says():
    start = pretraining(1, "softmax", 5, 3, 4, 0.0, tests=7)
    assert start.sample.inputs.shape == (5, 5, 4) and start.sample.targets.shape == (5,)
    assert start.test.inputs.shape == (7, 5, 4) and start.test.targets.shape == (7,)
    assert not np.any(start.sample.inputs[:, -1, -1])
    assert start.params["readout"]["kernel"].dtype == start.sample.inputs.dtype == np.float64
    # Without noise, labels of the test are those of its tasks.
    x, y = start.test.inputs[:, :4, :3], start.test.inputs[:, :4, 3]
    w = np.linalg.solve(x[:, :3], y[:, :3, None])[..., 0]
    np.testing.assert_allclose(np.sum(w * start.test.inputs[:, -1, :3], 1), start.test.targets)
    more = pretraining(1, "softmax", 9, 3, 4, 0.0, tests=7)
    same = partial(jax.tree.map, np.testing.assert_array_equal)
    same((more.params, more.test), (start.params, start.test))
    same(pretraining(1, "softmax", 5, 3, 4, 0.0, tests=7), start)
    noisy = pretraining(1, "softmax", 5, 3, 4, 0.5, tests=4000)
    assert np.var(noisy.test.targets) == pytest.approx(1, rel=0.2)  # and so without noise
    assert np.var(noisy.test.inputs[:, :-1, -1]) == pytest.approx(1.5, rel=0.1)


def test_more_contexts_leave_the_tasks_of_the_first(monkeypatch):
    drawn, draw = [], iclkit.trained.trials.draw_contexts
    keep = lambda w, *rest: drawn.append(w) or draw(w, *rest)  # noqa: E731
    monkeypatch.setattr(iclkit.trained.trials, "draw_contexts", keep)
    for n in (5, 9):
        pretraining(1, "softmax", n, 3, 4, 0.1, tests=2)
    np.testing.assert_array_equal(drawn[0], drawn[2][:5])
    np.testing.assert_array_equal(drawn[1], drawn[3])


def test_samples_have_the_tasks_of_a_list_where_there_is_one():
    start = pretraining(1, "softmax", 40, 3, 4, 0.0, tests=30, k=2)
    x, y = (part[:, :3] for part in np.split(start.sample.inputs, [3], axis=2))
    w = np.linalg.solve(np.asarray(x), np.asarray(y))[..., 0].round(6)
    assert len({tuple(row) for row in w.tolist()}) == 2
    known = np.einsum("na,ka->nk", start.known.inputs[:, -1, :3], np.unique(w, axis=0))
    assert np.all(np.abs(known - start.known.targets[:, None]).min(axis=1) < 1e-5)
    assert start.known.inputs.shape == start.test.inputs.shape
    assert pretraining(1, "softmax", 4, 3, 4, 0.0, tests=3).known is None
    point = SAMPLE | {"kappa": 2.0}
    assert "idg_error" in trained_attention(1, **point)
    assert "idg_error" not in trained_attention(1, **SAMPLE)


def test_one_task_is_learned_by_heart_from_a_sample():
    point = SAMPLE | {"model": "softmax", "tau": 20.0, "kappa": 1 / 3, "rho": 0.01, "rate": 3e-2}
    result = trained_attention(1, **(point | {"steps": 600}))
    assert 0.01 < result["idg_error"] < 0.2 * result["icl_error"]
    assert result["train_loss"] == pytest.approx(result["idg_error"], rel=0.5)


def test_samples_have_mirror_images_where_asked_for():
    plain, images = (
        pretraining(1, "softmax", 5, 3, 4, 0.1, tests=2, mirrored=mirrored).sample
        for mirrored in (False, True)
    )
    assert images.inputs.shape == (20, 5, 4)
    np.testing.assert_array_equal(images.inputs[:5], plain.inputs)
    np.testing.assert_array_equal(images.inputs[15:, :-1, -1], -plain.inputs[:, :-1, -1])
    np.testing.assert_array_equal(images.inputs[15:, -1, :-1], -plain.inputs[:, -1, :-1])
    expected = np.outer([1, -1, -1, 1], plain.targets).ravel()
    np.testing.assert_array_equal(images.targets, expected)
    with pytest.raises(ValueError, match="batches must be at most 4n = 36, got 37"):
        trained_attention.check(**(SAMPLE | {"mirrored": True, "batches": 37}))


def test_parts_add_up():
    result = trained_attention(7, **SAMPLE)
    parts = [result[name] for name in ("signal", "odd_even", "even_odd", "even_even")]
    assert result["icl_error"] == pytest.approx(sum(parts), rel=1e-14)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_learning_helps(dtype):
    """One softmax block, on more contexts than it can learn by heart."""
    point = SAMPLE | {"model": "softmax", "tau": 60.0, "alpha": 3.0, "rho": 0.01, "rate": 3e-2}
    result = trained_attention(1, **(point | {"steps": 600, "batches": 2, "dtype": dtype}))
    assert "gamma_error" not in result
    # Foretelling 0 has the error 1 + rho.
    assert result["train_loss"] < 0.7 and result["icl_error"] < 0.95


def test_interpolation_is_told_from_failure():
    n = interpolation_rank(3)  # 23 of the 9 tau
    point = SAMPLE | {"rho": 0.01, "steps": 500}
    for tau, expected in ((0.5, 1.0), ((n + 13) / 9, 0.0)):
        result = interpolates(1, **(point | {"tau": tau}))
        assert result["interpolated"] == expected == (result["polished_loss"] < INTERPOLATED)
        assert result["polished_loss"] <= result["train_loss"] * (1 + 1e-9)
        assert min(result["icl_error"], result["polished_error"]) > 0.01


def test_interpolation_starts_where_the_training_ends():
    point = SAMPLE | {"tau": 3.0}
    result, trained = interpolates(1, **point, iterations=20), trained_attention(1, **point)
    assert result["train_loss"] == trained["train_loss"]
    assert result["icl_error"] == trained["icl_error"] != result["polished_error"]


def test_threshold_of_linear_attention_is_its_rank():
    result = linear_threshold(1, d=4, alpha=1.0, rho=0.01)
    assert abs(result["threshold"] - interpolation_rank(4)) <= 2
    assert result["loss_above"] > 1e-10
    result = linear_threshold(1, d=4, alpha=1.0, rho=0.01, mirrored=True)
    assert result["threshold"] == interpolation_rank(4, mirrored=True) == 20
    assert result["loss_above"] > 1e-10


# New contexts at every step -------------------------------------------------------------------


def test_one_task_is_learned_by_heart():
    """And all others are not."""
    point = DIVERSE | {"d": 2, "kappa": 0.5, "steps": 1500, "rate": 3e-2, "size": 16}
    result = diverse_attention(0, **point)
    assert 0.1 < result["idg_error"] < 0.3 * result["icl_error"]
    assert result["train_loss"] == pytest.approx(result["idg_error"], rel=0.3)


def test_width_is_that_of_the_network(monkeypatch):
    seen, fit = [], iclkit.trained.trials.fit

    def keep(predict, params, *rest, **more):
        seen.append(params)
        return fit(predict, params, *rest, **more)

    monkeypatch.setattr(iclkit.trained.trials, "fit", keep)
    diverse_attention(0, **(DIVERSE | {"steps": 1}))
    trained_softmax(0, **(SOFTMAX | {"steps": 1}))
    assert [params["readout"]["kernel"].shape for params in seen] == [(4, 1), (5, 1)]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(seen)} == {"float32"}


@pytest.mark.parametrize(
    ("layers", "depth"),
    [("scalar-tied", 2), ("scalar", 2), ("full-tied", 2), ("full", 1), ("full", 2)],
)
def test_readings_of_a_trained_network(layers, depth):
    result = trained_depth(1, **(DEPTH | {"layers": layers, "depth": depth}))
    assert result["step_least"] <= result["step_mean"] <= result["step_most"]
    tied = layers.endswith("tied") or depth == 1
    assert (result["step_least"] == result["step_most"]) == tied
    if not layers.startswith("full"):
        assert result["read_risk"] == result["steps_risk"] == result["risk"]
    if depth == 1:
        assert result["token_first"] == 0 and result["read_risk"] == result["steps_risk"]


def test_training_finds_the_best_step_of_one_layer():
    # E tr S² = (ℓ + d + 1)/ℓ at finite d, in place of 1 + 1/α
    point = DEPTH | {"layers": "scalar-tied", "depth": 1, "d": 4, "alpha": 2.0, "rho": 0.0}
    result = trained_depth(3, **(point | {"steps": 400, "size": 100}))
    best = 8 / (8 + 4 + 1)
    assert result["step_mean"] == pytest.approx(best, abs=0.02)
    assert result["risk"] == pytest.approx(1 - best, rel=0.05)


def test_training_finds_the_best_step_on_a_power_law():
    result, law = trained_shape(1, **(SHAPE | {"depth": 1, "steps": 600, "size": 200})), LAW
    spectrum, weights, rest, ell = law.nodes[:-1], law.weights[:-1], law.weights[-1], SHAPE["ell"]
    # E S Λ S = (1 + 1/ℓ) Λ³ + Λ tr Λ²/ℓ, and the noise from beyond adds tr Λ² · rest/ℓ.
    scatter = spectrum @ spectrum / ell * (weights.sum() + rest)
    curvature = (1 + 1 / ell) * weights @ spectrum**2 + scatter
    best = weights @ spectrum / curvature
    least = weights.sum() + rest - (weights @ spectrum) ** 2 / curvature
    assert result["step_mean"] == pytest.approx(best, rel=0.03)
    assert result["risk"] == pytest.approx(least, rel=0.07)


LAW = power_law(1.5, 0.8, 3)


@pytest.mark.parametrize("tied", [True, False])
def test_steps_of_a_shape(tied):
    result = trained_shape(1, **(SHAPE | {"tied": tied}))
    assert (result["step_least"] == result["step_most"]) == tied
    assert result["step_least"] <= result["step_mean"] <= result["step_most"]
    assert LAW.weights[-1] < result["risk"] < LAW.weights.sum()


@pytest.mark.parametrize("sizes", [0.7, [0.7, 0.2, -0.4]])
def test_steps_on_a_power_law_are_gradient_steps(sizes):
    rng, spectrum = np.random.default_rng(6), LAW.nodes[:-1]
    X, w = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 3))
    S, product = X.mT @ X / 5, np.einsum("nid,nie,ne->nd", X, X, w) / 5
    found = np.zeros((2, 3))
    for step in np.broadcast_to(sizes, 3):
        found += step * (product - np.einsum("nij,nj->ni", S, found))
    with jax.enable_x64(True):
        ours = iclkit.trained.trials._make_steps(3, tuple(spectrum), np.array(sizes), (S, product))
    np.testing.assert_allclose(ours, np.sqrt(spectrum) * found, rtol=1e-12)


def test_softmax_learns_power_laws():
    few = trained_softmax(1, **SOFTMAX)
    more = trained_softmax(1, **(SOFTMAX | {"ell": 16, "steps": 600, "size": 128}))
    assert more["risk"] < 0.8 < few["risk"]


def test_a_diverging_training_is_named():
    with pytest.raises(FloatingPointError, match="take a smaller rate"):
        trained_shape(1, **(SHAPE | {"depth": 64, "rate": 1e6, "steps": 100}))


def test_names_of_models_are_those_that_are_stored():
    assert [*MODELS] == [
        "linear", "one-block", "softmax", "two-blocks", "three-blocks", "four-blocks",
        "two-blocks-mlp-residual", "two-blocks-bare", "linear-mirrored", "one-block-mirrored",
    ]  # fmt: skip
