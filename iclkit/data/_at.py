"""Laws at a dimension: what a simulation needs of them.

With a root of the covariance Σ, tokens are x = Σ^½ z of isotropic z, and labels of a task w are
those that z would get from Σ^½ w. So whatever is known of isotropic tokens serves all others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace, device

from iclkit.data import laws
from iclkit.data.laws import AnyLaw, Law

_NAMED: dict[str, Callable[..., Law]] = {
    "isotropic": lambda d, *variance: laws.isotropic(*variance),
    "power_law": lambda d, nu: laws.power_law(nu, d),
    "low_rank": lambda d, share: laws.low_rank(share),
    "two_level": lambda d, share, low: laws.two_level(share, low),
}
_WORD = re.compile(r"(\w+)(?:\(([^()]+)\))?")

# What stands for a law where the dimension is known.
LawOrWord: TypeAlias = AnyLaw | str


def law_at(name: str, value: LawOrWord | None, d: int) -> Law | None:
    """Return the law in d dimensions that an argument stands for; None for None."""
    if value is None:
        return None
    law = _named(name, value, d) if isinstance(value, str) else laws.as_law(name, value)
    if law.d not in (None, d):
        raise ValueError(f"{name} must be a law in d = {d} dimensions, got one in {law.d}")
    return law


def _named(name: str, word: str, d: int) -> Law:
    called = _WORD.fullmatch(word)
    try:
        if called is None or called[1] not in _NAMED:
            raise ValueError("there is no such law")
        return _NAMED[called[1]](d, *map(float, called[2].split(",") if called[2] else ()))
    except (TypeError, ValueError) as error:
        problem = "it has other numbers" if isinstance(error, TypeError) else error
        raise ValueError(
            f"{name} must be a law, or in words isotropic, power_law(nu), low_rank(share) or "
            f"two_level(share, low) with numbers, got {word!r}: {problem}"
        ) from None


def in_words(name: str, value: LawOrWord | None, d: int) -> str | None:
    """Say what law an argument stands for; None for None."""
    law = law_at(name, value, d)
    if isinstance(value, str):
        return value
    if law is None:
        return None
    if law.vectors is not None:
        return f"{len(law.vectors)} vectors"
    values = laws.eigenvalues(law, d)
    return f"eigenvalues from {values.min():.3g} to {values.max():.3g}"


def root(law: Law | None, d: int, like: Any) -> Any:
    """Return Σ^½ in the library of an array, as a diagonal or a matrix; None for the identity."""
    if law is None:
        return None
    values = laws.eigenvalues(law, d)
    if law.basis is None or np.all(values == values[0]):
        found = values**0.5
    else:
        found = (law.basis * values**0.5) @ law.basis.T
    return array_namespace(like).asarray(found, device=device(like))


def span(law: Law | None, d: int, like: Any) -> Any:
    """Return orthonormal columns that span what has a positive variance; None for all."""
    values = np.ones(d) if law is None else laws.eigenvalues(law, d)
    if np.all(values > 0):
        return None
    basis = np.eye(d) if law is None or law.basis is None else law.basis
    return array_namespace(like).asarray(basis[:, values > 0], device=device(like))


def times(rows: Any, matrix: Any) -> Any:
    """Multiply rows by what `root` returns."""
    if matrix is None:
        return rows
    return rows * matrix if matrix.ndim == 1 else rows @ matrix
