"""Networks that say how sure they are: forecasts and losses are right, and tests what they say."""

import jax
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from iclkit.trained import intervals
from iclkit.trained.intervals import Encoder, Forecast, Noisy, trained_intervals

POINT = {
    "network": 0, "loss": "likelihood", "d": 2, "alpha": 2.0, "rho": 0.25, "spread": 1.0,
    "width": 8, "steps": 200, "shift": "noise", "factor": 1.0, "tests": 2000,
    "depth": 1,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("network", -1, "network must be"),
        ("loss", "squares", "loss must be one of likelihood, two-squares, got 'squares'"),
        ("spread", 0.5, "spread must be at least 1, got 0.5"),
        ("rho", 0.0, "rho must be"),
        ("heads", 3, "width must be a multiple of heads = 3, got 8"),
        ("depth", 0, "depth must be"),
        ("factor", 0.0, "factor must be"),
        ("steps", 0, "steps must be"),
    ],
)
def test_bad_point_is_refused_before_it_is_computed(name, value, message):
    with pytest.raises(ValueError, match=message):
        trained_intervals.check(**POINT | {name: value})


def test_length_that_rounds_to_nothing_is_refused():
    with pytest.raises(ValueError, match="factor"):
        trained_intervals.check(**POINT | {"shift": "length", "factor": 0.01})


def joint(X, query, level, scale):
    """The covariance of the labels and of the query's, given the noise."""
    rows = np.concatenate([X, query[None]])
    return scale**2 * rows @ rows.T + level * np.eye(len(rows))


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("spread", [1.0, 6.0])
def test_bayes_is_that_of_the_joint_law(spread, scale):
    """By conditioning the joint Gaussian, and by quadrature over the level of noise."""
    prompts = np.random.default_rng(0).standard_normal((3, 6, 3))
    prompts[:, -1, -1] = 0
    found = intervals.predictive(prompts, 0.3, spread=spread, scale=scale)
    for row, prompt in enumerate(prompts):
        X, y, query = prompt[:-1, :-1], prompt[:-1, -1], prompt[-1, :-1]

        def moments(u):
            K = joint(X, query, 0.3 * spread**u, scale)  # noqa: B023 - called at once
            slope = np.linalg.solve(K[:-1, :-1], K[:-1, -1])
            mean, variance = slope @ y, K[-1, -1] - slope @ K[:-1, -1]  # noqa: B023
            weight = multivariate_normal.pdf(y, cov=K[:-1, :-1])  # noqa: B023
            return weight * np.array([1, mean, variance + mean**2])

        if spread == 1:
            total, first, second = moments(0.0)
        else:
            total, first, second = (
                quad(lambda u, i=i: moments(u)[i], -1, 1, epsabs=0, epsrel=1e-9)[0]
                for i in range(3)
            )
        mean = first / total
        assert found.mean[row] == pytest.approx(mean, rel=1e-6)
        assert found.variance[row] == pytest.approx(second / total - mean**2, rel=1e-6)


@pytest.mark.parametrize(
    ("ell", "noise", "true"), [(32, 0.25, 1.0), (8, 0.015, 1.0), (8, 0.25, 4.0)]
)
def test_levels_are_enough_where_the_evidence_is_sharp(ell, noise, true):
    """With the widest spread, the longest contexts, and surprising noise and tasks of the book."""
    rng = np.random.default_rng(6)
    X, w = rng.standard_normal((ell + 1, 4)) / 2, true * rng.standard_normal(4)
    y = X @ w + np.append(noise**0.5 * rng.standard_normal(ell), -X[-1] @ w)
    found = intervals.predictive(np.column_stack([X, y])[None], 0.25, spread=8.0)
    total = np.zeros(3)
    for u in np.linspace(-1, 1, 4001):  # trapezia
        K = joint(X[:-1], X[-1], 0.25 * 8**u, 1.0)
        slope = np.linalg.solve(K[:-1, :-1], K[:-1, -1])
        mean, variance = slope @ y[:-1], K[-1, -1] - slope @ K[:-1, -1]
        weight = multivariate_normal.pdf(y[:-1], cov=K[:-1, :-1]) * (0.5 if abs(u) == 1 else 1)
        total += weight * np.array([1, mean, variance + mean**2])
    mean = total[1] / total[0]
    assert found.mean[0] == pytest.approx(mean, rel=1e-5)
    assert found.variance[0] == pytest.approx(total[2] / total[0] - mean**2, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rho": 0.0}, "rho must be"),
        ({"scale": np.inf}, "scale must be"),
        ({"spread": 0.9}, "spread must be at least 1, got 0.9"),
        ({"spread": np.nan}, "spread must be"),
        ({"prompts": np.full((1, 2, 2), np.nan)}, "prompts must be"),
        ({"prompts": np.ones((2, 2))}, "prompts must"),
    ],
)
def test_bad_arguments_of_bayes_are_refused(arguments, message):
    right = {"prompts": np.ones((1, 2, 2)), "rho": 1.0}
    intervals.predictive(**right)
    with pytest.raises(ValueError, match=message):
        intervals.predictive(**right | arguments)
    if set(arguments) <= {"prompts"}:
        with pytest.raises(ValueError, match=message):
            intervals.one_width(**right | arguments)


def test_noise_of_one_width_is_refused_below_zero():
    with pytest.raises(ValueError, match="rho must be"):
        intervals.one_width(np.ones((1, 2, 2)), -0.1)


@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_bayes_is_calibrated_on_what_is_drawn(spread):
    draw = Noisy(2, 4, 0.25, spread, scale=1.5, stretch=2.0)
    prompts, targets = (np.asarray(part) for part in draw(jax.random.key(0), (20_000,)))
    mean, variance = intervals.predictive(prompts, 0.25, spread=spread, scale=1.5)
    squares = (targets - mean) ** 2 / variance
    assert abs(squares.mean() - 1) < 3 * squares.std() / 20_000**0.5


def test_draws_have_the_law_they_name():
    draw = Noisy(3, 5, 0.2, 4.0, scale=2.0, stretch=0.5)
    prompts, clean, rho = (np.asarray(part) for part in draw.parts(jax.random.key(1), (20_000,)))
    assert prompts.shape == (20_000, 6, 4) and np.all(prompts[:, -1, -1] == 0)
    logs = np.log(rho / 0.2) / np.log(4)
    assert -1 <= logs.min() < -0.99 and 0.99 < logs.max() <= 1
    assert abs(logs.mean()) < 3 * logs.std() / 20_000**0.5
    for square, expected in (
        (np.sum(prompts[:, -1, :-1] ** 2, axis=1), 0.25),
        (clean**2, 1.0),
        (prompts[:, 0, -1] ** 2 - rho, 1.0),
    ):
        assert abs(square.mean() - expected) < 3.5 * square.std() / 20_000**0.5


def test_one_width_is_honest_on_average():
    draw = Noisy(3, 6, 0.3)
    prompts, targets = (np.asarray(part) for part in draw(jax.random.key(2), (40_000,)))
    mean, variance = intervals.one_width(prompts, 0.3)
    squares = (targets - mean) ** 2
    assert abs(squares.mean() - variance[0]) < 3 * squares.std() / 40_000**0.5
    for other in (0.9, 1.1):  # no multiple of it is better
        assert np.mean((targets - other * mean) ** 2) > squares.mean()


def test_losses_are_least_at_mean_and_variance():
    y = np.random.default_rng(3).standard_normal(200_000) * 1.5 + 0.7
    best = np.array([y.mean(), np.log(y.var())])
    for loss in intervals.LOSSES.values():
        least = loss(best, y).mean()
        for step in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)):
            assert loss(best + step, y).mean() > least
    density = -norm.logpdf(y, best[0], np.exp(best[1] / 2)) - np.log(2 * np.pi) / 2
    np.testing.assert_allclose(intervals.likelihood(best, y), density, rtol=1e-9)


def test_a_context_is_a_set_for_the_network():
    model, rng = Encoder(2, 2), np.random.default_rng(4)
    params = model.init(jax.random.key(0), 3, 8)
    prompts = rng.standard_normal((5, 7, 4))
    shuffled = np.concatenate([prompts[:, rng.permutation(6)], prompts[:, -1:]], axis=1)
    found = model.predict(params, prompts)
    assert found.shape == (5, 2)
    np.testing.assert_allclose(model.predict(params, shuffled), found, rtol=1e-9)
    other = model.predict(params, np.roll(prompts, 1, axis=1))
    assert np.abs(other - found).max() > 1e-3


def test_judgement_is_that_of_drawn_noise():
    rng, n = np.random.default_rng(5), 200
    forecast = Forecast(rng.standard_normal(n), rng.uniform(0.5, 2, n))
    clean, rho = rng.standard_normal(n), rng.uniform(0.1, 1, n)
    found = intervals._judge(forecast, clean, rho, [np.arange(100), np.arange(100, n)])
    y = clean + np.sqrt(rho) * rng.standard_normal((20_000, n))
    inside = np.abs(y - forecast.mean) < norm.ppf(0.95) * np.sqrt(forecast.variance)
    assert found["coverage"] == pytest.approx(inside.mean(), abs=2e-3)
    assert found["coverage_2"] == pytest.approx(inside[:, 100:].mean(), abs=2e-3)
    assert found["error"] == pytest.approx(np.mean((y - forecast.mean) ** 2), rel=0.01)
    outputs = np.stack([forecast.mean, np.log(forecast.variance)], axis=-1)
    score = float(intervals.likelihood(outputs, y).mean())
    assert found["score"] == pytest.approx(score, rel=0.01)


def test_training_learns_and_a_seed_repeats_it():
    first = trained_intervals(1, **POINT)
    intervals._train.cache_clear()  # so that it is trained again
    assert first == trained_intervals(1, **POINT)
    assert first["network_score"] != trained_intervals(1, **POINT | {"network": 1})["network_score"]
    assert first["prior_error"] == first["knowing_error"] < first["network_error"] < 1.25
    assert first["mean_shift"] == first["doubt_follow"] == 0
    louder = trained_intervals(1, **POINT | {"factor": 9.0})
    assert louder["knowing_score"] < louder["prior_score"]
    assert louder["prior_coverage"] < 0.8 < louder["knowing_coverage"] < 0.95
    mean, shift = louder["linear_variance"], first["linear_variance"]
    assert mean == shift  # one width, whatever the test
