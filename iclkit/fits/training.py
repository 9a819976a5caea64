"""Γ while it is trained: the whole path of gradient flow from one eigendecomposition."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike

from iclkit import _validate
from iclkit.fits import features
from iclkit.fits.fit import _data, _moderate


def fit_gamma_flow(x: Any, h: Any, y: Any, times: ArrayLike, lam: float = 0.0) -> Any:
    """Follow the gradient flow of ½(d/n)Σ(y − xᵀΓh)² + ½·lam·‖Γ‖² from Γ = 0.

    Parameters
    ----------
    x : array of shape (n, d)
        Queries.
    h : array of shape (n, d + 1)
        Context statistics, see `iclkit.data.context_statistic`.
    y : array of shape (n,)
        Labels of the queries.
    times : sequence of float
        Times t at least 0, in any order, in the unit of `iclkit.theory.flow`: descent on the mean
        squared error (1/n)Σ(y − xᵀΓh)² is at t = 2·(learning rate)·(steps)/d.
    lam : float
        Ridge λ, at least 0: weight decay.

    Returns
    -------
    array of shape (len(times), d, d + 1)
        Γ at each time. For long times it tends to what `iclkit.fits.fit_gamma` finds.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, or an argument is outside its range.

    Notes
    -----
    Exact to rounding. The matrix that is decomposed is the smaller one of n and of d(d + 1) rows.
    Source: eq-loss in the book.

    Examples
    --------
    >>> from iclkit import backend, data, fits
    >>> streams = backend.streams(0)
    >>> w = data.draw_tasks(200, 10, streams.tasks)
    >>> path = fits.fit_gamma_flow(*data.draw_statistics(w, 20, 0.1, streams), [0.1, 1.0, 100.0])
    >>> population = data.population_moments(10, 20, 0.1)
    >>> [round(data.prediction_error(gamma, population), 3) for gamma in path]
    [0.923, 0.682, 1.018]
    """
    x, h, y = _data(x, h, y)
    n, d = x.shape
    wanted = _validate.nonnegative("times", times)
    if wanted.ndim != 1 or wanted.size == 0:
        raise ValueError(f"times must be a sequence of at least one, got shape {wanted.shape}")
    lam = _validate.scalar(_validate.nonnegative, "lam", lam)
    data = _moderate(x, h, y)
    x, h, y = data[:3]
    xp = array_namespace(x)
    dual = n <= d * (d + 1)
    values, vectors = xp.linalg.eigh(features.kernel(x, h) if dual else features.gram(x, h))
    rhs = vectors.T @ (y if dual else xp.reshape(features.adjoint(x, h, y), (-1,)))
    # Below rounding an eigenvalue is none, and nothing of the labels lies along it.
    kept = values > 4 * values.shape[0] * float(np.finfo(float).eps) * xp.max(xp.abs(values))
    unit = float(data.of_x * data.of_h) ** 2 * d / n
    s = xp.where(kept, unit * values, 1.0) + lam
    path = []
    for t in wanted.tolist():
        gain = xp.where(kept, -unit * xp.expm1(-t * s) / s, 0.0)
        solution = vectors @ (gain * rhs)
        path.append(
            features.adjoint(x, h, solution) if dual else xp.reshape(solution, (d, d + 1))
        )  # fmt: skip
    return data.gamma(xp.stack(path))
