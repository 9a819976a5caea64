"""Simulation: reproducible, labelled, and on the theory in the limit.

Sweeps: the same numbers however they are computed, interrupted, killed, extended and resumed.
"""

import functools
import importlib.util
import io
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

import iclkit.sweep
from iclkit import _store, _table, backend, icl_error, idg_error, simulate
from iclkit.sweep import linear_attention, load, sweep

POINT = {"d": 12, "tau": 0.5, "alpha": 1.0, "kappa": 0.5, "rho": 0.1}


def test_result_is_labelled():
    result = simulate(**POINT, lam=0.1, runs=3, seed=4)
    assert result.sizes == {"run": 3}
    assert set(result.data_vars) == {"icl_error", "idg_error"}
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

    monkeypatch.setattr(iclkit.sweep, "linear_attention", measure)
    with threadpoolctl.threadpool_limits(2):
        before = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
        simulate(d=5, tau=1.0, alpha=1.0, kappa=1.0, rho=0.1, runs=2)
        after = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    assert set(threads) == {1} and after[: len(before)] == before


def test_unlimited_diversity_has_one_error():
    result = simulate(**(POINT | {"kappa": np.inf}), runs=2)
    np.testing.assert_array_equal(result.icl_error, result.idg_error)
    assert result.attrs["k"] == result.attrs["n"]


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
        ({"lam": -0.1}, ValueError, "lam must be finite and at least 0, got -0.1"),
        ({"rho": 1j}, TypeError, "rho must be a real number"),
        ({"runs": 0}, ValueError, "runs must be an integer of at least 1, got 0"),
        ({"assignment": "fair"}, ValueError, "assignment must be one of uniform, balanced"),
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
    if a == 2 and seed.spawn_key[-1] == 0:
        raise KeyError("no such thing")
    return gaussian(seed)


def once_fatal(seed, *, a):
    """Kill the process that makes a certain run, the first time."""
    fuse = Path(os.environ["SWEEP_FUSE"])
    if a == 2 and seed.spawn_key[-1] == 3 and fuse.exists():
        fuse.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return gaussian(seed)


def slow(seed, *, a, file):
    """Enter the run in a file: a worker that is there already has no new environment."""
    with open(file, "a") as stream:
        stream.write("run\n")
    time.sleep(0.03)
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
        alone = [linear_attention(seed, **point) for seed in seeds]
        for name in ("icl_error", "idg_error"):
            expected = [run[name] for run in alone]
            np.testing.assert_array_equal(data[f"{name}_run"].sel(kappa=kappa), expected)
    assert data.assignment == "balanced" and data.d == 6 and data.rho == 0.1


def test_simulate_repeats_linear_attention():
    runs = simulate(**POINT, runs=2, seed=5)
    alone = [linear_attention(backend.child_seed(5, run), **POINT) for run in (0, 1)]
    np.testing.assert_array_equal(runs.icl_error, [run["icl_error"] for run in alone])


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


def test_failure_names_the_point():
    with pytest.raises(RuntimeError, match="run 0 at a=2 failed: KeyError: 'no such thing'") as e:
        sweep(failing, {"a": [1, 2, 3]}, seed=1, workers=1)
    assert "in failing" in e.value.__notes__[0]


def test_threads_keep_their_warnings_apart():
    with (
        joblib.parallel_config(backend="threading", n_jobs=2),
        pytest.warns(RuntimeWarning) as caught,
    ):
        sweep(warner, {"a": [1, 2]}, seed=1, runs=(30, 30))
    assert len(caught) == 4


def test_what_a_run_sets_is_taken_back(monkeypatch):

    monkeypatch.delenv("ICLKIT_DEVICE")
    monkeypatch.setattr(backend, "namespace", lambda device=None: np)
    with threadpoolctl.threadpool_limits(2):
        before = threadpoolctl.threadpool_info()
        sweep(gaussian, GRID, seed=1, runs=(2, 2), workers=1)
        assert threadpoolctl.threadpool_info() == before
    assert "ICLKIT_DEVICE" not in os.environ


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
    options = {"seed": 1, "precision": 0.05, "runs": (5, 60)}
    alone = sweep(once_fatal, {"a": [1, 2, 3]}, **options, workers=1)
    fuse.touch()
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        killed = sweep(once_fatal, {"a": [1, 2, 3]}, tmp_path / "x.nc", **options)
        assert not fuse.exists()
        with pytest.raises(RuntimeError, match="run 0 at a=2 failed: KeyError: 'no such thing'"):
            sweep(failing, {"a": [1, 2, 3]}, **options)
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


def test_every_finished_point_is_on_disk_at_once_and_runs_soon(tmp_path, monkeypatch):
    monkeypatch.setattr(_store, "_PATIENCE", 0.05)
    file, seen = tmp_path / "x.nc", []

    def patient(seed, *, a):
        run = seed.spawn_key[-1]
        if a == 1 and run > 0:  # wait until the file holds the runs before this one
            deadline = time.monotonic() + 20
            while not (file.exists() and np.isfinite(load(file).x_run.sel(a=1)).sum() == run):
                assert time.monotonic() < deadline, "the earlier runs are not on disk"
                time.sleep(0.01)
        if a == 2 and run == 1:  # the last run of point 1 was the one before this
            seen.append((load(file).runs.sel(a=1).item(), load(file).unfinished))
        return gaussian(seed)

    sweep(patient, {"a": [1, 2]}, file, seed=1, precision=9, runs=(4, 4), workers=1)
    assert seen == [(4, 1)]


def imported(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = """
import os, sys, time
import numpy as np
from iclkit.sweep import sweep

def measure(seed, *, a):
    with open(os.environ["SWEEP_LOG"], "a") as stream:
        stream.write(f"{seed.spawn_key}\\n")
    time.sleep(float(os.environ["SWEEP_PAUSE"]))
    return {"x": a + np.random.default_rng(seed).standard_normal()}

def run(file, workers):
    kind = dict(seed=4, precision=0.05, runs=(6, 30), workers=workers)
    return sweep(measure, {"a": [3.0, 4.0, 5.0, 6.0]}, file, **kind)

if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]))
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_killed_sweep_is_resumed(tmp_path, runs_made, monkeypatch):
    script, file = tmp_path / "experiment.py", tmp_path / "x.nc"
    script.write_text(SCRIPT)
    monkeypatch.setenv("SWEEP_PAUSE", "0.05")
    child = subprocess.Popen([sys.executable, script, file, "1"])
    try:
        # The file is there after a second. While it is being written, nobody else may write it.
        deadline = time.monotonic() + 60
        while not (file.exists() and len(runs_made()) > 30):
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        module = imported(script)
        with pytest.raises(RuntimeError, match=f"another sweep is writing {file}"):
            module.run(file, 1)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL

    stored, logged = load(file), runs_made()
    assert 0 < stored.unfinished
    keys = [_table.key({"a": a}) for a in stored.a.values]
    kept = {(keys[p], int(r)) for p, r in np.argwhere(np.isfinite(stored.x_run.values))}
    assert len(kept) > 10 and kept <= set(logged)
    (tmp_path / ".x.nc.part").write_bytes(b"half a file")

    monkeypatch.setenv("SWEEP_PAUSE", "0")
    resumed, again = module.run(file, 1), runs_made()[len(logged) :]
    assert not kept & set(again) and len(set(again)) == len(again)
    assert len(kept) + len(again) == resumed.runs.sum()
    assert identical(resumed, module.run(None, 1))
    assert resumed.measure == "experiment.measure"
    assert resumed.wall_time > stored.wall_time and resumed.unfinished == 0


def test_interrupted_sweep_stops_its_workers(tmp_path):
    file, made = tmp_path / "x.nc", tmp_path / "made"
    grid = {"a": [1, 2, 3], "file": str(made)}
    kind = {"seed": 1, "precision": 0.01, "runs": (30, 30)}
    made.touch()

    def count():
        return len(made.read_text().splitlines())

    def interrupt():
        deadline = time.monotonic() + 60
        while count() < 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        signal.raise_signal(signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        sweep(slow, grid, file, **kind, workers=2)
    watcher.join()
    before, stored = count(), load(file)
    kept = int(np.isfinite(stored.x_run).sum())
    assert 5 < kept <= before < 90 and stored.unfinished > 0
    time.sleep(0.3)
    assert count() == before
    resumed = sweep(slow, grid, file, **kind, workers=1)
    assert np.all(resumed.runs == 30) and count() == before + 90 - kept
    was, now = stored.x_run.values, resumed.x_run.values[..., : stored.sizes["run"]]
    np.testing.assert_array_equal(np.where(np.isnan(was), now, was), now)


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
        ({"measure": renamed}, r"has measure test_sweep\.gaussian, not test_sweep\.renamed"),
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


def test_file_of_another_version_is_refused(tmp_path, monkeypatch):
    sweep(gaussian, GRID, tmp_path / "x.nc", seed=1, workers=1, runs=(2, 2))
    monkeypatch.setattr(iclkit.sweep, "version", lambda name: "9.9")
    with pytest.raises(ValueError, match="has version .*, not 9.9"):
        sweep(gaussian, GRID, tmp_path / "x.nc", seed=1, workers=1, runs=(2, 2))


# Sweeps: provenance, arguments, progress ------------------------------------------------------


def test_provenance_is_complete_and_impersonal(tmp_path, monkeypatch):
    file = tmp_path / "x.nc"
    first = sweep(gaussian, GRID, file, seed=2**40, precision=0.5, runs=(2, 30), workers=1)
    about = first.attrs
    assert about["seed"] == str(2**40) and about["measure"] == "test_sweep.gaussian"
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

    package = tmp_path / "iclkit"
    package.mkdir()
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
        ({"measure": 3}, TypeError, "measure must be a named function .*, got 3"),
        ({"measure": slow}, TypeError, "measure must take a seed and what is in grid: missing"),
        ({"grid": {}}, ValueError, "grid must map at least one parameter to its values, got {}"),
        ({"grid": {"seed": 1}}, ValueError, "names of parameters other than seed, got 'seed'"),
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
        ({"grid": {"mean": xr.DataArray([1.0], dims="run")}}, ValueError, "other than run"),
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
    ("returned", "message"),
    [
        ({"x": np.nan}, "finite numbers called x, got .*nan.* at mean=1.0, sd=0.3, run 0"),
        ({}, "at least one number"),
        ({"mean": 1.0}, "names other than mean, run, runs, sd, got mean"),
        ({"x": 1.0, "x_se": 1.0}, "names other than"),
    ],
)
def test_measure_must_return_numbers_with_names(returned, message):
    def measure(seed, *, mean, sd):
        return returned

    with pytest.raises(ValueError, match=message):
        sweep(measure, GRID, seed=1, workers=1)


def test_progress_of_a_sweep(capsys, monkeypatch):
    sweep(gaussian, GRID, seed=1, workers=1)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""

    class Watched(io.StringIO):
        def isatty(self):
            return True

    shown = Watched()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(iclkit.sweep, "tqdm", functools.partial(tqdm, mininterval=0))
    monkeypatch.setattr(iclkit.sweep, "_PATIENCE", 0)
    data = sweep(gaussian, GRID, seed=1, workers=1)
    last = shown.getvalue().split("\r")[-3]
    total = int(data.runs.sum())
    assert "gaussian" in last and f"{total}/{total}" in last and "3/3 points" in last
