"""A pretrained layer applied many times: the recursions, what follows from them, and sampled Γ."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit import theory
from iclkit.theory import descent, loop

taus = st.floats(0.1, 0.9) | st.floats(1.1, 20)
ratios = st.floats(0.1, 10)
kappas = st.floats(0.1, 10) | st.just(np.inf)
noises = st.just(0.0) | st.floats(1e-3, 2)
strengths = st.floats(0.01, 10)
ERRORS = {"icl": theory.icl_error, "idg": theory.idg_error}


@given(taus, ratios, kappas, noises, noises, st.sampled_from(["icl", "idg"]))
def test_one_application_is_the_error_of_the_book(tau, alpha, kappa, rho, lam, test):
    errors = loop.loop_error(tau, alpha, kappa, rho, lam, depth=1, test=test)
    assert errors[0] == pytest.approx(1 + rho, rel=1e-12)
    assert errors[1] == pytest.approx(ERRORS[test](tau, alpha, kappa, rho, lam), rel=1e-9)


@pytest.mark.parametrize("alpha", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("kappa", [1e-75, 0.9, 0.999, 1.0, 1.001, 1e75])
def test_long_contexts_and_any_diversity(alpha, kappa):
    """Then x = q is small, and next to κ = 1 a pole lies next to the spectrum of R."""
    for test, error in ERRORS.items():
        found = loop.loop_error(4.0, alpha, kappa, 0.01, depth=1, test=test)
        exact = error(4.0, alpha, kappa, 0.01)
        np.testing.assert_allclose(found, [1.01, exact], rtol=1e-11)


# Endless tasks --------------------------------------------------------------------------------


@given(ratios, noises, st.lists(st.floats(-1, 2), min_size=1, max_size=6))
def test_without_noise_of_the_matrix_it_is_gradient_descent(alpha, ridge, steps):
    law = descent.marchenko_pastur(alpha, 8)
    risks = loop.noisy_risks(steps, law, ridge)
    for depth in range(1, len(steps) + 1):
        exact = descent.descent_risk(steps[:depth], law, ridge)
        assert risks[depth] == pytest.approx(exact, rel=1e-9)


def symmetric(degree, numbers):
    """Complete homogeneous symmetric polynomial."""
    chosen = itertools.combinations_with_replacement(numbers, degree)
    return sum(math.prod(some) for some in chosen)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_the_recursion_is_an_explicit_sum_of_squares(alpha):
    """The paths of the noise through the layers one by one, which the recursion never has."""
    depth, rho, nu2, h = 3, 0.2, 0.7, 0.6
    law = descent.marchenko_pastur(alpha, 8)
    s, weights = law
    a = 1 - h * s
    total = descent.descent_risk([h] * depth, law, rho / alpha)
    for n in range(1, depth + 1):
        for chosen in itertools.product(range(s.size), repeat=n + 1):
            some = list(chosen)
            last = s[some[-1]]
            between = np.prod(s[some[1:-1]] ** 2) * last * (last + rho / alpha)
            path = symmetric(depth - n, a[some]) ** 2
            total += (h * h * nu2) ** n * np.prod(weights[some]) * between * path
    risk = loop.noisy_risks([h] * depth, law, rho / alpha, nu2=nu2)[-1]
    assert risk == pytest.approx(total, rel=1e-12)


@given(st.floats(0.1, 1.5), strengths, st.integers(1, 12))
def test_endless_contexts_leave_binomials(h, nu2, depth):
    law = descent.Law(np.ones(1), np.ones(1))
    terms = [
        math.comb(depth, n) ** 2 * (1 - h) ** (2 * (depth - n)) * (h * h * nu2) ** n
        for n in range(depth + 1)
    ]
    assert loop.noisy_risks([h] * depth, law, nu2=nu2)[-1] == pytest.approx(sum(terms), rel=1e-9)


@given(ratios, noises, strengths, st.permutations([0.1, 0.3, 0.5, 0.8, 1.1]))
def test_the_order_of_the_steps_does_not_count(alpha, ridge, nu2, steps):
    law = descent.marchenko_pastur(alpha, 7)
    mixed, ordered = (
        loop.noisy_risks(some, law, ridge, nu2=nu2)[-1] for some in (steps, np.sort(steps))
    )
    assert mixed == pytest.approx(ordered, rel=1e-8)


@given(ratios, noises, st.floats(0.01, 2), st.just(0.0) | st.floats(1e-6, 3))
def test_noise_of_the_matrix_harms_at_every_depth(alpha, ridge, h, nu2):
    law = descent.marchenko_pastur(alpha, 10)
    less = loop.noisy_risks([h] * 8, law, ridge, nu2=nu2)
    more = loop.noisy_risks([h] * 8, law, ridge, nu2=1.1 * nu2 + 0.01)
    assert np.all(more[1:] > less[1:])


@settings(max_examples=20)
@given(taus, ratios, noises.map(lambda rho: rho + 1e-3))
def test_one_ridge_is_best_at_every_depth(tau, alpha, rho):
    """It is that of one application, and leaves a ν² that has a closed form."""
    q = (1 + rho) / alpha
    n0 = rho * (1 + q) + q
    best = (1 + q) * n0 / tau
    assert theory.optimal_ridge(tau, alpha, np.inf, rho) == pytest.approx(best, rel=1e-6)
    b = tau - 1 - n0
    least = loop.noise_strength(tau, alpha, rho, best)
    assert least == pytest.approx(2 * n0 / (b + math.hypot(b, 2 * (tau * n0) ** 0.5)), rel=1e-9)
    assert np.all(loop.noise_strength(tau, alpha, rho, [0.8 * best, 1.2 * best]) > least)
    theta = loop.step_factor(tau, alpha, rho, best)
    assert theta * (1 + q) * (1 + least) == pytest.approx(1, rel=1e-9)
    law, errors = descent.marchenko_pastur(alpha, 8), []
    for nu2 in loop.noise_strength(tau, alpha, rho, [best, 1.5 * best, best / 1.5]):
        h = loop.best_step(law, 5, rho / alpha, nu2=nu2)
        errors.append(loop.noisy_risks([h] * 5, law, rho / alpha, nu2=nu2)[-1])
    assert errors[0] < min(errors[1:])


def test_ridgeless_noise_has_two_branches():
    tau, n0 = np.array([0.3, 0.8, 1.4, 6.0]), 0.1 * 1.55 + 0.55
    closed = np.where(tau > 1, n0 / (tau - 1), (n0 + (1 - tau) ** 2) / (tau * (1 - tau)))
    np.testing.assert_allclose(loop.noise_strength(tau, 2.0, 0.1), closed, rtol=1e-12)
    assert np.isinf(loop.noise_strength(1.0, 2.0, 0.1))


@given(ratios, strengths)
def test_edges_are_roots_of_the_cubic_and_surround_those_of_the_context(alpha, nu2):
    c = 1 / alpha
    roots = np.roots([2 * c * nu2, nu2 * (1 + c) + c, 0, -1])
    roots = roots[np.abs(roots.imag) < 1e-7].real
    values = (1 + c * roots) * (1 + roots) / roots
    upper, lower = loop.edge(alpha, nu2), loop.edge(alpha, nu2, end="lower")
    assert np.abs(values - upper).min() < 1e-6 * upper
    assert np.abs(values - lower).min() < 1e-6 * upper
    assert lower <= (1 - c**0.5) ** 2 + 1e-12 and upper >= (1 + c**0.5) ** 2
    assert (lower < 0) == (nu2 * min(1, alpha) > 1) or abs(nu2 * min(1, alpha) - 1) < 1e-9


def test_edges_of_any_size():
    """With endless contexts the spectrum is a disc around 1, of radius ν."""
    nu = np.array([1e-3, 0.7, 1.0, 30.0, 1e30])
    for alpha in (1e20, 1e50, 1e75):
        ends = [loop.edge(alpha, nu**2, end=end) for end in ("lower", "upper")]
        np.testing.assert_allclose(ends, [1 - nu, 1 + nu], rtol=1e-9, atol=1e-9)
    size = 10.0 ** np.arange(-75, 76, 5)
    for alpha in (1e-75, 0.3, 1.0, 3.0, 1e75):
        lower, upper = loop.edge(alpha, size, end="lower"), loop.edge(alpha, size)
        rounding = 1e-15 * upper[1:]
        assert np.all(np.diff(lower) <= rounding) and np.all(np.diff(upper) >= -rounding)


def test_edges_are_those_of_sampled_matrices():
    """The largest and, in size 800, the least real part of the spectrum, up to 4 per cent."""
    rng, d = np.random.default_rng(0), 800
    for alpha, nu2 in ((0.5, 0.4), (3.0, 2.0)):
        X = rng.standard_normal((round(alpha * d), d))
        Z = rng.standard_normal((d, d)) / d**0.5
        found = np.linalg.eigvals((np.eye(d) + nu2**0.5 * Z) @ (X.T @ X) / (alpha * d))
        found = found[np.abs(found) > 1e-6].real
        ends = loop.edge(alpha, nu2, end="lower"), loop.edge(alpha, nu2)
        assert np.abs(np.array([found.min(), found.max()]) - ends).max() < 0.04 * ends[1]


def late_factor(risks, end, power):
    """What an application multiplies the distance from an end by, at the end of a long loop."""
    depth, back = risks.size - 1, 40
    factor = (risks[depth] - end) / (risks[depth - back] - end)
    return (factor / (depth / (depth - back)) ** power) ** (1 / back)


@pytest.mark.parametrize(("alpha", "nu2", "h"), [(4.0, 0.5, 0.3), (3.0, 2.0, 0.3), (0.25, 5.0, 0.2),
                                                  (4.0, 0.1, 1.2)])  # fmt: skip
def test_the_radius_rules_late_applications(alpha, nu2, h):
    """As ϱ^(2L) L^(−1/2), where an edge of the noise rules it and w ends at the task."""
    law = descent.marchenko_pastur(alpha, 162)
    found = late_factor(loop.noisy_risks([h] * 160, law, nu2=nu2), 0.0, -0.5)
    assert found == pytest.approx(loop.radius(h, alpha, nu2) ** 2, rel=1e-3)


@pytest.mark.parametrize(("alpha", "nu2", "rho", "h"), [
    (0.5, 0.4, 0.0, 0.3), (0.4, 0.4, 0.2, 0.25), (0.5, 1.7, 0.0, 0.2), (2.0, 0.1, 0.3, 0.6),
])  # fmt: skip
def test_an_end_beside_the_task_is_approached_from_below_and_more_slowly(alpha, nu2, rho, h):
    """By a term linear in the distance, which sees an edge of S or a pole below that."""
    law = descent.marchenko_pastur(alpha, 162)
    errors = rho + loop.noisy_risks([h] * 160, law, rho / alpha, nu2=nu2)
    end = loop.saturation(alpha, rho, nu2)
    assert errors[-1] < end
    pole = alpha < 1 and nu2 * alpha**0.5 > 1
    slowest = (1 - alpha**-0.5) ** 2
    if pole:
        slowest = (nu2 - 1) * (1 - alpha * nu2) / (alpha * nu2)
    found = late_factor(errors, end, 0.0 if pole else -1.5)
    assert found == pytest.approx(1 - h * slowest, rel=2e-3)
    assert found > loop.radius(h, alpha, nu2) ** 2


@pytest.mark.parametrize(("alpha", "nu2", "rho"), [(2.0, 0.9, 0.1), (4.0, 0.9, 0.05)])
def test_close_to_the_threshold_the_end_is_approached_from_above(alpha, nu2, rho):
    """There the square is slower than the linear term, though w does not end at the task."""
    law, h = descent.marchenko_pastur(alpha, 162), 0.4
    errors = rho + loop.noisy_risks([h] * 160, law, rho / alpha, nu2=nu2)
    assert np.all(np.diff(errors) < 0) and errors[-1] > loop.saturation(alpha, rho, nu2)
    square = loop.radius(h, alpha, nu2) ** 2
    assert square > 1 - h * (1 - alpha**-0.5) ** 2
    found = late_factor(errors, loop.saturation(alpha, rho, nu2), -0.5)
    assert found == pytest.approx(square, rel=1e-3)


@pytest.mark.parametrize(("alpha", "nu2"), [(0.3, 0.5), (0.5, 1.5), (3.0, 0.2), (5.0, 0.6)])
@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_saturation_is_where_convergent_loops_end(alpha, nu2, rho):
    h = 2 / (loop.edge(alpha, nu2) + loop.edge(alpha, nu2, end="lower"))
    law = descent.marchenko_pastur(alpha, 202)
    risk = loop.noisy_risks([h] * 200, law, rho / alpha, nu2=nu2)[-1]
    left = loop.radius(h, alpha, nu2) ** 400
    assert rho + risk == pytest.approx(loop.saturation(alpha, rho, nu2), abs=1e-8 + 50 * left)


@given(ratios, noises)
def test_the_threshold_is_where_the_lower_edge_is_zero(alpha, rho):
    share = min(1, alpha)
    tau = loop.critical_samples(alpha, rho)
    assert loop.noise_strength(tau, alpha, rho) * share == pytest.approx(1, rel=1e-9)
    tau, q = loop.critical_samples(alpha, rho, ridge="best"), (1 + rho) / alpha
    best = (1 + q) * (rho * (1 + q) + q) / tau
    assert loop.noise_strength(tau, alpha, rho, best) * share == pytest.approx(1, rel=1e-9)
    assert loop.instability(tau, alpha, np.inf, rho, best) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("nu2", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("depth", [1, 3, 8])
def test_no_other_step_is_better(nu2, depth):
    law, ridge = descent.marchenko_pastur(1.5, 10), 0.1
    best = loop.best_step(law, depth, ridge, nu2=nu2)
    least = loop.noisy_risks([best] * depth, law, ridge, nu2=nu2)[-1]
    for h in best * np.geomspace(0.02, 5, 100):
        assert loop.noisy_risks([h] * depth, law, ridge, nu2=nu2)[-1] > least * (1 - 1e-12)
    if nu2 == 0:
        assert best == pytest.approx(descent.best_step(law, depth, ridge), rel=1e-6)


def test_the_step_of_pretraining_is_that_of_the_long_loop():
    """Without any noise: 2/(ω₋ + ω₊) is α/(1 + α), the best single step."""
    alpha = np.array([0.2, 1.0, 3.0])
    middle = (loop.edge(alpha, 0.0) + loop.edge(alpha, 0.0, end="lower")) / 2
    np.testing.assert_allclose(1 / middle, loop.step_factor(np.inf, alpha, 0.0), rtol=1e-12)


# Finite diversity -----------------------------------------------------------------------------


@given(taus, ratios, noises, noises, st.lists(st.floats(0, 1.2), min_size=5, max_size=5))
def test_many_tasks_are_endless_ones(tau, alpha, rho, lam, steps):
    """Two derivations: recursions at the nodes of S, and a mean field for both spectra."""
    many = loop.loop_error(tau, alpha, 1e10, rho, lam, depth=5, step=steps)
    endless = loop.loop_error(tau, alpha, np.inf, rho, lam, depth=5, step=steps)
    np.testing.assert_allclose(many, endless, rtol=1e-6)


def test_endless_samples_regress_on_the_known_directions():
    """What tasks have in unknown directions is noise to the loop."""
    alpha, kappa, rho = 2.0, 0.5, 0.1
    for test, noise in (("icl", rho + 1 - kappa), ("idg", rho)):
        errors = loop.loop_error(np.inf, alpha, kappa, rho, depth=40, test=test)
        assert errors[-1] == pytest.approx(alpha * noise / (alpha - kappa), rel=1e-3)


def test_instability_has_its_limits_and_tells_which_loops_converge():
    # Numbers of an independent implementation.
    points = {(3, 2, 2, 0.1, 0): 1.31602, (4, 0.5, 1.2, 0.1, 0): 1.90552,
              (8, 0.4, 5, 0.05, 0): 0.201684, (3, 0.5, 0.8, 0.2, 0.1): 12.8832}  # fmt: skip
    for point, value in points.items():
        assert loop.instability(*point) == pytest.approx(value, rel=1e-5)
    endless = loop.noise_strength(3.0, [0.5, 2.0], 0.1) * [0.5, 1.0]
    np.testing.assert_allclose(loop.instability(3.0, [0.5, 2.0], 1e9, 0.1), endless, rtol=1e-6)
    np.testing.assert_allclose(loop.instability(3.0, [0.5, 2.0], np.inf, 0.1), endless, rtol=1e-9)
    assert np.all(np.isinf(loop.instability(9.0, [0.5, 2.0], [0.5, 1.0], 0.1)))
    assert loop.instability(np.inf, 2.0, 0.5, 0.1) == 0
    for tau, kappa in ((2.0, 1.2), (4.0, 4.0)):
        errors = loop.loop_error(tau, 2.0, kappa, 0.1, depth=48, step=0.5)
        assert (errors[-1] > errors[-8]) == (loop.instability(tau, 2.0, kappa, 0.1) > 1)


@pytest.mark.parametrize(("alpha", "kappa"), [(0.5, None), (None, 1.0)])
def test_instability_grows_by_a_power_next_to_few_tasks(alpha, kappa):
    """As the inverse third power: ζ is linear in κ − α, and at κ = 1 quadratic in 1 − α."""
    gaps, found = np.array([1e-4, 1e-5]), []
    for gap in gaps:
        some = (alpha, alpha + gap) if kappa is None else (kappa - gap, kappa)
        found.append(loop.instability(4.0, *some, 0.1))
    assert np.diff(np.log(found)) / np.diff(np.log(gaps)) == pytest.approx(-3, rel=1e-3)


# Sampled matrices -----------------------------------------------------------------------------


def test_direct_iteration_of_a_gaussian_matrix():
    """With steps of their own and memory: means of 30 draws at d = 300, up to order 1/d."""
    d, alpha, ridge, nu2, draws = 300, 2.0, 0.1, 0.4, 30
    steps, momentum = np.array([0.5, 0.7, 0.3, 0.6]), np.array([0.0, 0.2, 0.1, 0.3])
    theory_ = loop.noisy_risks(
        steps, descent.marchenko_pastur(alpha, 6), ridge, nu2=nu2, momentum=momentum
    )
    rng, found = np.random.default_rng(1), []
    for _ in range(draws):
        X = rng.standard_normal((round(alpha * d), d))
        S = X.T @ X / (alpha * d)
        gamma = np.eye(d) + (nu2 / d) ** 0.5 * rng.standard_normal((d, d))
        # What is left of w, and what noise of covariance ridge·S becomes.
        A, B, before = np.eye(d), np.zeros((d, d)), (np.eye(d), np.zeros((d, d)))
        errors = [1.0]
        for h, memory in zip(steps, momentum, strict=True):
            now = A, B
            A = A - h * gamma @ S @ A + memory * (A - before[0])
            B = B + h * gamma @ (np.eye(d) - S @ B) + memory * (B - before[1])
            before = now
            errors.append((np.vdot(A, A) + ridge * np.vdot(B, B @ S)) / d)
        found.append(errors)
    mean, se = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / draws**0.5
    assert np.all(np.abs(mean - theory_)[1:] < 4 * se[1:] + 2 / d * theory_[1:])


@pytest.mark.parametrize("test", ["icl", "idg"])
def test_direct_iteration_of_the_equivalent_of_few_tasks(test):
    """Its mean is a function of the covariance of the tasks: 12 draws at d = 300."""
    d, draws, (tau, alpha, kappa, rho, lam) = 300, 12, (3.0, 2.0, 0.7, 0.1, 0.05)
    q, depth = (1 + rho) / alpha, 4
    x = q + theory.effective_ridge(tau, alpha, kappa, rho, lam)
    variance = theory.idg_error(tau, alpha, kappa, rho, lam) / tau
    rng, found = np.random.default_rng(2), []
    for _ in range(draws):
        W = rng.standard_normal((round(kappa * d), d))
        r, vectors = np.linalg.eigh(W.T @ W / len(W))
        R = (vectors * r) @ vectors.T
        noise = rng.standard_normal((d, d)) / d**0.5
        gamma = (vectors * (r / (r + x))) @ vectors.T
        gamma += noise @ ((vectors * (variance * (q + r)) ** 0.5 / (r + x)) @ vectors.T)
        X = rng.standard_normal((round(alpha * d), d))
        S = X.T @ X / (alpha * d)
        A, B, errors = np.eye(d), np.zeros((d, d)), []
        law = R if test == "idg" else np.eye(d)
        for _ in range(depth):
            A, B = A - gamma @ S @ A, B + gamma @ (np.eye(d) - S @ B)
            errors.append(rho + (np.vdot(A, A @ law) + rho / alpha * np.vdot(B, B @ S)) / d)
        found.append(errors)
    exact = loop.loop_error(tau, alpha, kappa, rho, lam, depth=depth, test=test)[1:]
    mean, se = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / draws**0.5
    assert np.all(np.abs(mean - exact) < 4 * se + 2 / d * exact)


# What is refused, and what is infinite ----------------------------------------------------------


@pytest.mark.parametrize(("kappa", "step", "depth"), [
    (0.5, 1e9, 30), (3.0, 3.0, 40), (1.0, 2.0, 100), (0.5, 1e75, 6), (np.inf, 1e30, 30),
])  # fmt: skip
def test_later_applications_do_not_change_the_errors_of_earlier_ones(kappa, step, depth):
    long = loop.loop_error(4.0, 2.0, kappa, 0.1, depth=depth, step=step)
    short = loop.loop_error(4.0, 2.0, kappa, 0.1, depth=2, step=step)
    np.testing.assert_allclose(long[:3], short, rtol=1e-12)
    assert np.isfinite(short).all()


def test_what_diverges_is_infinite():
    assert np.isinf(loop.loop_error(1.0, 2.0, 2.0, 0.1, depth=3)[1:]).all()
    for kappa in (0.5, np.inf):
        far = loop.loop_error(0.5, 0.5, kappa, 0.1, depth=30, step=1e9)
        assert np.isinf(far[-1]) and not np.isnan(far).any()
    assert np.isinf(loop.saturation(1.0, 0.1, 0.5)) and np.isinf(loop.saturation(2.0, 0.1, 1.5))


LAW = descent.marchenko_pastur(2.0, 5)
RIGHT = {
    loop.loop_error: {"tau": 2.0, "alpha": 1.0, "kappa": 1.0, "rho": 0.1, "lam": 0.0, "depth": 2,
                      "step": 1.0, "test": "icl"},
    loop.noisy_risks: {"steps": [0.1, 0.2], "law": LAW, "ridge": 0.1, "nu2": 0.1, "momentum": 0.1},
    loop.best_step: {"law": LAW, "depth": 2, "ridge": 0.1, "nu2": 0.1},
    loop.edge: {"alpha": 2.0, "nu2": 0.1, "end": "upper"},
    loop.radius: {"step": 0.1, "alpha": 2.0, "nu2": 0.1},
    loop.saturation: {"alpha": 2.0, "rho": 0.1, "nu2": 0.1},
    loop.critical_samples: {"alpha": 2.0, "rho": 0.1, "ridge": "none"},
    loop.instability: {"tau": 2.0, "alpha": 1.0, "kappa": 1.5, "rho": 0.1, "lam": 0.0},
    loop.noise_strength: {"tau": 2.0, "alpha": 1.0, "rho": 0.1, "lam": 0.0},
    loop.step_factor: {"tau": 2.0, "alpha": 1.0, "rho": 0.1, "lam": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("function", RIGHT, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "value",
    [None, "abc", np.nan, -np.inf, 1j, {}, object(), [[1.0], [2.0, 3.0]]],
    ids=lambda value: type(value).__name__,
)
def test_garbage_is_refused_by_name(function, value):
    function(**RIGHT[function])
    for argument in RIGHT[function]:
        with pytest.raises((TypeError, ValueError), match=rf"\b{argument}\b"):
            function(**RIGHT[function] | {argument: value})


@pytest.mark.parametrize(("name", "value"), [("alpha", np.inf), ("alpha", 0.0), ("lam", -0.1),
                                             ("depth", 0), ("depth", 1.5), ("step", [0.1]),
                                             ("test", "ICL"), ("tau", [1.0, 2.0])])  # fmt: skip
def test_what_a_loop_refuses(name, value):
    with pytest.raises((TypeError, ValueError), match=rf"^{name} must"):
        loop.loop_error(**RIGHT[loop.loop_error] | {name: value})
