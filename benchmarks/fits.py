"""Time the fits of Γ* against a plain dense solve, and against the machine's matrix product.

    make benchmarks        (about an hour, on a machine that does nothing else)

Every fit runs in a process of its own, on one core, on the same data as its rivals and in turn
with them; the speed of a large matrix product is measured in the same process, right after.
The result is `book/data/fits.nc`, which the hardware page of the book shows.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
from tables import write

from iclkit.fits import fit_gamma
from iclkit.fits.fit import _eligible

ALPHA, KAPPA, RHO = 10.0, 2.0, 0.1
CORE = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}


# What is timed -----------------------------------------------------------------------------------


def dense(x, h, y):
    """Solve the normal equations of explicit features, formed a gigabyte at a time."""
    import scipy.linalg

    d = x.shape[1]
    gram, rhs = np.zeros((d * (d + 1), d * (d + 1))), np.zeros(d * (d + 1))
    rows = 2**27 // (d * (d + 1))
    for start in range(0, len(y), rows):
        some = slice(start, start + rows)
        phi = (x[some, :, None] * h[some, None, :]).reshape(-1, d * (d + 1))
        gram += phi.T @ phi
        rhs += phi.T @ y[some]
    return scipy.linalg.solve(gram, rhs, assume_a="pos", overwrite_a=True).reshape(d, d + 1)


def sklearn_ridge(x, h, y):
    """Give explicit features to scikit-learn's Ridge, all of them at once."""
    from sklearn.linear_model import Ridge

    n, d = x.shape
    phi = (x[:, :, None] * h[:, None, :]).reshape(n, -1)
    model = Ridge(alpha=0.0, fit_intercept=False, solver="cholesky", copy_X=False)
    return model.fit(phi, y).coef_.reshape(d, d + 1)


METHODS = {
    "auto": fit_gamma,
    "auto, float32": lambda x, h, y: fit_gamma(x, h, y, dtype="float32"),
    "auto, 1e-4": lambda x, h, y: fit_gamma(x, h, y, rtol=1e-4),
    "auto, 1e-4, float32": lambda x, h, y: fit_gamma(x, h, y, rtol=1e-4, dtype="float32"),
    "dual": lambda x, h, y: fit_gamma(x, h, y, solver="dual"),
    "primal": lambda x, h, y: fit_gamma(x, h, y, solver="primal"),
    "dense": dense,
    "scikit-learn": sklearn_ridge,
}


# In a process of its own -------------------------------------------------------------------------


def sample(d, tau, alpha=ALPHA, kappa=KAPPA):
    """Draw contexts."""
    from iclkit import backend
    from iclkit.data import assign_tasks, draw_statistics, draw_tasks

    streams = backend.streams(7)
    n, k, ell = round(tau * d**2), round(kappa * d), round(alpha * d)
    tasks = draw_tasks(k, d, streams.tasks)
    return draw_statistics(tasks[assign_tasks(n, k, streams.tasks)], ell, RHO, streams)


def draw(folder, d, tau):
    """Draw contexts for `measure`, which then has the memory for the data alone."""
    for name, part in zip("xhy", sample(d, tau), strict=True):
        np.save(f"{folder}/{name}.npy", part)
        np.save(f"{folder}/{name}32.npy", part.astype(np.float32))
    return {}


def measure(folder, method):
    """Fit once, and tell the time, the memory and how far the errors are from the reference."""
    suffix = "32" if method.endswith("float32") else ""
    x, h, y = (np.load(f"{folder}/{name}{suffix}.npy") for name in "xhy")
    fit_gamma(x[:99, :5], h[:99, :6], y[:99], solver="primal-cg")  # what takes time but once
    memory_of_data = peak_memory()
    cpu, wall = time.process_time(), time.perf_counter()
    found = METHODS[method](x, h, y)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    memory = peak_memory()
    speed = matrix_product(x.dtype)
    n, d = x.shape
    ours = not isinstance(found, np.ndarray)
    np.save(f"{folder}/{method}.npy", found.gamma if ours else found)
    return {
        "n": n,
        "cpu": cpu,
        "wall": wall,
        "memory": memory,
        "memory_of_data": memory_of_data,
        "solver": found.solver if ours else method,
        "iterations": found.iterations if ours else 0,
        "residual": found.residual if ours else np.nan,
        "speed": speed,
    }


def peak_memory():
    """Tell the most memory that this process has had, in MB; on Linux alone."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"^VmHWM:\s*(\d+) kB", status, re.M)[1]) * 1024 / 1e6


def matrix_product(dtype):
    """Measure the operations a second of a 1500 x 1500 product."""
    a = np.random.default_rng(0).standard_normal((1500, 1500)).astype(dtype)
    start = time.process_time()
    for _ in range(6):
        a @ a
    return 6 * 2 * 1500**3 / (time.process_time() - start)


def choose(d, tau, alpha, kappa, lam):
    """Time "auto" against each choice that it has; what takes twice its time is stopped."""
    x, h, y = sample(d, tau, alpha, kappa)
    signal.signal(signal.SIGPROF, give_up)

    def timed(solver, limit):
        start = time.process_time()
        try:
            signal.setitimer(signal.ITIMER_PROF, limit)
            fit_gamma(x, h, y, lam, solver=solver)
        except TimeoutError:
            return np.inf
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        return time.process_time() - start

    chosen = fit_gamma(x, h, y, lam).solver  # what happens once a process is not timed
    times = {"auto": [timed("auto", 0)]}
    for solver in _eligible(len(y), d, lam * len(y) / d):
        times[solver] = [timed(solver, 2 * times["auto"][0] + 0.05)]
    for _ in range(4):  # where it is close, or the machine was not quiet, look again
        median = {solver: float(np.median(some)) for solver, some in times.items()}
        best = min(median.keys() - {"auto"}, key=median.get)
        if median["auto"] < 1.2 * median[best]:
            break
        for solver in ("auto", best):
            times[solver].append(timed(solver, 0))
    ratio = median["auto"] / median[best]
    return {"n": len(y), "solver": chosen, "best": best, "cpu": median["auto"], "ratio": ratio}


def give_up(*_):
    """Stop what is slower than its rival for certain."""
    raise TimeoutError


def in_child(function, *arguments):
    """Call a function of this file in a process of its own, on one core."""
    done = subprocess.run(
        [sys.executable, __file__, json.dumps([function.__name__, *arguments])],
        env=os.environ | CORE | {"ICLKIT_DEVICE": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


# All of it ---------------------------------------------------------------------------------------


def cases():
    """Yield table, d, τ, methods with the reference last, and how often each is timed."""
    rivals = ["auto", "auto, float32", "auto, 1e-4", "auto, 1e-4, float32", "dense"]
    yield "rivals", 60, 2.0, [*rivals[:4], "scikit-learn", "dense"], 5
    yield "rivals", 100, 2.0, rivals, 3
    yield "rivals", 100, 20.0, rivals, 1
    for d in (60, 80, 100, 120, 140, 170, 200):
        yield "growth", d, 2.0, ["auto, float32", "auto"], 5 if d < 150 else 3
    yield "growth", 400, 2.0, ["auto, float32", "auto"], 1
    for tau in (0.9, 0.95, 1.0, 1.05):
        yield "threshold", 60, tau, ["auto", "dual" if tau <= 1 else "primal"], 5


def choices():
    """Yield d, τ, α, κ, λ."""
    contexts = ((1.0, 20.0), (10.0, 2.0), (100.0, 0.5))
    taus = (0.2, 0.5, 0.9, 1.0, 1.05, 1.3, 2.0, 5.0)
    for tau, (alpha, kappa), lam in product(taus, contexts, (0.0, 0.01, 1.0)):
        yield 60, tau, alpha, kappa, lam
    for tau, (alpha, kappa), lam in product((0.2, 0.5, 0.9, 1.1, 2.0), contexts[1:], (0.0, 0.01)):
        yield 100, tau, alpha, kappa, lam


def compare(folder, d, tau, methods, times):
    """Time methods in turn, and compare the errors of their predictors."""
    from iclkit.data import population_moments, prediction_error

    in_child(draw, folder, d, tau)
    rounds = [[in_child(measure, folder, method) for method in methods] for _ in range(times)]
    moments = population_moments(d, round(ALPHA * d), RHO)
    errors = [prediction_error(np.load(f"{folder}/{method}.npy"), moments) for method in methods]
    for method, error, rows in zip(methods, errors, zip(*rounds, strict=True), strict=True):
        cpu = [row["cpu"] for row in rows]
        middle = sorted(rows, key=lambda row: row["cpu"])[times // 2]
        yield (
            {"d": d, "tau": tau, "method": method, "times": times}
            | middle
            | {
                "cpu_least": min(cpu),
                "cpu_most": max(cpu),
                "error_off": abs(error / errors[-1] - 1),
            }
        )


def main():
    """Make the tables, and write them to one file."""
    from tqdm import tqdm

    tables = {"rivals": [], "growth": [], "threshold": [], "choice": []}
    with tempfile.TemporaryDirectory() as folder:
        for table, *case in tqdm(list(cases()), "fits"):
            tables[table] += compare(folder, *case)
    for d, tau, alpha, kappa, lam in tqdm(list(choices()), "choices"):
        point = {"d": d, "tau": tau, "alpha": alpha, "kappa": kappa, "lam": lam}
        tables["choice"].append(point | in_child(choose, *point.values()))
    write("fits", tables)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        name, *arguments = json.loads(sys.argv[1])
        print(json.dumps(globals()[name](*arguments)))
    else:
        main()
