"""Labelled arrays stay labelled.

Functions that broadcast take `xarray.DataArray`s, too. Those meet by the names of their dimensions,
never by position: the result has all of them, with their coordinates, which must agree. What has
labels that would be lost is refused.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from iclkit import _validate
from iclkit._types import P

# What has neither labels nor a shape, to be known at once: single numbers, and options.
_PLAIN = frozenset((float, int, np.float64, np.int64, str, bool, type(None)))


def _is(value: Any, library: str, *names: str) -> bool:
    # Nobody has an object of a library that nobody has imported, so that it need not be here.
    module = sys.modules.get(library)
    return module is not None and isinstance(value, tuple(getattr(module, n) for n in names))


def refuse(name: str, value: Any) -> None:
    """Refuse what has labels, where only positions count."""
    labelled = _is(value, "xarray", "DataArray", "Dataset", "Variable")
    if labelled or _is(value, "pandas", "Series", "DataFrame"):
        raise TypeError(
            f"{name} must be an array without labels, got {type(value).__name__}: put it in order, "
            f"and pass {'.values' if labelled else '.to_numpy()'}"
        )


def unlabelled(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return a finite NumPy array of the given shape, where only positions count."""
    refuse(name, value)
    try:
        plain = np.asanyarray(value)
    except ValueError:
        raise ValueError(f"{name} must be an array, got a nested list of several lengths") from None
    except Exception as problem:  # whatever the reason is, it is no array
        raise TypeError(f"{name} must be an array, got {type(value).__name__}: {problem}") from None
    with np.errstate(over="ignore"):  # in the sum that shows that all are finite
        array: np.ndarray = _validate.array(name, plain, shape)
    return array


def _by_name(name: str, value: Any) -> bool:
    """Say whether an argument has labels that can be kept."""
    if _is(value, "xarray", "DataArray"):
        if value.chunks is not None:
            raise TypeError(f"{name} must be in memory, got an array in chunks: use .load()")
        return True
    if _is(value, "xarray", "Dataset", "Variable"):
        way = "take one of its variables" if hasattr(value, "data_vars") else "wrap it in one"
    elif _is(value, "pandas", "Series", "DataFrame"):
        way = "use .to_numpy(), or .to_xarray() to keep its labels"
    else:
        return False
    raise TypeError(
        f"{name} must be a number, an array or an xarray.DataArray, "
        f"got {type(value).__name__}: {way}"
    )


def _shapes(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the arguments that are arrays or sequences of numbers."""
    shapes = {}
    for name, value in values.items():
        with suppress(Exception):  # what has no shape is refused, by its name, where it is used
            shapes[name] = np.shape(value)
    return {name: s for name, s in shapes.items() if s and isinstance(s, tuple)}


def require_broadcast(values: Mapping[str, Any]) -> None:
    """Require that the shapes of arguments broadcast."""
    shapes = _shapes(values)
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError:
        said = " and ".join(f"{name} of {shape}" for name, shape in shapes.items())
        raise ValueError(f"{' and '.join(shapes)} must broadcast, got {said}") from None


def labelled(*apart: str) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Let a function that broadcasts its arguments, but those named, keep their labels."""

    def decorate(function: Callable[P, Any]) -> Callable[P, Any]:
        signature = inspect.signature(function)
        by_name: Callable[..., Any] = function

        @functools.wraps(function)
        def keeping(*args: P.args, **kwargs: P.kwargs) -> Any:
            if _PLAIN.issuperset(map(type, (*args, *kwargs.values()))):
                return function(*args, **kwargs)
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError:  # the function says it with its own name when it is called, below
                given = {}
            others = {name: value for name, value in given.items() if name not in apart}
            arrays = {name: value for name, value in others.items() if _by_name(name, value)}
            if not arrays:
                require_broadcast(others)
                return function(*args, **kwargs)
            for name in _shapes(others).keys() - arrays.keys():
                raise TypeError(
                    f"{name} must be a number or an xarray.DataArray like "
                    f"{' and '.join(arrays)}, got an array without names for its dimensions"
                )
            import xarray as xr

            def positional(*values: Any) -> Any:
                return by_name(**(given | dict(zip(arrays, values, strict=True))))

            # Attributes of coordinates are kept; those of the arguments don't describe the result.
            result = xr.apply_ufunc(positional, *arrays.values(), join="exact", keep_attrs=True)
            return result.drop_attrs(deep=False).rename(function.__name__)

        return keeping

    return decorate
