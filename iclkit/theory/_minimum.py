"""Where an error is smallest, to more digits than its own values tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

# Central differences of eighth order in the log of a ridge, or a logit, and their step.
_SLOPE = (1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280)
_BEND = (-1 / 560, 8 / 315, -1 / 5, 8 / 5, -205 / 72, 8 / 5, -1 / 5, 8 / 315, -1 / 560)
_STEP = 0.015


def stationary(error: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Return the offset, near 0, at which an error is smallest.

    Near its minimum it is flat to rounding; its slope is not, and has a root there.
    """
    offset = np.zeros(())
    for _ in range(4):
        errors = [error(offset + distance * _STEP) for distance in range(-4, 5)]
        slope = sum(c * error for c, error in zip(_SLOPE, errors, strict=True)) / _STEP
        bend = sum(c * error for c, error in zip(_BEND, errors, strict=True)) / _STEP**2
        step = np.clip(-slope / bend, -_STEP, _STEP)
        # Next to the edge of floats some of the errors are infinite, and no step can be told.
        offset = offset + np.where((bend > 0) & np.isfinite(step), step, 0.0)
    return offset
