"""Tasks of one's own: their theory at the sizes of a reader, what it needs, and its warnings."""

import warnings

import numpy as np
import pytest

from iclkit.data.laws import FewDirectionsWarning
from iclkit.runs import contexts_needed, predict, tokens_needed
from iclkit.theory import icl_error, idg_error, optimal_ridge

RNG = np.random.default_rng(0)
W = RNG.standard_normal((200, 100))
SMALL = RNG.standard_normal((480, 24))
WHITE = np.vstack([np.eye(24)] * 10)  # tokens of covariance I/d
AT = {"tau": 2.0, "alpha": 1.0, "rho": 0.1}


def test_isotropic_tasks_have_the_isotropic_theory():
    grid = {"tau": [0.5, 2.0], "alpha": [0.5, 2.0, 8.0], "rho": 0.1, "lam": 0.2}
    told = predict(W, **grid)
    tau, alpha = told.n.values[:, None] / (100 * 101), told.ell.values / 100
    assert told.icl_error.dims == ("tau", "alpha")
    at = (tau, alpha, 2.0, 0.1)
    pairs = [
        (told.icl_error, icl_error(*at, 0.2)), (told.idg_error, idg_error(*at, 0.2)),
        (told.icl_ridge, optimal_ridge(*at)), (told.idg_ridge, optimal_ridge(*at, test="idg")),
    ]  # fmt: skip
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=0.05)  # of one list, in d = 100
    np.testing.assert_allclose(predict(W, **grid, kappa=np.inf).icl_error,
                               icl_error(tau, alpha, np.inf, 0.1, 0.2), rtol=0.05)  # fmt: skip


def test_least_errors_are_those_at_the_best_ridges():
    told = predict(W, **AT, lam=[0.0, 0.1])
    for test in ("icl", "idg"):
        best = told[f"{test}_ridge"].item()
        at_best = predict(W, **AT, lam=[best / 1.1, best, best * 1.1])[f"{test}_error"]
        assert at_best.values.argmin() == 1
        np.testing.assert_allclose(at_best[1], told[f"{test}_least"], rtol=1e-12)


def test_unit_of_tasks_is_that_of_labels():
    one = predict(W, **AT, lam=0.1)
    other = predict(10 * W, tau=2.0, alpha=1.0, rho=10.0, lam=10.0)
    for name in ("icl_error", "idg_error", "icl_ridge", "idg_least"):
        np.testing.assert_allclose(other[name], 100 * one[name], rtol=1e-9)


@pytest.mark.parametrize("test_tasks", [None, SMALL[:50] * np.geomspace(0.3, 3, 24)])
def test_tokens_that_are_white_change_nothing(test_tasks):
    plain = predict(SMALL, **AT, lam=0.1, test_tasks=test_tasks)
    told = predict(SMALL, **AT, lam=0.1, test_tasks=test_tasks, tokens=WHITE)
    np.testing.assert_allclose(told.idg_error, plain.idg_error, rtol=1e-9)
    np.testing.assert_allclose(told.idg_ridge, plain.idg_ridge, rtol=1e-6)
    if test_tasks is not None:
        np.testing.assert_allclose(told.icl_error, plain.icl_error, rtol=1e-9)


def test_tokens_without_ridge_are_whitened():
    root = np.diag(np.linspace(0.8, 1.2, 24))
    told = predict(SMALL, **AT, tokens=WHITE @ root)
    np.testing.assert_allclose(told.idg_error, predict(SMALL @ root, **AT).idg_error, rtol=1e-9)


def test_simulation_agrees():
    w = RNG.standard_normal((60, 30)) * np.linspace(0.8, 1.2, 30)
    told = predict(w, tau=[1.5, 4.0], alpha=2.0, rho=0.1, lam=1.0, test_tasks=2 * w, runs=6)
    for test in ("icl", "idg"):
        gap = told[f"{test}_error_simulated"] / told[f"{test}_error"] - 1
        bar = told[f"{test}_error_simulated_se"] / told[f"{test}_error"]
        assert (np.abs(gap) < 3 / 30 + 4 * bar).all() and (bar > 0).all()
    alone = predict(w, tau=4.0, alpha=2.0, rho=0.1, lam=1.0, runs=2)
    assert alone.runs == 2 and "idg_error_simulated" in alone and "icl_error_simulated" not in alone


@pytest.mark.parametrize("test", ["icl", "idg"])
@pytest.mark.parametrize("lam", [None, 0.3])
def test_numbers_needed_are_the_least(test, lam):
    more = {"rho": 0.1, "test": test, "lam": lam}
    need = contexts_needed(W, 0.85, alpha=2.0, **more)
    found = tokens_needed(W, 0.85, tau=3.0, **more)
    for number, at, one in (
        (need.n.item(), lambda n: {"tau": n / 100**2, "alpha": 2.0}, need),
        (found.ell.item(), lambda ell: {"tau": 3.0, "alpha": ell / 100}, found),
    ):
        errors = []
        for many in (number, number - 1):
            ridge = predict(W, **at(many), rho=0.1, lam=1.0)[f"{test}_ridge"].item()
            ridge = ridge if lam is None else lam
            told = predict(W, **at(many), rho=0.1, lam=ridge)
            errors.append(told[f"{test}_error"].item())
        assert errors[0] <= 0.85 < errors[1]
        assert one.enough and abs(one.error - errors[0]) < 1e-9 and one.floor < 0.85


def test_target_below_the_floor_is_said_to_be():
    need = contexts_needed(W, 0.2, alpha=1.0, rho=0.1)
    assert need.n == np.inf and not need.enough and "no number of contexts" in need.says
    endless = predict(W, tau=1e7, alpha=1.0, rho=0.1).icl_least
    np.testing.assert_allclose(need.floor, endless, rtol=1e-5)
    assert tokens_needed(W, 0.05, tau=2.0, rho=0.1).ell == np.inf  # below the noise


@pytest.mark.parametrize(
    ("tasks", "more", "category", "said"),
    [
        (W * np.geomspace(0.2, 5, 200)[:, None], {}, FewDirectionsWarning, "directions"),
        (W[:12, :30], {"lam": 1.0}, RuntimeWarning, "with 12 tasks"),
        (W, {"tau": 1.01}, RuntimeWarning, "close to"),
        (W[:60], {"kappa": np.inf, "alpha": 1e3}, RuntimeWarning, "do not tell"),
        (SMALL, {"tokens": WHITE[:72]}, RuntimeWarning, "72 samples in 24"),
        (SMALL[:200], {"tokens": WHITE}, RuntimeWarning, "200 vectors in 24"),
        (SMALL.T @ SMALL / 480, {}, RuntimeWarning, "tasks are a symmetric matrix"),
    ],
)
def test_what_the_theory_does_not_cover_is_said(tasks, more, category, said):
    with pytest.warns(category, match=said):
        told = predict(tasks, **(AT | more))
    assert np.isnan(told.icl_error).item() == (said == "do not tell")


def test_simulation_is_made_unasked_where_it_is_quick():
    assert predict(SMALL, **AT, lam=0.1).runs == 4
    assert predict(SMALL, **AT, lam=0.1, runs=0).runs == 0
    assert predict(SMALL, **AT, lam=0.1, kappa=2.0).runs == 0
    long = predict(W, **AT, lam=np.geomspace(0.1, 1, 9))
    assert long.runs == 0 and "idg_error_simulated" not in long


def test_one_is_said_in_the_singular():
    assert contexts_needed(W, 50.0, alpha=1.0, rho=0.1).says.startswith("1 context suffices")
    assert tokens_needed(W, 50.0, tau=1.0, rho=0.1).says.startswith("1 token suffices")


def test_nothing_is_said_of_many_tasks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(W, **AT)
        predict(W, **AT, kappa=np.inf)


@pytest.mark.parametrize(
    ("tasks", "more", "error", "said"),
    [
        (W[0], {}, ValueError, r"tasks must have shape \(any, any\)"),
        (W[:1], {}, ValueError, "tasks must be at least 2 vectors"),
        (W * np.nan, {}, ValueError, "tasks must be finite"),
        (0 * W, {}, ValueError, "tasks must have"),
        (W, {"tau": -1.0}, ValueError, "tau must be positive"),
        (W, {"tau": np.inf}, ValueError, "tau must be finite"),
        (W, {"alpha": 1e-4}, ValueError, "alpha must be finite with ell"),
        (W, {"rho": -0.1}, ValueError, "rho must be finite and at least 0"),
        (W, {"lam": -0.1}, ValueError, "lam must be between"),
        (W, {"lam": "best"}, TypeError, "lam must be a real number"),
        (W, {"kappa": 0.0}, ValueError, "kappa must be positive"),
        (W, {"tau": [1.0, np.nan]}, ValueError, "must hold numbers"),
        (W, {"tokens": W[:, :9]}, ValueError, "tokens must have shape"),
        (W, {"test_tasks": W[:, :9]}, ValueError, "test_tasks must have shape"),
        (W, {"runs": 1}, ValueError, "runs must be 0, or at least 2"),
        (W, {"runs": 2, "kappa": 1.0}, ValueError, "runs must be 0 with kappa"),
    ],
)
def test_bad_input_is_refused_by_its_name(tasks, more, error, said):
    with pytest.raises(error, match=said):
        predict(tasks, **(AT | more))


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"target": 0.0}, ValueError, "target must be positive"),
        ({"target": [1.0, 2.0]}, ValueError, "target must be a single number"),
        ({"test": "both"}, ValueError, "test must be one of icl, idg"),
        ({"alpha": [1.0]}, ValueError, "alpha must be a single number"),
        ({"lam": -1.0}, ValueError, "lam must be between"),
    ],
)
def test_bad_needs_are_refused_by_their_name(more, error, said):
    with pytest.raises(error, match=said):
        contexts_needed(W, **({"target": 1.0, "alpha": 1.0, "rho": 0.1} | more))


def test_a_list_that_tells_too_little_sets_no_floor():
    with (
        pytest.warns(RuntimeWarning, match="with 12 tasks"),
        pytest.raises(ValueError, match="tasks must tell of errors down to the target 0.2, got 12"),
    ):
        tokens_needed(W[:12, :30], 0.2, tau=4.0, rho=0.1, kappa=np.inf)
