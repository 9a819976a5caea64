"""Attention that is trained: linear attention in full, and blocks of softmax attention, in JAX.

A model takes prompts (`prompts`) to predictions, read off the last row. As no other row of its
last layer is read, that layer folds: `predict` computes the last row alone, `plain` all rows, as
the models of paper 1 are written; both are the same function of the parameters. Both compute in
the precision of what they are given, and `init` draws in the one that JAX is set to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from iclkit import _validate
from iclkit.trained._jax import jax, jnp, ravel_pytree
from iclkit.trained.prompts import Sample

# Compile a function, and the same function only once: that of one model serves all its networks.
compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = cache(jax.jit)

_EPSILON = 1e-6  # under the root of layer normalisation, as in paper 1's code


def _dense(key: jax.Array, rows: int, columns: int, *, bias: bool = True) -> dict[str, Any]:
    kernel = jax.nn.initializers.lecun_normal()(key, (rows, columns), float)
    return {"kernel": kernel, "bias": jnp.zeros(columns)} if bias else {"kernel": kernel}


def _apply(dense: Any, x: Any) -> Any:
    out = x @ dense["kernel"]
    return out + dense["bias"] if "bias" in dense else out


def _sizes(d: int, width: int | None) -> tuple[int, int]:
    d = _validate.count("d", d)
    return d, d if width is None else _validate.count("width", width)


# Linear attention -----------------------------------------------------------------------------


class Moments(NamedTuple):
    """All that linear attention can know of n prompts.

    Attributes
    ----------
    query : array of shape (n, d + 2)
        (x_q, 0, 1), the last token with a one for the biases.
    second : array of shape (n, d + 2, d + 2)
        Σ z zᵀ over the tokens z = (x, y, 1), the query included.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained.attention import Linear
    >>> query, second = Linear().inputs(np.array([[[1.0, 2.0], [3.0, 0.0]]]))
    >>> query.tolist()
    [[3.0, 0.0, 1.0]]
    >>> second[0].tolist()
    [[10.0, 2.0, 4.0], [2.0, 4.0, 2.0], [4.0, 2.0, 2.0]]
    """

    query: Any
    second: Any


@dataclass(frozen=True)
class Linear:
    """Paper 1's linear attention, with all its matrices and biases.

    Examples
    --------
    >>> import jax
    >>> from iclkit.trained import attention
    >>> model = attention.Linear()
    >>> params = jax.eval_shape(lambda key: model.init(key, d=5), jax.random.key(0))
    >>> sum(leaf.size for leaf in jax.tree.leaves(params)), attention.interpolation_rank(5)
    (111, 47)
    """

    def init(self, key: jax.Array, d: int, width: int | None = None) -> dict[str, Any]:
        """Draw parameters for tokens of dimension d; the width is d by default."""
        d, h = _sizes(d, width)
        *keys, last = jax.random.split(key, 4)
        names = zip(("query", "key", "value"), keys, strict=True)
        return {name: _dense(k, d + 1, h) for name, k in names} | {"readout": _dense(last, h, 1)}

    def inputs(self, prompts: Any) -> Moments:
        """Reduce prompts of shape (n, ell + 1, d + 1) to what `predict` needs of them."""
        z = jnp.concatenate([prompt := jnp.asarray(prompts), jnp.ones_like(prompt[:, :, :1])], 2)
        return Moments(z[:, -1, :], jnp.einsum("nia,nib->nab", z, z))

    def predict(self, params: Any, inputs: Moments) -> Any:
        """Predict n labels, by the folded form."""
        query, key, value = (_augmented(params[name]) for name in ("query", "key", "value"))
        # Never M itself: from left to right, everything is a thin product.
        left = (inputs.query @ query) @ key.T / query.shape[1] ** 0.5
        vector = (value @ params["readout"]["kernel"])[:, 0]
        return jnp.vecdot(left, inputs.second @ vector) + params["readout"]["bias"][0]

    def plain(self, params: Any, prompts: Any) -> Any:
        """Predict the same from the prompts themselves, by the form that computes every row."""
        q, k, v = (_apply(params[name], prompts) for name in ("query", "key", "value"))
        scores = jnp.einsum("nih,njh->nij", q, k) / q.shape[-1] ** 0.5
        return _apply(params["readout"], jnp.einsum("nij,njh->nih", scores, v))[:, -1, 0]


def _augmented(dense: Any) -> Any:
    return jnp.concatenate([dense["kernel"], dense["bias"][None, :]], axis=0)


def couplings(params: Any) -> tuple[Any, Any]:
    """Reduce linear attention to the numbers that its predictions depend on.

    Parameters
    ----------
    params : dict
        Parameters of the linear model, of width h.

    Returns
    -------
    matrix : array of shape (d + 2, d + 2)
        M, of rank at most h, between the last token (x_q, 0, 1) and the others (x, y, 1).
    vector : array of shape (d + 2,)
        v, what is read off each token: the prediction is (x_q, 0, 1)ᵀ M (Σ z zᵀ) v + bias.

    Notes
    -----
    Source: eq-couplings in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import attention
    >>> matrix, vector = attention.couplings(attention.implement(np.eye(2, 3), ell=4))
    >>> matrix.shape, vector.tolist()  # the labels are read off
    ((4, 4), [0.0, 0.0, 1.0, 0.0])
    """
    query, key = _augmented(params["query"]), _augmented(params["key"])
    matrix = query @ key.T / query.shape[1] ** 0.5
    return matrix, (_augmented(params["value"]) @ params["readout"]["kernel"])[:, 0]


def implemented_gamma(params: Any, ell: int) -> np.ndarray:
    """Read off the predictor Γ that linear attention contains.

    Parameters
    ----------
    params : dict
        Parameters of the linear model.
    ell : int
        Context length ℓ, at least 1.

    Returns
    -------
    numpy.ndarray of shape (d, d + 1)
        Γ, such that the prediction is x_qᵀΓh and terms that the reduced model has not: of the
        inputs' second moments among themselves, and of the biases.

    Raises
    ------
    ValueError, TypeError
        If `ell` is outside its range.

    Notes
    -----
    Source: eq-implemented-gamma in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import attention
    >>> gamma = np.array([[1.0, 0.2, 0.3], [0.0, 2.0, 0.5]])
    >>> attention.implemented_gamma(attention.implement(gamma, ell=8), ell=8).round(3)
    array([[1. , 0.2, 0.3],
           [0. , 2. , 0.5]])
    """
    ell = _validate.count("ell", ell)
    matrix, v = (np.asarray(part) for part in couplings(params))
    d = len(v) - 2
    gamma = np.empty((d, d + 1))
    gamma[:, :d] = (matrix[:d, :d] * v[d] + np.outer(matrix[:d, d], v[:d])) * (ell / d)
    gamma[:, d] = matrix[:d, d] * v[d] * ell
    return gamma


def implement(gamma: Any, ell: int) -> dict[str, Any]:
    """Set linear attention by hand so that it computes x_qᵀΓh and nothing else.

    Parameters
    ----------
    gamma : array of shape (d, d + 1)
        The predictor Γ.
    ell : int
        Context length ℓ, at least 1.

    Returns
    -------
    dict
        Parameters of the linear model, of width d; NumPy arrays.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-implemented-gamma in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import backend, data
    >>> from iclkit.fits import features
    >>> from iclkit.trained import attention, prompts
    >>> gamma = np.array([[1.0, 0.2, 0.3], [0.0, 2.0, 0.5]])
    >>> drawn = data.draw_contexts(np.ones((5, 2)), 8, 0.1, backend.streams(0))
    >>> h = data.context_statistic(drawn.tokens, drawn.labels)
    >>> model = attention.Linear()
    >>> found = model.plain(attention.implement(gamma, ell=8), prompts.write(drawn))
    >>> np.allclose(found, features.predict(drawn.query, h, gamma), atol=1e-4)
    True
    """
    gamma, ell = _validate.array("gamma", gamma, (None, None)), _validate.count("ell", ell)
    d = gamma.shape[0]
    gamma = _validate.array("gamma", gamma, (d, d + 1))
    key = np.concatenate([gamma[:, :d] * (d / ell), gamma[:, d:] / ell], axis=1).T * d**0.5
    first = np.eye(d)[:, :1]
    kernels = {"query": np.eye(d + 1, d), "key": key, "value": np.eye(d + 1)[:, -1:] @ first.T}
    params = {name: {"kernel": kernel, "bias": np.zeros(d)} for name, kernel in kernels.items()}
    return params | {"readout": {"kernel": first, "bias": np.zeros(1)}}


def interpolation_rank(d: int, *, mirrored: bool = False) -> int:
    """Count the parameters of linear attention that predictions can tell apart.

    Parameters
    ----------
    d : int
        Dimension, at least 1; the width is d.
    mirrored : bool
        Whether predictions are means over mirror images, see `Mirrored`.

    Returns
    -------
    int
        d² + 4d + 2, the generic rank of the Jacobian of predictions in parameters; of the means,
        d² + d.

    Raises
    ------
    ValueError, TypeError
        If `d` is outside its range.

    Notes
    -----
    Source: eq-interpolation-rank and eq-mirrored-linear in the book.

    Examples
    --------
    >>> from iclkit.trained import attention
    >>> [attention.interpolation_rank(d) for d in (1, 10, 100)]  # of about 3d² parameters
    [7, 142, 10402]
    >>> attention.interpolation_rank(10, mirrored=True)
    110
    """
    d = _validate.count("d", d)
    return d**2 + d if _validate.flag("mirrored", mirrored) else d**2 + 4 * d + 2


# Blocks of softmax attention ------------------------------------------------------------------


@dataclass(frozen=True)
class Blocks:
    """Causal softmax attention, `depth` times; each time normalised.

    Attributes
    ----------
    depth : int
        Number of blocks, at least 1.
    mlp : bool
        Whether each has a multilayer perceptron, a single dense layer as in paper 1.
    attention_residual, mlp_residual : bool
        Whether each adds to the result of its attention, and to that of its perceptron, what these
        were given.
    second_norm : bool
        Whether a block without perceptron adds to its normalised rows what they were before, and
        normalises again, as paper 1's code does: N₂(u + N₁(u)).

    Notes
    -----
    Source: eq-softmax-block in the book.

    Examples
    --------
    >>> import jax
    >>> from iclkit.trained import attention
    >>> model = attention.Blocks(depth=2, mlp=False)
    >>> params = jax.eval_shape(lambda key: model.init(key, 5, width=8), jax.random.key(0))
    >>> len(params["blocks"]), params["embedding"]["kernel"].shape
    (2, (6, 8))
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))
    513
    """

    depth: int
    mlp: bool = True
    attention_residual: bool = True
    mlp_residual: bool = True
    second_norm: bool = True

    def __post_init__(self) -> None:
        """Check the attributes."""
        _validate.count("depth", self.depth)
        for name in ("mlp", "attention_residual", "mlp_residual", "second_norm"):
            _validate.flag(name, getattr(self, name))
        unused = "second_norm" if self.mlp else "mlp_residual"
        if not getattr(self, unused):
            raise ValueError(f"{unused} must be True where mlp is {self.mlp}, got False")

    def init(self, key: jax.Array, d: int, width: int | None = None) -> dict[str, Any]:
        """Draw parameters for tokens of dimension d; the width is d by default."""
        d, h = _sizes(d, width)
        first, last, *keys = jax.random.split(key, 2 + self.depth)
        blocks = []
        for block in keys:
            *parts, mlp = jax.random.split(block, 4)
            names = zip(("query", "key", "value"), parts, strict=True)
            params = {name: _dense(k, h, h, bias=False) for name, k in names}
            params["norm"] = {"scale": jnp.ones(h), "bias": jnp.zeros(h)}
            if self.mlp:
                params["mlp"] = _dense(mlp, h, h)
            if self.second_norm:
                params["second_norm"] = {"scale": jnp.ones(h), "bias": jnp.zeros(h)}
            blocks.append(params)
        embedding, readout = _dense(first, d + 1, h), _dense(last, h, 1)
        return {"embedding": embedding, "blocks": blocks, "readout": readout}

    def inputs(self, prompts: Any) -> Any:
        """Give `predict` the prompts as they are, of shape (n, ell + 1, d + 1)."""
        return jnp.asarray(prompts)

    def predict(self, params: Any, inputs: Any) -> Any:
        """Predict n labels, by the folded form."""
        *blocks, last = params["blocks"]
        tokens, dense = inputs, params["embedding"]
        if blocks:
            tokens = _apply(dense, tokens)
            for block in blocks:
                tokens = self._block(block, tokens)
            h = tokens.shape[-1]
            dense = {"kernel": jnp.eye(h, dtype=tokens.dtype), "bias": jnp.zeros(h, tokens.dtype)}
        return _apply(params["readout"], self._last_row(last, tokens, dense))[:, 0]

    def plain(self, params: Any, prompts: Any) -> Any:
        """Predict the same, by the form that computes every row."""
        return _apply(params["readout"], self._rows(params, prompts))[:, -1, 0]

    def _rows(self, params: Any, prompts: Any) -> Any:
        x = _apply(params["embedding"], prompts)
        for block in params["blocks"]:
            x = self._block(block, x)
        return x

    def _block(self, block: Any, x: Any) -> Any:
        q, k, v = (_apply(block[name], x) for name in ("query", "key", "value"))
        scores = jnp.einsum("nih,njh->nij", q, k) / q.shape[-1] ** 0.5
        causal = jnp.tril(jnp.ones(scores.shape[1:], dtype=bool))
        weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
        return self._after_attention(block, x, jnp.einsum("nij,njh->nih", weights, v))

    def _last_row(self, block: Any, tokens: Any, dense: Any) -> Any:
        """Last row of a block whose rows are `dense` of the tokens, which is never formed."""
        last = _apply(dense, tokens[:, -1, :])
        # The bias of `dense` adds the same to all scores, which softmax takes away again.
        asked = (last @ block["query"]["kernel"]) @ block["key"]["kernel"].T @ dense["kernel"].T
        scores = jnp.einsum("nia,na->ni", tokens, asked) / last.shape[-1] ** 0.5
        pooled = jnp.einsum("ni,nia->na", jax.nn.softmax(scores), tokens)
        return self._after_attention(block, last, _apply(dense, pooled) @ block["value"]["kernel"])

    def _after_attention(self, block: Any, x: Any, attended: Any) -> Any:
        u = x + attended if self.attention_residual else attended
        x = _normalise(block["norm"], u)
        if not self.second_norm:
            return x
        out = _apply(block["mlp"], x) if self.mlp else u
        return _normalise(block["second_norm"], x + out if self.mlp_residual else out)


def _normalise(norm: Any, x: Any) -> Any:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + _EPSILON) * norm["scale"] + norm["bias"]


# Mirror images --------------------------------------------------------------------------------

# The signs of the labels and of the query in the four images of a prompt.
_SIGNS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
#: The sign of the target in each, which is odd in both.
ODD = np.array([label * query for label, query in _SIGNS])


def mirror_images(prompts: Any) -> list[Any]:
    """Negate the labels of prompts, their queries, or both: four prompts that are equally likely.

    Parameters
    ----------
    prompts : array of shape (n, ell + 1, d + 1)
        Prompts, see `iclkit.trained.prompts.write`.

    Returns
    -------
    list of four arrays of shape (n, ell + 1, d + 1)
        The prompts themselves; with −x_q; with −y; and with both. Their targets are those of the
        prompts times `ODD`.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import attention
    >>> images = attention.mirror_images(np.array([[[1.0, 2.0], [3.0, 0.0]]]))
    >>> [image[0].tolist() for image in images[1:3]]
    [[[1.0, 2.0], [-3.0, 0.0]], [[1.0, -2.0], [3.0, 0.0]]]
    >>> attention.ODD.tolist()
    [1, -1, -1, 1]
    """
    images = []
    for label, query in _SIGNS:
        signs = np.ones(prompts.shape[1:])
        signs[:-1, -1] *= label
        signs[-1, :-1] *= query
        images.append(prompts * signs.astype(prompts.dtype))
    return images


@dataclass(frozen=True)
class Mirrored:
    """The mean of a model's predictions over the mirror images of a prompt.

    It is the part that is odd in the labels and in the query, as the target is.

    Attributes
    ----------
    model : Linear or Blocks
        The model, whose parameters it has.

    Notes
    -----
    Source: eq-mirror-average in the book.

    Examples
    --------
    >>> import jax
    >>> import numpy as np
    >>> from iclkit.trained import attention
    >>> model = attention.Mirrored(attention.Linear())
    >>> params = model.init(jax.random.key(0), d=2)
    >>> prompts = np.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 0.0]]])
    >>> images = attention.mirror_images(prompts)
    >>> found = [float(model.predict(params, model.inputs(image))[0]) for image in images]
    >>> np.allclose(found, attention.ODD * found[0]) and found[0] != 0
    True
    """

    model: Linear | Blocks

    def init(self, key: jax.Array, d: int, width: int | None = None) -> dict[str, Any]:
        """Draw parameters as those of the model."""
        return self.model.init(key, d, width)

    def inputs(self, prompts: Any) -> Any:
        """Give `predict` what the model needs of the four images, along the second axis."""
        images = [self.model.inputs(image) for image in mirror_images(prompts)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *images)

    def predict(self, params: Any, inputs: Any) -> Any:
        """Predict n labels, by the folded form."""
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), inputs)
        return jnp.mean(self.model.predict(params, flat).reshape(-1, 4) * ODD, axis=1)

    def plain(self, params: Any, prompts: Any) -> Any:
        """Predict the same, by the form that computes every row."""
        images = mirror_images(prompts)
        return sum(
            sign * self.model.plain(params, image) / 4
            for sign, image in zip(ODD.tolist(), images, strict=True)
        )


#: The models by the names that sweeps store.
MODELS = {
    "linear": Linear(),
    "one-block": Blocks(1, mlp=False),
    "softmax": Blocks(1, mlp=False, second_norm=False),
    "two-blocks": Blocks(2),
    "three-blocks": Blocks(3),
    "four-blocks": Blocks(4),
    "two-blocks-mlp-residual": Blocks(2, attention_residual=False),
    "two-blocks-bare": Blocks(2, attention_residual=False, mlp_residual=False),
    "linear-mirrored": Mirrored(Linear()),
    "one-block-mirrored": Mirrored(Blocks(1, mlp=False)),
}


# What a model can tell apart, and the parts of its error ---------------------------------------


def jacobian(predict: Callable[[Any, Any], Any], params: Any, inputs: Any) -> Any:
    """Differentiate every prediction in every parameter.

    Parameters
    ----------
    predict : callable
        ``predict(params, inputs)`` of a model.
    params, inputs : pytrees of arrays
        Parameters, P numbers in all, and inputs with a leading axis of n prompts.

    Returns
    -------
    jax.Array of shape (n, P)
        One gradient a row, parameters in the order of ``jax.flatten_util.ravel_pytree``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from iclkit.trained import attention
    >>> def predict(params, inputs):
    ...     return inputs @ params["slope"] + params["bias"]
    >>> params = {"bias": jnp.zeros(()), "slope": jnp.ones(2)}
    >>> attention.jacobian(predict, params, jnp.array([[3.0, 4.0], [5.0, 6.0]])).tolist()
    [[1.0, 3.0, 4.0], [1.0, 5.0, 6.0]]
    """
    flat, restore = ravel_pytree(params)

    def one(flat: Any, single: Any) -> Any:
        return predict(restore(flat), jax.tree.map(lambda leaf: leaf[None], single))[0]

    return jax.vmap(jax.grad(one), (None, 0))(flat, inputs)


class ErrorParts(NamedTuple):
    """A test error, split by symmetry; the attributes add up to it.

    Attributes
    ----------
    signal : float
        Error of the part that is odd in the labels and odd in the query, as the target is; the
        label noise ρ included.
    odd_even, even_odd, even_even : float
        Variance of the three other parts, with the symmetry in the labels named first, then that
        in the query. Against an odd target, they are all loss.

    Examples
    --------
    >>> from iclkit.trained.attention import ErrorParts
    >>> parts = ErrorParts(signal=0.5, odd_even=0.125, even_odd=0.0, even_even=0.25)
    >>> sum(parts)
    0.875
    """

    signal: float
    odd_even: float
    even_odd: float
    even_even: float


def error_parts(
    model: Linear | Blocks | Mirrored, params: Any, test: Sample, rho: float
) -> ErrorParts:
    """Measure a test error on given prompts, each with all its mirror images, in double precision.

    Parameters
    ----------
    model : Linear, Blocks or Mirrored
        The model.
    params : pytree of arrays
        Its parameters.
    test : Sample
        n prompts, and the labels of their queries without noise; NumPy arrays.
    rho : float
        Variance of the label noise, which is averaged exactly; at least 0.

    Returns
    -------
    ErrorParts
        The mean over the prompts and their images under y → −y and x_q → −x_q, which have the
        same law; their sum is the mean squared error plus ρ.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-error-parts in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import backend, data
    >>> from iclkit.trained import attention, prompts
    >>> w = data.draw_tasks(100, 3, (streams := backend.streams(0)).tasks)
    >>> drawn = data.draw_contexts(w, 6, 0.1, streams)
    >>> test = prompts.Sample(prompts.write(drawn), (drawn.query * w).sum(axis=1))
    >>> params = attention.implement(0.5 * np.eye(3, 4), ell=6)
    >>> parts = attention.error_parts(attention.Linear(), params, test, rho=0.1)
    >>> print(round(parts.odd_even, 6), round(parts.even_odd, 6), round(parts.even_even, 6))
    0.0 0.0 0.0
    """
    rho = _validate.scalar(_validate.nonnegative, "rho", rho)
    for name in ("inputs", "predict"):
        _validate.function(f"model.{name}", getattr(model, name, None))
    _validate.instance("test", test, Sample, "an iclkit.trained.prompts.Sample")
    prompts = _validate.array("test.inputs", test.inputs, (None, None, None))
    target = _validate.array("test.targets", test.targets, prompts.shape[:1])
    with jax.enable_x64(True):
        images = [compiled(model.predict)(params, model.inputs(x)) for x in mirror_images(prompts)]
    f = np.asarray(images).reshape(2, 2, -1)
    odd = (f[:, 0] - f[:, 1]) / 2  # in the query
    even = (f[:, 0] + f[:, 1]) / 2
    others = (even[0] - even[1]) / 2, (odd[0] + odd[1]) / 2, (even[0] + even[1]) / 2
    return ErrorParts(
        rho + float(np.mean(((odd[0] - odd[1]) / 2 - target) ** 2)),
        *(float(np.mean(part**2)) for part in others),
    )
