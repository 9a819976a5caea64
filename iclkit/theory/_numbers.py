"""What a formula needs that is written once, and is quick for numbers as well as for arrays.

NumPy's `where`, `any` and `broadcast_arrays` take 2 to 7 µs of a single number, where a product of
two numbers of type `numpy.float64` takes 0.05 µs, and SciPy's root finders for arrays take 1 ms.
Here a number goes the short way, through the same formula. What it comes to is to all digits what
an array of one number has; after a search for a root, to the last but one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq, elementwise

# A root is a logarithm: what is a digit less of it near 0 makes no difference, and a search for
# more would be lost in rounding. It takes 5 steps, mostly, and never was seen to take 200.
_EPS = np.finfo(float).eps
_HOW = {"xtol": _EPS, "rtol": 4 * _EPS, "maxiter": 1000}


def together(*values: Any) -> tuple[np.ndarray, ...]:
    """Return arrays of one shape or, where none has a shape, numbers."""
    if any(value.ndim for value in values):
        return np.broadcast_arrays(*values)
    return tuple(value[()] for value in values)


def where(condition: Any, a: Any, b: Any) -> Any:
    """Return a where the condition holds, and b elsewhere; both have been computed."""
    if isinstance(condition, np.bool):
        return np.float64(a if condition else b)
    return np.where(condition, a, b)


def where_needed(
    condition: Any, function: Callable[..., Any], arguments: tuple[Any, ...], others: Any
) -> Any:
    """Return what a function has to say where the condition holds, and `others` elsewhere.

    The function is called for these points alone, and returns as many arrays as `others` are.
    """
    if not condition.ndim:
        return function(*arguments) if condition else others
    if not condition.any():
        return others
    parts = function(*(array[condition] for array in arguments))
    whole = [np.array(array) for array in others]
    for array, part in zip(whole, parts, strict=True):
        array[condition] = part
    return whole


def root(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Return the root of a function that increases in its first argument."""
    if np.ndim(arguments[0]):
        ends = elementwise.bracket_root(function, -1.0, 1.0, args=arguments).bracket
        return root_between(function, ends, arguments)[0]
    low, high = -1.0, 1.0
    while function(low, *arguments) > 0:
        low, high = 3 * low, low
    while function(high, *arguments) < 0:
        low, high = high, 3 * high
    return root_between(function, (low, high), arguments)[0]


def root_between(
    function: Callable[..., Any], ends: tuple[Any, Any], arguments: tuple[Any, ...]
) -> tuple[Any, Any]:
    """Return the root between two points, and whether there is one."""
    if np.ndim(arguments[0]):
        found = elementwise.find_root(function, ends, args=arguments)
        return found.x, found.success
    try:
        return brentq(function, *ends, args=arguments, **_HOW), np.True_
    except ValueError:  # of both ends the function has the same sign
        return np.nan, np.False_
