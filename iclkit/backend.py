"""Which array library, which device, which random streams.

The rest of the package takes its array library from the arrays it is given; this module decides
where the first arrays are made, and is the only one that knows cupy by name.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache, partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, is_cupy_array, is_numpy_array

from iclkit import _validate

_NO_CUPY = "cupy is not installed"


@cache
def _gpu_problem() -> str | None:
    """Say why no GPU can be used, or None when one can. Probed once a process."""
    try:
        import cupy
    except ImportError:
        return _NO_CUPY
    try:
        # cupy imports happily on a machine without a GPU; only work on the device tells.
        ones = cupy.ones((2, 2))
        product = float((ones @ ones).sum())
    except Exception as error:  # whatever the driver raises, the answer is the same
        reason = (str(error) or "no reason given").splitlines()[0]
        return f"cupy cannot use a GPU ({type(error).__name__}: {reason})"
    return None if product == 8.0 else "a 2 x 2 product on the GPU came out wrong"


def namespace(device: str | None = None) -> ModuleType:
    """Choose the array library that new arrays are made with.

    Parameters
    ----------
    device : {"cpu", "gpu"}, optional
        Where to compute. By default the environment variable ``ICLKIT_DEVICE`` decides; without
        it, a GPU is taken when cupy is installed and a small product on the device succeeds.

    Returns
    -------
    module
        `cupy` or `numpy`.

    Raises
    ------
    ValueError
        If `device` (or ``ICLKIT_DEVICE``) is neither "cpu" nor "gpu".
    RuntimeError
        If a GPU is asked for and none can be used; the message says why.

    Warns
    -----
    RuntimeWarning
        If cupy is installed but has no usable GPU, and the choice is left to this function.
    """
    source = "device"
    if device is None:
        source, device = "ICLKIT_DEVICE", os.environ.get("ICLKIT_DEVICE")
    if device is not None:
        _validate.choice(source, device, ("cpu", "gpu"))
    if device == "cpu":
        return np
    problem = _gpu_problem()
    if problem is None:
        import cupy

        return cupy
    if device == "gpu":
        raise RuntimeError(f"{source} asks for a GPU, but {problem}")
    if problem != _NO_CUPY:
        warnings.warn(f"{problem}; computing with numpy", RuntimeWarning, stacklevel=2)
    return np


def to_numpy(array: Any) -> np.ndarray:
    """Copy an array to the host.

    Parameters
    ----------
    array : array
        An array of any library.

    Returns
    -------
    numpy.ndarray
        The same numbers in host memory; a numpy array is returned as it is.
    """
    return array.get() if is_cupy_array(array) else np.asarray(array)


def row_blocks(array: Any, rows: int | None = None) -> list[slice]:
    """Divide the rows of a matrix into blocks to work on one after another.

    Parameters
    ----------
    array : array of shape (n, m)
        The matrix.
    rows : int, optional
        Rows of a block. By default a block has 256 KiB, which stay in a core's cache; on a GPU
        256 MiB, which keep it busy.

    Returns
    -------
    list of slice
        The blocks, in order.
    """
    n, m = array.shape
    if rows is None:
        number = array_namespace(array).finfo(array.dtype).bits // 8
        rows = max(1, (2**28 if is_cupy_array(array) else 2**18) // (m * number))
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def cholesky(matrix: Any) -> Any:
    """Factor a positive definite matrix; the matrix may be overwritten.

    Parameters
    ----------
    matrix : array of shape (n, n)
        Symmetric positive definite.

    Returns
    -------
    array of shape (n, n)
        Lower triangular L with matrix = L Lᵀ; above its diagonal anything may stand.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a pivot is not positive; some libraries return NaN instead.
    """
    if is_numpy_array(matrix):
        from scipy.linalg import cholesky as factor

        # The transpose of a symmetric matrix is the same matrix in the order that LAPACK wants,
        # so that the factor takes its place and not as much memory again.
        return factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    return array_namespace(matrix).linalg.cholesky(matrix)


def conjugate_gradients(
    operator: Callable[[Any], Any],
    rhs: Any,
    preconditioner: Callable[[Any], Any],
    *,
    rtol: float,
    maxiter: int,
) -> tuple[Any, int]:
    """Solve a symmetric positive definite system by preconditioned conjugate gradients.

    Parameters
    ----------
    operator : callable
        Takes a vector to the matrix times it.
    rhs : array of shape (n,)
        The right-hand side b.
    preconditioner : callable
        Takes a vector to about the inverse matrix times it.
    rtol : float
        Stop when the norm of the residual is at most this times that of `rhs`.
    maxiter : int
        Stop after as many iterations.

    Returns
    -------
    solution : array of shape (n,)
        What was reached.
    iterations : int
        Their number.
    """
    if is_cupy_array(rhs):
        from cupyx.scipy.sparse.linalg import LinearOperator, cg
    else:
        from scipy.sparse.linalg import LinearOperator, cg
    operators, b = (operator, preconditioner), rhs
    if not (is_cupy_array(rhs) or is_numpy_array(rhs)):
        # Correct for any library, at the price of copies to the host.
        xp, b = array_namespace(rhs), np.asarray(rhs)
        operators = (lambda v, f=f: np.asarray(f(xp.asarray(v))) for f in operators)
    shape, steps = 2 * rhs.shape, []
    A, M = (LinearOperator(shape, matvec=f, dtype=b.dtype) for f in operators)
    with np.errstate(all="ignore"):  # a breakdown shows in the solution
        solution, _ = cg(A, b, rtol=rtol, maxiter=maxiter, M=M, callback=lambda _: steps.append(1))
    return array_namespace(rhs).asarray(solution), len(steps)


def solve_triangular(factor: Any, rhs: Any, *, transpose: bool = False) -> Any:
    """Solve L z = b, or Lᵀ z = b, where the array lives.

    Parameters
    ----------
    factor : array of shape (n, n)
        Lower triangular L.
    rhs : array of shape (n,)
        The right-hand side b.
    transpose : bool
        Solve with Lᵀ instead of L.

    Returns
    -------
    array of shape (n,)
        The solution z.
    """
    if is_numpy_array(factor):
        import scipy.linalg

        # A look at every number of the factor would take as long as the solve.
        solve = partial(scipy.linalg.solve_triangular, check_finite=False)
    elif is_cupy_array(factor):
        from cupyx.scipy.linalg import solve_triangular as solve
    else:
        # The array API has no triangular solve: correct for any library, at the price of an LU.
        return array_namespace(factor).linalg.solve(factor.T if transpose else factor, rhs)
    return solve(factor, rhs, lower=True, trans=int(transpose))


class Streams(NamedTuple):
    """Independent random generators, so that one ingredient can change and the others stay.

    Attributes
    ----------
    tasks, contexts, noise : numpy.random.Generator or cupy.random.Generator
        For the task vectors and their assignment; for the tokens; for the label noise.
    """

    tasks: Any
    contexts: Any
    noise: Any


def child_seed(seed: int | np.random.SeedSequence, key: int) -> np.random.SeedSequence:
    """Derive an independent seed by its number.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        The parent; an integer of at least 0.
    key : int
        Which child, at least 0.

    Returns
    -------
    numpy.random.SeedSequence
        The same for the same parent and key, unlike `SeedSequence.spawn`, which counts its calls.

    Raises
    ------
    ValueError, TypeError
        If `seed` is neither a SeedSequence nor an integer of at least 0.
    """
    if not isinstance(seed, np.random.SeedSequence):
        seed = np.random.SeedSequence(_validate.count("seed", seed, least=0))
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, key))


def streams(seed: int | np.random.SeedSequence, xp: ModuleType = np) -> Streams:
    """Make the three random streams of one run from one seed.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        The seed, see `child_seed`; the same seed gives the same streams.
    xp : module
        `numpy` or `cupy`, see `namespace`.

    Returns
    -------
    Streams
        Generators on the device of `xp`.

    Raises
    ------
    ValueError, TypeError
        If `seed` is neither a SeedSequence nor an integer of at least 0.
    """
    children = [child_seed(seed, key) for key in range(len(Streams._fields))]
    if xp is np:
        return Streams(*(np.random.default_rng(child) for child in children))
    return Streams(*(xp.random.Generator(xp.random.Philox4x3210(child)) for child in children))
