"""Simulation: reproducible and labelled.

Sweeps: the same numbers however they are computed, interrupted, killed, extended and resumed.
"""

import errno
import functools
import importlib.util
import io
import itertools
import linecache
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
import types
import warnings
from collections import Counter
from pathlib import Path

import joblib
import numpy as np
import pytest
import threadpoolctl
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from tqdm import tqdm

import iclkit.runs.many
from iclkit import _progress, backend
from iclkit.data import laws
from iclkit.runs import _identity, _store, _table, _workers
from iclkit.runs._store import load
from iclkit.runs.many import simulate, sweep
from iclkit.runs.one import linear_attention
from iclkit.theory.limit import icl_error, idg_error

POINT = {"d": 12, "tau": 0.5, "alpha": 1.0, "kappa": 0.5, "rho": 0.1}


def test_result_is_labelled():
    result = simulate(**POINT, lam=0.1, runs=3, seed=4)
    assert result.sizes == {"run": 3}
    errors = {"icl_error", "idg_error"}
    assert set(result.data_vars) == errors | {f"{error}_theory" for error in errors}
    assert {name: result.attrs[name] for name in POINT} == POINT
    assert (result.attrs["n"], result.attrs["k"], result.attrs["ell"]) == (72, 6, 12)
    assert result.attrs["lam"] == 0.1 and result.attrs["assignment"] == "uniform"
    assert np.all(result.icl_error > 0.1) and np.all(result.idg_error > 0.1)


def test_same_seed_same_result_and_more_runs_extend():
    first, longer = simulate(**POINT, runs=2, seed=1), simulate(**POINT, runs=4, seed=1)
    np.testing.assert_array_equal(first.icl_error, longer.icl_error[:2])
    assert len(np.unique(longer.icl_error)) == 4
    assert simulate(**POINT, runs=1, seed=2).icl_error[0] != first.icl_error[0]


def test_one_thread_and_the_former_number_again(monkeypatch):
    threads = []

    def measure(seed, **point):
        threads.extend(pool["num_threads"] for pool in threadpoolctl.threadpool_info())
        return {"icl_error": 1.0}

    monkeypatch.setattr(iclkit.runs.many, "linear_attention", measure)
    with threadpoolctl.threadpool_limits(2):
        before = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
        simulate(d=5, tau=1.0, alpha=1.0, kappa=1.0, rho=0.1, runs=2)
        after = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    assert set(threads) == {1} and after[: len(before)] == before


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tau": -1.0}, ValueError, "tau must be positive .*, got -1.0"),
        ({"runs": 0}, ValueError, "runs must be an integer of at least 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0, got -1"),
    ],
)
def test_bad_arguments(change, error, message):
    with pytest.raises(error, match=message):
        simulate(**(POINT | change))


def test_progress_is_quiet_unless_watched(capsys):
    simulate(**POINT, runs=2)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


# Sweeps: measures -----------------------------------------------------------------------------


def gaussian(seed, *, mean=1.0, sd=0.3, word="a"):
    """Two numbers of known mean. Where a log is wanted, the run is entered in it."""
    log(seed)
    first, second = np.random.default_rng(seed).standard_normal(2)
    return {"x": mean + sd * first, "y": mean + 0.1 * sd * second}


def log(seed):
    if "SWEEP_LOG" in os.environ:
        with open(os.environ["SWEEP_LOG"], "a") as stream:
            stream.write(f"{seed.spawn_key}\n")


def warner(seed, *, a):
    run = seed.spawn_key[-1]
    warnings.warn(f"parity {run % 2} at {a}", RuntimeWarning, stacklevel=1)
    return gaussian(seed)


def failing(seed, *, a):
    """Fail in run 0 at a = 2, and give NaN in run 3 at a = 3."""
    run = seed.spawn_key[-1]
    log(seed)
    if a == 2 and run == 0:
        raise KeyError("no such thing")
    return {"x": np.nan} if (a, run) == (3, 3) else {"x": a + 0.1 * gaussian(seed)["x"]}


def hopeless(seed, *, a):
    log(seed)
    raise TypeError(f"nothing works at {a}")


def fatal(seed, *, a):
    os.kill(os.getpid(), signal.SIGKILL)


def once_fatal(seed, *, a):
    """Kill the process that makes a certain run, the first time."""
    fuse = Path(os.environ["SWEEP_FUSE"])
    if a == 2 and seed.spawn_key[-1] == 3 and fuse.exists():
        fuse.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return gaussian(seed)


def held(seed, *, a, folder):
    """Enter the worker in a file, and after 20 runs wait while another file is there."""
    made, hold = Path(folder, "made"), Path(folder, "hold")
    with open(made, "a") as stream:
        stream.write(f"{os.getpid()}\n")
    while hold.exists() and len(made.read_text().splitlines()) >= 20:
        time.sleep(0.01)
    return gaussian(seed)


def where(seed, *, a):
    return {"pid": os.getpid(), "gpu": os.environ["ICLKIT_DEVICE"] == "gpu"}


def numbers(data):
    return data.drop_attrs()


def identical(a, b):
    return numbers(a).identical(numbers(b))


GRID = {"mean": [1.0, 2.0, 5.0], "sd": 0.3}


@pytest.fixture
def runs_made(tmp_path, monkeypatch):
    """Runs made so far, in order, as (point, run); in all processes."""
    file = tmp_path / "log"
    monkeypatch.setenv("SWEEP_LOG", str(file))

    def read():
        return [eval(line) for line in file.read_text().splitlines()] if file.exists() else []

    return read


# Sweeps: results ------------------------------------------------------------------------------


def test_sweep_repeats_linear_attention():
    grid = POINT | {"kappa": [0.5, np.inf], "d": 6, "assignment": "balanced"}
    data = sweep(linear_attention, grid, seed=3, runs=(2, 2), workers=1)
    for kappa in (0.5, np.inf):
        point = grid | {"kappa": kappa}
        seeds = [backend.child_seed(backend.child_seed(3, _table.key(point)), r) for r in (0, 1)]
        with threadpoolctl.threadpool_limits(1):
            alone = [linear_attention(seed, **point) for seed in seeds]
        for name in ("icl_error", "idg_error"):
            expected = [run[name] for run in alone]
            np.testing.assert_array_equal(data[f"{name}_run"].sel(kappa=kappa), expected)
    assert data.assignment == "balanced" and data.d == 6 and data.rho == 0.1


def test_simulate_repeats_linear_attention():
    runs = simulate(**POINT, runs=2, seed=5)
    with threadpoolctl.threadpool_limits(1):
        alone = [linear_attention(backend.child_seed(5, run), **POINT) for run in (0, 1)]
    np.testing.assert_array_equal(runs.icl_error, [run["icl_error"] for run in alone])


def test_simulate_says_what_the_theory_expects():
    point = {"d": 12, "tau": 2.0, "alpha": 1.0, "kappa": 1.0, "rho": 0.1, "lam": 0.1}
    found = simulate(**point, runs=40, assignment="balanced")
    assert found.icl_error_theory == icl_error(**point, assignment="balanced")
    assert found.idg_error_theory == idg_error(**point, assignment="balanced")
    spread = found.icl_error.std(ddof=1) / 40**0.5
    assert abs(found.icl_error.mean() - found.icl_error_theory) < 4 * spread
    other = simulate(**point, runs=2, prior="gaussian")
    assert other.idg_error_theory == idg_error(**point, prior="gaussian")
    below = simulate(**point | {"lam": -0.01, "tau": 4.0}, runs=2)
    assert set(below) == {"icl_error", "idg_error"}


def test_sweep_says_what_the_theory_expects(tmp_path):
    grid = {
        "d": xr.DataArray([6, 8], dims="size"), "tau": [0.5, 7 / 6, 2.0], "alpha": 1.0, "rho": 0.1,
        "assignment": ["uniform", "balanced"],
        "prior": ["sphere", "gaussian"],
    }  # fmt: skip
    words = grid["assignment"], grid["prior"]
    measure = functools.partial(linear_attention, kappa=1.0)
    kind = {"seed": 1, "runs": (2, 2), "workers": 1}
    found = sweep(measure, grid, tmp_path / "x.nc", **kind)
    assert found.identical(sweep(measure, grid, tmp_path / "x.nc", **kind))
    for name, error in (("icl_error", icl_error), ("idg_error", idg_error)):
        theory = found[f"{name}_theory"]
        assert set(theory.dims) == set(found[name].dims)
        for size, d in enumerate((6, 8)):
            for tau, how, prior in itertools.product(grid["tau"], *words):
                with warnings.catch_warnings(action="ignore"):
                    expected = error(tau, 1.0, 1.0, 0.1, d=d, assignment=how, prior=prior)
                one = theory.isel(size=size).sel(tau=tau, assignment=how, prior=prior)
                np.testing.assert_allclose(one, expected, rtol=1e-12)
    assert f"{name}_theory" not in load(tmp_path / "x.nc")


def test_sweep_says_nothing_of_what_is_not_measured():
    @functools.wraps(linear_attention)
    def gap(seed, **point):
        errors = linear_attention(seed, **point)
        return {"gap": errors["icl_error"] - errors["idg_error"]}

    found = sweep(gap, POINT, seed=1, runs=(2, 2), workers=1)
    assert set(found.data_vars) == {"gap", "gap_se", "gap_run", "runs"}


def test_structured_runs_say_what_they_are(tmp_path):
    vectors = laws.vectors(np.random.default_rng(0).standard_normal((7, 12)))
    result = simulate(
        **POINT, runs=2, tasks=vectors, test_tasks="power_law(0.5)", tokens=np.arange(1.0, 13.0)
    )
    told = {name: result.attrs[name] for name in ("tasks", "test_tasks", "tokens", "prior")}
    assert told == {
        "tasks": "7 vectors", "test_tasks": "power_law(0.5)", "tokens": "eigenvalues from 1 to 12",
        "prior": "picked",
    }  # fmt: skip
    assert "test_tokens" not in result.attrs and "alpha_test" not in result.attrs
    assert set(result.data_vars) == {"icl_error", "idg_error"}  # no theory at this size
    result.to_netcdf(tmp_path / "x.nc", engine="scipy")


def test_other_test_contexts_have_a_theory():
    """For tokens in whole numbers, as the run has them."""
    result = simulate(**POINT, runs=2, alpha_test=1.55, rho_test=0.2)
    with warnings.catch_warnings(action="ignore"):
        for name, error in (("icl_error", icl_error), ("idg_error", idg_error)):
            expected = error(**POINT, alpha_test=19 / 12, rho_test=0.2)
            assert result[f"{name}_theory"] == expected


def test_tasks_of_a_law_have_a_theory():
    grid = {name: POINT[name] for name in ("tau", "alpha", "rho")}
    grid |= {"kappa": 1.0, "d": [12, 16], "tasks": ["power_law(0.5)", "two_level(0.5, 0.5)"]}
    found = sweep(linear_attention, grid, seed=1, runs=(2, 2), workers=1)
    point = {name: POINT[name] for name in ("tau", "alpha", "rho")} | {"kappa": 1.0}
    with warnings.catch_warnings(action="ignore"):
        for d in grid["d"]:
            made = laws.power_law(0.5, d), laws.two_level(0.5, 0.5)
            for word, law in zip(grid["tasks"], made, strict=True):
                here = found.sel(d=d, tasks=word)
                assert here.icl_error_theory == pytest.approx(icl_error(**point, d=d, tasks=law))
                assert here.idg_error_theory == pytest.approx(idg_error(**point, d=d, tasks=law))
    one = simulate(**POINT, runs=2, tasks="power_law(0.5)")
    assert one.icl_error_theory > 0
    other = simulate(**POINT, runs=2, tasks="power_law(0.5)", test_tasks="isotropic")
    with warnings.catch_warnings(action="ignore"):
        how = {"tasks": laws.power_law(0.5, 12), "test_tasks": laws.isotropic()}
        assert other.icl_error_theory == icl_error(**POINT, **how)
    assert other.idg_error_theory == one.idg_error_theory
    for change in ({"prior": "sphere"}, {"tokens": "power_law(0.5)"}):
        assert "icl_error_theory" not in simulate(**POINT, runs=2, tasks="low_rank(0.5)", **change)


@pytest.mark.parametrize("law", ["low_rank(0.25)", laws.low_rank(0.25), "power_law(1.5)"])
def test_few_directions_are_told_beside_runs(law):
    point = POINT | {"tau": 0.2, "d": 24}
    with pytest.warns(laws.FewDirectionsWarning, match="tasks have .* directions") as told:
        simulate(**point, runs=2, tasks=law)
    assert {w.filename for w in told} == {__file__}


def test_sweep_takes_laws_in_words(tmp_path):
    """An exponent as the axis, and a law that is bound; and what one run gives alone."""
    nus, tokens = [0.25, 0.5], np.linspace(0.5, 1.5, 6)
    grid = {
        "d": 6, "tau": 0.5, "alpha": [1.0, 2.0], "kappa": 1.0, "rho": 0.1,
        "tasks": xr.DataArray([f"power_law({nu})" for nu in nus], coords={"nu": nus}, dims="nu"),
        "test_tasks": ["isotropic", "low_rank(0.5)"],
    }  # fmt: skip
    measure = functools.partial(linear_attention, tokens=tokens)
    with pytest.raises(TypeError, match="say what it is by name="):
        sweep(measure, grid, tmp_path / "x.nc", seed=1, runs=(2, 2), workers=1)
    kind = {"seed": 1, "runs": (2, 2), "workers": 1, "name": "six tokens"}
    found = sweep(measure, grid, tmp_path / "x.nc", **kind)
    assert found.identical(sweep(measure, grid, tmp_path / "x.nc", **kind))
    assert set(found.icl_error.dims) == {"alpha", "nu", "test_tasks"}
    assert found.icl_error_theory.isnull().all()
    one = found.sel(nu=0.5, alpha=2.0, test_tasks="isotropic")
    point = {name: one[name].item() for name in grid}
    seed = backend.child_seed(backend.child_seed(1, _table.key(point)), 0)
    assert one.icl_error_run[0] == measure(seed, **point)["icl_error"]
    with pytest.raises(ValueError, match="tasks must be a law, or in words"):
        sweep(measure, grid | {"tasks": ["power_law(0.5)", "cube"]}, seed=1, workers=1)


def test_theory_leaves_out_only_what_it_does_not_cover():
    """Next to n = d(d + 1), the first order has no digits, and no other point pays for that."""
    d = 1100
    n = d * (d + 1) + np.array([[1], [d], [d**2]])
    lam = np.array([-1e-3, 0, 1e-13, 0.1])
    point = {"alpha": 1.0, "kappa": 1.0, "rho": 0.1}
    for error in linear_attention.expected(d=d, tau=n / d**2, lam=lam, **point).values():
        there = np.isfinite(error)
        assert not there[:, 0].any() and not there[0, 1:3].any()
        assert there[1:, 1:].all() and there[0, 3]


def test_means_errors_and_counts_are_of_the_runs():
    data = sweep(gaussian, GRID, seed=1, precision=0.02, workers=1)
    assert data.sizes["mean"] == 3 and data.x.dims == ("mean",) and data.x_run.dims[1] == "run"
    for point in range(3):
        m = int(data.runs[point])
        for name in ("x", "y"):
            runs = data[f"{name}_run"].values[point]
            assert np.all(np.isfinite(runs[:m])) and np.all(np.isnan(runs[m:]))
            assert data[name][point] == runs[:m].mean()
            assert data[f"{name}_se"][point] == runs[:m].std(ddof=1) / np.sqrt(m)
    assert data.sizes["run"] == data.runs.max()
    assert len(np.unique(data.x_run)) == data.runs.sum() + 1  # and NaN


def test_runs_are_added_until_the_means_are_precise():
    data = sweep(gaussian, GRID, seed=1, precision=0.02, runs=(5, 2000), workers=1)
    for name in ("x", "y"):
        assert np.all(data[f"{name}_se"] <= 0.02 * abs(data[name]))
    assert data.runs[0] > data.runs[1] > data.runs[2] >= 5
    few = sweep(gaussian, GRID, seed=1, precision=1e-6, runs=(2, 7), workers=1)
    assert np.all(few.runs == 7) and few.unfinished == 0
    zero = sweep(gaussian, {"mean": 0.0, "sd": [0.0, 1.0]}, seed=1, runs=(2, 20), workers=1)
    assert zero.runs.values.tolist() == [2, 20]


def test_points_have_their_own_runs_in_any_grid():
    one = sweep(gaussian, {"mean": 2.0, "sd": 0.3}, seed=1, workers=1)
    many = sweep(gaussian, {"sd": [0.1, 0.3], "mean": [5, 2]}, seed=1, workers=1)
    same = many.sel(sd=0.3, mean=2)
    np.testing.assert_array_equal(one.x_run, same.x_run[: int(same.runs)])
    assert one.x == same.x and one.runs == same.runs
    assert sweep(gaussian, {"mean": 2.0, "sd": 0.3}, seed=2, workers=1).x != one.x
    z = (many.x_run - many["mean"]) / many.sd
    assert len(np.unique(z)) == many.runs.sum() + 1


def test_parameters_can_go_together():
    mean = xr.DataArray([1.0, 2.0, 5.0], dims="mean")
    data = sweep(gaussian, {"mean": mean, "sd": 0.1 * mean, "word": ["a", "b"]}, seed=1, workers=1)
    assert data.x.dims == ("mean", "word") and data.sd.dims == ("mean",)
    alone = sweep(
        gaussian, {"mean": 5.0, "sd": float(0.1 * mean[2]), "word": "b"}, seed=1, workers=1
    )
    assert data.x.sel(mean=5.0, word="b") == alone.x
    case = {
        "mean": xr.DataArray([1.0, 1.0], dims="case"),
        "sd": xr.DataArray([0.1, 0.2], dims="case"),
    }
    assert sweep(gaussian, case, seed=1, workers=1).x.dims == ("case",)


def test_standard_errors_are_those_of_the_means():
    means = np.linspace(1, 3, 200)
    data = sweep(gaussian, {"mean": means, "sd": 0.4}, seed=6, precision=0.03, workers=1)
    z = ((data.x - data["mean"]) / data.x_se).values
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    # Student's t with 9 degrees of freedom or more has a variance between 1 and 9/7.
    spread = z.std(ddof=1) ** 2
    assert 1 - 4 * np.sqrt(2 / z.size) < spread < 9 / 7 + 4 * 2 * np.sqrt(2 / z.size)


@settings(max_examples=10)
@given(st.randoms(use_true_random=False), st.integers(0, 1000), st.floats(0.02, 0.5))
def test_order_and_interruptions_do_not_matter(random, seed, precision):
    coords = _table.coordinates(GRID)
    kind = {"precision": precision, "runs": (3, 40)}

    def value(row, run):
        child = np.random.SeedSequence(seed, spawn_key=(row, run))
        return gaussian(child, **table.points[row])

    table = straight = _table.Table(coords, **kind)
    while missing := straight.missing():
        for row, run in missing:
            straight.add(row, run, value(row, run))

    table = _table.Table(coords, **kind)
    while missing := table.missing():
        random.shuffle(missing)
        for row, run in missing[: random.randint(1, len(missing))]:
            table.add(row, run, value(row, run))
        stored = _store.decode(_store.encode(table.dataset()))
        table = _table.Table(coords, **kind)
        table.take(stored)
    assert identical(table.dataset(), straight.dataset())


# Sweeps: workers ------------------------------------------------------------------------------


def test_workers_do_not_matter():
    grid = POINT | {"d": [6, 16], "tau": [0.5, 2.0]}
    options = {"seed": 3, "precision": 0.1, "runs": (3, 12)}
    alone = sweep(linear_attention, grid, **options, workers=1)
    assert identical(sweep(linear_attention, grid, **options, workers=2), alone)


@pytest.mark.parametrize("workers", [1, 2])
def test_warnings_come_through_once(workers):
    with pytest.warns(RuntimeWarning) as caught:
        sweep(warner, {"a": [1, 2]}, seed=1, workers=workers)
    messages = Counter(str(w.message) for w in caught)
    assert messages == {f"parity {p} at {a}": 1 for p in (0, 1) for a in (1, 2)}
    assert {w.filename for w in caught} == {__file__}


def test_threads_keep_their_warnings_apart():
    with (
        joblib.parallel_config(backend="threading", n_jobs=2),
        pytest.warns(RuntimeWarning) as caught,
    ):
        sweep(warner, {"a": [1, 2]}, seed=1, runs=(30, 30))
    assert len(caught) == 4


def threads():
    return {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}


def test_what_a_run_sets_is_taken_back(monkeypatch):
    """In this process and in a worker, which runs what `_run` is given."""
    seen = []

    def measure(seed, *, a):
        seen.append((threads(), os.environ["ICLKIT_DEVICE"]))
        return {"x": 1.0}

    monkeypatch.delenv("ICLKIT_DEVICE")
    monkeypatch.setattr(backend, "namespace", lambda device=None: np)
    with threadpoolctl.threadpool_limits(2):
        before, show = threadpoolctl.threadpool_info(), warnings.showwarning
        sweep(measure, {"a": 1}, seed=1, runs=(2, 2), workers=1)
        assert seen == 2 * [({1}, "cpu")] and threadpoolctl.threadpool_info() == before
        outcome = _workers._run(_workers.Task(measure, 1, {"a": 1}, 0, 0), "gpu")
        assert outcome.failure is None and outcome.values == {"x": 1.0}
        assert seen[2:] == [({1}, "gpu")] and threadpoolctl.threadpool_info() == before
        assert warnings.showwarning is show
    assert "ICLKIT_DEVICE" not in os.environ


def test_sweeps_in_threads_leave_each_other_alone(monkeypatch):
    """The first to come is the first to go, while the other is in the middle of a run."""
    monkeypatch.delenv("ICLKIT_DEVICE")
    monkeypatch.setattr(backend, "namespace", lambda device=None: np)
    first_runs, second_runs, first_is_over, seen = *(threading.Event() for _ in range(3)), []

    def first(seed, *, a):
        first_runs.set()
        second_runs.wait()
        return {"x": 1.0}

    def second(seed, *, a):
        second_runs.set()
        first_is_over.wait()
        seen.append((threads(), os.environ["ICLKIT_DEVICE"]))
        warnings.warn("of the second", RuntimeWarning, stacklevel=1)
        return {"x": 1.0}

    def start(measure, after, over):
        after.wait()
        sweep(measure, {"a": 1}, seed=1, runs=(2, 2), workers=1)
        over.set()

    begin = threading.Event()
    begin.set()
    with (
        threadpoolctl.threadpool_limits(2),
        pytest.warns(RuntimeWarning, match="of the second") as caught,
    ):
        before, show = threadpoolctl.threadpool_info(), warnings.showwarning
        both = [
            threading.Thread(target=start, args=(first, begin, first_is_over)),
            threading.Thread(target=start, args=(second, first_runs, threading.Event())),
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert threadpoolctl.threadpool_info() == before and warnings.showwarning is show
    assert seen == 2 * [({1}, "cpu")] and len(caught) == 1
    assert "ICLKIT_DEVICE" not in os.environ


def test_a_run_may_sweep(tmp_path):
    def outer(seed, *, a):
        warnings.warn("before", RuntimeWarning, stacklevel=1)
        inner = sweep(gaussian, {"mean": a}, seed=1, runs=(2, 2), workers=1)
        warnings.warn("after", RuntimeWarning, stacklevel=1)
        return {"x": float(inner.x)}

    with pytest.warns(RuntimeWarning) as caught:
        sweep(outer, {"a": [1.0, 2.0]}, seed=1, runs=(2, 2), workers=1)
    assert sorted(str(w.message) for w in caught) == ["after", "before"]


def test_one_process_feeds_a_gpu(monkeypatch):
    fake = types.ModuleType("fake")
    runtime = types.SimpleNamespace(getDeviceProperties=lambda number: {"name": b"Fake 100"})
    fake.cuda = types.SimpleNamespace(runtime=runtime)
    monkeypatch.setattr(backend, "namespace", lambda device=None: fake)
    data = sweep(where, {"a": [1, 2]}, seed=1, runs=(3, 3), workers=2)
    assert np.all(data.pid_run == os.getpid()) and np.all(data.gpu_run == 1)
    assert data.device == "gpu, Fake 100"
    assert os.environ["ICLKIT_DEVICE"] == "cpu"


def test_a_worker_of_a_cluster_is_killed(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    fuse = tmp_path / "fuse"
    monkeypatch.setenv("SWEEP_FUSE", str(fuse))
    monkeypatch.delenv("ICLKIT_DEVICE")
    options = {"seed": 1, "precision": 0.05, "runs": (5, 60)}
    alone = sweep(once_fatal, {"a": [1, 2, 3]}, **options, workers=1)
    fuse.touch()
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        killed = sweep(once_fatal, {"a": [1, 2, 3]}, tmp_path / "x.nc", **options)
        assert not fuse.exists()
        with pytest.raises(RuntimeError, match="run 0 at a=2 failed: KeyError: 'no such thing'"):
            sweep(failing, {"a": [1, 2, 3]}, **options)
        assert set(client.run(os.environ.get, "ICLKIT_DEVICE").values()) == {None}
        cluster.scheduler.allowed_failures = 0  # what is lost says nothing about the run
        with pytest.raises(RuntimeError, match="run . at a=1 was lost with its worker"):
            sweep(fatal, {"a": 1}, **options, skip=True)
    assert identical(killed, alone)


# Sweeps: files --------------------------------------------------------------------------------


def test_finished_sweep_is_read_not_made(tmp_path, runs_made):
    file = tmp_path / "x.nc"
    first = sweep(gaussian, GRID, file, seed=1, workers=1)
    raw, count = file.read_bytes(), len(runs_made())
    assert count == first.runs.sum()
    assert sweep(gaussian, GRID, file, seed=1, workers=1).identical(first)
    assert load(file).identical(first) and first.attrs["unfinished"] == 0
    assert file.read_bytes() == raw and len(runs_made()) == count
    assert identical(sweep(gaussian, GRID, seed=1, workers=1), first)
    assert set(os.listdir(tmp_path)) <= {"x.nc", ".x.nc.lock", "log"}


def test_grid_grows_and_precision_tightens(tmp_path, runs_made):
    file = tmp_path / "x.nc"
    sweep(gaussian, {"mean": [2.0, 5.0], "sd": 0.3}, file, seed=1, workers=1)
    more = {"sd": [0.1, 0.3], "mean": [1.0, 5.0, 2.0]}
    grown = sweep(gaussian, more, file, seed=1, workers=1)
    assert max(Counter(runs_made()).values()) == 1
    assert identical(grown, sweep(gaussian, more, seed=1, workers=1))
    before = len(runs_made())
    tight = sweep(gaussian, more, file, seed=1, precision=0.005, runs=(12, 3000), workers=1)
    assert tight.runs.sum() == grown.runs.sum() + len(runs_made()) - before
    assert identical(
        tight, sweep(gaussian, more, seed=1, precision=0.005, runs=(12, 3000), workers=1)
    )
    assert tight.precision == 0.005
    loose = sweep(gaussian, more, file, seed=1, precision=0.1, workers=1)
    assert identical(loose, tight) and loose.precision == 0.1


def test_runs_are_on_disk_soon(tmp_path, monkeypatch):
    monkeypatch.setattr(_store, "_PATIENCE", 0.05)
    file, made = tmp_path / "x.nc", []

    def patient(seed, *, a):
        while made and not (file.exists() and np.isfinite(load(file).x_run).sum() == len(made)):
            time.sleep(0.01)
        made.append(seed)
        return gaussian(seed)

    data = sweep(patient, {"a": [1, 2]}, file, seed=1, runs=(4, 4), workers=1, name="patient")
    assert data.runs.sum() == len(made) == 8


@pytest.mark.parametrize("cost", [0.001, 0.2, 5.0])
def test_writes_take_a_small_share_of_the_time(cost, tmp_path, monkeypatch):
    """By a clock that only writes and runs move; a late write comes with the run after it."""
    now, written = [100.0], []

    class Late:
        daemon = False

        def __init__(self, wait, call):
            self.due, self.call = now[0] + wait, call

        def start(self):
            waiting.append(self)

        def cancel(self):
            waiting.remove(self)

    def encode(data):
        now[0] += cost
        written.append(now[0])
        return b""

    waiting = []
    monkeypatch.setattr(_store, "monotonic", lambda: now[0])
    monkeypatch.setattr(_store, "encode", encode)
    monkeypatch.setattr(_store.threading, "Timer", Late)
    monkeypatch.setattr(_store.threading, "current_thread", lambda: waiting[0])
    with _store.Store(tmp_path / "x.nc", lambda: None) as store:
        for _ in range(20_000):
            now[0] += 0.01
            if waiting and waiting[0].due <= now[0]:
                waiting[0].call()
            store.write_soon()
            assert len(waiting) <= 1
    elapsed = now[0] - 100
    assert written[0] == 100.01 + cost  # at once
    assert 0.5 * elapsed <= len(written) * max(1, cost / 0.03) <= 1.01 * elapsed + 2 * cost / 0.03


def test_many_cheap_points_are_written_and_looked_at_in_proportion(tmp_path, monkeypatch):
    monkeypatch.setattr(_store, "_PATIENCE", 1e9)
    looks, writes = [], []
    summary, replace = _table._mean_and_error, os.replace
    monkeypatch.setattr(_table, "_mean_and_error", lambda x: looks.append(len(x)) or summary(x))
    monkeypatch.setattr(_store.os, "replace", lambda a, b: writes.append(b) or replace(a, b))
    means = np.linspace(1, 3, 300)
    data = sweep(gaussian, {"mean": means, "sd": 0.05}, tmp_path / "x.nc", seed=1, workers=1)
    assert data.unfinished == 0 and len(writes) == 2
    # Of both names at every point: at the end of each round, and at each write.
    assert len(looks) <= 2 * 300 * 5 and sum(looks) <= 5 * 2 * int(data.runs.sum())


def test_long_points_are_looked_at_in_proportion(monkeypatch):
    looks = []
    summary = _table._mean_and_error
    monkeypatch.setattr(_table, "_mean_and_error", lambda x: looks.append(len(x)) or summary(x))
    data = sweep(gaussian, {"sd": 30.0}, seed=1, precision=1e-9, runs=(2, 3000), workers=1)
    assert data.runs == 3000 and sum(looks) < 12 * 2 * 3000


def imported(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = """
import os, sys, time
import numpy as np
from iclkit.runs import load, sweep

def measure(seed, *, a):
    with open(os.environ["SWEEP_LOG"], "a") as stream:
        stream.write(f"{seed.spawn_key}\\n")
    if __name__ == "__main__":
        wait_after(40)
    return {"x": a + np.random.default_rng(seed).standard_normal()}

def wait_after(runs):
    made = open(os.environ["SWEEP_LOG"]).read().count("\\n") - 1
    if made == runs:
        while np.isfinite(load(sys.argv[1]).x_run).sum() < made:
            time.sleep(0.01)
        print("kept", flush=True)
        sys.stdin.read()

def run(file, workers):
    kind = dict(seed=4, precision=0.05, runs=(6, 30), workers=workers)
    return sweep(measure, {"a": [3.0, 4.0, 5.0, 6.0]}, file, **kind)

if __name__ == "__main__":
    run(sys.argv[1], 1)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_killed_sweep_is_resumed(tmp_path, runs_made):
    script, file = tmp_path / "experiment.py", tmp_path / "x.nc"
    script.write_text(SCRIPT)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, script, file], **pipes) as child:
        try:
            assert child.stdout.readline() == b"kept\n"  # after 40 runs, in the middle of another
            module = imported(script)
            with pytest.raises(RuntimeError, match=f"another sweep is writing {file}"):
                module.run(file, 1)
        finally:
            child.kill()
    assert child.returncode == -signal.SIGKILL

    stored, logged = load(file), runs_made()
    assert 0 < stored.unfinished and len(logged) == 41
    keys = [_table.key({"a": a}) for a in stored.a.values]
    kept = {(keys[p], int(r)) for p, r in np.argwhere(np.isfinite(stored.x_run.values))}
    assert kept == set(logged[:40])
    (tmp_path / ".x.nc.part").write_bytes(b"half a file")

    resumed, again = module.run(file, 1), runs_made()[len(logged) :]
    assert not kept & set(again) and len(set(again)) == len(again)
    assert len(kept) + len(again) == resumed.runs.sum()
    assert identical(resumed, module.run(None, 1))
    assert resumed.measure.startswith("experiment.measure, source ")
    assert resumed.wall_time > stored.wall_time and resumed.unfinished == 0


@pytest.mark.usefixtures("_heard")
@pytest.mark.skipif(os.name == "nt", reason="no signal 0 on Windows")
def test_interrupted_sweep_stops_its_workers_and_keeps_their_runs(tmp_path, monkeypatch):
    # But for the first, what is on disk at the end is written on the way out.
    monkeypatch.setattr(_store, "_PATIENCE", 1e9)
    file, made, hold = tmp_path / "x.nc", tmp_path / "made", tmp_path / "hold"
    grid = {"a": [1, 2, 3], "folder": str(tmp_path)}
    kind = {"seed": 1, "precision": 0.01, "runs": (30, 30)}
    entered, over, add = [], threading.Event(), _table.Table.add

    def enter(table, *arguments):
        add(table, *arguments)
        entered.append(arguments)

    def interrupt():
        while len(entered) < 18 and not over.wait(0.01):
            pass
        if not over.is_set():
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(_table.Table, "add", enter)
    hold.touch()
    watcher = threading.Thread(target=interrupt)
    watcher.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            sweep(held, grid, file, **kind, workers=2)
    finally:
        over.set()
        watcher.join()
    workers = [int(pid) for pid in made.read_text().split()]
    for pid in set(workers):  # each ends, though it was held
        while alive(pid):
            time.sleep(0.01)
    hold.unlink()
    stored = load(file)
    kept = int(np.isfinite(stored.x_run).sum())
    assert 18 <= len(entered) == kept < len(workers) <= 21 and stored.unfinished > 0
    resumed = sweep(held, grid, file, **kind, workers=1)
    assert np.all(resumed.runs == 30)
    assert len(made.read_text().split()) == len(workers) + 90 - kept
    was, now = stored.x_run.values, resumed.x_run.values[..., : stored.sizes["run"]]
    np.testing.assert_array_equal(np.where(np.isnan(was), now, was), now)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_link_stays_a_link(tmp_path, monkeypatch):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target.nc", tmp_path / "x.nc"
    link.symlink_to(target)
    first = sweep(gaussian, GRID, link, seed=1, runs=(2, 2), workers=1)
    assert link.is_symlink() and load(target).identical(first)
    more = sweep(gaussian, GRID, link, seed=1, runs=(3, 3), workers=1)
    assert link.is_symlink() and load(target).identical(more) and np.all(more.runs == 3)
    assert set(os.listdir(tmp_path)) == {"far", "x.nc"}

    def wander(seed, *, a):
        os.chdir(tmp_path)
        return gaussian(seed)

    monkeypatch.chdir(tmp_path / "far")
    sweep(wander, {"a": 1}, "y.nc", seed=1, runs=(2, 2), workers=1, name="wander")
    assert (tmp_path / "far" / "y.nc").exists() and not (tmp_path / "y.nc").exists()


def test_finished_sweep_is_returned_where_nothing_can_be_written(tmp_path, monkeypatch):
    file = tmp_path / "x.nc"
    first = sweep(gaussian, GRID, file, seed=1, runs=(2, 2), workers=1)
    (tmp_path / ".x.nc.lock").unlink(missing_ok=True)

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert sweep(gaussian, GRID, file, seed=1, runs=(2, 2), workers=1).identical(first)
    with pytest.raises(PermissionError) as caught:
        sweep(gaussian, GRID, file, seed=1, runs=(3, 3), workers=1)
    assert caught.value.__notes__ == [f"file must lie in a folder that can be written, got {file}"]


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_is_told_and_leaves_no_part(tmp_path, monkeypatch):
    file = tmp_path / "x.nc"
    with monkeypatch.context() as patch:
        patch.setattr(_store.os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            sweep(gaussian, GRID, file, seed=1, runs=(2, 2), workers=1)
    assert caught.value.__notes__ == [f"while writing {file}"]
    assert set(os.listdir(tmp_path)) <= {".x.nc.lock"}
    data = sweep(gaussian, GRID, file, seed=1, runs=(2, 2), workers=1)
    assert identical(data, sweep(gaussian, GRID, seed=1, runs=(2, 2), workers=1))


def test_nothing_is_written_after_the_lock_is_given_back(tmp_path):
    """By a timer that was cancelled when it had already begun, and had waited since."""
    file = tmp_path / "x.nc"
    with _store.Store(file, lambda: xr.Dataset({"x": 1.0})) as store:
        store.write_soon()
        store.write_soon()
        late = store._timer
    file.unlink()
    late.function()
    assert not file.exists()


def test_a_late_write_that_fails_is_made_up_for(tmp_path, monkeypatch):
    monkeypatch.setattr(_store, "_PATIENCE", 0.01)
    file, state = tmp_path / "x.nc", [0.0]
    with _store.Store(file, lambda: xr.Dataset({"x": state[0]})) as store:
        store.write_soon()
        state[0] = 1.0
        with monkeypatch.context() as patch:
            patch.setattr(_store.os, "fsync", full)
            store.write_soon()
            late = store._timer
            late.join()  # an error that it does not catch is one of this test
        assert load(file).x == 0.0
        store.write_soon()
        assert load(file).x == 1.0
        state[0] = 2.0
        with monkeypatch.context() as patch:
            patch.setattr(_store.os, "fsync", full)
            store.write_soon()
            store._timer.join()
            with pytest.raises(OSError, match="No space left"):
                store.write_soon()
    assert load(file).x == 2.0


def test_damage_is_found(tmp_path):
    file = tmp_path / "x.nc"
    sweep(gaussian, GRID, file, seed=1, workers=1, runs=(2, 3))
    raw = file.read_bytes()
    for length in {0, 1, 4, 100, len(raw) // 2, len(raw) - 1}:
        file.write_bytes(raw[:length])
        with pytest.raises(ValueError, match=f"{file} .*delete it and run the sweep again"):
            load(file)
    for bit in np.random.default_rng(0).permutation(8 * len(raw))[:500]:
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            load(file)
    with pytest.raises(ValueError, match="damaged"):
        sweep(gaussian, GRID, file, seed=1, workers=1, runs=(2, 3))
    file.write_bytes(raw + b"more")
    with pytest.raises(ValueError, match="damaged"):
        load(file)
    file.write_bytes(raw)
    load(file)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "y.nc")


def renamed(seed, *, mean, sd):
    return gaussian(seed, mean=mean, sd=sd)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "has seed 1, not 2"),
        ({"measure": renamed}, r"has measure test_many\.gaussian, .*, not test_many\.renamed"),
        (
            {"measure": functools.partial(gaussian, word="b")},
            r"has measure test_many\.gaussian, .*, not test_many\.gaussian\(word='b'\)",
        ),
        ({"name": "others"}, r"has measure test_many\.gaussian, .*, not others"),
        (
            {"grid": {"mean": [1.0, 2.0], "sd": 0.3}},
            r"has the point mean=5\.0, sd=0\.3, which is not",
        ),
        ({"grid": GRID | {"sd": 0.4}}, r"has the point mean=1\.0, sd=0\.3, which is not in grid"),
        ({"grid": GRID | {"word": "b"}}, "has parameters mean, sd, not mean, sd, word"),
    ],
)
def test_file_of_another_sweep_is_refused(change, message, tmp_path):
    file = tmp_path / "x.nc"
    kind = {"measure": gaussian, "grid": GRID, "file": file, "seed": 1, "workers": 1}
    sweep(**kind, runs=(2, 2))
    raw = file.read_bytes()
    with pytest.raises(ValueError, match=f"{re.escape(str(file))} {message}.*give another file"):
        sweep(**(kind | change), runs=(2, 2))
    assert file.read_bytes() == raw


def test_runs_of_a_round_that_became_needless_are_dropped():
    """Interrupted on the way to many runs, then asked for less."""
    coords = _table.coordinates({"mean": [1.0, 2.0], "sd": 0.3})
    table = _table.Table(coords, precision=0.01, runs=(4, 1000))
    for row, runs in enumerate([(0, 1, 2, 3, 5, 6, 9), range(10)]):
        for run in runs:
            table.add(row, run, gaussian(np.random.SeedSequence(run)))
    eager = _table.Table(coords, precision=10.0, runs=(4, 1000))
    eager.take(table.dataset())
    data = eager.dataset()
    assert data.runs.values.tolist() == [4, 10] and not eager.missing()
    assert np.isfinite(data.x_run).sum("run").values.tolist() == [4, 10]
    assert data.x[0] == data.x_run.values[0, :4].mean()
    tight = _table.Table(coords, precision=0.01, runs=(4, 1000))
    tight.take(data)
    assert (0, 5) in tight.missing()


def test_the_first_run_of_every_point_comes_first(runs_made):
    table = _table.Table(_table.coordinates(GRID), precision=0.01, runs=(3, 9))
    assert table.missing()[:3] == [(0, 0), (1, 0), (2, 0)]
    sweep(gaussian, GRID, seed=1, runs=(3, 3), workers=1)
    assert [run for _, run in runs_made()] == [0, 0, 0, 1, 2, 1, 2, 1, 2]
    # In a later session, too, where other points are further.
    for row, run in [(0, 0), (0, 1), (2, 0)]:
        table.add(row, run, {"x": 1.0})
    assert table.missing()[:3] == [(0, 2), (1, 0), (2, 1)]


# Sweeps: whose a file is ----------------------------------------------------------------------

SOURCE = """
SCALE = {scale}

def other(x):
    return x

def measure(seed, *, a, b=SCALE, c=None):
    return {{"x": a + b, "y": 1e-3}}
"""
SAME = [
    ("def measure(seed, *, a, b=SCALE, c=None):", "def measure(seed, *, a, b=SCALE, c=None):  # c"),
    ("c=None):", "c: None = None) -> dict:"),
    ("    return {{", '    """What it does."""\n    return {{'),
    ('{{"x": a + b, "y": 1e-3}}', "{{'x': (a + b),\n            'y': .001}}"),
    ("return x", "return x + 1"),  # what it calls is not looked at
]
OTHER = [
    ("a + b", "b + a"),
    ("1e-3", "1e-4"),
    ("1e-3", "True"),
    ("1e-3", "None"),
    ('"y"', '"z"'),
    ("a + b", "a - b"),
    ("c=None", "c=1"),
    ("    return {{", "    a = 1\n    return {{"),
    ("def measure(", "@staticmethod\ndef measure("),
    ("{scale}", "2.5"),
    ("{scale}", "2"),
]


@pytest.fixture
def written(tmp_path):
    def write(old, new):
        file = tmp_path / "measures.py"
        file.write_text(SOURCE.replace(old, new).format(scale="2.0"))
        linecache.checkcache()
        return imported(file).measure

    return write


@pytest.mark.parametrize(("old", "new"), SAME)
def test_a_measure_is_the_same(old, new, written, tmp_path):
    first = sweep(written("", ""), {"a": 1}, tmp_path / "x.nc", seed=1, workers=1)
    again = sweep(written(old, new), {"a": 1}, tmp_path / "x.nc", seed=1, workers=1)
    assert again.identical(first)


@pytest.mark.parametrize(("old", "new"), OTHER)
def test_a_measure_is_another(old, new, written, tmp_path):
    first = sweep(written("", ""), {"a": 1}, tmp_path / "x.nc", seed=1, workers=1)
    with pytest.raises((ValueError, TypeError), match="measure") as caught:
        sweep(written(old, new), {"a": 1}, tmp_path / "x.nc", seed=1, workers=1)
    # The way out that the message shows.
    vouched = re.search("name='(measures.measure, source [0-9a-f]{16})'", str(caught.value))
    if vouched:
        edited = sweep(
            written(old, new), {"a": 1}, tmp_path / "x.nc", seed=1, workers=1, name=vouched[1]
        )
        assert edited.identical(first)


def test_a_digest_outlives_versions(written):
    """Of Python, and of this function: stored results would be disowned."""
    assert _identity.identify(written("", "")) == "measures.measure, source 43d91597fb74a641"


@given(*2 * [st.none() | st.booleans() | st.integers() | st.floats() | st.text()])
def test_bound_values_are_part_of_a_measure(one, two):
    same = repr(one) == repr(two)
    first, second = (functools.partial(gaussian, word=value) for value in (one, two))
    assert (_identity.identify(first) == _identity.identify(second)) == same


class Callable:
    def __call__(self, seed, *, a):
        return gaussian(seed)

    def method(self, seed, *, a):
        return gaussian(seed)


def make(scale):
    def measure(seed, *, a, scale=scale):
        return {"x": scale * a}

    return measure


def decorated(seed, *, a):
    return gaussian(seed)


def wrapped(function):
    @functools.wraps(function)
    def wrapper(seed, *, a):
        return function(seed, a=a)

    return wrapper


def bound(seed, *, a, to):
    return gaussian(seed)


def defaulted(seed, *, a, by=gaussian):
    return by(seed)


exec("def unseen(seed, *, a):\n    return {'x': 1.0}")


@pytest.mark.parametrize(
    "measure",
    [
        lambda seed, *, a: gaussian(seed),
        make(1.0),
        functools.partial(make(1.0), scale=1),
        Callable(),
        Callable().method,
        functools.cache(decorated),
        wrapped(decorated),
        defaulted,
        unseen,  # noqa: F821
        functools.partial(defaulted, by=gaussian),
        functools.partial(bound, to=np.ones(1)),
        functools.partial(bound, to=[1.0]),
    ],
)
def test_what_cannot_be_told_apart_needs_a_name(measure, tmp_path):
    file = tmp_path / "x.nc"
    kind = {"measure": measure, "grid": {"a": 1}, "seed": 1, "runs": (2, 2), "workers": 1}
    with pytest.raises(TypeError, match="measure (is not|has) .* say what it is by name=, got"):
        sweep(file=file, **kind)
    assert os.listdir(tmp_path) == []
    alone = sweep(**kind)
    assert identical(sweep(file=file, **kind, name="mine"), alone)
    assert load(file).measure == "mine"
    with pytest.raises(ValueError, match="has measure mine, not yours: give another file, or name"):
        sweep(file=file, **kind, name="yours")


def test_a_partial_is_checked_and_binds(tmp_path):
    bound = functools.partial(linear_attention, d=6, tau=0.5, alpha=1.0, rho=0.1, kappa=1.0)
    kind = {"seed": 1, "runs": (2, 2), "workers": 1}
    with pytest.raises(ValueError, match="kappa must be finite with k"):
        sweep(bound, {"kappa": [0.5, 0.01]}, **kind)
    data = sweep(bound, {"kappa": 0.5}, tmp_path / "x.nc", **kind)
    assert data.measure.startswith(
        "iclkit.runs.one.linear_attention(alpha=1.0, d=6, kappa=1.0, rho=0.1, tau=0.5), source "
    )
    alone = linear_attention(
        backend.child_seed(backend.child_seed(1, _table.key({"kappa": 0.5})), 0),
        d=6, tau=0.5, alpha=1.0, rho=0.1, kappa=0.5,
    )  # fmt: skip
    assert data.icl_error_run[0] == alone["icl_error"]


def test_file_of_another_version_is_refused(tmp_path, monkeypatch):
    sweep(gaussian, GRID, tmp_path / "x.nc", seed=1, workers=1, runs=(2, 2))
    monkeypatch.setattr(iclkit.runs.many, "__version__", "9.9")
    with pytest.raises(ValueError, match="has version .*, not 9.9"):
        sweep(gaussian, GRID, tmp_path / "x.nc", seed=1, workers=1, runs=(2, 2))


# Sweeps: provenance, arguments, progress ------------------------------------------------------


def test_provenance_is_complete_and_impersonal(tmp_path, monkeypatch):
    file = tmp_path / "x.nc"
    first = sweep(gaussian, GRID, file, seed=2**40, precision=0.5, runs=(2, 30), workers=1)
    about = first.attrs
    assert about["seed"] == str(2**40) and about["measure"].startswith("test_many.gaussian, ")
    assert (about["precision"], about["least_runs"], about["most_runs"]) == (0.5, 2, 30)
    assert about["version"] == iclkit.__version__ and about["numpy"] == np.__version__
    assert about["device"].startswith("cpu, ") and about["parameters"] == "mean, sd"
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", about["commit"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", about["date"]) and about["wall_time"] > 0
    assert about.keys() >= {"python", "scipy", "digest", "unfinished"}
    for secret in (platform.node(), os.getcwd(), str(tmp_path), str(Path.home())):
        assert secret == "/" or secret.encode() not in file.read_bytes()

    monkeypatch.setattr(_store, "_commit", lambda: "elsewhere")
    second = sweep(gaussian, GRID, file, seed=2**40, precision=0.1, runs=(2, 30), workers=1)
    assert second.commit == f"{about['commit']}; elsewhere" and second.numpy == about["numpy"]
    assert second.wall_time > first.wall_time and second.unfinished == 0


def test_commit_is_of_the_checkout(tmp_path, monkeypatch):
    def git(*arguments):
        name = ["-c", "user.name=a", "-c", "user.email=b@c", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", tmp_path, *name, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    # As deep in the checkout as the module really is.
    place = Path(_store.__file__).relative_to(Path(iclkit.__file__).parents[1])
    package = (tmp_path / place).parent
    package.mkdir(parents=True)
    monkeypatch.setattr(_store, "__file__", str(package / "_store.py"))
    assert _store._commit() == "unknown"
    git("init", "--quiet")
    (package / "_store.py").touch()
    results = tmp_path / "book" / "data" / "old.nc"
    results.parent.mkdir(parents=True)
    results.touch()
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    git("tag", "v1")
    assert _store._commit() == git("rev-parse", "HEAD")
    (package / "new.py").touch()
    results.unlink()  # what is to be computed anew; it was -dirty
    assert _store._commit() == git("rev-parse", "HEAD")
    (package / "_store.py").write_text("changed")
    assert _store._commit() == git("rev-parse", "HEAD") + "-dirty"
    monkeypatch.setattr(_store, "__file__", str(package / "deep" / "down" / "_store.py"))
    assert _store._commit() == "unknown"
    monkeypatch.setenv("PATH", "")
    assert _store._commit() == "unknown"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0, got -1"),
        ({"precision": 0.0}, ValueError, "precision must be positive"),
        ({"runs": 10}, TypeError, "runs must be two integers, .*, got 10"),
        ({"runs": (1, 5)}, ValueError, r"runs\[0\] must be an integer of at least 2, got 1"),
        ({"runs": (5, 4)}, ValueError, r"runs\[1\] must be an integer of at least 5, got 4"),
        ({"workers": 0}, ValueError, "workers must be an integer of at least 1, got 0"),
        ({"measure": 3}, TypeError, "measure must be a function, got 3"),
        ({"measure": held}, TypeError, "measure must take a seed and what is in grid: missing"),
        ({"measure": max}, TypeError, "measure must take a seed and what is in grid: no signature"),
        (
            {"measure": functools.partial(gaussian, 1)},
            TypeError,
            "measure must bind parameters by their names, got functools.partial",
        ),
        ({"name": " "}, ValueError, "name must be words that can be printed, got ' '"),
        ({"name": "a\n"}, ValueError, "name must be words that can be printed, got 'a.n'"),
        ({"name": 3}, ValueError, "name must be words that can be printed, got 3"),
        ({"skip": 1}, TypeError, "skip must be True or False, got 1"),
        ({"grid": {}}, ValueError, "grid must map at least one parameter to its values, got {}"),
        *(
            (
                {"grid": {name: 1}},
                ValueError,
                f"grid must have names of parameters .*, got {name!r}",
            )
            for name in ("seed", "run", "failed", "τ", "a b", "", "1x", "x/y", 3)
        ),
        *(
            (
                {"grid": {"mean": xr.DataArray([1.0], dims=dim)}},
                ValueError,
                r"grid\['mean'\] must have names of dimensions made of .* other than .*run.*, got",
            )
            for dim in ("run", "τ", "a b", "", "failed")
        ),
        ({"grid": {"mean": []}}, ValueError, r"grid\['mean'\] must hold at least one value"),
        ({"grid": {"mean": [1, np.nan]}}, ValueError, r"grid\['mean'\] must hold numbers .*nan"),
        (
            {"grid": {"mean": [1, 2, 1]}},
            ValueError,
            r"grid\['mean'\] must hold each value once, got 1",
        ),
        ({"grid": {"mean": [[1, 2]]}}, ValueError, r"got an array of shape \(1, 2\)"),
        ({"grid": {"mean": [1j]}}, TypeError, "must hold real numbers or words"),
        ({"grid": {"mean": None}}, TypeError, "must hold real numbers or words, got None"),
        ({"grid": {"mean": np.ma.array([1.0])}}, TypeError, "must be a plain array"),
        ({"grid": {"mean": 2**40}}, ValueError, "into a netCDF file"),
        (
            {"grid": {"mean": xr.DataArray([1, 2], dims="a"), "sd": xr.DataArray([1], dims="a")}},
            ValueError,
            "grid must fit together",
        ),
        (
            {"grid": {"mean": xr.DataArray([1, 1], dims="a")}},
            ValueError,
            "grid must hold each point once, got mean=1 again",
        ),
        ({"file": "nowhere/at/all.nc"}, FileNotFoundError, "file must lie in a folder that exists"),
    ],
)
def test_bad_arguments_of_a_sweep(change, error, message, runs_made):
    with pytest.raises(error, match=message):
        sweep(**({"measure": gaussian, "grid": GRID, "seed": 1, "workers": 1} | change))
    assert runs_made() == []


def test_every_point_is_checked_before_the_first_run():
    grid = POINT | {"kappa": [0.5, 0.01]}
    with pytest.raises(ValueError, match="kappa must be finite with k") as caught:
        sweep(linear_attention, grid, seed=1, workers=1)
    assert "kappa=0.01" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "returned",
    [{}]
    + [{name: 1.0} for name in ("τ", "a b", "", "1x", "x/y", 3, "mean", "run", "runs", "failed")]
    + [{"x": 1.0, name: 1.0} for name in ("x_se", "x_run")],
)
def test_names_that_cannot_be_kept_are_refused_after_one_run(returned, tmp_path):
    made = []

    def measure(seed, *, mean, sd):
        made.append(seed)
        return returned

    message = f"measure must return .* names made of .*, got {', '.join(map(repr, returned))}"
    with pytest.raises(ValueError, match=message):
        sweep(measure, GRID, tmp_path / "x.nc", seed=1, workers=1, name="any")
    assert len(made) == 1 and not (tmp_path / "x.nc").exists()


@pytest.mark.parametrize("name", ["x", "_x", "nan", "float", "class", "x_2", "coordinates"])
def test_names_that_can_be_kept_are(name, tmp_path):
    def measure(seed, *, a):
        return {name: a + 0.1 * gaussian(seed)["x"]}

    data = sweep(measure, {"a": [1, 2]}, tmp_path / "x.nc", seed=1, workers=1, name="any")
    assert set(data.data_vars) == {name, f"{name}_se", f"{name}_run", "runs"}
    assert identical(data, sweep(measure, {"a": [1, 2]}, seed=1, workers=1))


def test_names_are_the_same_each_time():
    def measure(seed, *, a):
        return {"x": 1.0} if seed.spawn_key[-1] < 2 else {"y": 1.0}

    with pytest.raises(ValueError, match="must return the same names each time, x, got y at a=1"):
        sweep(measure, {"a": 1}, seed=1, workers=1)


@pytest.mark.parametrize("returned", [1.5, [1.5], {"x": [1.5]}, {"x": "word"}, None])
def test_what_is_measured_has_a_name_and_is_a_number(returned):
    said = re.escape(f"TypeError: measure must return numbers by name, got {returned!r}; ")
    with pytest.raises(RuntimeError, match=said):
        sweep(lambda seed, a: returned, {"a": [1, 2]}, seed=1, workers=1)


# Sweeps: runs that fail -----------------------------------------------------------------------

FAILING = {"grid": {"a": [1, 2, 3]}, "seed": 1, "runs": (5, 60), "precision": 0.02}
THE_FAILURES = (
    "run 0 at a=2 failed: KeyError: 'no such thing'; "
    "run 3 at a=3 failed: ValueError: measure must return finite numbers, got {'x': nan}"
)


@pytest.mark.parametrize("workers", [1, 2])
def test_failed_runs_are_told_when_all_others_are_kept(workers, tmp_path):
    file = tmp_path / "x.nc"
    for _ in range(2):  # the same seed fails again
        with pytest.raises(RuntimeError) as caught:
            sweep(failing, file=file, **FAILING, workers=workers)
        assert str(caught.value) == (
            f"{THE_FAILURES}. The same seed fails again: change the grid or the seed, or leave out "
            "what fails, where other runs succeed, by skip=True"
        )
        assert "in failing" in caught.value.__notes__[0]
        stored = load(file)
        alone = sweep(failing, **(FAILING | {"grid": {"a": 1}}), workers=1)
        assert stored.x.sel(a=1) == alone.x and stored.unfinished == 2
        there = np.isfinite(stored.x_run.isel(run=slice(5)))
        assert there.sel(a=2).values.tolist() == [False, True, True, True, True]
        assert there.sel(a=3).values.tolist() == [True, True, True, False, True]


def test_failed_runs_are_left_out_if_wanted(tmp_path, runs_made):
    with pytest.warns(RuntimeWarning) as caught:
        data = sweep(failing, **FAILING, workers=1, skip=True)
    assert [str(w.message) for w in caught] == [
        f"means leave out what `failed` counts: {THE_FAILURES}"
    ]
    assert caught[0].filename == __file__
    assert data.failed.values.tolist() == [0, 1, 1] and data.unfinished == 0 and data.skip == 1
    assert np.argwhere(data.failed_run.values).tolist() == [[1, 0], [2, 3]]
    for a in (1, 2, 3):
        runs = data.x_run.sel(a=a).values
        good = runs[np.isfinite(runs)]
        assert len(good) == data.runs.sel(a=a) >= 4 and data.x.sel(a=a) == good.mean()
        assert data.x_se.sel(a=a) == good.std(ddof=1) / np.sqrt(len(good)) <= 0.02 * good.mean()
        assert not np.any(np.isfinite(runs) & data.failed_run.sel(a=a).values)

    # Whatever way leads there: over an error, without leaving out, or interrupted.
    file = tmp_path / "x.nc"
    with pytest.raises(RuntimeError):
        sweep(failing, file=file, **FAILING, workers=1)
    with pytest.warns(RuntimeWarning, match="run 0 at a=2 failed: KeyError"):
        assert identical(sweep(failing, file=file, **FAILING, workers=1, skip=True), data)
    # What is finished is not made again, and does not hide what it lacks.
    before = len(runs_made())
    with pytest.warns(RuntimeWarning, match="run 0 at a=2 failed; run 3 at a=3 failed"):
        assert identical(sweep(failing, file=file, **FAILING, workers=1, skip=True), data)
    assert len(runs_made()) == before
    # Without skip they are tried again.
    with pytest.raises(RuntimeError, match="run 0 at a=2 failed: KeyError"):
        sweep(failing, file=file, **FAILING, workers=1)
    assert len(runs_made()) == before + 2


def test_without_failures_skip_only_says_so():
    plain = sweep(gaussian, GRID, seed=1, runs=(5, 60), workers=1)
    skipping = sweep(gaussian, GRID, seed=1, runs=(5, 60), workers=1, skip=True)
    assert not skipping.failed.any() and not skipping.failed_run.any()
    assert identical(skipping.drop_vars(["failed", "failed_run"]), plain)


@pytest.mark.parametrize("skip", [False, True])
def test_where_nothing_works_no_more_is_tried(skip, tmp_path, runs_made):
    grid, file = {"a": [1, 2, 3, 4]}, tmp_path / "x.nc"
    with pytest.raises(RuntimeError, match="run 0 at a=1 failed: TypeError.*; and 1 more"):
        sweep(hopeless, grid, file, seed=1, workers=1, skip=skip)
    assert [run for _, run in runs_made()] == 4 * [0] and not file.exists()


def test_a_point_where_nothing_works_has_no_numbers(runs_made):
    def measure(seed, *, a):
        return hopeless(seed, a=a) if a == 2 else failing(seed, a=a)

    with pytest.warns(RuntimeWarning, match="run 0 at a=2 failed.*; and 2 more"):
        data = sweep(measure, {"a": [1, 2]}, seed=1, runs=(5, 60), workers=1, skip=True)
    assert data.failed.values.tolist() == [0, 5] and data.runs.sel(a=2) == 0
    assert np.isnan(data.x.sel(a=2)) and np.isfinite(data.x.sel(a=1)) and data.unfinished == 0


@settings(max_examples=20)
@given(st.randoms(use_true_random=False), st.integers(0, 1000), st.floats(0, 1))
def test_order_and_interruptions_do_not_matter_where_runs_fail(random, seed, share):
    coords = _table.coordinates(GRID)
    kind = {"precision": 0.1, "runs": (3, 40), "skip": True}

    def enter(table, row, run):
        child = np.random.SeedSequence(seed, spawn_key=(row, run))
        if np.random.default_rng(child).random() < share:
            table.fail(row, run)
        else:
            table.add(row, run, gaussian(child, **table.points[row]))

    straight = _table.Table(coords, **kind)
    while missing := straight.missing():
        for row, run in missing:
            enter(straight, row, run)

    table = _table.Table(coords, **kind)
    while missing := table.missing():
        random.shuffle(missing)
        for row, run in missing[: random.randint(1, len(missing))]:
            enter(table, row, run)
        if table.samples:
            stored = _store.decode(_store.encode(table.dataset()))
            table = _table.Table(coords, **kind)
            table.take(stored)
    assert identical(table.dataset(), straight.dataset())
    if table.samples:
        data = table.dataset()
        good = np.isfinite(data.x_run) & ~data.failed_run
        assert np.all(good.sum("run") == data.runs) and np.all(data.runs + data.failed >= 3)


# Sweeps: progress -----------------------------------------------------------------------------


def with_array(seed, *, mu, values):
    return {"y": mu + values.sum() + np.random.default_rng(seed).normal()}


def test_progress_of_a_sweep(capsys, monkeypatch):
    sweep(gaussian, GRID, seed=1, workers=1)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""

    class Watched(io.StringIO):
        def isatty(self):
            return True

    shown = Watched()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(_progress, "tqdm", functools.partial(tqdm, mininterval=0))
    monkeypatch.setattr(_progress, "_PATIENCE", 0)
    data = sweep(gaussian, GRID, seed=1, workers=1)
    last = shown.getvalue().split("\r")[-3]
    total = int(data.runs.sum())
    assert "gaussian" in last and f"{total}/{total}" in last and "3/3 points" in last
    bound = functools.partial(with_array, values=np.ones(3) / 7)
    for title, named in (("with_array", {}), ("mine (1.5)", {"name": "mine (1.5)"})):
        shown.truncate(0)
        sweep(bound, {"mu": [1.0]}, seed=1, workers=1, **named)
        seen = shown.getvalue().replace("\0", "").split("\r")
        assert {line.partition(": ")[0].strip() for line in seen} == {title, ""}
