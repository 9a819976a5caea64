"""Types that several modules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeAlias, TypeVar, cast

import numpy as np

Seed: TypeAlias = int | np.random.SeedSequence

P = ParamSpec("P")
R = TypeVar("R")


class _Function(Protocol[P]):
    """What is called with a seed and a point."""

    def __call__(self, seed: Seed, *args: P.args, **kwargs: P.kwargs) -> dict[str, float]: ...


class Run(_Function[P], Protocol[P, R]):
    """One run of an experiment: called with a seed and a point, it measures something.

    `iclkit.runs.sweep` calls `check` at every point before anything is computed, and `expected`,
    where there is one, with the points of its result.
    """

    check: Callable[P, R]
    expected: Callable[..., dict[str, np.ndarray]]


def checked(check: Callable[P, R]) -> Callable[[_Function[P]], Run[P, R]]:
    """Give a run its check, which takes the same point."""

    def decorate(function: _Function[P]) -> Run[P, R]:
        run = cast("Run[P, R]", function)  # that it is with the attribute
        run.check = check
        return run

    return decorate
