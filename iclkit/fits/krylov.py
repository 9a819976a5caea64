"""Conjugate gradients for a whole family of shifted systems at the price of one.

scipy's and cupyx's conjugate gradients know no shifts; with a single shift, this is their
recurrence, in the arithmetic and array library of the right-hand side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from array_api_compat import array_namespace

from iclkit import _validate


class _Shifted(NamedTuple):
    """What another shift adds to the recurrence: its iterate, its direction, two coefficients."""

    shift: float  # beyond the smallest one
    solution: Any
    direction: Any
    zeta: float
    zeta_before: float


def conjugate_gradients(
    operator: Callable[[Any], Any],
    rhs: Any,
    shifts: Sequence[float] = (0.0,),
    *,
    maxiter: int,
    rtol: float | None = None,
    enough: Callable[[int, Any, float, float], bool] | None = None,
    norm: Callable[[Any], float] | None = None,
) -> tuple[list[Any], int]:
    """Solve (K + σ) z = b for every shift σ, from one sequence of products with K.

    Parameters
    ----------
    operator : callable
        Takes an array like `rhs` to K times it; K is symmetric positive semidefinite with regard
        to the sum of products of entries.
    rhs : array
        The right-hand side b, of any shape.
    shifts : sequence of float
        The shifts σ, each at least 0.
    maxiter : int
        Stop after as many products in any case.
    rtol : float, optional
        Stop when the residual of each system has a norm of at most `rtol` times that of b.
    enough : callable, optional
        Takes the number of a shift, its iterate, the norm of its residual, and by how much the
        last step has lowered |z − z*|² in the norm of K + σ, and says whether this system is done,
        whatever `rtol` says. Asked after each product.
    norm : callable, optional
        Norm of the residuals to stop by; the Euclidean one by default.

    Returns
    -------
    solutions : list of array
        An approximate z for each shift, in the order of `shifts`.
    iterations : int
        Products with K.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or `operator` returns another shape.

    Notes
    -----
    All shifted systems share their Krylov space, and their residuals are multiples ζ of the
    residual at the smallest shift, which is the slowest to converge. Source: A. Frommer and
    P. Maass, SIAM J. Sci. Comput. 20 (1999), 1831; eq-shifted in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import krylov
    >>> K, b = np.diag([1.0, 2.0, 4.0]), np.array([1.0, 1.0, 1.0])
    >>> solutions, products = krylov.conjugate_gradients(
    ...     lambda z: K @ z, b, shifts=[0.0, 1.0], rtol=1e-10, maxiter=10)
    >>> [z.round(3).tolist() for z in solutions], products
    ([[1.0, 0.5, 0.25], [0.5, 0.333, 0.2]], 3)
    """
    _validate.function("operator", operator)
    rhs = _validate.array("rhs", rhs, None, keep_float32=True)
    shifts = _validate.ridge("shifts", shifts).tolist()
    if not isinstance(shifts, list) or not shifts or isinstance(shifts[0], list):
        raise ValueError(f"shifts must be a sequence of at least one number, got {shifts}")
    if enough is not None:
        _validate.function("enough", enough)
    if norm is not None:
        _validate.function("norm", norm)
    maxiter = _validate.count("maxiter", maxiter, least=0)
    xp = array_namespace(rhs)

    def square_of(a: Any, b: Any) -> float:
        if a.ndim != 1:
            a, b = xp.reshape(a, (-1,)), xp.reshape(b, (-1,))
        return float(xp.vecdot(a, b))

    def size_of(residual: Any, square: float) -> float:
        if norm is None:
            root: float = square**0.5
            return root
        return _validate.scalar(_validate.real, "norm of a residual", norm(residual))

    square = square_of(rhs, rhs)
    goal = 0.0 if rtol is None else _validate.finite("rtol", rtol) * size_of(rhs, square)

    def done(index: int, solution: Any, size: float, fall: float) -> bool:
        return size <= goal or (enough is not None and enough(index, solution, size, fall))

    # The smallest shift is the slowest to converge, and its recurrence is that of all others.
    slowest = min(range(len(shifts)), key=shifts.__getitem__)
    base, zero = shifts[slowest], xp.zeros_like(rhs)
    others = {
        index: _Shifted(shift - base, zero, rhs, 1.0, 1.0)
        for index, shift in enumerate(shifts)
        if index != slowest
    }
    residual, direction, solution = rhs, rhs, zero
    active, step_before, turn, iterations = {slowest, *others}, 1.0, 0.0, 0
    while active and square > 0 and iterations < maxiter:
        image = operator(direction)
        if getattr(image, "shape", None) != rhs.shape:
            raise ValueError(f"operator must return the shape of rhs, {rhs.shape}, got {image!r}")
        if base:
            image = image + base * direction
        curvature = square_of(direction, image)
        if not curvature > 0:  # the direction has left the range of K, or a NaN has come up
            break
        step = square / curvature
        if slowest in active:
            solution = solution + step * direction
        residual = residual - step * image
        square_before, square = square, square_of(residual, residual)
        size = size_of(residual, square)
        if slowest in active and done(slowest, solution, size, step * square_before):
            active.discard(slowest)
        for index in active & others.keys():
            system = others[index]
            zeta = _next_zeta(system, step, step_before, turn)
            ahead = system.solution + step * zeta / system.zeta * system.direction
            ratio = square / square_before * (zeta / system.zeta) ** 2
            along = zeta * residual + ratio * system.direction
            others[index] = _Shifted(system.shift, ahead, along, zeta, system.zeta)
            fall = step * zeta * system.zeta * square_before
            if done(index, ahead, zeta * size, fall):
                active.discard(index)
        turn = square / square_before
        direction = residual + turn * direction
        step_before = step
        iterations += 1
    found = {slowest: solution} | {index: system.solution for index, system in others.items()}
    return [found[index] for index in range(len(shifts))], iterations


def _next_zeta(system: _Shifted, step: float, step_before: float, turn: float) -> float:
    """Residual of a shifted system as a multiple of the residual of the base system."""
    now, before = system.zeta, system.zeta_before
    slowing = step / step_before * turn * (1 - now / before)
    return now / (1 + slowing + system.shift * step)
