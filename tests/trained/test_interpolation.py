"""Interpolation: a polish that ends at the bottom, and thresholds from successes and failures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from scipy.special import expit

from iclkit.trained.attention import MODELS, interpolation_rank
from iclkit.trained.interpolation import fit_exponent, fit_threshold, polish
from iclkit.trained.prompts import Fixed
from iclkit.trained.train import adamw, fit
from iclkit.trained.trials import pretraining

D, RANK = 4, interpolation_rank(4)
FULL = RANK + 8  # prompts of the sample whose first ones are learned
PREDICT = MODELS["linear"].predict


@pytest.fixture(scope="module", autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def start(_double):
    """A linear network, and a sample just larger than it can learn by heart."""
    return pretraining(3, "linear", FULL, D, D, 0.01, tests=1)


def first(sample, n):
    return jax.tree.map(lambda leaf: leaf[:n], sample)


@jax.jit
def loss(params, sample):
    return jnp.mean((PREDICT(params, sample.inputs) - sample.targets) ** 2)


@pytest.fixture(scope="module")
def trained(start):
    """Networks after a short training on samples of two sizes."""
    optimiser, key = adamw(2000, 2e-2), jax.random.key(0)
    return {
        n: fit(
            PREDICT, start.params, Fixed(first(start.sample, n)), optimiser, 2000,
            key=key, shape=(1, n),
        )[0]
        for n in (RANK - 6, FULL)
    }  # fmt: skip


# Polish ---------------------------------------------------------------------------------------


def test_polish_reaches_zero_where_the_sample_can_be_learned(start, trained):
    n = RANK - 6
    sample = first(start.sample, n)
    end = polish(PREDICT, trained[n], start.sample, count=n, goal=1e-13)
    assert end.loss < 1e-13 < float(loss(trained[n], sample))
    assert end.loss == pytest.approx(float(loss(end.params, sample)), rel=1e-3)
    assert type(end.loss) is float and type(end.iterations) is int and 0 < end.iterations < 100
    residual = PREDICT(end.params, sample.inputs) - sample.targets
    assert np.all(np.abs(residual) < 1e-5)
    # With nothing left to do, nothing is done.
    again = polish(PREDICT, end.params, start.sample, count=n, goal=1e-12)
    assert again.iterations == 0 and again.loss == pytest.approx(end.loss)
    jax.tree.map(np.testing.assert_array_equal, again.params, end.params)


def test_polish_ends_above_zero_where_it_cannot(start, trained):
    sample = start.sample
    end = polish(PREDICT, trained[FULL], sample, iterations=400, goal=1e-13)
    assert 1e-6 < end.loss < float(loss(trained[FULL], sample))
    # The bottom: no direction leads further down, and it has stopped early because of that.
    gradient = ravel_pytree(jax.jit(jax.grad(loss))(end.params, sample))[0]
    assert np.linalg.norm(gradient) < 1e-2 * np.sqrt(end.loss)
    assert end.iterations < 400


def test_polish_finds_the_minimum_that_scipy_finds(start, trained):
    sample = start.sample
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
    sample = first(start.sample, n)
    begin = jax.tree.map(lambda leaf: size * rng.standard_normal(leaf.shape), start.params)
    end = polish(PREDICT, begin, start.sample, count=n, iterations=iterations)
    before = float(loss(begin, sample))
    assert end.loss <= before * (1 + 1e-12)
    assert end.iterations <= iterations
    assert float(loss(end.params, sample)) == pytest.approx(end.loss, rel=1e-6, abs=1e-15)


def test_prompts_beyond_the_count_do_not_count(start, trained):
    n = RANK - 6
    targets = jnp.where(jnp.arange(FULL) < n, start.sample.targets, 1e6)
    nonsense, fewer = start.sample._replace(targets=targets), first(start.sample, n)
    ends = [
        polish(PREDICT, trained[n], some, count=n, iterations=3, goal=1e-30)
        for some in (start.sample, nonsense, fewer)
    ]
    assert ends[0].loss == ends[1].loss == pytest.approx(ends[2].loss, rel=1e-6)
    flat = [np.asarray(ravel_pytree(end.params)[0]) for end in ends]
    np.testing.assert_array_equal(flat[0], flat[1])
    np.testing.assert_allclose(flat[0], flat[2], atol=1e-6)
    everything = polish(PREDICT, trained[n], start.sample, iterations=3, goal=1e-30)
    assert everything.loss != ends[0].loss


def test_polish_is_double_wherever_it_is_called(start, trained):
    single = jax.tree.map(jnp.float32, trained[RANK - 6])
    sample = jax.tree.map(np.asarray, start.sample)
    with jax.enable_x64(False):
        end = polish(PREDICT, single, sample, count=RANK - 6, goal=1e-20)
    assert end.loss < 1e-16 and end.params["query"]["kernel"].dtype == np.float64


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"iterations": 0}, ValueError, "iterations must be an integer of at least 1, got 0"),
        ({"iterations": 1.5}, TypeError, "iterations must be an integer, got 1.5"),
        ({"goal": 0.0}, ValueError, "goal must be positive"),
        ({"goal": -1.0}, ValueError, "goal must be positive .*, got -1.0"),
        ({"count": 0}, ValueError, "count must be an integer of at least 1, got 0"),
        ({"count": FULL + 1}, ValueError, f"count must be at most the n = {FULL} prompts"),
    ],
)
def test_bad_arguments_of_polish(start, options, error, message):
    with pytest.raises(error, match=message):
        polish(PREDICT, start.params, start.sample, **options)


def test_polish_refuses_what_it_cannot_mend(start):
    begin = jax.tree.map(lambda leaf: leaf * np.nan, start.params)
    with pytest.raises(ValueError, match="params must have a finite loss on the sample, got nan"):
        polish(PREDICT, begin, start.sample)


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
        ((None, ONES, ONES), "log_n must hold real numbers"),
        ((ONES, "ab", ONES), "successes must hold real numbers"),
        ((ONES, ONES, 1j * ONES), "tries must hold real numbers"),
        ((ONES, ONES, np.ma.masked_array(ONES)), "tries must be a plain array"),
        ((ONES, np.ma.masked_array(ONES), ONES), "successes must be a plain array"),
    ],
)
def test_bad_arguments_of_a_fit(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
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
        ((ONES, ONES, TRIES), {}, r"d must have shape \(any,\), got \(2, 3\)"),
        ((ONES[:, 0], ONES[:1], TRIES), {}, r"n must have shape \(2, any\), got \(1, 3\)"),
        (
            (ONES[:, 0], ONES, ONES), {},
            r"interpolated must have shape \(2, 3\) \+ \(s,\), got \(2, 3\)",
        ),
        ((ONES[:, 0], ONES, NEVER), {}, "interpolated must have at least one result at each size"),
        ((ONES[:, 0], ONES, TRIES), {"draws": 1}, "draws must be an integer of at least 2, got 1"),
        ((ONES[:, 0], ONES, TRIES), {"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ((-ONES[:, 0], ONES, TRIES), {}, "d must be positive, got -2"),
        ((ONES[:, 0], 0 * ONES, TRIES), {}, "n must be positive, got 0"),
        ((ONES[:, 0], "ab", TRIES), {}, "n must hold real numbers"),
        ((ONES[:, 0], ONES, np.full((2, 3, 2), np.inf)), {}, "interpolated must be 0, 1 or NaN"),
        ((ONES[:, 0], ONES, [[["a"]]]), {}, "interpolated must be a real number or an array"),
    ],
)  # fmt: skip
def test_bad_arguments_of_an_exponent(arguments, options, message):
    d = arguments[0] * (1 + np.arange(2)) if np.ndim(arguments[0]) == 1 else arguments[0]
    with pytest.raises((ValueError, TypeError), match=message):
        fit_exponent(d, *arguments[1:], **options)
