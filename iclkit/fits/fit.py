"""Fitting Γ*: ridge regression of labels on the features x hᵀ.

`solvers` has the ways to do it; here is the choice among them, made by what `cost` foretells, and
the check of what they return.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import ArrayLike, DTypeLike

from iclkit import _validate, backend
from iclkit.data.moments import Moments, prediction_error
from iclkit.fits import cost, features
from iclkit.fits.solvers import PATH_SOLVERS, SOLVERS, IndefiniteError, Problem

# "auto" forms no matrix of more bytes: 46,000² numbers in float32.
_LARGEST = 2**33
# Below so many operations, a fraction of a millisecond, thinking takes longer than solving.
_WORTH_A_CHOICE = 1e7


class ConvergenceWarning(UserWarning):
    """A fit has missed its tolerance; its `residual` says what it has reached.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from iclkit import fits
    >>> x, h, y = np.ones((2, 1)), np.ones((2, 2)), np.array([0.0, 1.0])  # one context, two labels
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always", fits.ConvergenceWarning)
    ...     fit = fits.fit_gamma(x, h, y, solver="dual-cg", rtol=1e-5)
    >>> print(caught[0].message)
    dual-cg has reached a residual of 1.0e+00, above rtol = 1.0e-05
    """


class Fit(NamedTuple):
    """A fitted predictor, and how it was found.

    Attributes
    ----------
    gamma : array of shape (d, d + 1)
        The minimiser Γ*, in float64.
    solver : str
        The solver that found it.
    iterations : int
        Its iterations; 0 for a direct solver.
    residual : float
        Norm of the gradient of the objective at `gamma`, relative to its norm at Γ = 0, computed
        in float64 from the solution and the data. The norm gives all directions of the features
        the same weight (eq-whitening in the book). Where "dual-cg" has been asked for an accuracy,
        it is the norm of what is left of the labels, relative to theirs.

    Examples
    --------
    >>> from iclkit import backend, data, fits
    >>> streams = backend.streams(0)
    >>> w = data.draw_tasks(500, 10, streams.tasks)
    >>> found = fits.fit_gamma(*data.draw_statistics(w, 20, 0.1, streams), lam=0.1)
    >>> round(found.error(data.population_moments(10, 20, 0.1)), 3)  # on new contexts, exact
    0.606
    >>> x, h, y = data.draw_statistics(w, 20, 0.1, streams)
    >>> print(found.predict(x, h).shape, round(float(((found.predict(x, h) - y) ** 2).mean()), 1))
    (500,) 0.6
    """

    gamma: Any
    solver: str
    iterations: int
    residual: float

    def predict(self, x: Any, h: Any) -> Any:
        """Predict labels, the numbers xᵀΓh, for queries (m, d) and context statistics (m, d + 1).

        Both are arrays of the library of `gamma`; bad ones raise `ValueError` or `TypeError`.
        """
        return features.predict(x, h, self.gamma)

    def error(self, moments: Moments) -> float:
        """Exact mean squared error over contexts of these moments, see `iclkit.data.moments`."""
        return prediction_error(self.gamma, moments)


class FitPath(NamedTuple):
    """Fitted predictors for several ridges.

    Attributes
    ----------
    gamma : array of shape (m, d, d + 1)
        The minimiser for each ridge, in float64.
    solver : str
        The solver that found them.
    iterations : int
        Its iterations, shared by all ridges; 0 for an eigendecomposition.
    residual : numpy.ndarray of shape (m,)
        For each ridge what `Fit.residual` is for one.

    Examples
    --------
    >>> from iclkit import backend, data, fits
    >>> streams = backend.streams(0)
    >>> w = data.draw_tasks(500, 10, streams.tasks)
    >>> path = fits.fit_gamma_path(*data.draw_statistics(w, 20, 0.1, streams), [0.1, 1.0, 10.0])
    >>> print(path.gamma.shape, path.residual.max() < 1e-5)
    (3, 10, 11) True
    """

    gamma: Any
    solver: str
    iterations: int
    residual: np.ndarray


def fit_gamma(
    x: Any,
    h: Any,
    y: Any,
    lam: float = 0.0,
    *,
    solver: str = "auto",
    accuracy: float = 1e-4,
    rtol: float | None = None,
    dtype: DTypeLike | None = None,
) -> Fit:
    """Minimise Σ(y − xᵀΓh)² + (n/d)·lam·‖Γ‖² over Γ.

    Parameters
    ----------
    x : array of shape (n, d)
        Queries.
    h : array of shape (n, d + 1)
        Context statistics, see `iclkit.data.context_statistic`.
    y : array of shape (n,)
        Labels of the queries.
    lam : float
        Ridge λ. Zero is the ridgeless limit: of all minimisers the one of least norm, on both
        sides of n = d(d + 1). A ridge may be negative while the objective keeps its minimum, see
        the notes.
    solver : {"auto", "dual", "dual-mixed", "dual-cg", "primal", "primal-mixed", "primal-cg"}
        "dual" solves for one number a context, with the kernel (XXᵀ) ∘ (HHᵀ); "primal" for the
        entries of Γ. Alone, these words mean a direct solution in float64. "mixed" factors the
        matrix in float32 and refines in float64, by conjugate gradients with the factor as
        preconditioner. "cg" is conjugate gradients with no matrix but the data: Craig's method on
        the dual side, on the primal side preconditioned by the second moments of x and of h.
        "auto" chooses, see the notes.
    accuracy : float
        Tolerance in [1e-10, 0.1] for the errors of prediction, on old tasks and on new ones, as a
        share of them. The theory foretells what it asks of a solver that iterates, see the notes.
    rtol : float, optional
        Tolerance for `Fit.residual` instead, in [1e-12, 0.1], for those who want Γ* itself. Only
        "primal-cg" asked for by name needs a small one where n is within a tenth of d(d + 1) and
        d is small: there "auto" takes "mixed".
    dtype : {None, "float32", "float64"}
        Precision of the iterations of a "cg" solver, by default float32 where the tolerance is
        1e-6 or more. In float32, each pass is checked and continued in float64, so that the
        tolerance is kept, and where that does not help, all of the arithmetic goes over to
        float64. Data in float32 are then not copied.

    Returns
    -------
    Fit
        Γ*, in the array library of the data, with the solver used and the residual reached.

    Raises
    ------
    ValueError, TypeError
        If shapes or array libraries do not match, an array does not hold finite real numbers,
        or some beyond 1e75 or below 1e-75 alone, or columns more than a factor of 1e50 apart;
        if `lam` is not finite or is negative and too low, `accuracy` or `rtol` is out of range, or
        `solver` or `dtype` is unknown; also for an iterative primal solver where n ≤ d(d + 1):
        there its preconditioner would pick another one of the many minimisers, or of the Γ that a
        small ridge can hardly tell apart.

    Warns
    -----
    ConvergenceWarning
        If the errors may be off by more than `accuracy`, or the residual is above `rtol`.

    Notes
    -----
    "auto" takes the solver that `iclkit.fits.cost.operations` foretells to be fastest: with
    D = d(d + 1), in operations of a large float64 matrix product, 1.5(2dn² + n³/3) for "dual",
    1.5(nd⁴/2 + D³/3) for "primal", a third of that and 4 refinements for "mixed", and 4nd² an
    iteration for "cg", with iterations from the spectrum of HᵀH, see `iclkit.fits.cost.iterations`.
    The dual side is considered for n ≤ D or with a ridge, its "cg" only for n ≤ D; the primal
    side for n > D, and with a ridge its direct solver also below; no matrix above 8 GiB. Below
    1e7 operations the direct solver is taken at once. Should the chosen solver miss the
    tolerance, as with repeated contexts, whose labels cannot all be met, the direct one follows,
    "dual" for n ≤ D and "primal" above.

    `accuracy` is foretold for contexts that are drawn as in the book: what a fit lacks is taken to
    meet what it does not predict as one direction meets another at random, and the errors are
    taken from generalised cross-validation, see `iclkit.fits.accuracy`. What is left of the system
    is computed once more in float64 before a fit ends. A direct solver is exact to rounding, and
    one with a factor to a residual of a tenth of `accuracy`, 1e-5 at most. Of other data, such as
    contexts that are all but equal, neither an accuracy nor a residual tells all; nor does it for
    "cg" asked for by name where the spectrum of the features is not the foretold one: within a
    tenth of d(d + 1) at a small d, or where they are dependent and the ridge is below 1e-9.

    The units of a column of x or of h, or of y, do not count. Where squares of the features are
    singular to rounding, be it by units, by repeated contexts or by columns that are all but
    dependent, "dual" and "primal" take an orthogonal factor of the features themselves, if that
    costs no more than some seconds, and else an eigendecomposition. Solvers asked for by name
    whose iterations or float32 cannot follow end with the warning.

    The residual cannot tell minimisers apart. Where lam = 0 and n > d(d + 1), but repetitions
    leave features of less than full rank, as in a bootstrap, only "dual" and "primal" take the
    one of least norm. So "auto" takes "primal" there: where fewer than D different numbers stand
    in a column of x, or some direction of x or h does not vary.

    Below zero, Γ is sought in the span of the features, where all others of least norm lie, too:
    for n ≤ d(d + 1) the objective has no minimum elsewhere. There it has one while λ is above
    −d/n times the least eigenvalue of ΦᵀΦ, or of ΦΦᵀ for n ≤ d(d + 1); a Cholesky factor tells,
    and if there is none, `iclkit.fits.solvers.IndefiniteError`, a ValueError, says how low λ may
    be. So only "primal" for n > d(d + 1), or "dual", and "auto" are allowed. The ridge has no part
    in the norm of the residual. For the limit see `iclkit.theory.ridge_edge`.

    Source: eq-loss, eq-primal, eq-dual, eq-whitening and eq-accuracy in the book.

    Examples
    --------
    >>> from iclkit import backend, data, fits
    >>> streams = backend.streams(0)
    >>> w = data.draw_tasks(80, 10, streams.tasks)
    >>> x, h, y = data.draw_statistics(w, 20, 0.1, streams)
    >>> found = fits.fit_gamma(x, h, y)
    >>> print(found.gamma.shape, found.solver, found.residual < 1e-5)
    (10, 11) dual True
    >>> print(abs(found.predict(x, h) - y).max() < 1e-6)  # n < d(d + 1): without ridge, by heart
    True
    """
    wanted = _within("accuracy", accuracy, 1e-10)
    if rtol is not None:
        wanted = _within("rtol", rtol, 1e-12)
    precision = _precision(dtype, "float32" if wanted >= 1e-6 else "float64")
    x, h, y = _data(x, h, y, keep_float32=precision == "float32")
    n, d = x.shape
    lam = _validate.scalar(_validate.signed, "lam", lam)
    _validate.choice("solver", solver, ("auto", *SOLVERS))
    direct = "dual" if n <= d * (d + 1) else "primal"  # regular also where the ridge is small
    if lam < 0 and solver not in ("auto", direct):
        raise ValueError(f"solver must be auto or {direct} for lam < 0 here, got {solver}")
    if solver in ("primal-mixed", "primal-cg") and n <= d * (d + 1):
        raise ValueError(f"solver must be a dual one or primal where n <= d(d + 1), got {solver}")
    # Where the norm of Γ does not count, nor do the units of a column of x or h.
    free = lam == 0 and n > d * (d + 1) and not solver.startswith("dual")
    data = _moderate(x, h, y, columns=free)
    ridge, shrinkage = data.ridge(lam * n / d)
    low = getattr(array_namespace(x), precision)
    problem = Problem(*data[:3], ridge, wanted, low)
    if rtol is None:
        # What is not foretold, or is not worth it, has a residual that is always small enough.
        foretold = wanted if n <= d * (d + 1) or not solver.startswith("dual") else None
        problem = replace(problem, rtol=min(1e-5, 0.1 * wanted), accuracy=foretold)
    if free:
        problem = replace(problem, units=data.units())
    choice = solver
    if solver == "auto":
        choice = _choose(problem) if lam >= 0 else direct
    try:
        found = SOLVERS[choice](problem)
    except IndefiniteError as error:
        raise IndefiniteError.of("lam", lam, error.least / ridge * lam) from None
    spare = solver == "auto" and direct != choice and direct in _eligible(n, d, ridge)
    if spare and not found.excess <= 1:
        choice = direct
        found = SOLVERS[direct](problem)
    if choice.endswith("cg") and problem.accuracy is not None:
        _warn_above("accuracy", problem.accuracy, choice, found.excess)
    else:
        _warn_above("rtol", problem.rtol, choice, found.excess)
    gamma = data.gamma(found.gamma, shrinkage)
    return Fit(gamma, choice, found.iterations, found.residual)


def fit_gamma_path(
    x: Any, h: Any, y: Any, lams: ArrayLike, *, solver: str = "auto", rtol: float = 1e-5
) -> FitPath:
    """Minimise Σ(y − xᵀΓh)² + (n/d)·lam·‖Γ‖² over Γ for several lam at about the price of one.

    Parameters
    ----------
    x : array of shape (n, d)
        Queries.
    h : array of shape (n, d + 1)
        Context statistics, see `iclkit.data.context_statistic`.
    y : array of shape (n,)
        Labels of the queries.
    lams : sequence of float
        Ridges λ, each at least 0, in any order.
    solver : {"auto", "cg", "eigen"}
        "cg" is conjugate gradients with one sequence of products for all ridges, as many as the
        smallest needs; "eigen" one eigendecomposition of the dual matrix, or of the primal one
        where n > d(d + 1), and the direct solver of `fit_gamma` for a ridge that it misses.
        "auto" takes the one that is foretold to be faster, and "eigen" should "cg" miss the
        tolerance, but never for a matrix above 8 GiB.
    rtol : float
        Tolerance for the residual of each, in [1e-12, 0.1].

    Returns
    -------
    FitPath
        The minimisers in the order of `lams`.

    Raises
    ------
    ValueError, TypeError
        As for `fit_gamma`; also if `lams` is empty.

    Warns
    -----
    ConvergenceWarning
        If a residual is above `rtol`.

    Notes
    -----
    The ridges shift one and the same matrix, and shifted systems share their Krylov space. A
    preconditioner would spoil that: for n > d(d + 1) and ridges near 0, a single `fit_gamma`
    takes fewer iterations than the path. Source: eq-shifted in the book.

    Examples
    --------
    >>> from iclkit import backend, data, fits
    >>> streams = backend.streams(0)
    >>> w = data.draw_tasks(200, 10, streams.tasks)
    >>> lams = [0.01, 0.1, 1.0, 10.0]
    >>> path = fits.fit_gamma_path(*data.draw_statistics(w, 20, 0.1, streams), lams)
    >>> population = data.population_moments(10, 20, 0.1)
    >>> [round(data.prediction_error(gamma, population), 3) for gamma in path.gamma]
    [0.97, 0.774, 0.694, 0.938]
    """
    x, h, y = _data(x, h, y)
    n, d = x.shape
    wanted = _validate.nonnegative("lams", lams)
    if wanted.ndim != 1 or wanted.size == 0:
        raise ValueError(f"lams must be a sequence of at least one, got shape {wanted.shape}")
    _validate.choice("solver", solver, ("auto", "cg", "eigen"))
    rtol = _within("rtol", rtol, 1e-12)
    data = _moderate(x, h, y)
    ridges, shrinkage = zip(*(data.ridge(float(lam) * n / d) for lam in wanted), strict=True)
    least = min(ridges)
    low = array_namespace(x).float64
    problem = Problem(*data[:3], least, rtol, low)
    side, size = ("dual", n) if n <= d * (d + 1) else ("primal", d * (d + 1))
    choice, spare = solver, solver == "auto" and 8 * size**2 <= _LARGEST
    if solver == "auto":
        iterating = cost.operations("dual-cg", n, d, problem.iterations("dual-cg"))
        decomposing = cost.operations(side, n, d, 0) + cost.eigen_operations(size)
        choice = "eigen" if spare and decomposing <= iterating else "cg"
    path = _path(problem, ridges, choice)
    if spare and choice == "cg" and not np.max(path.residual) <= rtol:
        path = _path(problem, ridges, "eigen")
    _warn_above("rtol", rtol, path.solver, float(np.max(path.residual)) / rtol)
    return path._replace(gamma=data.gamma(path.gamma, np.array(shrinkage)[:, None, None]))


class _Data(NamedTuple):
    """Numbers near 1 to compute with, and by what they were divided."""

    x: Any
    h: Any
    y: Any
    of_x: np.ndarray
    of_h: np.ndarray
    of_y: np.ndarray

    def ridge(self, ridge: float) -> tuple[float, float]:
        """Take a ridge to these numbers, and say by what Γ is to be multiplied for it.

        Beyond 1e25, all that it does is to divide Γ; as a number it would leave the range of
        float32.
        """
        ridge = ridge / float(self.of_x * self.of_h) ** 2 if ridge != 0 else 0.0
        return min(ridge, 1e25), 1e25 / max(ridge, 1e25)

    def units(self) -> Any:
        """By what Γ of these numbers is larger than that of the caller's, for labels of these."""
        return self._like(np.multiply.outer(self.of_x, self.of_h))

    def gamma(self, gamma: Any, shrinkage: Any = 1.0) -> Any:
        """Take Γ to the caller's numbers."""
        return gamma * self._like(self.of_y / np.multiply.outer(self.of_x, self.of_h) * shrinkage)

    def _like(self, array: np.ndarray) -> Any:
        return array_namespace(self.x).asarray(array, device=device(self.x))


def _data(x: Any, h: Any, y: Any, *, keep_float32: bool = False) -> tuple[Any, Any, Any]:
    x = _validate.array("x", x, (None, None), keep_float32=keep_float32)
    n, d = x.shape
    h = _validate.array("h", h, (n, d + 1), keep_float32=keep_float32, like=x)
    return x, h, _validate.array("y", y, (n,), like=x)


def _moderate(x: Any, h: Any, y: Any, *, columns: bool = False) -> _Data:
    (x, of_x), (h, of_h) = _divided("x", x, columns=columns), _divided("h", h, columns=columns)
    y, of_y = _divided("y", y[:, None], columns=False)
    return _Data(x, h, y[:, 0], of_x, of_h, of_y)


def _divided(name: str, array: Any, *, columns: bool) -> tuple[Any, np.ndarray]:
    """Divide numbers far from 1 by powers of 2, which round nothing, so that none overflows."""
    xp = array_namespace(array)
    largest = backend.to_numpy(xp.maximum(xp.max(array, axis=0), -xp.min(array, axis=0)))
    most = largest.max()
    if largest.min() >= 1e-3 and most <= 1e2:
        return array, np.ones_like(largest if columns else most)
    least = np.min(largest, where=largest > 0, initial=most)
    if most > 0 and not (most >= 1e-75 and least >= 1e-50 * most):
        raise ValueError(
            f"{name} must be 0 or have numbers above 1e-75 in size, and columns within a factor "
            f"of 1e50, got {largest} as the largest of each column"
        )
    if not columns:
        largest = np.asarray(most)
    near = (largest == 0) | ((largest >= 1e-3) & (largest <= 1e2))
    if np.all(near):
        return array, np.ones_like(largest)
    scale = np.where(near, 1.0, 2.0 ** (np.frexp(largest)[1] - 1))
    return array / xp.asarray(scale, dtype=array.dtype, device=device(array)), scale


def _precision(dtype: Any, default: str) -> str:
    name = default if dtype is None else dtype
    if isinstance(dtype, (type, np.dtype)):
        name = np.dtype(dtype).name
    return _validate.choice("dtype", name, ("float32", "float64"))


def _within(name: str, tolerance: float, least: float) -> float:
    number = _validate.scalar(_validate.positive, name, tolerance)
    if not least <= number <= 0.1:
        raise ValueError(f"{name} must be between {least:g} and 0.1, got {tolerance}")
    return number


def _eligible(n: int, d: int, ridge: float) -> list[str]:
    """Solvers that find Γ*, and need no matrix beyond the limit."""
    features = d * (d + 1)
    solvers = ["dual-cg" if n <= features else "primal-cg"]
    dual, primal = n <= features or ridge > 0, n > features
    for name, size, bytes_each, allowed in (
        ("dual", n, 8, dual),
        ("dual-mixed", n, 4, dual),
        ("primal", features, 8, primal or ridge > 0),
        ("primal-mixed", features, 4, primal),
    ):
        if allowed and bytes_each * size**2 <= _LARGEST:
            solvers.append(name)
    return solvers


def _choose(problem: Problem) -> str:
    n, d = problem.x.shape
    float32 = problem.low != array_namespace(problem.x).float64
    solvers = _eligible(n, d, problem.ridge)
    if "primal" in solvers and problem.ridge == 0 and _repetitive(problem):
        return "primal"
    costs = {name: cost.operations(name, n, d, 0) for name in solvers if "-" not in name}
    if min(costs.values(), default=np.inf) > _WORTH_A_CHOICE:
        for name in solvers:
            costs[name] = cost.operations(name, n, d, problem.iterations(name), float32)
    return min(costs, key=costs.__getitem__)


def _repetitive(problem: Problem) -> bool:
    """Tell whether the features look as if their rank were less than d(d + 1)."""
    xp = array_namespace(problem.x)
    different = xp.unique_values(problem.x[:, 0]).shape[0]
    return different < problem.features or bool(xp.any(problem.metric.variances == 0))


def _path(problem: Problem, ridges: Sequence[float], solver: str) -> FitPath:
    gammas, iterations = PATH_SOLVERS[solver](problem, ridges)
    n, features = problem.x.shape[0], problem.features
    residuals = []
    for index, ridge in enumerate(ridges):
        here = replace(problem, ridge=ridge, moments=problem.metric.shifted(ridge))
        residuals.append(here.residual(gammas[index]))
        if solver == "eigen" and not residuals[-1] <= problem.rtol:
            # What one decomposition for all hides, a solution for this ridge alone may find.
            alone = SOLVERS["dual" if n <= features else "primal"](here)
            gammas[index], residuals[-1] = alone.gamma, alone.residual
    return FitPath(
        array_namespace(problem.x).stack(gammas), solver, iterations, np.array(residuals)
    )


def _warn_above(name: str, tolerance: float, solver: str, excess: float) -> None:
    if not excess <= 1:  # a NaN is no convergence either
        reached = "a residual" if name == "rtol" else "errors that may be off by a share"
        warnings.warn(
            f"{solver} has reached {reached} of {excess * tolerance:.1e}, "
            f"above {name} = {tolerance:.1e}",
            ConvergenceWarning,
            stacklevel=3,
        )
