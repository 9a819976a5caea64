"""Programs of users, as a type checker sees them: the package is typed, and typos are found."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

RIGHT = """
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from iclkit import backend, data, fit_gamma, fit_gamma_path, plots, simulate, theory
from iclkit.runs import linear_attention, load, sweep
from iclkit.theory import bayes, descent
from iclkit.trained import trials

alpha = xr.DataArray([0.5, 2.0], dims="alpha")
theory.idg_error(0.2 * alpha, alpha, kappa=np.inf, rho=0, tasks=(np.ones(2), [0.5, 0.5]))
bayes.ridge_error([1, 2], rho=np.float32(0.1))
plots.theory(Figure().subplots(), [1, 2], theory.icl_error([1, 2], 1.0, 1.0, 0.1), colour="C0")

streams = backend.streams(0)
w = data.draw_tasks(80, 10, streams.tasks)
x, h, y = data.draw_statistics(w, 20, 0.1, streams)
error: float = fit_gamma(x, h, y, dtype=np.float32).error(data.task_moments(w, 20, 0.1))
least: float = fit_gamma_path(x, h, y, np.geomspace(0.1, 1.0, 3)).residual.min()

one: dict[str, float] = linear_attention(0, d=8, tau=1.0, alpha=1.0, kappa=1.0, rho=0.1)
many: xr.Dataset = simulate(d=8, tau=1.0, alpha=1.0, kappa=1.0, rho=0.1)
swept = sweep(linear_attention, {"d": 8, "tau": alpha}, "errors.nc", seed=0, runs=(2, 3))
print(swept.equals(load("errors.nc")))
risk = descent.gradient_descent(0, d=8, alpha=1.0, rho=0.0, depth=1, tied=True)["risk"]
measure = trials.linear_threshold.check(d=5, alpha=2.0, rho=0.1)
print(error + least + one["icl_error"] + risk, measure(0))
"""

# What is wrong in a line, and the error that it gives.
WRONG = {
    "iclkit.simulat": 'Module has no attribute "simulat"',
    "theory.icl_eror": 'Module has no attribute "icl_eror"',
    "theory.icl_error(tau=1.0, alpha=1.0, kapa=1.0, rho=0.1)": 'Unexpected keyword argument "kapa"',
    "bayes.dmmse_error(1.0, 0.1, 0.5, prior=1)": 'Argument "prior" to "dmmse_error" has incompat',
    "fit_gamma([[1.0]], [[1.0, 1.0]], [1.0]).gama": '"Fit" has no attribute "gama"',
    'simulate(d="x", tau=1.0, alpha=1.0, kappa=1.0, rho=0.1)': 'Argument "d" to "simulate" has inc',
    "linear_attention(0, d=8, tau=1.0, alpha=1.0, kapa=1.0, rho=0.1)": 'keyword argument "kapa"',
    "bayes.estimators.check(d=8, alpha=1.0, kappa='x', rho=0.1)": 'Argument "kappa" has incompat',
    "trials.linear_threshold(0, d=8, alpha=1.0, rho=0.1, start=3)": 'keyword argument "start"',
}
IMPORTS = """import iclkit
from iclkit import fit_gamma, simulate, theory
from iclkit.runs import linear_attention
from iclkit.theory import bayes
from iclkit.trained import trials
"""


def test_type_checker_knows_the_installed_package(tmp_path):
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(IMPORTS + "\n".join(WRONG))
    # From a folder without the source, and with the options, and so the cache, of `make lint`.
    command = [sys.executable, "-m", "mypy", f"--config-file={ROOT / 'pyproject.toml'}",
               f"--cache-dir={ROOT / '.mypy_cache'}", "right.py", "wrong.py"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    found = re.findall(r"^(\w+\.py):(\d+): error: (.*)", done.stdout, re.MULTILINE)
    first = IMPORTS.count("\n") + 1
    lines = [("wrong.py", str(number)) for number in range(first, first + len(WRONG))]
    assert [error[:2] for error in found] == lines, done.stdout + done.stderr
    assert [w for w, (*_, said) in zip(WRONG.values(), found, strict=True) if w not in said] == []
