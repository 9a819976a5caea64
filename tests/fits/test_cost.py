"""Costs: condition numbers against closed forms and sampled spectra, iterations against fits."""

import itertools

import numpy as np
import pytest

from iclkit.backend import streams
from iclkit.data.contexts import draw_statistics
from iclkit.data.moments import task_moments
from iclkit.data.tasks import assign_tasks, draw_tasks
from iclkit.fits import cost
from iclkit.fits.fit import fit_gamma

D = 20
FEATURES = D * (D + 1)
EQUAL = np.ones(D + 1)
TWO = np.where(np.arange(D + 1) < D // 2, 0.1, 1.0)


def condition(edges, *arguments):
    low, high = edges(*arguments)
    return high / low


def sampled(t, n, ridge, whitened, seed=0):
    """Condition number of a sampled matrix with independent Gaussian features."""
    variances = np.repeat(t, D)
    phi = np.random.default_rng(seed).standard_normal((n, variances.size)) * variances**0.5
    if whitened:
        root = (n * variances + ridge) ** 0.5
        matrix = (phi.T @ phi + ridge * np.eye(variances.size)) / root / root[:, None]
        values = np.linalg.eigvalsh(matrix)
    else:
        values = np.linalg.eigvalsh(phi @ phi.T if n <= variances.size else phi.T @ phi) + ridge
    return values[-1] / values[0]


@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.9, 0.99, 1.01, 1.1, 3.0, 50.0])
def test_plain_edges_are_those_of_marchenko_and_pastur(ratio):
    d = 1000
    n = round(ratio * d * (d + 1))
    root = np.sqrt(d * (d + 1) / n)
    for ridge in (0.0, 0.2, 5.0):
        for t in (1e-8, 1.0, 1e8):
            expected = ((1 + root) ** 2 + ridge) / ((1 - root) ** 2 + ridge)
            found = condition(cost.plain_edges, np.full(d + 1, t), d, n, ridge * n * t)
            # Edges are looked for on a grid; they are extrema, so that its error is squared.
            assert found == pytest.approx(expected, rel=2e-2)


@pytest.mark.parametrize("n", [50, 200, 360, 500, 840, 2000])
@pytest.mark.parametrize("t", [EQUAL, TWO], ids=["equal", "two"])
def test_plain_condition_of_a_sampled_matrix(t, n):
    # The least and the largest eigenvalue are off by their fluctuation at the edges, of order
    # size^(-2/3) of the largest, which counts where the spectrum comes near to 0.
    for ridge in (0.0, 0.1 * n, 10.0 * n):
        found = condition(cost.plain_edges, t, D, n, ridge)
        assert found == pytest.approx(sampled(t, n, ridge, False), rel=0.35)
        assert found > 0.9 * sampled(t, n, ridge, False)


def test_the_condition_is_finite_at_the_threshold():
    for n in (FEATURES - 1, FEATURES, FEATURES + 1):
        for t in (EQUAL, TWO):
            found = condition(cost.plain_edges, t, D, n, 0.0)
            # The least eigenvalue of a square matrix scatters by itself: only its order is known.
            typical = np.median([sampled(t, n, 0.0, False, seed) for seed in range(3)])
            assert 1 / 50 < found / typical < 50


@pytest.mark.parametrize("n", [421, 430, 500, 1000, 10_000, 10**6])
@pytest.mark.parametrize("t", [EQUAL, TWO, 1e-8 * TWO], ids=["equal", "two", "tiny"])
def test_whitening_makes_all_spectra_alike(t, n):
    s = np.sqrt(FEATURES / n)
    expected = ((1 + s) / (1 - s)) ** 2
    assert condition(cost.whitened_edges, t, D, n, 0.0) == pytest.approx(expected, rel=2e-2)


@pytest.mark.parametrize("n", [200, 400, 500, 840, 2000])
@pytest.mark.parametrize("t", [EQUAL, TWO], ids=["equal", "two"])
def test_whitened_condition_of_a_sampled_matrix(t, n):
    for ridge in (0.1 * n, n, 10.0 * n, 1e6 * n):
        found = condition(cost.whitened_edges, t, D, n, ridge)
        # A ridge keeps the spectrum away from 0, and so fluctuations of the edges small.
        assert found == pytest.approx(sampled(t, n, ridge, True), rel=0.1)


def test_a_ridge_helps_and_no_data_is_too_odd():
    t = np.geomspace(1e-12, 1e3, D + 1)
    for edges in (cost.plain_edges, cost.whitened_edges):
        for n in (1, 100, 420, 421, 5000):
            for variances in (t, EQUAL, np.full(D + 1, 1e-75)):
                ridges = np.concatenate([[0.0], np.geomspace(1e-70, 1e75, 30)])
                found = [condition(edges, variances, D, n, ridge) for ridge in ridges]
                assert np.all(np.isfinite(found)) and min(found) >= 1 - 1e-9
                assert np.all(np.diff(found) <= 1e-6 * np.array(found[:-1]))
        assert np.isfinite(condition(edges, np.array([1.0, 2.0]), 1, 3, 0.0))


@pytest.mark.parametrize("alpha", [1, 10, 100])
@pytest.mark.parametrize("kappa", [0.5, 4.0])
@pytest.mark.parametrize("tau", [0.3, 0.9, 1.2, 3.0])
def test_foretold_iterations_are_those_of_fits(tau, alpha, kappa):
    d = 20
    n = round(tau * d**2)
    draw = streams(0)
    tasks = draw_tasks(round(kappa * d), d, draw.tasks)
    data = draw_statistics(tasks[assign_tasks(n, len(tasks), draw.tasks)], alpha * d, 0.1, draw)
    t = np.linalg.eigvalsh(data.h.T @ data.h / n) * np.mean(data.x**2)
    solver = "dual-cg" if n <= d * (d + 1) else "primal-cg"
    for lam, rtol in ((0.0, 1e-5), (0.01, 1e-3), (1.0, 1e-8)):
        measured = fit_gamma(*data, lam, solver=solver, rtol=rtol).iterations
        foretold = cost.iterations(solver, n, d, t, lam * n / d, rtol)
        assert 1 / 2 < foretold / measured < 2


def test_foretold_iterations_are_right_on_average():
    """What decides between solvers is the typical ratio, closer to 1 than that of any one fit."""
    d, ratios = 20, {"dual-cg": [], "primal-cg": []}
    for tau, kappa, alpha in itertools.product((0.3, 0.7, 1.3, 2.0, 4.0), (0.5, 4.0), (1, 10, 100)):
        n, draw = round(tau * d**2), streams(1)
        tasks = draw_tasks(round(kappa * d), d, draw.tasks)
        data = draw_statistics(tasks[assign_tasks(n, len(tasks), draw.tasks)], alpha * d, 0.1, draw)
        t = np.linalg.eigvalsh(data.h.T @ data.h / n) * np.mean(data.x**2)
        solver = "dual-cg" if n <= d * (d + 1) else "primal-cg"
        foretold = cost.iterations(solver, n, d, t, 0.0)
        ratios[solver].append(foretold / fit_gamma(*data, solver=solver).iterations)
    for found in ratios.values():
        assert 0.85 < np.exp(np.mean(np.log(found))) < 1.18, found


@pytest.mark.parametrize(("alpha", "kappa"), [(10, np.inf), (10, 2.0), (1, 0.5), (100, 0.5)])
@pytest.mark.parametrize("beyond", [-8, -2, 0, 1, 3, 8])
def test_foretold_iterations_near_the_threshold(alpha, kappa, beyond):
    """The bound alone is up to 60 times too large there."""
    d, D = 12, 156
    n, draw = D + beyond, streams(2)
    k = n if kappa == np.inf else round(kappa * d)
    tasks = draw_tasks(k, d, draw.tasks)
    each = tasks[assign_tasks(n, k, draw.tasks, assignment="balanced")]
    data = draw_statistics(each, alpha * d, 0.1, draw)
    t = np.linalg.eigvalsh(task_moments(tasks, alpha * d, 0.1).B) / d
    solver = "dual-cg" if beyond <= 0 else "primal-cg"
    measured = fit_gamma(*data, solver=solver, rtol=1e-5, dtype="float64").iterations
    assert 0.6 < measured / cost.iterations(solver, n, d, t) < 1.6
    assert fit_gamma(*data).solver not in ("dual-cg", "primal-cg")


@pytest.mark.parametrize("d", [24, 50, 100, 200])
def test_a_factor_is_chosen_at_the_threshold(d):
    """However few iterations the forecast allows for, a factor is far cheaper there."""
    D, t = d * (d + 1), np.ones(d + 1)
    for n, side in ((D - 1, "dual"), (D, "dual"), (D + 1, "primal")):
        prices = [
            cost.operations(name, n, d, cost.iterations(name, n, d, t), float32=True)
            for name in (f"{side}-mixed", f"{side}-cg")
        ]
        assert 5 * prices[0] < prices[1]


def test_costs_grow_as_they_say():
    t = EQUAL
    assert cost.iterations("dual", 100, D, t) == cost.iterations("primal", 900, D, t) == 0
    for side in ("dual", "primal"):
        assert 1 <= cost.iterations(f"{side}-mixed", 420, D, t) <= 10
        assert cost.operations(f"{side}-mixed", 10_000, 100, 4) < cost.operations(
            side, 10_000, 100, 0
        )
    one, two = (cost.operations("primal-cg", 20_000, 100, k) for k in (10, 20))
    assert two - one == pytest.approx(10 * 4 * 20_000 * 100**2, rel=0.5)
    for float32, share in ((False, 1.0), (True, 0.5)):
        many = cost.operations("dual-cg", 9000, 100, 1e6, float32)
        assert many == pytest.approx(share * cost.operations("dual-cg", 9000, 100, 1e6), rel=1e-3)
    large = {name: cost.operations(name, 10**6, 1000, 0) for name in ("dual", "primal")}
    assert large["dual"] == pytest.approx(1.5 * (2 * 1000 * 1e12 + 1e18 / 3), rel=0.01)
    assert large["primal"] == pytest.approx(1.5 * (1e6 * 1e12 / 2 + 1001000**3 / 3), rel=0.01)
    assert cost.eigen_operations(2000) == 8 * cost.eigen_operations(1000)


@pytest.mark.parametrize("t", [EQUAL, TWO, 1e-6 * TWO], ids=["equal", "two", "tiny"])
@pytest.mark.parametrize("n", [100, 350, 421, 2000])
def test_mean_resolvent_of_a_sampled_matrix(t, n):
    variances = np.repeat(t, D)
    for ridge in (0.0, 0.1 * n * t.max()):
        found = cost.mean_resolvent(t, D, n, ridge)
        if ridge == 0 and n >= FEATURES:
            assert found == np.inf
            continue
        phi = np.random.default_rng(n).standard_normal((n, FEATURES)) * variances**0.5
        expected = np.trace(np.linalg.inv(phi @ phi.T + ridge * np.eye(n))) / n
        # Traces fluctuate by 1/size of the largest term.
        assert found == pytest.approx(expected, rel=0.02 if ridge else 0.1)
