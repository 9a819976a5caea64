"""Errors along training: against 60 digits, integrals, ends, and real fits at finite size."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit import theory
from iclkit.backend import streams
from iclkit.data.contexts import draw_statistics
from iclkit.data.moments import population_moments, prediction_error, task_moments
from iclkit.data.tasks import assign_tasks, draw_tasks
from iclkit.fits.features import adjoint, predict
from iclkit.fits.training import fit_gamma_flow
from iclkit.theory import flow
from iclkit.theory.descent import marchenko_pastur

INF = float("inf")
POINT = (5.0, 20.0, 0.3, 0.1)


def logs(low, high):
    return st.floats(low, high).map(lambda v: 10.0**v)


times = logs(-2, 4)
points = st.tuples(logs(-1.5, 2.5), logs(-1.5, 3), logs(-1.3, 2), logs(-3, 1))
errors = pytest.mark.parametrize("error", [flow.icl_error, flow.idg_error])


# Values ---------------------------------------------------------------------------------------


def by_differences(t, tau, alpha, kappa, rho, nodes=34):
    """All three errors to 25 digits or more: more nodes, roots polished, traces by differences."""
    t, tau, alpha, kappa, rho = map(mp.mpf, (t, tau, alpha, kappa, rho))
    q = (1 + rho) / alpha

    def transform(x):
        b = x + 1 - 1 / kappa
        root = mp.sqrt(x + (1 + 1 / mp.sqrt(kappa)) ** 2)
        root *= mp.sqrt(x + (1 - 1 / mp.sqrt(kappa)) ** 2)
        return 2 / (b + root) if abs(b + root) > abs(b - root) else (root - b) * kappa / (2 * x)

    states = []
    h, mu = mp.mpf("1.081792140") / nodes, mp.mpf("4.492075287") * nodes
    for j in range(nodes):
        angle = 1j * (j + mp.mpf(0.5)) * h - mp.mpf("1.172104229")
        zeta = mu * (1 + mp.sin(angle))
        weight = h * mu / (2 * mp.pi) * mp.cos(angle) * mp.exp(zeta) / zeta
        z = zeta / t

        def excess(xi, z=z):
            return xi * (tau - 1 + xi * transform(q + xi)) - tau * z

        near = flow._solve(np.array([complex(z)]), float(q), float(tau), float(kappa)).xi[0]
        xi = mp.findroot(excess, (mp.mpc(near), near * (1 + mp.mpf(1e-12))), verify=False)
        assert abs(excess(xi)) < mp.mpf(10) ** -40 * abs(tau * z) and xi.imag > 0
        m = transform(q + xi)
        states.append((weight, z, xi, m, 1 / (1 + m / kappa), q + xi))
    both = states + [tuple(mp.conj(part) for part in state) for state in states]
    sums = [mp.mpf(0)] * 3
    for j, (w1, z1, xi1, m1, c1, x1) in enumerate(states):
        for k, (w2, z2, xi2, m2, _, x2) in enumerate(both):
            g = m1**2 / (1 - (c1 * m1) ** 2 / kappa) if j == k else (m1 - m2) / (x2 - x1)
            rg = m2 - x1 * g
            f = c1 * m1 - x2 * rg
            own = (rho + q * f + x1 * x2 * rg) / (1 - (q * (q * g + rg) + q * rg + f) / tau)
            icl = rho + x1 * x2 * g + q * f + (1 + q) * (q * g + rg) * own / tau
            for i, value in enumerate((icl, own, z1 * z2 / (xi1 * xi2) * own)):
                sums[i] += mp.re(2 * w1 * w2 * value)
    return [float(total) for total in sums]


@pytest.mark.parametrize(
    "point",
    [
        (3.0, 1.0, 3.0, 1.0, 0.1),
        (30.0, 1.001, 20.0, 0.999, 0.1),
        (1e5, 0.02, 1e4, 0.05, 0.5),
        (0.02, 0.09, 16.0, 2.1, 0.02),
        (1e-8, 4e7, 6e-4, 1e-3, 2e6),
        (120.0, 6e-4, 7e3, 4e3, 3e-5),
    ],
)
def test_agrees_with_sixty_digits(point):
    """What is subtracted there, where it costs digits, is not here."""
    with mp.workdps(60):
        icl, idg, train = by_differences(*point)
    assert flow.icl_error(*point) == pytest.approx(icl, rel=1e-12)
    assert flow.idg_error(*point) == pytest.approx(idg, rel=1e-12)
    assert flow.train_loss(*point) == pytest.approx(train, rel=1e-12, abs=1e-12 * (1 + point[-1]))


@pytest.mark.parametrize("t", [0.01, 0.3, 3.0, 30.0])
@pytest.mark.parametrize("tau, alpha, rho", [(2.0, 1.0, 0.1), (0.5, 5.0, 0.3), (1.1, 0.1, 3.0)])
def test_endless_tasks_are_regression_on_isotropic_features(t, tau, alpha, rho):
    q = (1 + rho) / alpha
    a, noise = 1 + q, rho + q / (1 + q)
    u, weights = marchenko_pastur(tau, 400)
    fitted = np.where(u > 1e-9, np.expm1(-a * t * u) ** 2 / np.where(u > 1e-9, u, 1), 0)
    exact = noise + weights @ np.exp(-2 * a * t * u) / a + noise / tau * (weights @ fitted)
    assert flow.icl_error(t, tau, alpha, INF, rho) == pytest.approx(exact, rel=2e-12)
    assert flow.idg_error(t, tau, alpha, INF, rho) == pytest.approx(exact, rel=2e-12)


@pytest.mark.parametrize("t", [0.01, 0.3, 3.0, 30.0])
@pytest.mark.parametrize("alpha, kappa, rho", [(1.0, 2.0, 0.1), (5.0, 0.2, 0.3), (20.0, 1.0, 0.0)])
def test_endless_contexts_are_one_integral(t, alpha, kappa, rho):
    q = (1 + rho) / alpha
    r, weights = marchenko_pastur(kappa, 400)
    p = np.where(r > 1e-9, r / (q + r) * -np.expm1(-t * (q + r)), 0)
    icl = rho + weights @ (1 - 2 * p + np.where(r > 1e-9, (1 + q), 0) * p**2)
    idg = rho + weights @ (q * r / (q + r) + r**2 / (q + r) * np.exp(-2 * t * (q + r)))
    assert flow.icl_error(t, INF, alpha, kappa, rho) == pytest.approx(icl, rel=2e-12)
    assert flow.idg_error(t, INF, alpha, kappa, rho) == pytest.approx(idg, rel=2e-12)
    assert flow.train_loss(t, INF, alpha, kappa, rho) == pytest.approx(idg, rel=2e-12)
    assert flow.icl_error(t, INF, alpha, kappa, rho, part="variance") == 0


# Ends -----------------------------------------------------------------------------------------


@given(points)
def test_starts_at_the_variance_of_labels_with_known_slopes(point):
    rho, kappa, t = point[3], point[2], 1e-9
    start = 1 + rho
    # Second orders are t²/2 times no more than 8 times the square of the upper edge.
    most = 4 * t * (flow.upper_edge(*point) * (1 + 1 / kappa + rho) + 1) ** 2 + 1e-12 * start / t
    for error, slope in (
        (flow.icl_error, -2.0),
        (flow.idg_error, -2 * (1 + 1 / kappa)),
    ):
        assert error(0.0, *point) == start
        assert error(t, *point) == pytest.approx(start + slope * t, abs=most * t)
    assert flow.train_loss(0.0, *point) == start


@given(points, logs(-3, 1), st.booleans())
def test_ends_at_the_ridge_fit(point, lam, other):
    lam = 0.0 if other else lam
    test = {"alpha_test": 3.0, "rho_test": 0.4} if other else {}
    for error, ridge in (
        (flow.icl_error, theory.icl_error),
        (flow.idg_error, theory.idg_error),
    ):
        end = ridge(*point, lam, **test)
        assert error(INF, *point, lam, **test) == pytest.approx(end, rel=1e-13)
        slowest = lam - float(theory.ridge_edge(*point))
        if 1e9 * slowest > 40:
            late = min(1e9, max(1.0, 60 / slowest))
            assert error(late, *point, lam, **test) == pytest.approx(end, rel=2e-12)


def test_ends_at_the_pole():
    assert flow.icl_error(INF, 1.0, 2.0, 0.5, 0.1) == INF
    assert flow.idg_error(INF, 1.0, 2.0, 0.5, 0.1) == INF
    assert flow.train_loss(INF, 1.0, 2.0, 0.5, 0.1) == 0
    assert np.isfinite(flow.icl_error(INF, 1.0, 2.0, 0.5, 0.1, part="mean"))
    assert flow.icl_error(INF, 1.0, 2.0, 0.5, 0.1, 0.2) == theory.icl_error(1.0, 2.0, 0.5, 0.1, 0.2)


@errors
@given(times, points)
def test_is_at_least_the_noise_and_the_sum_of_its_parts(error, t, point):
    whole, mean, variance = (error(t, *point, part=part) for part in ("all", "mean", "variance"))
    assert whole == mean + variance
    assert mean > point[3] and variance > -1e-12 * whole


@given(times, points)
def test_training_loss_falls_below_the_error(t, point):
    now, later = flow.train_loss([t, 2 * t], *point)
    assert later <= now + 1e-12 * (1 + point[3])
    assert now <= flow.idg_error(t, *point) * (1 + 1e-12) + 1e-12 * (1 + point[3])


@given(points, logs(-2, 1))
def test_ridge_is_no_worse_than_what_it_is_the_mean_of(point, lam):
    """Γ of a ridge is the mean of the flow over times of law λe^(−λt), and errors are convex."""
    u, weights = np.polynomial.laguerre.laggauss(30)
    mean = weights @ flow.icl_error(u / lam, *point)
    assert theory.icl_error(*point, lam) <= mean * (1 + 1e-3)


# Descent ----------------------------------------------------------------------------------------


@errors
def test_small_steps_are_the_flow_at_first_order(error):
    gaps = [error(1.2, *POINT, 0.3, step=1.2 / k) - error(1.2, *POINT, 0.3) for k in (60, 120, 240)]
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.05)
    assert gaps[1] / gaps[2] == pytest.approx(2, rel=0.03)


def polynomial(steps, step, momentum, s):
    """What descent leaves of an eigenvalue."""
    before = now = np.ones_like(s)
    for _ in range(steps):
        before, now = now, now - step * s * now + momentum * (now - before)
    return now


@pytest.mark.parametrize("momentum", [0.0, 0.6])
@pytest.mark.parametrize("steps", [1, 2, 7, 60, 300])
def test_steps_are_those_of_descent(steps, momentum):
    """With endless tasks and endless contexts there is one eigenvalue, 1 + q."""
    step, alpha, rho, lam = 0.3, 2.0, 0.1, 0.2
    q = (1 + rho) / alpha
    left = polynomial(steps, step, momentum, np.array(1 + q + lam))
    p = (1 - left) / (1 + q + lam)
    found = flow.icl_error(steps * step, INF, alpha, INF, rho, lam, step=step, momentum=momentum)
    assert found == pytest.approx(rho + 1 - 2 * p + (1 + q) * p**2, rel=1e-11)


def test_steps_that_diverge_are_refused():
    most = 2 / flow.upper_edge(*POINT)
    assert np.isfinite(flow.icl_error(most * 0.99 * 5, *POINT, step=most * 0.99))
    for lam, momentum in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.4)):
        step = 2 * (1 + momentum) / (flow.upper_edge(*POINT) + lam) * 1.001
        with pytest.raises(ValueError, match=r"^step must be below 2\(1 \+ momentum\)"):
            flow.idg_error(step, *POINT, lam, step=step, momentum=momentum)


# Edges, slopes and optima -----------------------------------------------------------------------


def test_upper_edge():
    # The values are those of an independent implementation.
    assert flow.upper_edge(*POINT) == pytest.approx(8.856, abs=1e-3)
    assert flow.upper_edge(0.5, 1.0, 0.2, 0.5) == pytest.approx(22.932, abs=1e-3)
    for tau in (1e-9, 0.5, 1.0, 3.0, 1e9):
        exact = 1.55 * (1 + tau**-0.5) ** 2
        assert flow.upper_edge(tau, 2.0, INF, 0.1) == pytest.approx(exact, rel=1e-12)
    assert flow.upper_edge(1e9, 2.0, 0.5, 0.1) == pytest.approx(
        flow.upper_edge(INF, 2.0, 0.5, 0.1), rel=1e-5
    )


@given(points)
def test_edges_are_those_of_the_samples_and_below_a_product(point):
    tau, alpha, kappa, rho = point
    top = flow.upper_edge(*point)
    bound = ((1 + kappa**-0.5) ** 2 + (1 + rho) / alpha) * (1 + tau**-0.5) ** 2
    assert -theory.ridge_edge(*point) < top <= bound * (1 + 1e-12)


def test_border_of_final_forgetting_with_endless_contexts():
    for alpha, rho in ((1.0, 0.1), (20.0, 0.0), (0.1, 3.0)):
        assert flow.finally_rises(INF, alpha, [0.2499, 0.2501], rho).tolist() == [True, False]
        assert not flow.finally_rises(INF, alpha, 0.2, rho, test="idg")


@pytest.mark.parametrize(
    "tau, alpha, rho, kappa",
    [
        # Roots of the late slope, by an independent implementation.
        (20.0, 20.0, 0.1, 1.220), (20.0, 20.0, 0.1, 28.43), (100.0, 20.0, 0.1, 1.068),
        (100.0, 20.0, 0.1, 464.3), (20.0, 3.0, 0.1, 1.244), (20.0, 3.0, 0.1, 35.09),
        (20.0, 1.0, 0.1, 12.67), (1000.0, 1.0, 0.1, 0.735), (100.0, 20.0, 1.0, 81.2),
        (1e6, 1.0, 0.1, 0.6853), (1e6, 0.3, 0.1, 0.5739),
    ],
)  # fmt: skip
def test_borders_of_final_forgetting(tau, alpha, rho, kappa):
    below, above = flow.finally_rises(tau, alpha, [0.998 * kappa, 1.002 * kappa], rho)
    assert below != above


def late(error, point, test):
    """The sign of the last change that can be told."""
    t = np.geomspace(1, 24, 60) / -theory.ridge_edge(*point)
    e = error(t[t < 1e9], *point, **test)
    changes = np.diff(e)
    told = np.flatnonzero(np.abs(changes) > 1e-11 * e[1:])
    return np.sign(changes[told[-1]])


@errors
def test_late_slope_is_that_of_the_curve(error):
    rng, name = np.random.default_rng(0), error.__name__[:3]
    tried = 0
    for _ in range(60):
        tau, alpha, kappa = 10 ** rng.uniform([-0.7, -0.5, -1], [1.5, 2, 1.3])
        point = tau, alpha, kappa, 10 ** rng.uniform(-2, 0.5)
        test = {"alpha_test": 2.0, "rho_test": 0.3} if rng.random() < 0.3 else {}
        # Next to the pole and to a border the slope is late beyond what can be told.
        if abs(tau - 1) < 0.2 or len(set(flow.finally_rises(
            *point[:2], kappa * np.array([0.7, 1, 1.4]), point[3], test=name, **test
        ))) > 1:  # fmt: skip
            continue
        tried += 1
        rises = flow.finally_rises(*point, test=name, **test)
        assert rises == (late(error, point, test) > 0), point
    assert tried > 30


def test_in_distribution_error_overfits_at_last_above_the_threshold():
    assert np.all(
        flow.finally_rises([1.01, 1.5, 20.0], 3.0, [[0.2], [1.0], [9.0]], 0.1, test="idg")
    )
    # Below it, it can fall for ever where tasks are few and there is no noise.
    assert not flow.finally_rises(0.19, 57.8, 0.22, 0.0, test="idg")
    assert flow.optimal_time(0.19, 57.8, 0.22, 0.0, test="idg") == INF


@pytest.mark.parametrize(
    "point, time",
    [
        # From an independent implementation.
        (POINT, 1.73), ((100.0, 20.0, 0.3, 0.1), 2.876), ((5.0, 3.0, 0.2, 0.1), 0.3687),
        ((INF, 1.0, 0.2, 0.1), 0.1432), ((INF, 0.3, 0.3, 0.1), 0.0691),
    ],
)  # fmt: skip
def test_optimal_time(point, time):
    best = flow.optimal_time(*point)
    assert best == pytest.approx(time, rel=2e-3)
    around = best * np.array([1e-2, 0.5, 0.99, 1.01, 2, 1e2])
    assert np.all(flow.icl_error(around, *point) > flow.icl_error(best, *point))


def test_optimal_time_at_critical_diversity():
    """At κ = 1 and long contexts the optima have known constants."""
    point = 1e6, INF, 1.0, 0.1
    t = np.geomspace(1e6, 2e7, 4001)
    icl, idg = flow.icl_error(t, *point), flow.idg_error(t, *point)
    assert t[icl.argmin()] * 1e-7 == pytest.approx((1 + 2**0.5) / 4, rel=5e-3)
    assert t[idg.argmin()] * 1e-7 == pytest.approx(0.4102, rel=5e-3)
    excess = (icl.min() - 0.1) / (0.1 / 1e6) ** 0.5
    assert excess == pytest.approx(2 * ((2 * 2**0.5 - 2) / np.pi) ** 0.5, rel=2e-3)


def test_never_forgotten_is_told_from_a_dip():
    assert flow.optimal_time(100.0, 20.0, 2.0, 0.1) == INF
    # The curve falls at last, and yet it was lower before.
    assert not flow.finally_rises(20.0, 1.0, 12.0, 0.1)
    assert flow.optimal_time(20.0, 1.0, 12.0, 0.1) == pytest.approx(2.04, abs=0.01)


def test_long_contexts_in_two_stages():
    """At times of order α, what pretraining tasks do not span learns noise."""
    tau, kappa, rho, alpha = 5.0, 0.3, 0.1, 1e8
    nu, y = 1 - kappa / tau, (1 - kappa) / (tau - kappa)
    u, weights = marchenko_pastur(1 / y, 300)
    for s in (0.1, 1.0, 10.0):
        learned = weights @ (np.expm1(-nu * u * s) ** 2 / u)
        t = s * alpha / (1 + rho)
        icl, idg = (error(t, tau, alpha, kappa, rho) for error in (flow.icl_error, flow.idg_error))
        assert icl / alpha == pytest.approx(rho * y / (1 + rho) * learned, rel=1e-4)
        assert idg == pytest.approx(rho / nu * (1 + y * learned), rel=1e-4)


# Against fits -----------------------------------------------------------------------------------


def exact_errors(d, tau, alpha, kappa, rho, t, runs, descent=None):
    """Both errors of real runs, exact at their size: means and standard errors over draws."""
    n, ell, k, found = round(tau * d**2), round(alpha * d), round(kappa * d), []
    for seed in range(runs):
        draw = streams(1000 * d + seed)
        tasks = draw_tasks(k, d, draw.tasks)
        x, h, y = draw_statistics(tasks[assign_tasks(n, k, draw.tasks)], ell, rho, draw)
        if descent is None:
            path = fit_gamma_flow(x, h, y, t)
        else:
            path, gamma, before = [], np.zeros((d, d + 1)), np.zeros((d, d + 1))
            for _ in range(max(descent["at"])):
                slope = -d / n * adjoint(x, h, y - predict(x, h, gamma))
                pushed = gamma - descent["step"] * slope + descent["momentum"] * (gamma - before)
                before, gamma = gamma, pushed
                path.append(gamma)
            path = [path[at - 1] for at in descent["at"]]
        laws = population_moments(d, ell, rho), task_moments(tasks, ell, rho)
        loss = [np.mean((y - predict(x, h, gamma)) ** 2) for gamma in path]
        found.append([*([prediction_error(gamma, law) for gamma in path] for law in laws), loss])
    found = np.array(found)
    return found.mean(0), found.std(0, ddof=1) / runs**0.5


@pytest.mark.parametrize("point", [(2.0, 5.0, 0.5, 0.1), (0.5, 5.0, 2.0, 0.3)])
def test_is_the_limit_of_fits(point):
    """Distances to it fall like 1/d: twice that of d = 24 less that of d = 12 leaves 1/d²."""
    t = [0.2, 1.0, 4.0]
    (small, e_small), (large, e_large) = (
        exact_errors(d, *point, t, runs) for d, runs in ((12, 80), (24, 40))
    )
    limit = np.array([f(t, *point) for f in (flow.icl_error, flow.idg_error, flow.train_loss)])
    left = 2 * large - small - limit
    noise = np.hypot(2 * e_large, e_small)
    assert np.all(noise[:2] < 0.05 * limit[:2])
    # 1/d² with a constant of 4, which at d = 12 is 2.8 per cent
    assert np.all(np.abs(left) < 3.5 * noise + 4 / 12**2 * limit)


def test_descent_is_the_limit_of_steps():
    point, how = (2.0, 5.0, 0.5, 0.1), {"step": 0.1, "momentum": 0.5, "at": [1, 5, 20]}
    (small, e_small), (large, e_large) = (
        exact_errors(d, *point, None, runs, how) for d, runs in ((12, 80), (24, 40))
    )
    limit = np.array([
        f(0.1 * np.array(how["at"]), *point, step=0.1, momentum=0.5)
        for f in (flow.icl_error, flow.idg_error, flow.train_loss)
    ])  # fmt: skip
    noise = np.hypot(2 * e_large, e_small)
    assert np.all(noise[:2] < 0.05 * limit[:2])
    assert np.all(np.abs(2 * large - small - limit) < 3.5 * noise + 4 / 12**2 * limit)


# Arguments ------------------------------------------------------------------------------------

GOOD = {"t": 1.0, "tau": 5.0, "alpha": 20.0, "kappa": 0.3, "rho": 0.1}


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"t": -1.0}, "^t must be finite and at least 0, got -1"),
        ({"t": float("nan")}, "^t must be finite"),
        ({"t": "1"}, "^t must be a real number"),
        ({"t": 1e10}, "^t must be between 1e-09 and 1e\\+09, .* got 1e10|got 10000000000.0"),
        ({"tau": 0.0}, "^tau must be positive"),
        ({"kappa": 1e-10}, "^kappa must be between"),
        ({"rho": -0.1}, "^rho must be"),
        ({"lam": -0.1}, "^lam must be"),
        ({"part": "bias"}, "^part must be one of all, mean, variance"),
        ({"step": 0.0}, "^step must be positive"),
        ({"step": INF}, "^step must be"),
        ({"step": [0.1]}, "^step must be a single number"),
        ({"step": 0.3}, "^step must be below|^t must be a multiple of the step 0.3"),
        ({"step": 0.1, "t": 0.25}, "^t must be a multiple of the step 0.1, got 0.25"),
        ({"step": 0.001}, "^t must be at most 500 steps"),
        ({"step": 0.1, "t": INF}, "^t must be finite for descent"),
        ({"momentum": 0.5}, "^momentum must be 0 for the flow"),
        ({"momentum": 1.0, "step": 0.1}, "^momentum must be below 1"),
        ({"t": INF, "alpha": INF}, "^alpha must be finite where t is inf"),
        ({"alpha_test": 0.0}, "^alpha_test must be"),
        ({"rho_test": -1.0}, "^rho_test must be"),
    ],
)
def test_what_is_wrong_is_refused_by_name(wrong, message):
    with pytest.raises((TypeError, ValueError), match=message):
        flow.icl_error(**(GOOD | wrong))


@pytest.mark.parametrize("function", [flow.optimal_time, flow.finally_rises])
def test_optima_want_a_finite_context_and_a_known_test(function):
    with pytest.raises(ValueError, match="^alpha must be finite"):
        function(5.0, INF, 0.3, 0.1)
    with pytest.raises(ValueError, match="^test must be one of icl, idg"):
        function(5.0, 20.0, 0.3, 0.1, test="train")


@settings(max_examples=30)
@given(st.tuples(*[logs(-9, 9)] * 6))
def test_no_nan_in_all_of_the_range(point):
    point = tuple(np.clip(point, 1e-9, 1e9))
    for f in (flow.icl_error, flow.idg_error, flow.train_loss):
        assert np.isfinite(f(*point))
    assert np.isfinite(flow.upper_edge(*point[1:5]))
    assert flow.optimal_time(*point[1:6]) > 0
