"""Runs, made in this process, in others, or on a cluster: the same result from each.

A run is cut off from what surrounds it: one BLAS thread, the device of the process that asked, its
own seed; and warnings and failures come back with its result.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl

from iclkit import _store, _table, backend


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


@contextmanager
def outcomes(tasks: list[Task], workers: int | None) -> Iterator[Iterator[Outcome]]:
    """Give the outcomes of tasks in the order in which they come; stop the workers at the end."""
    device = "cpu" if backend.namespace() is np else "gpu"
    if workers == 1 or device == "gpu":
        results = (_run(task, device) for task in tasks)
    else:
        from joblib import Parallel, delayed, parallel

        ambient, wanted = parallel.get_active_backend()
        if hasattr(ambient, "client"):
            results = _on_dask(ambient.client, tasks, device)
        else:
            count = workers or wanted or -1
            results = Parallel(n_jobs=count, return_as="generator_unordered")(
                delayed(_run)(task, device) for task in tasks
            )
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib remarks that it was stopped
            results.close()


def _on_dask(client: Any, tasks: list[Task], device: str) -> Iterator[Outcome]:
    """Use the client that joblib was given: joblib itself waits for ever for a task that failed."""
    from distributed import as_completed

    futures = dict(zip(client.map(_run, tasks, device=device, pure=False), tasks, strict=True))
    try:
        for future, result in as_completed(futures, with_results=True, raise_errors=False):
            task = futures.pop(future)
            # A run's own exception is part of its outcome: one that comes here is of the cluster.
            done = future.status == "finished"
            yield result if done else _failed(task, device, result[1])
    finally:
        client.cancel(list(futures))


def _failed(task: Task, device: str, problem: BaseException) -> Outcome:
    # As text: not every exception survives the way back from a worker.
    line = traceback.format_exception_only(problem)[-1].strip()
    where = "".join(traceback.format_exception(problem))
    return Outcome(task.row, task.run, {}, device, [], (line, where))


def _run(task: Task, device: str) -> Outcome:
    """Make one run, wherever this is, and report whatever comes of it."""
    os.environ["ICLKIT_DEVICE"] = device  # a worker may have another device, or none
    one_thread()
    seed = backend.child_seed(backend.child_seed(task.seed, _table.key(task.point)), task.run)
    with _listening() as warned:
        try:
            returned = task.measure(seed, **task.point)
            values = {name: float(value) for name, value in returned.items()}
        except Exception as problem:
            return _failed(task, device, problem)._replace(warned=warned)
    return Outcome(task.row, task.run, values, _store.device(), warned, None)


def one_thread() -> None:
    """Give each BLAS library one thread: then results do not depend on the number of cores.

    The products of a fit are also too small to be shared, and where cores are busy, threads that
    wait for each other take many times as long.
    """
    _thread_pools(len(sys.modules)).limit(limits=1)


@lru_cache(maxsize=1)
def _thread_pools(modules: int) -> threadpoolctl.ThreadpoolController:
    """Find the BLAS libraries, and again when modules were imported: a millisecond each time."""
    return threadpoolctl.ThreadpoolController()


@contextmanager
def undone() -> Iterator[None]:
    """Take back at the end what runs in this process set for good."""
    import scipy.linalg  # noqa: F401 (it has a BLAS of its own, which is to be known by now)

    device = os.environ.get("ICLKIT_DEVICE")
    with threadpoolctl.threadpool_limits(1):
        try:
            yield
        finally:
            os.environ.pop("ICLKIT_DEVICE", None)
            if device is not None:
                os.environ["ICLKIT_DEVICE"] = device


_lock = threading.Lock()
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
            if not _heard:
                _filters.__exit__(None, None, None)
