"""Time the errors: with a spectrum against sampled task matrices, in closed form, number by number.

    make benchmarks        (two minutes of it, on one core)

The rival is what one writes without the equations for a spectrum: the traces of the task matrix
are means over draws of it, each with a decomposition, and the effective ridge is a root of their
equation. Beside calls with single numbers stands the bare formula, as one would type it from the
paper. The result is `book/data/theory-times.nc`, which the hardware page of the book shows.
"""

import os

CORE = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
os.environ |= dict.fromkeys(CORE, "1")  # NumPy reads them when it starts

import math  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402

import numpy as np  # noqa: E402
from scipy.optimize import brentq  # noqa: E402
from tables import write  # noqa: E402

from iclkit.data import laws  # noqa: E402
from iclkit.theory import effective_ridge, icl_error, idg_error  # noqa: E402

DRAWS = 10  # of the task matrix for one point
POINT = {"tau": 0.5, "alpha": 1.0, "rho": 0.1, "lam": 0.1}


def sampled(spectrum, kappa, *, tau, alpha, rho, lam, seed=0):
    """Return the error on new tasks by traces of sampled task matrices."""
    rng, d, traces = np.random.default_rng(seed), spectrum.size, []
    q = (rho + spectrum.mean()) / alpha
    for _ in range(DRAWS):
        w = rng.normal(size=(round(kappa * d), d)) * np.sqrt(spectrum)
        r, basis = np.linalg.eigh(w.T @ w / len(w))
        traces.append((r, (basis**2 * spectrum[:, None]).sum(axis=0)))  # and tr C in their basis

    def mean(of):
        return np.mean([of(r, c).mean() for r, c in traces])

    def excess(xi):
        return xi * mean(lambda r, _: 1 / (r + q + xi)) - tau * lam / xi - 1 + tau

    xi = brentq(excess, lam, lam + (q + spectrum.mean()) / tau, xtol=1e-12)
    x = q + xi
    bg2 = mean(lambda r, _: (q + r) / (r + x) ** 2)
    noise = rho + q * mean(lambda r, _: r / (r + x)) + x * xi * mean(lambda r, _: r / (r + x) ** 2)
    S = noise / (tau * lam / xi + xi * bg2)
    Y = mean(lambda r, _: r**2 / (r + x) ** 2) + S * bg2
    return rho + q * Y + mean(lambda r, c: c * (x**2 + S * (q + r)) / (r + x) ** 2)


def seconds(call, rounds):
    """Return the median CPU time of a call, and what it gave."""
    found, times = call(), []
    for _ in range(rounds):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times), found


def against_sampling():
    """Compare one call, and an array of task diversities, with one call of the rival for each."""
    rows = []
    for m, points in ((100, 1), (100, 100), (1000, 1), (10_000, 1), (10_000, 100)):
        spectrum = np.arange(1.0, m + 1) ** -0.5
        spectrum /= spectrum.mean()
        kappa = np.geomspace(0.2, 5, points) if points > 1 else np.array([0.5])
        call = lambda: icl_error(**POINT, kappa=kappa, tasks=spectrum)  # noqa: E731, B023
        ours, value = seconds(call, 5)
        # The rival takes a minute for 1000 eigenvalues, and a thousand times that for 10⁴.
        rival, gap = np.nan, np.nan
        if m <= 1000:
            start = time.process_time()
            other = [sampled(spectrum, one, **POINT) for one in kappa]
            rival, gap = time.process_time() - start, np.abs(other / value - 1).max()
        rows.append({"eigenvalues": m, "points": points, "cpu": ours, "sampled": rival, "gap": gap})
        print(rows[-1], flush=True)
    return rows


def against_closed_form():
    """Compare a law of one eigenvalue with isotropic tasks, which have a closed form."""
    rows, law = [], laws.isotropic()
    for points in (10, 100, 10_000):
        tau = np.geomspace(0.1, 10, points)
        for lam in (0.0, 0.1):
            at, times = (tau, 1.0, 0.5, 0.1, lam), ([], [])
            for _ in range(9):  # in turn
                for of, how in zip(times, ({}, {"tasks": law}), strict=True):
                    of.append(seconds(lambda: icl_error(*at, **how), 15)[0])  # noqa: B023
            closed, general = map(min, times)
            rows.append({"points": points, "lam": lam, "closed": closed, "law": general})
            print(rows[-1], flush=True)
    return rows


def formula(tau, alpha, kappa, rho):
    """Return the error on new tasks without ridge, of plain numbers that nobody checks."""
    q, ratio = (1 + rho) / alpha, min(tau, 1.0) / kappa
    b = q + 1 - ratio
    m = 2 / (b + math.sqrt(b * b + 4 * q * ratio))
    if tau < 1:
        mu = q * m
        rest = 1 - tau * (1 - mu) ** 2 + mu * (rho / q - 1)
        return 1 + rho - 2 * tau * (1 - mu) + tau * (1 + q) / (1 - tau) * rest
    g2 = m / (q + 1 / (1 + m / kappa) ** 2)  # tr G²
    bias = q**2 * g2 + q * (1 - 2 * q * m + q**2 * g2)
    return rho + bias + (1 + q) * m / (tau - 1) * (rho + q * (1 - q * m))


def single():
    """Time calls with single numbers, as a loop or an optimiser makes them."""
    calls = [(formula, 0.0)]
    calls += [(f, lam) for f in (icl_error, idg_error, effective_ridge) for lam in (0.0, 0.1)]
    times = [[] for _ in calls]
    for _ in range(9):  # in turn
        for of, (function, lam) in zip(times, calls, strict=True):
            at = (2.0, 1.0, 1.0, 0.1, lam) if lam else (2.0, 1.0, 1.0, 0.1)
            of.append(seconds(lambda: [function(*at) for _ in range(100)], 9)[0] / 100)  # noqa: B023
    rows = [
        {"function": function.__name__, "lam": lam, "cpu": min(of)}
        for (function, lam), of in zip(calls, times, strict=True)
    ]
    for tau in (0.5, 2.0):
        assert math.isclose(formula(tau, 1.0, 0.5, 0.1), icl_error(tau, 1.0, 0.5, 0.1))
    print(*rows, sep="\n", flush=True)
    return rows


def large():
    """Time spectra of 10⁴ eigenvalues, of the tasks and of the tokens, for one point."""
    j, rows = np.arange(1.0, 10_001), []
    tau = np.geomspace(0.3, 5, 20)
    at, tasks = (1.0, 0.5, 0.1, 0.1), j**-0.5
    cpu, _ = seconds(lambda: icl_error(tau, *at, tasks=tasks), 5)
    rows.append({"law": "tasks", "cpu": cpu / tau.size})
    cpu, _ = seconds(lambda: icl_error(0.5, *at, tasks=tasks, tokens=j**-0.3), 5)
    rows.append({"law": "tasks and tokens", "cpu": cpu})
    print(rows, flush=True)
    return rows


if __name__ == "__main__":
    write(
        "theory-times",
        {
            "sampled": against_sampling(),
            "closed": against_closed_form(),
            "single": single(),
            "large": large(),
        },
    )
