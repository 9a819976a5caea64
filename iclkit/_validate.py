"""Argument checks.

Each returns the argument in the form that the caller computes with, or raises an error that names
the argument, the value and what is allowed.
"""

from __future__ import annotations

import inspect
import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace

# Beyond these, products that the theory needs leave the range of floats and end in NaN.
_LEAST, _MOST = 1e-75, 1e75
_RANGE = f"between {_LEAST:g} and {_MOST:g}"


def refuse_subclasses(name: str, value: Any) -> None:
    """Refuse a masked array or a matrix."""
    # Conversion would bring back what the mask hides; a matrix has another product.
    if isinstance(value, (np.ma.MaskedArray, np.matrix)):
        raise TypeError(f"{name} must be a plain array, got {type(value).__name__}")


def real(name: str, value: Any) -> np.ndarray:
    """Return real numbers as a float64 NumPy array of any shape."""
    refuse_subclasses(name, value)
    try:
        array = np.asarray(value)
    except Exception:  # ragged lists, lazy arrays: whatever the reason is, it is no array
        array = np.asarray(None)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:  # longer ones may overflow
        raise TypeError(f"{name} must be a real number or an array of them, got {value!r}")
    return array.astype(np.float64)


def _plain(value: Any, special: float) -> bool:
    """Say at once of most single numbers that they are allowed, or the one that is special."""
    kinds = (float, int, np.float64, np.int64)
    return type(value) in kinds and (_LEAST <= value < 2.0**63 or value == special)


def _require(name: str, array: np.ndarray, allowed: np.ndarray, statement: str) -> None:
    if not allowed.all():
        offender = array[~allowed].flat[0]
        raise ValueError(f"{name} must be {statement}, got {offender}")


def _in_range(array: np.ndarray) -> np.ndarray:
    return (array >= _LEAST) & (array <= _MOST)


def positive(name: str, value: Any) -> np.ndarray:
    """Return numbers in [1e-75, 1e75], or inf, a limit that the theory knows."""
    if _plain(value, np.inf):
        return np.asarray(value, np.float64)
    array = real(name, value)
    _require(name, array, array > 0, "positive (inf is allowed)")
    _require(name, array, np.isinf(array) | _in_range(array), f"inf or {_RANGE}")
    return array


def nonnegative(name: str, value: Any) -> np.ndarray:
    """Return numbers in [1e-75, 1e75], or 0."""
    if _plain(value, 0):
        return np.asarray(value, np.float64)
    array = real(name, value)
    _require(name, array, np.isfinite(array) & (array >= 0), "finite and at least 0")
    _require(name, array, (array == 0) | _in_range(array), f"0 or {_RANGE}")
    return array


def signed(name: str, value: Any) -> np.ndarray:
    """Return numbers of size in [1e-75, 1e75], or 0."""
    if _plain(value, 0):
        return np.asarray(value, np.float64)
    array = real(name, value)
    _require(name, array, np.isfinite(array), "finite")
    _require(name, array, (array == 0) | _in_range(np.abs(array)), f"0 or {_RANGE} in size")
    return array


def ridge(name: str, value: Any) -> np.ndarray:
    """Return numbers in [0, 1e75], however small: what is added to a diagonal."""
    array = real(name, value)
    _require(name, array, (array >= 0) & (array <= _MOST), f"between 0 and {_MOST:g}")
    return array


def scalar(check: Callable[[str, Any], np.ndarray], name: str, value: Any) -> float:
    """Return the one number that passes `check`."""
    array = check(name, value)
    if array.ndim:
        raise ValueError(f"{name} must be a single number, got an array of shape {array.shape}")
    return float(array)


def finite(name: str, value: Any) -> float:
    """Return the one positive number that is not inf."""
    number = scalar(positive, name, value)
    if np.isinf(number):
        raise ValueError(f"{name} must be positive and finite, got inf")
    return number


def count(name: str, value: Any, least: int = 1, most: int | None = 2**53) -> int:
    """Return an integer of at least `least`, and exact as a float unless `most` is None."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be an integer of at most {most}, got {value!r}")
    return number


def counts(name: str, value: Any) -> np.ndarray:
    """Return whole numbers of at least 1, each exact as a float."""
    array = real(name, value)
    _require(name, array, (array == np.rint(array)) & (array >= 1), "a whole number of at least 1")
    _require(name, array, array <= 2**53, f"at most {2**53}")
    return array


def sizes(name: str, ratio: np.ndarray, unit: Any, meaning: str) -> np.ndarray:
    """Return the whole numbers nearest to ratio * unit, at least 1 and exact as floats."""
    number: np.ndarray = np.rint(ratio * unit)
    allowed = np.isfinite(ratio) & (number >= 1) & (number <= 2**53)
    _require(name, ratio, allowed, f"finite with {meaning} of at least 1 and at most {2**53}")
    return number


def size(name: str, ratio: Any, unit: int, meaning: str) -> int:
    """Return the one whole number of `sizes`."""
    return int(sizes(name, np.asarray(scalar(positive, name, ratio)), unit, meaning))


def choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return one of a few words."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def flag(name: str, value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def function(name: str, value: object) -> Callable[..., Any]:
    """Return what can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r}")
    return value


def instance(name: str, value: Any, kind: type | tuple[type, ...], source: str) -> Any:
    """Return an object of that class; `source` says where one comes from."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {source}, got {value!r}")
    return value


def path(name: str, value: Any) -> Path:
    """Return where a file lies."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path, got {value!r}")
    return Path(value)


def generator(name: str, value: Any, like: Any = None) -> Any:
    """Return a random generator of numpy or cupy, and of the library of `like`, where given."""
    libraries = ("numpy", "cupy") if like is None else (_library(like),)
    if type(value).__name__ != "Generator" or _library(value) not in libraries:
        wanted = " or ".join(f"{library}.random.Generator" for library in libraries)
        raise TypeError(f"{name} must be a {wanted}, got {value!r}")
    return value


def _library(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def namespace(name: str, value: Any) -> Any:
    """Return the library of an array, one that computes at once, in float64 and in place."""
    refuse_subclasses(name, value)
    # The last is the standard and nothing but the standard, for tests.
    if _library(value) in ("numpy", "cupy", "array_api_strict"):
        try:
            return array_namespace(value)
        except TypeError:
            pass
    kind = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
    raise TypeError(f"{name} must be an array, got {kind}; those of numpy and cupy are taken")


def written(shape: tuple[int | None, ...] | None) -> str:
    """Write a shape as Python does, with "any" for a length that is free."""
    lengths = ["any" if size is None else str(size) for size in shape or ()]
    return f"({', '.join(lengths)}{',' if len(lengths) == 1 else ''})"


def array(
    name: str,
    value: Any,
    shape: tuple[int | None, ...] | None,
    *,
    keep_float32: bool = False,
    like: Any = None,
) -> Any:
    """Return an array of float64 numbers of at most 1e75 in size, in its own array library.

    None fits any shape or any length. With `like`, the library must be the one of that array.
    """
    xp = namespace(name, value)
    if like is not None and xp is not array_namespace(like):
        kinds = [type(one).__module__ + "." + type(one).__name__ for one in (like, value)]
        raise TypeError(f"{name} must be an array of the same library, {kinds[0]}, got {kinds[1]}")
    if getattr(value.dtype, "kind", "f") not in "iuf" or not xp.isdtype(
        value.dtype, ("real floating", "integral")
    ):
        raise TypeError(f"{name} must hold real numbers, got dtype {value.dtype}")
    fits = shape is None or (
        value.ndim == len(shape)
        and all(want is None or have == want for have, want in zip(value.shape, shape, strict=True))
    )
    if not fits:
        raise ValueError(f"{name} must have shape {written(shape)}, got {tuple(value.shape)}")
    if 0 in value.shape:
        raise ValueError(f"{name} must not be empty, got shape {tuple(value.shape)}")
    if not (keep_float32 and value.dtype == xp.float32):
        value = xp.astype(value, xp.float64, copy=False)
    # The extremes prove all numbers finite, without a mask as long as the data.
    largest = max(float(xp.max(value)), -float(xp.min(value)))
    if not largest <= _MOST:
        if not xp.all(xp.isfinite(value)):
            raise ValueError(f"{name} must be finite, got at least one inf or NaN")
        raise ValueError(f"{name} must have numbers of at most {_MOST:g} in size, got {largest}")
    return value


def callers_level() -> int:
    """Return the stack level, for who asks, of the line outside that called the package."""
    frame, level = inspect.currentframe(), 0
    # With labels, xarray is in between.
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in ("iclkit", "xarray"):
        frame, level = frame.f_back, level + 1
    return level
