"""The fit of Γ* to contexts that are drawn anew in every pass, in memory that n does not enter.

A pass is a sum over blocks of contexts. It is taken in their order, so that it is the same to the
last bit however many workers draw them.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl
from array_api_compat import array_namespace
from numpy.typing import DTypeLike

from iclkit import __version__, _validate, backend
from iclkit._progress import progress
from iclkit.data.blocks import Redrawn
from iclkit.fits import cost
from iclkit.fits.fit import Fit, _precision, _warn_above, _within
from iclkit.fits.krylov import conjugate_gradients
from iclkit.fits.solvers import _FLOAT32_GAIN, Metric, _norm

# Blocks that may wait for their turn in the sum, for each worker.
_AHEAD = 2


def fit_redrawn(
    contexts: Redrawn,
    lam: float = 0.0,
    *,
    dtype: DTypeLike = "float32",
    rtol: float = 1e-5,
    workers: int = 1,
    folder: str | os.PathLike[str] | None = None,
) -> Fit:
    """Minimise Σ(y − xᵀΓh)² + (n/d)·lam·‖Γ‖² over Γ, for contexts that no memory could hold.

    Parameters
    ----------
    contexts : Redrawn
        What `iclkit.data.redrawn` returns.
    lam : float
        Ridge λ, at least 0. Zero is the ridgeless limit, as in `iclkit.fits.fit_gamma`.
    dtype : {"float32", "float64"}
        Precision of the products within a block. Contexts are drawn in float64, and sums over
        blocks are float64, in any case.
    rtol : float
        Tolerance for `Fit.residual`, in [1e-12, 0.1]; in float32 not much below 1e-6 can be had.
    workers : int
        Threads that draw and multiply, each with a BLAS thread of its own, at least 1; on a GPU
        there is one. Their number makes no difference to the result.
    folder : path, optional
        Where the sums are kept that passes end with, so that the same call goes on where an
        earlier one was interrupted. It is made, and deleted when the fit is done. A pass takes
        8d(d + 1) bytes.

    Returns
    -------
    Fit
        Γ*, `iterations`, and the residual, for which contexts were drawn once more. It is that of
        `fit_gamma`, but for directions being weighed by the exact second moments.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or `folder` is that of another fit.
    RuntimeError
        If another call is working in `folder`.

    Warns
    -----
    ConvergenceWarning
        If the residual is above `rtol`.

    Notes
    -----
    Conjugate gradients on the normal equations, one pass an iteration. For n > d(d + 1) they are
    preconditioned by the exact second moments of x and h, which need no pass. Below, that would
    change the ridgeless Γ*; plain ones from zero stay in the span of the features, where the
    minimiser of least norm lies. A pass takes 4nd² operations and draws 2nd normal numbers; the
    memory is that of a few blocks for each worker, and of a dozen arrays like Γ.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import data, fits
    >>> contexts = data.redrawn(0, n=900, d=20, ell=20, rho=0.1, k=20, rows=256)
    >>> found = fits.fit_redrawn(contexts, 0.1)
    >>> print(found.gamma.shape, found.residual < 1e-5)
    (20, 21) True
    >>> held = [np.concat(part) for part in zip(*map(contexts.block, range(contexts.blocks)))]
    >>> print(abs(found.gamma - fits.fit_gamma(*held, 0.1).gamma).max() < 1e-4)
    True
    """
    source = "what iclkit.data.redrawn returns"
    _validate.instance("contexts", contexts, Redrawn, source)
    lam = _validate.scalar(_validate.nonnegative, "lam", lam)
    precision, rtol = _precision(dtype, "float64"), _within("rtol", rtol, 1e-12)
    workers = _validate.count("workers", workers)
    folder = None if folder is None else _validate.path("folder", folder)
    n, d, xp = contexts.n, contexts.d, contexts.xp
    ridge, primal = lam * n / d, n > d * (d + 1)
    metric = _metric(contexts, ridge)
    t = backend.to_numpy(metric.variances[0, :]) / n
    t = np.maximum(t, 1e-12 * t.max())  # rounding leaves less, with long contexts and few tasks
    expected = cost.iterations("primal-cg" if primal else "dual-cg", n, d, t, ridge, rtol)
    low = getattr(xp, precision)

    def take(gamma: Any, against: bool) -> Any:
        title = f"one of about {round(expected) + 2} passes"
        with progress(title, contexts.blocks) as bar:
            return _total(contexts, gamma, against, low, workers, bar.update)

    with ExitStack() as stack:
        passes = take
        if folder is not None:
            tasks = None if contexts.tasks is None else _digest(contexts.tasks)
            data = (*contexts._replace(tasks=tasks, xp=xp.__name__), lam, precision, rtol)  # type: ignore[arg-type]
            about = f"{data}, iclkit {__version__}, {xp.__name__} {xp.__version__}"
            stack.enter_context(_alone(folder, about))
            passes = _kept(take, folder, xp)
        # With more threads, products would depend on their number, and workers wait for each other.
        stack.enter_context(threadpoolctl.threadpool_limits(1, "blas"))
        least = 0.0 if precision == "float64" else _FLOAT32_GAIN
        fit = _iterate(passes, metric, ridge, primal, rtol, least, round(5 * expected) + 100)
    _warn_above("rtol", rtol, fit.solver, fit.residual / rtol)
    return fit


def _metric(contexts: Redrawn, ridge: float) -> Metric:
    """Find the preconditioner from exact moments."""
    xp, d = contexts.xp, contexts.d
    t, right = xp.linalg.eigh(xp.asarray(contexts.moments().B))
    variances = xp.broadcast_to(contexts.n / d * xp.maximum(t, 0.0), (d, d + 1))
    return Metric(xp.eye(d), right, variances, variances).shifted(ridge)


def _iterate(
    passes: Callable[[Any, bool], Any],
    metric: Metric,
    ridge: float,
    primal: bool,
    rtol: float,
    least: float,
    limit: int,
) -> Fit:
    """Repeat conjugate gradients on what a pass says is left, until that is little enough."""

    def apply(gamma: Any) -> Any:
        return passes(gamma, False) + ridge * gamma

    def whitened(v: Any) -> Any:
        return metric.whiten(apply(metric.unwhiten(v)))

    gamma = array_namespace(metric.scale).zeros_like(metric.scale)
    gradient = passes(None, True)
    at_zero = residual = _norm(metric.whiten(gradient))
    iterations = 0
    while residual > rtol * at_zero and iterations < limit:
        gain = max(0.9 * rtol * at_zero / residual, least)
        how: dict[str, Any] = {"rtol": min(gain, 0.5), "maxiter": limit - iterations}
        if primal:
            (v,), done = conjugate_gradients(whitened, metric.whiten(gradient), **how)
            step = metric.unwhiten(v)
        else:
            (step,), done = conjugate_gradients(
                apply, gradient, norm=lambda left: _norm(metric.whiten(left)), **how
            )
        iterations += done
        left = passes(gamma + step, True) - ridge * (gamma + step)
        before, now = residual, _norm(metric.whiten(left))
        if now < before:
            gamma, gradient, residual = gamma + step, left, now
        if not now < before / 2:  # rounding allows no more
            break
    return Fit(gamma, "redrawn-cg", iterations, residual / at_zero if at_zero > 0 else 0.0)


def _total(
    contexts: Redrawn, gamma: Any, against: bool, low: Any, workers: int, done: Callable[[], Any]
) -> Any:
    """Sum x r hᵀ over contexts, with r = xᵀΓh, or what labels have `against` it."""
    total = contexts.xp.zeros((contexts.d, contexts.d + 1))
    xp = array_namespace(total)
    if gamma is not None:
        gamma = xp.astype(gamma, low, copy=False)

    def term(number: int) -> Any:
        x, h, r = contexts.block(number)
        x, h = (xp.astype(part, low, copy=False) for part in (x, h))
        if gamma is not None:
            predicted = xp.vecdot(x @ gamma, h)
            r = r - predicted if against else predicted
        return x.T @ (xp.astype(r, low, copy=False)[:, None] * h)

    for part in _in_order(term, contexts.blocks, workers if contexts.xp is np else 1):
        total += part
        done()
    return total


def _in_order(term: Callable[[int], Any], blocks: int, workers: int) -> Iterator[Any]:
    """Give the terms of all blocks, in their order, whoever makes them."""
    if workers == 1:
        yield from map(term, range(blocks))
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Any] = deque()
        for number in range(blocks):
            waiting.append(pool.submit(term, number))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


# Passes on disk ----------------------------------------------------------------------------------


def _digest(array: Any) -> str:
    """Tell lists of tasks apart."""
    return hashlib.sha256(backend.to_numpy(array).tobytes()).hexdigest()


@contextmanager
def _alone(folder: Path, about: str) -> Iterator[None]:
    """Let nobody else work in a folder, and delete it in the end, if that is reached."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    label, lock = folder / "fit.txt", folder / "fit.lock"
    there = {file.name for file in folder.iterdir()} - {lock.name}
    if there and not (label.name in there and label.read_text() == about):
        raise ValueError(f"folder must be empty, new, or that of the same fit, got {folder}")
    try:
        with FileLock(lock, timeout=0):
            label.write_text(about)
            yield
            for file in (*folder.glob("pass-*.*"), label):
                file.unlink()
    except Timeout:
        raise RuntimeError(
            f"another fit is working in {folder}: wait for its end, or give another folder"
        ) from None
    lock.unlink(missing_ok=True)
    with suppress(OSError):  # with a file of somebody else in it, it stays
        folder.rmdir()


def _kept(take: Callable[..., Any], folder: Path, xp: Any) -> Callable[..., Any]:
    """Keep what passes return; the first ones are those that are kept already."""
    numbers = count()

    def passes(*arguments: Any) -> Any:
        file = folder / f"pass-{next(numbers)}.npy"
        if not file.exists():
            new = file.with_suffix(".new")
            with new.open("wb") as stream:
                np.save(stream, backend.to_numpy(take(*arguments)))
            new.replace(file)  # so that a file is whole or not there
        return xp.asarray(np.load(file))

    return passes
