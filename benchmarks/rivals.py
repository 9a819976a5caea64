"""Time `fit_gamma` against scipy's conjugate gradients and LSMR, at equal accuracy of both errors.

    make benchmarks        (half an hour of it, on a machine that does nothing else)

The rivals are what one writes in two lines: products with the features as whole arrays, and a
solver of scipy. They are stopped at the very iteration after which both errors stay within 1e-4 of
those of a direct solution, which nobody could know; `fit_gamma` is called as it is, and everything
that it does is timed. One core, CPU time, in turn on the same data, the least of several rounds,
from the second fit on. A second table has what errors are off by at random points.

The result is `book/data/rivals.nc`, which the hardware page of the book shows.
"""

import os

CORE = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
os.environ |= dict.fromkeys(CORE, "1")  # NumPy reads them when it starts

import sys  # noqa: E402
import time  # noqa: E402
from itertools import product  # noqa: E402

import numpy as np  # noqa: E402
import scipy  # noqa: E402
from scipy.sparse.linalg import LinearOperator, cg, lsmr  # noqa: E402
from tables import write  # noqa: E402
from tqdm import tqdm  # noqa: E402

from iclkit import backend, data  # noqa: E402
from iclkit.fits import fit_gamma  # noqa: E402

RHO, ACCURACY = 0.1, 1e-4
SPELL, ROUNDS = 0.1, 5  # CPU seconds of one measurement, and measurements of each


def draw(d, tau, alpha, kappa, seed):
    """Draw contexts, and the moments on which errors are measured."""
    streams = backend.streams(seed)
    n, k, ell = (max(1, round(v)) for v in (tau * d**2, kappa * d, alpha * d))
    tasks = data.draw_tasks(k, d, streams.tasks)
    each = tasks[data.assign_tasks(n, k, streams.tasks)]
    moments = data.population_moments(d, ell, RHO), data.task_moments(tasks, ell, RHO)
    return data.draw_statistics(each, ell, RHO, streams), moments


# What people would write -------------------------------------------------------------------------


def products(x, h):
    """Multiply with the features, and with their transpose, as whole arrays."""
    shape = x.shape[1], h.shape[1]
    forward = lambda g: np.vecdot(x @ g.reshape(shape), h)  # noqa: E731
    back = lambda r: (x.T @ (r[:, None] * h)).ravel()  # noqa: E731
    return forward, back, shape[0] * shape[1]


def by_cg(x, h, y, ridge, steps, callback=None):
    """Solve the smaller of both systems by scipy's conjugate gradients."""
    (forward, back, features), n = products(x, h), len(y)
    if n > features:
        apply, rhs = lambda g: back(forward(g)) + ridge * g, back(y)
    else:
        apply, rhs = lambda z: forward(back(z)) + ridge * z, y
    system = LinearOperator(2 * (len(rhs),), matvec=apply, dtype=float)
    found, _ = cg(system, rhs, rtol=1e-9, maxiter=steps, callback=callback)
    return (found if n > features else back(found)).reshape(x.shape[1], -1)


def by_lsmr(x, h, y, ridge, steps):
    """Solve the least-squares problem by scipy's LSMR."""
    forward, back, features = products(x, h)
    system = LinearOperator((len(y), features), matvec=forward, rmatvec=back, dtype=float)
    how = {"damp": ridge**0.5, "atol": 0, "btol": 0, "conlim": 0, "maxiter": steps}
    return lsmr(system, y, **how)[0].reshape(x.shape[1], -1)


def off_by(gamma, moments, exact):
    """Return by which share of it the worse of both errors is off."""
    found = [data.prediction_error(gamma, part) for part in moments]
    return max(abs(one / other - 1) for one, other in zip(found, exact, strict=True))


def steps_of_cg(x, h, y, ridge, moments, exact, most):
    """Count the iterations after which the errors stay right."""
    gaps, back = [], products(x, h)[1]
    dual = len(y) <= x.shape[1] * h.shape[1]

    def look(found):
        gamma = (back(found) if dual else found).reshape(x.shape[1], -1)
        gaps.append(off_by(gamma, moments, exact))

    by_cg(x, h, y, ridge, most, look)
    wrong = np.flatnonzero(np.array(gaps) > ACCURACY)
    return None if wrong.size and wrong[-1] == len(gaps) - 1 else int(wrong.max(initial=-1)) + 2


def steps_of_lsmr(x, h, y, ridge, moments, exact, most):
    """Find about how many iterations make the errors right, by bisection."""
    low, high = 1, most
    while high > low * 1.03:
        middle = round((low * high) ** 0.5)
        if middle in (low, high):
            break
        right = off_by(by_lsmr(x, h, y, ridge, middle), moments, exact) <= ACCURACY
        low, high = (low, middle) if right else (middle, high)
    return high if high < most else None


# One cell after the other ------------------------------------------------------------------------


def in_turn(calls, rounds=ROUNDS):
    """Return the least CPU time of a call of each."""
    for call in calls:
        call()
    times = [[] for _ in calls]
    for _ in range(rounds):
        for call, some in zip(calls, times, strict=True):
            made, start = 0, time.process_time()
            while made == 0 or time.process_time() - start < SPELL:
                call()
                made += 1
            some.append((time.process_time() - start) / made)
    return [min(some) for some in times]


def against_scipy():
    """Time one fit in every cell."""
    rows = []
    cells = list(product((40, 60, 100), (0.5, 0.99, 2.0, 20.0), (0.0, 0.01), ((10, 2), (1, 1))))
    for d, tau, lam, (alpha, kappa) in tqdm(cells, "cells"):
        (x, h, y), moments = draw(d, tau, alpha, kappa, seed=3)
        n, ridge = len(y), lam * len(y) / d
        side = "dual" if n <= d * (d + 1) else "primal"
        direct = fit_gamma(x, h, y, lam, solver=side).gamma
        exact = [data.prediction_error(direct, part) for part in moments]
        at = x, h, y, ridge, moments, exact
        steps = [steps_of_cg(*at, 20 * d**2)]
        steps.append(steps_of_lsmr(*at, 4 * (steps[0] or 5 * d**2)))
        ours = fit_gamma(x, h, y, lam)
        calls = [lambda: fit_gamma(x, h, y, lam)]  # noqa: B023
        calls += [
            lambda way=way, k=k: way(x, h, y, ridge, k)  # noqa: B023
            for way, k in zip((by_cg, by_lsmr), steps, strict=True)
            if k is not None
        ]
        times = iter(in_turn(calls))
        rows.append(
            {"d": d, "tau": tau, "lam": lam, "alpha": alpha, "kappa": kappa, "ours": next(times)}
            | {
                name: next(times) if k is not None else np.nan
                for name, k in zip(("cg", "lsmr"), steps, strict=True)
            }
            | {"solver": ours.solver, "iterations": ours.iterations}
            | {"cg_steps": steps[0] or 0, "lsmr_steps": steps[1] or 0}
            | {"off": off_by(ours.gamma, moments, exact)}
        )
        best = np.nanmin([rows[-1]["cg"], rows[-1]["lsmr"]])
        tqdm.write(f"{rows[-1]} ratio {rows[-1]['ours'] / best:.2f}")
    return rows


def kept(points=200):
    """Tell what the errors of iterative fits are off by, at random points."""
    rows = []
    for seed in tqdm(range(points), "points"):
        rng = np.random.default_rng(seed)
        d, lam = int(rng.integers(20, 61)), rng.choice([0.0, 1e-3, 0.01, 0.1, 1.0])
        ranges = np.log([(0.1, 8), (0.3, 100), (0.2, 20)])
        tau, alpha, kappa = np.exp(rng.uniform(*ranges.T))
        drawn, moments = draw(d, tau, alpha, kappa, seed)
        n = len(drawn.y)
        side = "dual" if n <= d * (d + 1) else "primal"
        direct = fit_gamma(*drawn, lam, solver=side).gamma
        exact = [data.prediction_error(direct, part) for part in moments]
        found = [fit_gamma(*drawn, lam, solver=s) for s in ("auto", f"{side}-cg")]
        rows.append(
            {"d": d, "tau": tau, "lam": lam, "alpha": alpha, "kappa": kappa}
            | {"auto": off_by(found[0].gamma, moments, exact)}
            | {"cg": off_by(found[1].gamma, moments, exact), "iterations": found[1].iterations}
        )
    return rows


if __name__ == "__main__":
    print(f"scipy {scipy.__version__}, numpy {np.__version__}", file=sys.stderr)
    write("rivals", {"scipy": against_scipy(), "kept": kept()})
