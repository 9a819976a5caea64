"""Many runs of one experiment: each over a grid of parameters, until its error bars are small.

`linear_attention` is one run: draw tasks and contexts, fit Γ*, measure its exact errors.
`simulate` repeats it at one point; `sweep` repeats any such function over a grid, on every core or
a cluster. `iclkit._table` knows which runs there are and which are to come, `iclkit._workers`
makes them, `iclkit._store` keeps them on disk.

A run is known by its point and its number, and has a random seed of its own made of both. Which
runs a point needs follows from the results of its earlier ones alone. So a sweep ends with the
same numbers whatever computes it, in which order, and however often it was interrupted.
"""

from __future__ import annotations

import inspect
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from tqdm import tqdm

from iclkit import _store, _table, _validate, _workers, backend
from iclkit._store import load
from iclkit.contexts import draw_statistics
from iclkit.fit import fit_gamma
from iclkit.moments import population_moments, prediction_error, task_moments
from iclkit.tasks import ASSIGNMENTS, assign_tasks, draw_tasks

__all__ = ["linear_attention", "load", "simulate", "sweep"]

# What takes less than so many seconds needs no progress bar.
_PATIENCE = 5

# One run --------------------------------------------------------------------------------------


class _Sizes(NamedTuple):
    n: int
    k: int
    ell: int
    fresh: bool  # κ = ∞: every context has its own task


def _sizes(
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    assignment: str = "uniform",
) -> _Sizes:
    """Check the parameters of a run, and turn ratios of the theory into whole numbers."""
    d = _validate.count("d", d)
    _validate.scalar(_validate.nonnegative, "rho", rho)
    _validate.scalar(_validate.nonnegative, "lam", lam)
    _validate.choice("assignment", assignment, ASSIGNMENTS)
    n = _validate.size("tau", tau, d**2, "n = tau * d**2")
    ell = _validate.size("alpha", alpha, d, "ell = alpha * d")
    fresh = _validate.scalar(_validate.positive, "kappa", kappa) == np.inf
    return _Sizes(n, n if fresh else _validate.size("kappa", kappa, d, "k = kappa * d"), ell, fresh)


def linear_attention(
    seed: int | np.random.SeedSequence,
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    assignment: str = "uniform",
) -> dict[str, float]:
    """Fit Γ* to fresh data once, and measure its exact errors.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    d : int
        Dimension, at least 1.
    tau : float
        Pretraining contexts τ = n/d², positive and finite; n is rounded.
    alpha : float
        Context length α = ℓ/d, positive and finite; ℓ is rounded.
    kappa : float
        Task diversity κ = k/d, in (0, inf]; k is rounded, and at inf every context has its own
        task.
    rho : float
        Variance of the label noise, at least 0.
    lam : float
        Ridge λ, at least 0; zero is the ridgeless limit.
    assignment : {"uniform", "balanced"}
        How contexts pick their task, see `iclkit.tasks.assign_tasks`.

    Returns
    -------
    dict
        `icl_error` and `idg_error`, exact for this Γ*.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or n, k or ℓ rounds to 0.

    Notes
    -----
    Tasks lie on the sphere of radius √d. The arrays live where `iclkit.backend.namespace` says.
    """
    n, k, ell, fresh = _sizes(
        d=d, tau=tau, alpha=alpha, kappa=kappa, rho=rho, lam=lam, assignment=assignment
    )
    streams = backend.streams(seed, backend.namespace())
    population = population_moments(d, ell, rho)
    tasks = draw_tasks(k, d, streams.tasks)
    if fresh:
        w, pretraining = tasks, population
    else:
        w = tasks[assign_tasks(n, k, streams.tasks, assignment=assignment)]
        pretraining = task_moments(tasks, ell, rho)
    # Iterations in float32 keep the tolerance, and take little more than half the time.
    gamma = fit_gamma(*draw_statistics(w, ell, rho, streams), lam, dtype="float32").gamma
    return {
        "icl_error": prediction_error(gamma, population),
        "idg_error": prediction_error(gamma, pretraining),
    }


linear_attention.check = _sizes  # `sweep` calls it at every point before anything is computed

# Many runs at one point -----------------------------------------------------------------------


def simulate(
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    runs: int = 10,
    seed: int = 0,
    assignment: str = "uniform",
) -> xr.Dataset:
    """Fit Γ* to fresh data several times, and measure its exact errors.

    Parameters
    ----------
    d, tau, alpha, kappa, rho, lam, assignment
        See `linear_attention`.
    runs : int
        Independent repetitions, at least 1. More runs leave the first ones as they were.
    seed : int
        At least 0; the same seed gives the same result on a CPU. Points of a curve need seeds of
        their own: with the same one, their random streams are the same, and so their errors are
        correlated. `sweep` sees to that.

    Returns
    -------
    xarray.Dataset
        `icl_error` and `idg_error` along `run`, exact for the Γ* of each run; the parameters and
        the actual `n`, `k` (n when every context has its own task) and `ell` as attributes.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or n, k or ℓ rounds to 0.
    """
    point = {
        "d": d, "tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam,
        "assignment": assignment,
    }  # fmt: skip
    sizes, runs = _sizes(**point), _validate.count("runs", runs)
    seeds = [backend.child_seed(seed, run) for run in range(runs)]
    with _workers.undone(), _progress(f"d={d}, τ={tau}", runs) as bar:
        results = []
        for child in seeds:
            _workers.one_thread()
            results.append(linear_attention(child, **point))
            bar.update()
    return xr.Dataset(
        {name: ("run", [result[name] for result in results]) for name in results[0]},
        coords={"run": np.arange(runs)},
        attrs={
            **point, "runs": runs, "seed": seed, "n": sizes.n, "k": sizes.k, "ell": sizes.ell
        },
    )  # fmt: skip


def _progress(title: str, total: int) -> tqdm:
    """Progress on stdout, and only where somebody watches: a terminal or a notebook."""
    watched = sys.stdout.isatty() or "ipykernel" in sys.modules
    quiet = {} if watched else {"disable": True}
    return tqdm(desc=title, total=total, file=sys.stdout, delay=_PATIENCE, leave=False, **quiet)


# Many runs over a grid ------------------------------------------------------------------------


def sweep(
    measure: Callable[..., dict[str, float]],
    grid: Mapping[str, Any],
    file: str | os.PathLike | None = None,
    *,
    seed: int,
    precision: float = 0.01,
    runs: tuple[int, int] = (10, 1000),
    workers: int | None = None,
) -> xr.Dataset:
    """Repeat an experiment at every point of a grid until its means are precise.

    Parameters
    ----------
    measure : function
        One run, such as `linear_attention`: called as ``measure(seed, **point)`` with a
        numpy.random.SeedSequence and one value of each parameter, it returns finite numbers by
        name, the same names each time, and depends on nothing else. If it has an attribute
        ``check``, that is called as ``check(**point)`` at every point before anything is computed.
    grid : mapping from str
        Each parameter's value or values, numbers (inf allowed, NaN not) or words: a scalar; a 1-D
        sequence without repetitions, which makes a dimension of the parameter's name; or an
        xarray.DataArray with dimensions of its own, so that parameters can go together (τ = 0.2 α
        along "alpha"). They are broadcast against each other.
    file : path, optional
        Where results are kept: every finished point at once, other runs after a second at most.
        The same call again goes on where the last one ended, or returns the finished result. The
        grid may grow, and `precision` and `runs` may change; what is there is used.
    seed : int
        At least 0. A run's seed is made of this number, the values of its point, and the run's
        number; so a point has the same runs in every grid, and no two points share theirs.
    precision : float
        Runs are added to a point until the standard error of each mean is at most `precision`
        times its absolute value. Positive.
    runs : (int, int)
        The least and the greatest number of runs of a point; the least is at least 2.
    workers : int, optional
        Processes, each with one BLAS thread; 1 computes in this process. By default one for every
        core, or what ``joblib.parallel_config`` says, such as the Dask cluster of
        ``with joblib.parallel_config(backend="dask")``. A GPU is fed by this process alone.

    Returns
    -------
    xarray.Dataset
        For each name `v` that `measure` returns, `v` is the mean over runs, `v_se` its standard
        error, and `v_run` the runs themselves along "run", NaN beyond their number, which is
        `runs`. All parameters are coordinates. The attributes tell the provenance; where sessions
        differed in one, it lists all; `wall_time` is their sum in seconds.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or `file` holds another sweep, or is damaged.
    RuntimeError
        If a run fails; the message says which one, and why. If another sweep is writing `file`.

    Warns
    -----
    Warning
        What runs warn of, each message once.

    Notes
    -----
    Runs are made in rounds. After each, a point of m runs with relative standard error r (the
    greatest, over names) is finished if r ≤ `precision`, and is otherwise taken to
    1.1 m (r/`precision`)² runs in all.

    The same arguments give the same numbers, to the last bit, for any number of workers of one
    kind of machine, and through any interruptions. On Ctrl-C, workers are stopped, finished runs
    are kept, and KeyboardInterrupt goes on.
    """
    seed = _validate.count("seed", seed, least=0)
    precision = _validate.scalar(_validate.positive, "precision", precision)
    if not isinstance(runs, Sequence) or len(runs) != 2:
        raise TypeError(f"runs must be two integers, the least and the greatest, got {runs!r}")
    least = _validate.count("runs[0]", runs[0], least=2)
    most = _validate.count("runs[1]", runs[1], least=least)
    workers = None if workers is None else _validate.count("workers", workers)
    coords = _table.coordinates(grid)
    table = _table.Table(coords, precision=precision, runs=(least, most))
    _check(measure, table.points)
    about = {
        "measure": _name(measure), "parameters": coords.attrs["parameters"], "seed": str(seed),
        "precision": precision, "least_runs": least, "most_runs": most, "wall_time": 0.0,
        "version": version("iclkit"),
    }  # fmt: skip
    start = time.monotonic()

    def result() -> xr.Dataset:
        session = {"wall_time": about["wall_time"] + time.monotonic() - start}
        return table.dataset().assign_attrs(about | session)

    with _store.Store(file, result) as store, _workers.undone():
        if store.file is not None and store.file.exists():
            stored = load(store.file)
            _require_same_sweep(stored, about, store.file)
            try:
                table.take(stored)
            except ValueError as problem:
                raise ValueError(f"{file} {problem}: give another file") from None
            if not table.missing() and _same_request(stored, about, coords):
                return stored
            earlier = stored.attrs.keys() - about.keys() - {"digest", "unfinished"}
            _add(about, {name: stored.attrs[name] for name in earlier})
            about["wall_time"] = float(stored.attrs["wall_time"])
        _add(about, _store.provenance())
        warned = set()
        with _progress(about["measure"].rpartition(".")[2], 0) as bar:
            while missing := table.missing():
                bar.total = table.predicted()
                bar.n = bar.total - len(missing)
                tasks = [
                    _workers.Task(measure, seed, table.points[p], p, run) for p, run in missing
                ]
                with _workers.outcomes(tasks, workers) as outcomes:
                    for outcome in outcomes:
                        if outcome.failure is None:
                            with store.changing:
                                finished = table.add(outcome.row, outcome.run, outcome.values)
                                _add(about, {"device": outcome.device})
                                store.write() if finished else store.write_soon()
                        for category, message in set(outcome.warned) - warned:
                            warned.add((category, message))
                            warnings.warn(message, category, stacklevel=2)
                        if outcome.failure is not None:
                            raise _failure(outcome, table.points[outcome.row])
                        bar.set_postfix_str(f"{len(table.finished)}/{len(table.points)} points")
                        bar.update()
        store.write()
        # What is returned is what `load` returns, down to the types, with a file or without.
        return load(file) if file is not None else _store.decode(_store.encode(result()))


def _check(measure: Callable[..., Any], points: list[_table.Point]) -> None:
    """Find before the first run what would fail in a later one."""
    if not callable(measure) or not hasattr(measure, "__qualname__"):
        raise TypeError(
            f"measure must be a named function with all its parameters in grid, got {measure!r}"
        )
    try:
        inspect.signature(measure).bind(None, **points[0])
    except TypeError as problem:
        raise TypeError(f"measure must take a seed and what is in grid: {problem}") from None
    for point in points:
        try:
            getattr(measure, "check", lambda **_: None)(**point)
        except Exception as problem:
            problem.add_note(f"at the point {_table.say(point)} of grid")
            raise


def _failure(outcome: _workers.Outcome, point: _table.Point) -> RuntimeError:
    line, where = outcome.failure
    problem = RuntimeError(f"run {outcome.run} at {_table.say(point)} failed: {line}")
    problem.add_note(where)
    return problem


def _name(measure: Callable[..., Any]) -> str:
    """Name a function, the same whether its file is run or imported."""
    module = measure.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        module = spec.name if spec else Path(getattr(main, "__file__", "")).stem
    return f"{module}.{measure.__qualname__}".lstrip(".")


def _require_same_sweep(stored: xr.Dataset, about: Mapping[str, Any], file: Path) -> None:
    for name in ("measure", "parameters", "seed", "version"):
        theirs, ours = stored.attrs.get(name, "none"), about[name]
        if sorted(theirs.split(", ")) != sorted(ours.split(", ")):
            raise ValueError(f"{file} has {name} {theirs}, not {ours}: give another file")


def _same_request(stored: xr.Dataset, about: Mapping[str, Any], coords: xr.Dataset) -> bool:
    names = ("parameters", "precision", "least_runs", "most_runs")
    same = all(stored.attrs[name] == about[name] for name in names)
    return same and stored.coords.to_dataset().equals(coords)


def _add(about: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Enter provenance; where sessions differ, keep what each had."""
    for name, value in new.items():
        known = str(about[name]).split("; ") if name in about else []
        about[name] = "; ".join(dict.fromkeys([*known, *str(value).split("; ")]))
