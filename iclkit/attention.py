"""Attention that is trained: linear attention in full, and blocks of softmax attention, in JAX.

A prompt is a context and its query as the rows of one matrix, (xᵢ, yᵢ) and last (x_q, 0). A model
takes prompts to predictions, read off the last row. As no other row of its last layer is read,
that layer folds: `predict` computes the last row alone, `plain` all rows, as the models of paper 1
are written; both are the same function of the parameters.

Importing this module switches JAX to double precision, which thresholds and ranks need.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

# Products of networks this small gain nothing from threads, and with one thread a seed has one
# result on any number of cores. XLA reads this once, when it starts.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from iclkit import _validate
from iclkit.contexts import Contexts

jax.config.update("jax_enable_x64", True)

_EPSILON = 1e-6  # under the root of layer normalisation, as in paper 1's code


class Model(NamedTuple):
    """A family of functions of a prompt.

    Attributes
    ----------
    init : callable
        ``init(key, d)`` draws parameters for tokens of dimension d; ``width=`` sets the width h,
        which is d by default.
    inputs : callable
        ``inputs(prompts)`` is what `predict` needs of prompts of shape (n, ℓ + 1, d + 1).
    predict : callable
        ``predict(params, inputs)`` gives n predictions, by the folded form.
    plain : callable
        ``plain(params, prompts)`` gives the same, by the form that computes every row.
    """

    init: Callable[..., Any]
    inputs: Callable[[Any], Any]
    predict: Callable[[Any, Any], Any]
    plain: Callable[[Any, Any], Any]


def prompts(contexts: Contexts) -> np.ndarray:
    """Write contexts and their queries as matrices of tokens.

    Parameters
    ----------
    contexts : Contexts
        n contexts, see `iclkit.contexts.draw_contexts`; NumPy arrays.

    Returns
    -------
    numpy.ndarray of shape (n, ell + 1, d + 1)
        Rows (xᵢ, yᵢ), and last (x_q, 0).

    Notes
    -----
    Source: eq-prompt in the book.
    """
    n, ell, d = contexts.tokens.shape
    prompt = np.zeros((n, ell + 1, d + 1))
    prompt[:, :ell, :d], prompt[:, :ell, d] = contexts.tokens, contexts.labels
    prompt[:, ell, :d] = contexts.query
    return prompt


# Linear attention -----------------------------------------------------------------------------


class Moments(NamedTuple):
    """All that linear attention can know of n prompts.

    Attributes
    ----------
    query : array of shape (n, d + 2)
        (x_q, 0, 1), the last token with a one for the biases.
    second : array of shape (n, d + 2, d + 2)
        Σ z zᵀ over the tokens z = (x, y, 1), the query included.
    """

    query: Any
    second: Any


def _dense(key: Any, rows: int, columns: int, *, bias: bool = True) -> dict[str, Any]:
    kernel = jax.nn.initializers.lecun_normal()(key, (rows, columns), jnp.float64)
    return {"kernel": kernel, "bias": jnp.zeros(columns)} if bias else {"kernel": kernel}


def _linear_init(key: Any, d: int, *, width: int | None = None) -> dict[str, Any]:
    h, names = width or d, ("query", "key", "value")
    keys = jax.random.split(key, 4)
    params = {name: _dense(k, d + 1, h) for name, k in zip(names, keys[:3], strict=True)}
    return params | {"readout": _dense(keys[3], h, 1)}


def _linear_plain(params: Any, prompt: Any) -> Any:
    q, k, v = (_apply(params[name], prompt) for name in ("query", "key", "value"))
    scores = jnp.einsum("nih,njh->nij", q, k) / q.shape[-1] ** 0.5
    return _apply(params["readout"], jnp.einsum("nij,njh->nih", scores, v))[:, -1, 0]


def _apply(dense: Any, x: Any) -> Any:
    out = x @ dense["kernel"]
    return out + dense["bias"] if "bias" in dense else out


def _moments(prompt: Any) -> Moments:
    z = jnp.concatenate([prompt, jnp.ones_like(prompt[:, :, :1])], axis=2)
    return Moments(z[:, -1, :], jnp.einsum("nia,nib->nab", z, z))


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
    """
    query, key = _augmented(params["query"]), _augmented(params["key"])
    matrix = query @ key.T / query.shape[1] ** 0.5
    return matrix, (_augmented(params["value"]) @ params["readout"]["kernel"])[:, 0]


def _linear_predict(params: Any, moments: Moments) -> Any:
    query, key = _augmented(params["query"]), _augmented(params["key"])
    # Never M itself: from left to right, everything is a thin product.
    left = (moments.query @ query) @ key.T / query.shape[1] ** 0.5
    vector = (_augmented(params["value"]) @ params["readout"]["kernel"])[:, 0]
    return jnp.vecdot(left, moments.second @ vector) + params["readout"]["bias"][0]


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
        Parameters of the linear model, of width d.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-implemented-gamma in the book.
    """
    gamma, ell = _validate.array("gamma", gamma, (None, None)), _validate.count("ell", ell)
    d = gamma.shape[0]
    gamma = _validate.array("gamma", gamma, (d, d + 1))
    key = np.concatenate([gamma[:, :d] * (d / ell), gamma[:, d:] / ell], axis=1).T * d**0.5
    first = np.eye(d)[:, :1]
    kernels = {"query": np.eye(d + 1, d), "key": key, "value": np.eye(d + 1)[:, -1:] @ first.T}
    params = {name: {"kernel": jnp.asarray(k), "bias": jnp.zeros(d)} for name, k in kernels.items()}
    return params | {"readout": {"kernel": jnp.asarray(first), "bias": jnp.zeros(1)}}


def interpolation_rank(d: int) -> int:
    """Count the parameters of linear attention that predictions can tell apart.

    Parameters
    ----------
    d : int
        Dimension, at least 1; the width is d.

    Returns
    -------
    int
        d² + 4d + 2, the generic rank of the Jacobian of predictions in parameters.

    Raises
    ------
    ValueError, TypeError
        If `d` is outside its range.

    Notes
    -----
    Source: eq-interpolation-rank in the book.
    """
    d = _validate.count("d", d)
    return d**2 + 4 * d + 2


# Blocks of softmax attention ------------------------------------------------------------------


def _blocks_init(
    key: Any, d: int, *, depth: int, mlp: bool, width: int | None = None
) -> dict[str, Any]:
    h = width or d
    first, last, *keys = jax.random.split(key, 2 + depth)
    blocks = []
    for block in keys:
        parts = jax.random.split(block, 4)
        names = ("query", "key", "value")
        params = {n: _dense(k, h, h, bias=False) for n, k in zip(names, parts[:3], strict=True)}
        params["norm"] = {"scale": jnp.ones(h), "bias": jnp.zeros(h)}
        if mlp:
            params["mlp"] = _dense(parts[3], h, h)
            params["mlp_norm"] = {"scale": jnp.ones(h), "bias": jnp.zeros(h)}
        blocks.append(params)
    return {"embedding": _dense(first, d + 1, h), "blocks": blocks, "readout": _dense(last, h, 1)}


def _normalise(norm: Any, x: Any) -> Any:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + _EPSILON) * norm["scale"] + norm["bias"]


def _after_attention(block: Any, x: Any, attended: Any, residual: bool) -> Any:
    x = _normalise(block["norm"], x + attended if residual else attended)
    if "mlp" in block:
        out = _apply(block["mlp"], x)
        x = _normalise(block["mlp_norm"], x + out if residual else out)
    return x


def _block(block: Any, x: Any, residual: bool) -> Any:
    q, k, v = (_apply(block[name], x) for name in ("query", "key", "value"))
    scores = jnp.einsum("nih,njh->nij", q, k) / q.shape[-1] ** 0.5
    causal = jnp.tril(jnp.ones(scores.shape[1:], dtype=bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
    return _after_attention(block, x, jnp.einsum("nij,njh->nih", weights, v), residual)


def _last_row(block: Any, tokens: Any, dense: Any, residual: bool) -> Any:
    """Last row of a block whose rows are `dense` of the tokens, which is never formed."""
    last = _apply(dense, tokens[:, -1, :])
    # The bias of `dense` adds the same to all scores, which softmax takes away again.
    asked = (last @ block["query"]["kernel"]) @ block["key"]["kernel"].T @ dense["kernel"].T
    scores = jnp.einsum("nia,na->ni", tokens, asked) / last.shape[-1] ** 0.5
    pooled = jnp.einsum("ni,nia->na", jax.nn.softmax(scores), tokens)
    return _after_attention(block, last, _apply(dense, pooled) @ block["value"]["kernel"], residual)


def _blocks_predict(params: Any, prompt: Any, *, residual: bool) -> Any:
    *blocks, last = params["blocks"]
    tokens, dense = prompt, params["embedding"]
    if blocks:
        tokens = _apply(dense, tokens)
        for block in blocks:
            tokens = _block(block, tokens, residual)
        h = tokens.shape[-1]
        dense = {"kernel": jnp.eye(h, dtype=tokens.dtype), "bias": jnp.zeros(h, tokens.dtype)}
    return _apply(params["readout"], _last_row(last, tokens, dense, residual))[:, 0]


def _blocks_plain(params: Any, prompt: Any, *, residual: bool) -> Any:
    x = _apply(params["embedding"], prompt)
    for block in params["blocks"]:
        x = _block(block, x, residual)
    return _apply(params["readout"], x)[:, -1, 0]


def _blocks(depth: int, *, mlp: bool, residual: bool = True) -> Model:
    return Model(
        partial(_blocks_init, depth=depth, mlp=mlp),
        jnp.asarray,
        partial(_blocks_predict, residual=residual),
        partial(_blocks_plain, residual=residual),
    )


#: The models by name. "linear" is paper 1's full linear attention, "softmax" one block without a
#: multilayer perceptron, "two-blocks" and "three-blocks" have one, a single dense layer as in paper
#: 1, "two-blocks-bare" lacks the residual connections.
MODELS = {
    "linear": Model(_linear_init, _moments, _linear_predict, _linear_plain),
    "softmax": _blocks(1, mlp=False),
    "two-blocks": _blocks(2, mlp=True),
    "three-blocks": _blocks(3, mlp=True),
    "two-blocks-bare": _blocks(2, mlp=True, residual=False),
}


# What a model can tell apart, and the parts of its error ---------------------------------------


def jacobian(predict: Callable[[Any, Any], Any], params: Any, inputs: Any) -> Any:
    """Differentiate every prediction in every parameter.

    Parameters
    ----------
    predict : callable
        ``predict(params, inputs)``, see `Model`.
    params, inputs : pytrees of arrays
        Parameters, P numbers in all, and inputs with a leading axis of n prompts.

    Returns
    -------
    jax.Array of shape (n, P)
        One gradient a row, parameters in the order of ``jax.flatten_util.ravel_pytree``.
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
    """

    signal: float
    odd_even: float
    even_odd: float
    even_even: float


def error_parts(model: Model, params: Any, contexts: Contexts, w: Any, rho: float) -> ErrorParts:
    """Measure a test error on given contexts, each with all its mirror images.

    Parameters
    ----------
    model : Model
        A member of `MODELS`.
    params : pytree of arrays
        Its parameters.
    contexts : Contexts
        n contexts with queries; their targets are not used.
    w : array of shape (n, d)
        The task of each, so that the noise of the target is averaged exactly.
    rho : float
        Variance of the label noise, at least 0.

    Returns
    -------
    ErrorParts
        The mean over the contexts and their images under y → −y and x_q → −x_q, which have the
        same law; their sum is the mean squared error plus ρ.

    Raises
    ------
    ValueError, TypeError
        If `rho` is outside its range.

    Notes
    -----
    Source: eq-error-parts in the book.
    """
    rho = _validate.scalar(_validate.nonnegative, "rho", rho)
    target = np.einsum("nd,nd->n", contexts.query, w)
    f = np.empty((2, 2, len(target)))
    predict = jax.jit(model.predict)
    for i, label in enumerate((1, -1)):
        for j, query in enumerate((1, -1)):
            image = contexts._replace(labels=label * contexts.labels, query=query * contexts.query)
            f[i, j] = predict(params, model.inputs(prompts(image)))
    odd = (f[:, 0] - f[:, 1]) / 2  # in the query
    even = (f[:, 0] + f[:, 1]) / 2
    return ErrorParts(
        rho + float(np.mean(((odd[0] - odd[1]) / 2 - target) ** 2)),
        *(
            float(np.mean(part**2))
            for part in ((even[0] - even[1]) / 2, (odd[0] + odd[1]) / 2, (even[0] + even[1]) / 2)
        ),
    )
