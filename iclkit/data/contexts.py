"""Contexts for in-context regression, and the few numbers of each that matter.

A context is ℓ labelled tokens and a query. The model sees a context only through its statistic
h = ((d/ℓ) Σ yᵢxᵢ, (1/ℓ) Σ yᵢ²), whose exact law costs O(d) to draw, whatever ℓ is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from iclkit import _validate
from iclkit.backend import Streams, row_blocks
from iclkit.data import _at
from iclkit.data.kernels import _given_query, _whole


class Contexts(NamedTuple):
    """Raw contexts, each with a query.

    Attributes
    ----------
    tokens : array of shape (n, ell, d)
        xᵢ ~ N(0, Σ/d), with Σ = I unless tokens have a law.
    labels : array of shape (n, ell)
        yᵢ = ⟨xᵢ, w⟩ + εᵢ, with noise of variance ρ.
    query : array of shape (n, d)
        The token to be labelled.
    target : array of shape (n,)
        Its label, noise included.

    Examples
    --------
    >>> from iclkit import backend, data
    >>> streams = backend.streams(0)
    >>> w = data.draw_tasks(4, 10, streams.tasks)
    >>> drawn = data.draw_contexts(w, 20, 0.0, streams)
    >>> {name: part.shape for name, part in drawn._asdict().items()}
    {'tokens': (4, 20, 10), 'labels': (4, 20), 'query': (4, 10), 'target': (4,)}
    """

    tokens: Any
    labels: Any
    query: Any
    target: Any


class Statistics(NamedTuple):
    """What a fit of Γ needs of n contexts.

    Attributes
    ----------
    x : array of shape (n, d)
        Queries.
    h : array of shape (n, d + 1)
        Context statistics.
    y : array of shape (n,)
        Labels of the queries.

    Examples
    --------
    >>> from iclkit import backend, data
    >>> streams = backend.streams(0)
    >>> x, h, y = data.draw_statistics(data.draw_tasks(4, 10, streams.tasks), 20, 0.0, streams)
    >>> x.shape, h.shape, y.shape
    ((4, 10), (4, 11), (4,))
    """

    x: Any
    h: Any
    y: Any


def _check(
    w: Any, ell: int, rho: float, streams: Streams, tokens: _at.LawOrWord | None
) -> tuple[Any, int, float, Any]:
    """Return what is checked, and the root of the tokens' covariance."""
    w = _validate.array("w", w, (None, None))
    _validate.instance("streams", streams, Streams, "what iclkit.backend.streams returns")
    for name, stream in streams._asdict().items():
        _validate.generator(f"streams.{name}", stream, like=w)
    ell, rho = _validate.count("ell", ell), _validate.scalar(_validate.nonnegative, "rho", rho)
    d = w.shape[1]
    return w, ell, rho, _at.root(_at.law_at("tokens", tokens, d), d, w)


def _draw_query(
    w: Any, rho: float, streams: Streams, x: Any = None, of: Any = None
) -> tuple[Any, Any, Any]:
    """Draw queries and labels, and return the products of query and task, too."""
    xp = array_namespace(w)
    n, d = w.shape if of is None else (of.shape[0], w.shape[1])
    if x is None:
        x = streams.contexts.standard_normal((n, d))
        x /= d**0.5
    product = xp.concat([xp.vecdot(x[rows, :], _tasks(w, of, rows)) for rows in row_blocks(x)])
    return x, product + rho**0.5 * streams.noise.standard_normal(n), product


def _tasks(w: Any, of: Any, rows: slice) -> Any:
    """Return the tasks of some contexts."""
    return w[rows, :] if of is None else array_namespace(w).take(w, of[rows], axis=0)


def _rows_of(w: Any, of: Any) -> Any:
    """Check which rows of w contexts have as their tasks."""
    xp, k = _validate.namespace("of", of), w.shape[0]
    if xp is not array_namespace(w):
        raise TypeError(f"of must be an array of the library of w, got {type(of).__name__}")
    if getattr(of.dtype, "kind", "i") not in "iu" or not xp.isdtype(of.dtype, "integral"):
        raise TypeError(f"of must hold integers, got dtype {of.dtype}")
    if of.ndim != 1 or 0 in of.shape:
        raise ValueError(f"of must have shape (any,) and not be empty, got {tuple(of.shape)}")
    least, most = int(xp.min(of)), int(xp.max(of))
    if least < 0 or most >= k:
        raise ValueError(f"of must have numbers from 0 to {k - 1}, got {least} to {most}")
    return of


def draw_contexts(
    w: Any,
    ell: int,
    rho: float,
    streams: Streams,
    *,
    tokens: _at.LawOrWord | None = None,
    kernel: Any = None,
) -> Contexts:
    """Draw whole contexts, token by token: for teaching and for tests.

    Parameters
    ----------
    w : array of shape (n, d)
        The task of each context.
    ell : int
        Context length ℓ, at least 1.
    rho : float
        Variance of the label noise, at least 0.
    streams : Streams
        Random streams, see `iclkit.backend.streams`.
    tokens : law or str, optional
        Covariance Σ of the tokens, x ~ N(0, Σ/d), given like `tasks` in `iclkit.data.draw_tasks`;
        by default the identity.
    kernel : array of shape (ell, ell) or (ell + 1, ell + 1), optional
        Covariance of the tokens over positions, as in `iclkit.data.correlation`; the larger one
        has the query in its last row. By default tokens and query are independent.

    Returns
    -------
    Contexts
        Tokens, labels, queries and targets; O(nℓd) numbers.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-label-model in the book.

    Examples
    --------
    >>> from iclkit import backend, data
    >>> streams = backend.streams(0)
    >>> w = data.draw_tasks(4, 10, streams.tasks)
    >>> tokens, labels, query, target = data.draw_contexts(w, 20, 0.0, streams)
    >>> bool(abs(labels - (tokens @ w[:, :, None])[:, :, 0]).max() < 1e-12)  # without noise
    True
    """
    w, ell, rho, root = _check(w, ell, rho, streams, tokens)
    n, d = w.shape
    if kernel is None:
        isotropic, query = streams.contexts.standard_normal((n, ell, d)) / d**0.5, None
    else:
        values, vectors = np.linalg.eigh(_whole(kernel, ell))
        mix = array_namespace(w).asarray(vectors * np.maximum(values, 0.0) ** 0.5, device=device(w))
        both = mix @ streams.contexts.standard_normal((n, ell + 1, d)) / d**0.5
        isotropic, query = both[:, :ell, :], both[:, ell, :]
    drawn = _at.times(isotropic, root)
    noise = rho**0.5 * streams.noise.standard_normal((n, ell))
    labels = (drawn @ w[:, :, None])[:, :, 0] + noise
    query, target, _ = _draw_query(_at.times(w, root), rho, streams, query)
    return Contexts(drawn, labels, _at.times(query, root), target)


def context_statistic(tokens: Any, labels: Any) -> Any:
    """Reduce contexts to h = ((d/ℓ) Σ yᵢxᵢ, (1/ℓ) Σ yᵢ²).

    Parameters
    ----------
    tokens : array of shape (n, ell, d)
        Tokens xᵢ of each context.
    labels : array of shape (n, ell)
        Their labels yᵢ.

    Returns
    -------
    array of shape (n, d + 1)
        One statistic a row.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not match or the arrays do not hold finite real numbers.

    Notes
    -----
    Source: eq-statistic in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import data
    >>> tokens, labels = np.array([[[1.0, 0.0], [0.0, 1.0]]]), np.array([[3.0, 4.0]])
    >>> data.context_statistic(tokens, labels)
    array([[ 3. ,  4. , 12.5]])
    """
    tokens = _validate.array("tokens", tokens, (None, None, None))
    n, ell, d = tokens.shape
    labels = _validate.array("labels", labels, (n, ell), like=tokens)
    xp = array_namespace(tokens, labels)
    correlation = (labels[:, None, :] @ tokens)[:, 0, :] * (d / ell)
    return xp.concat([correlation, xp.mean(labels**2, axis=1, keepdims=True)], axis=1)


def draw_statistics(
    w: Any,
    ell: int,
    rho: float,
    streams: Streams,
    *,
    of: Any = None,
    tokens: _at.LawOrWord | None = None,
    kernel: Any = None,
) -> Statistics:
    """Draw (x, h, y) from their exact law, without forming a context.

    Parameters
    ----------
    w : array of shape (n, d), or (k, d) with `of`
        The task of each context, or a list of tasks.
    ell : int
        Context length ℓ, at least 1.
    rho : float
        Variance of the label noise, at least 0.
    streams : Streams
        Random streams, see `iclkit.backend.streams`.
    of : integer array of shape (n,), optional
        Which of the tasks each context has, as of `iclkit.data.assign_tasks`: what is drawn for
        the tasks ``w[of]``, without forming them.
    tokens : law or str, optional
        Covariance Σ of the tokens, as in `iclkit.data.draw_contexts`.
    kernel : array of shape (ell, ell) or (ell + 1, ell + 1), optional
        Covariance of the tokens over positions, as in `iclkit.data.draw_contexts`.

    Returns
    -------
    Statistics
        Queries, context statistics and labels, in O(nd) time and memory for any `ell`; with
        tokens that have other eigenvectors than the axes, after a product of n d² numbers; with a
        kernel, in time O(n(d + ell)), after its eigenvectors.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    With u = w/|w| and σ = |w|/√d, a token is x = (g u + z)/√d with z ⟂ u, and y = σg + √ρ η.
    The sums of squares and products of (g, η) over a context are a 2 x 2 Wishart matrix, drawn by
    Bartlett's decomposition; given the labels, Σ yᵢzᵢ is Gaussian with variance Σ yᵢ². Tokens of
    covariance Σ are Σ^½ times isotropic ones, with the labels that those get from the task Σ^½ w.
    Source: eq-law-h in the book. With a kernel, positions are turned into the eigenvectors of
    K − kkᵀ, the covariance given the query, where tokens are k̂ᵢx plus independent ones of variance
    μᵢ/d.

    Examples
    --------
    >>> from iclkit import backend, data
    >>> streams = backend.streams(0)
    >>> w = data.draw_tasks(1000, 10, streams.tasks)
    >>> x, h, y = data.draw_statistics(w, 10**9, 0.1, streams)  # a longer context costs no more
    >>> bool(abs(h[:, :10] - w).max() < 1e-3), bool(abs(h[:, 10] - 1.1).max() < 1e-3)
    (True, True)
    """
    w, ell, rho, root = _check(w, ell, rho, streams, tokens)
    of = None if of is None else _rows_of(w, of)
    w = _at.times(w, root)  # the task as isotropic tokens see it
    xp = array_namespace(w)
    norm = xp.linalg.vector_norm(w, axis=1)
    norm = norm if of is None else xp.take(norm, of)
    n, d = norm.shape[0], w.shape[1]
    sigma = norm / d**0.5
    if kernel is None:
        sum_yg, sum_yy, sum_zz = _sums(sigma, ell, rho, streams)
    else:
        x, y, product = _draw_query(w, rho, streams, of=of)
        sum_yg, sum_yy, sum_zz, sum_yk = _correlated_sums(sigma, product, ell, rho, streams, kernel)

    h = xp.empty((n, d + 1), dtype=w.dtype, device=device(w))
    h[:, d] = sum_yy / ell
    # Block by block, so that next to tasks, x and h nothing of their size is in memory.
    for rows in row_blocks(h):
        u = _tasks(w, of, rows) / xp.where(norm > 0, norm, 1.0)[rows, None]
        z = streams.contexts.standard_normal(u.shape)
        z -= xp.vecdot(z, u)[:, None] * u
        total = sum_yg[rows, None] * u + xp.sqrt(sum_zz)[rows, None] * z
        if kernel is not None:
            total += d**0.5 * sum_yk[rows, None] * x[rows, :]
        h[rows, :d] = _at.times((d**0.5 / ell) * total, root)
    if kernel is None:
        x, y, _ = _draw_query(w, rho, streams, of=of)
    return Statistics(_at.times(x, root), h, y)


def _sums(sigma: Any, ell: int, rho: float, streams: Streams) -> tuple[Any, Any, Any]:
    """Draw Σ yg and Σ y², twice, over contexts of iid tokens."""
    xp = array_namespace(sigma)
    root_gg = xp.sqrt(streams.contexts.chisquare(ell, sigma.shape[0]))
    across = streams.noise.standard_normal(sigma.shape[0])
    rest = streams.noise.chisquare(ell - 1, sigma.shape[0]) if ell > 1 else 0.0
    along = sigma * root_gg + rho**0.5 * across  # Σ yᵢgᵢ / √(Σ gᵢ²)
    sum_yy = along**2 + rho * rest
    return root_gg * along, sum_yy, sum_yy


def _correlated_sums(
    sigma: Any, product: Any, ell: int, rho: float, streams: Streams, kernel: Any
) -> tuple[Any, ...]:
    """Draw Σ √μ yg, Σ y², Σ μy² and Σ k̂y, given the product ⟨x, w⟩ of query and task."""
    xp = array_namespace(sigma)
    whole = _whole(kernel, ell)
    values, vectors = np.linalg.eigh(_given_query(whole))
    place = {"device": device(sigma)}
    mu = xp.asarray(np.maximum(values, 0.0), **place)
    k = xp.asarray(whole[ell, :ell] @ vectors, **place)
    parts = []
    # Like the blocks of a matrix with a row of ℓ numbers for each context.
    for rows in row_blocks(xp.broadcast_to(sigma[:, None], (sigma.shape[0], ell))):
        g = xp.sqrt(mu) * streams.contexts.standard_normal((sigma[rows].shape[0], ell))
        y = product[rows, None] * k + sigma[rows, None] * g
        y += rho**0.5 * streams.noise.standard_normal(y.shape)
        parts.append(xp.stack([xp.vecdot(g, y), xp.vecdot(y, y), y**2 @ mu, y @ k]))
    sums = xp.concat(parts, axis=1)
    return tuple(sums[i, :] for i in range(4))
