"""Contexts that are drawn anew whenever they are looked at, and so take no memory.

They come in blocks. What is in a block follows from the seed and its number alone: any block can
be drawn at any time, by any worker, and is the same each time.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from iclkit import _validate, backend
from iclkit._types import Seed
from iclkit.data.contexts import Statistics, draw_statistics
from iclkit.data.moments import Moments, population_moments, task_moments
from iclkit.data.tasks import assign_tasks, draw_tasks

# Entries of x in a block: enough rows for matrix products at full speed.
_ENTRIES = 2**20


class Redrawn(NamedTuple):
    """Contexts that are held as their seed, see `redrawn`.

    Attributes
    ----------
    seed : int or numpy.random.SeedSequence
        What they follow from, together with the numbers below.
    n, d, ell : int
        Contexts, dimension and context length.
    rho : float
        Variance of the label noise.
    tasks : array of shape (k, d), optional
        The list of tasks; None if each context has a task of its own.
    rows : int
        Contexts of a block; the last one may have fewer.
    xp : module
        `numpy` or `cupy`, whose arrays blocks are.

    Examples
    --------
    >>> from iclkit import data
    >>> contexts = data.redrawn(0, n=2_000_000, d=1000, ell=1000, rho=0.1, k=1000)
    >>> contexts.blocks
    1909
    >>> x, h, y = contexts.block(7)
    >>> x.shape, h.shape, y.shape
    ((1048, 1000), (1048, 1001), (1048,))
    >>> bool((x == contexts.block(7).x).all())
    True
    """

    seed: Seed
    n: int
    d: int
    ell: int
    rho: float
    tasks: Any
    rows: int
    xp: ModuleType

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return -(-self.n // self.rows)

    def block(self, number: int) -> Statistics:
        """Draw the block of that number, from 0; it is a `ValueError` where there is none."""
        number = _validate.count("number", number, least=0)
        if number >= self.blocks:
            raise ValueError(f"number must be less than {self.blocks}, got {number}")
        count = min(self.rows, self.n - number * self.rows)
        seed = backend.child_seed(backend.child_seed(self.seed, 1), number)
        streams = backend.streams(seed, self.xp)
        if self.tasks is None:
            w, of = draw_tasks(count, self.d, streams.tasks), None
        else:
            w, of = self.tasks, assign_tasks(count, self.tasks.shape[0], streams.tasks)
        return draw_statistics(w, self.ell, self.rho, streams, of=of)

    def moments(self) -> Moments:
        """Exact moments of what is drawn, given the list of tasks: see `iclkit.data.Moments`."""
        if self.tasks is None:
            return population_moments(self.d, self.ell, self.rho)
        return task_moments(self.tasks, self.ell, self.rho)


def redrawn(
    seed: Seed,
    *,
    n: int,
    d: int,
    ell: int,
    rho: float,
    k: int | None = None,
    rows: int | None = None,
    xp: ModuleType = np,
) -> Redrawn:
    """Describe contexts that are drawn whenever they are looked at.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same contexts on a CPU.
    n, d, ell : int
        Contexts, dimension and context length ℓ, each at least 1.
    rho : float
        Variance of the label noise, at least 0.
    k : int, optional
        Tasks in the list that contexts pick theirs from, independently and uniformly, at least 1.
        By default, each context has a task of its own (κ = ∞). Tasks are uniform on the sphere.
    rows : int, optional
        Contexts of a block, at least 1: by default so many that x has a million entries. With
        other blocks the contexts are others, of the same law.
    xp : module
        `numpy` or `cupy`, see `iclkit.backend.namespace`.

    Returns
    -------
    Redrawn
        What draws them block by block; in memory are the k tasks alone.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    The law is that of `iclkit.data.draw_statistics`. Block b has the random streams of a seed of
    its own, `iclkit.backend.child_seed`, which hashes the seed and b.

    Examples
    --------
    >>> from iclkit import data
    >>> contexts = data.redrawn(0, n=500, d=10, ell=20, rho=0.1, rows=200)
    >>> [contexts.block(number).y.shape for number in range(contexts.blocks)]
    [(200,), (200,), (100,)]
    """
    n, d, ell = (_validate.count(*named) for named in (("n", n), ("d", d), ("ell", ell)))
    rho = _validate.scalar(_validate.nonnegative, "rho", rho)
    k = None if k is None else _validate.count("k", k)
    rows = max(1, _ENTRIES // d) if rows is None else _validate.count("rows", rows)
    # Knows what a seed and a library are.
    streams = backend.streams(backend.child_seed(seed, 0), xp)
    tasks = None if k is None else draw_tasks(k, d, streams.tasks)
    return Redrawn(seed, n, d, ell, rho, tasks, rows, xp)
