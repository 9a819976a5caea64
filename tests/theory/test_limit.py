"""Theory: against 80-digit arithmetic, against its own limits, against what cannot be wrong."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq

from iclkit.theory._minimum import stationary
from iclkit.theory.limit import (
    critical_noise,
    effective_ridge,
    icl_error,
    idg_error,
    optimal_context,
    optimal_ridge,
    ridge_edge,
    stieltjes,
)

INF = np.inf


def log_floats(low, high):
    return st.floats(np.log10(low), np.log10(high)).map(lambda e: float(10.0**e))


TAU = log_floats(1e-2, 1e2)
ALPHA = log_floats(1e-8, 1e10)
KAPPA = st.one_of(log_floats(1e-2, 1e3), st.just(INF))
RHO = st.one_of(st.just(0.0), log_floats(1e-3, 10))
LAM = st.one_of(st.just(0.0), log_floats(1e-8, 1e4))


# --- an independent evaluation: textbook M, M′ form, ξ by bisection, 80 digits -------------------


def exact_stieltjes(x, kappa):
    """M and M′ of the quadratic formula, with its cancellations."""
    if kappa == INF:
        return 1 / (1 + x), -1 / (1 + x) ** 2
    inverse = 1 / mp.mpf(kappa)
    b = x + 1 - inverse
    root = mp.sqrt(b**2 + 4 * x * inverse)
    m = (root - b) / (2 * x * inverse)
    c = 1 / (1 + m * inverse)
    return m, -m / (x + c**2)


def exact_effective_ridge(tau, q, kappa, lam):
    """The root of ξ M(q + ξ) − τλ/ξ = 1 − τ, by bisection of log ξ."""
    if lam == 0 and tau >= 1:
        return mp.mpf(0)
    low = lam if lam > 0 else q * (1 - tau) / tau / 4
    low, high = mp.log(low), mp.log(lam + (1 + q) / tau)
    while high - low > mp.mpf(10) ** -35:
        middle = (low + high) / 2
        xi = mp.exp(middle)
        excess = xi * exact_stieltjes(q + xi, kappa)[0] - tau * lam / xi - (1 - tau)
        low, high = (low, middle) if excess > 0 else (middle, high)
    return mp.exp((low + high) / 2)


def exact_errors(tau, alpha, kappa, rho, lam, alpha_test=None, rho_test=None):
    """(ξ, e_ICL, e_IDG) for one point."""
    with mp.workdps(80):
        tau, alpha, rho, lam = (mp.mpf(value) for value in (tau, alpha, rho, lam))
        alpha_test = alpha if alpha_test is None else mp.mpf(alpha_test)
        rho_test = rho if rho_test is None else mp.mpf(rho_test)
        q, q_test = (1 + rho) / alpha, (1 + rho_test) / alpha_test
        find = exact_effective_ridge if lam >= 0 else exact_ridge_below
        xi = find(tau, q, kappa, lam)
        x = q + xi
        m, slope = exact_stieltjes(x, kappa)
        f1, f2 = 1 - x * m, 1 - 2 * x * m - x**2 * slope
        b2, bg2 = 1 - 2 * xi * m - xi**2 * slope, m + xi * slope
        idg = (rho + x - x**2 * m - xi * f2) / (1 - b2 / tau)
        icl_test = 1 + rho_test - 2 * f1 + (1 + q_test) * (f2 + bg2 * idg / tau)
        # IDG on other test contexts: tr R − 2 tr R²G + tr RG(q_test + R)GR, plus the variance.
        r2g = 1 - x * f1
        r3g2 = r2g - x * f2
        idg_test = rho_test + 1 - 2 * r2g + r3g2 + q_test * f2
        idg_test += (b2 + (q_test - q) * bg2) * idg / tau
        return xi, icl_test, idg_test


def random_points(count, seed, **fixed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        point = {
            "tau": 10 ** rng.uniform(-2, 2),
            "alpha": 10 ** rng.uniform(-8, 10),
            "kappa": rng.choice([10 ** rng.uniform(-2, 3), INF], p=[0.85, 0.15]),
            "rho": rng.choice([0.0, 10 ** rng.uniform(-3, 1)], p=[0.2, 0.8]),
            "lam": rng.choice([0.0, 10 ** rng.uniform(-8, 4)], p=[0.4, 0.6]),
        }
        yield {name: float(value) for name, value in (point | fixed).items()}


@pytest.mark.parametrize("seed", range(4))
def test_errors_agree_with_80_digits(seed):
    rng = np.random.default_rng(100 + seed)
    for point in random_points(100, seed):
        test = {"alpha_test": 10 ** rng.uniform(-8, 10), "rho_test": rng.uniform(0, 2)}
        for other in ({}, test):
            _, icl, idg = exact_errors(**point, **other)
            assert icl_error(**point, **other) == pytest.approx(float(icl), rel=1e-12, abs=0), point
            assert idg_error(**point, **other) == pytest.approx(float(idg), rel=1e-12, abs=0), point


@pytest.mark.parametrize("seed", range(2))
def test_effective_ridge_agrees_with_80_digits(seed):
    for point in random_points(100, 50 + seed):
        xi, _, _ = exact_errors(**point)
        assert effective_ridge(**point) == pytest.approx(float(xi), rel=1e-12, abs=0), point


@pytest.mark.parametrize("kappa", [0.02, 0.3, 0.7, 0.999, 1.0, 1.001, 1.7, 40.0])
@pytest.mark.parametrize("offset", [-1e-3, -1e-9, 0.0, 1e-9, 1e-3])
@pytest.mark.parametrize("lam", [0.0, 1e-8, 1e-3, 1.0])
def test_errors_agree_with_80_digits_near_thresholds(kappa, offset, lam):
    points = [(kappa * (1 + offset), kappa), (1 + offset, kappa)]
    for tau, kappa in points:
        if (tau == 1 and lam == 0) or kappa > 1 and tau == kappa * (1 + offset):
            continue
        for alpha in (1e-8, 1.0, 1e4, 1e10):
            point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": 0.1, "lam": lam}
            _, icl, idg = exact_errors(**point)
            assert icl_error(**point) == pytest.approx(float(icl), rel=1e-12, abs=0), point
            assert idg_error(**point) == pytest.approx(float(idg), rel=1e-12, abs=0), point


@pytest.mark.parametrize("offset", [-1e-12, 0.0, 1e-15, 1e-12])
@pytest.mark.parametrize("lam", [1e-5, 1e-3, 0.1])
def test_accurate_where_the_spent_freedom_is_the_rank(offset, lam):
    """At s ≈ κ and tiny q: up to 2e-11 was lost, when ξ was computed from M_{κ/s}(q)."""
    for kappa in (0.02, 0.1, 0.5):
        for rho in (0.0, 1e-3):
            point = {"tau": 1 + offset, "alpha": 1e10, "kappa": kappa, "rho": rho, "lam": lam}
            xi, icl, idg = exact_errors(**point)
            assert effective_ridge(**point) == pytest.approx(float(xi), rel=1e-13, abs=0), point
            assert icl_error(**point) == pytest.approx(float(icl), rel=1e-13, abs=0), point
            assert idg_error(**point) == pytest.approx(float(idg), rel=1e-13, abs=0), point


# --- the Stieltjes transform -----------------------------------------------------------------


@given(x=log_floats(1e-6, 1e8), kappa=log_floats(1e-3, 1e6))
def test_stieltjes_solves_its_quadratic(x, kappa):
    m = stieltjes(x, kappa)
    assert x * m + m / (1 + m / kappa) == pytest.approx(1, rel=1e-13)


@pytest.mark.parametrize("kappa", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("x", [0.01, 1.0, 30.0])
def test_stieltjes_is_the_marchenko_pastur_integral(x, kappa):
    low, high = (1 - kappa**-0.5) ** 2, (1 + kappa**-0.5) ** 2

    def integrand(angle):
        # Eigenvalue = centre + radius·cos: the square roots of the density become sines.
        centre, radius = (low + high) / 2, (high - low) / 2
        value = centre + radius * np.cos(angle)
        density = kappa * (radius * np.sin(angle)) ** 2 / (2 * np.pi * value)
        return density / (value + x)

    bulk, error = quad(integrand, 0, np.pi, epsabs=0, epsrel=1e-12)
    atom = max(0.0, 1 - kappa) / x
    assert stieltjes(x, kappa) == pytest.approx(bulk + atom, rel=1e-10, abs=10 * error)


def test_stieltjes_at_its_edges():
    assert stieltjes(0.0, 2.0) == pytest.approx(2.0, rel=1e-15)
    assert stieltjes(0.0, 1.0) == INF
    assert stieltjes(0.0, 0.5) == INF
    assert stieltjes(3.0, INF) == 0.25


# --- identities and limits ---------------------------------------------------------------------


@given(tau=TAU, alpha=ALPHA, kappa=KAPPA, rho=RHO, lam=LAM)
def test_effective_ridge_solves_its_equation(tau, alpha, kappa, rho, lam):
    assume(abs(tau - 1) > 1e-6)
    q = (1 + rho) / alpha
    xi = effective_ridge(tau, alpha, kappa, rho, lam)
    assert lam * (1 - 1e-12) <= xi <= (lam + (1 + q) / tau) * (1 + 1e-12)
    freedom = 1 - xi * stieltjes(q + xi, kappa)
    if xi > 0:
        assert tau * (1 - lam / xi) == pytest.approx(freedom, abs=1e-9 * max(1, tau))
    else:
        assert tau > 1 and lam == 0


@given(tau=TAU, alpha=ALPHA, kappa=KAPPA, rho=RHO, lam=LAM)
def test_errors_are_at_least_the_noise_and_never_nan(tau, alpha, kappa, rho, lam):
    icl, idg = icl_error(tau, alpha, kappa, rho, lam), idg_error(tau, alpha, kappa, rho, lam)
    assert icl >= rho and idg >= rho  # also false for NaN
    if kappa == INF:
        assert icl == pytest.approx(idg, rel=1e-12)


@given(tau=TAU, alpha=ALPHA, kappa=KAPPA, rho=RHO, lam=LAM, longer=st.floats(1.01, 100))
def test_longer_test_contexts_always_help(tau, alpha, kappa, rho, lam, longer):
    assume(tau != 1 or lam > 0)
    for error in (icl_error, idg_error):
        value = error(tau, alpha, kappa, rho, lam)
        assert error(tau, alpha, kappa, rho, lam, alpha_test=alpha) == value
        assert error(tau, alpha, kappa, rho, lam, alpha_test=longer * alpha) <= value
        # Affine in 1/alpha_test: the value at the harmonic mean is the mean of the values.
        ends = [error(tau, alpha, kappa, rho, lam, alpha_test=a) for a in (alpha, alpha / 3)]
        middle = error(tau, alpha, kappa, rho, lam, alpha_test=alpha / 2)
        assert middle == pytest.approx(np.mean(ends), rel=1e-12)


@pytest.mark.parametrize("tau", [0.2, 0.7, 1.6, 8.0])
@pytest.mark.parametrize("kappa", [0.3, 3.0, INF])
def test_ridge_vanishes_linearly(tau, kappa):
    for error in (icl_error, idg_error):
        ridgeless = error(tau, 2.0, kappa, 0.1)
        gaps = [abs(error(tau, 2.0, kappa, 0.1, lam) - ridgeless) for lam in (1e-5, 1e-6, 1e-7)]
        assert gaps[0] / gaps[1] == pytest.approx(10, rel=1e-3)
        assert gaps[1] / gaps[2] == pytest.approx(10, rel=1e-3)


def test_ridgeless_closed_forms():
    for point in random_points(300, 7, lam=0.0):
        tau, alpha, kappa, rho = (point[name] for name in ("tau", "alpha", "kappa", "rho"))
        alpha = 10 ** (np.log10(alpha) / 4)  # the closed forms themselves cancel at extreme α
        q = (1 + rho) / alpha
        if tau > 1:
            m = stieltjes(q, kappa)
            c = 1 / (1 + m / kappa)
            slope = -m / (q + c**2)
            idg = tau / (tau - 1) * (rho + q * (1 - q * m))
            icl = (
                (1 + q) * (1 - 2 * q * m - q**2 * slope + (rho + q - q**2 * m) * m / (tau - 1))
                - 2 * (1 - q * m)
                + 1
                + rho
            )
        else:
            mu = q * stieltjes(q, kappa / tau)
            m = tau * mu / q
            c = 1 / (1 + m / kappa)
            p = 1 - tau * (1 - mu)
            icl = tau * (1 + q) / (1 - tau) * (1 - tau * (1 - mu) ** 2 + mu * (rho / q - 1))
            icl += -2 * tau * (1 - mu) + 1 + rho
            idg = (rho + q * tau * (1 - mu)) * (p + c**2 * m) + p * (1 - tau) * c**2
            idg *= tau / (1 - tau) / (tau * mu + c**2 * m)
        assert icl_error(tau, alpha, kappa, rho) == pytest.approx(icl, rel=1e-9)
        assert idg_error(tau, alpha, kappa, rho) == pytest.approx(idg, rel=1e-9)


@pytest.mark.parametrize("tau", [0.3, 3.0])
def test_unlimited_diversity(tau):
    alpha, rho = 2.0, 0.25
    q = (1 + rho) / alpha
    if tau > 1:
        expected = tau / (tau - 1) * (rho + q / (1 + q))
    else:
        expected = (rho * (1 + q) + q + (1 - tau) ** 2) / ((1 + q) * (1 - tau))
    assert icl_error(tau, alpha, INF, rho) == pytest.approx(expected, rel=1e-14)
    assert icl_error(tau, alpha, 1e9, rho) == pytest.approx(expected, rel=1e-7)


def test_optimal_ridge_without_diversity_limit():
    tau, alpha, rho = 1.3, 2.0, 0.1
    q = (1 + rho) / alpha
    best = (1 + q) * (rho * (1 + q) + q) / tau
    lam = best * np.array([0.99, 1.0, 1.01])
    errors = icl_error(tau, alpha, INF, rho, lam)
    assert errors[1] < errors[0] and errors[1] < errors[2]


def test_unlimited_data_is_the_population_optimum():
    alpha, kappa, rho = 2.0, 0.6, 0.1
    q = (1 + rho) / alpha
    m = stieltjes(q, kappa)
    assert idg_error(INF, alpha, kappa, rho) == pytest.approx(rho + q * (1 - q * m), rel=1e-14)
    assert effective_ridge(INF, alpha, kappa, rho, 0.3) == pytest.approx(0.3, rel=1e-14)
    for lam in (0.0, 0.2):
        for error in (icl_error, idg_error):
            at_infinity = error(INF, alpha, kappa, rho, lam)
            assert error(1e9, alpha, kappa, rho, lam) == pytest.approx(at_infinity, rel=1e-8)


def test_divergence_at_the_interpolation_threshold():
    alpha, kappa, rho = 2.0, 0.5, 0.1
    assert icl_error(1.0, alpha, kappa, rho) == INF
    assert idg_error(1.0, alpha, kappa, rho) == INF
    assert np.isfinite(icl_error(np.nextafter(1, 0), alpha, kappa, rho))
    q = (1 + rho) / alpha
    m, lam = stieltjes(q, kappa), 1e-12
    coefficient = (rho + q * (1 - q * m)) / 2
    assert idg_error(1.0, alpha, kappa, rho, lam) == pytest.approx(
        coefficient / np.sqrt(lam * m), rel=1e-5
    )
    assert icl_error(1.0, alpha, kappa, rho, lam) == pytest.approx(
        (1 + q) * coefficient * np.sqrt(m / lam), rel=1e-5
    )


@pytest.mark.parametrize("tau", [0.4, 2.5, INF])
@pytest.mark.parametrize("kappa", [0.2, 0.8, 3.0, INF])
@pytest.mark.parametrize("rho", [0.0, 0.3])
@pytest.mark.parametrize("other", [{}, {"rho_test": 0.7}, {"alpha_test": 2.0, "rho_test": 0.7}])
def test_endless_contexts_without_ridge_are_the_limit(tau, kappa, rho, other):
    for error in (icl_error, idg_error):
        limit = error(tau, INF, kappa, rho, **other)
        far = error(tau, 1e12, kappa, rho, **other)
        if limit == INF:
            assert far > 1e9
        else:
            assert far == pytest.approx(limit, rel=1e-8, abs=1e-10)


def test_endless_contexts_with_ridge_are_the_limit():
    for lam in (1e-4, 1.0):
        for kappa in (0.3, 2.0):
            for error in (icl_error, idg_error):
                limit = error(0.5, INF, kappa, 0.1, lam)
                gaps = [error(0.5, alpha, kappa, 0.1, lam) - limit for alpha in (1e9, 1e10)]
                assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.05)  # O(1/α)
    # The other order of limits: α → ∞ first moves the threshold to τ = κ.
    tau, kappa, rho = 2.0, 0.5, 0.1
    idg = rho / (1 - kappa / tau)
    icl = 1 + rho - kappa + kappa**2 / (tau * (1 - kappa)) * idg
    assert idg_error(tau, INF, kappa, rho, 1e-9) == pytest.approx(idg, rel=1e-7)
    assert icl_error(tau, INF, kappa, rho, 1e-9) == pytest.approx(icl, rel=1e-7)
    assert icl_error(tau, INF, kappa, rho) == INF


def test_endless_contexts_diverge_exactly_on_the_diagonal():
    assert idg_error(0.5, INF, 0.5, 0.1) == INF
    assert idg_error(0.5, INF, 0.5, 0.0) == 0.0
    assert icl_error(0.5, INF, 0.5, 0.0) == 0.5
    assert np.isfinite(idg_error(0.5, INF, 0.4, 0.1))
    assert idg_error(2.0, INF, 0.5, 0.1) == pytest.approx(0.2, rel=1e-15)


# --- where errors are smallest -----------------------------------------------------------------

ERRORS = {"icl": icl_error, "idg": idg_error}
both_tests = pytest.mark.parametrize("test", ERRORS)


def ends(test, tau, kappa, rho):
    """Errors at the shortest and at endless contexts."""
    shortest = (1 + rho) * np.maximum(tau, 1) / np.abs(tau - 1)
    return shortest, ERRORS[test](tau, INF, kappa, rho)


@both_tests
@given(tau=TAU, kappa=KAPPA, rho=RHO)
def test_no_context_length_beats_the_optimal_one(test, tau, kappa, rho):
    assume(abs(tau - 1) > 1e-6)
    alpha = optimal_context(tau, kappa, rho, test=test)
    shortest, endless = ends(test, tau, kappa, rho)
    if alpha == 0:
        best = shortest
    else:
        best = endless if alpha == INF else ERRORS[test](tau, alpha, kappa, rho)
    others = ERRORS[test](tau, np.geomspace(1e-6, 1e12, 2000), kappa, rho)
    assert best <= min(others.min(), shortest, endless) * (1 + 1e-12)


def test_optimal_context_of_a_grid_is_that_of_its_points():
    rng = np.random.default_rng(0)
    for _ in range(5):
        grid = np.ix_(*(10 ** rng.uniform(-8, 8, size) for size in (6, 5, 4)))
        whole, points = optimal_context(*grid), np.broadcast_arrays(*grid)
        for index in rng.integers(0, whole.shape, (10, 3)):
            one = optimal_context(*(axis[tuple(index)] for axis in points))
            np.testing.assert_allclose(whole[tuple(index)], one, rtol=1e-6)


@both_tests
def test_optimal_context_is_stationary_to_80_digits(test):
    which = {"icl": 1, "idg": 2}[test]
    rng, checked = np.random.default_rng(5), 0
    while checked < 40:
        tau, kappa, rho = (float(10 ** rng.uniform(-1.5, 1.5)) for _ in range(3))
        alpha = optimal_context(tau, kappa, rho, test=test)
        if not 0 < alpha < INF:
            continue
        checked += 1
        below, at, above = (
            exact_errors(tau, alpha * factor, kappa, rho, 0.0)[which]
            for factor in (1 - 1e-7, 1, 1 + 1e-7)
        )
        assert at < below and at < above, (tau, kappa, rho)


@both_tests
@given(tau=TAU, kappa=KAPPA, nearness=st.floats(1e-9, 10), sign=st.sampled_from([-1, 1]))
def test_finite_optimum_begins_at_the_critical_noise(test, tau, kappa, nearness, sign):
    critical = critical_noise(tau, kappa, test=test)
    if critical in (0, INF) or not 1e-70 < critical < 1e70:
        return
    rho = critical * (1 + nearness) ** sign
    alpha = optimal_context(tau, kappa, rho, test=test)
    assert (alpha < INF) == (sign == 1)


@pytest.mark.parametrize(
    ("test", "tau", "kappa"),
    [("icl", 0.5, 1.5), ("icl", 20, 1.5), ("idg", 0.5, 0.2), ("idg", 0.5, 3)],
)
def test_optimum_diverges_continuously(test, tau, kappa):
    critical = critical_noise(tau, kappa, test=test)
    nearness = np.array([1e-3, 1e-5, 1e-7])
    alpha = optimal_context(tau, kappa, critical * (1 + nearness), test=test)
    products = alpha * nearness
    assert products[1] == pytest.approx(products[2], rel=1e-3)
    assert 0 < products[2] < INF


def test_critical_noise_is_its_closed_form():
    rng = np.random.default_rng(6)
    tau, kappa = 10 ** rng.uniform(-2, 2, (2, 500))
    s = np.minimum(tau, 1)
    with np.errstate(invalid="ignore"):
        g = kappa / (kappa - s)
        icl = np.where(kappa > s, (np.abs(tau - 1) + g) / (g**3 - g), 0.0)
        few = (1 - kappa) * (tau - kappa) ** 2 / (2 * kappa * (1 - tau))
        many = (kappa - tau) ** 2 * (kappa * (2 - tau) - tau) / (2 * kappa**2 * (1 - tau))
    idg = np.where(tau > 1, INF, np.where(kappa < tau, few, many))
    np.testing.assert_allclose(critical_noise(tau, kappa), icl, rtol=1e-9)
    np.testing.assert_allclose(critical_noise(tau, kappa, test="idg"), idg, rtol=1e-9)


@both_tests
def test_critical_noise_at_its_edges(test):
    np.testing.assert_array_equal(critical_noise([0.3, 1.0, 3.0, INF], INF, test=test), INF)
    assert critical_noise(0.5, 0.5, test=test) == 0
    assert critical_noise(3.0, 1.0) == 0 < optimal_context(3.0, 1.0, 0.1) < INF
    assert critical_noise(INF, 0.5, test=test) == INF
    assert optimal_context(INF, 0.5, 3.0, test=test) == INF
    assert optimal_context(0.5, 0.3, 0.0, test=test) == INF
    near = [critical_noise(tau, 3.0, test=test) for tau in (1 - 1e-9, 1.0, 1 + 1e-9)]
    if test == "icl":
        assert near == pytest.approx([1 / ((3 / 2) ** 2 - 1)] * 3, rel=1e-8)
        # The optimum at τ = 1 is that of the coefficient with which the error diverges.
        optima = [optimal_context(tau, 3.0, 5.0) for tau in (1 - 1e-9, 1.0, 1 + 1e-9)]
        assert optima == pytest.approx([optima[1]] * 3, rel=1e-8)
    else:
        assert near[1] == near[2] == INF and near[0] > 1e8


def test_the_shortest_context_can_win():
    assert optimal_context(20, 0.01, 5.0) == 0
    # On the border τ(1 − κ) = 2 there is no length above a certain noise; it was NaN.
    for offset in (-1e-13, -1e-15, 0, 1e-15, 1e-13):
        assert optimal_context(4, 0.5 + offset, 13.5) < 1e-10
        near, far = (optimal_context(4, kappa, 0.5) for kappa in (0.5 + offset, 0.5 + 1e-9))
        assert near == pytest.approx(far, rel=1e-8)
    shortest, _ = ends("icl", 20, 0.01, 5.0)
    assert shortest < icl_error(20, np.geomspace(1e-4, 1e6, 500), 0.01, 5.0).min()
    # Only for κ < 1 − 2/τ does the error rise with the first tokens.
    for kappa, rises in ((0.85, True), (0.95, False)):
        shortest, _ = ends("icl", 20, kappa, 0.5)
        assert (icl_error(20, 1e-4, kappa, 0.5) > shortest) == rises


def test_optima_broadcast():
    tau, kappa = np.array([0.5, 20.0])[:, None], np.array([0.01, 0.75, 1.5])
    for test in ERRORS:
        values = optimal_context(tau, kappa, 5.0, test=test)
        assert values.shape == (2, 3)
        for i, j in np.ndindex(2, 3):
            assert values[i, j] == optimal_context(tau[i, 0], kappa[j], 5.0, test=test)
        assert critical_noise(tau, kappa, test=test).shape == (2, 3)
        assert optimal_ridge(tau, 1.0, kappa, 0.1, test=test).shape == (2, 3)
        assert isinstance(optimal_context(0.5, 0.5, 0.5, test=test), float)
        assert isinstance(optimal_ridge(0.5, 1.0, 0.5, 0.5, test=test), float)


@both_tests
def test_no_ridge_beats_the_optimal_one(test):
    rng = np.random.default_rng(7)
    tau, kappa, rho = 10 ** rng.uniform(-1.5, 1.5, (3, 300))
    alpha = 10 ** rng.uniform(-2, 4, 300)
    rho = rho * 0.1
    best = ERRORS[test](tau, alpha, kappa, rho, optimal_ridge(tau, alpha, kappa, rho, test=test))
    lams = np.concatenate([[0.0], np.geomspace(1e-12, 1e8, 400)])[:, None]
    assert np.all(best <= ERRORS[test](tau, alpha, kappa, rho, lams) * (1 + 1e-12))


@both_tests
def test_optimal_ridge_is_stationary_to_60_digits(test):
    which = {"icl": 1, "idg": 2}[test]
    # The last points were wrong in the third and fifth digit.
    points = [*random_points(25, 8), {"tau": 1.78, "alpha": 9098, "kappa": 0.097, "rho": 0.093}]
    points.append({"tau": 0.125, "alpha": 1.14e-3, "kappa": 17.0, "rho": 15.0})
    for point in points:
        point = {name: float(value) for name, value in point.items() if name != "lam"}
        point["alpha"] = float(np.clip(point["alpha"], 1e-3, 1e5))
        lam = optimal_ridge(**point, test=test)
        if lam == 0:
            continue
        with mp.workdps(60):
            step = mp.mpf(10) ** -8
            below, at, above = (
                exact_errors(**point, lam=lam * mp.exp(k * step))[which] for k in (-1, 0, 1)
            )
            slope, bend = (above - below) / (2 * step), (above + below - 2 * at) / step**2
        # What rounding hides is more where the error, less its noise, is flat.
        assert abs(slope / bend) < 1e-10 + 5e-13 * (at - point["rho"]) / bend, point


def test_optimal_ridge_of_unlimited_diversity_is_its_closed_form():
    tau, alpha, rho = np.array([0.3, 1.0, 4.0]), np.array([0.5, 10.0, 1e4]), 0.1
    q = (1 + rho) / alpha
    expected = (1 + q) * (rho * (1 + q) + q) / tau
    for test in ERRORS:
        np.testing.assert_allclose(
            optimal_ridge(tau, alpha, INF, rho, test=test), expected, rtol=1e-9
        )


def test_optimal_ridge_can_be_none():
    """Where a negative one would be better."""
    point = {"tau": 18.0, "alpha": 97.0, "kappa": 4.1, "rho": 7e-4}
    assert optimal_ridge(**point) == 0 < optimal_ridge(**point, test="idg")
    assert icl_error(**point) < icl_error(**point, lam=1e-6)
    assert optimal_ridge(0.128, 10, 0.5, 0.01, test="idg") == 0  # it was 1e-13


# --- ridges below zero ---------------------------------------------------------------------------


def exact_edge(tau, q, kappa):
    """(ξ_e, λ_e): where dλ/dξ = 1 − tr B²G²/τ is 0, by bisection."""
    low = -q - (max(mp.mpf(0), 1 - 1 / mp.sqrt(kappa)) ** 2 if kappa < INF else 1)
    low, high = (low, mp.mpf(0)) if tau > 1 else (0, exact_effective_ridge(tau, q, kappa, 0))
    for _ in range(120):
        xi = (low + high) / 2
        m, slope = exact_stieltjes(q + xi, kappa)
        low, high = (xi, high) if 1 - 2 * xi * m - xi**2 * slope > tau else (low, xi)
    return high, high * (1 - (1 - high * m) / tau)


def exact_ridge_below(tau, q, kappa, lam):
    """The ξ of the branch that goes on from λ = 0, by bisection."""
    low, _ = exact_edge(tau, q, kappa)
    high = mp.mpf(0) if tau > 1 else exact_effective_ridge(tau, q, kappa, 0)
    for _ in range(150):
        xi = (low + high) / 2
        m, _ = exact_stieltjes(q + xi, kappa)
        low, high = (xi, high) if xi * (1 - (1 - xi * m) / tau) < lam else (low, xi)
    return high


def points_below_zero(count, seed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        ends = {"tau": (-2, 2), "alpha": (-2, 4), "kappa": (-2, 2), "rho": (-4, 1)}
        point = {name: 10 ** rng.uniform(*powers) for name, powers in ends.items()}
        point["kappa"] = rng.choice([point["kappa"], INF], p=[0.9, 0.1])
        yield {name: float(value) for name, value in point.items()}


def q_of(point):
    return (1 + mp.mpf(point["rho"])) / mp.mpf(point["alpha"])


def test_errors_below_zero_agree_with_80_digits():
    rng = np.random.default_rng(0)
    for point in points_below_zero(60, 200):
        # Close to the edge a digit of λ is more than one of an error: no closer than 1e-3 here.
        share = rng.choice([1e-9, rng.uniform(0, 0.9), 1 - 10 ** rng.uniform(-3, -1)])
        lam = float(share * ridge_edge(**point))
        other = {"alpha_test": 10 ** rng.uniform(-2, 4), "rho_test": rng.uniform(0, 2)}
        other = rng.choice([{}, other])
        xi, icl, idg = exact_errors(**point, lam=lam, **other)
        found = [f(**point, lam=lam, **other) for f in (icl_error, idg_error)]
        np.testing.assert_allclose(found, [float(icl), float(idg)], rtol=2e-10, atol=0)
        assert effective_ridge(**point, lam=lam) == pytest.approx(float(xi), rel=1e-10, abs=0)


def test_edge_agrees_with_80_digits():
    for point in points_below_zero(60, 300):
        with mp.workdps(80):
            xi, lam = exact_edge(mp.mpf(point["tau"]), q_of(point), point["kappa"])
        assert ridge_edge(**point) == pytest.approx(float(lam), rel=1e-12, abs=0), point
        assert np.sign(xi) == np.sign(1 - point["tau"])


def test_edge_in_closed_form():
    tau, q = np.array([1e-3, 0.4, 1 - 1e-9, 1 + 1e-9, 3.0, 1e6]), 1.1 / 2
    expected = -(1 + q) * ((tau - 1) / tau / (1 + tau**-0.5)) ** 2
    np.testing.assert_allclose(ridge_edge(tau, 2.0, INF, 0.1), expected, rtol=1e-13)
    assert ridge_edge(INF, 2.0, INF, 0.1) == pytest.approx(-(1 + q), rel=1e-13)
    # Unlimited data: the least eigenvalue of q + R.
    for kappa, least in ((0.3, 0.0), (1.0, 0.0), (4.0, 0.25)):
        assert ridge_edge(INF, 2.0, kappa, 0.1) == pytest.approx(-q - least, rel=1e-13)
    assert ridge_edge(1.0, 2.0, 0.5, 0.1) == 0
    np.testing.assert_array_equal(ridge_edge([0.5, 0.5, 3.0, INF], INF, [0.2, 0.5, 1.0, 1.0], 1), 0)
    for tau, kappa in ((0.5, 0.7), (0.5, 4.0), (3.0, 1.4), (3.0, INF)):
        near = ridge_edge(tau, 1e13, kappa, 0.1)
        assert near < 0 and ridge_edge(tau, INF, kappa, 0.1) == pytest.approx(near, rel=1e-5)


def test_edge_is_the_least_eigenvalue_of_many_features():
    """With q → ∞ and κ = ∞ both factors of a feature are white: Marchenko and Pastur's edge."""
    rng = np.random.default_rng(0)
    d, tau = 40, 3.0
    x, h = (rng.standard_normal((round(tau * d * (d + 1)), d + k)) for k in (0, 1))
    features = (x[:, :, None] * h[:, None, :]).reshape(len(x), -1)
    least = np.linalg.eigvalsh(features.T @ features)[0] / len(x)
    edge = -ridge_edge(tau, 1e-12, INF, 0.0) / (1 + 1e12)  # the variance of h is (1 + q)/d
    assert least < edge and least == pytest.approx(edge, rel=2.5 / d**0.5)


@settings(max_examples=40)
@given(tau=TAU, alpha=log_floats(1e-2, 1e4), kappa=log_floats(1e-2, 1e2), rho=RHO)
def test_nothing_breaks_at_zero_ridge(tau, alpha, kappa, rho):
    assume(abs(tau - 1) > 1e-2)
    step = -1e-4 * ridge_edge(tau, alpha, kappa, rho)
    for error in ERRORS.values():
        values = error(tau, alpha, kappa, rho, step * np.arange(-3, 4))
        # An analytic function: its sixth difference is all but nothing.
        sixth = np.diff(values, 6)
        assert np.abs(sixth) <= 1e-9 * np.ptp(values) + 1e-12 * values.max()


@settings(max_examples=40)
@given(tau=TAU, alpha=ALPHA, kappa=KAPPA, rho=RHO)
def test_errors_diverge_at_the_edge(tau, alpha, kappa, rho):
    edge = ridge_edge(tau, alpha, kappa, rho)
    assume(edge < 0)
    for error in ERRORS.values():
        assert error(tau, alpha, kappa, rho, edge) == INF
        far, near = error(tau, alpha, kappa, rho, edge * (1 - np.array([1e-6, 1e-8])))
        assert rho < far < near < INF
        # Like one over the root of the distance, up to the next term, and not like one over it.
        assert near / far < 20


def boundary(test, tau, f, p):
    """κ, q and the noise at which the best ridge is 0; thm-negative-ridge in the book."""
    if test == "icl":
        q = (1 - f) * (1 - p) / f
        gain = p * (1 - p) ** 2 * (3 * f - 1 - f**2 * p) * (tau - 1) ** 2
        gain /= (1 - f * p) ** 2 * (1 - p + f * p) * (tau - f * p)
        return f / p, q, (1 - f) * (1 - p) * (gain - 1)
    q = (tau / f - 1) * (1 - p)
    e = f * p
    g = e**3 + e**2 * (p - p * tau - tau - 2) + e * (3 * p * tau**2 - 4 * p * tau + p)
    g += e * (6 * tau - 2 * tau**2 - 1) - p**2 * (1 - tau) ** 2 + p * (1 - tau) - tau
    K = tau**2 - 4 * e * tau + e - e * p * (1 - tau) ** 2 + e**2 * (1 + 2 * tau) - e**3
    return f / p, q, (tau - f) * (1 - p) * g / K


@both_tests
def test_best_ridge_changes_sign_on_the_boundary(test):
    rng, checked = np.random.default_rng(9), 0
    while checked < 30:
        tau = 10 ** (rng.uniform(0.31, 3) if test == "icl" else rng.uniform(-3, -0.31))
        f, p = min(tau, 1.0) * rng.uniform(0, 1), rng.uniform(0, 1)
        kappa, q, rho = boundary(test, tau, f, p)
        if not 1e-5 < rho < 1e5:
            continue
        checked += 1
        for factor, sign in ((1 - 1e-3, -1), (1 + 1e-3, 1)):
            noise = rho * factor
            best = optimal_ridge(tau, (1 + noise) / q, kappa, noise, test=test, negative=True)
            assert np.sign(best) == sign, (tau, f, p)


def test_negative_ridges_need_much_data_or_little():
    rng = np.random.default_rng(10)
    alpha, kappa = 10 ** rng.uniform(-2, 4, 2000), 10 ** rng.uniform(-2, 2, 2000)
    point = (alpha, kappa, rng.choice([0.0, 1e-3, 0.1], 2000))
    assert np.all(optimal_ridge(10 ** rng.uniform(-3, 0.3), *point, negative=True) >= 0)
    many = 10 ** rng.uniform(-0.3, 3, 2000)
    assert np.all(optimal_ridge(many, *point, test="idg", negative=True) >= 0)
    some = optimal_ridge(10 ** rng.uniform(0.31, 3, 2000), *point, negative=True)
    assert 0.05 < np.mean(some < 0) < 0.5
    few = optimal_ridge(10 ** rng.uniform(-3, -0.31, 2000), *point, test="idg", negative=True)
    assert 0.05 < np.mean(few < 0) < 0.5


@both_tests
def test_no_ridge_beats_the_best_one_of_either_sign(test):
    rng = np.random.default_rng(11)
    tau = 10 ** (rng.uniform(0.3, 3, 300) if test == "icl" else rng.uniform(-3, -0.3, 300))
    point = (tau, 10 ** rng.uniform(-2, 4, 300), 10 ** rng.uniform(-2, 2, 300), 1e-4)
    best = optimal_ridge(*point, test=test, negative=True)
    least = ERRORS[test](*point, best)
    assert np.mean(best < 0) > 0.1
    assert np.all((best > ridge_edge(*point)) & (least <= ERRORS[test](*point, 0.0)))
    shares = np.concatenate([np.geomspace(1e-9, 0.1, 30), np.linspace(0.1, 0.999, 200)])[:, None]
    assert np.all(least <= ERRORS[test](*point, shares * ridge_edge(*point)) * (1 + 1e-12))
    # Where one above zero is the best, it is the one that is found without the option.
    above = best >= 0
    np.testing.assert_array_equal(best[above], optimal_ridge(*point, test=test)[above])


@both_tests
def test_best_ridge_below_zero_is_stationary_to_60_digits(test):
    which, checked = {"icl": 1, "idg": 2}[test], 0
    for point in points_below_zero(300, 12):
        lam = optimal_ridge(**point, test=test, negative=True)
        if lam >= 0 or checked == 10:
            continue
        checked += 1
        with mp.workdps(60):
            step = mp.mpf(10) ** -8
            below, at, above = (
                exact_errors(**point, lam=lam * mp.exp(k * step))[which] for k in (-1, 0, 1)
            )
            slope, bend = (above - below) / (2 * step), (above + below - 2 * at) / step**2
        assert abs(slope / bend) < 1e-9 + 1e-11 * (at - point["rho"]) / bend, point
    assert checked == 10


def test_best_ridges_below_zero():
    """As they were found by another program."""
    for point, test, lam, change in (
        ((0.1, 0.5, 0.05, 0.0), "idg", -7.70, -0.147),
        ((0.2, 100, 0.2, 1e-4), "idg", -0.0238, -0.131),
        ((12, 29, 1.75, 0.01), "icl", -0.0193, -0.056),
        ((24, 7.28, 1.351, 0.0), "icl", -0.0898, -0.153),
        ((0.0244, 918, 0.0234, 0.0), "idg", -0.0389, -0.83),
    ):
        best = optimal_ridge(*point, test=test, negative=True)
        assert best == pytest.approx(lam, rel=4e-3) and optimal_ridge(*point, test=test) == 0
        error = ERRORS[test]
        assert error(*point, best) / error(*point) - 1 == pytest.approx(change, rel=2e-2)


def test_ridges_beyond_the_edge_are_refused():
    edge = ridge_edge(0.5, 1.0, 1.0, 0.1)
    for function in (icl_error, idg_error, effective_ridge):
        with pytest.raises(ValueError, match=f"lam must be at least ridge_edge, there {edge}"):
            function(0.5, 1.0, 1.0, 0.1, [0.1, 1.001 * edge, 0.9 * edge])
    with pytest.raises(ValueError, match=r"lam must be .*, there 0.0, got -1e-06"):
        icl_error(1.0, 1.0, 1.0, 0.1, -1e-6)
    with pytest.raises(ValueError, match="lam must be finite and at least 0, got -0.01"):
        icl_error(0.5, 1.0, 1.0, 0.1, -0.01, tasks=[1.0, 1.0])
    with pytest.raises(TypeError, match="negative must be True or False, got 1"):
        optimal_ridge(0.5, 1.0, 1.0, 0.1, negative=1)


def test_ridges_of_both_signs_broadcast():
    lam = np.array([-0.05, 0.0, 0.05])
    whole = icl_error(np.array([0.5, 4.0])[:, None], 1.0, 0.5, 0.1, lam)
    for i, j in np.ndindex(2, 3):
        one = icl_error((0.5, 4.0)[i], 1.0, 0.5, 0.1, lam[j])
        assert whole[i, j] == pytest.approx(one, rel=1e-13)
    best = optimal_ridge([12.0, 0.5], [29.0, 1.0], 1.75, 0.01, negative=True)
    assert best[0] < 0 < best[1] and ridge_edge([12.0, 0.5], 29.0, 1.75, 0.01).shape == (2,)


def test_no_step_is_taken_where_errors_are_infinite():
    for infinite in (lambda x: x < 0, lambda x: x > 0, lambda x: x == 0, lambda x: x == x):
        with np.errstate(divide="ignore", invalid="ignore"):  # as its callers do
            offset = stationary(lambda x, at=infinite: np.where(at(x), INF, x**2))
        assert np.isfinite(offset)


def test_below_zero_at_the_edge_of_floats():
    least, most = 1e-75, 1e75
    ratios = np.array([least, 1e-10, 0.5, 1 - 2**-53, 1.0, 1 + 2**-52, 1e10, most, INF])
    noise = np.array([0.0, least, 1e-3, most])
    point = np.meshgrid(ratios, ratios, ratios, noise)
    edge = ridge_edge(*point)
    assert np.all(edge <= 0)  # also false for NaN
    held = (-edge >= 2 * least) & (-edge <= most)
    for error in ERRORS.values():
        for share in (0.5, 0.999):
            assert np.all(error(*(part[held] for part in point), share * edge[held]) >= 0)
    for test in ERRORS:
        best = optimal_ridge(*point, test=test, negative=True)
        assert np.all(best >= edge)


# --- how the functions behave ------------------------------------------------------------------


def test_broadcasting():
    tau, kappa = np.array([0.5, 2.0])[:, None], np.array([0.3, 1.0, INF])
    values = icl_error(tau, 1.0, kappa, 0.1, 0.2)
    assert values.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        one = icl_error(tau[i, 0], 1.0, kappa[j], 0.1, 0.2)
        assert values[i, j] == pytest.approx(one, rel=1e-14)
    assert isinstance(icl_error(0.5, 1, 1, 0), float)
    assert idg_error(0.5, 1, 1, 0, rho_test=[0.1, 0.2]).shape == (2,)
    assert stieltjes([1.0, 2.0], 1.0).shape == (2,)


GOOD = {"tau": 0.5, "alpha": 1.0, "kappa": 1.0, "rho": 0.1, "lam": 0.1}


@pytest.mark.parametrize("function", [icl_error, idg_error, effective_ridge])
@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("value", [-1.0, np.nan, -INF, [0.5, np.nan]])
def test_bad_values_are_named(function, name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .*, got (-1.0|nan|-inf)"):
        function(**(GOOD | {name: value}))


@pytest.mark.parametrize("name", ["tau", "alpha", "kappa"])
def test_zero_is_not_a_ratio(name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        icl_error(**(GOOD | {name: 0.0}))


@pytest.mark.parametrize("name", ["rho", "lam"])
def test_infinite_noise_and_ridge_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        icl_error(**(GOOD | {name: INF}))


def test_numbers_at_the_edge_of_floats_are_refused_and_others_are_no_nan():
    least, most = 1e-75, 1e75
    for name in GOOD:
        for value in (5e-324, 0.99 * least, 1.01 * most, 1.7e308):
            with pytest.raises(
                ValueError, match=f"{name} must be (0|inf) or between 1e-75 and 1e.75"
            ):
                icl_error(**(GOOD | {name: value}))
    ratios = np.array([least, 1e-10, 0.5, 1 - 2**-53, 1.0, 1 + 2**-52, 1e10, most, INF])
    others = np.array([0.0, least, 1e-20, 1e-3, 1.0, most])
    tau, alpha, kappa, rho, lam = np.meshgrid(ratios, ratios, ratios, others, others)
    for error in (icl_error, idg_error):
        assert np.all(error(tau, alpha, kappa, rho, lam) >= rho)  # also false for NaN
    assert np.all(effective_ridge(tau, alpha, kappa, rho, lam) >= lam * (1 - 1e-12))
    assert not np.any(np.isnan(stieltjes(others[:, None], ratios)))
    for test in ERRORS:
        assert np.all(critical_noise(tau, kappa, test=test) >= 0)
        assert np.all(optimal_context(tau[..., 0], kappa[..., 0], rho[..., 0], test=test) >= 0)
        point = (array[::2, ::2, :, :, 0] for array in (tau, alpha, kappa, rho))
        assert np.all(optimal_ridge(*point, test=test) >= 0)


@pytest.mark.parametrize("value", [1j, "1", None, object(), [1, "a"]])
def test_other_types_are_refused(value):
    with pytest.raises(TypeError, match="alpha must be a real number"):
        icl_error(0.5, value, 1.0, 0.1)
    with pytest.raises(TypeError, match="x must be a real number"):
        stieltjes(value, 1.0)


def test_masks_are_refused():
    with pytest.raises(TypeError, match="tau must be a plain array, got MaskedArray"):
        icl_error(np.ma.masked_array([0.1, 0.2], mask=[False, True]), 1.0, 1.0, 0.1)


def test_test_context_is_checked_too():
    with pytest.raises(ValueError, match="alpha_test must be positive"):
        icl_error(**GOOD, alpha_test=0.0)
    with pytest.raises(ValueError, match="rho_test must be finite"):
        idg_error(**GOOD, rho_test=-0.1)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (critical_noise, ["tau", "kappa"]),
        (optimal_context, ["tau", "kappa", "rho"]),
        (optimal_ridge, ["tau", "alpha", "kappa", "rho"]),
    ],
)
def test_arguments_of_optima_are_checked(function, names):
    good = {name: GOOD[name] for name in names}
    for name in names:
        with pytest.raises(ValueError, match=f"{name} must be .*, got -1"):
            function(**(good | {name: -1.0}))
    with pytest.raises(ValueError, match="test must be one of icl, idg, got 'train'"):
        function(**good, test="train")


# Another test than pretraining -------------------------------------------------------------------


@both_tests
def test_ridge_for_another_test_is_the_best_of_all_that_are_tried(test):
    """By brute force, on both sides of zero, also where contexts at test have no end."""
    rng = np.random.default_rng(4)
    tau, alpha, kappa = 10 ** rng.uniform(-1, 1, (3, 60))
    kappa[:8] = INF
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rng.uniform(0, 2, 60)}
    other = {"alpha_test": alpha * 10 ** rng.uniform(-2, 2, 60), "rho_test": rng.uniform(0, 2, 60)}
    other["alpha_test"][::10] = INF
    edge = ridge_edge(**point)
    tried = np.concatenate([
        edge * np.append(np.linspace(0.999, 0, 150), 0)[:, None],
        np.geomspace(1e-6, 1e4, 400)[:, None] * np.ones(60),
    ])  # fmt: skip
    errors = ERRORS[test](**point, **other, lam=tried)
    for negative, least in ((False, errors[150:].min(axis=0)), (True, errors.min(axis=0))):
        best = optimal_ridge(**point, **other, test=test, negative=negative)
        found = ERRORS[test](**point, **other, lam=best)
        assert np.all(found <= least * (1 + 1e-12))
        assert np.all(best >= (edge if negative else 0))
    assert np.any(best < 0) and np.any(best > 0)


@given(
    log_floats(0.05, 0.95) | log_floats(1.05, 20), log_floats(0.05, 20), log_floats(1e-3, 5),
    log_floats(0.05, 20), log_floats(1e-3, 5),
)  # fmt: skip
def test_ridge_for_another_test_without_diversity_limit(tau, alpha, rho, alpha_test, rho_test):
    """The root of βb[τ(τ + D) − 3τb + b³] = (τ − b²)² at ξ = (1 + q)(1 − b)/b."""
    q, q_test = (1 + rho) / alpha, (1 + rho_test) / alpha_test
    beta, D = (1 + q_test) / (1 + q), (1 + q) * (1 + rho)

    def gap(b):
        return beta * b * (tau * (tau + D) - 3 * tau * b + b**3) - (tau - b**2) ** 2

    low = min(tau, 1.0)  # where no ridge is
    b = brentq(gap, 0, low, xtol=1e-15) if gap(low) > 0 else low
    expected = (1 + q) * (1 - b) * (1 - b / tau) / b
    for test in ERRORS:
        found = optimal_ridge(
            tau, alpha, INF, rho, test=test, alpha_test=alpha_test, rho_test=rho_test
        )
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-8 * (1 + q))


def test_ridge_for_the_test_of_pretraining():
    point = {"tau": [0.5, 3.0], "alpha": 2.0, "kappa": 0.7, "rho": 0.3}
    for test in ERRORS:
        plain = optimal_ridge(**point, test=test)
        same = optimal_ridge(**point, test=test, alpha_test=2.0, rho_test=0.3)
        np.testing.assert_allclose(same, plain, rtol=1e-9)
    shape = optimal_ridge(**point, alpha_test=np.ones((4, 1, 1)), rho_test=[[0.1], [0.2]]).shape
    assert shape == (4, 2, 2)
