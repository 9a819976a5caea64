"""Numbers that carry their own derivatives, for expansions to first order.

A jet is u = u₀ + u_P P + u_J J + u_ν ν + u_S S + δ(…), with δ² = 0 and only first powers of the
others: 10 numbers, of which `parts[i, j]` has the power i of δ and the j-th of (1, P, J, ν, S).
Sums, products and smooth functions of jets are exact, so that no derivative is ever a difference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

P, J, NU, S = 1, 2, 3, 4


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply numbers with first derivatives."""
    result: np.ndarray = a[:1] * b + a * b[:1]
    result[0] = a[0] * b[0]
    return result


class Jet:
    """Ten arrays of one shape, as one number."""

    __slots__ = ("parts",)
    __array_ufunc__ = None  # NumPy's arrays leave all operations to the jet

    def __init__(self, parts: np.ndarray) -> None:
        self.parts = parts

    def __add__(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return Jet(self.parts + other.parts)
        shape = np.broadcast_shapes(self.parts.shape[2:], np.shape(other))
        parts = np.broadcast_to(self.parts, (2, 5, *shape)).copy()
        parts[0, 0] += other
        return Jet(parts)

    def __mul__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.parts * other)
        (a, a_delta), (b, b_delta) = self.parts, other.parts
        return Jet(np.array([_product(a, b), _product(a, b_delta) + _product(a_delta, b)]))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Jet:
        return Jet(-self.parts)

    def __sub__(self, other: Any) -> Jet:
        return self.__add__(-other)

    def __rsub__(self, other: Any) -> Jet:
        return (-self).__add__(other)

    def __truediv__(self, other: Any) -> Jet:
        return self.__mul__(other.inverse() if isinstance(other, Jet) else 1 / other)

    def __rtruediv__(self, other: Any) -> Jet:
        return self.inverse().__mul__(other)

    def _of(self, value: Any, slope: Any, bend: Any) -> Jet:
        """Return f(u) from f, f′ and f″ at u₀."""
        (u, u_delta) = self.parts
        real, tangent = u * slope, u * bend
        real[0], tangent[0] = value, slope
        return Jet(np.array([real, _product(tangent, u_delta)]))

    def inverse(self) -> Jet:
        r = 1 / self.parts[0, 0]
        return self._of(r, -(r**2), 2 * r**3)

    def log(self) -> Jet:
        r = 1 / self.parts[0, 0]
        return self._of(np.log(self.parts[0, 0]), r, -(r**2))

    def log1p(self) -> Jet:
        r = 1 / (1 + self.parts[0, 0])
        return self._of(np.log1p(self.parts[0, 0]), r, -(r**2))

    def sqrt(self) -> Jet:
        root = np.sqrt(self.parts[0, 0])
        return self._of(root, 0.5 / root, -0.25 / root**3)

    def times_delta(self) -> Jet:
        return Jet(np.array([np.zeros_like(self.parts[0]), self.parts[0]]))

    def sum(self, weights: np.ndarray) -> Jet:
        """Sum over the last axis, which stays, of length 1."""
        return Jet((self.parts * weights).sum(axis=-1, keepdims=True))


def constant(value: np.ndarray, **slopes: float) -> Jet:
    """Return a jet with the given first derivatives, by the names P, J, nu and S."""
    parts = np.zeros((2, 5, *np.shape(value)))
    parts[0, 0] = value
    for name, slope in slopes.items():
        parts[0, {"P": P, "J": J, "nu": NU, "S": S}[name]] = slope
    return Jet(parts)


def where(condition: np.ndarray, one: Jet, other: Jet) -> Jet:
    return Jet(np.where(condition, one.parts, other.parts))
