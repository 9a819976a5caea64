"""Training on a stream: against quadrature over all that is random, many runs, and known limits."""

import itertools

import numpy as np
import pytest

from iclkit import backend
from iclkit.data.contexts import draw_statistics
from iclkit.data.tasks import draw_tasks
from iclkit.theory import streaming


def over_gaussians(function, dimensions, points):
    """Mean over independent standard normal numbers, exact for polynomials."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    grid = np.meshgrid(*[nodes] * dimensions, indexing="ij", sparse=True)
    total = 1.0
    for axis in range(dimensions):
        shape = [1] * dimensions
        shape[axis] = points
        total = total * (weights / weights.sum()).reshape(shape)
    return np.sum(function(*grid) * total)


def test_two_steps_in_one_dimension_by_quadrature():
    """By symmetry the task may be 1; with eight numbers that are random, of degree 8 at most."""
    rate, rho = 0.3, 0.2

    def error(*numbers):
        gamma = 0.0
        for g, noise, x, last in (numbers[:4], numbers[4:]):
            h = (g + rho**0.5 * noise) * g
            gamma = gamma + rate * (x + rho**0.5 * last - x * gamma * h) * x * h
        # E(w − Γh)² + ρ with E h = 1 and E h² = 3 + ρ
        return 1 - 2 * gamma + (3 + rho) * gamma**2 + rho

    exact = over_gaussians(error, 8, 5)
    assert abs(streaming.icl_error(2, rate, 1, 1, 1, rho) / exact - 1) < 1e-12


def test_a_step_in_two_dimensions_by_quadrature():
    rate, rho = 0.7, 0.2
    w = np.array([2.0**0.5, 0.0])
    second = 1 + 1 / 2 + 1.2

    def error(x1, x2, x3, x4, n1, n2, q1, q2, last):
        tokens = [(x1 / 2**0.5, x2 / 2**0.5), (x3 / 2**0.5, x4 / 2**0.5)]
        labels = [x[0] * w[0] + rho**0.5 * n for x, n in zip(tokens, (n1, n2), strict=True)]
        h = [labels[0] * tokens[0][i] + labels[1] * tokens[1][i] for i in range(2)]
        q = (q1 / 2**0.5, q2 / 2**0.5)
        y = q[0] * w[0] + rho**0.5 * last
        gamma = {(i, j): rate * y * q[i] * h[j] for i, j in itertools.product(range(2), repeat=2)}
        trace, square = gamma[0, 0] + gamma[1, 1], sum(entry**2 for entry in gamma.values())
        return 1 + rho + (second * square - 2 * trace) / 2

    exact = over_gaussians(error, 9, 5)
    assert abs(streaming.icl_error(1, rate, 1, 2, 2, rho) / exact - 1) < 1e-12


def step_by_step(steps, rate, batch, d, ell, rho):
    """Iterate the recursion; its constants are those of the module, which others test here."""
    of = streaming._recursion(batch, d, ell, rho)
    a, excess = rate * of.second / d, of.first
    for t in range(steps):
        noise = of.steady + of.fading * (1 - a) ** t
        excess = excess * ((1 - a) ** 2 + a**2 * of.scatter) + a**2 * noise
    return of.least + excess


@pytest.mark.parametrize("share", [1e-9, 1e-3, 0.3, 0.499999999, 0.5, 0.7, 0.999999, 1.0, 1.1])
def test_powers_are_summed_without_loss(share):
    for batch, d, ell in ((1, 1, 1), (3, 8, 4), (10**6, 4, 9), (10**12, 4, 9)):
        rate = share * streaming.largest_rate(batch, d, ell, 0.3)
        for steps in (1, 2, 7, 50):
            direct = step_by_step(steps, rate, batch, d, ell, 0.3)
            assert abs(streaming.icl_error(steps, rate, batch, d, ell, 0.3) / direct - 1) < 1e-10
    # the factor of the mean is that of the square, and the other way round
    a = 1 / (1 + streaming._recursion(4, 8, 4, 0.3).scatter)
    rates = a * 8 * np.array([1, 2]) / streaming._recursion(4, 8, 4, 0.3).second
    for rate in rates:
        direct = step_by_step(30, rate, 4, 8, 4, 0.3)
        assert abs(streaming.icl_error(30, rate, 4, 8, 4, 0.3) / direct - 1) < 1e-10


@pytest.mark.parametrize(("d", "ell", "batch", "rate"), [(6, 4, 9, 0.3), (10, 30, 3, 0.1)])
def test_runs_have_this_mean(d, ell, batch, rate):
    """Many at once, without the run of the package."""
    rho, runs, steps = 0.5, 300, 20
    streams, gamma = backend.streams(2), np.zeros((runs, d, d))
    for _ in range(steps):
        w = draw_tasks(runs * batch, d, streams.tasks)
        x, h, y = draw_statistics(w, ell, rho, streams)
        x, h = x.reshape(runs, batch, d), h[:, :d].reshape(runs, batch, d)
        r = y.reshape(runs, batch) - np.sum((x @ gamma) * h, axis=2)
        gamma += rate / batch * (x * r[:, :, None]).mT @ h
    second = 1 + 1 / ell + (1 + rho) * d / ell
    square, trace = np.sum(gamma**2, axis=(1, 2)), np.trace(gamma, axis1=1, axis2=2)
    errors = 1 + rho + (second * square - 2 * trace) / d
    expected = streaming.icl_error(steps, rate, batch, d, ell, rho)
    assert abs(errors.mean() - expected) < 3 * errors.std(ddof=1) / runs**0.5


def test_best_rate_is_a_minimum():
    rng = np.random.default_rng(0)
    for _ in range(20):
        steps, batch, d = (int(10 ** rng.uniform(0, 4)) for _ in range(3))
        point = (batch, d, int(10 ** rng.uniform(0, 5)), 10 ** rng.uniform(-3, 2))
        best = streaming.optimal_rate(steps, *point)
        least = streaming.icl_error(steps, best, *point)
        rates = np.geomspace(1e-6, 10, 400) * streaming.largest_rate(*point)
        assert np.all(streaming.icl_error(steps, rates, *point) > least * (1 - 1e-13))


def test_best_rate_of_one_step():
    """At one token of one dimension, where h = g², it is beyond the largest rate."""
    # Γ = η x²h: E Γ = η and E Γ² = η² E x⁴ E h²; the error is 1 − 2 E Γ + E h² E Γ², E h² = 3
    best = streaming.optimal_rate(1, 1, 1, 1, 0)
    assert abs(best / (1 / (3 * 3 * 3)) - 1) < 1e-6
    assert best > streaming.largest_rate(1, 1, 1, 0)
    # where training gains less than rounding: a* = (b/d²) θ/(1 + ρ), up to b/d² and 1/d
    for d, batch, rho in ((10**9, 1, 0.1), (10**12, 7, 1.0), (10**15, 1, 1e9)):
        share = streaming.optimal_rate(1, batch, d, 2 * d, rho) * (1 + (1 + rho) / 2) / d
        theta = 1 / (1 + (1 + rho) / 2)
        assert abs(share * d**2 / batch * (1 + rho) / theta - 1) < 1e-6


@pytest.mark.parametrize("batch", [1, 10**6, 2**53])
@pytest.mark.parametrize("share", [1e-3, 0.2, 0.5, 0.9])
def test_long_training_ends(batch, share):
    """After many steps more of them change nothing: no power of large numbers is left."""
    point = (batch, 5, 400, 0.3)
    rate = share * streaming.largest_rate(*point)
    errors = streaming.icl_error([10**6, 10**9, 2**53], rate, *point)
    assert np.all(np.isfinite(errors)) and np.ptp(errors) < 1e-13


def test_long_contexts_without_noise():
    """Error in the order 1/ℓ, by E|u|²|h|² = d²(d + 1)/ℓ and E|h|⁴ = d², after many steps."""
    d, ell, batch = 5, 10**14, 100
    c = 1 + (d * (d + 2) - 1) / batch
    a = np.array([0.1, 0.5, 0.9]) * 2 / c
    expected = (d + 1) / ell * (1 + a * d * (d + 2) / batch / (2 - a * c))
    found = streaming.icl_error(10**6, a * d, batch, d, ell, 0)
    assert np.all(np.abs(found / expected - 1) < 1e-10)


def test_limits_of_the_best_rate():
    """With unlimited batches a whole step is best, and with a single step its share is known."""
    theta = 1 / (1 + 1e-6 + 1.1 / 2)
    d, ell = 10**6, 2 * 10**6
    assert abs(streaming.optimal_rate(1, 10**15, d, ell, 0.1) / d / theta - 1) < 1e-2
    # b ≪ d²: a* = (b/d²) θ/(1 + ρ) for few contexts, here up to 1/d
    found = streaming.optimal_rate(1, 10**8, d, ell, 0.1) / d / theta * d**2 / 10**8
    assert abs(found / (theta / 1.1) - 1) < 3e-4
    # and many steps: 2aT = log(4 T b θ / (d² e_min)), up to terms of the order a
    steps, batch = 10**5, d**2
    a = streaming.optimal_rate(steps, batch, d, ell, 0.1) / d / theta
    least = 0.1 + 1 - theta
    assert abs(2 * a * steps / np.log(4 * steps * batch * theta / d**2 / least) - 1) < 1e-3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "^steps must be a whole number"),
        ({"steps": 1.5}, "^steps must be a whole number"),
        ({"rate": 0.0}, "^rate must be positive"),
        ({"rate": np.inf}, "^rate must be positive and finite"),
        ({"batch": 0}, "^batch must be a whole number"),
        ({"d": 0}, "^d must be a whole number"),
        ({"ell": 2.5}, "^ell must be a whole number"),
        ({"rho": -0.1}, "^rho must be finite and at least 0"),
        ({"rho": 1e10}, "^rho must be at most 1e"),
        ({"rho": np.nan}, "^rho must be finite"),
    ],
)
def test_wrong_arguments(wrong, message):
    point = {"steps": 9, "rate": 0.1, "batch": 5, "d": 4, "ell": 7, "rho": 0.3}
    with pytest.raises(ValueError, match=message):
        streaming.icl_error(**point | wrong)


def test_what_diverges_is_infinite():
    rate = 3 * streaming.largest_rate(2, 4, 7, 0.3)
    assert streaming.icl_error(10**6, rate, 2, 4, 7, 0.3) == np.inf
    assert np.isfinite(streaming.icl_error(10**6, rate / 3.01, 2, 4, 7, 0.3))
