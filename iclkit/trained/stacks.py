"""Stacks of residual blocks: what a small change of their weights does to their output.

A block mixes what comes in, u, with a branch of it, √(1 - β) u + √β f(u), and the sum is
normalised to length √m. The share β is how much a block depends on its branch. Where
normalisation stands, and every skip weight, is a choice of shares while weights are random:
Post-LN has β = 1/2, Pre-LN and Admin 1, 1/2, 1/3, … of a growing sum. Weights have the variance of
one over their width, and no biases, scales or shifts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import poisson

from iclkit import _validate
from iclkit.trained._jax import jax, jnp
from iclkit.trained.prompts import Sample

BRANCHES = {
    "linear": ("value",),
    "relu": ("inner", "outer"),
    "attention": ("query", "key", "value"),
}
PLANS = ("post", "pre", "admin", "even", "pre_heavy", "uneven_light", "uneven_heavy")
_EPSILON = 1e-12  # under the root of a normalisation
_MOST_TERMS = 1e10  # of a width over a share: a sum over its root
_STRONG = 0.95  # of a pair of blocks, what the stronger one has in the uneven plans


# Shares, and what follows from them at infinite width ------------------------------------------


def shares(plan: str, depth: int) -> np.ndarray:
    """Shares of the branches of a stack, by the name of a plan.

    Parameters
    ----------
    plan : {"post", "pre", "admin", "even", "pre_heavy", "uneven_light", "uneven_heavy"}
        Post-LN has 1/2 everywhere, and so has "pre_heavy", which is Pre-LN with branches that are
        made as strong. Pre-LN and "admin" have 1/(l + 2) for l = 0, 1, …, and "even" has
        1/(L + 1). The uneven plans have a sum of L/2, or of L/(L + 1), of which every second
        block has a twentieth.
    depth : int
        Number of blocks L, at least 1; for the uneven plans even.

    Returns
    -------
    numpy.ndarray of shape (L,)
        Between 0 and 1. For "admin" it is what profiling finds if branches keep lengths; what it
        finds for given weights is by `Stack.profile`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-ds-shares in the book.

    Examples
    --------
    >>> from iclkit.trained import stacks
    >>> print(stacks.shares("pre", 3).round(3), stacks.shares("uneven_heavy", 2))
    [0.5   0.333 0.25 ] [0.05 0.95]
    """
    plan, depth = _validate.choice("plan", plan, PLANS), _validate.count("depth", depth)
    if plan in ("pre", "admin"):
        return 1 / (np.arange(depth) + 2.0)
    level = 1 / (depth + 1) if plan in ("even", "uneven_light") else 0.5
    if not plan.startswith("uneven"):
        return np.full(depth, level)
    if depth % 2:
        raise ValueError(f"depth must be even for the plan {plan!r}, got {depth}")
    return np.tile([2 * level * (1 - _STRONG), 2 * level * _STRONG], depth // 2)


def _shares(name: str, value: ArrayLike) -> np.ndarray:
    found = _validate.real(name, value)
    if found.ndim != 1 or found.size == 0 or not np.all((found > 0) & (found < 1)):
        raise ValueError(f"{name} must be at least one number between 0 and 1, got {value!r}")
    return found


def imbalance(shares: ArrayLike) -> float:
    """Largest over smallest gradient of a block, as norms, at infinite width.

    Parameters
    ----------
    shares : array of shape (L,)
        Between 0 and 1.

    Returns
    -------
    float
        The root of the largest share over the smallest.

    Raises
    ------
    ValueError, TypeError
        If `shares` is outside its range.

    Notes
    -----
    Source: eq-ds-gradient in the book.

    Examples
    --------
    >>> from iclkit.trained import stacks
    >>> [round(stacks.imbalance(stacks.shares(plan, 24)), 2) for plan in ("post", "pre")]
    [1.0, 3.54]
    """
    found = _shares("shares", shares)
    return float(np.sqrt(found.max() / found.min()))


def relu_kernel(rho: ArrayLike) -> np.ndarray:
    """Mean of 2 max(x, 0) max(y, 0) over standard normal x and y.

    Parameters
    ----------
    rho : array
        Their correlation, from -1 to 1.

    Returns
    -------
    numpy.ndarray
        Of the shape of `rho`, from 0 to 1.

    Raises
    ------
    ValueError, TypeError
        If `rho` is outside its range.

    Notes
    -----
    Source: eq-ds-kernel in the book.

    Examples
    --------
    >>> from iclkit.trained import stacks
    >>> print(stacks.relu_kernel([-1.0, 0.0, 1.0]).round(4))
    [0.     0.3183 1.    ]
    """
    found = _validate.real("rho", rho)
    if not np.all(np.abs(found) <= 1):
        raise ValueError(f"rho must be from -1 to 1, got {rho!r}")
    return np.asarray(np.sqrt(1 - found**2) + (np.pi - np.arccos(found)) * found) / np.pi


def output_change(shares: ArrayLike, *, branch: str = "linear", noise: float = 0.0) -> float:
    """Squared change of the output over the square of the relative noise, at infinite width.

    Parameters
    ----------
    shares : array of shape (L,)
        Between 0 and 1.
    branch : {"linear", "relu"}
        One matrix, or two with a ReLU between them.
    noise : float
        Standard deviation δ of what is added to each weight, over that of the weight; at least 0.
        By default the limit of small noise. With more of it, sums are taken to be normalised, as
        in "post", "admin" and "even"; those of Pre-LN would grow.

    Returns
    -------
    float
        Mean square of the change of an entry of the output, over δ². For small noise it is the sum
        of the shares, times the number of matrices of a branch.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-ds-change, eq-ds-kernel in the book.

    Examples
    --------
    >>> from iclkit.trained import stacks
    >>> for plan in ("post", "pre", "even"):
    ...     print(plan, round(stacks.output_change(stacks.shares(plan, 24)), 3))
    post 12.0
    pre 2.816
    even 0.96
    """
    found = _shares("shares", shares)
    branch = _validate.choice("branch", branch, ("linear", "relu"))
    noise = _validate.scalar(_validate.nonnegative, "noise", noise)
    matrices = len(BRANCHES[branch])
    if noise == 0:
        return float(matrices * found.sum())
    # In 1 - c, as c itself would lose the digits of small noise.
    longer = np.expm1(matrices * np.log1p(noise**2))
    stretch = np.sqrt(1 + noise**2)
    gap = 0.0
    for share in found:
        if branch == "relu":  # 1 - √(1 + δ²) K(cos θ), as π K = π cos θ + sin θ - θ cos θ
            halved = (gap + noise**2 / (1 + stretch)) / (2 * stretch)
            angle = 2 * np.arcsin(min(halved, 1.0) ** 0.5)
            gap -= share * stretch * (np.sin(angle) - angle * np.cos(angle)) / np.pi
        length = np.sqrt(1 + share * longer)
        gap = (gap + share * longer / (1 + length)) / length
    return float(2 * gap / noise**2)


def mean_output_change(shares: ArrayLike, width: int) -> float:
    """Squared change of the output over δ², for linear branches of a finite width, in the mean.

    Parameters
    ----------
    shares : array of shape (L,)
        Between 0 and 1.
    width : int
        Width m, at least 3, and at most 1e10 times the smallest share.

    Returns
    -------
    float
        Mean over weights and noise of the mean square of the change of an entry, over δ², for
        small noise δ. It is exact at every width where sums are normalised, as in "post", "admin"
        and "even"; the lengths of Pre-LN fluctuate, and its shares with them.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-ds-width in the book.

    Examples
    --------
    >>> from iclkit.trained import stacks
    >>> half = stacks.shares("post", 128)
    >>> [round(stacks.mean_output_change(half, width)) for width in (32, 128, 100_000)]
    [454, 96, 64]
    """
    found, width = _shares("shares", shares), _validate.count("width", width, least=3)
    if width > _MOST_TERMS * found.min():
        raise ValueError(
            f"width over the smallest of shares must be at most {_MOST_TERMS:g}, "
            f"got {width / found.min():g}"
        )
    change = 0.0
    for share in found:
        # |√(1-β) u + √β W u|²/β is χ² with m degrees of freedom, off centre: a Poisson mixture.
        centre = width * (1 - share) / (2 * share)
        reach = 12 * centre**0.5 + 60
        number = np.arange(max(0, int(centre - reach)), int(centre + reach) + 1)
        chance = poisson.pmf(number, centre)
        one, other = (np.sum(chance / (width + 2 * number + more)) for more in (-2, 0))
        passed = width * (1 - share) / (2 * share) * (one + other) + (width - 1) * one
        change = passed * change + (width - 1) * one
    return float(change)


# Networks -------------------------------------------------------------------------------------


def _normalise(x: Any) -> Any:
    return x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + _EPSILON)


def _linear(weights: Any, u: Any) -> Any:
    return u @ weights["value"]


def _relu(weights: Any, u: Any) -> Any:
    return 2**0.5 * jax.nn.relu(u @ weights["inner"]) @ weights["outer"]


def _attention(weights: Any, u: Any) -> Any:
    query, key, value = (u @ weights[name] for name in BRANCHES["attention"])
    scores = jnp.einsum("...im,...jm->...ij", query, key) / u.shape[-1] ** 0.5
    return jax.nn.softmax(scores, axis=-1) @ value


_APPLY = {"linear": _linear, "relu": _relu, "attention": _attention}


@dataclass(frozen=True)
class Stack:
    """A stack of L residual blocks of width m, between a matrix and a readout.

    Attributes
    ----------
    branch : {"linear", "relu", "attention"}
        A matrix; two with a ReLU between them; or softmax attention with one head, in which all
        tokens see all.

    Examples
    --------
    >>> import jax
    >>> from iclkit.trained import stacks
    >>> stack = stacks.Stack("relu")
    >>> params = stack.init(jax.random.key(0), 4, 8, 3) | stacks.weigh("pre", 3)
    >>> print(params["blocks"]["inner"].shape, params["gain"].round(3))  # Pre-LN as it is written
    (3, 8, 8) [1. 1. 1.]
    >>> stack.predict(params, jax.numpy.ones((5, 2, 4))).shape
    (5,)
    """

    branch: str

    def __post_init__(self) -> None:
        """Check the attribute."""
        _validate.choice("branch", self.branch, tuple(BRANCHES))

    def init(self, key: jax.Array, d: int, width: int, depth: int) -> dict[str, Any]:
        """Draw the matrices for tokens of dimension d; `weigh` adds how they are put together."""
        d, width = _validate.count("d", d), _validate.count("width", width)
        names, shape = BRANCHES[self.branch], (_validate.count("depth", depth), width, width)
        first, last, *keys = jax.random.split(key, 2 + len(names))
        return {
            "first": jax.random.normal(first, (d, width)) / d**0.5,
            "last": jax.random.normal(last, (width,)) / width**0.5,
            "blocks": {
                name: jax.random.normal(key, shape) / width**0.5
                for name, key in zip(names, keys, strict=True)
            },
        }

    def output(self, params: dict[str, Any], inputs: Any) -> Any:
        """Compute the normalised output, (n, t, m), from inputs of shape (n, t, d)."""
        inside, *weights = jax.lax.stop_gradient([params[n] for n in ("inside", "skip", "gain")])

        def block(x: Any, about: Any) -> tuple[Any, None]:
            matrices, skip, gain = about
            branch = _APPLY[self.branch](matrices, jnp.where(inside, _normalise(x), x))
            new = skip * x + gain * branch
            return jnp.where(inside, new, _normalise(new)), None

        start = _normalise(inputs.astype(params["first"].dtype) @ params["first"])
        return _normalise(jax.lax.scan(block, start, (params["blocks"], *weights))[0])

    def predict(self, params: dict[str, Any], inputs: Any) -> Any:
        """Read n numbers off the last tokens."""
        return self.output(params, inputs)[:, -1] @ params["last"]

    def profile(self, params: dict[str, Any], inputs: Any) -> np.ndarray:
        """Return the shares that one pass with equal skips and branches leads to.

        That is our reading of an adaptive initialisation: it takes the mean squares v of the
        branches, and makes the square of a skip weight what has been added up before, 1 + Σ v.
        """

        def block(x: Any, matrices: Any) -> tuple[Any, Any]:
            found = _APPLY[self.branch](matrices, x)
            return _normalise(x + found), jnp.mean(found**2)

        _, squares = jax.lax.scan(block, _normalise(inputs @ params["first"]), params["blocks"])
        added = np.cumsum(np.asarray(squares))
        return np.asarray(1 / (2 + np.concatenate([[0.0], added[:-1]])))


def weigh(plan: str, depth: int, profile: ArrayLike | None = None) -> dict[str, Any]:
    """Weigh skips and branches of a stack, and say where normalisation stands.

    Parameters
    ----------
    plan : str
        See `shares`.
    depth : int
        Number of blocks L, at least 1.
    profile : array of shape (L,), optional
        Shares to take in place of those of the plan, such as `Stack.profile` finds.

    Returns
    -------
    dict
        `skip` and `gain` of shape (L,), and `inside`, 1 if what enters a branch is normalised and
        0 if the sum is. They are constants of a `Stack`, which are not trained.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from iclkit.trained import stacks
    >>> skip, gain, inside = stacks.weigh("post", 2).values()
    >>> print(skip.round(3), gain.round(3), inside)
    [0.707 0.707] [0.707 0.707] 0.0
    """
    found = shares(plan, depth)
    if profile is not None:
        found = _validate.array("profile", _shares("profile", profile), found.shape)
    if not plan.startswith("pre"):
        return {"skip": jnp.sqrt(1 - found), "gain": jnp.sqrt(found), "inside": jnp.zeros(())}
    before = np.concatenate([[1.0], np.cumprod(1 / (1 - found))[:-1]])
    gain = jnp.asarray(np.sqrt(before * found / (1 - found)))
    return {"skip": jnp.ones(depth), "gain": gain, "inside": jnp.ones(())}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Means:
    """The mean of one coordinate over t tokens on the sphere of radius √d, scaled to variance 1.

    Attributes
    ----------
    d : int
        Dimension.
    tokens : int
        Their number t.

    Examples
    --------
    >>> import jax
    >>> from iclkit.trained import stacks
    >>> inputs, targets = stacks.Means(d=4, tokens=3)(jax.random.key(0), (2, 5))
    >>> inputs.shape, targets.shape
    ((2, 5, 3, 4), (2, 5))
    """

    d: int = field(metadata={"static": True})
    tokens: int = field(metadata={"static": True})

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> Sample:
        """Draw an array of samples."""
        x = _normalise(jax.random.normal(key, (*shape, self.tokens, self.d)))
        return Sample(x, self.tokens**0.5 * jnp.mean(x[..., 0], axis=-1))
