"""Which array library, which device, which random streams.

The rest of the package takes its array library from the arrays it is given; this module decides
where the first arrays are made. Besides it, `_linalg` alone knows cupy by name.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, is_cupy_array

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

    Examples
    --------
    >>> from iclkit import backend
    >>> xp = backend.namespace("cpu")
    >>> xp.__name__
    'numpy'
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
        return import_module("cupy")
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

    Raises
    ------
    TypeError
        If `array` does not hold numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import backend
    >>> array = np.ones(2)
    >>> backend.to_numpy(array) is array
    True
    """
    _validate.refuse_subclasses("array", array)
    try:
        host = array.get() if is_cupy_array(array) else np.asarray(array)
    except Exception:  # ragged lists, lazy arrays: whatever the reason is, it is no array
        host = np.asarray(None)
    if host.dtype.kind not in "biufc":
        raise TypeError(f"array must be an array of numbers, got {array!r}")
    return host


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

    Raises
    ------
    ValueError, TypeError
        If `array` is not a matrix of floating-point numbers, or `rows` not an integer of at least
        1.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import backend
    >>> matrix = np.ones((5, 3))
    >>> backend.row_blocks(matrix, rows=2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    >>> sum(float(matrix[rows, :].sum()) for rows in backend.row_blocks(matrix))
    15.0
    """
    try:
        n, m = array.shape
        number = array_namespace(array).finfo(array.dtype).bits // 8
    except Exception:  # asked in inner loops: to try is quicker than to look
        kind = type(array).__name__
        raise TypeError(
            f"array must be a matrix of floating-point numbers, got {kind}: {array!r}"
        ) from None
    if n == 0 or m == 0:
        raise ValueError(f"array must have shape (any, any), got {tuple(array.shape)}")
    if rows is None:
        rows = max(1, (2**28 if is_cupy_array(array) else 2**18) // (m * number))
    else:
        rows = _validate.count("rows", rows)
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


class Streams(NamedTuple):
    """Independent random generators, so that one ingredient can change and the others stay.

    Attributes
    ----------
    tasks, contexts, noise : numpy.random.Generator or cupy.random.Generator
        For the task vectors and their assignment; for the tokens; for the label noise.

    Examples
    --------
    >>> from iclkit import backend
    >>> streams = backend.streams(0)
    >>> before = streams.noise.standard_normal()
    >>> streams = backend.streams(0)
    >>> _ = streams.tasks.standard_normal(1000)  # more tasks leave the noise as it was
    >>> streams.noise.standard_normal() == before
    True
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
        If `seed` is neither a SeedSequence nor an integer of at least 0, or `key` is not one.

    Examples
    --------
    >>> from iclkit import backend
    >>> first, again = backend.child_seed(7, 0), backend.child_seed(7, 0)
    >>> bool((first.generate_state(4) == again.generate_state(4)).all())
    True
    >>> backend.child_seed(first, 3).spawn_key  # children have children
    (0, 3)
    """
    if not isinstance(seed, np.random.SeedSequence):
        seed = np.random.SeedSequence(_validate.count("seed", seed, least=0, most=None))
    key = _validate.count("key", key, least=0, most=None)
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
        If `seed` is neither a SeedSequence nor an integer of at least 0, or `xp` neither module.

    Notes
    -----
    cupy makes 32 bits of a seed, so that of m streams some two are the same with a probability of
    about m²/2³³: 10 % for 10⁴ runs, three streams each. Two runs that are the same add at most a
    share of 2/R to the variance of a mean of R.

    Examples
    --------
    >>> from iclkit import backend
    >>> first, again, other = (backend.streams(seed).tasks.random() for seed in (0, 0, 1))
    >>> first == again, first == other
    (True, False)
    """
    if getattr(xp, "__name__", None) not in ("numpy", "cupy"):
        raise ValueError(f"xp must be the module numpy or cupy, got {xp!r}")
    children = [child_seed(seed, key) for key in range(len(Streams._fields))]
    if xp is np:
        return Streams(*(np.random.default_rng(child) for child in children))
    return Streams(*(xp.random.Generator(xp.random.Philox4x3210(child)) for child in children))
