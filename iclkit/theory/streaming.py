"""Training on a stream: every step of gradient descent sees fresh contexts, and none comes twice.

Γ ← Γ + (η/b) Σ (y − xᵀΓh) xhᵀ from Γ = 0, over b contexts that are drawn for this step, each with
a task of its own on the sphere. The last coordinate of h is dropped, so that Γ is d × d. Exact at
every d, ℓ and b: the mean error obeys a linear recursion, which is summed in closed form.

The rate η is that of half the mean squared error, twice the learning rate on the mean squared error
itself. On average a step goes the share a = η(1 + q + 1/ℓ)/d of the way to the best Γ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import elementwise

from iclkit import _validate
from iclkit._labels import labelled

# Beyond, the noise hides the rest from floats.
_MOST_NOISE = 1e9
# Shares of the largest rate among which the best one is looked for first, as logs: with few steps
# at small sizes it is beyond the largest.
_COARSE = np.linspace(np.log(1e-40), np.log(10.0), 600)


class _Recursion(NamedTuple):
    """e' = e(1 − 2a + a²c) + (a²/b)(n₀ + n₁(1 − a)ᵗ), the mean excess from one step to the next."""

    least: Any  # the error of the best Γ
    first: Any  # the excess of Γ = 0, which is θ
    second: Any  # β = E|h|²/d
    scatter: Any  # c − 1
    steady: Any  # n₀/b
    fading: Any  # n₁/b


def _recursion(batch: Any, d: Any, ell: Any, rho: Any) -> _Recursion:
    """Return what the recursion needs, from the moments of sums of products over a context.

    P = Σ yᵢgᵢ and Q = Σ yᵢ², where g is the token along the task, have the cumulants of a 2 × 2
    Wishart matrix; |h|² = (d/ℓ²)(P² + QZ) and wᵀh = (d/ℓ)P, with Z of χ² with d − 1 degrees.
    """
    # Differences of moments are polynomials in 1/ℓ with next to no cancellation.
    s, sd, i = 1 + rho, (1 + rho) * d, 1 / ell
    fourth = 1 + i * (  # E|h|⁴/d²
        2 * (sd + 2 * s + 3)
        + i * (sd**2 + 2 * s * sd + 10 * (sd + 2 * s) + 11)
        + i**2 * 2 * (sd**2 + 2 * s * sd + 6 * (sd + 2 * s) + 3)
    )
    rest = i * (  # β²E|w − θh|²|h|²/d²
        sd
        + 1
        + i * 2 * (sd**2 - s * sd + 2 * sd + 4 * s + 2)
        + i**2 * (sd**3 + sd**2 - 4 * s * sd + 7 * sd + 16 * s + 3)
    )
    cross = -2 * i * (s + 1 + i * (2 * sd + 7 * s + 3 + i * 2 * (2 * sd + 5 * s + 1)))
    second = 1 + i + sd * i  # E|h|² = βd
    theta = 1 / second
    return _Recursion(
        least=rho + (i + sd * i) * theta,
        first=theta,
        second=second,
        scatter=(d * (d + 2) * theta**2 * fourth - 1) / batch,
        steady=(d * (d + 2) * theta**3 * rest + rho * d**2) / batch,
        fading=2 * d * (d + 2) * theta**3 * cross / batch,
    )


def _excess(steps: Any, a: Any, of: _Recursion) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean excess after so many steps, each the share a of the way, and its change."""
    # The sums of powers are written so that they keep their digits where two factors are close,
    # where they tend to a derivative, and no power is factored out but the larger one.
    with np.errstate(all="ignore"):
        mean, loss = 1 - a, a * (2 - a - a * of.scatter)
        log = np.where(loss < 0.5, np.log1p(-loss), np.log(mean**2 + a**2 * of.scatter))
        power, change = np.exp(steps * log), np.expm1(steps * log)
        steady = np.where(loss == 0, steps, -change / loss)
        gap = a * (mean - a * of.scatter)  # of (1 − a) and the factor of the square
        larger = np.where(gap > 0, np.log1p(-a), log)
        parted = -np.expm1(steps * np.log1p(-np.abs(gap) * np.exp(-larger))) / np.abs(gap)
        near = np.exp(steps * larger) * np.where(gap == 0, steps * np.exp(-larger), parted)
        far = (np.sign(mean) ** steps * np.abs(mean) ** steps - power) / gap
        noise = a**2 * (of.steady * steady + of.fading * np.where(mean > 0, near, far))
        found, change = of.first * power + noise, of.first * change + noise
    finite = np.isfinite(found)
    return np.where(finite, found, np.inf), np.where(finite, change, np.inf)


def _sizes(batch: Any, d: Any, ell: Any, rho: Any) -> tuple[np.ndarray, ...]:
    rho = _validate.nonnegative("rho", rho)
    if np.any(rho > _MOST_NOISE):
        raise ValueError(f"rho must be at most {_MOST_NOISE:g}, got {rho.max()}")
    return (
        _validate.counts("batch", batch),
        _validate.counts("d", d),
        _validate.counts("ell", ell),
        rho,
    )


@labelled()
def icl_error(
    steps: ArrayLike,
    rate: ArrayLike,
    batch: ArrayLike,
    d: ArrayLike,
    ell: ArrayLike,
    rho: ArrayLike,
) -> Any:
    """Mean error on new tasks after steps of descent on fresh contexts.

    Parameters
    ----------
    steps : int or array
        Steps T, at least 1.
    rate : float or array
        Rate η of half the mean squared error, positive and finite.
    batch : int or array
        Fresh contexts b of each step, at least 1.
    d : int or array
        Dimension, at least 1.
    ell : int or array
        Context length ℓ, at least 1.
    rho : float or array
        Variance of the label noise, from 0 to 1e9.

    Returns
    -------
    float or array
        The error, label noise included, averaged over the contexts of training and broadcast over
        the arguments; inf where it leaves the range of floats.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: prop-rates-exact in the book.

    Examples
    --------
    >>> from iclkit.theory import streaming
    >>> sizes = {"batch": 16, "d": 8, "ell": 16, "rho": 0.1}
    >>> print(streaming.icl_error(100, [0.05, 0.2, 0.8], **sizes).round(3))
    [0.575 0.533 0.986]
    >>> print(streaming.icl_error(1, 1e-9, **sizes).round(3))  # knowing nothing
    1.1
    """
    steps, rate = _validate.counts("steps", steps), _validate.positive("rate", rate)
    if np.any(np.isinf(rate)):
        raise ValueError("rate must be positive and finite, got inf")
    of = _recursion(*_sizes(batch, d, ell, rho))
    a = rate * of.second / _validate.counts("d", d)
    return (of.least + _excess(steps, a, of)[0])[()]


@labelled()
def largest_rate(batch: ArrayLike, d: ArrayLike, ell: ArrayLike, rho: ArrayLike) -> Any:
    """Rate from which on the mean error of descent on fresh contexts does not stay bounded.

    Parameters
    ----------
    batch : int or array
        Fresh contexts b of each step, at least 1.
    d : int or array
        Dimension, at least 1.
    ell : int or array
        Context length ℓ, at least 1.
    rho : float or array
        Variance of the label noise, from 0 to 1e9.

    Returns
    -------
    float or array
        2d/((1 + q + 1/ℓ) c), broadcast over the arguments.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: prop-rates-exact in the book.

    Examples
    --------
    >>> from iclkit.theory import streaming
    >>> print(streaming.largest_rate(batch=[1, 16, 10**9], d=8, ell=16, rho=0.1).round(3))
    [0.088 1.238 9.922]
    """
    of = _recursion(*_sizes(batch, d, ell, rho))
    return (2 * _validate.counts("d", d) / (of.second * (1 + of.scatter)))[()]


@labelled()
def optimal_rate(
    steps: ArrayLike, batch: ArrayLike, d: ArrayLike, ell: ArrayLike, rho: ArrayLike
) -> Any:
    """Rate at which the mean error after a given number of steps is smallest.

    Parameters
    ----------
    steps : int or array
        Steps T, at least 1.
    batch : int or array
        Fresh contexts b of each step, at least 1.
    d : int or array
        Dimension, at least 1.
    ell : int or array
        Context length ℓ, at least 1.
    rho : float or array
        Variance of the label noise, from 0 to 1e9.

    Returns
    -------
    float or array
        η*, to about six digits, broadcast over the arguments. With few steps at sizes of a few
        tokens and dimensions it can be beyond `largest_rate`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-rates-optimum in the book.

    Examples
    --------
    >>> from iclkit.theory import streaming
    >>> best = streaming.optimal_rate(100, batch=[16, 64], d=[8, 16], ell=[16, 32], rho=0.1)
    >>> print(best.round(3))  # with b = d²/4 it grows like d
    [0.114 0.24 ]
    """
    steps = _validate.counts("steps", steps)
    sizes = np.broadcast_arrays(steps, *_sizes(batch, d, ell, rho))
    shape, flat = sizes[0].shape, [array.ravel() for array in sizes]
    of = _recursion(*flat[1:])
    largest = 2 / (1 + of.scatter)

    def objective(z: Any, steps: Any, largest: Any, *recursion: Any) -> Any:
        # The logarithm of the excess, which is that of 1 + change where training gains little.
        of = _Recursion(*recursion)
        found, change = _excess(steps, np.exp(z) * largest, of)
        with np.errstate(divide="ignore", invalid="ignore"):
            little, much = np.log1p(change / of.first), np.log(found / of.first)
        return np.where(2 * found > of.first, little, much)

    point = (flat[0], largest, *of)
    lowest = objective(_COARSE[:, None], *point).argmin(axis=0)
    middle = np.clip(lowest, 1, _COARSE.size - 2)
    around = tuple(_COARSE[middle + step] for step in (-1, 0, 1))
    z = elementwise.find_minimum(objective, around, args=point).x
    return (np.exp(z) * largest * flat[2] / of.second).reshape(shape)[()]
