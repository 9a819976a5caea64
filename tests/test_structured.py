import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import zeta

from iclkit import backend, fit_gamma, structured, theory
from iclkit.contexts import draw_statistics
from iclkit.moments import Moments, prediction_error, task_moments
from iclkit.structured import icl_error, idg_error, power_law_tasks
from iclkit.tasks import assign_tasks, draw_tasks

taus = st.floats(0.05, 0.95) | st.floats(1.05, 20)
ratios = st.floats(0.05, 20)
noises = st.just(0.0) | st.floats(1e-3, 5)
ridges = st.just(0.0) | st.floats(1e-4, 10)
kappas = ratios | st.just(np.inf)
spectra = st.lists(st.floats(0.01, 10), min_size=1, max_size=6)
BOTH = (icl_error, idg_error)


@given(taus, ratios, kappas, noises, ridges)
def test_isotropic_tasks(tau, alpha, kappa, rho, lam):
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam}
    for ours, known in ((icl_error, theory.icl_error), (idg_error, theory.idg_error)):
        assert ours(np.ones(3), **point) == pytest.approx(known(**point), rel=1e-10)


@given(spectra, taus, ratios, kappas, noises, ridges)
def test_weights_are_multiplicities(values, tau, alpha, kappa, rho, lam):
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam}
    counts = np.arange(1, len(values) + 1)
    for error in BOTH:
        repeated = error(np.repeat(values, counts), **point)
        assert error(values, counts, **point) == pytest.approx(repeated, rel=1e-10)


@given(spectra, taus, ratios, noises, ridges)
def test_without_a_list_of_tasks_none_is_special(values, tau, alpha, rho, lam):
    point = {"tau": tau, "alpha": alpha, "kappa": np.inf, "rho": rho, "lam": lam}
    assert icl_error(values, **point) == pytest.approx(idg_error(values, **point), rel=1e-9)


@given(spectra, ratios, noises)
def test_endless_pretraining_is_wiener_filtering(values, alpha, rho):
    values = np.array(values)
    q = (rho + values.mean()) / alpha
    expected = rho + np.mean(q * values / (values + q))
    for tau in (np.inf, 1e12):
        found = icl_error(values, tau=tau, alpha=alpha, kappa=np.inf, rho=rho)
        assert found == pytest.approx(expected, rel=1e-10)


@given(spectra, ratios, kappas, noises)
def test_beyond_the_peak_errors_are_affine(values, alpha, kappa, rho):
    # in 1/(τ − 1), without ridge
    point = {"alpha": alpha, "kappa": kappa, "rho": rho}
    for error in BOTH:
        limit, two, three = (error(values, tau=tau, **point) for tau in (np.inf, 2.0, 3.0))
        assert three - limit == pytest.approx((two - limit) / 2, rel=1e-7, abs=1e-12)


@given(spectra, taus, ratios, kappas, st.floats(1e-3, 5))
def test_a_small_ridge_is_none(values, tau, alpha, kappa, rho):
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho}
    for error in BOTH:
        ridgeless = error(values, **point)
        assert error(values, **point, lam=1e-12) == pytest.approx(ridgeless, rel=1e-4)


@given(spectra, taus, ratios, kappas, noises, st.floats(0.1, 10))
def test_units_do_not_matter(values, tau, alpha, kappa, rho, unit):
    # Labels in other units: C, ρ, λ and errors have the same dimension.
    for error in BOTH:
        plain = error(values, tau=tau, alpha=alpha, kappa=kappa, rho=rho, lam=0.1)
        point = {"tau": tau, "alpha": alpha, "kappa": kappa}
        scaled = error(np.array(values) * unit, rho=rho * unit, lam=0.1 * unit, **point)
        assert scaled == pytest.approx(unit * plain, rel=1e-9)


def test_the_peak():
    point = {"alpha": 2.0, "kappa": 1.0, "rho": 0.1}
    assert icl_error([1.0, 2.0], tau=1.0, **point) == np.inf
    assert np.isfinite(icl_error([1.0, 2.0], tau=1.0, lam=0.1, **point))


# A power law ----------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 7, 3000, 3001, 20_000])
def test_power_law_in_bins(d):
    spectrum, weights = power_law_tasks(1.5, d)
    assert weights.sum() == pytest.approx(1, rel=1e-12)
    assert weights @ spectrum == pytest.approx(1, rel=1e-12)
    plain = np.arange(1.0, d + 1) ** -1.5
    plain /= plain.mean()
    assert spectrum[0] == pytest.approx(plain[0], rel=1e-6)
    point = {"tau": 0.5, "alpha": 1.0, "kappa": 0.5, "rho": 0.1}
    expected = icl_error(plain, **point)
    assert icl_error(spectrum, weights, **point) == pytest.approx(expected, rel=1e-6)


def test_power_law_of_many_directions():
    spectrum, weights = power_law_tasks(2.0, 10**7)
    assert spectrum.size < 5000
    assert spectrum[0] == pytest.approx(1e7 / zeta(2.0), rel=1e-6)


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
        expected, isotropic = error(spectrum, **point), error([1.0], **point)
        allowed = 3 * scatter + 10 * expected / 24**2
        assert abs(found - expected) < allowed < abs(found - isotropic)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"spectrum": [-1.0, 1.0]}, ValueError, "spectrum must be at least 0, got -1.0"),
        ({"spectrum": [0.0]}, ValueError, "spectrum must have a positive eigenvalue"),
        ({"spectrum": []}, ValueError, "spectrum must have shape"),
        ({"weights": [1.0]}, ValueError, "weights must have shape"),
        ({"weights": [-1.0, 1.0]}, ValueError, "weights must be at least 0"),
        ({"alpha": np.inf}, ValueError, "alpha must be positive and finite, got inf"),
        ({"tau": 0.0}, ValueError, "tau must be positive"),
        ({"kappa": -1.0}, ValueError, "kappa must be positive"),
        ({"rho": -0.1}, ValueError, "rho must be finite and at least 0"),
        ({"lam": np.nan}, ValueError, "lam must be finite and at least 0"),
    ],
)
def test_bad_arguments(change, error, message):
    point = {"spectrum": [1.0, 2.0], "tau": 2.0, "alpha": 1.0, "kappa": 1.0, "rho": 0.1}
    with pytest.raises(error, match=message):
        structured.icl_error(**(point | change))


@pytest.mark.parametrize(
    ("nu", "d", "message"),
    [
        (0.0, 3, "nu must be positive"),
        (np.inf, 3, "nu must be positive and finite"),
        (1.0, 0, "d "),
    ],
)
def test_bad_power_law(nu, d, message):
    with pytest.raises(ValueError, match=message):
        power_law_tasks(nu, d)
