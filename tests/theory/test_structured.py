import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit import backend, fit_gamma, theory
from iclkit.data.contexts import draw_statistics
from iclkit.data.moments import Moments, prediction_error, task_moments
from iclkit.data.tasks import assign_tasks, draw_tasks
from iclkit.theory import _structured
from iclkit.theory.limit import icl_error, idg_error

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
    test = _structured.checked_test(numbers, alpha_test, rho_test)
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
        ({"tasks": "abc"}, TypeError, "tasks must hold real numbers"),
        ({"tasks": ["a"]}, TypeError, "tasks must hold real numbers"),
        ({"tasks": [[1.0], [1.0, 2.0]]}, ValueError, "tasks must be an array, got a nested"),
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
        ({"tokens": "abc"}, TypeError, "tokens must hold real numbers"),
        ({"tokens": [1.0, 0.0], "tasks": [0.0, 1.0]}, ValueError, "in the directions of the tok"),
        ({"tokens": [1.0, 0.0], "test_tokens": [1.0, 1.0]}, ValueError, "test_tokens must be zero"),
        (
            {"tokens": np.diag([1.0, 2.0]), "test_tokens": np.array([[2.0, 1.0], [1.0, 2.0]])},
            ValueError,
            "test_tokens must commute with tokens",
        ),
        (
            {"tasks": np.diag([1.0, 2.0, 3.0]), "tokens": np.diag([1.0, 2.0])},
            ValueError,
            "tokens must be in 3 dimensions",
        ),
        ({"d": 50}, ValueError, "tasks must be None at finite size, .* d = 50"),
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
