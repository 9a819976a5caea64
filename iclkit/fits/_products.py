"""Products with the features x hᵀ of n contexts, unchecked, for inner loops.

They are taken over blocks of rows that stay in the cache, where what has to be done to single
numbers in between costs little. `features` has them for everybody, and says what they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from iclkit.backend import row_blocks

# Rows whose products are formed at a time: enough for a matrix product at full speed, and 41 MB
# at d = 100.
_GRAM_ROWS = 1024


def predict(x: Any, h: Any, gamma: Any) -> Any:
    """ΦΓ, the numbers xᵀΓh."""
    xp = array_namespace(gamma)
    parts = [xp.vecdot(rows @ gamma, part) for _, rows, part in _blocks(x, h, gamma)]
    return parts[0] if len(parts) == 1 else xp.concat(parts)


def adjoint(x: Any, h: Any, r: Any) -> Any:
    """Φᵀr, which is Σ r x hᵀ."""
    return reduce(add, (rows.T @ (r[some, None] * part) for some, rows, part in _blocks(x, h, r)))


def normal(x: Any, h: Any, gamma: Any) -> Any:
    """ΦᵀΦΓ in one pass over the data."""
    xp = array_namespace(gamma)
    return reduce(
        add,
        (
            rows.T @ (xp.vecdot(rows @ gamma, part)[:, None] * part)
            for _, rows, part in _blocks(x, h, gamma)
        ),
    )


def _blocks(x: Any, h: Any, like: Any) -> Iterator[tuple[slice, Any, Any]]:
    """Yield some rows at a time, in the precision of what they are multiplied with."""
    dtype = like.dtype
    cast = array_namespace(like).astype
    same = x.dtype == dtype and h.dtype == dtype
    for block in row_blocks(x):
        rows, part = x[block, :], h[block, :]
        yield (block, rows, part) if same else (block, cast(rows, dtype), cast(part, dtype))


def kernel(x: Any, h: Any) -> Any:
    """ΦΦᵀ = (XXᵀ) ∘ (HHᵀ)."""
    product = x @ x.T
    for block in row_blocks(product):
        product[block, :] *= h[block, :] @ h.T
    return product


def gram(x: Any, h: Any) -> Any:
    """ΦᵀΦ from the distinct products xᵢxⱼ and hₐh_b."""
    xp = array_namespace(x, h)
    d = x.shape[1]
    x_place, h_place = _place(d), _place(d + 1)
    like = {"dtype": x.dtype, "device": device(x)}
    packed = xp.zeros((d * (d + 1) // 2, (d + 1) * (d + 2) // 2), **like)
    for rows in row_blocks(x, _GRAM_ROWS):
        packed += _products(x[rows, :]).T @ _products(h[rows, :])
    # Entry ((i, a), (j, b)) of the Gram matrix is entry (ij, ab) of the packed one.
    full = xp.empty((d, d + 1, d, d + 1), **like)
    columns = xp.asarray(h_place.reshape(-1), device=device(x))
    for i in range(d):
        some = xp.take(packed, xp.asarray(x_place[i], device=device(x)), axis=0)
        some = xp.reshape(xp.take(some, columns, axis=1), (d, d + 1, d + 1))
        full[i, :, :, :] = xp.permute_dims(some, (1, 0, 2))
    return xp.reshape(full, (d * (d + 1), d * (d + 1)))


def _place(d: int) -> np.ndarray:
    """Where the product of entries i and j stands in `_products`."""
    rows, columns = np.triu_indices(d)
    place = np.zeros((d, d), dtype=int)
    place[rows, columns] = place[columns, rows] = np.arange(rows.size)
    return place


def _products(block: Any) -> Any:
    """Multiply entries of each row: entry 0 with 0, 1, …, then entry 1 with 1, 2, …, and so on."""
    xp = array_namespace(block)
    m = block.shape[1]
    products = xp.empty((block.shape[0], m * (m + 1) // 2), dtype=block.dtype, device=device(block))
    start = 0
    for i in range(m):
        products[:, start : start + m - i] = block[:, i, None] * block[:, i:]
        start += m - i
    return products
