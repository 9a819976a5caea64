"""The solvers behind `iclkit.fits.fit`: two linear systems for Γ*, each solved in three ways.

The dual system has one unknown a context, the primal one an unknown for each entry of Γ. A solver
takes a `Problem` to a `Solution`, and is entered in `SOLVERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from iclkit import _validate, backend
from iclkit.fits import _graded, _linalg, cost
from iclkit.fits._products import adjoint, gram, kernel, normal, predict
from iclkit.fits.accuracy import Reach, _reach
from iclkit.fits.krylov import conjugate_gradients

# What a pass of iterations in float32 may gain, with a margin to rounding.
_FLOAT32_GAIN = 3e-6
# Of more numbers, iterations in float32 make no copy, but cast each block anew: at these sizes
# that takes a few per cent of the time of a product.
_COPIED = 2**24
# Eigenvalues are known to rounding of the largest: above this share of it, to enough digits.
_RESOLVED = 1e-6
# A residual that a factor leaves where rounding counts for nothing.
_EXACT = 1e-10
# Rows of a matrix in float32, 4 MiB of it, that is read from a cache.
_IN_CACHE = 1024
# Features are formed for an orthogonal factor of up to so many operations, some seconds.
_FORMED = 1e10


class IndefiniteError(ValueError):
    """A ridge below zero is too low for the data: the objective has no minimum any more.

    Attributes
    ----------
    least : float
        Ridges must be above it: minus the least eigenvalue of the matrix that they are added to,
        in the units of the ridge that was given.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import fits
    >>> x, h, y = np.array([[1.0], [2.0]]), np.array([[3.0, 0.0], [0.0, 4.0]]), np.ones(2)
    >>> try:
    ...     fits.fit_gamma(x, h, y, lam=-5.0)
    ... except fits.solvers.IndefiniteError as error:
    ...     print(error, error.least)
    lam must be above -4.5 for these data, or the objective has no minimum, got -5.0 -4.5
    """

    def __init__(self, message: str, least: float = np.nan) -> None:
        super().__init__(message)
        self.least = least

    @classmethod
    def of(cls, name: str, ridge: float, least: float) -> IndefiniteError:
        """Make one that names the argument, the value and what is allowed."""
        said = f"{name} must be above {least} for these data, or the objective has no minimum"
        return cls(f"{said}, got {ridge}", least)


class Metric(NamedTuple):
    """The map g ↦ P^(-1/2) g, with P = (XᵀX ⊗ HᵀH)/n + ridge (eq-whitening in the book).

    Attributes
    ----------
    left, right : arrays of shape (d, d) and (d + 1, d + 1)
        Eigenvectors of XᵀX and of HᵀH.
    variances : array of shape (d, d + 1)
        Products of their eigenvalues over n, in float64 and each to its own precision, whatever
        the units of a column are; 0 where the columns are dependent.
    scale : array of shape (d, d + 1)
        (variances + ridge)^(-1/2), and 0 where nothing varies and no ridge is.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import solvers
    >>> x, h = np.array([[1.0], [2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])
    >>> metric = solvers.metric(x, h, ridge=0.0)
    >>> print(metric.unwhiten(metric.whiten(np.array([[1.0, 0.5]]))).round(3))
    [[ 3.1 -2.5]]
    >>> P = (x.T @ x) * (h.T @ h) / 2
    >>> print(np.linalg.solve(P, [1.0, 0.5]).round(3))
    [ 3.1 -2.5]
    """

    left: Any
    right: Any
    variances: Any
    scale: Any

    @classmethod
    def of(cls, x: Any, h: Any, ridge: float) -> Metric:
        """Find it from data that have been checked, see `metric`."""
        (s, left), (t, right) = (_second_moments(part) for part in (x, h))
        variances = s[:, None] * t[None, :] / x.shape[0]
        return cls(left, right, variances, variances).shifted(ridge)

    def whiten(self, gradient: Any) -> Any:
        """Apply P^(-1/2) to an array of shape (d, d + 1), in the basis of the eigenvectors."""
        return self.scale * (self.left.T @ gradient @ self.right)

    def unwhiten(self, v: Any) -> Any:
        """Apply the transpose of `whiten`."""
        return self.left @ (self.scale * v) @ self.right.T

    def cast(self, like: Any) -> Metric:
        """Take it to the precision of an array."""
        xp = array_namespace(like)
        return Metric(*(xp.astype(part, like.dtype, copy=False) for part in self))

    def shifted(self, ridge: float) -> Metric:
        """Take another ridge."""
        xp = array_namespace(self.variances)
        weights = self.variances + ridge
        root = xp.sqrt(xp.where(weights > 0, weights, 1.0))
        return self._replace(scale=xp.where(weights > 0, 1 / root, 0.0))


def metric(x: Any, h: Any, ridge: float) -> Metric:
    """Find the second moments of x and of h.

    Parameters
    ----------
    x : array of shape (n, d)
        Queries.
    h : array of shape (n, d + 1)
        Context statistics.
    ridge : float
        What is added to P, at least 0.

    Returns
    -------
    Metric
        In 4nd² + O(d³) operations.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import solvers
    >>> x, h = np.array([[1.0], [2.0]]), np.array([[3.0, 0.0], [0.0, 4.0]])
    >>> print(solvers.metric(x, h, ridge=0.0).variances)  # 5·9/2 and 5·16/2
    [[22.5 40. ]]
    """
    x = _validate.array("x", x, (None, None), keep_float32=True)
    n, d = x.shape
    h = _validate.array("h", h, (n, d + 1), keep_float32=True, like=x)
    ridge = _validate.scalar(_validate.ridge, "ridge", ridge)
    return Metric.of(x, h, ridge)


def _second_moments(part: Any) -> tuple[Any, Any]:
    """Eigenvalues and eigenvectors of the second moments of the columns."""
    # In float64, as directions of little variance are lost in float32, and with them their part
    # of every residual.
    xp = array_namespace(part)
    values, vectors = xp.linalg.eigh(_squares(part))
    if bool(values[0] > _RESOLVED * values[-1]):
        return values, vectors
    triangle = xp.zeros_like(vectors)
    for block in _in_blocks(part):
        triangle = xp.linalg.qr(xp.concat([triangle, block]))[1]
    exact = _graded.second_moments(backend.to_numpy(triangle))
    return tuple(xp.asarray(array, device=device(vectors)) for array in exact)


def _squares(part: Any) -> Any:
    return reduce(add, (block.T @ block for block in _in_blocks(part)))


def _in_blocks(part: Any) -> Iterator[Any]:
    xp = array_namespace(part)
    for rows in backend.row_blocks(part):
        yield xp.astype(part[rows, :], xp.float64, copy=False)


@dataclass(frozen=True)
class Problem:
    """A fit to be made.

    Attributes
    ----------
    x, h, y : arrays of shape (n, d), (n, d + 1), (n,)
        The data.
    ridge : float
        λn/d. Below 0, only the direct solver of the smaller system serves, "dual" for n ≤ d(d + 1)
        and "primal" above.
    rtol : float
        Tolerance of the residual.
    accuracy : float, optional
        Instead of `rtol` the tolerance of "cg", for the errors of prediction.
    low : dtype
        Precision of the iterations of "cg".
    units : array of shape (d, d + 1), or 1
        By what Γ of these data is larger than the one whose norm is to be least.
    moments : Metric, optional
        Of these data and this ridge, if it is known already.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import solvers
    >>> x, h = np.array([[1.0], [2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])
    >>> data = x, h, np.array([1.0, 1.0])
    >>> problem = solvers.Problem(*data, 0.0, 1e-5, np.float64)
    >>> problem.residual(np.zeros((1, 2)))
    1.0
    >>> problem.residual(solvers.SOLVERS["dual"](problem).gamma) < 1e-10
    True
    """

    x: Any
    h: Any
    y: Any
    ridge: float
    rtol: float
    low: Any
    accuracy: float | None = None
    units: Any = 1.0
    moments: Metric | None = None

    @property
    def data(self) -> tuple[Any, Any, Any]:
        """Queries, statistics and labels."""
        return self.x, self.h, self.y

    @property
    def features(self) -> int:
        """Entries of Γ."""
        d: int = self.x.shape[1]
        return d * (d + 1)

    @cached_property
    def metric(self) -> Metric:
        """What whitens gradients."""
        return self.moments or Metric.of(self.x, self.h, max(self.ridge, 0.0))

    def residual(self, gamma: Any) -> float:
        """Norm of the whitened gradient at Γ relative to that at 0, in float64."""
        x, h, y = self.data
        at_zero = _norm(self.metric.whiten(adjoint(x, h, y)))
        gradient = adjoint(x, h, y - predict(x, h, gamma)) - self.ridge * gamma
        return _norm(self.metric.whiten(gradient)) / at_zero if at_zero > 0 else 0.0

    @cached_property
    def variances(self) -> np.ndarray:
        """Variances of the features, d + 1 numbers that stand for d features each."""
        (n, d), xp = self.x.shape, array_namespace(self.x)
        if n <= self.features:  # where nothing else is made of eigenvectors
            s, t = (xp.linalg.eigvalsh(_squares(part)) for part in self.data[:2])
            variances = s[:, None] * t[None, :] / n
        else:
            variances = self.metric.variances
        in_order = np.sort(backend.to_numpy(variances), axis=None) / n
        t = np.mean(in_order.reshape(d + 1, d), axis=1)
        groups: np.ndarray = np.maximum(t, max(1e-12 * t[-1], 1e-75))
        return groups

    @cached_property
    def reach(self) -> Reach:
        """What a residual of "cg" means for the errors."""
        n, d = self.x.shape
        side = "dual" if n <= self.features else "primal"
        return _reach(side, self.variances, d, n, self.ridge)

    @cached_property
    def _foretold(self) -> dict[str, float]:
        return {}

    def iterations(self, solver: str) -> float:
        """Foretell the iterations of a solver."""
        if solver not in self._foretold:
            (n, d), rtol = self.x.shape, self.rtol
            if self.accuracy is not None and solver.endswith("cg"):
                # What is left of labels is not known yet, and the labels themselves stand for it.
                far = n**0.5 * self.reach.unit
                rtol = min(self.reach.goal(self.reach.share, self.accuracy) / far, 1.0)
            foretold = cost._iterations(solver, self.variances, d, n, self.ridge, rtol)
            self._foretold[solver] = foretold
        return self._foretold[solver]

    def limit(self, solver: str) -> int:
        """Say after how many iterations "cg" is given up."""
        # Without rounding, as many as there are unknowns would do.
        unknowns: int = min(self.x.shape[0], self.features)
        return round(min(5 * self.iterations(solver), 10 * unknowns)) + 100


class Solution(NamedTuple):
    """What a solver has found.

    Attributes
    ----------
    gamma : array of shape (d, d + 1)
        Γ, in float64.
    iterations : int
        0 for a direct solver.
    residual : float
        As `iclkit.fits.Fit` has it.
    excess : float
        What the tolerance is missed by; at most 1 where it is kept.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import solvers
    >>> x, h = np.array([[1.0], [2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])
    >>> data = x, h, np.array([1.0, 1.0])
    >>> problem = solvers.Problem(*data, 0.0, 1e-5, np.float64)
    >>> found = solvers.SOLVERS["dual-cg"](problem)
    >>> print(found.gamma.round(3), found.iterations, found.excess < 1)
    [[-2.    1.75]] 2 True
    """

    gamma: Any
    iterations: int
    residual: float
    excess: float


def _norm(array: Any) -> float:
    xp = array_namespace(array)
    flat = xp.reshape(array, (-1,))
    norm: float = float(xp.vecdot(flat, flat)) ** 0.5
    return norm


def _checked(problem: Problem, gamma: Any, iterations: int) -> Solution:
    residual = problem.residual(gamma)
    return Solution(gamma, iterations, residual, residual / problem.rtol)


# Conjugate gradients with no matrix but the data -------------------------------------------------


class _System(NamedTuple):
    """A symmetric positive definite linear system that has Γ* as an image of its solution.

    Everything is in the precision of what it is applied to.
    """

    rhs: Callable[[Any], Any]  # from labels
    apply: Callable[[Any], Any]
    gamma: Callable[[Any], Any]
    gradient: Callable[[Any], Any]  # from what is left of the right-hand side, and whitened
    # Of `Reach`, from the right-hand side, and what is left of it, together, and the solution.
    squares: Callable[[Any, Any], float]


def _dual_system(problem: Problem, x: Any, h: Any) -> _System:
    """(ΦΦᵀ + ridge) z = y, Γ = Φᵀz: conjugate gradients are then Craig's method."""
    xp, n = array_namespace(x), x.shape[0]
    # A few products of data are the price of a matrix that is read more quickly than they are
    # made. Above the threshold its rounding would be more than a small ridge.
    small = n <= min(_IN_CACHE, problem.features) and x.dtype == xp.float32
    matrix = cache(lambda: kernel(x, h))

    def apply(z: Any) -> Any:
        formed = small and z.dtype == xp.float32
        image = matrix() @ z if formed else predict(x, h, adjoint(x, h, z))
        return image + problem.ridge * z if problem.ridge else image

    return _System(
        lambda y: y,
        apply,
        lambda z: adjoint(x, h, z),
        lambda left: problem.metric.whiten(adjoint(x, h, left)),
        lambda rhs, z: _norm(z) ** 2,
    )


def _primal_system(problem: Problem, x: Any, h: Any) -> _System:
    """P^(-1/2)(ΦᵀΦ + ridge)P^(-1/2) v = P^(-1/2)Φᵀy, Γ = P^(-1/2) v."""
    xp = array_namespace(x)

    def apply(v: Any) -> Any:
        metric = problem.metric.cast(v)
        gamma = metric.unwhiten(v)
        image = normal(x, h, gamma)
        return metric.whiten(image + problem.ridge * gamma if problem.ridge else image)

    powers = _norm(problem.y) ** 2

    def squares(rhs: Any, v: Any) -> float:
        penalty = problem.ridge * _norm(problem.metric.scale * v) ** 2
        # More than what rounding adds to the squares of labels.
        return max(powers - float(xp.sum(v * rhs)) - penalty, 1e-12 * powers)

    return _System(
        lambda y: problem.metric.cast(y).whiten(adjoint(x, h, y)),
        apply,
        lambda v: problem.metric.cast(v).unwhiten(v),
        lambda left: left,
        squares,
    )


_Enough = Callable[[int, Any, float, float], bool]


def _small_enough(most: float) -> _Enough:
    return lambda _, part, size, fall: size <= most


def _accurate_enough(
    problem: Problem,
    accuracy: float,
    squares: Callable[[Any], float],
    most: float,
    least: float,
    unit: float,
) -> tuple[_Enough, list[float]]:
    """Make what ends iterations, and the list of the distances that a residual of 1 means.

    They are at least `unit`.
    """
    reach, goal = problem.reach, np.inf
    falls: list[float] = []
    units: list[float] = []

    def enough(_: int, part: Any, size: float, fall: float) -> bool:
        nonlocal goal
        falls.append(fall)
        distance = max(reach.distance(falls), unit * size)
        if distance <= 4 * goal:  # far above it, the goal need not be known well
            goal = reach.goal(squares(part), accuracy)
        units.append(distance / size)
        return distance <= most * goal or size <= least

    return enough, units


def _unit_along(z: Any, image: Any) -> float:
    """Return the distance that a residual of 1 means if it has the directions of a solution."""
    curvature = float(array_namespace(z).sum(z * image))
    return _norm(z) / curvature**0.5 if curvature > 0 else np.inf


@np.errstate(over="ignore", invalid="ignore")  # a breakdown shows in the solution
def _iterate(
    problem: Problem, solver: str, system_of: Callable[[Problem, Any, Any], _System]
) -> Solution:
    """Repeat conjugate gradients on what float64 says is left, until it is within the tolerance."""
    xp, low, limit = array_namespace(problem.x), problem.low, problem.limit(solver)
    exact = system_of(problem, problem.x, problem.h)
    data = (xp.astype(part, low, copy=False) for part in (problem.x, problem.h))
    large = problem.x.size + problem.h.size > _COPIED
    fast = exact if large or low == xp.float64 else system_of(problem, *data)
    rhs = exact.rhs(problem.y)

    def measure(left: Any) -> float:
        # Labels that are to be met measure themselves.
        return _norm(left if problem.accuracy is not None else exact.gradient(left))

    def squares_of(before: Any) -> Callable[[Any], float]:
        # Conjugate gradients are orthogonal to what they leave.
        return lambda part: exact.squares(rhs, before + part)

    at_zero = residual = measure(rhs)
    solution, left, iterations = xp.zeros_like(rhs), rhs, 0
    excess, most = (1 / problem.rtol if problem.accuracy is None else np.inf), 0.9
    excess, unit = excess if at_zero > 0 else 0.0, 0.0
    while excess > 1 and iterations < limit:
        double, size = low == xp.float64, _norm(left)
        least = 0.0 if double else _FLOAT32_GAIN * size
        if problem.accuracy is None:
            enough = _small_enough(max(least, most / excess * size))
        else:
            how = (problem.accuracy, squares_of(solution), most, least, unit)
            enough, units = _accurate_enough(problem, *how)
        (part,), done = conjugate_gradients(
            fast.apply,
            xp.astype(left, low, copy=False),
            enough=enough,
            maxiter=limit - iterations,
        )
        iterations += done
        trial = solution + xp.astype(part, xp.float64, copy=False)
        left_now = rhs - exact.apply(trial)
        residual_now = measure(left_now)
        before = excess
        if problem.accuracy is None:
            now = residual_now / at_zero / problem.rtol
        else:
            # What float32 has left of squares may be rounding.
            of_all = exact.squares(rhs + left_now, trial)
            unit = units[-1] if units else problem.reach.unit
            if not double:
                # What rounding leaves has directions that the steps from here on reach late.
                unit = max(unit, _unit_along(trial, rhs - left_now))
            now = problem.reach.off(residual_now * unit, of_all) / problem.accuracy
        if now < before:
            solution, left, residual, excess = trial, left_now, residual_now, now
        if not now < before / 2:
            if double:
                break
            fast, low = exact, xp.float64
        most = 0.5
    reached = residual / at_zero if at_zero > 0 else 0.0
    return Solution(exact.gamma(solution), iterations, reached, excess)


def _dual_cg(problem: Problem) -> Solution:
    return _iterate(problem, "dual-cg", _dual_system)


def _primal_cg(problem: Problem) -> Solution:
    return _iterate(problem, "primal-cg", _primal_system)


# A factor in float32, refined in float64 ---------------------------------------------------------


def _dual_mixed(problem: Problem) -> Solution:
    system = _dual_system(problem, problem.x, problem.h)
    solution, iterations = _refine(problem, kernel, system.apply, problem.y)
    return _checked(problem, system.gamma(solution), iterations)


def _primal_mixed(problem: Problem) -> Solution:
    (x, h, y), ridge = problem.data, problem.ridge
    xp = array_namespace(x)
    shape = (x.shape[1], h.shape[1])

    def apply(v: Any) -> Any:
        return xp.reshape(normal(x, h, xp.reshape(v, shape)), (-1,)) + ridge * v

    solution, iterations = _refine(problem, gram, apply, xp.reshape(adjoint(x, h, y), (-1,)))
    return _checked(problem, xp.reshape(solution, shape), iterations)


def _refine(
    problem: Problem,
    form: Callable[[Any, Any], Any],
    apply: Callable[[Any], Any],
    rhs: Any,
) -> tuple[Any, int]:
    """Solve in float64 by conjugate gradients, preconditioned by a Cholesky factor in float32."""
    xp = array_namespace(problem.x)
    x, h = (xp.astype(part, xp.float32, copy=False) for part in (problem.x, problem.h))
    # What is added to lift the least pivots above rounding, the iterations take out again.
    for lift in (1.0, 1e2, 1e4):
        matrix = form(x, h)
        mean = float(xp.linalg.trace(matrix)) / matrix.shape[0]
        factor = _factor(matrix, problem.ridge + lift * float(xp.finfo(xp.float32).eps) * mean)
        if factor is not None:
            break
    else:
        return xp.zeros_like(rhs), 0

    def precondition(v: Any) -> Any:
        half = _linalg.solve_triangular(factor, xp.astype(v, xp.float32))
        return xp.astype(_linalg.solve_triangular(factor, half, transpose=True), xp.float64)

    # The factor makes digits cheap, and near n = d(d + 1) the errors need more of them.
    return _linalg.conjugate_gradients(
        apply, rhs, precondition, rtol=max(1e-5 * problem.rtol, 1e-14), maxiter=300
    )


def _factor(matrix: Any, ridge: float) -> Any | None:
    """Factor matrix + ridge = LLᵀ in its own place, or return None if it is not definite."""
    xp = array_namespace(matrix)
    like = {"dtype": matrix.dtype, "device": device(matrix)}
    for block in backend.row_blocks(matrix):
        rows = block.stop - block.start
        matrix[block, :] += ridge * xp.eye(rows, matrix.shape[1], k=block.start, **like)
    try:
        factor = _linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return None
    # Some libraries return NaN instead of raising.
    return factor if bool(xp.all(xp.isfinite(xp.linalg.diagonal(factor)))) else None


# Direct solutions in float64 ---------------------------------------------------------------------


def _dual(problem: Problem) -> Solution:
    x, h, y = _in_float64(problem)
    return _direct(problem, kernel(x, h), y, lambda z: adjoint(x, h, z))


def _primal(problem: Problem) -> Solution:
    x, h, y = _in_float64(problem)
    xp = array_namespace(x)
    shape = (x.shape[1], h.shape[1])
    rhs = xp.reshape(adjoint(x, h, y), (-1,))
    return _direct(problem, gram(x, h), rhs, lambda gamma: xp.reshape(gamma, shape))


def _in_float64(problem: Problem) -> list[Any]:
    xp = array_namespace(problem.x)
    return [xp.astype(part, xp.float64, copy=False) for part in problem.data]


def _direct(problem: Problem, matrix: Any, rhs: Any, gamma: Callable[[Any], Any]) -> Solution:
    """Solve (K + ridge) z = b by its factor, or if rounding hides a part of it, without squares."""
    n, features = problem.x.shape[0], problem.features
    found = None
    if problem.ridge < 0:
        z = _solve_definite(matrix, rhs, problem.ridge)
        if z is None:
            least = float(array_namespace(matrix).linalg.eigvalsh(matrix)[0])
            raise IndefiniteError.of("ridge", problem.ridge, -least)
        return _checked(problem, gamma(z), 0)
    if problem.ridge > 0 or matrix.shape[0] == min(n, features):
        # Where entries of Γ outnumber the contexts, the ridge alone keeps out what rounding adds
        # to Γ, and the residual does not see it.
        margin = 10 / problem.rtol if matrix.shape[0] > n else 100.0
        z = _solve_definite(matrix, rhs, problem.ridge, margin)
        found = None if z is None else _checked(problem, gamma(z), 0)
    # Of errors that are small beside labels, a residual that is small enough for Γ tells nothing.
    wanted = problem.rtol if problem.accuracy is None else min(problem.rtol, _EXACT)
    if found is not None and found.residual <= wanted:
        return found
    if n * features * min(n, features) <= _FORMED:
        return _checked(problem, _from_features(problem), 0)
    return found or _checked(problem, _from_spectrum(problem, matrix, rhs, gamma), 0)


def _solve_definite(matrix: Any, rhs: Any, ridge: float, margin: float = 100.0) -> Any | None:
    """Solve (K + ridge) z = b, or return None where K + ridge is singular to rounding."""
    xp = array_namespace(matrix)
    factor = _factor(xp.asarray(matrix, copy=True), ridge)
    if factor is None:
        return None
    # A step of inverse iteration tells the least eigenvalue, for a diagonal of ones, so that units
    # do not count. Near rounding it means a hidden lack of rank, such as repeated contexts.
    scale = xp.sqrt(xp.linalg.diagonal(matrix) + ridge)
    probe = xp.cos(xp.arange(rhs.shape[0], dtype=rhs.dtype, device=device(rhs)))
    half = _linalg.solve_triangular(factor, xp.stack([rhs, probe * scale], axis=1))
    both = _linalg.solve_triangular(factor, half, transpose=True)
    least = _norm(probe) / _norm(both[:, 1] * scale)
    return both[:, 0] if least > margin * _precision(matrix) else None


def _precision(matrix: Any) -> float:
    rounding: float = matrix.shape[0] * float(array_namespace(matrix).finfo(matrix.dtype).eps)
    return rounding


def _from_features(problem: Problem) -> Any:
    """Solve by an orthogonal factor of the features, on the host."""
    n, d = problem.x.shape
    x, h, y = (backend.to_numpy(part) for part in _in_float64(problem))
    phi = (x[:, :, None] * h[:, None, :]).reshape(n, -1)
    size, root = phi.shape[1], problem.ridge**0.5
    # A ridge is a sum of squares more: of what is left of the labels, over the ridge, below the
    # threshold, and of the entries of Γ above.
    if problem.ridge > 0 and n <= size:
        phi = np.concatenate([phi, root * np.eye(n)], axis=1)
    elif problem.ridge > 0:
        phi, y = np.concatenate([phi, root * np.eye(size)]), np.concatenate([y, np.zeros(size)])
    units = np.ravel(backend.to_numpy(problem.units))
    gamma = _graded.least_squares(phi, y, units)[:size].reshape(d, d + 1)
    xp = array_namespace(problem.x)
    return xp.asarray(gamma, device=device(problem.x))


def _from_spectrum(problem: Problem, matrix: Any, rhs: Any, gamma: Callable[[Any], Any]) -> Any:
    """Solve without the eigenvalues that are below rounding; the residual tells what they were."""
    xp = array_namespace(matrix)
    # On the dual side there are no units of columns but the caller's.
    units = xp.reshape(xp.asarray(problem.units, dtype=matrix.dtype, device=device(matrix)), (-1,))
    matrix *= units[:, None]
    matrix *= units[None, :]
    rank = min(problem.x.shape[0], problem.features)
    values, vectors = xp.linalg.eigh(matrix)
    solution = _spectral_solve(values, vectors, units * rhs, problem.ridge, rank)
    return gamma(units * solution)


def _spectral_solve(values: Any, vectors: Any, rhs: Any, ridge: float, rank: int) -> Any:
    """Solve in a basis of eigenvectors, of which not more than the rank have a part in it."""
    xp = array_namespace(values)
    size = values.shape[0]
    kept = values > _precision(vectors) * xp.max(xp.abs(values))
    kept &= xp.arange(size, device=device(values)) >= size - rank
    inverse = xp.where(kept, 1 / xp.where(kept, values + ridge, 1.0), 0.0)
    return vectors @ (inverse * (vectors.T @ rhs))


SOLVERS: dict[str, Callable[[Problem], Solution]] = dict(
    zip(
        cost.SOLVERS,
        (_dual, _dual_mixed, _dual_cg, _primal, _primal_mixed, _primal_cg),
        strict=True,
    )
)


# Many ridges at once -----------------------------------------------------------------------------


def _path_by_cg(problem: Problem, ridges: Sequence[float]) -> tuple[list[Any], int]:
    x, h, y = problem.data
    n, d = x.shape
    rtol, maxiter = problem.rtol / 3, problem.limit("dual-cg")
    if n <= d * (d + 1):
        solutions, iterations = conjugate_gradients(
            lambda z: predict(x, h, adjoint(x, h, z)), y, ridges, rtol=rtol, maxiter=maxiter
        )
        return [adjoint(x, h, z) for z in solutions], iterations
    return conjugate_gradients(
        lambda gamma: normal(x, h, gamma),
        adjoint(x, h, y),
        ridges,
        rtol=rtol,
        maxiter=maxiter,
        norm=lambda gradient: _norm(problem.metric.whiten(gradient)),
    )


def _path_by_eigen(problem: Problem, ridges: Sequence[float]) -> tuple[list[Any], int]:
    x, h, y = problem.data
    n, d = x.shape
    xp = array_namespace(x)
    if n <= d * (d + 1):
        values, vectors = xp.linalg.eigh(kernel(x, h))
        return [adjoint(x, h, _spectral_solve(values, vectors, y, ridge, n)) for ridge in ridges], 0
    values, vectors = xp.linalg.eigh(gram(x, h))
    rhs = xp.reshape(adjoint(x, h, y), (-1,))
    return [
        xp.reshape(_spectral_solve(values, vectors, rhs, ridge, n), (d, d + 1)) for ridge in ridges
    ], 0


PATH_SOLVERS: dict[str, Callable[[Problem, Sequence[float]], tuple[list[Any], int]]] = {
    "cg": _path_by_cg,
    "eigen": _path_by_eigen,
}
