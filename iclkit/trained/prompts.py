"""What networks learn from: prompts, that is contexts and queries as matrices of tokens.

A prompt's rows are (xᵢ, yᵢ), and last (x_q, 0). The classes here are samplers: called as
``draw(key, shape)``, they give prompts with the leading axes `shape`. They are pytrees, so that
what is compiled for one serves all that differ in their arrays alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from iclkit import _validate
from iclkit.data.contexts import Contexts
from iclkit.trained._jax import jax, jnp


class Sample(NamedTuple):
    """Prompts, in any number of leading axes, and the labels to be predicted.

    Attributes
    ----------
    inputs : pytree of arrays
        What a model needs of the prompts, or the prompts themselves.
    targets : array
        The labels of the queries.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from iclkit.trained import prompts
    >>> sample = prompts.Sample(jnp.ones((4, 3, 2)), jnp.arange(4.0))
    >>> jax.tree.map(lambda leaf: leaf[:2], sample).targets.tolist()  # a pytree
    [0.0, 1.0]
    """

    inputs: Any
    targets: Any


def write(contexts: Contexts) -> np.ndarray:
    """Write contexts and their queries as matrices of tokens.

    Parameters
    ----------
    contexts : Contexts
        n contexts, see `iclkit.data.draw_contexts`; NumPy arrays.

    Returns
    -------
    numpy.ndarray of shape (n, ell + 1, d + 1)
        Rows (xᵢ, yᵢ), and last (x_q, 0).

    Raises
    ------
    TypeError
        If `contexts` are none.

    Notes
    -----
    Source: eq-prompt in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import prompts
    >>> from iclkit.data.contexts import Contexts
    >>> tokens, labels = np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([[5.0, 6.0]])
    >>> print(prompts.write(Contexts(tokens, labels, np.array([[7.0, 8.0]]), np.array([9.0])))[0])
    [[1. 2. 5.]
     [3. 4. 6.]
     [7. 8. 0.]]
    """
    _validate.instance("contexts", contexts, Contexts, "what iclkit.data.draw_contexts returns")
    n, ell, d = contexts.tokens.shape
    prompts = np.zeros((n, ell + 1, d + 1))
    prompts[:, :ell, :d], prompts[:, :ell, d] = contexts.tokens, contexts.labels
    prompts[:, ell, :d] = contexts.query
    return prompts


# Samplers -------------------------------------------------------------------------------------


def _fixed(**options: Any) -> Any:
    """Mark what is part of the compiled program."""
    return field(metadata={"static": True}, **options)


def _prompts(x: Any, shown: Any) -> Any:
    return jnp.concatenate([x, shown.at[..., -1].set(0)[..., None]], axis=-1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Fixed:
    """Minibatches of one sample of n prompts.

    A prompt is in no two of those drawn together; where they `overlap`, each is drawn by itself,
    and a prompt is at most once in each. A minibatch of all n is not shuffled.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from iclkit.trained import prompts
    >>> draw = prompts.Fixed(prompts.Sample(jnp.arange(6.0), jnp.arange(6.0)))
    >>> sorted(draw(jax.random.key(0), (3, 2)).targets.ravel().tolist())  # one pass
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    >>> draw(jax.random.key(0), (1, 6)).targets[0].tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """

    sample: Sample
    overlap: bool = _fixed(default=False)

    def __call__(self, key: jax.Array, shape: tuple[int, int]) -> Sample:
        """Draw; what does not fill a minibatch rests."""
        n = self.sample.targets.shape[0]
        drawn: Sample
        if shape == (1, n):
            drawn = jax.tree.map(lambda leaf: leaf[None], self.sample)
            return drawn
        if (shape[1] if self.overlap else shape[0] * shape[1]) > n:
            raise ValueError(f"shape must hold at most the n = {n} prompts there are, got {shape}")
        if self.overlap:
            rows = _subsets(key, n, shape)
        else:
            rows = jax.random.permutation(key, n)[: shape[0] * shape[1]].reshape(shape)
        drawn = jax.tree.map(lambda leaf: leaf[rows], self.sample)
        return drawn


def _subsets(key: jax.Array, n: int, shape: tuple[int, int]) -> jax.Array:
    """Draw subsets of n numbers by Floyd's algorithm, ten times as fast as by sorting."""
    count, size = shape
    last = jnp.arange(n - size, n)
    picks = jax.random.randint(key, (size, count), 0, last[:, None] + 1)

    def add(chosen: Any, row: Any) -> tuple[Any, None]:
        i, last, pick = row
        taken = jnp.any(chosen == pick, axis=0)
        return chosen.at[i].set(jnp.where(taken, last, pick)), None

    none = jnp.full_like(picks, -1)
    return jax.lax.scan(add, none, (jnp.arange(size), last, picks))[0].T


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Listed:
    """New contexts of length ℓ, with tasks picked at random from a list, and noise of variance ρ.

    The queries' labels have noise like the others.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from iclkit.trained import prompts
    >>> draw = prompts.Listed(jnp.array([[1.0], [-1.0]]), ell=4, rho=0.0)
    >>> inputs, targets = jax.jit(lambda key: draw(key, (3,)))(jax.random.key(0))
    >>> bool((abs(inputs[:, :4, 1]) == abs(inputs[:, :4, 0])).all())  # y = x or y = −x
    True
    """

    tasks: Any  # of shape (k, d)
    ell: int = _fixed()
    rho: float = _fixed()

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> Sample:
        """Draw, in the precision of the tasks."""
        (k, d), dtype = self.tasks.shape, self.tasks.dtype
        picks, tokens, noise = jax.random.split(key, 3)
        w = self.tasks[jax.random.randint(picks, shape, 0, k)]
        x = jax.random.normal(tokens, (*shape, self.ell + 1, d), dtype) / d**0.5
        y = jnp.einsum("...id,...d->...i", x, w)
        y += self.rho**0.5 * jax.random.normal(noise, y.shape, dtype)
        return Sample(_prompts(x, y), y[..., -1])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Fresh:
    """New contexts of length ℓ and dimension d, each with a Gaussian task of its own.

    The queries' labels have no noise: it would only blur the gradient.

    Examples
    --------
    >>> import jax
    >>> from iclkit.trained import prompts
    >>> draw = prompts.Fresh(d=3, ell=6, rho=0.1, dtype="float32")
    >>> inputs, targets = jax.eval_shape(lambda key: draw(key, (10, 64)), jax.random.key(0))
    >>> inputs.shape, targets.shape
    ((10, 64, 7, 4), (10, 64))
    """

    d: int = _fixed()
    ell: int = _fixed()
    rho: float = _fixed()
    dtype: str = _fixed()

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> Sample:
        """Draw."""
        tasks, tokens, noise = jax.random.split(key, 3)
        w = jax.random.normal(tasks, (*shape, self.d), self.dtype)
        x = jax.random.normal(tokens, (*shape, self.ell + 1, self.d), self.dtype) / self.d**0.5
        y = jnp.einsum("...id,...d->...i", x, w)
        noise = self.rho**0.5 * jax.random.normal(noise, (*shape, self.ell), self.dtype)
        return Sample(_prompts(x, y.at[..., :-1].add(noise)), y[..., -1])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rotated:
    """New contexts of length ℓ with a power law in axes of their own, and labels without noise.

    The covariance of a context's tokens is Q Λ Qᵀ, with a rotation Q from a pool. The label has
    the variance `weights` along the columns of Q.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from iclkit.trained import prompts
    >>> pool = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    >>> law = jnp.array([1.0, 0.5])
    >>> draw = prompts.Rotated(pool, law, law, ell=3)
    >>> inputs, targets = jax.eval_shape(lambda key: draw(key, (5,)), jax.random.key(0))
    >>> inputs.shape, targets.shape
    ((5, 4, 3), (5,))
    """

    pool: Any  # of shape (rotations, D, D)
    spectrum: Any  # Λ, of shape (D,)
    weights: Any  # of shape (D,)
    ell: int = _fixed()

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> Sample:
        """Draw, in the precision of the pool."""
        picks, tokens, tasks = jax.random.split(key, 3)
        turn = self.pool[jax.random.randint(picks, shape, 0, len(self.pool))]
        D, dtype = self.pool.shape[-1], self.pool.dtype
        g = jax.random.normal(tokens, (*shape, self.ell + 1, D), dtype)
        z = jax.random.normal(tasks, (*shape, D), dtype)
        x = jnp.einsum("...ij,...kj->...ik", g * jnp.sqrt(self.spectrum), turn)
        y = jnp.einsum("...ij,...j->...i", g, jnp.sqrt(self.weights) * z)
        return Sample(_prompts(x, y), y[..., -1])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Grams:
    """What gradient steps need of new contexts of length ℓ: covariances S and products Σ yᵢxᵢ/ℓ.

    In the axes of S = E x xᵀ; `rest` of the label's variance lies beyond them. The targets are
    √Λ w, whose square is the label's variance along each axis.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from iclkit.trained import prompts
    >>> draw = prompts.Grams(jnp.array([1.0, 0.5]), jnp.array([1.0, 0.25]), rest=0.0, ell=100)
    >>> (S, product), targets = jax.eval_shape(lambda key: draw(key, (64,)), jax.random.key(0))
    >>> S.shape, product.shape, targets.shape
    ((64, 2, 2), (64, 2), (64, 2))
    """

    spectrum: Any  # Λ, of shape (d,)
    weights: Any  # the label's variance along each, of shape (d,)
    rest: float = _fixed()
    ell: int = _fixed()  # at least d

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> Sample:
        """Draw, in the precision of the spectrum."""
        d, dtype = self.spectrum.size, self.spectrum.dtype
        below, diagonal, tasks, beyond = jax.random.split(key, 4)
        # Bartlett: the Gram matrix of ℓ Gaussian vectors is A Aᵀ, with A triangular.
        A = jnp.tril(jax.random.normal(below, (*shape, d, d), dtype), -1)
        freedom = self.ell - jnp.arange(d, dtype=dtype)
        chi = jnp.sqrt(jax.random.chisquare(diagonal, freedom, (*shape, d), dtype))
        A = jnp.sqrt(self.spectrum / self.ell)[:, None] * (
            A + chi[..., None] * jnp.eye(d, dtype=dtype)
        )
        w = jnp.sqrt(self.weights / self.spectrum) * jax.random.normal(tasks, (*shape, d), dtype)
        noise = (self.rest / self.ell) ** 0.5 * jax.random.normal(beyond, (*shape, d), dtype)
        product = jnp.einsum("...ij,...j->...i", A, jnp.einsum("...ji,...j->...i", A, w) + noise)
        return Sample((A @ A.mT, product), jnp.sqrt(self.spectrum) * w)
