"""Real fits applied many times: exact where the book is exact, and on the theory in the limit."""

import numpy as np
import pytest

from iclkit import backend
from iclkit.data.contexts import draw_contexts, draw_statistics
from iclkit.data.moments import population_moments, prediction_error, task_moments
from iclkit.data.tasks import assign_tasks, draw_tasks
from iclkit.fits.fit import fit_gamma
from iclkit.runs import looped_attention, sweep
from iclkit.theory.loop import loop_error

POINT = {"d": 12, "tau": 2.0, "alpha": 2.0, "kappa": 0.5, "rho": 0.1, "lam": 0.1}


@pytest.mark.parametrize("kappa", [0.5, np.inf])
def test_one_application_has_the_exact_error_of_the_matrix(kappa):
    """Of the same fit without its last column; what differs is the mean over contexts."""
    gaps = {"icl": [], "idg": []}
    for seed in range(30):
        errors = looped_attention(seed, **(POINT | {"kappa": kappa}), depth=1, contexts=100)
        streams = backend.streams(seed, np)  # the run's own draws once more
        n, k = 288, 288 if np.isinf(kappa) else 6
        tasks = draw_tasks(k, 12, streams.tasks)
        w = tasks if np.isinf(kappa) else tasks[assign_tasks(n, k, streams.tasks)]
        gamma = fit_gamma(*draw_statistics(w, 24, 0.1, streams), 0.1).gamma
        gamma[:, -1] = 0
        exact = {"icl": population_moments(12, 24, 0.1)}
        if not np.isinf(kappa):
            exact["idg"] = task_moments(tasks, 24, 0.1)
        for test, moments in exact.items():
            gaps[test].append(errors[f"{test}_error_1"] - prediction_error(gamma, moments))
    for test in exact:
        assert abs(np.mean(gaps[test])) < 4 * np.std(gaps[test], ddof=1) / 30**0.5


def test_it_is_the_iteration_of_a_context():
    """At a single context: direct steps for many tasks and labels, in means."""
    point = POINT | {"lam": 0.0}
    errors = looped_attention(3, **point, depth=3, step=0.7, contexts=1)
    streams = backend.streams(3, np)
    tasks = draw_tasks(6, 12, streams.tasks)
    w = tasks[assign_tasks(288, 6, streams.tasks)]
    gamma = fit_gamma(*draw_statistics(w, 24, 0.1, streams)).gamma[:, :12]
    own = backend.streams(backend.child_seed(3, 1), np)
    X = draw_contexts(np.zeros((1, 12)), 24, 0.0, own).tokens[0]
    rng = np.random.default_rng(0)
    for test in ("icl", "idg"):
        w = (
            rng.standard_normal((200_000, 12))
            if test == "icl"
            else tasks[rng.integers(6, size=200_000)]
        )
        y = w @ X.T + 0.1**0.5 * rng.standard_normal((len(w), 24))
        found = np.zeros_like(w)
        for at in range(1, 4):
            found += 0.7 * 0.5 * ((y - found @ X.T) @ X) @ gamma.T
            each = ((found - w) ** 2).mean(axis=1) + 0.1
            se = each.std() / len(w) ** 0.5
            assert abs(each.mean() - errors[f"{test}_error_{at}"]) < 4 * se + 1e-4 * each.mean()


@pytest.mark.parametrize("kappa", [0.5, np.inf])
def test_real_fits_tend_to_the_theory(kappa):
    """Logs of the deviation at d = 20 and 40, extrapolated with one term in 1/d."""
    point = {"tau": 4.0, "alpha": 4.0, "kappa": kappa, "rho": 0.1}
    known = loop_error(**point, depth=3)[1:]
    logs = {}
    for d, runs in ((20, 60), (40, 30)):
        # Of a parameter count of d(d + 1) there are τ d(d + 1) contexts.
        sized = point | {"d": d, "tau": 4.0 * (d + 1) / d}
        found = [list(looped_attention(s, **sized, depth=3).values())[:3] for s in range(runs)]
        logs[d] = np.mean(np.log(found / known), axis=0), np.std(np.log(found), axis=0) / runs**0.5
    (small, small_se), (large, large_se) = logs[20], logs[40]
    left, se = 2 * large - small, np.hypot(2 * large_se, small_se)
    assert np.all(np.abs(left) < 4 * se + 10 / 40**2)
    assert np.all(large_se < 0.02)


def test_a_loop_that_leaves_the_floats_is_infinite():
    errors = looped_attention(0, **POINT, depth=40, step=1e6, contexts=2)
    assert np.isinf(errors["icl_error_40"]) and not np.isnan(list(errors.values())).any()


def test_sweeps_take_it():
    point = {"d": 8, "alpha": 2.0, "kappa": np.inf, "rho": 0.1, "depth": 2, "contexts": 2}
    table = sweep(looped_attention, point | {"tau": [2.0, 4.0]}, seed=0, runs=(2, 2), workers=1)
    assert table["icl_error_2"].shape == (2,)


@pytest.mark.parametrize(("name", "value"), [("depth", 0), ("contexts", 0), ("step", np.inf),
                                             ("tau", 0.0), ("kappa", None)])  # fmt: skip
def test_bad_points_are_refused(name, value):
    with pytest.raises((TypeError, ValueError), match=rf"^{name} must"):
        looped_attention(0, **POINT | {"depth": 2} | {name: value})
    with pytest.raises((TypeError, ValueError), match=rf"^{name} must"):
        looped_attention.check(**POINT | {"depth": 2} | {name: value})
