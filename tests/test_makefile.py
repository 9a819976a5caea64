"""An environment that does not work, or not as it is asked for, is made anew."""

import os
import platform
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ANEW = "-m venv --clear .venv"
INSTALLS = "--requirement requirements.txt"

spec = spec_from_file_location("check_python", ROOT / ".ci" / "check-python.py")
check_python = module_from_spec(spec)
spec.loader.exec_module(check_python)


def script(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def project(tmp_path):
    """A checkout whose environment is finished."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    script(tmp_path / ".venv" / "bin" / "python", f'exec {sys.executable} "$@"')
    (tmp_path / ".venv" / "ready").touch()
    return tmp_path


def plan(project, *arguments, **environment):
    """What `make setup` would do."""
    command = ["make", "--dry-run", "--no-print-directory", "setup", *arguments]
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(
        command, cwd=project, env=clean | environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_finished_environment_is_left_alone(project):
    assert ANEW not in plan(project) and INSTALLS not in plan(project)


def test_environment_without_stamp_is_finished(project):
    (project / ".venv" / "ready").unlink()
    assert ANEW not in plan(project) and INSTALLS in plan(project)


def remove(project):
    shutil.rmtree(project / ".venv")


def lose_interpreter(project):
    (project / ".venv" / "bin" / "python").unlink()
    (project / ".venv" / "bin" / "python").symlink_to("/nonexistent/python3.11")


def lose_pip(project):
    script(project / ".venv" / "bin" / "python", f'exec {sys.executable} -I -S "$@"')


def leave_folder(project):
    shutil.rmtree(project / ".venv" / "bin")


@pytest.mark.parametrize("damage", [remove, lose_interpreter, lose_pip, leave_folder])
@pytest.mark.parametrize("stamped", [True, False])
def test_broken_environment_is_made_anew(project, damage, stamped):
    damage(project)
    stamp = project / ".venv" / "ready"
    if not stamped:
        stamp.unlink(missing_ok=True)
    said = plan(project)
    assert f"python3 .ci/check-python.py && python3 {ANEW}" in said and INSTALLS in said


def test_another_python_is_heeded(project):
    other = script(project / "python3.99", "echo another")
    assert f"{other} {ANEW}" in plan(project, f"PYTHON={other}")
    assert f"{other} {ANEW}" in plan(project, PYTHON=str(other))
    assert ANEW not in plan(project, f"PYTHON={sys.executable}"), "the same one"


def test_python_that_is_not_there_costs_nothing(project):
    command = ["make", "setup", "PYTHON=/nonexistent/python"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode and "/nonexistent/python" in done.stderr
    assert (project / ".venv" / "bin" / "python").exists()


def test_home_that_cannot_be_written_has_no_cache(project):
    (project / ".venv" / "ready").unlink()
    assert "--no-cache" in plan(project, HOME="/dev/null/nobody")
    assert "--no-cache" not in plan(project, HOME=str(project))


@pytest.mark.parametrize(
    ("system", "machine", "libc", "meant"),
    [
        ("linux", "x86_64", "glibc", True),
        ("linux", "aarch64", "glibc", True),
        ("linux", "x86_64", "musl", False),
        ("linux", "x86_64", "", False),
        ("linux", "armv7l", "glibc", False),
        ("darwin", "arm64", "", True),
        ("darwin", "x86_64", "", False),
    ],
)
def test_platforms(monkeypatch, system, machine, libc, meant):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, "1"))
    problem = check_python.problem()
    assert problem is None if meant else "JAX" in problem and "\n" not in problem


def test_python_that_cannot_serve_is_told_why(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(check_python, "find_spec", lambda name: None)
        assert "python3-venv" in check_python.problem()
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    assert "3.11" in check_python.problem()
