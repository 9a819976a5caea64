"""The check of a GPU: on a CPU, on a cupy without a GPU, and with things that it has to find."""

import contextlib
import io
import json
import math
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import nbformat
import numpy as np
import pytest

from iclkit import backend, book

ROOT = Path(__file__).parents[1]

spec = spec_from_file_location("gpu", ROOT / "benchmarks" / "gpu.py")
gpu = module_from_spec(spec)
spec.loader.exec_module(gpu)

STEPS = [
    "device", "streams", "data", "solvers", "transfers", "memory", "sweep", "experiments", "times",
]  # fmt: skip


def read(file):
    """Read a result, in which no number may be NaN or infinite."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The whole of it on the CPU, at sizes that take seconds."""
    file = tmp_path_factory.mktemp("gpu") / "gpu.json"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = gpu.main([str(file), "--device", "cpu", "--small"])
    return status, read(file), said.getvalue(), file


@pytest.fixture
def run():
    return gpu.Run(np, True, math.inf)


def failed(found):
    return [one["name"] for one in found["checks"] if not one["passed"]]


def on_a_fake(code):
    """Run code where cupy is a fake one, and return what it prints."""
    folders = [str(ROOT / name) for name in ("tests", "benchmarks")]
    start = f"import sys; sys.path[:0] = {folders}; import fake_cupy; fake_cupy.install()\n"
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_all_steps_pass_on_a_cpu(small):
    status, result, said, file = small
    assert status == 0 and result["passed"] and result["complete"] and result["small"]
    assert list(result["steps"]) == STEPS and said.splitlines() == [f"{s}: passed" for s in STEPS]
    assert not list(file.parent.glob(".*"))  # nothing that is half written
    for name, step in result["steps"].items():
        assert step["seconds"] >= 0 and not {"error", "skipped"} & set(step)
        if name != "device":
            assert len(step["checks"]) > 5 and step["failed"] == []
            assert all(one.keys() == {"name", "value", "limit", "passed"} for one in step["checks"])
    device = result["steps"]["device"]
    assert device["device"].startswith("cpu") and device["commit"] and device["cupy"] is None
    rows = result["steps"]["times"]["rows"]
    assert {(row["d"], row["tau"], row["dtype"]) for row in rows} == {
        (d, tau, dtype) for d in (8, 16) for tau in (0.5, 2.0) for dtype in ("float64", "float32")
    }
    assert all(row["multiple"] > 0 and row["skipped"] is None for row in rows)


def test_every_solver_is_compared(small):
    rows = small[1]["steps"]["solvers"]["rows"]
    for dtype in ("float32", "float64"):
        found = {row["solver"] for row in rows if row["dtype"] == dtype}
        assert found == {*gpu.solving.SOLVERS, *gpu.solving.PATH_SOLVERS, "flow"}
    assert {row["n"] > 6 * 7 for row in rows} == {True, False}


def test_all_steps_pass_on_a_cupy_that_has_no_gpu(tmp_path):
    file = tmp_path / "gpu.json"
    on_a_fake(f"import gpu; assert gpu.main(['{file}', '--small']) == 0")
    result = read(file)
    steps = result["steps"]
    assert result["passed"] and steps["device"]["device"] == "gpu, No GPU at all"
    assert steps["device"]["memory"] == 2**34 and steps["transfers"]["sees_scalars"]
    assert all(row["hidden"] == {} and row["scalars"] > 5 for row in steps["transfers"]["rows"])
    assert all(row["peak"] > 0 for row in steps["memory"]["rows"])


def test_copies_that_are_not_meant_are_found():
    said = on_a_fake("""
import cupy, gpu, math
meant = gpu.fits.features._products.adjoint
def adjoint(x, h, r):
    cupy.asnumpy(r)
    return meant(x, h, r)
gpu.solving.adjoint = adjoint
found = gpu.transfers(gpu.Run(cupy, True, math.inf))
print([one["name"] for one in found["checks"] if not one["passed"]])
""")
    assert "'dual-cg, n = 78, plain: hidden bytes'" in said and "on purpose" not in said


def test_without_a_gpu_there_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(backend, "_gpu_problem", lambda: "cupy is not installed")
    assert gpu.main([str(tmp_path / "gpu.json")]) == 2
    said = capsys.readouterr()
    assert said.err == "device asks for a GPU, but cupy is not installed\n" and not said.out
    assert list(tmp_path.iterdir()) == []


# What has to be found -------------------------------------------------------------------------


def test_a_solver_that_is_off_on_one_side_is_found(run, monkeypatch):
    sound, calls = gpu.solving.SOLVERS["dual-cg"], []

    def wrong(problem):
        calls.append(1)
        found = sound(problem)
        return found._replace(gamma=found.gamma * (1 + 1e-5 * (len(calls) % 2)))

    monkeypatch.setitem(gpu.solving.SOLVERS, "dual-cg", wrong)
    names = failed(gpu.solvers(run))
    assert "dual-cg, λ = 0, n = 20, float64: Γ off" in names
    assert all("dual-cg" in name or name.startswith("auto") for name in names)


@pytest.mark.parametrize(
    ("poor", "found"),
    [
        (lambda s: s._replace(noise=Scaled(s.noise)), "normal, noise, variance: z"),
        (lambda s: s._replace(noise=np.random.default_rng(0), tasks=np.random.default_rng(0)),
         "normal, tasks, noise, correlation of powers 1: z"),
    ],
    ids=["scaled", "the same twice"],
)  # fmt: skip
def test_a_poor_stream_is_found(run, monkeypatch, poor, found):
    sound = backend.streams
    monkeypatch.setattr(backend, "streams", lambda seed, xp: poor(sound(seed, xp)))
    assert found in failed(gpu.streams(run))


class Scaled:
    """A stream of normal numbers that are 3 % too large."""

    def __init__(self, sound):
        self.sound = sound

    def __getattr__(self, name):
        return getattr(self.sound, name)

    def standard_normal(self, size):
        return 1.03 * self.sound.standard_normal(size)


def test_contexts_of_another_law_are_found(run, monkeypatch):
    sound = gpu.draw_statistics
    monkeypatch.setattr(gpu, "draw_statistics", lambda w, ell, *rest: sound(w, ell + 1, *rest))
    assert "four tasks, moments B: greatest z" in failed(gpu.data(run))


def test_memory_beyond_the_count_is_found(run, monkeypatch):
    monkeypatch.setattr(gpu, "needed", lambda *_: 0)
    assert "dual, n = 210, float64: bytes" in failed(gpu.memory(run))


def test_what_is_not_finite_fails_and_is_null():
    assert not gpu.check("a number", np.nan, 1)["passed"]
    result = gpu.plain({"value": np.float64("nan"), "of": [{"a": np.inf, "b": np.int64(1)}]})
    assert result == {
        "value": None, "value_reason": "nan", "of": [{"a": None, "b": 1, "a_reason": "inf"}],
    }  # fmt: skip


# Steps that are not made ----------------------------------------------------------------------


def broken(run):
    raise RuntimeError("the card has fallen out\nand more")


def fine(run):
    return {"checks": [gpu.check("one", 0, 1)]}


def off(run):
    return {"checks": [gpu.check("one", 0, 1), gpu.check("two", 2, 1)]}


def slow(run):
    time.sleep(60)


@pytest.fixture
def results(tmp_path, monkeypatch, capsys):
    """The status and the result of a few steps."""

    def made(steps, *options):
        monkeypatch.setattr(gpu, "STEPS", steps)
        file = tmp_path / "gpu.json"
        return gpu.main([str(file), "--device", "cpu", *options]), read(file)

    return made


def test_a_step_that_raises_leaves_the_others(results):
    status, result = results({broken: 0, fine: 0})
    assert status == 1 and not result["passed"]
    assert result["steps"]["broken"]["error"] == "RuntimeError: the card has fallen out"
    assert result["steps"]["fine"]["failed"] == []


def test_a_check_that_fails_makes_the_status(results):
    status, result = results({off: 0, fine: 0})
    assert status == 1 and result["steps"]["off"]["failed"] == ["two"]


def test_what_the_time_does_not_reach_is_named(results):
    status, result = results({fine: 0, slow: 0.1, broken: 30}, "--seconds", "1")
    assert "skipped" not in result["steps"]["fine"]
    assert "the time is over" in result["steps"]["slow"]["error"]
    assert result["steps"]["broken"] == {"skipped": "takes about 30 s, and 0 s were left"}
    assert status == 1 and not result["complete"]


def test_sizes_that_take_too_long_are_named(run, monkeypatch):
    made = gpu.times(run._replace(ends=time.monotonic() - 1))
    assert all("foretold to take 0 s, and 0 s are left" == row["skipped"] for row in made["rows"])
    assert failed(made) == ["no size was timed"]


# On the page ----------------------------------------------------------------------------------


def test_the_page_shows_the_result_or_that_there_is_none(small, monkeypatch, tmp_path, capsys):
    notebook = nbformat.read(ROOT / "book" / "hardware.ipynb", as_version=4)
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    cells = [s for s in sources if "def show(" in s or "gpu.json" in s or "on_gpu" in s]
    assert len(cells) == 3
    monkeypatch.setattr(book, "data", lambda: tmp_path)
    code = "\n".join(cells)
    exec(code, {"json": json, "book": book})
    assert capsys.readouterr().out == "No number of this project has come from a GPU so far.\n"
    result = small[1] | {"steps": dict(small[1]["steps"])}
    result["steps"]["memory"] = {"error": "RuntimeError: none left"}
    (tmp_path / "gpu.json").write_text(json.dumps(result), encoding="utf-8")
    exec(code, {"json": json, "book": book})
    said = capsys.readouterr().out
    assert "Comparisons with the CPU" in said and "RuntimeError: none left" in said
    assert said.count("float32") == 4 and "left out" in said and "No number" not in said
    (tmp_path / "gpu.json").write_text(json.dumps({"steps": {"device": {"error": "lost"}}}))
    exec(code, {"json": json, "book": book})
    assert "lost" in capsys.readouterr().out
