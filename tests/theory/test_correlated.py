"""Correlated tokens: against the linear system for the mean of Γ*, in 60 digits, and its limits."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit import theory
from iclkit.data.kernels import Correlation, correlation, kernel
from iclkit.theory import correlated

INF = np.inf
POINT = {"tau": 4.0, "alpha": 4.0, "kappa": 10.0, "rho": 0.01}
INDEPENDENT = correlated.ar1(0.0)


# --- the minimiser of the risk, from a 2 × 2 system with traces by M and its slope ----------------


def stieltjes(x, kappa):
    """M and its slope, by the quadratic formula."""
    if kappa == INF:
        return 1 / (1 + x), -1 / (1 + x) ** 2
    b = x + 1 - 1 / mp.mpf(kappa)
    m = (mp.sqrt(b**2 + 4 * x / mp.mpf(kappa)) - b) * kappa / (2 * x)
    return m, -m / (x + (1 + m / kappa) ** -2)


def effective_ridge(tau, q, kappa, lam):
    """ξ by bisection of its logarithm."""
    if tau == INF or (lam == 0 and tau >= 1):
        return lam
    low, high = mp.log(lam if lam > 0 else q * (1 - tau) / tau / 4), mp.log(lam + (1 + q) / tau)
    while high - low > mp.mpf(10) ** -40:
        xi = mp.exp((low + high) / 2)
        excess = xi * stieltjes(q + xi, kappa)[0] - tau * lam / xi - (1 - tau)
        low, high = (low, mp.log(xi)) if excess > 0 else (mp.log(xi), high)
    return mp.exp((low + high) / 2)


def seen(kernel, alpha, rho):
    _, t2, k0, k1 = map(mp.mpf, kernel)
    return (rho + t2) / alpha, k0 / alpha, (k1 - k0**2 + rho * k0) / alpha**2


def exact(tau, alpha, kappa, rho, lam, correlation, correlation_test, alpha_test, rho_test):
    with mp.workdps(60):
        alpha, rho, lam, alpha_test, rho_test = map(mp.mpf, (alpha, rho, lam, alpha_test, rho_test))
        q, phi, psi = seen(correlation, alpha, rho)
        q_t, phi_t, psi_t = seen(correlation_test, alpha_test, rho_test)
        xi = effective_ridge(mp.mpf(tau), q, kappa, lam)
        x = q + xi
        m, slope = stieltjes(x, kappa)
        # tr RʲG and tr RʲG², j = 0, 1, 2, 3, each from the one before, with tr R = 1.
        first, second = [m, 1 - x * m, 1 - x * (1 - x * m)], [-slope]
        for one in first:
            second.append(one - x * second[-1])
        # Γ(B + ξ) = (1 − φg)R + s, s = φ(1 − a) − (ψ + φ²)g: unknown are g = tr Γ and a = tr ΓR.
        # g = (1 − φg) tr RG + s tr G, and a = (1 − φg) tr R²G + s tr RG.
        of_g, of_a, s_0 = -(psi + phi**2), -phi, phi
        rows, right = [], []
        for j in (0, 1):
            row = [-phi * first[j + 1] + of_g * first[j], of_a * first[j]]
            row[j] -= 1
            rows.append(row)
            right.append(-first[j + 1] - s_0 * first[j])
        g, a = mp.lu_solve(mp.matrix(rows), mp.matrix(right))
        b, s = 1 - phi * g, s_0 + of_g * g + of_a * a  # Γ = (bR + s)G
        squares = [b**2 * second[j + 2] + 2 * b * s * second[j + 1] + s**2 * second[j]
                   for j in (0, 1)]  # tr RʲΓ²  # fmt: skip
        own = rho + b**2 - 2 * b * a + q * squares[0] + squares[1] + psi * g**2
        bg2, b2 = m + xi * slope, 1 - 2 * xi * m - xi**2 * slope
        s2 = own / (tau - b2) if tau != INF else mp.mpf(0)
        b_t, noise = 1 - phi_t * g, rho_test + psi_t * g**2 + q_t * squares[0]
        icl = noise + b_t**2 - 2 * b_t * g + squares[0] + (1 + q_t) * bg2 * s2
        idg = noise + b_t**2 - 2 * b_t * a + squares[1] + (b2 + (q_t - q) * bg2) * s2
        return float(icl), float(idg)


def random_kernel(rng):
    k0 = float(rng.choice([0.0, 10 ** rng.uniform(-6, 2)]))
    k1 = k0**2 + k0 * float(rng.choice([1e-12, 10 ** rng.uniform(-3, 3)]))
    return Correlation(1.0, 1 + float(10 ** rng.uniform(-4, 3)), k0, k1)


def random_points(count=150):
    rng = np.random.default_rng(11)
    for i in range(count):
        point = {
            "tau": float(rng.choice([10 ** rng.uniform(-2, 2), 1 + rng.normal() * 1e-3, INF])),
            "alpha": float(10 ** rng.uniform(-3, 4)),
            "kappa": float(rng.choice([10 ** rng.uniform(-2, 2), 1.0, INF])),
            "rho": float(rng.choice([0.0, 10 ** rng.uniform(-3, 1)])),
            "lam": float(rng.choice([0.0, 10 ** rng.uniform(-9, 3)])),
            "correlation": random_kernel(rng),
        }
        same = i % 3 == 0
        point["correlation_test"] = point["correlation"] if same else random_kernel(rng)
        point["alpha_test"] = point["alpha"] if same else float(10 ** rng.uniform(-3, 4))
        point["rho_test"] = point["rho"] if same else float(rng.exponential())
        yield point


@pytest.mark.parametrize("number", range(5))
def test_against_the_linear_system_in_many_digits(number):
    for point in list(random_points())[number::5]:
        found = correlated.icl_error(**point), correlated.idg_error(**point)
        np.testing.assert_allclose(found, exact(**point), rtol=1e-11, err_msg=str(point))


# --- limits, published numbers, properties --------------------------------------------------------


@pytest.mark.parametrize("error", ["icl_error", "idg_error"])
def test_an_independent_query_makes_a_context_shorter_and_no_more(error):
    for point in random_points(40):
        kernels = [point.pop(name)._replace(k0=0.0, k1=0.0)
                   for name in ("correlation", "correlation_test")]  # fmt: skip
        found = getattr(correlated, error)(
            **point, correlation=kernels[0], correlation_test=kernels[1]
        )
        for name, one in zip(("alpha", "alpha_test"), kernels, strict=True):
            rho = point[name.replace("alpha", "rho")]
            point[name] = correlated.effective_context(point[name], rho, one.t2)
        expected = getattr(theory, error)(**point)
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=str(point))


# ICL error of the exponential kernel, from an evaluation that has nothing in common with this one.
@pytest.mark.parametrize(
    ("length", "errors"),
    [(1, (0.354, 0.343, 0.352, 0.346)), (2, (0.494, 0.442, 0.485, 0.458)),
     (4, (0.701, 0.553, 0.670, 0.600)), (8, (0.916, 0.633, 0.848, 0.717))],
)  # fmt: skip
def test_numbers_of_queries(length, errors):
    a = np.exp(-1 / length)
    off, on = correlated.ar1(a), correlated.ar1(a, query=True)
    found = [
        correlated.icl_error(**POINT, correlation=one, correlation_test=other)
        for one, other in ((off, off), (on, on), (on, off), (off, on))
    ]
    np.testing.assert_allclose(found, errors, atol=5.1e-4)


def test_poles_and_ends():
    on = correlated.ar1(0.7, query=True)
    for error in (correlated.icl_error, correlated.idg_error):
        assert error(1.0, 2.0, [0.5, 1.0, INF], 0.1, correlation=on).tolist() == [INF] * 3
        assert np.isfinite(error(1.0, 2.0, 0.5, 0.1, 0.1, correlation=on))
        # Test contexts without end, of which no correlation is left to see.
        ends = {"correlation": on, "correlation_test": on}
        far, end = (error(2.0, 2.0, 0.5, 0.1, alpha_test=a, **ends) for a in (1e12, INF))
        np.testing.assert_allclose(far, end, rtol=1e-10)


FEW = st.one_of(st.just(0.0), st.floats(1e-3, 5.0))


@given(a=st.floats(-0.99, 0.99), tau=st.floats(0.05, 20), kappa=st.floats(0.05, 20),
       alpha=st.floats(0.1, 20), rho=FEW, lam=FEW)  # fmt: skip
@settings(max_examples=60)
def test_properties(a, tau, kappa, alpha, rho, lam):
    on, off = correlated.ar1(a, query=True), correlated.ar1(a)
    assert correlated.effective_context(alpha, rho, off.t2) <= alpha
    if tau == 1 and lam == 0:
        return
    point = (tau, alpha, kappa, rho, lam)
    for error in (correlated.icl_error, correlated.idg_error):
        assert error(*point, correlation=on) >= rho
        # With endless contexts the fit is the best linear one, and a query that says something of
        # its context can only help it.
    endless = (INF, alpha, kappa, rho)
    with_it, without = (correlated.idg_error(*endless, correlation=one) for one in (on, off))
    assert with_it <= without * (1 + 1e-12)


def test_rounding_is_no_lack_of_variance():
    """A kernel of estimated correlations, whose diagonal is 1 but for the last digits."""
    numbers = Correlation(1 - 1e-15, 1 - 1e-15, 0.0, 0.0)
    for error in (correlated.icl_error, correlated.idg_error):
        found, expected = (error(**POINT, correlation=one) for one in (numbers, INDEPENDENT))
        assert found == pytest.approx(expected, rel=1e-13)
    assert correlated.effective_context(4.0, 0.01, numbers.t2) == 4.0


def test_the_best_matrix_has_the_least_error():
    """With τ = ∞, a ridge in pretraining can only harm on the tasks of pretraining."""
    on = correlated.ar1(0.8, query=True)
    errors = correlated.idg_error(INF, 1.5, 0.7, 0.2, [0.0, 1e-3, 0.1, 1.0], correlation=on)
    assert np.all(np.diff(errors) > 0)
    ratio = (errors[1] - errors[0]) / (
        correlated.idg_error(INF, 1.5, 0.7, 0.2, 2e-3, correlation=on) - errors[0]
    )
    assert abs(ratio - 0.25) < 0.01  # of second order


def test_kernels_of_finite_contexts_come_close():
    for word, of_limit in (
        ("ar(0.6)", correlated.ar1(0.6, query=True)),
        ("ar(-0.6)", correlated.ar1(-0.6, query=True)),
        ("power(2.0)", correlated.stationary((1.0 + np.arange(20_000)) ** -2, query=True)),
    ):
        off = [
            np.subtract(correlation(kernel(word, ell, query=True), ell), of_limit)
            for ell in (500, 1000)
        ]
        assert np.all(np.abs(off[1]) <= 3e-3)
        assert abs(off[0][1] / off[1][1] - 2) < 0.02  # O(1/ℓ), from the ends of the context


def test_exponential_kernel_is_a_stationary_one():
    for a in (0.0, 0.3, -0.8):
        for query in (False, True):
            summed = correlated.stationary(a ** np.arange(400.0), query=query)
            np.testing.assert_allclose(correlated.ar1(a, query=query), summed, rtol=1e-12)


def test_power_laws_need_a_higher_power_for_a_correlated_query():
    """Σᵢⱼ of three powers grows like ℓ^(2 − 3γ), while t₂ stays."""
    k1 = {
        gamma: [
            correlated.stationary((1.0 + np.arange(m)) ** -gamma, query=True).k1
            for m in (10_000, 40_000, 160_000)
        ]
        for gamma in (0.6, 0.8)
    }
    ratios = {gamma: (c - b) / (b - a) for gamma, (a, b, c) in k1.items()}
    for gamma, ratio in ratios.items():
        assert abs(np.log(ratio) / np.log(4) - (2 - 3 * gamma)) < 0.05


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ((1.0, 1.0, 0.0, 0.0), "^correlation must be a Correlation, got tuple"),
        (Correlation(2.0, 4.0, 0.0, 0.0), "^t1 of correlation must be 1, got 2"),
        (Correlation(1.0, 0.9, 0.0, 0.0), "^t2 of correlation must be between 1 and"),
        (Correlation(1.0, INF, 0.0, 0.0), "^t2 of correlation must be between 1 and"),
        (Correlation(1.0, 1e80, 0.0, 0.0), "^t2 of correlation must be between 1 and"),
        (Correlation(1.0, 2.0, -0.1, 0.0), "^k0 of correlation must be between 0 and"),
        (Correlation(1.0, 2.0, 1e160, 1e300), "^k0 of correlation must be between 0 and"),
        (Correlation(1.0, 2.0, 0.5, 0.2), "^k1 of correlation must be between k0² = 0.25 and"),
        (Correlation(1.0, 2.0, 1e40, 1e80), "^k1 of correlation must be between k0² = .* and"),
        (Correlation(1.0, 2.0, 0.0, 0.3), "^k1 of correlation must be 0 where k0 is"),
        (Correlation(1.0, 2.0, 0.5, np.nan), "^k1 of correlation must be between"),
        (Correlation(np.nan, 2.0, 0.5, 1.0), "^t1 of correlation must be 1, got nan"),
        (Correlation(1.0, [1.0, 2.0], 0.5, 1.0), "^t2 of correlation must be a single number"),
    ],
)  # fmt: skip
def test_no_kernel_has_these(kernel, message):
    with pytest.raises((TypeError, ValueError), match=message):
        correlated.icl_error(**POINT, correlation=kernel)
    at_test = message.replace("correlation", "correlation_test", 1)
    with pytest.raises((TypeError, ValueError), match=at_test):
        correlated.idg_error(**POINT, correlation=INDEPENDENT, correlation_test=kernel)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: correlated.ar1(1.0), "^a must be between -1 and 1, got 1.0"),
        (lambda: correlated.ar1(np.nan), "^a must be between -1 and 1, got nan"),
        (lambda: correlated.ar1(0.5, query="next"), "^query must be"),
        (lambda: correlated.stationary([0.9, 0.1]), "^r must begin with 1, got 0.9"),
        (lambda: correlated.stationary([1.0, 0.6]), "^r must have a spectrum of at least 0, got -"),
        (lambda: correlated.stationary([1.0, np.nan]), "^r must be finite"),
        (lambda: correlated.effective_context(1.0, 0.1, 0.9), "^t2 must be at least 1, got 0.9"),
        (lambda: correlated.icl_error(**POINT | {"alpha": INF}, correlation=INDEPENDENT),
         "^alpha must be finite"),
        (lambda: correlated.icl_error(**POINT, lam=-0.1, correlation=INDEPENDENT), "^lam must be"),
    ],
    ids=range(9),
)  # fmt: skip
def test_refusals(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
