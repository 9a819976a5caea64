"""Task ensembles: the vectors w that labels are made with, and which context uses which."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from iclkit import _validate
from iclkit.data import _at
from iclkit.data.laws import Law

PRIORS = ("sphere", "gaussian")
ASSIGNMENTS = ("uniform", "balanced")


def draw_tasks(
    k: int, d: int, rng: Any, *, prior: str | None = None, tasks: _at.LawOrWord | None = None
) -> Any:
    """Draw k task vectors.

    Parameters
    ----------
    k : int
        Number of tasks, at least 1. For a fresh task in every context (κ = ∞) draw one each.
    d : int
        Dimension, at least 1.
    rng : numpy.random.Generator or cupy.random.Generator
        The stream of the tasks, see `iclkit.backend.streams`.
    prior : {"sphere", "gaussian"}, optional
        Uniform on the sphere of radius √d, or standard Gaussian: the law of u where w = C^½ u. By
        default on the sphere, and with `tasks` Gaussian.
    tasks : law or str, optional
        Covariance C: a matrix, eigenvalues, what `iclkit.data.laws` makes, or its name in words,
        "isotropic", "power_law(0.5)", "low_rank(0.3)" or "two_level(0.25, 0.1)"; by default the
        identity. Of `iclkit.data.laws.vectors`, tasks are picked, each with the same chance and
        as often as it comes.

    Returns
    -------
    array of shape (k, d)
        One task a row.

    Raises
    ------
    ValueError, TypeError
        If `k` or `d` is not an integer of at least 1, `rng` no generator, `prior` unknown, or given
        for tasks that are picked, or `tasks` no law in d dimensions.

    Notes
    -----
    Source: eq-label-model in the book. On the sphere, without `tasks`, every label has variance
    1 + ρ exactly.

    Examples
    --------
    >>> from iclkit import backend, data
    >>> w = data.draw_tasks(3, 20, backend.streams(0).tasks)
    >>> print(w.shape, (w**2).sum(axis=1).round(3))
    (3, 20) [20. 20. 20.]
    >>> w = data.draw_tasks(3, 20, backend.streams(0).tasks, prior="gaussian")
    >>> print((w**2).sum(axis=1).round(1))
    [11.5 17.4 24.7]
    >>> w = data.draw_tasks(3, 20, backend.streams(0).tasks, tasks="low_rank(0.1)")
    >>> print((w != 0).sum(axis=0)[:4])  # two directions of twenty
    [3 3 0 0]
    """
    k, d = _validate.count("k", k), _validate.count("d", d)
    law, prior = _at.law_at("tasks", tasks, d), _prior_of(prior, tasks)
    _validate.generator("rng", rng)
    if law is not None and law.vectors is not None:
        picked = rng.integers(0, len(law.vectors), k)
        return array_namespace(picked).asarray(law.vectors)[picked, :]
    w = rng.standard_normal((k, d))
    if prior == "sphere":
        xp = array_namespace(w)
        w *= d**0.5 / xp.linalg.vector_norm(w, axis=1, keepdims=True)
    return _at.times(w, _at.root(law, d, w))


def _prior_of(prior: str | None, tasks: _at.LawOrWord | None) -> str:
    """Return the law of u in w = C^½ u, which by default is Gaussian where C is given."""
    if isinstance(tasks, Law) and tasks.vectors is not None:
        if prior is not None:
            raise ValueError(f"prior must be None for tasks that are picked, got {prior!r}")
        return "picked"
    if prior is None:
        return "sphere" if tasks is None else "gaussian"
    return _validate.choice("prior", prior, PRIORS)


def assign_tasks(n: int, k: int, rng: Any, *, assignment: str = "uniform") -> Any:
    """Say which of k tasks each of n contexts uses.

    Parameters
    ----------
    n : int
        Number of contexts, at least 1.
    k : int
        Number of tasks, at least 1.
    rng : numpy.random.Generator or cupy.random.Generator
        The stream of the tasks.
    assignment : {"uniform", "balanced"}
        Independently and uniformly at random; or each task equally often, in random order:
        exactly n/k times where k divides n, otherwise ⌊n/k⌋ or ⌈n/k⌉ times.

    Returns
    -------
    integer array of shape (n,)
        Row numbers into an array of tasks.

    Raises
    ------
    ValueError, TypeError
        If `n` or `k` is not an integer of at least 1, `rng` no generator, or `assignment` unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import backend, data
    >>> rng = backend.streams(0).tasks
    >>> print(np.bincount(data.assign_tasks(12, 4, rng, assignment="balanced")))
    [3 3 3 3]
    >>> len(data.assign_tasks(12, 4, rng))
    12
    """
    n, k = _validate.count("n", n), _validate.count("k", k)
    _validate.choice("assignment", assignment, ASSIGNMENTS)
    _validate.generator("rng", rng)
    if assignment == "uniform":
        return rng.integers(0, k, n)
    uniform = rng.random(n)
    return array_namespace(uniform).argsort(uniform) % k
