import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar

from iclkit import backend, fit_gamma, theory
from iclkit.data import laws
from iclkit.data.contexts import draw_statistics
from iclkit.data.moments import Moments, prediction_error, task_moments
from iclkit.data.tasks import assign_tasks, draw_tasks
from iclkit.theory import _structured, structured
from iclkit.theory._setting import meet
from iclkit.theory.limit import _checked_test, icl_error, idg_error

taus = st.floats(0.05, 0.95) | st.floats(1.05, 20)
ratios = st.floats(0.05, 20)
noises = st.just(0.0) | st.floats(1e-3, 5)
ridges = st.just(0.0) | st.floats(1e-4, 10)
kappas = ratios | st.just(np.inf)
spectra = st.lists(st.floats(0.01, 10), min_size=1, max_size=6)
BOTH = (icl_error, idg_error)

# Small laws are levels; what is repeated here to many eigenvalues is meant as such, too.
pytestmark = pytest.mark.filterwarnings("ignore::iclkit.data.laws.FewDirectionsWarning")


def by_levels(tau, alpha, kappa, rho, lam=0.0, *, alpha_test=None, rho_test=None, **laws):
    """Both errors without the closed form, which is what isotropic laws have otherwise."""
    names = ("tasks", "test_tasks", "tokens", "test_tokens")
    some = [laws.get(name) for name in names]
    law, numbers = _structured.checked(some, tau, alpha, kappa, rho, lam)
    test = _checked_test(numbers[1], numbers[3], alpha_test, rho_test)
    return _structured.errors(law, numbers, *test)


@given(taus, ratios, kappas, noises, ridges)
def test_isotropic_tasks(tau, alpha, kappa, rho, lam):
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam}
    for error in BOTH:
        assert error(**point, tasks=np.ones(3)) == pytest.approx(error(**point), rel=1e-10)


def edge(rng, *, zero=False, limit=False):
    """A number between 1e-75 and 1e75, or near 1, or at an end of its range."""
    if zero and rng.uniform() < 0.25:
        return 0.0
    if limit and rng.uniform() < 0.1:
        return np.inf
    if rng.uniform() < 0.25:
        return 1 + rng.choice([-1, 1, 0]) * 10 ** rng.uniform(-16, -1)
    exponent = rng.choice([3, 10, 75])
    return float(np.clip(10 ** rng.uniform(-exponent, exponent), 1e-75, 1e75))


@pytest.mark.parametrize("seed", range(4))
def test_isotropic_tasks_at_the_edge_of_floats_and_of_the_peak(seed):
    """1 − 1/τ lost 1.6e-8 where τ is within 1e-8 of 1; other points were NaN, or never ended."""
    rng = np.random.default_rng(seed)
    for _ in range(100):
        point = {"tau": edge(rng, limit=True), "alpha": edge(rng), "kappa": edge(rng, limit=True)}
        point |= {"rho": edge(rng, zero=True), "lam": edge(rng, zero=True)}
        for error, found in zip(BOTH, by_levels(**point), strict=True):
            assert found == pytest.approx(error(**point), rel=1e-12), point


def exact_errors(C, weights, tau, alpha, kappa, rho, lam):
    """Both errors by the formulas of the book, by bisection, with their cancellations."""

    def tr(entries):
        return mp.fdot(weights, entries)

    def root(excess, low, high):
        low, high = mp.log(low) - mp.mpf("0.01"), mp.log(high) + mp.mpf("0.01")
        while high - low > mp.mpf(10) ** -18:
            middle = (low + high) / 2
            low, high = (low, middle) if excess(mp.exp(middle)) > 0 else (middle, high)
        return mp.exp((low + high) / 2)

    def shrinkage(x):
        v = root(lambda v: kappa * (v - 1) - v * tr([e / (e + v * x) for e in C]),
                 mp.mpf(1), 1 + tr(C) / (kappa * x))  # fmt: skip
        return 1 / v

    def freedom(xi):
        c = shrinkage(q + xi)
        return tr([(c * e + q) / (c * e + q + xi) for e in C])

    with mp.workdps(120):
        weights = [mp.mpf(w) / mp.fsum(weights) for w in weights]
        C, tau, alpha, kappa, rho, lam = (
            [mp.mpf(e) for e in C],
            *map(mp.mpf, (tau, alpha, kappa, rho, lam)),
        )
        q = (rho + tr(C)) / alpha
        xi, slack = mp.mpf(0), 1 - 1 / tau
        if lam > 0 or tau < 1:
            least = max(lam, q * (1 - tau) / tau)
            excess = lambda xi: tau * (1 - lam / xi) - freedom(xi)  # noqa: E731
            xi = root(excess, least, lam + (q + tr(C)) / tau)
            slack = lam / xi
        x = q + xi
        c = shrinkage(x)
        F = [1 / (c * e + x) for e in C]
        spread = tr([e * f**2 for e, f in zip(C, F, strict=True)]) / kappa
        slope, chi, hat = (c * a / (1 + x * spread) for a in (spread, 1, 1 + q * spread))
        f1 = tr([c * e * f for e, f in zip(C, F, strict=True)])
        f2 = tr([e * f**2 * (c**2 * e + x**2 * slope) for e, f in zip(C, F, strict=True)])
        bg2 = [f**2 * (q + hat * e) for e, f in zip(C, F, strict=True)]
        endless = rho + q * f1 + x * xi * chi * kappa * spread
        idg = endless / (slack + xi * tr(bg2) / tau)
        icl = rho + tr([e * (x * f) ** 2 * (1 + slope * e) for e, f in zip(C, F, strict=True)])
        last = tr([(q + e) * b for e, b in zip(C, bg2, strict=True)])
        return float(icl + q * f2 + idg / tau * last), float(idg)


def test_errors_agree_with_120_digits():
    rng = np.random.default_rng(11)
    for _ in range(6):
        C, weights = 10 ** rng.uniform(-12, 12, 3), 10 ** rng.uniform(-6, 0, 3)
        C[0] *= rng.choice([0.0, 1.0])
        point = {name: 10 ** rng.uniform(-5, 5) for name in ("tau", "alpha", "kappa")}
        unit = np.average(C, weights=weights)
        point |= {"rho": unit * 10 ** rng.uniform(-5, 5)}
        point |= {"lam": rng.choice([0.0, unit * 10 ** rng.uniform(-8, 2)])}
        exact = exact_errors(C, weights, **point)
        for error, expected in zip(BOTH, exact, strict=True):
            assert error(tasks=(C, weights), **point) == pytest.approx(expected, rel=1e-11), point


@pytest.mark.parametrize("unit", [1e-70, 1e-30, 1e60])
def test_extreme_units(unit):
    spectrum, point = np.array([3.0, 1e-40, 0.0, 0.5]), {"tau": 0.7, "alpha": 2.0, "kappa": 0.6}
    for error in BOTH:
        plain = error(tasks=spectrum, **point, rho=0.3, lam=0.1)
        scaled = error(tasks=unit * spectrum, **point, rho=unit * 0.3, lam=unit * 0.1)
        assert scaled == pytest.approx(unit * plain, rel=1e-12)
        weighted = error(tasks=(spectrum, [unit] * 4), **point, rho=0.3, lam=0.1)
        assert weighted == pytest.approx(plain, rel=1e-12)


def test_covariance_matrix_is_its_spectrum():
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((20, 6))
    covariance, point = factor @ factor.T, {"tau": 0.7, "alpha": 2e20, "kappa": 0.5, "rho": 0.0}
    few = np.append(np.linalg.eigvalsh(factor.T @ factor), np.zeros(14))
    for error in BOTH:
        expected = error(tasks=few, **point)
        assert error(tasks=covariance, **point) == pytest.approx(expected, rel=1e-9)
        # Of its own eigenvalues some are negative by rounding.
        values = np.linalg.eigvalsh(covariance)
        assert values.min() < 0
        assert error(tasks=values, **(point | {"alpha": 2.0})) == pytest.approx(
            error(tasks=few, **(point | {"alpha": 2.0})), rel=1e-9
        )


@given(spectra, st.lists(taus, min_size=1, max_size=3), ratios, kappas)
def test_parameters_broadcast(values, tau, alpha, kappa):
    point = {"alpha": [[alpha], [2 * alpha]], "kappa": kappa, "rho": 0.1}
    for error in BOTH:
        found = error(tasks=values, tau=tau, **point)
        assert found.shape == (2, len(tau))
        for i, j in np.ndindex(found.shape):
            one = error(tasks=values, tau=tau[j], alpha=(1 + i) * alpha, kappa=kappa, rho=0.1)
            assert found[i, j] == one and isinstance(one, float)


@given(spectra, taus, ratios, kappas, noises, ridges)
def test_weights_are_multiplicities(values, tau, alpha, kappa, rho, lam):
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam}
    counts = np.arange(1, len(values) + 1)
    for error in BOTH:
        repeated = error(tasks=np.repeat(values, counts), **point)
        assert error(tasks=(values, counts), **point) == pytest.approx(repeated, rel=1e-10)


@given(spectra, taus, ratios, noises, ridges)
def test_without_a_list_of_tasks_none_is_special(values, tau, alpha, rho, lam):
    point = {"tau": tau, "alpha": alpha, "kappa": np.inf, "rho": rho, "lam": lam}
    assert icl_error(tasks=values, **point) == pytest.approx(
        idg_error(tasks=values, **point), rel=1e-9
    )


@given(spectra, ratios, noises)
def test_endless_pretraining_is_wiener_filtering(values, alpha, rho):
    values = np.array(values)
    q = (rho + values.mean()) / alpha
    expected = rho + np.mean(q * values / (values + q))
    for tau in (np.inf, 1e12):
        found = icl_error(tasks=values, tau=tau, alpha=alpha, kappa=np.inf, rho=rho)
        assert found == pytest.approx(expected, rel=1e-10)


@given(spectra, ratios, kappas, noises)
def test_beyond_the_peak_errors_are_affine(values, alpha, kappa, rho):
    # in 1/(τ − 1), without ridge
    point = {"alpha": alpha, "kappa": kappa, "rho": rho}
    for error in BOTH:
        limit, two, three = (error(tasks=values, tau=tau, **point) for tau in (np.inf, 2.0, 3.0))
        assert three - limit == pytest.approx((two - limit) / 2, rel=1e-7, abs=1e-12)


@given(spectra, taus, ratios, kappas, st.floats(1e-3, 5))
def test_a_small_ridge_is_none(values, tau, alpha, kappa, rho):
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho}
    for error in BOTH:
        ridgeless = error(tasks=values, **point)
        assert error(tasks=values, **point, lam=1e-12) == pytest.approx(ridgeless, rel=1e-4)


@given(spectra, taus, ratios, kappas, noises, st.floats(0.1, 10))
def test_units_do_not_matter(values, tau, alpha, kappa, rho, unit):
    # Labels in other units: C, ρ, λ and errors have the same dimension.
    for error in BOTH:
        plain = error(tasks=values, tau=tau, alpha=alpha, kappa=kappa, rho=rho, lam=0.1)
        point = {"tau": tau, "alpha": alpha, "kappa": kappa}
        scaled = error(tasks=np.array(values) * unit, rho=rho * unit, lam=0.1 * unit, **point)
        assert scaled == pytest.approx(unit * plain, rel=1e-9)


def test_the_peak():
    point = {"alpha": 2.0, "kappa": 1.0, "rho": 0.1}
    assert icl_error(tasks=[1.0, 2.0], tau=1.0, **point) == np.inf
    assert np.isfinite(icl_error(tasks=[1.0, 2.0], tau=1.0, lam=0.1, **point))


# At finite d ----------------------------------------------------------------------------------


def simulated(spectrum, seed, *, tau, alpha, kappa, rho, lam=0.0):
    """Errors of one fit at the dimension of the spectrum, exact for its Γ*."""
    C, d, streams = np.asarray(spectrum), len(spectrum), backend.streams(seed)
    n, ell = round(tau * d**2), round(alpha * d)
    k = n if np.isinf(kappa) else round(kappa * d)
    tasks = draw_tasks(k, d, streams.tasks, prior="gaussian") * np.sqrt(C)
    chosen = np.arange(n) if np.isinf(kappa) else assign_tasks(n, k, streams.tasks)
    gamma = fit_gamma(*draw_statistics(tasks[chosen], ell, rho, streams), lam).gamma
    variance = C.mean() + rho
    last = (1 + 2 / ell) * (variance**2 + 2 * np.sum(C**2) / d**2)
    first = (1 + 1 / ell) * np.diag(C) + (d / ell) * variance * np.eye(d)
    B = np.block([[first, np.zeros((d, 1))], [np.zeros((1, d)), last]])
    new = Moments(np.hstack([np.diag(C), np.zeros((d, 1))]), B, variance)
    return prediction_error(gamma, new), prediction_error(gamma, task_moments(tasks, ell, rho))


@pytest.mark.parametrize(
    "point",
    [
        {"tau": 3.0, "alpha": 2.0, "kappa": np.inf, "rho": 0.3},
        {"tau": 0.4, "alpha": 2.0, "kappa": 2.0, "rho": 0.3},
        {"tau": 2.0, "alpha": 3.0, "kappa": 1.0, "rho": 0.2, "lam": 0.3},
    ],
)
def test_simulation_meets_theory(point):
    means, bars = [], []
    for d in (12, 24):
        spectrum = np.repeat([3.7, 0.1], [d // 4, d - d // 4])
        runs = np.array([simulated(spectrum, seed, **point) for seed in range(60)])
        means.append(runs.mean(axis=0))
        bars.append(runs.std(axis=0, ddof=1) / np.sqrt(len(runs)))
    # The limit has corrections of order 1/d, which two sizes remove; those of 1/d² remain.
    limit, bar = 2 * means[1] - means[0], np.hypot(2 * bars[1], bars[0])
    for error, found, scatter in zip(BOTH, limit, bar, strict=True):
        expected, isotropic = error(tasks=spectrum, **point), error(tasks=[1.0], **point)
        allowed = 3 * scatter + 10 * expected / 24**2
        assert abs(found - expected) < allowed < abs(found - isotropic)


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e74])
def test_shares_have_no_unit(scale):
    point = {"tau": 0.7, "alpha": 2.0, "kappa": 0.6, "rho": 0.1}
    for error in BOTH:
        expected = error(tasks=([1.0, 3.0, 0.0], [1.0, 2.0, 3.0]), **point)
        found = error(tasks=([1.0, 3.0, 0.0], np.array([1.0, 2.0, 3.0]) * scale), **point)
        assert found == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_zeros_of_a_covariance_are_zeros_whatever_their_rounding(seed):
    """At endless contexts without noise, an eigenvalue of 1e-17 is a direction like any other."""
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((4, 4)))[0]
    spectrum = np.array([2.0, 1.0, 0.0, 0.0])
    C = (rotation * spectrum) @ rotation.T
    for error in BOTH:
        for kappa in (0.8, 5.0):
            point = {"tau": 2.0, "alpha": 1e60, "kappa": kappa, "rho": 0.0}
            found = error(tasks=(C + C.T) / 2, **point)
            assert found == pytest.approx(error(tasks=spectrum, **point), rel=1e-12)


@given(st.lists(spectra, min_size=1, max_size=3))
def test_laws_meet_direction_by_direction(several):
    weights, values = meet(*map(laws.spectrum, several))
    assert weights.sum() == pytest.approx(1, rel=1e-12) and weights.min() > 0
    for law, at in zip(several, values, strict=True):
        assert weights @ at == pytest.approx(np.mean(law), rel=1e-12)
    whole = np.lcm.reduce([len(law) for law in several])
    plain = [np.repeat(law, whole // len(law)) for law in several]
    product = np.mean(np.prod(plain, axis=0))
    assert weights @ np.prod(values, axis=0) == pytest.approx(product, rel=1e-12)


# Other tasks at test ---------------------------------------------------------------------------


@given(spectra, taus, ratios, kappas, noises, ridges)
def test_the_law_of_pretraining_is_the_default(values, tau, alpha, kappa, rho, lam):
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam}
    own = {"alpha_test": alpha, "rho_test": rho}
    plain = icl_error(**point, tasks=values)
    assert icl_error(**point, **own, tasks=values, test_tasks=values) == plain
    # As another test, with a formula of its own.
    other = own | {"rho_test": rho * (1 + 1e-13)}
    for error in BOTH:
        found = error(**point, **other, tasks=values)
        assert found == pytest.approx(error(**point, tasks=values), rel=1e-9)


@given(spectra, spectra, taus, ratios, kappas, noises, ridges)
def test_the_error_is_linear_in_the_law_at_test(values, other, tau, alpha, kappa, rho, lam):
    """With the noise, all of it."""
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam, "tasks": values}
    weights, (one, two) = meet(laws.spectrum(values), laws.spectrum(other))
    tests = [(one, weights), (two, weights), ((one + two) / 2, weights)]
    first, second, middle = (icl_error(**point, rho_test=0.2, test_tasks=test) for test in tests)
    assert middle == pytest.approx((first + second) / 2, rel=1e-9)


@given(spectra, spectra, st.floats(1.05, 20), ratios, kappas, noises)
def test_alignment_is_all_that_counts_at_test(values, other, tau, alpha, kappa, rho):
    """The bias is −q²a′(q) and the variance Sa(q), without ridge and beyond the peak."""
    point = {"alpha": alpha, "kappa": kappa, "rho": rho, "tasks": values}
    q = (rho + np.mean(values)) / alpha
    S = idg_error(tau, **point) / tau

    def a(x, test):
        return structured.alignment(x, kappa, tasks=values, test_tasks=test)

    def part(test):
        step = 1e-4 * q
        slope = sum(
            c * a(q + i * step, test) for i, c in zip((-2, -1, 1, 2), (1, -8, 8, -1), strict=True)
        )
        return -(q**2) * slope / (12 * step) + S * a(q, test)

    # What depends on the law at test, with labels of the same variance.
    mean = np.mean(values)
    tests = [values, np.array(other) * mean / np.mean(other)]
    found = [icl_error(tau, **point, test_tasks=test) for test in tests]
    expected = part(tests[1]) - part(tests[0])
    assert found[1] - found[0] == pytest.approx(expected, rel=1e-6, abs=1e-8 * max(found))


def test_only_the_diagonal_counts_in_the_basis_of_pretraining():
    rng, d = np.random.default_rng(0), 6
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    values, factor = rng.gamma(1.0, size=d), rng.standard_normal((d, d))
    C, test = (basis * values) @ basis.T, factor @ factor.T
    point = {"tau": 0.6, "alpha": 2.0, "kappa": 0.7, "rho": 0.1, "lam": 0.1}
    found = icl_error(**point, tasks=(C + C.T) / 2, test_tasks=test)
    diagonal = np.diag(basis.T @ test @ basis)
    expected = icl_error(**point, tasks=values, test_tasks=diagonal)
    assert found == pytest.approx(expected, rel=1e-10)


@given(st.floats(0.05, 0.95), st.floats(1.05, 5), ratios, noises)
def test_low_rank_tasks_are_isotropic_where_they_are(share, tau, alpha, rho):
    """M(x) = (1 − r)/x + r² M_{κ/r}(rx)."""
    for kappa in (0.3, 2.0, np.inf):
        x = (1 + rho) / alpha
        low = structured.alignment(
            x, kappa, tasks=laws.low_rank(share), test_tasks=laws.isotropic()
        )
        whole = share**2 * theory.stieltjes(share * x, kappa / share) + (1 - share) / x
        assert low == pytest.approx(whole, rel=1e-12)


# The best ridge --------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [(0.5, 2.0, 0.1), (2.0, 3.0, 0.3), (0.2, 10.0, 0.5)])
def test_best_ridge_of_endless_tasks_is_one_root(point):
    """S = ξ tr C²F³/tr B²F³, and λ* = ξ(τ − tr BF)/τ."""
    tau, alpha, rho = point
    C = laws.power_law(0.8, 100).values
    q = (rho + 1) / alpha

    def excess(log_xi):
        x = q + np.exp(log_xi)
        F, B, xi = 1 / (C + x), q + C, x - q
        N = rho + q * np.mean(C * F) + x * xi * np.mean(C * F**2)
        S = N / (tau - np.mean(B**2 * F**2))
        return S - xi * np.mean(C**2 * F**3) / np.mean(B**2 * F**3)

    grid = np.linspace(-12, 12, 2000)
    sums = tau - np.mean((q + C) ** 2 / (C + q + np.exp(grid[:, None])) ** 2, axis=1)
    signs = np.sign([excess(z) for z in grid])
    (at,) = np.flatnonzero((sums[:-1] > 0) & (signs[:-1] > 0) & (signs[1:] < 0))
    xi = np.exp(brentq(excess, grid[at], grid[at + 1], xtol=1e-15))
    expected = xi * (tau - np.mean((q + C) / (C + q + xi))) / tau
    for test in ("icl", "idg"):
        found = theory.optimal_ridge(tau, alpha, np.inf, rho, test=test, tasks=C)
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("test", ["icl", "idg"])
def test_best_ridge_of_isotropic_tasks(test):
    rng = np.random.default_rng(3)
    tau, alpha, kappa = 10 ** rng.uniform(-1, 1, (3, 20))
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rng.uniform(0.01, 2, 20)}
    expected = theory.optimal_ridge(**point, test=test)
    found = theory.optimal_ridge(**point, test=test, tasks=laws.isotropic())
    assert found == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("test", ["icl", "idg"])
@pytest.mark.parametrize("tokens", [None, [0.5, 1.0, 2.5]])
def test_ridge_for_the_test_to_come_is_the_best_of_all_that_are_tried(test, tokens):
    rng = np.random.default_rng(5)
    tau, alpha, kappa = 10 ** rng.uniform(-1, 1, (3, 8))
    kappa[0] = np.inf
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rng.uniform(0, 2, 8)}
    point |= {"tasks": [2.0, 1.0, 0.1], "tokens": tokens}
    other = {"alpha_test": alpha * 10 ** rng.uniform(-2, 2, 8), "rho_test": rng.uniform(0, 2, 8)}
    of_laws = {"test_tasks": [0.1, 0.5, 3.0]} if test == "icl" else {}
    error = {"icl": icl_error, "idg": idg_error}[test]
    tried = np.append(0.0, np.geomspace(1e-6, 1e4, 300))[:, None] * np.ones(8)
    least = error(**point, **other, **of_laws, lam=tried).min(axis=0)
    best = theory.optimal_ridge(**point, **other, **of_laws, test=test)
    assert np.all(error(**point, **other, **of_laws, lam=best) <= least * (1 + 1e-12))
    plain = theory.optimal_ridge(**point, test=test)
    same = {"alpha_test": alpha, "rho_test": point["rho"]}
    np.testing.assert_allclose(theory.optimal_ridge(**point, **same, test=test), plain, rtol=1e-9)
    units = {"tasks": 9 * np.array(point["tasks"]), "rho": 9 * point["rho"]}
    scaled = {name: 9 * np.array(law) for name, law in of_laws.items()}
    found = theory.optimal_ridge(**(point | units), **scaled, test=test,
                                 **(other | {"rho_test": 9 * other["rho_test"]}))  # fmt: skip
    np.testing.assert_allclose(found, 9 * best, rtol=1e-6, atol=1e-9)


# The worst law nearby --------------------------------------------------------------------------

WORST = [
    # Tasks, a point, and errors at r = 0.1, 0.5 and 1.5: simulated ones with their standard errors.
    (laws.power_law(0.5, 60), (0.5, 2, 0.5, 0.1, 0.0), (1.614, 3.367, 11.85), (0.009, 0.04, 0.14)),
    (
        laws.two_level(0.25, 0.05 / 0.2875), (1, 3, 2, 0.1, 0.2),
        (0.636, 1.537, 6.77), (0.004, 0.006, 0.06),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("tasks", "point", "simulated", "bars"), WORST)
def test_worst_error_of_fits(tasks, point, simulated, bars):
    """At d = 60; what is left is of the order 1/d."""
    found = structured.worst_error([0.1, 0.5, 1.5], *point, tasks=tasks)
    assert np.all(np.abs(np.array(simulated) / found - 1) < 3 * np.array(bars) / found + 4 / 60)


@given(spectra, taus, ratios, kappas, noises, ridges)
def test_worst_error_of_the_mean_begins_with_its_error(values, tau, alpha, kappa, rho, lam):
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam}
    radius = np.array([1e-7, 0.1, 1.0]) * np.mean(values) ** 0.5
    none, near, far = structured.worst_error(radius, **point, tasks=values, trained=False)
    # The error of the mean Γ is what is left of the IDG and the ICL error without their variance.
    assert none < icl_error(**point, tasks=values) * (1 + 1e-6)
    assert none < near < far
    scaled = structured.worst_error(
        radius * 3, **(point | {"rho": 9 * rho, "lam": 9 * lam}), tasks=9 * np.array(values),
        trained=False,
    )  # fmt: skip
    assert scaled == pytest.approx(9 * np.array([none, near, far]), rel=1e-6)


@pytest.mark.parametrize("kappa", [0.4, 3.0, np.inf])
def test_worst_error_of_the_mean_is_that_of_its_matrix(kappa):
    rng, d, r, x_alpha = np.random.default_rng(0), 400, 0.4, 2.0
    C = np.repeat([1.75, 0.25], d // 2)
    if np.isinf(kappa):
        R = np.diag(C)
    else:
        k = round(kappa * d)
        w = rng.standard_normal((k, d)) * C**0.5
        R = w.T @ w / k
    q = (0.1 + 1) / x_alpha
    mean = R @ np.linalg.inv(R + q * np.eye(d))  # without ridge, at τ > 1
    Q = (np.eye(d) - mean).T @ (np.eye(d) - mean)
    floor = np.sum(mean**2) / d / x_alpha
    values, vectors = np.linalg.eigh(Q + floor * np.eye(d))
    shares = C @ vectors**2

    def dual(log):
        eta = values[-1] + np.exp(log)
        return eta * r**2 + np.mean(shares * eta * values / (eta - values))

    expected = 0.1 * (1 + floor) + minimize_scalar(dual, bounds=(-15, 10), method="bounded").fun
    point = {"tau": 2.0, "alpha": x_alpha, "kappa": kappa, "rho": 0.1, "tasks": C}
    found = structured.worst_error(r, **point, trained=False)
    assert found == pytest.approx(expected, rel=1e-6 if np.isinf(kappa) else 5e-3)


def test_a_small_ball_has_the_error_of_its_centre():
    for point in ((0.5, 2.0, 0.5, 0.1), (2.0, 1.0, 3.0, 0.2, 0.3), (0.5, 3.0, np.inf, 0.1)):
        error = icl_error(*point, tasks=[1.5, 0.5])
        found = structured.worst_error(1e-6, *point, tasks=[1.5, 0.5])
        assert found == pytest.approx(error, rel=1e-4 if np.isinf(point[2]) else 5e-3)
    assert structured.worst_error(0.1, 1.0, 2.0, 1.0, 0.1) == np.inf


def distance(one, two):
    """Of laws along the same axes, direction by direction."""
    return np.sqrt(one.weights @ (one.values**0.5 - two.values**0.5) ** 2)


@given(spectra, taus, ratios, kappas, noises, ridges, st.floats(-3, 1))
def test_worst_law_is_the_worst(values, tau, alpha, kappa, rho, lam, log_radius):
    """At its distance; no other law that is tried is worse, and its error is that of the dual."""
    radius = float(10**log_radius)
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam, "tasks": values}
    own, worst = laws.spectrum(values), structured.worst_law(radius, **point)
    assert distance(own, worst) == pytest.approx(radius, rel=1e-7)

    def error(law):
        return icl_error(**point, test_tasks=law)

    # What one direction of unit variance adds; the error is linear in the law.
    base, d, C = error(own), len(values), own.values
    E = np.array([(error(C + np.eye(d)[j]) - base) * d for j in range(d)])
    most = base + worst.weights @ ((worst.values - C) * E)
    assert error(worst) == pytest.approx(most, rel=1e-6)
    eta = np.max(E / (1 - np.sqrt(C / worst.values)))  # from T = η/(η − E)
    noise = base - np.mean(C * E)
    dual = noise + eta * radius**2 + np.mean(C * eta * E / (eta - E))
    assert error(worst) == pytest.approx(dual, rel=1e-4)
    rng = np.random.default_rng(0)
    for spread in (0.0, 0.1, 1.0):
        steps = E * np.exp(spread * rng.standard_normal((20, d)))
        steps *= C**0.5 * radius / np.sqrt(np.mean(C * steps**2, axis=1, keepdims=True))
        for step in steps:
            assert error((C**0.5 + step) ** 2) <= error(worst) * (1 + 1e-9)


def test_worst_law_of_isotropic_tasks_is_longer():
    """And the error of tasks (1 + r) times as long."""
    worst = structured.worst_law(0.3, 2.0, 1.0, 0.5, 0.1)
    assert worst.values == pytest.approx([1.3**2])
    at_point = structured.worst_law(0.3, 2.0, 1.0, 0.5, 0.1, tasks=np.full(5, 4.0))
    assert at_point.values == pytest.approx(np.full(5, (2 + 0.3) ** 2))


def test_worst_law_in_any_basis_and_in_any_units():
    rng = np.random.default_rng(1)
    values, basis = np.array([3.0, 1.0, 1.0, 0.2]), np.linalg.qr(rng.standard_normal((4, 4)))[0]
    C, point = (basis * values) @ basis.T, (0.6, 2.0, 0.7, 0.1, 0.1)
    flat = structured.worst_law(0.4, *point, tasks=values)
    turned = structured.worst_law(0.4, *point, tasks=(C + C.T) / 2)
    np.testing.assert_allclose(turned.values, np.sort(flat.values), rtol=1e-9)
    assert flat.values[1] == flat.values[2] and turned.basis is not None
    levels = structured.worst_law(0.4, *point, tasks=([3.0, 1.0, 0.2], [1.0, 2.0, 1.0]))
    np.testing.assert_allclose(levels.values, flat.values[[0, 1, 3]], rtol=1e-9)
    scaled = structured.worst_law(1.2, *point[:3], 0.9, 0.9, tasks=9 * values)
    np.testing.assert_allclose(scaled.values, 9 * flat.values, rtol=1e-9)
    picked = structured.worst_law(0.4, *point, tasks=laws.vectors(rng.standard_normal((30, 4))))
    assert picked.vectors is None


def test_worst_law_goes_where_pretraining_had_nothing():
    low, point = laws.low_rank(0.5), (2.0, 5.0, 1.0, 0.1)
    near, far = (structured.worst_law(r, *point, tasks=low) for r in (0.3, 3.0))
    for r, worst in ((0.3, near), (3.0, far)):
        assert distance(low, worst) == pytest.approx(r, rel=1e-9)
    # What stretching can't do goes to the empty half, and the rest is stretched no further.
    assert np.all(near.values > low.values) and far.values[0] == pytest.approx(near.values[0])
    assert far.values[1] > 10
    # What the same distance makes of stretching alone, or of the empty part alone.
    for other in ([(2**0.5 + 0.3 * 2**0.5) ** 2, 0.0], [2.0, 2 * 0.3**2]):
        other = (np.array(other), low.weights)
        worse = icl_error(*point, tasks=low, test_tasks=near)
        assert icl_error(*point, tasks=low, test_tasks=other) < worse


def test_worst_law_of_the_draw_is_worse():
    """Who knows the tasks of pretraining does more harm than who knows their law, to the mean."""
    point = {"tau": np.inf, "alpha": 2.0, "rho": 0.1, "tasks": [1.6, 0.4]}
    for kappa in (0.5, 2.0, np.inf):
        worst = structured.worst_law(0.5, **point, kappa=kappa)
        blind = icl_error(**point, kappa=kappa, test_tasks=worst)
        knowing = structured.worst_error(0.5, **point, kappa=kappa, trained=False)
        if np.isinf(kappa):  # there is nothing more to know
            assert blind == pytest.approx(knowing, rel=1e-8)
        else:
            assert knowing > blind * 1.01


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: structured.worst_law([0.1, 0.2], 2, 1, 1, 0.1),
            ValueError,
            "radius must be a single number",
        ),
        (lambda: structured.worst_law(0.1, 1, 1, 1, 0.1), ValueError, "lam must be above 0 at tau"),
        (lambda: structured.worst_law(0.1, 2, np.inf, 1, 0.1), ValueError, "alpha must be .*inf"),
        (lambda: structured.alignment(0.0, 1.0), ValueError, "x must be positive"),
        (lambda: structured.alignment(np.inf, 1.0), ValueError, "x must be positive and finite"),
        (lambda: structured.worst_error(0.0, 2, 1, 1, 0.1), ValueError, "radius must be positive"),
        (
            lambda: structured.worst_error(1.0, 2, 1, 1, 0.1, seed=-1),
            ValueError,
            "seed must be an integer of at least 0",
        ),
        (
            lambda: structured.worst_error(1.0, 2, 1, 1, 0.1, trained=1),
            TypeError,
            "trained must be True or False",
        ),
        (
            lambda: theory.optimal_ridge(2, 1, 1, 0.1, test="idg", test_tasks=[1.0, 2.0]),
            ValueError,
            "test_tasks must be None for the pretraining tasks",
        ),
        (
            lambda: theory.optimal_ridge(2, 1, 1, 0.1, negative=True, tasks=[1.0, 2.0]),
            ValueError,
            "negative must be False with laws",
        ),
    ],
)
def test_bad_arguments_of_others(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tasks": [-1.0, 1.0]}, ValueError, "tasks must have eigenvalues of at least 0, got -1.0"),
        ({"tasks": [0.0]}, ValueError, "tasks must have a positive eigenvalue"),
        ({"tasks": []}, ValueError, "tasks must not be empty"),
        ({"tasks": ([1.0, 2.0], [1.0])}, ValueError, r"tasks\[1\] must have shape"),
        ({"tasks": [1e160, 1.0]}, ValueError, "tasks must have numbers of at most .*, got 1e"),
        ({"tasks": [1e-160, 0.0]}, ValueError, "tasks must have a mean eigenvalue .*, got 5e-161"),
        ({"tasks": [1e308, 1e308]}, ValueError, "tasks must have numbers of at most .*, got 1e"),
        (
            {"tasks": [1.0, -1e-12]},
            ValueError,
            "tasks must have eigenvalues of at least 0, got -1e-12",
        ),
        ({"tasks": [1.0, np.nan]}, ValueError, "tasks must be finite"),
        ({"tasks": "abc"}, TypeError, "tasks must be a law, got"),
        ({"tasks": ["a"]}, TypeError, "tasks must hold real numbers"),
        ({"tasks": [[1.0], [1.0, 2.0]]}, ValueError, "tasks must be an array if it is a matrix"),
        (
            {"tasks": np.ma.masked_array([1.0, 2.0], [0, 1])},
            TypeError,
            "tasks must be a plain",
        ),
        ({"tasks": np.array([[1.0, 2.0], [0.0, 1.0]])}, ValueError, "not symmetric"),
        ({"tasks": np.ones((2, 3))}, ValueError, "not symmetric"),
        ({"tasks": (np.eye(2), [1.0, 1.0])}, ValueError, "tasks must be an array, got a nested"),
        (
            {"tasks": np.diag([1.0, -1e-9])},
            ValueError,
            "tasks must have eigenvalues of at least 0, got -1e-09",
        ),
        ({"tasks": ([1.0, 2.0], [-1.0, 1.0])}, ValueError, "tasks must have shares of at least 0"),
        ({"alpha": np.inf}, ValueError, "alpha must be positive and finite .*, got inf"),
        ({"alpha_test": 0.0}, ValueError, "alpha_test must be positive"),
        ({"rho_test": -0.1}, ValueError, "rho_test must be finite and at least 0"),
        ({"test_tasks": [-1.0, 1.0]}, ValueError, "test_tasks must have eigenvalues of at least 0"),
        ({"tokens": [0.0]}, ValueError, "tokens must have a positive eigenvalue"),
        ({"tokens": "abc"}, TypeError, "tokens must be a law, got"),
        ({"tokens": [1.0, 0.0], "tasks": [0.0, 1.0]}, ValueError, "in the directions of the tok"),
        ({"tokens": [1.0, 0.0], "test_tokens": [1.0, 1.0]}, ValueError, "test_tokens must be zero"),
        (
            {"tasks": np.diag([1.0, 2.0, 3.0]), "tokens": np.diag([1.0, 2.0])},
            ValueError,
            "tokens must be in 3 dimensions",
        ),
        (
            {"tasks": np.linspace(1, 2, 25), "tokens": np.linspace(1, 2, 30)},
            ValueError,
            "tasks must be in 30 dimensions as the other laws, got 25",
        ),
        (
            {"tasks": np.diag(np.linspace(1, 2, 25)), "test_tasks": np.linspace(1, 2, 30)},
            ValueError,
            "tasks must be in 30 dimensions as the other laws, got 25",
        ),
        (
            {"d": 50, "tasks": np.linspace(1, 2, 30)},
            ValueError,
            "tasks must be a law in d = 50 dimensions, got one in 30",
        ),
        ({"tokens": [1e-80, 1.0]}, ValueError, "tokens must have eigenvalues of 0, or of at least"),
        ({"tasks": ([[1.0], [1.0, 2.0]], [1.0, 1.0])}, ValueError, "tasks must be an array if"),
        ({"tasks": "low_rank(0.5)"}, TypeError, "tasks must be a law, got 'low_rank"),
        ({"tasks": [[2.0, 1.0], [1.0, 2.0]]}, ValueError, "tasks must be an array if it is a mat"),
        ({"tasks": np.ones((5, 3))}, ValueError, "go through iclkit.data.laws.vectors"),
        ({"d": 50, "tokens": [1.0, 2.0]}, ValueError, "tokens must be None at finite size, d = 50"),
        ({"d": 50, "form": "hybrid"}, ValueError, "form must be exp or linear"),
        ({"tau": 0.0}, ValueError, "tau must be positive"),
        ({"kappa": -1.0}, ValueError, "kappa must be positive"),
        ({"rho": -0.1}, ValueError, "rho must be finite and at least 0"),
        ({"lam": np.nan}, ValueError, "lam must be finite and at least 0"),
    ],
)
def test_bad_arguments(change, error, message):
    point = {"tasks": [1.0, 2.0], "tau": 2.0, "alpha": 1.0, "kappa": 1.0, "rho": 0.1}
    with pytest.raises(error, match=message):
        theory.icl_error(**(point | change))
