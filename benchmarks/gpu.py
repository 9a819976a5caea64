"""Check the package on a GPU against the CPU and against theory, and time it there.

    python benchmarks/gpu.py [FILE]      (five minutes at most, on one GPU; needs cupy)

The result is one JSON file, by default `book/data/gpu.json`, which the hardware page of the book
shows. It is written after every step, and whole: a step that raises has an "error", one that the
time did not reach is "skipped" with the reason, a number that is not finite is null with the
reason next to it. The exit status is 0 if every check has passed, 1 if one failed or a step
raised, and 2, with a line that says why, if there is no GPU that can be used.

With `--device cpu --small` the same steps run on NumPy at sizes that take seconds.
"""

import argparse
import json
import math
import os
import signal
import statistics
import sys
import time
import tracemalloc
import warnings
from collections import Counter
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from iclkit import backend, fits, runs
from iclkit.data import (
    assign_tasks,
    draw_statistics,
    draw_tasks,
    population_moments,
    prediction_error,
    task_moments,
)
from iclkit.data import laws as laws_of
from iclkit.fits import solvers as solving
from iclkit.fits.fit import _eligible
from iclkit.runs import _store
from iclkit.theory.bayes import estimators

SECONDS = 300.0  # for everything
FILE = Path(__file__).parents[1] / "book" / "data" / "gpu.json"
ALPHA, KAPPA, RHO = 10.0, 2.0, 0.1  # of the timings, as in those of the CPU
# Both sides stop at 1e-9 of the gradient; in Γ that is more, by the condition of the features.
# The same data in another order, so with other rounding, differ by 4e-9 and 2e-9 at most.
GAMMA, ERROR = 1e-6, 1e-7
SIGMAS = 6.0  # of some hundred z-scores, one beyond it by chance in 10⁶ runs


class Run(NamedTuple):
    """Where to compute, how much, and until when."""

    xp: Any
    small: bool
    ends: float

    @property
    def gpu(self):
        """Whether arrays are those of cupy."""
        return self.xp is not np

    def left(self):
        """Tell the seconds that are left."""
        return self.ends - time.monotonic()

    def wait(self):
        """Wait for the device, which computes while Python goes on."""
        if self.gpu:
            self.xp.cuda.Device().synchronize()

    def take(self, *arrays):
        """Copy arrays to the device."""
        return tuple(self.xp.asarray(array) for array in arrays)


def check(name, value, limit):
    """Compare the size of a value with what it must not exceed; NaN fails."""
    value = float(value)
    return {"name": name, "value": value, "limit": limit, "passed": bool(abs(value) <= limit)}


def relative(found, wanted):
    """Return the greatest difference of arrays over the greatest number."""
    found, wanted = backend.to_numpy(found), backend.to_numpy(wanted)
    return float(np.max(np.abs(found - wanted)) / np.max(np.abs(wanted)))


# What there is -----------------------------------------------------------------------------------


def device(run):
    """Describe the device and the versions, and name no host."""
    found = {"device": _store.device()} | _store.provenance()
    names = "cupy", "cuda", "driver", "compute_capability", "memory", "memory_free"
    if not run.gpu:
        return found | dict.fromkeys(names) | {"cupy_reason": "computed with numpy"}
    runtime = run.xp.cuda.runtime
    free, total = runtime.memGetInfo()
    values = (
        run.xp.__version__, runtime.runtimeGetVersion(), runtime.driverGetVersion(),
        str(run.xp.cuda.Device().compute_capability), int(total), int(free),
    )  # fmt: skip
    return found | dict(zip(names, values, strict=True))


# Random streams ----------------------------------------------------------------------------------


def central_moments(cumulants):
    """Return central moments 0 to 8 of a law from its cumulants 0 to 8."""
    moments = [1.0, 0.0]
    for n in range(2, 9):
        parts = (math.comb(n - 1, j - 1) * cumulants[j] * moments[n - j] for j in range(2, n + 1))
        moments.append(math.fsum(parts))
    return moments


def laws():
    """Yield what the package draws: a name, how, the mean, and the central moments."""
    normal = [0, 0, 1, *6 * [0]]
    yield "normal", lambda stream, n: stream.standard_normal(n), 0.0, central_moments(normal)
    for df in (1, 9, 1000):
        gamma = [0, *(2 ** (j - 1) * math.factorial(j - 1) * df for j in range(1, 9))]
        draw = lambda stream, n, df=df: stream.chisquare(df, n)  # noqa: E731
        yield f"chisquare {df}", draw, float(df), central_moments(gamma)
    uniform = [0 if r % 2 else 1 / (r + 1) / 2**r for r in range(9)]
    yield "uniform", lambda stream, n: stream.random(n), 0.5, uniform


def streams(run):
    """Compare moments of the random streams with those of their laws, in standard errors."""
    n = 10**5 if run.small else 4 * 10**6
    rows, made = [], backend.streams(0, run.xp)
    for (law, draw, mean, moments), (name, stream) in product(laws(), made._asdict().items()):
        centred = draw(stream, n) - mean
        for what, r in (("mean", 1), ("variance", 2), ("fourth moment", 4)):
            error = math.sqrt((moments[2 * r] - moments[r] ** 2) / n)
            value = float((centred**r).mean())
            row = {"law": law, "stream": name, "of": what, "value": value, "exact": moments[r]}
            rows.append(row | {"se": error, "z": (value - moments[r]) / error})
    normals = [stream.standard_normal(n) for stream in backend.streams(1, run.xp)]
    other = backend.streams(2, run.xp).tasks.standard_normal(n)
    pairs = {"tasks, contexts": normals[:2], "tasks, noise": normals[::2]}
    pairs |= {"contexts, noise": normals[1:], "seeds 1, 2": [normals[0], other]}
    pairs["neighbours"] = normals[0][1:], normals[0][:-1]
    for (pair, (one, two)), power in product(pairs.items(), (1, 2)):
        # Of (a² − 1)(b² − 1), too: a stream with other signs is not another stream.
        a, b = (one, two) if power == 1 else (one**2 - 1, two**2 - 1)
        row = {"law": "normal", "stream": pair, "of": f"correlation of powers {power}"}
        value, error = float((a * b).mean()), power / math.sqrt(one.shape[0])
        rows.append(row | {"value": value, "exact": 0.0, "se": error, "z": value / error})
    kinds = 7
    counts = [float((made.tasks.integers(0, kinds, n) == k).sum()) for k in range(kinds)]
    square = sum((count - n / kinds) ** 2 for count in counts) / (n / kinds)
    row = {"law": "integers", "stream": "tasks", "of": "chi-square of counts", "value": square}
    error = math.sqrt(2 * (kinds - 1))
    rows.append(row | {"exact": kinds - 1, "se": error, "z": (square - kinds + 1) / error})
    again = backend.streams(1, run.xp).tasks.standard_normal(n)
    return {
        "numbers": n,
        "rows": rows,
        "checks": [
            check(f"{row['law']}, {row['stream']}, {row['of']}: z", row["z"], SIGMAS)
            for row in rows
        ]
        + [check("the same seed again: difference", abs(again - normals[0]).max(), 0)],
    }


def data(run):
    """Compare second moments of contexts that are drawn with the exact ones."""
    d, ell, n = 6, 9, 2 * 10**4 if run.small else 2 * 10**6
    checks = []
    for name in ("fresh tasks", "four tasks", "four tasks, balanced"):
        made = backend.streams(3, run.xp)
        if name == "fresh tasks":
            w, exact = draw_tasks(n, d, made.tasks), population_moments(d, ell, RHO)
        else:
            drawn = draw_tasks(4, d, made.tasks)
            how = "balanced" if name.endswith("balanced") else "uniform"
            w = drawn[assign_tasks(n, 4, made.tasks, assignment=how), :]
            exact = task_moments(drawn, ell, RHO)
        x, h, y = draw_statistics(w, ell, RHO, made)
        xy = x * y[:, None]
        for of, left, wanted in (("A", d * xy, exact.A), ("B", h, exact.B)):
            mean, square = left.T @ h / n, (left**2).T @ (h**2) / n
            found, square, wanted = (backend.to_numpy(part) for part in (mean, square, wanted))
            z = (found - wanted) / np.sqrt((square - found**2) / n)
            checks.append(check(f"{name}, moments {of}: greatest z", np.abs(z).max(), SIGMAS))
        found, spread = float((y**2).mean()), float((y**2).std())
        z = (found - exact.label_variance) / (spread / math.sqrt(n))
        checks.append(check(f"{name}, variance of labels: z", z, SIGMAS))
    return {"d": d, "ell": ell, "contexts": n, "checks": checks}


# Solvers -----------------------------------------------------------------------------------------


def sample(d, n, seed=7, k=5):
    """Draw contexts on the host, and the moments of new tasks and of theirs."""
    made, ell = backend.streams(seed, np), 3 * d
    tasks = draw_tasks(k, d, made.tasks)
    found = draw_statistics(tasks[assign_tasks(n, k, made.tasks), :], ell, RHO, made)
    return found, (population_moments(d, ell, RHO), task_moments(tasks, ell, RHO))


def allowed(solver, d, n, lam):
    """Whether a solver finds Γ* at that point."""
    if n <= d * (d + 1):
        return solver not in ("primal-mixed", "primal-cg")
    return lam > 0 or not solver.startswith("dual")


def quietly(fit, *arguments, **options):
    """Fit, and return as well whether the tolerance was missed."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = fit(*arguments, **options)
    return found, any(issubclass(one.category, fits.ConvergenceWarning) for one in heard)


def compare(run, fit, given, moments, arguments, options):
    """Fit on both sides, and tell the differences of Γ and of the errors of each Γ."""
    (here, heard), (there, other) = (
        quietly(fit, *arrays, *arguments, **options) for arrays in (given, run.take(*given))
    )
    gammas = [getattr(found, "gamma", found) for found in (here, there)]
    pairs = list(zip(*(g if g.ndim == 3 else [g] for g in gammas), strict=True))
    errors = [
        [[prediction_error(gamma, part) for gamma in pair] for part in moments] for pair in pairs
    ]
    icl, idg = (max(abs(b / a - 1) for a, b in (e[part] for e in errors)) for part in (0, 1))
    return {
        "solver": getattr(there, "solver", "flow"),
        "iterations": [getattr(found, "iterations", 0) for found in (here, there)],
        "missed": [heard, other],
        "gamma_off": max(relative(b, a) for a, b in pairs),
        "icl_off": icl,
        "idg_off": idg,
    }


def solver_cases(small):
    """Yield a name, the function, contexts, precision, what else it takes, and options."""
    d = 6
    for n, dtype in product((20, 80) if small else (20, 35, 80, 400), ("float64", "float32")):
        for solver, lam in product(("auto", *solving.SOLVERS), (0.0, 0.1)):
            if allowed(solver, d, n, lam):
                how = {"solver": solver, "dtype": dtype, "rtol": 1e-9}
                yield f"{solver}, λ = {lam:g}", fits.fit_gamma, d, n, dtype, (lam,), how
        for solver in ("auto", *solving.PATH_SOLVERS):
            how = {"solver": solver, "rtol": 1e-9}
            yield f"path by {solver}", fits.fit_gamma_path, d, n, dtype, ([0.01, 0.1, 1.0],), how
        yield "flow", fits.fit_gamma_flow, d, n, dtype, ([0.1, 1.0, 100.0],), {}


def solvers(run):
    """Compare every solver with itself on the CPU, on the same data."""
    rows, checks = [], []
    for name, fit, d, n, dtype, arguments, options in solver_cases(run.small):
        (x, h, y), moments = sample(d, n)
        given = x.astype(dtype), h.astype(dtype), y
        row = compare(run, fit, given, moments, arguments, options)
        point = {"asked": name, "d": d, "n": n, "dtype": dtype}
        rows.append(point | row | {"gamma_limit": GAMMA, "error_limit": ERROR})
        checks.append(check(f"{name}, n = {n}, {dtype}: Γ off", row["gamma_off"], GAMMA))
        for of in ("icl", "idg"):
            checks.append(check(f"{name}, n = {n}, {dtype}: {of} off", row[f"{of}_off"], ERROR))
        missed = sum(row["missed"])
        checks.append(check(f"{name}, n = {n}, {dtype}: tolerance missed", missed, 0))
    checks += special(run)
    return {"rows": rows, "checks": checks}


def special(run):
    """Check what needs a factor to fail, and contexts that come twice."""
    (x, h, y), moments = sample(6, 80)
    least = np.linalg.eigvalsh(fits.features.gram(x, h))[0] * 6 / 80
    row = compare(run, fits.fit_gamma, (x, h, y), moments, (-0.5 * least,), {})
    found = [check("λ < 0: Γ off", row["gamma_off"], GAMMA)]
    for lam in (-1.01 * least, -100 * least):
        try:
            fits.fit_gamma(*run.take(x, h, y), lam)
            refused = False
        except solving.IndefiniteError:
            refused = True
        found.append(check(f"λ = {lam:.3g}, too low: not refused", not refused, 0))
    for n in (10, 60):
        twice = [np.concatenate([part[:n], part[:n]]) for part in (x, h, y)]
        row = compare(run, fits.fit_gamma, twice, moments, (), {})
        found.append(check(f"{n} contexts twice: Γ off", row["gamma_off"], GAMMA))
    return found


# What goes to the host ---------------------------------------------------------------------------


class Copies(NamedTuple):
    """Bytes of arrays by the function of the package that copies them, and how many scalars."""

    named: Counter
    hidden: Counter
    scalars: Counter


@contextmanager
def counted(run):
    """Count copies to the host: `get` of the device's arrays, and what asks by `to_numpy`."""
    copies, inside = Copies(Counter(), Counter(), Counter()), []
    to_numpy, kind = backend.to_numpy, run.xp.ndarray
    get = kind.get if run.gpu else None

    def asked(array):
        frame = sys._getframe(1)
        while frame.f_back and frame.f_code.co_name.startswith("<"):  # a comprehension
            frame = frame.f_back
        inside.append(frame.f_code.co_name)
        try:
            if not run.gpu:  # what it would be
                enter(np.asarray(array))
            return to_numpy(array)
        finally:
            inside.pop()

    def enter(array):
        if array.size <= 1:
            copies.scalars["numbers"] += 1
        elif inside:
            copies.named[inside[-1]] += array.nbytes
        else:
            frame = sys._getframe(2)
            while frame.f_back and "iclkit" not in frame.f_globals.get("__name__", ""):
                frame = frame.f_back
            copies.hidden[frame.f_code.co_name] += array.nbytes

    def got(array, *arguments, **options):
        enter(array)
        return get(array, *arguments, **options)

    backend.to_numpy = asked
    if run.gpu:
        kind.get = got
    try:
        yield copies
    finally:
        backend.to_numpy = to_numpy
        if run.gpu:
            kind.get = get


def transfers(run):
    """Count the bytes that fits take to the host, on purpose and otherwise."""
    d, checks, rows = 12 if run.small else 40, [], []
    column = np.ones(d + 1)
    column[1] = 1e-7  # its second moment is below the rounding of the others
    for share, solver in product((0.5, 2.0), ("auto", *solving.SOLVERS, "path")):
        n = round(share * d * (d + 1))
        if solver != "path" and not allowed(solver, d, n, 0.0):
            continue
        x, h, y = sample(d, n)[0]
        fit = partial(fits.fit_gamma, solver=solver)
        if solver == "path":
            fit = partial(fits.fit_gamma_path, lams=[0.01, 0.1, 1.0])
        for name, given in (
            ("plain", (x, h, y)),
            ("graded", (x, h * column, y)),
            ("twice", tuple(np.concatenate([part[: n // 4]] * 4) for part in (x, h, y))),
        ):
            if name != "plain" and solver != "auto":
                continue
            there = run.take(*given)
            with counted(run) as copies:
                found, _ = quietly(fit, *there)
            # Columns' greatest numbers and variances; triangles where columns are graded; and all
            # data, with the units of Γ, where an orthogonal factor of the features is taken.
            limit = 8 * 16 * (d + 1)
            limit += 16 * (d + 1) ** 2 if name != "plain" else 0
            if name == "twice" or (solver == "primal" and n <= d * (d + 1)):
                limit += 8 * (len(y) * (2 * d + 2) + d * (d + 1))
            row = {"d": d, "n": len(y), "data": name, "solver": found.solver, "limit": limit}
            row |= {"named": dict(copies.named), "hidden": dict(copies.hidden)}
            row |= {"iterations": found.iterations, "scalars": copies.scalars["numbers"]}
            rows.append(row)
            total = sum(copies.named.values())
            label = f"{solver}, n = {len(y)}, {name}"
            checks.append(check(f"{label}: bytes on purpose", total, limit))
            checks.append(check(f"{label}: hidden bytes", sum(copies.hidden.values()), 0))
    found = {"rows": rows, "checks": checks, "sees_scalars": None}
    if run.gpu:
        with counted(run) as copies:
            run.xp.asnumpy(run.xp.ones(1000))
            float(run.xp.ones(()))
        seen = sum(copies.hidden.values())
        checks.append(check("the count of a copy of 8000 bytes: off", seen - 8000, 0))
        return found | {"sees_scalars": copies.scalars["numbers"] == 1}
    return found | {"sees_scalars_reason": "numpy: there is nothing to be copied"}


# Memory ------------------------------------------------------------------------------------------


class Most:
    """The most bytes that were in use at once, beyond those before."""

    bytes = used = 0

    def enter(self, change):
        """Note that so many bytes were taken, or given back."""
        self.used += change
        self.bytes = max(self.bytes, self.used)


@contextmanager
def peak(run):
    """Tell what a `with` has of memory: of cupy's pool, or of what Python's allocators know."""
    most = Most()
    if not run.gpu:
        tracemalloc.start()
        try:
            yield most
            most.bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        return

    class Hook(run.xp.cuda.MemoryHook):
        name = "peak"

        def malloc_postprocess(self, **about):
            most.enter(about["mem_size"])

        def free_postprocess(self, **about):
            most.enter(-about["mem_size"])

    with Hook():
        yield most


def needed(solver, n, d, number, block):
    """Count the bytes of a fit beyond the data, for numbers of so many bytes in the iterations."""
    size, entries = (n if solver.startswith("dual") else d * (d + 1)), d * (d + 1)
    # The prediction, second moments, and blocks of products over rows.
    some = 8 * n + 6 * 8 * (d + 1) ** 2 + 4 * min(block, 8 * n * (d + 1))
    low = n * (2 * d + 1) * 4
    if solver.endswith("cg"):
        vectors = n if solver.startswith("dual") else entries
        return some + 12 * 8 * vectors + (low if number == 4 else 0)
    number = 4 if solver.endswith("mixed") else 8
    # The matrix, a copy to factor in its place or the factor, and what the ridge is added by.
    matrices = 3 * number * size**2 + 2 * min(block, number * size**2)
    if solver.startswith("primal"):
        matrices += number * (entries**2 // 4 + 2 * 1024 * (d + 2) ** 2)
    return some + matrices + 16 * 8 * size + (low if number == 4 else 0)


def memory(run):
    """Compare the most memory of each solver with its count in bytes."""
    d, checks, rows = 20 if run.small else 60, [], []
    block = 2**28 if run.gpu else 2**18
    for share, solver, dtype in product((0.5, 2.0), solving.SOLVERS, ("float64", "float32")):
        n = round(share * d * (d + 1))
        if not allowed(solver, d, n, 0.0) or (dtype == "float32" and not solver.endswith("cg")):
            continue
        x, h, y = run.take(*sample(d, n)[0])
        fits.fit_gamma(x[:40, :3], h[:40, :4], y[:40], solver=solver if share > 1 else "auto")
        run.wait()
        with peak(run) as most:
            found, _ = quietly(fits.fit_gamma, x, h, y, solver=solver, dtype=dtype)
            run.wait()
        count = needed(solver, n, d, int(dtype[-2:]) // 8, block)
        row = {"d": d, "n": n, "solver": solver, "dtype": dtype, "peak": most.bytes}
        rows.append(row | {"counted": count, "data": 8 * n * (2 * d + 2)})
        limit = 1.5 * count + 2**20
        checks.append(check(f"{solver}, n = {n}, {dtype}: bytes", most.bytes, limit))
        checks.append(check(f"{solver}, n = {n}, {dtype}: none seen", most.bytes <= 0, 0))
        del found
    return {"rows": rows, "checks": checks}


# Runs --------------------------------------------------------------------------------------------


def sweep(run):
    """Make a small sweep, and compare its means with the theory to first order in 1/d."""
    d, repeats = (16, 8) if run.small else (60, 40)
    grid = {"d": d, "tau": [0.5, 2.0], "alpha": 1.0, "kappa": 1.0, "rho": RHO, "lam": [0.0, 0.1]}
    made = runs.sweep(
        runs.linear_attention, grid, seed=1, runs=(repeats, repeats), precision=1e-9, workers=1
    )
    point = {"d": d, "tau": 2.0, "alpha": 1.0, "kappa": 2.0, "rho": RHO}
    alone = runs.simulate(**point, runs=repeats, seed=2)
    rows, checks = [], []
    for name in ("icl_error", "idg_error"):
        for tau, lam in product(grid["tau"], grid["lam"]):
            here = made.sel(tau=tau, lam=lam)
            mean, se, theory = (float(here[name + part]) for part in ("", "_se", "_theory"))
            rows.append(
                {"tau": tau, "lam": lam, "kappa": 1.0, "error": name} | between(mean, se, theory)
            )
        mean, theory = float(alone[name].mean()), float(alone[f"{name}_theory"])
        se = float(alone[name].std(ddof=1)) / math.sqrt(repeats)
        rows.append(
            {"tau": 2.0, "lam": 0.0, "kappa": 2.0, "error": name} | between(mean, se, theory)
        )
    for row in rows:
        at = f"{row['error']}, τ = {row['tau']:g}, λ = {row['lam']:g}, κ = {row['kappa']:g}"
        checks.append(check(f"{at}: z", row["z"], SIGMAS))
    there = made.attrs["device"].split(",")[0] == ("gpu" if run.gpu else "cpu")
    checks.append(check("the sweep names another device", not there, 0))
    return {"d": d, "runs": repeats, "rows": rows, "checks": checks}  # fmt: skip


def between(mean, se, theory):
    """Tell how far a mean is from what the theory expects."""
    # The theory leaves out terms of order 1/d², which are less than this error.
    return {"mean": mean, "se": se, "theory": theory, "z": (mean - theory) / se}


def experiments(run):
    """Compare means of everything that computes on the device with those of the CPU."""
    d, repeats, checks = 8 if run.small else 20, 8 if run.small else 30, []
    point = {"d": d, "tau": 2.0, "alpha": 1.0, "kappa": 1.0, "rho": RHO, "lam": 0.1}
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    law = (turned * np.arange(1, d + 1)) @ turned.T / d
    attention, cases = runs.linear_attention, {}
    cases["tasks of a power law"] = attention, point | {"tasks": "power_law(0.5)"}
    cases["tasks of a list"] = attention, point | {"tasks": laws_of.vectors(turned)}
    cases["tasks of a matrix"] = attention, point | {"tasks": law}
    cases["tokens of a matrix"] = attention, point | {"tokens": law}
    cases["tokens in few directions"] = attention, point | {"tokens": "low_rank(0.5)"}
    cases["fresh Gaussian tasks"] = attention, point | {"kappa": np.inf, "prior": "gaussian"}
    cases["tasks equally often"] = attention, point | {"assignment": "balanced"}
    kernel = {"kernel": "exponential(4)", "query": "correlated"}
    cases["correlated tokens"] = runs.correlated_tokens, point | kernel
    cases["layers"] = runs.looped_attention, point | {"depth": 2}
    bayes = {name: point[name] for name in ("d", "alpha", "kappa", "rho")}
    cases["Bayes"] = estimators, bayes
    for name, (measure, given) in cases.items():
        results = []
        for device, seed in (("gpu" if run.gpu else "cpu", 1), ("cpu", 2)):
            os.environ["ICLKIT_DEVICE"] = device
            seeds = [backend.child_seed(seed, number) for number in range(repeats)]
            results.append([measure(child, **given) for child in seeds])
        os.environ["ICLKIT_DEVICE"] = "gpu" if run.gpu else "cpu"
        for error in results[0][0]:
            two = [np.array([float(found[error]) for found in some]) for some in results]
            spread = math.sqrt(sum(one.var(ddof=1) for one in two) / repeats)
            z = (two[0].mean() - two[1].mean()) / spread
            checks.append(check(f"{name}, {error}: z", z, SIGMAS))
    return {"d": d, "runs": repeats, "checks": checks}


# Times -------------------------------------------------------------------------------------------


def seconds(run, call, times=1):
    """Return the median time of a call, and what it gave last."""
    spent = []
    for _ in range(times):
        run.wait()
        start = time.perf_counter()
        found = call()
        run.wait()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent), found


def product_speed(run, dtype):
    """Measure the operations a second of a large matrix product."""
    size = 256 if run.small else 8192
    a = backend.streams(5, run.xp).tasks.standard_normal((size, size)).astype(dtype)
    a @ a
    spent, _ = seconds(run, lambda: a @ a, 5)
    return 2 * size**3 / spent


def rowwise(run):
    """Time sums of products over rows, in the two ways there are: an inner loop of the fits."""
    n, d = (2000, 100) if run.small else (200_000, 100)
    a, b = (stream.standard_normal((n, d)) for stream in backend.streams(6, run.xp)[:2])
    xp = solving.array_namespace(a)
    ways = {"vecdot": lambda: xp.vecdot(a, b), "sum of products": lambda: xp.sum(a * b, axis=1)}
    found = {name: (way(), seconds(run, way, 5))[1] for name, way in ways.items()}
    times = {name: {"seconds": spent, "bytes": 16 * n * d} for name, (spent, _) in found.items()}
    off = relative(found["vecdot"][1], found["sum of products"][1])
    return times, check(f"vecdot of {n} rows: off", off, 1e-12)


def operations(solver, n, d, iterations):
    """Count those of matrix products and factors in float64, and in float32."""
    passes = iterations * 4 * n * d * (d + 1)
    if solver.endswith("cg"):
        return passes, passes
    size = n if solver.startswith("dual") else d * (d + 1)
    form = 4 * d * n**2 if solver.startswith("dual") else n * d**4 / 2
    return passes, form + size**3 / 3


def timing(run, d, tau, dtype, speeds):
    """Draw contexts on the device, fit, and tell the time beside that of the products alone."""
    made = backend.streams(7, run.xp)
    n, k, ell = round(tau * d**2), round(KAPPA * d), round(ALPHA * d)
    tasks = draw_tasks(k, d, made.tasks)
    chosen = assign_tasks(n, k, made.tasks)
    drawing, (x, h, y) = seconds(run, lambda: draw_statistics(tasks[chosen, :], ell, RHO, made))
    if dtype == "float32":
        x, h = (part.astype(dtype) for part in (x, h))
    times = 3 if d <= 200 else 1
    with peak(run) as most:
        spent, found = seconds(run, lambda: fits.fit_gamma(x, h, y, dtype=dtype), times)
    passes, others = operations(found.solver, n, d, found.iterations)
    if found.solver.endswith("cg"):
        bound = passes / speeds[dtype]
    else:
        low = "float32" if found.solver.endswith("mixed") else "float64"
        bound = passes / speeds["float64"] + others / speeds[low]
    return {
        "solver": found.solver, "iterations": found.iterations, "residual": found.residual,
        "drawing": drawing, "seconds": spent, "times": times, "bound": bound,
        "multiple": spent / bound, "peak": most.bytes,
    }  # fmt: skip


def room(run):
    """Tell the bytes that are free on the device, with what the pool holds and does not use."""
    pool = run.xp.get_default_memory_pool()
    pool.free_all_blocks()
    return run.xp.cuda.runtime.memGetInfo()[0]


def times(run):
    """Time fits up to what memory and time allow, and say why the others are left out."""
    speeds = {dtype: product_speed(run, dtype) for dtype in ("float64", "float32")}
    ways, agreed = rowwise(run)
    dimensions = (8, 16) if run.small else (100, 200, 500, 1000)
    timing(run, 8, 2.0, "float64", speeds)  # compiles
    timing(run, 8, 2.0, "float32", speeds)
    chosen = choices(run)
    rows, before, checks = [], {}, [agreed]
    for d, tau, dtype in product(dimensions, (0.5, 2.0), ("float64", "float32")):
        n = round(tau * d**2)
        row = {"d": d, "tau": tau, "n": n, "dtype": dtype}
        # x, h and the task of each context, and as much again as one of them while drawing.
        memory, (size, spent) = 8 * n * (4 * d + 10), before.get((tau, dtype), (d, 0.0))
        ahead = 1.5 * spent * (d / size) ** 4
        names = "solver", "iterations", "residual", "drawing", "seconds", "bound", "multiple"
        reason = None
        if run.gpu and memory > room(run):
            reason = f"needs {memory / 1e9:.0f} GB, and {room(run) / 1e9:.0f} GB are free"
        elif ahead > run.left():
            reason = f"foretold to take {ahead:.0f} s, and {max(run.left(), 0):.0f} s are left"
        else:
            try:
                start = time.monotonic()
                row |= timing(run, d, tau, dtype, speeds)
                before[tau, dtype] = d, time.monotonic() - start
            except Exception as problem:
                reason = f"{type(problem).__name__}: {problem}"
                # Too large for the card (cupy's error is a MemoryError), or for the time.
                foreseen = isinstance(problem, (MemoryError, TimeoutError))
                checks.append(check(f"d = {d}, τ = {tau:g}, {dtype}: failed", not foreseen, 0))
        rows.append((row if reason is None else row | dict.fromkeys(names)) | {"skipped": reason})
    made = [row for row in rows if row["skipped"] is None]
    checks.append(check("no size was timed", not made, 0))
    for row in made:
        at = f"d = {row['d']}, τ = {row['tau']:g}, {row['dtype']}"
        checks.append(check(f"{at}: residual", row["residual"], 1e-5))
    found = {"speeds": speeds, "rowwise": ways, "choices": chosen}
    return found | {"rows": rows, "checks": checks}


def choices(run):
    """Time each solver that "auto" chooses from, where any could be the fastest."""
    d, rows = 16 if run.small else 100, []
    for tau in (0.5, 0.9, 2.0):
        n = round(tau * d**2)
        x, h, y = run.take(*sample(d, n)[0])
        for solver in ("auto", *_eligible(n, d, 0.0)):
            spent, (found, _) = seconds(
                run, partial(quietly, fits.fit_gamma, x, h, y, solver=solver), 3
            )
            row = {"d": d, "tau": tau, "asked": solver, "solver": found.solver, "seconds": spent}
            rows.append(row)
    return rows


# All of it ---------------------------------------------------------------------------------------

# What each takes on a GPU, in seconds, with kernels to be compiled: it is begun with as much left.
STEPS = {
    device: 0, streams: 10, data: 10, solvers: 30, transfers: 10, memory: 10, sweep: 20,
    experiments: 20, times: 10,
}  # fmt: skip


def over(*_):
    """Stop a step at the end of the time."""
    raise TimeoutError("the time is over")


@contextmanager
def limited(seconds):
    """Stop what takes longer, where the system has alarms."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    handler = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1.0))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def made(step, least, run):
    """Make a step, whatever comes of it."""
    if run.left() < least * (not run.small):
        return {"skipped": f"takes about {least} s, and {max(run.left(), 0):.0f} s were left"}
    start = time.monotonic()
    try:
        with limited(run.left()):
            found = step(run)
    except Exception as problem:  # the other steps go on
        line = (str(problem) or "no reason given").splitlines()[0]
        found = {"error": f"{type(problem).__name__}: {line}"}
    found["seconds"] = time.monotonic() - start
    if "checks" in found:
        found["failed"] = [one["name"] for one in found["checks"] if not one["passed"]]
    return found


def plain(value):
    """Return what JSON can hold: a number that is not finite is null, with the reason beside."""
    if isinstance(value, dict):
        lost = {
            f"{key}_reason": str(float(item))
            for key, item in value.items()
            if isinstance(item, (float, np.floating)) and not math.isfinite(item)
        }
        return {str(key): plain(item) for key, item in value.items()} | lost
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def write(file, result):
    """Put the result on disk: a reader finds the old file or the new one, whole."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(json.dumps(plain(result), allow_nan=False, ensure_ascii=False, indent=1) + "\n")
    os.replace(part, file)


def main(arguments=None):
    """Make all steps, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=FILE, help="where the result goes")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--small", action="store_true", help="at sizes that take seconds")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything")
    given = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        xp = backend.namespace(given.device)
    except RuntimeError as problem:
        print(problem, file=sys.stderr)
        return 2
    run = Run(xp, given.small, started + given.seconds)
    before = {name: os.environ[name] for name in ("ICLKIT_DEVICE",) if name in os.environ}
    os.environ["ICLKIT_DEVICE"] = given.device  # for the runs
    result = {"small": given.small, "passed": None, "complete": None, "seconds": 0.0, "steps": {}}
    try:
        for step, least in STEPS.items():
            found = result["steps"][step.__name__] = made(step, least, run)
            result["seconds"] = time.monotonic() - started
            write(given.file, result)
            said = found.get("error") or found.get("skipped") or ", ".join(found.get("failed", ()))
            print(f"{step.__name__}: {said or 'passed'}", flush=True)
    finally:
        del os.environ["ICLKIT_DEVICE"]
        os.environ |= before
    steps = result["steps"].values()
    result["passed"] = not any(step.get("failed") or "error" in step for step in steps)
    result["complete"] = not any("skipped" in step for step in steps)
    write(given.file, result)
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
