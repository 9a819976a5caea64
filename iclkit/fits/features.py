"""Products with the features x hᵀ of n contexts, without the n x d(d + 1) matrix that they form.

Row μ of the feature matrix Φ is the outer product of row μ of `x` with row μ of `h` (eq-khatri-rao
in the book). ΦΓ and Φᵀr then are two matrix products with n x d matrices, 2nd² multiplications
and additions each. Results have the precision of the operand. The arithmetic stands in
`iclkit.fits._products`, here are its checks.
"""

from __future__ import annotations

from typing import Any

from iclkit import _validate
from iclkit.fits import _products


def predict(x: Any, h: Any, gamma: Any) -> Any:
    """Predict labels: ΦΓ, the numbers xᵀΓh.

    Parameters
    ----------
    x : array of shape (n, d)
        Queries.
    h : array of shape (n, d + 1)
        Context statistics.
    gamma : array of shape (d, d + 1)
        A predictor Γ.

    Returns
    -------
    array of shape (n,)
        One prediction a context.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, or an array does not hold finite real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import features
    >>> x, h = np.array([[1.0], [2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])
    >>> features.predict(x, h, np.array([[1.0, 0.5]]))
    array([ 5., 16.])
    """
    x, h, (n, d) = _check(x, h)
    return _products.predict(x, h, _operand("gamma", gamma, (d, d + 1), x))


def adjoint(x: Any, h: Any, r: Any) -> Any:
    """Sum features: Φᵀr, which is Σ r x hᵀ.

    Parameters
    ----------
    x : array of shape (n, d)
        Queries.
    h : array of shape (n, d + 1)
        Context statistics.
    r : array of shape (n,)
        A weight for each context.

    Returns
    -------
    array of shape (d, d + 1)
        The weighted sum.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, or an array does not hold finite real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import features
    >>> x, h = np.array([[1.0], [2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])
    >>> features.adjoint(x, h, np.array([1.0, 1.0]))
    array([[13., 16.]])
    """
    x, h, (n, d) = _check(x, h)
    return _products.adjoint(x, h, _operand("r", r, (n,), x))


def normal(x: Any, h: Any, gamma: Any) -> Any:
    """Predict and sum: ΦᵀΦΓ in one pass over the data.

    Parameters
    ----------
    x : array of shape (n, d)
        Queries.
    h : array of shape (n, d + 1)
        Context statistics.
    gamma : array of shape (d, d + 1)
        A predictor Γ.

    Returns
    -------
    array of shape (d, d + 1)
        The adjoint of the predictions.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, or an array does not hold finite real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import features
    >>> x, h = np.array([[1.0], [2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])
    >>> features.normal(x, h, gamma := np.array([[1.0, 0.5]]))
    array([[175., 212.]])
    >>> features.adjoint(x, h, features.predict(x, h, gamma))
    array([[175., 212.]])
    """
    x, h, (n, d) = _check(x, h)
    return _products.normal(x, h, _operand("gamma", gamma, (d, d + 1), x))


def kernel(x: Any, h: Any) -> Any:
    """Form ΦΦᵀ = (XXᵀ) ∘ (HHᵀ), in 3dn² operations, as XXᵀ is symmetric.

    Parameters
    ----------
    x : array of shape (n, d)
        Queries.
    h : array of shape (n, d + 1)
        Context statistics.

    Returns
    -------
    array of shape (n, n)
        Inner products of the features of any two contexts.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, or an array does not hold finite real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import features
    >>> x, h = np.array([[1.0], [2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])
    >>> features.kernel(x, h)
    array([[ 25.,  78.],
           [ 78., 244.]])
    >>> (x @ x.T) * (h @ h.T)
    array([[ 25.,  78.],
           [ 78., 244.]])
    """
    return _products.kernel(*_same(x, h))


def gram(x: Any, h: Any) -> Any:
    """Form ΦᵀΦ from the distinct products xᵢxⱼ and hₐh_b: nd⁴/2 operations, a quarter of the usual.

    Parameters
    ----------
    x : array of shape (n, d)
        Queries.
    h : array of shape (n, d + 1)
        Context statistics.

    Returns
    -------
    array of shape (d(d + 1), d(d + 1))
        Sums over contexts of the products of any two features.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, or an array does not hold finite real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import features
    >>> x, h = np.array([[1.0], [2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])
    >>> features.gram(x, h)
    array([[109., 132.],
           [132., 160.]])
    """
    return _products.gram(*_same(x, h))


def _check(x: Any, h: Any) -> tuple[Any, Any, tuple[int, int]]:
    x = _validate.array("x", x, (None, None), keep_float32=True)
    n, d = x.shape
    return x, _validate.array("h", h, (n, d + 1), keep_float32=True, like=x), (n, d)


def _same(x: Any, h: Any) -> tuple[Any, Any]:
    x, h, _ = _check(x, h)
    if x.dtype != h.dtype:
        raise TypeError(f"h must have the dtype of x, {x.dtype}, got {h.dtype}")
    return x, h


def _operand(name: str, value: Any, shape: tuple[int, ...], like: Any) -> Any:
    return _validate.array(name, value, shape, keep_float32=True, like=like)
