"""Interpolation: a polish that ends at the bottom, and thresholds from successes and failures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from scipy.special import expit

import iclkit.train
from iclkit.attention import MODELS, interpolation_rank
from iclkit.interpolation import (
    INTERPOLATED,
    fit_exponent,
    fit_threshold,
    interpolates,
    linear_threshold,
    polish,
)
from iclkit.train import Recipe, first, pretraining, train


@pytest.fixture(scope="module", autouse=True)
def _compiled_once():
    """Keep what is compiled for the next training with the same recipe."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(iclkit.train, "_chunk", functools.cache(iclkit.train._chunk))
        yield


D, RANK = 4, interpolation_rank(4)
FULL = RANK + 8  # prompts of the sample whose first ones are learned
PREDICT = MODELS["linear"].predict


@pytest.fixture(scope="module")
def start():
    """A linear network, and a sample just larger than it can learn by heart."""
    return pretraining(3, "linear", FULL, D, D, 0.01, tests=1)


def part(sample, n):
    """The first n prompts count, the others are there: one shape is compiled once."""
    return first(sample)._replace(weights=(jnp.arange(FULL) < n).astype(float))


@jax.jit
def loss(params, sample):
    square = sample.weights * (PREDICT(params, sample.inputs) - sample.targets) ** 2
    return jnp.sum(square) / jnp.sum(sample.weights)


@pytest.fixture(scope="module")
def trained(start):
    """Networks after a short training on samples of three sizes, side by side."""
    sizes = (RANK - 6, RANK, FULL)
    data = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(part(start.sample, n) for n in sizes))
    params = jax.tree.map(lambda leaf: jnp.repeat(leaf, 3, axis=0), start.params)
    end = train(PREDICT, params, data, Recipe(2000, 2e-2)).params
    return {n: jax.tree.map(lambda leaf, m=m: leaf[m], end) for m, n in enumerate(sizes)}


# Polish ---------------------------------------------------------------------------------------


def test_polish_reaches_zero_where_the_sample_can_be_learned(start, trained):
    n = RANK - 6
    sample = part(start.sample, n)
    end = polish(PREDICT, trained[n], sample, goal=1e-13)
    assert end.loss < 1e-13 < float(loss(trained[n], sample))
    assert end.loss == pytest.approx(float(loss(end.params, sample)), rel=1e-3)
    assert type(end.loss) is float and type(end.iterations) is int and 0 < end.iterations < 100
    residual = PREDICT(end.params, sample.inputs) - sample.targets
    assert np.all(np.abs(residual[:n]) < 1e-5)
    # With nothing left to do, nothing is done.
    again = polish(PREDICT, end.params, sample, goal=1e-12)
    assert again.iterations == 0 and again.loss == pytest.approx(end.loss)
    jax.tree.map(np.testing.assert_array_equal, again.params, end.params)


def test_polish_ends_above_zero_where_it_cannot(start, trained):
    sample = part(start.sample, FULL)
    end = polish(PREDICT, trained[FULL], sample, iterations=400, goal=1e-13)
    assert 1e-6 < end.loss < float(loss(trained[FULL], sample))
    # The bottom: no direction leads further down, and it has stopped early because of that.
    gradient = ravel_pytree(jax.jit(jax.grad(loss))(end.params, sample))[0]
    assert np.linalg.norm(gradient) < 1e-2 * np.sqrt(end.loss)
    assert end.iterations < 400


def test_polish_finds_the_minimum_that_scipy_finds(start, trained):
    sample = part(start.sample, FULL)
    flat, restore = ravel_pytree(polish(PREDICT, trained[FULL], sample, iterations=20).params)

    @jax.jit
    def residual(flat):
        return PREDICT(restore(flat), sample.inputs) - sample.targets

    slopes = jax.jit(jax.jacrev(residual))
    reference = scipy.optimize.least_squares(
        residual, flat, slopes, method="trf", xtol=1e-14, ftol=1e-14, gtol=1e-12, max_nfev=2000
    )
    ours = polish(PREDICT, restore(flat), sample, iterations=2000, goal=1e-13)
    assert ours.loss == pytest.approx(2 * reference.cost / FULL, rel=1e-3)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999),
    size=st.floats(0.0, 30.0),
    n=st.integers(1, FULL),
    iterations=st.integers(1, 30),
)
def test_polish_never_goes_up(start, seed, size, n, iterations):
    rng = np.random.default_rng(seed)
    sample = part(start.sample, n)
    begin = jax.tree.map(lambda leaf: size * rng.standard_normal(leaf.shape[1:]), start.params)
    end = polish(PREDICT, begin, sample, iterations=iterations)
    before = float(loss(begin, sample))
    assert end.loss <= before * (1 + 1e-12)
    assert end.iterations <= iterations
    assert float(loss(end.params, sample)) == pytest.approx(end.loss, rel=1e-6, abs=1e-15)


def test_masked_prompts_do_not_count(start, trained):
    n = RANK - 6
    sample = part(start.sample, n)
    nonsense = sample._replace(targets=jnp.where(sample.weights > 0, sample.targets, 1e6))
    fewer = jax.tree.map(lambda leaf: leaf[:n], first(start.sample))
    ends = [
        polish(PREDICT, trained[n], some, iterations=3, goal=1e-30)
        for some in (sample, nonsense, fewer)
    ]
    assert ends[0].loss == ends[1].loss == pytest.approx(ends[2].loss, rel=1e-6)
    flat = [np.asarray(ravel_pytree(end.params)[0]) for end in ends]
    np.testing.assert_array_equal(flat[0], flat[1])
    np.testing.assert_allclose(flat[0], flat[2], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"iterations": 0}, ValueError, "iterations must be an integer of at least 1, got 0"),
        ({"iterations": 1.5}, TypeError, "iterations must be an integer, got 1.5"),
        ({"goal": 0.0}, ValueError, "goal must be positive"),
        ({"goal": -1.0}, ValueError, "goal must be positive .*, got -1.0"),
    ],
)
def test_bad_arguments_of_polish(start, options, error, message):
    with pytest.raises(error, match=message):
        polish(PREDICT, first(start.params), first(start.sample), **options)


# One run --------------------------------------------------------------------------------------


def test_threshold_of_linear_attention_is_its_rank():
    result = linear_threshold(1, d=D, alpha=1.0, rho=0.01)
    assert abs(result["threshold"] - RANK) <= 2
    assert result["loss_above"] > 1e-10
    assert linear_threshold(1, d=D, alpha=1.0, rho=0.01) == result
    assert all(type(value) is float for value in result.values())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"d": 2}, ValueError, "d must be an integer of at least 3, got 2"),
        ({"starts": 0}, ValueError, "starts must be an integer of at least 1, got 0"),
        ({"alpha": 0.1}, ValueError, r"alpha must be finite with ell = alpha \* d of at least 1"),
        ({"rho": -1.0}, ValueError, "rho must be finite and at least 0, got -1.0"),
    ],
)
def test_bad_arguments_of_the_threshold(change, error, message):
    with pytest.raises(error, match=message):
        linear_threshold(0, **({"d": 3, "alpha": 1.0, "rho": 0.01} | change))


POINT = {"model": "linear", "d": 3, "alpha": 1.0, "rho": 0.01, "steps": 500}


def test_interpolation_is_told_from_failure():
    n = interpolation_rank(3)  # 23 of the 9 tau
    for tau, expected in ((0.5, 1.0), ((n + 13) / 9, 0.0)):
        result = interpolates(1, tau=tau, **POINT)
        assert result.keys() == {
            "interpolated", "train_loss", "polished_loss", "icl_error", "polished_error",
        }  # fmt: skip
        assert result["interpolated"] == expected == (result["polished_loss"] < INTERPOLATED)
        assert result["polished_loss"] <= result["train_loss"]
        assert min(result["icl_error"], result["polished_error"]) > 0.01
    assert interpolates(1, tau=tau, **POINT) == result
    with pytest.raises(ValueError, match="iterations must be an integer of at least 1, got 0"):
        interpolates(1, tau=tau, **POINT, iterations=0)
    with pytest.raises(ValueError, match="iterations must be an integer of at least 1, got 0"):
        interpolates.check(tau=tau, **POINT, iterations=0)  # before a sweep computes anything


# From successes to a threshold ----------------------------------------------------------------


def simulated(locations, width, tries, seed):
    """Sizes round each location, and how many of the tries have succeeded."""
    log_n = np.asarray(locations)[:, None] + width * np.linspace(-2.5, 3.0, 6)
    p = expit((np.asarray(locations)[:, None] - log_n) / width)
    return log_n, p, np.random.default_rng(seed).binomial(tries, p)


def standard_errors(log_n, p, width, tries):
    """From the information in all locations and log width together."""
    m = len(log_n)
    z = (np.sum(log_n * 0, axis=1)[:, None] + np.log(p / (1 - p))) * 1.0
    weight = tries * p * (1 - p)
    information = np.zeros((m + 1, m + 1))
    information[range(m), range(m)] = weight.sum(axis=1) / width**2
    information[:m, m] = information[m, :m] = -(weight * z).sum(axis=1) / width
    information[m, m] = (weight * z**2).sum()
    return np.sqrt(np.diag(np.linalg.inv(information)))


@pytest.mark.parametrize(("width", "tries"), [(0.15, 200), (0.05, 50), (0.4, 500)])
def test_known_thresholds_are_found(width, tries):
    locations = np.array([3.0, 4.2, 5.1])
    scores = []
    for seed in range(20):
        log_n, p, successes = simulated(locations, width, tries, seed)
        fit = fit_threshold(log_n, successes, np.full(log_n.shape, tries))
        errors = standard_errors(log_n, p, width, tries)
        found = np.append(fit.location, np.log(fit.width))
        scores.append((found - np.append(locations, np.log(width))) / errors)
    scores = np.array(scores)
    assert np.abs(scores).max() < 4.5
    assert np.mean(scores**2) == pytest.approx(1.0, abs=0.5)  # of 80, so 3 standard errors


def test_threshold_of_a_step_lies_between_success_and_failure():
    log_n = np.log([[10.0, 12.0, 14.0, 16.0], [20.0, 25.0, 30.0, 35.0]])
    fit = fit_threshold(log_n, [[5, 5, 0, 0], [5, 0, 0, 0]], np.full((2, 4), 5))
    assert log_n[0, 1] < fit.location[0] < log_n[0, 2]
    assert log_n[1, 0] < fit.location[1] < log_n[1, 1]
    assert fit.width == pytest.approx(0.01, rel=0.5)


def test_threshold_stays_near_the_sizes_tried():
    log_n = np.log([[10.0, 12.0], [10.0, 12.0]])
    fit = fit_threshold(log_n, [[5, 5], [0, 0]], np.full((2, 2), 5))
    assert log_n[0, 1] < fit.location[0] <= log_n[0, 1] + 0.3 + 1e-12
    assert log_n[1, 0] > fit.location[1] >= log_n[1, 0] - 0.3 - 1e-12


ONES = np.ones((2, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ONES, ONES[:, :2], ONES), r"successes must have shape \(2, 3\), got \(2, 2\)"),
        ((ONES, ONES, ONES[:1]), r"tries must have shape \(2, 3\), got \(1, 3\)"),
        ((ONES[0], ONES, ONES), r"log_n must have shape \(any, any\), got \(3,\)"),
        ((np.log(0 * ONES + np.nan), ONES, ONES), "log_n must be finite"),
        ((ONES, ONES, 0 * ONES), "successes must be between 0 and tries, and tries at least 1"),
        ((ONES, 2 * ONES, ONES), "successes must be between 0 and tries"),
        ((ONES, -ONES, ONES), "successes must be between 0 and tries"),
    ],
)
def test_bad_arguments_of_a_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_threshold(*arguments)


def test_known_exponent_is_found_with_its_error():
    d, exponent, width, seeds = np.array([6.0, 10.0, 16.0, 24.0]), 1.8, 0.12, 40
    locations = np.log(2.0) + exponent * np.log(d)
    log_n, p, _ = simulated(locations, width, seeds, 0)
    outcomes = np.random.default_rng(1).random((4, 6, seeds)) < p[:, :, None]
    results = outcomes.astype(float)
    results[1, 2, 30:] = np.nan  # not tried
    found, bootstrap = fit_exponent(d, np.exp(log_n), results, draws=40, seed=2)
    lever = np.log(d) - np.log(d).mean()
    errors = standard_errors(log_n, p, width, seeds)[:-1]
    expected = np.sqrt(np.sum((lever * errors) ** 2)) / np.sum(lever**2)
    assert abs(found - exponent) < 4 * expected
    assert bootstrap.shape == (40,)
    assert np.std(bootstrap) == pytest.approx(expected, rel=0.4)
    assert abs(np.mean(bootstrap) - found) < expected
    again = fit_exponent(d, np.exp(log_n), results, draws=40, seed=2)
    assert again[0] == found
    np.testing.assert_array_equal(again[1], bootstrap)


TRIES = np.ones((2, 3, 4))
NEVER = np.where(np.arange(3)[:, None] == 1, np.nan, TRIES)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((ONES, ONES, TRIES), {}, r"d must have shape \(any\), got \(2, 3\)"),
        ((ONES[:, 0], ONES[:1], TRIES), {}, r"n must have shape \(2, any\), got \(1, 3\)"),
        (
            (ONES[:, 0], ONES, ONES), {},
            r"interpolated must have shape \(2, 3\) \+ \(s,\), got \(2, 3\)",
        ),
        ((ONES[:, 0], ONES, NEVER), {}, "interpolated must have at least one result at each size"),
        ((ONES[:, 0], ONES, TRIES), {"draws": 1}, "draws must be an integer of at least 2, got 1"),
        ((ONES[:, 0], ONES, TRIES), {"seed": -1}, "seed must be an integer of at least 0, got -1"),
    ],
)  # fmt: skip
def test_bad_arguments_of_an_exponent(arguments, options, message):
    d = arguments[0] * (1 + np.arange(2)) if np.ndim(arguments[0]) == 1 else arguments[0]
    with pytest.raises(ValueError, match=message):
        fit_exponent(d, *arguments[1:], **options)
