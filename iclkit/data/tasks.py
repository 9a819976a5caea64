"""Task ensembles: the vectors w that labels are made with, and which context uses which."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from iclkit import _validate

PRIORS = ("sphere", "gaussian")
ASSIGNMENTS = ("uniform", "balanced")


def draw_tasks(k: int, d: int, rng: Any, *, prior: str = "sphere") -> Any:
    """Draw k task vectors.

    Parameters
    ----------
    k : int
        Number of tasks, at least 1. For a fresh task in every context (κ = ∞) draw one each.
    d : int
        Dimension, at least 1.
    rng : numpy.random.Generator or cupy.random.Generator
        The stream of the tasks, see `iclkit.backend.streams`.
    prior : {"sphere", "gaussian"}
        Uniform on the sphere of radius √d, or standard Gaussian.

    Returns
    -------
    array of shape (k, d)
        One task a row.

    Raises
    ------
    ValueError, TypeError
        If `k` or `d` is not an integer of at least 1, `rng` no generator, or `prior` unknown.

    Notes
    -----
    Source: eq-label-model in the book. On the sphere every label has variance 1 + ρ exactly.

    Examples
    --------
    >>> from iclkit import backend, data
    >>> w = data.draw_tasks(3, 20, backend.streams(0).tasks)
    >>> print(w.shape, (w**2).sum(axis=1).round(3))
    (3, 20) [20. 20. 20.]
    >>> w = data.draw_tasks(3, 20, backend.streams(0).tasks, prior="gaussian")
    >>> print((w**2).sum(axis=1).round(1))
    [11.5 17.4 24.7]
    """
    k, d = _validate.count("k", k), _validate.count("d", d)
    _validate.choice("prior", prior, PRIORS)
    _validate.generator("rng", rng)
    w = rng.standard_normal((k, d))
    if prior == "sphere":
        xp = array_namespace(w)
        w *= d**0.5 / xp.linalg.vector_norm(w, axis=1, keepdims=True)
    return w


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
