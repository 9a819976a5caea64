"""Runs, made in this process, in others, or on a cluster: the same result from each.

A run is cut off from what surrounds it: one BLAS thread, the device of the process that asked, its
own seed; and warnings and failures come back with its result.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl

from iclkit import backend
from iclkit.runs import _store, _table


class Task(NamedTuple):
    """One run that is to be made."""

    measure: Callable[..., Mapping[str, float]]
    seed: int
    point: _table.Point
    row: int  # the number of the point
    run: int


class Outcome(NamedTuple):
    """What came of it."""

    row: int
    run: int
    values: dict[str, float]
    device: str
    warned: list[tuple[type[Warning], str]]
    failure: tuple[str, str] | None  # in a line, and its traceback


def device() -> str:
    """Say where this process computes, and so all runs of its sweep: "cpu" or "gpu"."""
    return "cpu" if backend.namespace() is np else "gpu"


@contextmanager
def outcomes(tasks: list[Task], workers: int | None, device: str) -> Iterator[Iterator[Outcome]]:
    """Give the outcomes of tasks in the order in which they come; stop the workers at the end."""
    if workers == 1 or device == "gpu":
        results = (_run(task, device) for task in tasks)
    else:
        from joblib import Parallel, delayed, parallel

        ambient, wanted = parallel.get_active_backend()
        if hasattr(ambient, "client"):
            results = _on_dask(ambient.client, tasks, device)
        else:
            count = workers or wanted or -1
            # One at a time: in a batch that was sized for short runs, long ones wait for each
            # other, and none is returned, and so kept, before the last.
            results = Parallel(n_jobs=count, return_as="generator_unordered", batch_size=1)(
                delayed(_run)(task, device) for task in tasks
            )
    try:
        yield results
    finally:
        with _listening():  # joblib remarks that it was stopped
            results.close()


def _on_dask(client: Any, tasks: list[Task], device: str) -> Generator[Outcome, None, None]:
    """Use the client that joblib was given: joblib itself waits for ever for a task that failed."""
    from distributed import as_completed

    futures = dict(zip(client.map(_run, tasks, device=device, pure=False), tasks, strict=True))
    try:
        for future, result in as_completed(futures, with_results=True, raise_errors=False):
            task = futures.pop(future)
            # A run's own exception is part of its outcome: one that comes here is of the cluster,
            # and says nothing about the run.
            if future.status != "finished":
                raise RuntimeError(
                    f"run {task.run} at {_table.say(task.point)} was lost with its worker"
                ) from result[1]
            yield result
    finally:
        client.cancel(list(futures))


def _run(task: Task, device: str) -> Outcome:
    """Make one run, wherever this is, and report whatever comes of it."""
    seed = backend.child_seed(backend.child_seed(task.seed, _table.key(task.point)), task.run)
    values, failure = {}, None
    with set_apart(device), _listening() as warned:
        try:
            returned = task.measure(seed, **task.point)
            try:
                values = {name: float(value) for name, value in returned.items()}
            except (AttributeError, TypeError, ValueError):
                raise TypeError(f"measure must return numbers by name, got {returned!r}") from None
            if not all(map(math.isfinite, values.values())):
                raise ValueError(f"measure must return finite numbers, got {values}")
        except Exception as problem:
            # As text: not every exception survives the way back from a worker.
            line = f"{type(problem).__qualname__}: {problem}"
            failure = line, "".join(traceback.format_exception(problem))
        return Outcome(task.row, task.run, values, _store.device(), warned, failure)


@lru_cache(maxsize=1)
def _thread_pools(modules: int) -> threadpoolctl.ThreadpoolController:
    """Find the BLAS libraries, and again when modules were imported: a millisecond each time."""
    return threadpoolctl.ThreadpoolController()


_lock = threading.Lock()
_settings = ExitStack()  # what takes back the settings of this process
_inside = 0  # how many want them


@contextmanager
def set_apart(device: str) -> Iterator[None]:
    """Give this process the device, and each BLAS library one thread; take them back at the end.

    With one thread, results do not depend on the number of cores. The products of a fit are also
    too small to be shared, and where cores are busy, threads that wait for each other take many
    times as long. Of several Python threads, the first to come sets this up, and the last to go
    takes it down.
    """
    global _inside
    import scipy.linalg  # noqa: F401 (it has a BLAS of its own, which is to be known by now)

    with _lock:
        libraries = _thread_pools(len(sys.modules)).lib_controllers
        if not _inside:
            _settings.callback(_set_threads, {one: one.num_threads for one in libraries})
            _settings.enter_context(_environment("ICLKIT_DEVICE", device))
        _set_threads(dict.fromkeys(libraries, 1))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _settings.close()


def _set_threads(numbers: Mapping[threadpoolctl.LibController, int]) -> None:
    for library, number in numbers.items():
        # Newer versions of threadpoolctl let the Python thread that was first, and without a word
        # no other one.
        free = getattr(library, "clear_controlling_thread", lambda force: None)
        free(force=True)
        library.set_num_threads(number)
        free(force=True)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.update({name: before})


_heard: dict[int, list[tuple[type[Warning], str]]] = {}
_filters = warnings.catch_warnings()


@contextmanager
def _listening() -> Iterator[list[tuple[type[Warning], str]]]:
    """Collect the warnings of this thread, in a worker that may have several.

    `warnings.catch_warnings` alone is not made for threads that enter and leave it in turns: the
    first to enter sets it up here, and the last to leave takes it down.
    """
    global _filters
    thread = threading.get_ident()
    before = _heard.get(thread)  # where a run makes a sweep of its own
    with _lock:
        if not _heard:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.simplefilter("always")
            show = warnings.showwarning

            def hear(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
                if threading.get_ident() in _heard:
                    _heard[threading.get_ident()].append((category, str(message)))
                else:
                    show(message, category, *where, **more)

            warnings.showwarning = hear
        _heard[thread] = []
    try:
        yield _heard[thread]
    finally:
        with _lock:
            del _heard[thread]
            if before is not None:
                _heard[thread] = before
            if not _heard:
                _filters.__exit__(None, None, None)
