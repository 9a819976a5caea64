"""One run: on the theory in the limit, and its arguments checked."""

import numpy as np
import pytest

from iclkit import backend, icl_error, idg_error, simulate
from iclkit.data.contexts import draw_statistics
from iclkit.data.tasks import assign_tasks, draw_tasks
from iclkit.fits.fit import fit_gamma
from iclkit.runs.one import linear_attention

POINT = {"d": 12, "tau": 0.5, "alpha": 1.0, "kappa": 0.5, "rho": 0.1}


def test_unlimited_diversity_has_one_error():
    errors = linear_attention(0, **(POINT | {"kappa": np.inf}))
    assert errors["icl_error"] == errors["idg_error"]


@pytest.mark.parametrize("kappa", [0.5, np.inf])
def test_errors_on_gaussian_tasks_are_those_of_test_sets(kappa):
    """Both errors of fits against labels of fresh contexts, within 4 standard errors."""
    point = POINT | {"kappa": kappa, "tau": 2.0, "lam": 0.1, "prior": "gaussian"}
    d, ell, k, n = 12, 12, 6, 288
    gaps = {"icl_error": [], "idg_error": []}
    for seed in range(20):
        errors = linear_attention(seed, **point)
        streams = backend.streams(seed, np)  # the run's own draws once more, for its tasks and Γ*
        tasks = draw_tasks(n if np.isinf(kappa) else k, d, streams.tasks, prior="gaussian")
        w = tasks if np.isinf(kappa) else tasks[assign_tasks(n, k, streams.tasks)]
        gamma = fit_gamma(*draw_statistics(w, ell, point["rho"], streams), point["lam"]).gamma
        new = draw_tasks(20_000, d, streams.tasks, prior="gaussian")
        old = new if np.isinf(kappa) else tasks[assign_tasks(20_000, k, streams.tasks)]
        for name, test in ("icl_error", new), ("idg_error", old):
            x, h, y = draw_statistics(test, ell, point["rho"], streams)
            gaps[name].append(np.mean((y - np.vecdot(x @ gamma, h)) ** 2) - errors[name])
    for gap in gaps.values():
        assert abs(np.mean(gap)) < 4 * np.std(gap, ddof=1) / np.sqrt(len(gap))


def test_gaussian_tasks_are_other_tasks():
    errors = [linear_attention(0, **POINT, prior=prior) for prior in ("sphere", "gaussian")]
    assert errors[0] != errors[1]


@pytest.mark.parametrize("assignment", ["uniform", "balanced"])
@pytest.mark.parametrize(("tau", "lam"), [(0.5, 0.0), (2.0, 0.0), (1.0, 0.5)])
def test_errors_approach_the_theory(assignment, tau, lam):
    """Extrapolated in 1/d to the limit: within 4 standard errors."""
    point = {"tau": tau, "alpha": 2.0, "kappa": 0.5, "rho": 0.1, "lam": lam}
    sizes, runs = np.array([10, 14, 20, 28]), 60
    for name, theory in (("icl_error", icl_error), ("idg_error", idg_error)):
        samples = [
            simulate(d=int(d), runs=runs, assignment=assignment, **point)[name] for d in sizes
        ]
        mean = np.array([float(s.mean()) for s in samples])
        error = np.array([float(s.std(ddof=1)) for s in samples]) / np.sqrt(runs)
        design = np.vander(1 / sizes, 3, increasing=True) / error[:, None]
        covariance = np.linalg.inv(design.T @ design)
        limit = covariance @ design.T @ (mean / error)
        assert abs(limit[0] - theory(**point)) < 4 * np.sqrt(covariance[0, 0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"d": 0}, ValueError, "d must be an integer of at least 1, got 0"),
        ({"d": 10.0}, TypeError, "d must be an integer, got 10.0"),
        ({"tau": 1e-4}, ValueError, r"tau must be finite with n = tau \* d\*\*2 of at least 1"),
        ({"alpha": 0.01}, ValueError, r"alpha must be finite with ell = alpha \* d of at least 1"),
        ({"kappa": 0.01}, ValueError, r"kappa must be finite with k = kappa \* d of at least 1"),
        ({"tau": np.inf}, ValueError, "tau must be finite"),
        ({"alpha": np.inf}, ValueError, "alpha must be finite"),
        ({"kappa": np.nan}, ValueError, "kappa must be positive .*, got nan"),
        ({"kappa": np.array([np.inf])}, ValueError, "kappa must be a single number"),
        ({"rho": 1e300}, ValueError, "rho must be 0 or between"),
        ({"tau": -1.0}, ValueError, "tau must be positive .*, got -1.0"),
        ({"tau": [0.5, 1.0]}, ValueError, "tau must be a single number"),
        ({"rho": -0.1}, ValueError, "rho must be finite and at least 0, got -0.1"),
        ({"lam": -9.0}, ValueError, "lam must be above .* for these data.*, got -9.0"),
        ({"rho": 1j}, TypeError, "rho must be a real number"),
        ({"prior": "laplace"}, ValueError, "prior must be one of sphere, gaussian"),
        ({"assignment": "fair"}, ValueError, "assignment must be one of uniform, balanced"),
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0, got -1"),
    ],
)
def test_bad_arguments(change, error, message):
    with pytest.raises(error, match=message):
        linear_attention(**({"seed": 0} | POINT | change))
