"""Many runs of one experiment: each over a grid of parameters, until its error bars are small.

`simulate` repeats `linear_attention` at one point; `sweep` repeats any such function over a grid,
on every core or a cluster. `_table` knows which runs there are and which are to come, `_workers`
makes them, `_store` keeps them on disk, and `_identity` tells whose they are.

A run is known by its point and its number, and has a random seed of its own made of both. Which
runs a point needs follows from the results of its earlier ones alone. So a sweep ends with the
same numbers whatever computes it, in which order, and however often it was interrupted.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import xarray as xr

from iclkit import __version__, _validate, backend
from iclkit._progress import progress
from iclkit.data._at import LawOrWord, in_words
from iclkit.data.tasks import _prior_of
from iclkit.runs import _expected, _identity, _store, _table, _workers
from iclkit.runs._store import load
from iclkit.runs.one import _sizes, linear_attention

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
    prior: str | None = None,
    tasks: LawOrWord | None = None,
    test_tasks: LawOrWord | None = None,
    tokens: LawOrWord | None = None,
    test_tokens: LawOrWord | None = None,
    alpha_test: float | None = None,
    rho_test: float | None = None,
) -> xr.Dataset:
    """Fit Γ* to fresh data several times, and measure its exact errors.

    Parameters
    ----------
    d : int
        Dimension of tokens and tasks.
    tau, alpha, kappa : float
        Pretraining contexts n/d², context length ℓ/d and task diversity k/d; for sizes of your
        own, ``tau=n / d**2, alpha=ell / d, kappa=k / d``. With ``kappa=inf``, each context has a
        task of its own.
    rho, lam : float
        Variance of the label noise, and ridge λ.
    assignment, prior : str, optional
    tasks, test_tasks, tokens, test_tokens : law or str, optional
    alpha_test, rho_test : float, optional
        What tasks and tokens are like in pretraining and at test, see
        `iclkit.runs.linear_attention`.
    runs : int
        Independent repetitions, at least 1. More runs leave the first ones as they were.
    seed : int
        At least 0; the same seed gives the same result on a CPU. Points of a curve need seeds of
        their own: with the same one, their random streams are the same, and so their errors are
        correlated. `iclkit.runs.sweep` sees to that.

    Returns
    -------
    xarray.Dataset
        `icl_error` and `idg_error` along `run`, exact for the Γ* of each run; what the theory
        predicts for their means at this d, `icl_error_theory` and `idg_error_theory`, inf for
        n = d(d + 1) without ridge. They are missing where it does not: for laws other than that of
        Gaussian tasks, for λ < 0, or without digits, as close to that n. The parameters that are
        given and the actual `n`, `k` (n when every context has its own task) and `ell` are
        attributes, laws in words.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or n, k or ℓ rounds to 0.

    Warns
    -----
    iclkit.data.laws.FewDirectionsWarning
        If tasks have so few directions that the theory may be off by some per cent.

    Examples
    --------
    >>> from iclkit import simulate
    >>> three = simulate(d=8, tau=2.0, alpha=1.0, kappa=1.0, rho=0.1, runs=3)
    >>> print(dict(three.sizes), three.n, three.k, three.ell)
    {'run': 3} 128 8 8
    >>> five = simulate(d=8, tau=2.0, alpha=1.0, kappa=1.0, rho=0.1, runs=5)
    >>> bool((five.icl_error[:3] == three.icl_error).all())
    True
    >>> steep = simulate(d=32, tau=0.5, alpha=1.0, kappa=1.0, rho=0.1, tasks="power_law(0.3)")
    >>> print(steep.tasks, steep.prior)
    power_law(0.3) gaussian
    """
    point: dict[str, Any] = {
        "d": d, "tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam,
        "assignment": assignment, "prior": prior, "tasks": tasks, "test_tasks": test_tasks,
        "tokens": tokens, "test_tokens": test_tokens, "alpha_test": alpha_test,
        "rho_test": rho_test,
    }  # fmt: skip
    sizes, runs = _sizes(**point), _validate.count("runs", runs)
    told = point | {name: in_words(name, point[name], d) for name in _expected.LAWS}
    told["prior"] = _prior_of(prior, tasks)
    seeds = [backend.child_seed(seed, run) for run in range(runs)]
    with _workers.set_apart(_workers.device()), progress(f"d={d}, τ={tau}", runs) as bar:
        results = []
        for child in seeds:
            results.append(linear_attention(child, **point))
            bar.update()
    return xr.Dataset(
        {name: ("run", [result[name] for result in results]) for name in results[0]}
        | {
            f"{name}_theory": mean
            for name, mean in _expected.errors(**point).items()
            if not np.isnan(mean)
        },
        coords={"run": np.arange(runs)},
        attrs={name: value for name, value in told.items() if value is not None}
        | {"runs": runs, "seed": seed, "n": sizes.n, "k": sizes.k, "ell": sizes.ell},
    )


# Many runs over a grid ------------------------------------------------------------------------


def sweep(
    measure: Callable[..., dict[str, float]],
    grid: Mapping[str, Any],
    file: str | os.PathLike[str] | None = None,
    *,
    seed: int,
    precision: float = 0.01,
    runs: tuple[int, int] = (10, 1000),
    workers: int | None = None,
    name: str | None = None,
    skip: bool = False,
) -> xr.Dataset:
    """Repeat an experiment at every point of a grid until its means are precise.

    Parameters
    ----------
    measure : function
        One run, such as `linear_attention`: called as ``measure(seed, **point)`` with a
        `numpy.random.SeedSequence` and one value of each parameter, it returns finite numbers by
        name, the same names each time, and depends on nothing else. If it has an attribute
        ``check``, that is called as ``check(**point)`` at every point before anything is computed.
        An attribute ``expected``, called likewise with arrays of numbers and single words, returns
        what a theory expects of the means, NaN where it does not.
        A `functools.partial` binds parameters by name, for these two, as well.
    grid : mapping from str
        Each parameter's value or values, numbers (inf allowed, NaN not) or words: a scalar; a 1-D
        sequence without repetitions, which makes a dimension of the parameter's name; or an
        `xarray.DataArray` with dimensions of its own, so that parameters can go together (τ = 0.2 α
        along "alpha"). They are broadcast against each other.
    file : path, optional
        Where results are kept: a run is on disk as soon as the last write is a second ago, or 30
        times as long as it took. The same call again goes on where the last one ended, or returns
        the finished result. The grid may grow, and `precision`, `runs` and `skip` may change; what
        is there is used.
    seed : int
        At least 0. A run's seed is made of this number, the values of its point, and the run's
        number; so a point has the same runs in every grid, and no two points share theirs.
    precision : float
        Runs are added to a point until the standard error of each mean is at most `precision`
        times its absolute value. Positive.
    runs : (int, int)
        The least and the greatest number of runs of a point; the least is at least 2.
    workers : int, optional
        Processes, each with one BLAS thread; 1 computes in this process, and is quickest where a
        run takes less than milliseconds. By default one for every core, or what
        ``joblib.parallel_config`` says, such as the Dask cluster of
        ``with joblib.parallel_config(backend="dask")``. A GPU is fed by this process alone.
    name : str, optional
        What `measure` measures, in words that `file` is recognised by: give it a new one when that
        changes. Without a name, `file` is recognised by the module and name of the function, its
        source (but for comments, docstrings, annotations and layout), its default values and what
        a partial binds, but not by the functions and constants that it uses. Measures that these
        do not tell apart need a name, if a file is given: lambdas, functions inside others,
        methods, callable objects, and those with a bound value other than a number or a word.
    skip : bool
        What becomes of runs that raise an exception, or return NaN or inf. By default all others
        are made and kept, and then RuntimeError is raised: the same seed fails again. If True,
        failed runs are left out. They count as made, so that a point has fewer numbers, and a
        point where none of the least number of runs succeeds has none. If failure depends on what
        is measured, means of the others are biased.

    Returns
    -------
    xarray.Dataset
        For each name `v` that `measure` returns, `v` is the mean over runs, `v_se` its standard
        error, and `v_run` the runs themselves along "run", NaN beyond their number, which is
        `runs`. With `skip`, `failed` is how many were left out, and `failed_run` says which: these
        are NaN, too. `v_theory` is what is expected, for `linear_attention` the theory to first
        order in 1/d; it is not in `file`. All parameters are coordinates. The attributes tell the
        provenance; where sessions differed in one, it lists all; `wall_time` is their sum in
        seconds.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or `file` holds another sweep, or is damaged.
    RuntimeError
        If a run fails; the message says which one, and why. If one run of every point fails, it is
        raised at once. If a worker of a cluster is lost for good, or another sweep is writing
        `file`.

    Warns
    -----
    Warning
        What runs warn of, each message once; which were left out; and a `FewDirectionsWarning` of
        `iclkit.data.laws` where what is expected may be off by some per cent.

    Notes
    -----
    Runs are made in rounds. After each, a point of m runs with relative standard error r (the
    greatest, over names) is finished if r ≤ `precision`, and is otherwise taken to
    1.1 m (r/`precision`)² runs in all.

    The same arguments give the same numbers, to the last bit, for any number of workers of one
    kind of machine, and through any interruptions. On Ctrl-C, workers are stopped, the runs that
    they have returned are kept, and KeyboardInterrupt goes on.

    Examples
    --------
    >>> from iclkit.runs import linear_attention, sweep
    >>> grid = {"d": 8, "tau": [0.5, 4.0], "alpha": 1.0, "kappa": 1.0, "rho": 0.1}
    >>> means = sweep(linear_attention, grid, seed=0, precision=0.1, workers=1)
    >>> print(means.icl_error.dims, (means.icl_error_se <= 0.1 * means.icl_error).all().item())
    ('tau',) True
    >>> print(means.runs.min().item())
    10
    """
    seed = _validate.count("seed", seed, least=0)
    precision = _validate.scalar(_validate.positive, "precision", precision)
    if not isinstance(runs, Sequence) or len(runs) != 2:
        raise TypeError(f"runs must be two integers, the least and the greatest, got {runs!r}")
    least = _validate.count("runs[0]", runs[0], least=2)
    most = _validate.count("runs[1]", runs[1], least=least)
    workers = None if workers is None else _validate.count("workers", workers)
    if not isinstance(skip, bool):
        raise TypeError(f"skip must be True or False, got {skip!r}")
    if name is not None and not (isinstance(name, str) and name.strip() and name.isprintable()):
        raise ValueError(f"name must be words that can be printed, got {name!r}")
    # Once and for all, as a run may change the folder; and it is the target of a link that is kept.
    file = None if file is None else _validate.path("file", file).resolve()
    coords = _table.coordinates(grid)
    table = _table.Table(coords, precision=precision, runs=(least, most), skip=skip)
    _check(measure, table.points)
    # Without what is bound, which may be arrays.
    title = name or _identity.describe(measure).partition("(")[0].rpartition(".")[2]
    if name is None:
        name = _identity.describe(measure) if file is None else _identity.identify(measure)
    about = {
        "measure": name, "parameters": coords.attrs["parameters"], "seed": str(seed),
        "precision": precision, "least_runs": least, "most_runs": most, "skip": int(skip),
        "wall_time": 0.0, "version": __version__,
    }  # fmt: skip
    start = time.monotonic()

    def known() -> xr.Dataset | None:
        """Take what is on disk into the table."""
        if file is None or not file.exists():
            return None
        stored = load(file)
        _require_same_sweep(stored, about, file)
        try:
            table.take(stored)
        except ValueError as problem:
            raise ValueError(f"{file} {problem}: give another file") from None
        return stored

    def result() -> xr.Dataset:
        session = {"wall_time": about["wall_time"] + time.monotonic() - start}
        return table.dataset().assign_attrs(about | session)

    def is_answer(stored: xr.Dataset | None) -> TypeGuard[xr.Dataset]:
        return stored is not None and not table.missing() and _same_request(stored, about, coords)

    # A file is whole at any time: one that is finished needs no lock, and no folder to put it in.
    failures: dict[tuple[int, int], tuple[str, str]] = {}
    if is_answer(stored := known()):
        _warn_of_skipped(table, failures)
        return _expected.beside(stored, measure)
    device = _workers.device()
    with _store.Store(file, result) as store, _workers.set_apart(device):
        if (stored := known()) is not None:  # and what was written until the lock was there
            earlier = stored.attrs.keys() - about.keys() - {"digest", "unfinished"}
            _add(about, {name: stored.attrs[name] for name in earlier})
            about["wall_time"] = float(stored.attrs["wall_time"])
        _add(about, _store.provenance())

        def enter(outcome: _workers.Outcome) -> None:
            with store.changing:
                if outcome.failure is None:
                    table.add(outcome.row, outcome.run, outcome.values)
                    _add(about, {"device": outcome.device})
                else:
                    failures[outcome.row, outcome.run] = outcome.failure
                    if skip:
                        table.fail(outcome.row, outcome.run)
                if table.samples:
                    store.write_soon()

        warned: set[tuple[type[Warning], str]] = set()
        made = 0
        with progress(title, 0) as bar:
            while missing := [pair for pair in table.missing() if pair not in failures]:
                bar.total = table.predicted()
                bar.n = bar.total - len(missing)
                rows = len({row for row, _ in missing})
                tasks = [
                    _workers.Task(measure, seed, table.points[p], p, run) for p, run in missing
                ]
                with _workers.outcomes(tasks, workers, device) as outcomes:
                    for outcome in outcomes:
                        enter(outcome)
                        for category, message in set(outcome.warned) - warned:
                            warned.add((category, message))
                            warnings.warn(message, category, stacklevel=2)
                        made += outcome.failure is None
                        hopeless = not made and len(failures) == rows
                        if hopeless and not (skip and table.samples):
                            raise _failure(failures, table.points)
                        done = f"{len(table.finished)}/{len(table.points)} points"
                        bar.set_postfix_str(done, refresh=False)
                        bar.update()
        if failures and not skip:
            raise _failure(failures, table.points)
        _warn_of_skipped(table, failures)
        store.write()
        # What is returned is what `load` returns, down to the types, with a file or without; but
        # for the theory, which is not kept: a file is there for longer than a version of it.
        data = load(file) if file is not None else _store.decode(_store.encode(result()))
        return _expected.beside(data, measure)


def _check(measure: Callable[..., Any], points: list[_table.Point]) -> None:
    """Find before the first run what would fail in a later one."""
    if not callable(measure):
        raise TypeError(f"measure must be a function, got {measure!r}")
    check = getattr(measure, "check", lambda **_: None)
    if isinstance(measure, functools.partial):
        if measure.args:
            raise TypeError(f"measure must bind parameters by their names, got {measure!r}")
        check = functools.partial(getattr(measure.func, "check", check), **measure.keywords)
    try:
        inspect.signature(measure).bind(None, **points[0])
    except (TypeError, ValueError) as problem:
        raise TypeError(f"measure must take a seed and what is in grid: {problem}") from None
    for point in points:
        try:
            check(**point)
        except Exception as problem:
            problem.add_note(f"at the point {_table.say(point)} of grid")
            raise


def _failure(
    failures: Mapping[tuple[int, int], tuple[str, str]], points: list[_table.Point]
) -> RuntimeError:
    said = [
        f"run {run} at {_table.say(points[row])} failed: {failures[row, run][0]}"
        for row, run in sorted(failures)
    ]
    problem = RuntimeError(
        f"{_few(said)}. The same seed fails again: change the grid or the seed, or leave out what "
        "fails, where other runs succeed, by skip=True"
    )
    problem.add_note(failures[min(failures)][1])
    return problem


def _warn_of_skipped(
    table: _table.Table, failures: Mapping[tuple[int, int], tuple[str, str]]
) -> None:
    said = [
        f"run {run} at {_table.say(table.points[row])} failed"
        + (f": {failures[row, run][0]}" if (row, run) in failures else "")
        for row, run in np.argwhere(table.failed).tolist()
    ]
    if said:
        message = f"means leave out what `failed` counts: {_few(said)}"
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def _few(said: list[str]) -> str:
    return "; ".join(said[:3]) + (f"; and {len(said) - 3} more" if len(said) > 3 else "")


def _require_same_sweep(stored: xr.Dataset, about: Mapping[str, Any], file: Path) -> None:
    for attribute in ("measure", "parameters", "seed", "version"):
        theirs, ours = stored.attrs.get(attribute, "none"), about[attribute]
        way_out = "give another file"
        if attribute == "parameters":  # their order does not matter
            theirs, ours = (", ".join(sorted(names.split(", "))) for names in (theirs, ours))
        if attribute == "measure" and attribute in stored.attrs:
            way_out += f", or name={theirs!r} if that is what it measures"
        if theirs != ours:
            raise ValueError(f"{file} has {attribute} {theirs}, not {ours}: {way_out}")


def _same_request(stored: xr.Dataset, about: Mapping[str, Any], coords: xr.Dataset) -> bool:
    names = ("parameters", "precision", "least_runs", "most_runs", "skip")
    # Files that know nothing of skipping were made without it.
    same = all(stored.attrs.get(name, 0) == about[name] for name in names)
    return same and stored.coords.to_dataset().equals(coords)


def _add(about: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Enter provenance; where sessions differ, keep what each had."""
    for name, value in new.items():
        known = str(about[name]).split("; ") if name in about else []
        about[name] = "; ".join(dict.fromkeys([*known, *str(value).split("; ")]))
