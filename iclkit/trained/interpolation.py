"""Interpolation thresholds: how many contexts a model can learn by heart.

`polish` carries a trained network to the bottom of its valley by the Levenberg–Marquardt method;
whether the bottom is zero says whether the sample is interpolated. `fit_threshold` and
`fit_exponent` make a threshold, and a power of d, of many tries.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit

from iclkit import _validate
from iclkit._labels import refuse, unlabelled
from iclkit.trained._jax import jax, jnp, ravel_pytree
from iclkit.trained.attention import jacobian
from iclkit.trained.prompts import Sample

INTERPOLATED = 1e-8  # mean squared training error, where the labels have variance 1 + ρ

_WINDOW = 40  # iterations within which the loss has to fall by a tenth


class Polished(NamedTuple):
    """Where the Levenberg–Marquardt method has ended.

    Attributes
    ----------
    params : pytree of arrays
        The parameters.
    loss : float
        Mean squared training error there.
    iterations : int
        Linear systems that were solved.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from iclkit.trained import interpolation, prompts
    >>> sample = prompts.Sample(jnp.array([1.0, 2.0]), jnp.array([2.0, 4.0]))
    >>> end = interpolation.polish(lambda slope, x: slope * x, 0.0, sample)
    >>> print(round(float(end.params), 3), end.loss < interpolation.INTERPOLATED)
    2.0 True
    """

    params: Any
    loss: float
    iterations: int


def polish(
    predict: Callable[[Any, Any], Any],
    params: Any,
    sample: Sample,
    *,
    count: int | None = None,
    iterations: int = 200,
    goal: float = 1e-10,
) -> Polished:
    """Minimise the mean squared training error by Levenberg–Marquardt, in double precision.

    Parameters
    ----------
    predict : callable
        ``predict(params, inputs)`` of a model.
    params : pytree of arrays
        Where to start; P numbers.
    sample : Sample
        n prompts.
    count : int, optional
        How many of them count, the first ones, at least 1; by default all. What is compiled for
        one number serves for every other.
    iterations : int
        Most linear systems to solve, at least 1.
    goal : float
        Stop at this loss. It also stops when 40 systems have taken off less than a tenth.

    Returns
    -------
    Polished
        The best parameters found.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or the loss of `params` is not finite.

    Notes
    -----
    A step solves (JJᵀ + μI)z = r, with the residuals r and their Jacobian J, and goes by −Jᵀz: n
    unknowns, where the networks here have several parameters a prompt. The libraries' methods
    (``scipy.optimize.least_squares``, optimistix) factor a matrix with P columns instead; the
    former took 4 to 14 times as long in the book's benchmark, at d = 10. μ is divided by 5 after a
    step that lowers the loss, and multiplied by 4 after one that does not.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from iclkit.trained import interpolation, prompts
    >>> sample = prompts.Sample(jnp.array([1.0, 2.0]), jnp.array([2.0, 5.0]))
    >>> def predict(slope, x):
    ...     return slope * x
    >>> round(interpolation.polish(predict, 0.0, sample).loss, 3)  # two labels, one parameter
    0.1
    >>> interpolation.polish(predict, 0.0, sample, count=1).loss < interpolation.INTERPOLATED
    True
    """
    iterations = _validate.count("iterations", iterations)
    goal = _validate.scalar(_validate.positive, "goal", goal)
    _validate.function("predict", predict)
    _validate.instance("sample", sample, Sample, "an iclkit.trained.prompts.Sample")
    n = len(sample.targets)
    count = n if count is None else _validate.count("count", count)
    if count > n:
        raise ValueError(f"count must be at most the n = {n} prompts there are, got {count}")
    with jax.enable_x64(True):
        params, sample = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), (params, sample))
        weights = (jnp.arange(n) < count).astype(float)
        params, loss, used = _descend(predict, params, sample, weights, iterations, goal)
        if not np.isfinite(loss):
            raise ValueError(f"params must have a finite loss on the sample, got {loss}")
        return Polished(params, float(loss), int(used))


class _State(NamedTuple):
    flat: Any
    loss: Any
    residual: Any
    jacobian: Any
    gram: Any
    damping: Any
    iteration: Any
    earlier: Any  # the loss when the window began


@partial(jax.jit, static_argnums=(0,))
def _descend(
    predict: Any, params: Any, sample: Sample, weights: Any, iterations: Any, goal: Any
) -> Any:
    flat, restore = ravel_pytree(params)
    inputs, targets = sample
    count = jnp.sum(weights)

    def residual(flat: Any) -> Any:
        return weights * (predict(restore(flat), inputs) - targets)

    def linearise(flat: Any) -> tuple[Any, Any]:
        rows = weights[:, None] * jacobian(predict, restore(flat), inputs)
        return rows, rows @ rows.T

    def unfinished(state: _State) -> Any:
        stalled = (state.iteration % _WINDOW == 0) & (state.loss > 0.9 * state.earlier)
        going = (state.iteration < iterations) & (state.loss > goal)
        return going & ~(stalled & (state.iteration > 0))

    def step(state: _State) -> _State:
        window = state.iteration % _WINDOW == 0
        earlier = jnp.where(window, state.loss, state.earlier)
        n = state.gram.shape[0]
        factor = jax.scipy.linalg.cho_factor(state.gram + state.damping * jnp.eye(n), lower=True)
        move = state.jacobian.T @ jax.scipy.linalg.cho_solve(factor, state.residual)
        new = residual(state.flat - move)
        loss = jnp.sum(new**2) / count
        better = loss < state.loss  # a failed factor gives NaN, which is not

        def accept(_: Any) -> tuple[Any, ...]:
            flat = state.flat - move
            return (flat, loss, new, *linearise(flat), jnp.maximum(state.damping / 5, floor))

        def refuse(_: Any) -> tuple[Any, ...]:
            return (*state[:5], state.damping * 4)

        kept = jax.lax.cond(better, accept, refuse, None)
        return _State._make((*kept, state.iteration + 1, earlier))

    start = residual(flat)
    rows, gram = linearise(flat)
    scale = jnp.trace(gram) / count
    floor = 1e-15 * scale
    loss = jnp.sum(start**2) / count
    begin = _State(flat, loss, start, rows, gram, 1e-3 * scale, 0, loss)
    end = jax.lax.while_loop(unfinished, step, begin)
    return restore(end.flat), end.loss, end.iteration


# From successes to a threshold ----------------------------------------------------------------


class Threshold(NamedTuple):
    """A logistic curve of success against the logarithm of the sample's size.

    Attributes
    ----------
    location : numpy.ndarray of shape (m,)
        log n at which half of the tries succeed, for each of m dimensions.
    width : float
        Change of log n that takes success from 1/2 to 1/(1 + e), common to all.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained.interpolation import Threshold
    >>> threshold = Threshold(location=np.log([20.0, 80.0]), width=0.1)
    >>> print(np.exp(threshold.location).round(1))
    [20. 80.]
    """

    location: np.ndarray
    width: float


def fit_threshold(log_n: ArrayLike, successes: ArrayLike, tries: ArrayLike) -> Threshold:
    """Fit thresholds by maximum likelihood, with one width for all dimensions.

    Parameters
    ----------
    log_n : array of shape (m, j)
        Logarithms of the sizes tried, for m dimensions and j sizes each.
    successes, tries : arrays of shape (m, j)
        How many samples were interpolated, of how many.

    Returns
    -------
    Threshold
        Locations within the sizes tried, extended by 0.3 on each side; the width lies between
        0.01 and 1.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, numbers are not finite, or successes are not between 0 and tries.

    Notes
    -----
    Where the curve is a step, its width is not determined; the lower bound then stands for it.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import interpolation
    >>> sizes = np.array([[10, 20, 40, 80]])
    >>> found = interpolation.fit_threshold(np.log(sizes), [[10, 9, 1, 0]], [[10, 10, 10, 10]])
    >>> print(np.exp(found.location).round(1))
    [28.3]
    """
    log_n = unlabelled("log_n", log_n, (None, None))
    successes = unlabelled("successes", successes, log_n.shape)
    tries = unlabelled("tries", tries, log_n.shape)
    if not np.all((tries > 0) & (successes >= 0) & (successes <= tries)):
        raise ValueError("successes must be between 0 and tries, and tries at least 1")

    def misfit(unknowns: np.ndarray) -> tuple[float, np.ndarray]:
        width = np.exp(unknowns[-1])
        z = (unknowns[:-1, None] - log_n) / width
        by_z = tries * expit(z) - successes
        slope = np.append(by_z.sum(axis=1) / width, -np.sum(by_z * z))
        return float(np.sum(tries * np.logaddexp(0.0, z) - successes * z)), slope

    low, high = log_n.min(axis=1), log_n.max(axis=1)
    # Half-way through the successes, as if all sizes were tried equally often.
    begin = low + (high - low) * np.clip(np.mean(successes / tries, axis=1), 0.05, 0.95)
    bounds = [*zip(low - 0.3, high + 0.3, strict=True), (np.log(0.01), 0.0)]
    start = [*begin, np.log(0.1)]
    best = minimize(misfit, start, jac=True, bounds=bounds, method="L-BFGS-B")
    return Threshold(best.x[:-1], float(np.exp(best.x[-1])))


def fit_exponent(
    d: ArrayLike, n: ArrayLike, interpolated: ArrayLike, *, draws: int = 1000, seed: int = 0
) -> tuple[float, np.ndarray]:
    """Fit the exponent of n ∝ d^a to thresholds, and say by a bootstrap how uncertain it is.

    Parameters
    ----------
    d : array of shape (m,)
        Dimensions.
    n : array of shape (m, j)
        Sizes tried at each.
    interpolated : array of shape (m, j, s)
        1 or 0 for each of s seeds, NaN for one that was not tried.
    draws : int
        Resamplings of the seeds, at least 2.
    seed : int
        At least 0.

    Returns
    -------
    exponent : float
        Slope of a least-squares line through the locations of `fit_threshold`, against log d.
    bootstrap : numpy.ndarray of shape (draws,)
        The same with the seeds of each size drawn anew with replacement.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-threshold-exponent in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import interpolation
    >>> d = np.array([10.0, 20.0, 40.0])
    >>> n = d[:, None] ** 2 * [0.5, 0.8, 1.25, 2.0]
    >>> learnt = np.broadcast_to([[[1.0], [1.0], [0.0], [0.0]]], (3, 4, 5))
    >>> exponent, again = interpolation.fit_exponent(d, n, learnt, draws=10)
    >>> round(exponent, 2)
    2.0
    """
    d = unlabelled("d", d, (None,))
    n = unlabelled("n", n, (d.size, None))
    for name, sizes in (("d", d), ("n", n)):
        if np.any(sizes <= 0):
            raise ValueError(f"{name} must be positive, got {sizes.min()}")
    log_d, log_n = np.log(d), np.log(n)
    refuse("interpolated", interpolated)
    results = _validate.real("interpolated", interpolated)
    if results.ndim != 3 or results.shape[:2] != log_n.shape:
        raise ValueError(f"interpolated must have shape {log_n.shape} + (s,), got {results.shape}")
    if bad := set(results[~np.isnan(results)].tolist()) - {0.0, 1.0}:
        raise ValueError(f"interpolated must be 0, 1 or NaN, got {bad.pop()}")
    tries = np.sum(np.isfinite(results), axis=2)
    if not np.all(tries):
        raise ValueError("interpolated must have at least one result at each size")
    successes = np.nansum(results, axis=2)
    rng = np.random.default_rng(_validate.count("seed", seed, least=0))

    def slope(counts: np.ndarray) -> float:
        return float(np.polyfit(log_d, fit_threshold(log_n, counts, tries).location, 1)[0])

    again = rng.binomial(
        tries, successes / tries, (_validate.count("draws", draws, 2), *tries.shape)
    )
    return slope(successes), np.array([slope(counts) for counts in again])
