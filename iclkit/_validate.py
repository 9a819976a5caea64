"""Argument checks.

Each returns the argument in the form that the caller computes with, or raises an error that names
the argument, the value and what is allowed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
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


def _real(name: str, value: Any) -> np.ndarray:
    refuse_subclasses(name, value)
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a real number or an array of them, got {value!r}")
    return array.astype(np.float64)


def _require(name: str, array: np.ndarray, allowed: np.ndarray, statement: str) -> None:
    if not np.all(allowed):
        offender = array[~allowed].flat[0]
        raise ValueError(f"{name} must be {statement}, got {offender}")


def _in_range(array: np.ndarray) -> np.ndarray:
    return (array >= _LEAST) & (array <= _MOST)


def positive(name: str, value: Any) -> np.ndarray:
    """Return numbers in [1e-75, 1e75], or inf, a limit that the theory knows."""
    array = _real(name, value)
    _require(name, array, array > 0, "positive (inf is allowed)")
    _require(name, array, np.isinf(array) | _in_range(array), f"inf or {_RANGE}")
    return array


def nonnegative(name: str, value: Any) -> np.ndarray:
    """Return numbers in [1e-75, 1e75], or 0."""
    array = _real(name, value)
    _require(name, array, np.isfinite(array) & (array >= 0), "finite and at least 0")
    _require(name, array, (array == 0) | _in_range(array), f"0 or {_RANGE}")
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


def count(name: str, value: Any, least: int = 1) -> int:
    """Return an integer of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return number


def size(name: str, ratio: Any, unit: int, meaning: str) -> int:
    """Return the whole number that is nearest to ratio * unit, at least 1."""
    number = scalar(positive, name, ratio)
    if not np.isfinite(number) or round(number * unit) < 1:
        raise ValueError(f"{name} must be finite with {meaning} of at least 1, got {number}")
    return round(number * unit)


def choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return one of a few words."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def array(
    name: str, value: Any, shape: tuple[int | None, ...], *, keep_float32: bool = False
) -> Any:
    """Return a finite float64 array of the given shape, in its own array library; None fits all."""
    refuse_subclasses(name, value)
    try:
        xp = array_namespace(value)
    except TypeError:
        raise TypeError(f"{name} must be an array, got {type(value).__name__}") from None
    if getattr(value.dtype, "kind", None) == "O" or not xp.isdtype(
        value.dtype, ("real floating", "integral")
    ):
        raise TypeError(f"{name} must hold real numbers, got dtype {value.dtype}")
    fits = value.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(value.shape, shape, strict=True)
    )
    if not fits or 0 in value.shape:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape ({wanted}), got {tuple(value.shape)}")
    if not (keep_float32 and value.dtype == xp.float32):
        value = xp.astype(value, xp.float64, copy=False)
    # A finite sum proves all numbers finite, without a mask as long as the data.
    if not xp.isfinite(xp.sum(value)) and not xp.all(xp.isfinite(value)):
        raise ValueError(f"{name} must be finite, got at least one inf or NaN")
    return value
