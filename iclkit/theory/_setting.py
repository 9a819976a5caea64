"""The laws of a setting in one basis and in units of their means.

What theory needs of tasks and tokens is a list of directions: the shares of all that are alike, and
of each the eigenvalues of tokens and tasks, in pretraining and at test. Where tasks don't commute
with tokens, their covariance stays a matrix, in the basis of the tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from iclkit.data.laws import Law, as_law, isotropic, matrix

# No two eigenvalues of different matrices agree in a sum with these factors, but by design.
_GENERIC = (1.0, 0.7548776662466927, 0.5698402909980532)
_ROUNDING = 1e-12
_LEAST = 1e-75  # eigenvalue of tokens next to their mean; beyond it products leave the floats


class Setting(NamedTuple):
    """Directions of a setting, in units in which tokens and tasks have mean 1."""

    weights: np.ndarray  # (m,)
    tokens: np.ndarray  # (m,), or (1,) where all are the same
    tasks: np.ndarray  # (m,), or (m, m) where they don't commute with tokens
    test_tokens: np.ndarray  # like tokens, or (m, m) where they don't commute with these
    test_tasks: np.ndarray  # like tasks
    token_unit: float
    task_unit: float
    rank: float  # share of the directions that tokens have; the others are left out
    effective: float  # (Tr ΣC)²/Tr(ΣC)², the number of directions, or inf where it is unknown
    share: float  # that number over the dimension

    @property
    def unit(self) -> float:
        """Unit of errors and of noise."""
        return self.token_unit * self.task_unit

    @property
    def ridge_unit(self) -> float:
        """Unit of a ridge."""
        return self.unit * self.token_unit**2 / self.rank**3

    @property
    def test_unit(self) -> float:
        """Mean of tokens times tasks at test, in the units of the arguments."""
        return self.unit * together(self.weights, self.test_tokens, self.test_tasks)

    @property
    def isotropic(self) -> bool:
        """Whether nothing but the traces of the test law counts."""
        return bool(
            self.tasks.ndim == 1
            and np.all(self.tasks == self.tasks[0])
            and np.all(self.tokens == self.tokens[0])
            and np.all(self.test_tokens == self.tokens)
        )

    def scaled(
        self, tau: Any, alpha: Any, kappa: Any, rho: Any, lam: Any
    ) -> tuple[Any, Any, Any, Any, Any]:
        """Return the numbers of a point in these units."""
        r = self.rank
        return tau / r**2, alpha / r, kappa / r, rho / self.unit, lam / self.ridge_unit


def together(weights: np.ndarray, tokens: np.ndarray, tasks: np.ndarray) -> float:
    """Return tr ΣC, the variance of labels without noise."""
    if tokens.ndim == 2:
        return float(np.sum(tokens * tasks)) / len(tokens)
    diagonal = tasks if tasks.ndim == 1 else np.diag(tasks)
    return float(weights @ (tokens * diagonal))


def setting(
    tasks: Any, test_tasks: Any, tokens: Any, test_tokens: Any, size: float = np.inf
) -> Setting:
    """Return the setting of arguments that are laws, or None; a size is for laws without one."""
    C = isotropic() if tasks is None else as_law("tasks", tasks)
    C_t = C if test_tasks is None else as_law("test_tasks", test_tasks)
    S = isotropic() if tokens is None else as_law("tokens", tokens)
    S_t = S if test_tokens is None else as_law("test_tokens", test_tokens)
    laws = {"tokens": S, "test_tokens": S_t, "tasks": C, "test_tasks": C_t}
    known = {name: law.d for name, law in laws.items() if law.d is not None}
    d = max(known.values(), default=None)
    for name, one in known.items():
        if one != d:
            raise ValueError(f"{name} must be in {d} dimensions as the other laws, got {one}")
    if all(law.basis is None or _constant(law) for law in laws.values()):
        flat = [Law(law.values[:1], np.ones(1)) if _constant(law) else law for law in laws.values()]
        weights, values = meet(*flat)
    else:
        weights, values = _turned(laws)
    return _in_units(weights, values, size if d is None else d)


def meet(*laws: Law) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return shares of directions in which each of several laws along the axes is constant.

    Two laws meet direction by direction, whatever the shares of either.
    """
    several = [law for law in laws if law.values.size > 1]
    if not several:  # the quick way for isotropic ones
        return np.ones(1), [law.values for law in laws]
    first = several[0]
    if all(np.array_equal(law.weights, first.weights) for law in several):
        weights, at = first.weights, [np.arange(first.values.size)] * len(laws)
    else:
        ends = [np.cumsum(law.weights)[:-1] for law in several]
        cuts = np.unique(np.concatenate(ends))
        # Ends that are the same to rounding are one.
        cuts = cuts[np.diff(cuts, prepend=0.0) > 64 * np.finfo(float).eps * cuts]
        weights = np.diff(np.concatenate([[0.0], cuts, [1.0]]))
        middle = np.concatenate([[0.0], cuts]) + weights / 2
        at = [np.searchsorted(np.cumsum(law.weights)[:-1], middle) for law in laws]
    values = [
        np.full(weights.shape, law.values[0]) if law.values.size == 1 else law.values[i]
        for law, i in zip(laws, at, strict=True)
    ]  # fmt: skip
    # Neighbours that are the same in all laws are one.
    new = np.any([np.diff(v, prepend=-1.0) != 0 for v in values], axis=0)
    start = np.flatnonzero(new)
    return np.add.reduceat(weights, start), [v[start] for v in values]


def _constant(law: Law) -> bool:
    return bool(np.all(law.values == law.values[0]))


def _turned(laws: dict[str, Law]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the laws in the basis of the tokens, those that don't commute as matrices."""
    d = next(len(law.basis) for law in laws.values() if law.basis is not None)
    C = {name: matrix(law, d) for name, law in laws.items()}
    fixed = [name for name in ("tokens", "test_tokens", "tasks") if not _constant(laws[name])]
    shifted = not _commute(C["tokens"], C["test_tokens"])
    if shifted:
        fixed.remove("test_tokens")
    full = shifted or not all(_commute(C[one], C["tasks"]) for one in fixed)
    if full and "tasks" in fixed:
        fixed.remove("tasks")
    basis = laws[fixed[0]].basis if len(fixed) == 1 else None
    if basis is None:
        parts = [f * C[n] / np.trace(C[n]) for f, n in zip(_GENERIC, fixed, strict=False)]
        basis = np.linalg.eigh(sum(parts, np.zeros((d, d))))[1]
    turned = {name: basis.T @ one @ basis for name, one in C.items()}
    exact = {name: law.values for name, law in laws.items() if law.basis is basis}
    values = []
    for name, one in turned.items():
        matrix_kept = (full and name.endswith("tasks")) or (shifted and name == "test_tokens")
        # What solvers of eigenvalues leave of a zero is none.
        diagonal = np.diag(one)
        diagonal = np.where(diagonal > d * 1e-15 * diagonal.max(), diagonal, 0.0)
        values.append(one if matrix_kept else exact.get(name, diagonal))
    return np.full(d, 1 / d), values


def _commute(A: np.ndarray, B: np.ndarray) -> bool:
    product = A @ B
    scale = np.abs(A).max() * np.abs(B).max() * len(A)
    return bool(np.abs(product - product.T).max() <= _ROUNDING * scale)


def _in_units(weights: np.ndarray, values: list[np.ndarray], d: float) -> Setting:
    s, s_t, C, C_t = values
    some = s > 0
    at_test = s_t if s_t.ndim == 1 else np.diag(s_t)
    if np.any(at_test[~some] > _ROUNDING * at_test.max()):
        raise ValueError("test_tokens must be zero in directions in which tokens are zero")
    rank = 1.0
    if not np.all(some):
        rank = float(weights[some].sum())
        weights, s = weights[some] / rank, rank * s[some]
        s_t, C, C_t = (M[some] if M.ndim == 1 else M[np.ix_(some, some)] for M in (s_t, C, C_t))
        s_t = rank * s_t
    diagonal = C if C.ndim == 1 else np.diag(C)
    a, b = float(weights @ s), float(weights @ diagonal)
    if not b > 0:
        raise ValueError("tasks must have a part in the directions of the tokens, got none")
    s, s_t, C, C_t = s / a, s_t / a, C / b, C_t / b
    if s.min() < _LEAST:
        raise ValueError(
            f"tokens must have eigenvalues of 0, or of at least {_LEAST:g} times their mean, got "
            f"{s.min() * a}"
        )
    square = float(weights @ (s * C) ** 2 if C.ndim == 1 else np.mean(s * (C**2 @ s)))
    share = rank * float(weights @ (s * diagonal / b)) ** 2 / square
    flat = bool(C.ndim == 1 and np.all(s == s[0]) and np.all(s_t == s))
    s, s_t = (s[:1], s_t[:1]) if flat else (s, s_t)
    return Setting(weights, s, C, s_t, C_t, a, b, rank, d * share, share)
