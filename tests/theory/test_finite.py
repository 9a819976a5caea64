"""Finite size: against 40 digits, other routes to the same numbers, and simulation."""

import mpmath as mp
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from test_limit import exact_errors

from iclkit import backend, runs
from iclkit.data import (
    Moments,
    assign_tasks,
    draw_statistics,
    draw_tasks,
    laws,
    population_moments,
    prediction_error,
    task_moments,
)
from iclkit.fits import fit_gamma
from iclkit.theory import (
    effective_ridge,
    finite_size_coefficient,
    icl_error,
    idg_error,
    pole_strength,
)
from iclkit.theory._expansion import FORMS
from iclkit.theory._first_order import EFFECTS
from iclkit.theory._fresh import first_order, leave_one_out
from iclkit.theory._jets import constant

INF = np.inf


# --- an independent evaluation: no jets, the functional as it is derived, 40 digits ---------------


def functional(point, start, t, P, J, nu, delta, held):
    """What the errors are derivatives of, at numbers instead of jets."""
    alpha, kappa, rho, uniform = (point[name] for name in ("alpha", "kappa", "rho", "uniform"))
    gaussian = point["prior"] == "gaussian"
    s, q = 1 + rho, (1 + rho) / alpha

    def state(t_w, t_z):
        c = start + delta * rho + q * t_z
        B = c + (nu - 1) * t_w
        l = (mp.sqrt(B**2 + 4 * t_w * c) - B) / (2 * t_w)  # noqa: E741
        v = 1 / (c + t_w * l)
        f = nu * t_w * v * l
        a, b = f / t_w, nu * v
        P_0 = P + kappa * (a + q * b)
        g = (kappa * a + J) / P_0
        return c, l, v, f, a, b, 1 / P_0 + delta * (1 - g) ** 2, 1 / P_0 + delta * g**2

    def by_length(square):
        """The log-determinant of a task's contexts by |w|²/d, and 1/v."""
        C, t = start + delta * rho + (square + rho) / alpha * t_z, square * t_w
        B = C + (nu - 1) * t
        l = (mp.sqrt(B**2 + 4 * t * C) - B) / (2 * t)  # noqa: E741
        return nu * mp.log(C + t * l) - mp.log(l) + l, C + t * l

    def excess(t_w, t_z):
        *_, next_w, next_z = state(t_w, t_z)
        return next_w - t_w, next_z - t_z

    t_w, t_z = mp.findroot(excess, (t, t), tol=1e-70)
    c, l, v, f, a, b, _, _ = state(t_w, t_z)  # noqa: E741
    x = (t_w * l * v) ** 2
    L2 = l**2 / (1 - nu * x)
    V = nu * x * L2
    k1 = v * l
    k2, z, t_x = (1 - c * k1) / t_w, c / t_w, (t_w + t_z - delta) / 2
    mu = P + kappa * q * b - J

    def second(y):
        h = 1 / (1 - y * f**2)
        C2, C3 = t_w**2 * h, t_w**3 * (1 - y * f**3) * h**3
        t_b = t_w - delta * mu**2 * C2
        phi = f / (l * t_w)
        T_b = t_b**2 / (1 - y * (phi * t_b / (1 + phi * t_b)) ** 2)
        T_x = T_b - 2 * delta * (mu * C2 - mu**2 * C3)
        T_z = T_b + 2 * delta * (t_w - 2 * mu * C2 + mu**2 * C3)
        return T_b + 2 * delta * mu**2 * C3, T_x, T_z

    def omega(y):
        T_w, T_x, T_z = second(y)
        sum_ = mp.log(1 - nu * x) / 2 - (f**2 + V) / t_w**2 * (T_w - t_w**2)
        sum_ += f**2 / (2 * t_w**2) * T_w + q * a * b * T_x + 2 * nu / alpha * t_z * v
        sum_ -= nu * q / s * t_z * v + 2 * nu * q * t_z * v * (1 - c * v)
        sum_ -= nu * (q * t_z * v) ** 2
        twisted = v * (nu - z * f - nu * f) / t_w + nu * k1**2
        pair = 2 * V / t_w**2 * T_w**2 + 2 * q * T_w * T_x * twisted
        sum_ -= y * f**2 / (2 * t_w**2) * (pair + 2 * q**2 * nu * v**2 * T_x**2)
        scale = 2 * (2 / alpha * t_x**2 + q * (T_x - t_x**2 / s)) * (k1**2 + v * k2)
        scale += (2 / alpha * q**2 * t_z**2 + 2 * q**2 * T_z) * v**2
        scale += 8 / alpha * q * t_x * t_z * k1 * v
        return sum_ - nu / 2 * scale - (nu * x / (1 - nu * x) / 2 if uniform else 0) + fluctuates

    fluctuates = mp.diff(lambda r: by_length(r)[0], 1, 2, h=mp.mpf(10) ** -14) if gaussian else 0
    end = -mp.log(1 - kappa * f**2) / f**2
    inside = mp.quad(
        lambda u: mp.exp(-(f**2) * u) * omega((1 - mp.exp(-(f**2) * u)) / f**2),
        [0, end],
        method="gauss-legendre",
        maxdegree=4,
    )
    T_w, T_x, T_z = second(kappa)
    spread = 2 * (t_w**2 * L2 + 2 * q * t_w * t_z * l + q**2 * t_z**2)
    spread += 4 * l**2 * (2 / alpha * t_x**2 + q * (T_x - t_x**2 / s))
    spread += 8 / alpha * q * l * t_x * t_z + 2 / alpha * q**2 * t_z**2 + 2 * q**2 * T_z
    spread += 2 * L2**2 * (T_w - t_w**2)
    spread += nu * (x / (v * (1 - nu * x))) ** 2 if uniform else 0
    spread += 2 * mp.diff(lambda r: by_length(r)[1], 1, h=mp.mpf(10) ** -14) ** 2 if gaussian else 0
    own = v**2 / 2 * spread - (0 if uniform else x / (1 - nu * x) / 2)
    seen = held + s**2 * kappa * a
    return mp.matrix([inside + mp.log(seen), t_z, 1 / seen, 1 / v, own])


def exact_coefficients(tau, alpha, kappa, rho, lam, assignment, prior):
    """(c_ICL, c_IDG) for one point, by differences."""
    with mp.workdps(70):
        tau, alpha, kappa, rho, lam = (mp.mpf(x) for x in (tau, alpha, kappa, rho, lam))
        point = {"alpha": alpha, "kappa": kappa, "rho": rho, "prior": prior}
        point["uniform"] = assignment == "uniform"
        q, s, nu = (1 + rho) / alpha, 1 + rho, tau / kappa
        under = lam == 0 and tau < 1
        P, start = (mp.mpf(1), 0) if under else (tau * lam, 1)
        xi = exact_errors(tau, alpha, kappa, rho, lam)[0] if lam > 0 else mp.mpf(0)
        b = q + xi + 1 - 1 / kappa
        m = 2 / (b + mp.sqrt(b**2 + 4 * (q + xi) / kappa))
        t = 1 - tau if under else xi * m / (tau * lam) if lam > 0 else m / (tau - 1)
        h = mp.mpf(10) ** -12

        def at(P_off=0, J_off=0, nu_off=0, delta=0):
            return functional(
                point, start, t, P + P_off * h, J_off * h, nu + nu_off * h, delta * h, P
            )

        by_delta = (at(delta=1) - at(delta=-1)) / (2 * h)
        mixed = {}
        for name in ("P_off", "J_off", "nu_off"):
            corners = [a * d * at(**{name: a}, delta=d) for a in (1, -1) for d in (1, -1)]
            mixed[name] = sum(corners, mp.zeros(5, 1)) / (4 * h**2)
        by_nu = (at(nu_off=1) - at(nu_off=-1)) / (2 * h)
        here = at()
        errors = [exact_errors(tau + move * h, alpha, kappa, rho, lam)[1:] for move in (-1, 0, 1)]
        moved = [tau * (high - low) / (2 * h) for low, _, high in zip(*errors, strict=True)]
        icl = mixed["J_off"][0] + (1 + q) * mixed["P_off"][0] + by_delta[1] / alpha
        icl += s**2 * by_delta[2] + moved[0]
        inside = by_nu[0] / kappa + here[4]
        idg = by_delta[3] * inside + here[3] * (mixed["nu_off"][0] / kappa + by_delta[4]) + moved[1]
        return float(icl / errors[1][0]), float(idg / errors[1][1])


def hard_points(count, seed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield {
            "tau": float(rng.choice([rng.uniform(0.05, 0.99), 10 ** rng.uniform(0.01, 1.5)])),
            "alpha": float(10 ** rng.uniform(-0.7, 3)), "kappa": float(10 ** rng.uniform(-1, 2)),
            "rho": float(rng.choice([0.0, 10 ** rng.uniform(-3, 0.5)])),
            "lam": float(rng.choice([0.0, 10 ** rng.uniform(-6, 1)])),
            "assignment": str(rng.choice(["uniform", "balanced"])),
            "prior": str(rng.choice(["sphere", "gaussian"])),
        }  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_coefficients_agree_with_40_digits(seed):
    for point in hard_points(10, seed):
        for test, exact in zip(("icl", "idg"), exact_coefficients(**point), strict=True):
            found = finite_size_coefficient(**point, test=test)
            lost = 1e-16 / (point["tau"] - 1) ** 2
            assert abs(found - exact) <= (1e-11 + 10 * lost) * max(1, abs(exact)), (point, test)


@pytest.mark.parametrize("test", ["icl", "idg"])
@pytest.mark.parametrize("assignment", ["uniform", "balanced"])
@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
def test_effects_add_up_and_are_where_they_should_be(test, assignment, prior):
    tau, alpha, kappa = np.array([0.5, 2.0]), np.array([1.0, 10.0]), np.array([0.5, 3.0])
    at = (tau, alpha, kappa, 0.2, np.array([0.0, 0.1]))
    kind = {"test": test, "assignment": assignment, "prior": prior}
    parts = {e: finite_size_coefficient(*at, **kind, effect=e) for e in EFFECTS}
    whole = finite_size_coefficient(*at, **kind)
    np.testing.assert_allclose(sum(parts.values()), whole, rtol=1e-12)
    other = kind | {"alpha_test": 3.0, "rho_test": 0.5}
    moved = [finite_size_coefficient(*at, **other, effect=e) for e in EFFECTS]
    np.testing.assert_allclose(sum(moved), finite_size_coefficient(*at, **other), rtol=1e-12)
    assert (parts["assignment"] == 0).all() == (test == "icl" and assignment == "balanced")
    assert (parts["length of a task"] == 0).all() == (prior == "sphere")
    # With fresh tasks nothing is left of those that need several contexts of one task.
    for effect in ("spread of tasks", "mixed blocks", "one task at a time"):
        fresh = finite_size_coefficient(*at[:2], 1e6, *at[3:], **kind, effect=effect)
        assert np.abs(parts[effect]).max() > 1e-3 > 10 * np.abs(fresh).max(), effect
    many = (*at[:2], np.inf, *at[3:])
    fresh = [finite_size_coefficient(*many, **kind, effect=e) for e in EFFECTS]
    np.testing.assert_allclose(sum(fresh), finite_size_coefficient(*many, **kind), rtol=1e-7)
    # The count moves the limit, and nothing else does.
    error = {"icl": icl_error, "idg": idg_error}[test]
    step = 1e-5
    slope = error(tau * (1 + step), *at[1:]) - error(tau * (1 - step), *at[1:])
    np.testing.assert_allclose(parts["count"], slope / (2 * step) / error(*at), rtol=1e-7)


# --- other routes to the same numbers -------------------------------------------------------------


@given(st.floats(0.1, 5), st.floats(0.1, 5))
def test_jets_are_exact_to_first_order(u, v):
    a, b = constant(np.array(u), P=1.0), constant(np.array(v), nu=1.0)
    found = (a / b + (a * b).log() - b.sqrt() + a.log1p()).parts[0]
    assert found[0] == pytest.approx(u / v + np.log(u * v) - np.sqrt(v) + np.log1p(u), rel=1e-13)
    slopes = [1 / v + 1 / u + 1 / (1 + u), 0.0, -u / v**2 + 1 / v - 0.5 / np.sqrt(v), 0.0]
    assert found[1:] == pytest.approx(slopes, rel=1e-12, abs=1e-13)
    # The same function of u(1 + δ): its δ part is u ∂/∂u, with its own derivative by P.
    c = a + a.times_delta()
    tangent = (c * c * b).log().parts[1]
    assert tangent == pytest.approx([2.0, 0.0, 0.0, 0.0, 0.0], abs=1e-12)


KAPPA = st.floats(np.log(0.1), np.log(30)).map(np.exp)
TAU = st.one_of(st.floats(0.05, 0.95), st.floats(1.05, 30))
ALPHA = st.floats(np.log(0.2), np.log(100)).map(np.exp)
RHO = st.one_of(st.just(0.0), st.floats(1e-6, 3))
LAM = st.one_of(st.just(0.0), st.floats(1e-6, 3))


@pytest.mark.filterwarnings("ignore:the term of order")
@pytest.mark.parametrize("test", [icl_error, idg_error])
@settings(max_examples=30)
@given(tau=TAU, alpha=ALPHA, kappa=KAPPA, rho=RHO, lam=LAM)
def test_endless_dimension_is_the_limit(test, tau, alpha, kappa, rho, lam):
    d = 10**7
    point = (
        round(tau * d**2) / (d * (d + 1)),
        round(alpha * d) / d,
        round(kappa * d) / d,
        rho,
        lam,
    )
    c = finite_size_coefficient(*point, test="icl" if test is icl_error else "idg")
    found = test(tau, alpha, kappa, rho, lam, d=d)
    assert found == pytest.approx(test(*point) * np.exp(c / d), rel=1e-13)


@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
@settings(max_examples=30)
@given(tau=TAU, alpha=ALPHA, rho=RHO, lam=LAM, other=st.one_of(st.none(), ALPHA))
def test_many_tasks_are_fresh_tasks(prior, tau, alpha, rho, lam, other):
    how = {"prior": prior} | ({} if other is None else {"alpha_test": other, "rho_test": 0.5})
    both = [
        finite_size_coefficient(tau, alpha, 1e6, rho, lam, test=test, **how)
        for test in ("icl", "idg")
    ]
    fresh = finite_size_coefficient(tau, alpha, INF, rho, lam, **how)
    assert both == pytest.approx([fresh, fresh], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("tau", [0.3, 0.9, 1.2, 4.0])
@pytest.mark.parametrize(("alpha", "rho"), [(0.5, 0.0), (1.0, 0.1), (10.0, 1.0)])
@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
def test_fresh_tasks_in_closed_form(tau, alpha, rho, prior):
    explicit = first_order(tau, (1 + rho) / alpha, rho, prior == "gaussian")
    explicit = explicit / icl_error(tau, alpha, INF, rho)
    for test in ("icl", "idg"):
        found = finite_size_coefficient(tau, alpha, 1e7, rho, test=test, prior=prior)
        assert found == pytest.approx(explicit, rel=3e-6, abs=3e-6)


@pytest.mark.parametrize(
    ("tau", "alpha", "rho", "lam"),
    [(0.5, 1, 0.1, 0.0), (2, 1, 0.1, 0.0), (0.5, 3, 0.2, 0.1), (2, 5, 0, 0.01), (1, 2, 0.5, 0.3)],
)
@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
@pytest.mark.parametrize("other", [(None, None), (4.0, 0.3)])
def test_first_order_of_leaving_one_out(tau, alpha, rho, lam, prior, other):
    tests = dict(zip(("alpha_test", "rho_test"), other, strict=True))
    alpha_test, rho_test = (alpha, rho) if other[0] is None else other
    scaled = []
    for d in (400, 800, 1600):
        n = round(tau * d * (d + 1))
        gaussian = prior == "gaussian"
        whole = leave_one_out(d, n, alpha * d, rho, lam, alpha_test * d, rho_test, gaussian)
        scaled.append(d * (whole / icl_error(tau, alpha, INF, rho, lam, **tests) - 1))
    first = 2 * np.array(scaled[1:]) - scaled[:-1]
    found = finite_size_coefficient(tau, alpha, INF, rho, lam, prior=prior, **tests)
    assert (4 * first[1] - first[0]) / 3 == pytest.approx(found, abs=1e-5)


@pytest.mark.parametrize("alpha", [1.0, 10.0])
@pytest.mark.parametrize("kappa", [0.5, 2.0, INF])
@pytest.mark.parametrize("assignment", ["uniform", "balanced"])
@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
@pytest.mark.parametrize("test", ["icl", "idg"])
def test_the_pole_is_as_strong_on_both_sides(alpha, kappa, assignment, prior, test):
    how = {"test": test, "assignment": assignment, "prior": prior}
    limit = pole_strength(alpha, kappa, 0.1, test=test)
    error = icl_error if test == "icl" else idg_error
    sides = 1 + 1e-7 * np.array([-1, 1])
    assert error(sides, alpha, kappa, 0.1) * 1e-7 == pytest.approx([limit, limit], rel=1e-5)
    slope = pole_strength(alpha, kappa, 0.1, d=1, **how) / limit - 1
    below = [
        finite_size_coefficient(1 - distance, alpha, kappa, 0.1, **how)
        for distance in (0.002, 0.004, 0.006, 0.008)
    ]
    assert np.dot([4, -6, 4, -1], below) == pytest.approx(slope, rel=1e-5)


def test_strength_of_the_pole_for_fresh_tasks():
    s, q, rho = 1.1, 0.55, 0.1
    c = 2 * s * q**4 + 4 * s * (rho + 3) * q**3 + (12 * rho**2 + 30 * rho + 11) * q**2
    c = (c + (10 * rho**2 + 14 * rho + 1) * q + 2 * rho * s) / (s * (1 + q) ** 2 * (rho + q * s))
    found = pole_strength(2.0, INF, 0.1, d=1) / pole_strength(2.0, INF, 0.1) - 1
    assert found == pytest.approx(c, rel=1e-7)


@pytest.mark.parametrize("test", ["icl", "idg"])
@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
def test_contexts_of_pretraining_are_one_case_of_others(test, prior):
    point = {"tau": 0.6, "alpha": 2.0, "kappa": 0.8, "rho": 0.2, "lam": 0.1}
    how = {"test": test, "prior": prior}
    own = finite_size_coefficient(**point, **how)
    same = finite_size_coefficient(**point, **how, alpha_test=2.0, rho_test=0.2)
    assert same == pytest.approx(own, rel=1e-13)
    assert finite_size_coefficient(**point, **how, alpha_test=4.0) != pytest.approx(own)


@pytest.mark.parametrize("kappa", [0.3, 1.0, 5.0])
@pytest.mark.parametrize(("tau", "lam"), [(0.4, 0.0), (3.0, 0.0), (0.8, 0.2)])
def test_length_of_test_contexts_meets_known_traces(tau, lam, kappa):
    """By the exact moments the first order is linear in 1/alpha_test, with these slopes."""
    alpha, rho = 2.0, 0.1
    lengths = np.array([1.0, 2.0])
    slopes = []
    for error, test in ((icl_error, "icl"), (idg_error, "idg")):
        other = {"alpha_test": 1 / lengths, "rho_test": 0.4}
        c = finite_size_coefficient(tau, alpha, kappa, rho, lam, test=test, **other)
        slopes.append(np.diff(c * error(tau, alpha, kappa, rho, lam, **other))[0])
    # Over eigenvalues of the covariance of many tasks: tr ΓRΓᵀ − tr ΓΓᵀ.
    k, d = (round(size) for size in (2000 * min(1, kappa), 2000 * min(1, 1 / kappa)))
    w = np.random.default_rng(0).standard_normal((k, d))
    R = np.zeros(d)
    R[: min(k, d)] = np.linalg.svd(w, compute_uv=False) ** 2 / k
    q, xi = (1 + rho) / alpha, effective_ridge(tau, alpha, kappa, rho, lam)
    G, variance = 1 / (R + q + xi), idg_error(tau, alpha, kappa, rho, lam) / tau
    square = np.mean(R**2 * G**2) + variance * np.mean((R + q) * G**2)
    own = np.mean(R**3 * G**2) + variance * np.mean(R * (R + q) * G**2)
    assert slopes[1] - slopes[0] == pytest.approx(own - square, abs=0.01)


LAW = (np.array([3.0, 0.75, 0.0]), np.array([0.2, 0.5, 0.3]))


@settings(max_examples=30)
@given(tau=TAU, alpha=ALPHA, kappa=KAPPA, rho=RHO, lam=LAM, other=st.one_of(st.none(), ALPHA))
def test_one_eigenvalue_is_isotropic(tau, alpha, kappa, rho, lam, other):
    tests = {} if other is None else {"alpha_test": other, "rho_test": 0.5}
    for test in ("icl", "idg"):
        point = {"tau": tau, "alpha": alpha, "kappa": kappa, "test": test} | tests
        isotropic = finite_size_coefficient(**point, rho=rho, lam=lam, prior="gaussian")
        found = finite_size_coefficient(**point, rho=rho, lam=lam, tasks=np.ones(3))
        assert found == pytest.approx(isotropic, rel=1e-7, abs=1e-7)


@settings(max_examples=20)
@given(tau=st.floats(1.05, 20), alpha=ALPHA, kappa=KAPPA, rho=RHO)
def test_units_of_tasks_are_free_where_no_ridge_acts(tau, alpha, kappa, rho):
    values, shares = LAW
    for test in ("icl", "idg"):
        one = finite_size_coefficient(tau, alpha, kappa, rho, test=test, tasks=LAW)
        other = finite_size_coefficient(
            tau, alpha, kappa, 3 * rho, test=test, tasks=(3 * values, shares)
        )
        assert other == pytest.approx(one, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("tau", "lam"), [(2.0, 3.0), (2.0, 0.3), (0.5, 0.0)])
def test_units_count_for_the_ridge_of_the_last_column(tau, lam):
    # The last entry of h is a square, so that in other units its column has another ridge.
    d, means, told = 20, [], []
    for unit in (0.01, 100.0):
        point = {"tau": tau, "alpha": 1.0, "kappa": 1.0, "rho": 0.1 * unit, "lam": lam * unit}
        point["tasks"] = laws.isotropic(unit)
        errors = [runs.linear_attention(seed, d=d, **point)["icl_error"] for seed in range(16)]
        means.append(np.array(errors) / unit)
        told.append(icl_error(d=d, **point) / unit)
    seen, said = means[1] - means[0], told[1] - told[0]
    assert said > 0.04
    # What is left is of the next order, a share of a few in d.
    assert abs(seen.mean() / said - 1) < 6 / d + 3 * seen.std(ddof=1) / 4 / said


@settings(max_examples=20)
@given(tau=TAU, alpha=ALPHA, rho=RHO, lam=LAM, other=st.one_of(st.none(), ALPHA))
def test_many_tasks_with_a_spectrum_are_fresh(tau, alpha, rho, lam, other):
    tests = {} if other is None else {"alpha_test": other, "rho_test": 0.5}
    both = [
        finite_size_coefficient(tau, alpha, 1e6, rho, lam, tasks=LAW, test=test, **tests)
        for test in ("icl", "idg")
    ]
    fresh = finite_size_coefficient(tau, alpha, INF, rho, lam, tasks=LAW, **tests)
    assert both == pytest.approx([fresh, fresh], rel=1e-4, abs=1e-4)


def test_many_points_of_a_large_spectrum():
    spectrum, tau = np.linspace(0.0, 2.0, 300), np.linspace(1.1, 4.0, 600).reshape(2, 300)
    found = finite_size_coefficient(tau, 1.0, 0.5, 0.1, tasks=spectrum)
    assert found.shape == tau.shape
    alone = finite_size_coefficient(tau[1, 7], 1.0, 0.5, 0.1, tasks=spectrum)
    assert found[1, 7] == pytest.approx(alone, rel=1e-12)


@pytest.mark.filterwarnings("ignore:with .* tasks")
@pytest.mark.filterwarnings("ignore::iclkit.data.laws.FewDirectionsWarning")
def test_simulation_of_tasks_with_a_spectrum_is_met():
    d, n, k, ell, rho, lam = 12, 312, 12, 24, 0.5, 0.1
    spectrum = np.repeat([3.0, 0.6], [2, 10])
    new = Moments(
        np.eye(d, d + 1) * spectrum[:, None],
        np.diag(np.append((1 + 1 / ell) * spectrum + (1 + rho) * d / ell, 0.0)),
        1 + rho,
    )
    new.B[-1, -1] = (1 + 2 / ell) * ((1 + rho) ** 2 + 2 * np.mean(spectrum**2) / d)
    errors = []
    for seed in range(300):
        streams = backend.streams(seed, np)
        tasks = draw_tasks(k, d, streams.tasks, prior="gaussian") * spectrum**0.5
        of = assign_tasks(n, k, streams.tasks)
        gamma = fit_gamma(*draw_statistics(tasks[of], ell, rho, streams), lam).gamma
        olds = [task_moments(tasks, *test) for test in ((ell, rho), (4 * d, 0.1))]
        errors.append([prediction_error(gamma, moments) for moments in (new, *olds)])
    mean, se = np.mean(errors, axis=0), np.std(errors, axis=0, ddof=1) / len(errors) ** 0.5
    point = (n / d**2, ell / d, k / d, rho, lam)
    other = {"alpha_test": 4.0, "rho_test": 0.1}
    theory = [
        icl_error(*point, d=d, tasks=spectrum),
        idg_error(*point, d=d, tasks=spectrum),
        idg_error(*point, d=d, tasks=spectrum, **other),
    ]
    # Allowed are the noise, and the square of the first order, a tenth of the error.
    assert np.all(np.abs(mean / theory - 1) < 3 * se / mean + 0.012)
    limit = icl_error(n / (d * (d + 1)), *point[1:], tasks=spectrum)
    assert mean[0] / limit - 1 > 0.08


# --- tests on other tasks -------------------------------------------------------------------------


@settings(max_examples=20)
@given(tau=TAU, alpha=ALPHA, kappa=KAPPA, rho=RHO, lam=LAM)
def test_tasks_of_pretraining_are_one_case_of_others(tau, alpha, kappa, rho, lam):
    for rho_test in (None, 0.5):
        at, how = (tau, alpha, kappa, rho, lam), {"tasks": LAW, "rho_test": rho_test}
        own = finite_size_coefficient(*at, **how)
        same = finite_size_coefficient(*at, **how, test_tasks=LAW)
        assert same == pytest.approx(own, rel=1e-9, abs=1e-9)


@settings(max_examples=20)
@given(tau=TAU, alpha=ALPHA, kappa=KAPPA, rho=RHO, lam=LAM)
def test_first_order_is_linear_in_the_test_law(tau, alpha, kappa, rho, lam):
    # Of laws with one trace, as the last coordinate has its square.
    tests = [(test, LAW[1]) for test in (np.ones(3), np.array([3.0, 0.8, 0.0]), [2.0, 0.9, 0.5])]
    at, how = (tau, alpha, kappa, rho, lam), {"tasks": LAW}
    first, second, middle = (
        finite_size_coefficient(*at, **how, test_tasks=test)
        * icl_error(*at, **how, test_tasks=test)
        for test in tests
    )
    assert middle == pytest.approx((first + second) / 2, rel=1e-9)


@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
def test_nothing_but_the_trace_counts_after_isotropic_pretraining(prior):
    at, how = (0.5, 1.0, 0.7, 0.1, 0.05), {"prior": prior}
    own = finite_size_coefficient(*at, **how)
    # A law that is known by shares has no d, with which the length of its tasks would fluctuate.
    other = finite_size_coefficient(*at, **how, test_tasks=([4.0, 0.25], [0.2, 0.8]))
    assert other == pytest.approx(own, rel=1e-12)
    tests = [finite_size_coefficient(*at, **how, test_tasks=test) for test in ([1.0], [2.0])]
    assert tests[0] == pytest.approx(own, rel=1e-12) and tests[1] != pytest.approx(own, rel=0.01)


def test_only_the_diagonal_of_test_tasks_counts():
    rng, d = np.random.default_rng(0), 24
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    values, factor = rng.gamma(20.0, size=d), rng.standard_normal((d, d))
    C, test = (basis * values) @ basis.T, factor @ factor.T / d
    diagonal = np.diag(basis.T @ test @ basis)
    at = (0.6, 2.0, 0.7, 0.1, 0.1)
    turned = finite_size_coefficient(*at, tasks=(C + C.T) / 2, test_tasks=test)
    straight = finite_size_coefficient(*at, tasks=values, test_tasks=diagonal)
    # The length of test tasks fluctuates by the whole matrix, all that differs.
    limit = icl_error(*at, tasks=values, test_tasks=diagonal)
    last = {"tasks": values, "test_tasks": diagonal}
    steps = [
        finite_size_coefficient(*at, **last, rho_test=rho) * icl_error(*at, **last, rho_test=rho)
        for rho in (0.0, 1.0, 2.0)
    ]
    column = (steps[0] - 2 * steps[1] + steps[2]) / 2  # squares of the last column of Γ
    more = 2 / d * (np.sum(test**2) - np.sum(diagonal**2)) / d
    assert turned - straight == pytest.approx(more * column / limit, rel=1e-6)


@pytest.mark.filterwarnings("ignore:with .* tasks|tasks have .* directions")
def test_simulation_of_single_directions_is_met():
    d, n, k, ell, rho, lam = 20, 840, 20, 40, 0.3, 0.1
    spectrum = np.repeat([4.0, 0.25], [4, 16])
    marked = [np.arange(d) == 0, np.arange(d) == d - 1]
    errors = []
    for seed in range(60):
        streams = backend.streams(seed, np)
        tasks = draw_tasks(k, d, streams.tasks, tasks=spectrum)
        of = assign_tasks(n, k, streams.tasks)
        gamma = fit_gamma(*draw_statistics(tasks[of], ell, rho, streams), lam).gamma
        # Directions that are alike have the same mean error.
        found = []
        for alike in (spectrum > 1, spectrum < 1):
            found.append(0.0)
            for j in np.flatnonzero(alike):
                one = population_moments(d, ell, rho, tasks=d * np.eye(d)[j])
                found[-1] += prediction_error(gamma, one) / alike.sum()
        errors.append(found)
    mean, se = np.mean(errors, axis=0), np.std(errors, axis=0, ddof=1) / len(errors) ** 0.5
    point = (n / d**2, ell / d, k / d, rho, lam)
    how = [{"tasks": spectrum, "test_tasks": d * (1.0 * one)} for one in marked]
    theory = np.array([icl_error(*point, d=d, **law) for law in how])
    limit = np.array([icl_error(n / (d * (d + 1)), *point[1:], **law) for law in how])
    assert np.all(mean / limit - 1 > 0.04)
    # Allowed are the noise, and the square of the first order.
    assert np.all(np.abs(mean / theory - 1) < 3 * se / mean + (theory / limit - 1) ** 2)


@pytest.mark.filterwarnings("ignore:with .* tasks|the term of order|tasks have .* directions")
@pytest.mark.parametrize("d", [12, 40])
def test_a_single_direction_is_the_same_however_it_is_written(d):
    point = {"tau": 2.0, "alpha": 2.0, "kappa": 1.0, "rho": 0.3, "lam": 0.1}
    spectrum, one = np.linspace(0.2, 2.0, d), d * np.eye(d)[0]
    several = (one, (one, np.full(d, 1 / d)), laws.low_rank(1 / d), np.diag(one))
    found = [icl_error(**point, d=d, tasks=spectrum, test_tasks=law) for law in several]
    assert found == pytest.approx([found[0]] * 4, rel=1e-12)
    # Without a dimension their length does not fluctuate; what that adds is 2 for the last column
    # of Γ, whose squares are the second difference in the noise of the test.
    at, how = point | {"tau": 2.0 * d / (d + 1)}, {"tasks": spectrum, "test_tasks": several[1]}
    firsts, limits = (
        np.array([error(**at, **how, rho_test=rho) for rho in (0.3, 1.3, 2.3)])
        for error in (finite_size_coefficient, icl_error)
    )
    column = np.diff(firsts * limits, n=2)[0] / 2
    whole = limits[0] * np.exp((firsts[0] + 2 * column / limits[0]) / d)
    assert found[0] == pytest.approx(whole, rel=1e-9)
    several_sizes = icl_error(**point, d=[d, 3 * d], test_tasks=laws.low_rank(1 / d))
    assert several_sizes[0] == icl_error(**point, d=d, test_tasks=laws.low_rank(1 / d))


# --- the errors -----------------------------------------------------------------------------------


def test_simulation_is_met_where_the_limit_is_not():
    point = {"tau": 3.0, "alpha": 1.0, "kappa": 0.8, "rho": 0.1, "d": 20}
    many = [runs.linear_attention(seed, **point) for seed in range(200)]
    for name, error in (("icl_error", icl_error), ("idg_error", idg_error)):
        values = np.array([run[name] for run in many])
        mean, spread = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
        limit = error(*list(point.values())[:4])
        c = 20 * np.log(error(**point) / error(3.0 * 20 / 21, *list(point.values())[1:4]))
        allowed = 3 * spread + limit * (c / 20) ** 2
        assert abs(error(**point) - mean) < allowed < abs(limit - mean)


@pytest.mark.filterwarnings("ignore:the term of order")
@pytest.mark.parametrize("error", [icl_error, idg_error])
@pytest.mark.parametrize("how", [{}, {"prior": "gaussian"}, {"alpha_test": 2.0, "rho_test": 0.5}])
def test_forms_differ_by_the_second_order(error, how):
    point = {"tau": 0.5, "alpha": 1.0, "kappa": 1.0, "rho": 0.1} | how
    d = np.array([40, 80, 160])
    exp, linear, hybrid = (error(**point, d=d, form=form) for form in FORMS)
    for other in (linear, hybrid):
        gaps = np.abs(exp - other)
        assert np.all((gaps[:-1] / gaps[1:] > 3) & (gaps[:-1] / gaps[1:] < 5.5))


def test_sizes_are_rounded_as_in_a_run():
    # ℓ = 10 and k = 15 both times; n = 200.
    rough = icl_error(0.5012, 0.51, 0.76, 0.1, d=20)
    assert rough == icl_error(0.5, 0.5, 0.75, 0.1, d=20)


def test_pole_is_where_it_is_at_every_size():
    error = icl_error(1 + 1 / np.array([20, 50]), 1.0, 1.0, 0.1, d=[20, 50])
    assert np.all(np.isinf(error))
    assert np.isfinite(icl_error(1 + 1 / 20, 1.0, 1.0, 0.1, 0.1, d=20))


def test_labels_and_shapes_are_kept():
    tau, d = xr.DataArray([0.5, 2.0], dims="tau"), xr.DataArray([30, 60, 90], dims="d")
    error = icl_error(tau, 1.0, 1.0, 0.1, d=d)
    assert error.sizes == {"tau": 2, "d": 3}
    assert float(error[1, 2]) == icl_error(2.0, 1.0, 1.0, 0.1, d=90)
    assert pole_strength(1.0, [0.5, 1.0], 0.1, d=[[30], [60]]).shape == (2, 2)
    assert isinstance(icl_error(0.5, 1.0, 1.0, 0.1, d=30), float)


POINT = {"tau": 0.5, "alpha": 1.0, "kappa": 1.0, "rho": 0.1, "d": 30}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"d": 2.5}, "d must be a whole number of at least 1, got 2.5"),
        ({"d": 0}, "d must be a whole number of at least 1, got 0"),
        ({"tau": INF}, "tau must be finite at finite size, got inf"),
        ({"alpha": INF}, "alpha must be finite at finite size, got inf"),
        ({"lam": -0.1}, "lam must be finite and at least 0, got -0.1"),
        ({"kappa": 0.01}, "kappa must be finite with k = kappa"),
        ({"tau": 1e-5}, "tau must be finite with n = tau"),
        ({"tasks": [1.0], "form": "hybrid"}, "form must be exp or linear where tasks are given"),
        ({"test_tasks": [1.0], "form": "hybrid"}, "form must be exp or linear where tasks are"),
        ({"test_tasks": np.ones(24)}, "test_tasks must be a law in d = 30 dimensions, got one in"),
        ({"test_tasks": [-1.0, 1.0]}, "test_tasks must"),
        ({"test_tokens": [1.0]}, "test_tokens must be None at finite size, d = 30"),
        ({"assignment": "fair"}, "assignment must be one of"),
        ({"form": "square"}, "form must be one of"),
        ({"prior": "cube"}, "prior must be one of sphere, gaussian"),
        ({"d": 3000, "tau": 9003001 / 9e6}, "tau must be 1e-06 or further from the pole"),
        ({"rho": 1e70, "kappa": INF}, "beyond floats at tau"),
    ],
)
def test_what_is_not_covered_is_refused(change, said):
    with pytest.raises(ValueError, match=said.replace("*", r"\*").replace("(", r"\(")):
        icl_error(**POINT | change)


def test_pretraining_tasks_have_no_other_test():
    with pytest.raises(ValueError, match="test_tasks must be None for the pretraining tasks"):
        finite_size_coefficient(2.0, 1.0, 1.0, 0.1, test="idg", test_tasks=[1.0])


def test_pole_has_a_function_of_its_own():
    with pytest.raises(ValueError, match="see pole_strength"):
        finite_size_coefficient(1.0, 1.0, 1.0, 0.1)


@pytest.mark.filterwarnings("ignore:the term of order", "ignore:with .* tasks")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tau", [0.3, 0.9, 3.0])
def test_balanced_contexts_of_more_tasks_than_there_are(form, tau):
    d = 30
    n = round(tau * d * (d + 1))
    point = {"tau": n / d**2, "alpha": 100.0, "rho": 0.1, "d": d, "form": form}
    k = np.array([n - 1, n, n + 1, 10 * n, 1000 * n])
    fresh = icl_error(**point, kappa=INF, assignment="balanced")
    assert fresh == icl_error(**point, kappa=INF)
    new = icl_error(**point, kappa=k / d, assignment="balanced")
    assert np.all(new[1:] == fresh)
    assert new[0] == pytest.approx(fresh, rel=0.005)  # of order 1/d²
    # n tasks have one context each, and the other k − n are as good as new.
    old = idg_error(**point, kappa=k / d, assignment="balanced")
    assert old[0] == pytest.approx(old[1], rel=1e-3)
    share = np.minimum(n / k[1:], 1)
    assert old[1:] == pytest.approx(share * old[1] + (1 - share) * fresh, rel=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 1e3, 1e4, 1e5])
@pytest.mark.parametrize("kappa", [0.97, 1.0, 1.02])
@pytest.mark.parametrize("test", ["icl", "idg"])
def test_strength_of_the_pole_where_the_coefficient_changes_fast(alpha, kappa, test):
    slope = pole_strength(alpha, kappa, 0.1, d=1, test=test)
    slope = slope / pole_strength(alpha, kappa, 0.1, test=test) - 1
    step = 0.004 * min(0.25, np.hypot(1 - 1 / kappa, 2 * np.sqrt(1.1 / alpha)))
    below = finite_size_coefficient(1 - step * np.arange(1, 5), alpha, kappa, 0.1, test=test)
    assert np.dot([4, -6, 4, -1], below) == pytest.approx(slope, rel=1e-4)
    with pytest.raises(ValueError, match="alpha must be at most .* for kappa = 1, close to 1"):
        pole_strength([alpha, 1e8], 1.0, 0.1, d=30, test=test)


@settings(max_examples=100)
@given(
    st.floats(-8, 8),
    st.floats(-40, 40),
    st.floats(-40, 40),
    st.one_of(st.none(), st.floats(-40, 20)),
    st.one_of(st.none(), st.floats(-40, 40)),
    st.sampled_from(["icl", "idg"]),
)
def test_coefficient_is_a_number_or_refused(tau, alpha, kappa, rho, lam, test):
    rho, lam = (0.0 if power is None else 10**power for power in (rho, lam))
    tau, alpha, kappa = 10**tau, 10**alpha, 10**kappa
    for function, args in (
        (finite_size_coefficient, (tau, alpha, kappa, rho, lam)),
        (pole_strength, (alpha, kappa, rho)),
    ):
        extra = {"d": 10**6} if function is pole_strength else {}
        try:
            found = function(*args, **extra, test=test)
        except ValueError as problem:
            assert str(problem).startswith(("the expansion in 1/d is", "tau must", "alpha must"))
        else:
            assert np.isfinite(found)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("error", [icl_error, idg_error])
def test_nothing_of_nothing(error, form):
    for name in ("d", "tau", "kappa", "lam"):
        assert error(**POINT | {name: [], "form": form}).shape == (0,)


def test_hybrid_form_beyond_floats_is_refused():
    with pytest.raises(ValueError, match="the hybrid form is beyond floats at d = 34"):
        icl_error(8579 / 34**2, 808 / 34, 300.0, 7.8e17, d=34, form="hybrid")


@pytest.mark.parametrize("error", [icl_error, idg_error])
@pytest.mark.parametrize("d", [12, [12, 13], xr.DataArray([12, 13], dims="d")], ids=type)
def test_warnings_are_of_the_line_that_called(error, d):
    with pytest.warns(RuntimeWarning) as told:
        error(1.2, 1.0, 0.5, 0.1, d=d)
    assert len(told) == 2
    assert {warning.filename for warning in told} == {__file__}


def test_large_terms_are_told():
    with pytest.warns(RuntimeWarning, match=r"order 1/d is \+0\.\d\d of the limit at d = 12"):
        icl_error(1.2, 0.3, 1.0, 0.1, d=[12, 100])
    with pytest.warns(RuntimeWarning, match="with 9 tasks"):
        idg_error(6.0, 1.0, 0.3, 0.1, d=30)


@pytest.mark.filterwarnings("ignore:the term of order|with .* tasks")
@pytest.mark.parametrize("form", ["exp", "hybrid"])
def test_expansion_of_no_use_at_all_is_refused(form):
    """As for tasks with few contexts less than d, and long contexts, at a small d."""
    point = {"tau": 0.5, "alpha": 1e6, "kappa": 0.5, "rho": 0.1}
    with pytest.raises(ValueError, match="d must be larger for form"):
        icl_error(**point | {"tau": 0.5 * 51 / 50}, d=[10**6, 50], form=form)
    assert np.isfinite(icl_error(**point, d=10**6, form=form))
