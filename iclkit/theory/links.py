r"""A label that is a nonlinear function of one direction: y = g(z) + ε, z = ⟨u, s⟩, s ~ N(0, I_r).

The link g is given by its coefficients a_k on the normalised Hermite polynomials h_k, which are
orthonormal for a normal z. A read-out g_c(t) = Σ c_k h_k(t) of an estimated direction û looks at
t = ⟨û, s⟩. What it can know of the link depends on the direction through the overlap q = ⟨û, u⟩
alone, as E[h_j(z) h_k(t)] = q^k for j = k and 0 otherwise.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from iclkit import _validate

_DEGREE = 20  # quadrature below is exact, and floats are far from their edge, up to here
_FARTHEST = 1e3  # nor is a normal number larger
_NUMPY = np.empty(0)


class Readout(NamedTuple):
    """The three numbers that the error of a read-out is made of, before and after a step.

    The excess error is `floor + distance`, and after a step of size η on m new examples it is
    floor + (1 − η)² distance + η² scatter/m.

    Attributes
    ----------
    floor : array of shape (n,)
        Σ a_k²(1 − q^{2k}): what no read-out of this direction can know.
    distance : array of shape (n,)
        Σ (c_k − a_k q^k)²: squared distance to the best read-out of this direction.
    scatter : array of shape (n,)
        Variance, summed over coefficients, of the gradient of one example.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.theory import links
    >>> links.Readout._fields
    ('floor', 'distance', 'scatter')
    """

    floor: Any
    distance: Any
    scatter: Any


def features(t: Any, degree: int) -> Any:
    """Evaluate the normalised Hermite polynomials, orthonormal for a normal argument.

    Parameters
    ----------
    t : array
        Where to evaluate, at most 1000 in size.
    degree : int
        Largest degree K, from 0 to 20.

    Returns
    -------
    array of shape (..., degree + 1)
        h_k(t) = He_k(t)/√k!, the degrees k = 0 to K along the last axis.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-test-link in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.theory import links
    >>> links.features(np.array([0.0, 2.0]), 2).round(3)
    array([[ 1.   ,  0.   , -0.707],
           [ 1.   ,  2.   ,  2.121]])
    """
    t = _validate.array("t", t, None, like=_NUMPY)
    largest = np.abs(t).max()
    if largest > _FARTHEST:
        raise ValueError(f"t must be at most {_FARTHEST:g} in size, got {largest}")
    degree = _validate.count("degree", degree, 0, _DEGREE)
    norms = np.sqrt([float(math.factorial(k)) for k in range(degree + 1)])
    return np.polynomial.hermite_e.hermevander(t, degree) / norms


def readout_terms(link: Any, readout: Any, overlap: Any, rho: float) -> Readout:
    """Compute what the error of a read-out is made of, exactly, for a direction of each overlap.

    Parameters
    ----------
    link : array of shape (K + 1,)
        Coefficients a_k of the link, K at most 20.
    readout : array of shape (K + 1,)
        Coefficients c_k of the read-out, of degree K as well.
    overlap : array of shape (n,)
        Overlaps q in [-1, 1] of the estimated direction, which must not depend on the examples of
        the step.
    rho : float
        Variance of the label noise, at least 0.

    Returns
    -------
    Readout
        Floor, distance and scatter for each overlap.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    The scatter is an integral of a polynomial over two normal numbers, done by Gauss' nodes.
    Source: eq-test-readout in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.theory import links
    >>> a, c = np.array([0.0, 0.8, -0.6]), np.array([0.0, 0.8, 0.6])
    >>> floor, distance, scatter = links.readout_terms(a, c, np.array([0.9, 1.0]), rho=0.1)
    >>> print(floor.round(3), distance.round(3), scatter.round(3))
    [0.245 0.   ] [1.186 1.44 ] [25.34 29.1 ]
    """
    link = _coefficients("link", link)
    readout = _coefficients("readout", readout)
    if len(readout) != len(link):
        raise ValueError(f"readout must have {len(link)} numbers like link, got {len(readout)}")
    q = _validate.array("overlap", overlap, (None,), like=_NUMPY)
    if np.abs(q).max() > 1:
        raise ValueError(f"overlap must be in [-1, 1], got {q[np.abs(q).argmax()]}")
    rho = _validate.scalar(_validate.nonnegative, "rho", rho)

    seen = link * q[:, None] ** np.arange(len(link))
    away = seen - readout
    # 1 - q^{2k} is (1 - q²) Σ q^{2j} over j < k, which keeps its digits next to q = 1.
    rest = np.cumsum(link[:0:-1] ** 2)[::-1]
    across = (1 - q) * (1 + q)
    floor = across * np.sum(rest * q[:, None] ** (2 * np.arange(len(rest))), axis=1)

    t, weights = _normal_nodes(2 * len(link))
    h = features(t, len(link) - 1)
    scatter = np.full(len(q), rho * len(link))
    for v, share in zip(*_normal_nodes(len(link) + 1), strict=True):
        z = q[:, None] * t + np.sqrt(across)[:, None] * v
        residual = features(z, len(link) - 1) @ link - h @ readout
        around = residual[..., None] * h - away[:, None]
        scatter += share * np.sum(around**2, axis=2) @ weights
    return Readout(floor, np.sum(away**2, axis=1), scatter)


def spread(link: Any, r: int, rho: float) -> Any:
    """Compute second moments of labels times all Hermite features of r coordinates, by degree.

    Parameters
    ----------
    link : array of shape (K + 1,)
        Coefficients a_k of the link, K at most 20.
    r : int
        Number of coordinates of s, at least 1.
    rho : float
        Variance of the label noise, at least 0.

    Returns
    -------
    array of shape (K + 1,)
        V_k = E[y² |H_k(s)|²] with H_k(s) the features Π h_{p_i}(s_i), Σ p_i = k.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    The mean of y H_k over N examples has the squared length a_k² + (V_k − a_k²)/N on average.
    Source: eq-test-wide in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.theory import links
    >>> links.spread(np.array([0.0, 1.0]), 8, 0.1).round(6)  # 8 features of degree 1
    array([ 1.1, 10.8])
    """
    link = _coefficients("link", link)
    r = _validate.count("r", r, most=10**6)
    rho = _validate.scalar(_validate.nonnegative, "rho", rho)
    z, weights = _normal_nodes(2 * len(link))
    h = features(z, len(link) - 1)
    along = (weights * ((h @ link) ** 2 + rho)) @ h**2
    # Of the other r - 1 coordinates, only the number of features of each degree matters.
    others = [float(math.comb(r + p - 2, p)) if p else 1.0 for p in range(len(link))]
    return np.convolve(along, others)[: len(link)]


def _coefficients(name: str, value: Any) -> Any:
    value = _validate.array(name, value, (None,), like=_NUMPY)
    if len(value) > _DEGREE + 1:
        raise ValueError(f"{name} must have at most {_DEGREE + 1} numbers, got {len(value)}")
    return value


def _normal_nodes(n: int) -> tuple[Any, Any]:
    """Return nodes and weights that integrate polynomials of degree 2n - 1 over a normal law."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return nodes, weights / math.sqrt(2 * math.pi)
