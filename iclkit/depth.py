"""Trained depth: whether L layers find the gradient steps that L layers could make.

A network is L step sizes, one for all layers or one for each, or L layers of linear attention
with all their matrices. It is trained on contexts that are new at every step, and the step that
each of its layers makes is read off its parameters.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from iclkit import _validate, backend
from iclkit.attention import prompts
from iclkit.contexts import draw_contexts
from iclkit.descent import deep_attention, descent_layers
from iclkit.tasks import draw_tasks
from iclkit.train import Recipe, Sample, first, train

LAYERS = ("scalar-tied", "scalar", "full")
STARTS = ("equal", "random")

_TESTS = 128_000  # over d: small dimensions have rare contexts that weigh much


def initial(key: Any, layers: str, start: str, depth: int, d: int) -> dict[str, Any]:
    """Draw a network that is not trained yet.

    Parameters
    ----------
    key : jax.Array
        Random key.
    layers : {"scalar-tied", "scalar", "full"}
        One step size for all layers, one for each, or all matrices of `deep_attention`.
    start : {"equal", "random"}
        Every layer makes a gradient step of size 1/L; or step sizes are uniform between 0 and
        2/L, and the matrices of a full network have Gaussian entries of variance 1/(4 (d + 1)).
    depth : int
        Number of layers L, at least 1.
    d : int
        Dimension, at least 1.

    Returns
    -------
    dict
        `steps` of shape () or (L,), or `between` and `value` of shape (L, d + 1, d + 1).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.
    """
    _validate.choice("layers", layers, LAYERS)
    equal = _validate.choice("start", start, STARTS) == "equal"
    depth, d = _validate.count("depth", depth), _validate.count("d", d)
    if layers != "full":
        shape = () if layers == "scalar-tied" else (depth,)
        drawn = jax.random.uniform(key, shape, maxval=2.0)
        return {"steps": jnp.where(equal, 1.0, drawn) / depth}
    if equal:
        pairs = zip(*descent_layers(np.full(depth, 1 / depth), d), strict=True)
        between, value = (jnp.asarray(np.stack(matrices)) for matrices in pairs)
    else:
        between, value = jax.random.normal(key, (2, depth, d + 1, d + 1)) / (2 * (d + 1) ** 0.5)
    return {"between": between, "value": value}


def predict(params: dict[str, Any], prompts: Any, depth: int) -> Any:
    """Predict the labels of queries.

    Parameters
    ----------
    params : dict
        A network, as `initial` returns it.
    prompts : array of shape (n, ell + 1, d + 1)
        Contexts and queries, see `iclkit.attention.prompts`.
    depth : int
        Number of layers L, at least 1.

    Returns
    -------
    array of shape (n,)
        The predictions. Step sizes are those of `iclkit.descent.descent_layers`.
    """
    if "steps" not in params:
        layers = [(params["between"][i], params["value"][i]) for i in range(depth)]
        return deep_attention(layers, prompts)
    tokens, labels, query = prompts[:, :-1, :-1], prompts[:, :-1, -1], prompts[:, -1, :-1]
    found, scale = jnp.zeros_like(query), query.shape[1] / labels.shape[1]
    for step in jnp.broadcast_to(params["steps"], (depth,)):
        # Sums of products are compiled to faster code than as many small matrix products.
        residual = labels - jnp.sum(tokens * found[:, None, :], axis=2)
        found = found + step * scale * jnp.sum(tokens * residual[:, :, None], axis=1)
    return jnp.sum(query * found, axis=1)


class Reading(NamedTuple):
    """What the layers of a network do, one number of each kind for a layer.

    Attributes
    ----------
    steps : numpy.ndarray of shape (L,)
        Step sizes η_l.
    tokens : numpy.ndarray of shape (L,)
        Factors v_l by which tokens are changed, x ← (I + v_l S) x.
    """

    steps: np.ndarray
    tokens: np.ndarray


def read(params: dict[str, Any], depth: int) -> Reading:
    """Read off what each layer does to labels and to tokens.

    Parameters
    ----------
    params : dict
        A network, as `initial` returns it.
    depth : int
        Number of layers L, at least 1.

    Returns
    -------
    Reading
        Of full layers, the diagonal of `between` for the x, averaged, times the last diagonal
        entry of `value` with a minus sign, and times the others, averaged.

    Notes
    -----
    Source: eq-read-steps in the book.
    """
    if "steps" in params:
        steps = np.broadcast_to(np.asarray(params["steps"]), (depth,))
        return Reading(steps, np.zeros(depth))
    between, value = (
        np.diagonal(np.asarray(params[name]), axis1=1, axis2=2) for name in ("between", "value")
    )
    compared = between[:, :-1].mean(axis=1)
    return Reading(-value[:, -1] * compared, value[:, :-1].mean(axis=1) * compared)


def written(reading: Reading, d: int) -> dict[str, np.ndarray]:
    """Make the network that does what was read off, and nothing else.

    Parameters
    ----------
    reading : Reading
        Step sizes and factors of L layers.
    d : int
        Dimension, at least 1.

    Returns
    -------
    dict
        `between` and `value` of shape (L, d + 1, d + 1), see `initial`.
    """
    layers = descent_layers(reading.steps, d)
    tokens = np.diag([1.0] * d + [0.0])
    return {
        "between": np.stack([between for between, _ in layers]),
        "value": np.stack(
            [value + v * tokens for (_, value), v in zip(layers, reading.tokens, strict=True)]
        ),
    }


def _fresh(like: Any, key: Any, batches: int, *, size: int, ell: int, rho: float) -> Sample:
    """Draw new contexts, each with a Gaussian task of its own."""
    (d,), tasks, tokens, noise = like.shape, *jax.random.split(key, 3)
    w = jax.random.normal(tasks, (batches, size, d), like.dtype)
    x = jax.random.normal(tokens, (batches, size, ell + 1, d), like.dtype) / d**0.5
    y = jnp.einsum("bnid,bnd->bni", x, w)
    # The query's label has no noise: it would only blur the gradient.
    noise = jax.random.normal(noise, (batches, size, ell), like.dtype)
    shown = y.at[:, :, :-1].add(rho**0.5 * noise).at[:, :, -1].set(0)
    prompt = jnp.concatenate([x, shown[..., None]], axis=3)
    return Sample(prompt, y[:, :, -1], jnp.ones((batches, size), like.dtype))


def _sizes(
    *, d: int, alpha: float, rho: float, depth: int, layers: str, start: str, steps: int,
    rate: float = 1e-2, size: int = 128,
) -> int:  # fmt: skip
    d = _validate.count("d", d)
    _validate.scalar(_validate.nonnegative, "rho", rho)
    for name, number in (("depth", depth), ("steps", steps), ("size", size)):
        _validate.count(name, number)
    _validate.finite("rate", rate)
    _validate.choice("layers", layers, LAYERS)
    _validate.choice("start", start, STARTS)
    return _validate.size("alpha", alpha, d, "ell = alpha * d")


def trained_depth(
    seed: int | np.random.SeedSequence,
    *,
    d: int,
    alpha: float,
    rho: float,
    depth: int,
    layers: str,
    start: str,
    steps: int,
    rate: float = 1e-2,
    size: int = 128,
) -> dict[str, float]:
    """Train a network of L layers on new contexts at every step, and read off its gradient steps.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    d : int
        Dimension, at least 1.
    alpha : float
        Context length α = ℓ/d, positive and finite; ℓ is rounded.
    rho : float
        Variance of the label noise, at least 0.
    depth : int
        Number of layers L, at least 1.
    layers, start
        See `initial`.
    steps : int
        Training steps, at least 1; more than 100 are rounded up to hundreds.
    rate : float
        Greatest learning rate, see `iclkit.train.Recipe`.
    size : int
        Contexts of a training step, at least 1.

    Returns
    -------
    dict
        `risk`, the mean of |ŵ − w|²/d over 128,000/d new contexts, and on the same contexts that of
        the network of what is read off, `read_risk`, and of its step sizes alone, `steps_risk`;
        of the step sizes `step_mean`, `step_least` and `step_most`; and `token_first`, the factor
        of the first layer, 0 where there is no other.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or ℓ rounds to 0.
    FloatingPointError
        If the training diverges.
    """
    ell = _sizes(
        d=d, alpha=alpha, rho=rho, depth=depth, layers=layers, start=start, steps=steps,
        rate=rate, size=size,
    )  # fmt: skip
    seeds = [backend.child_seed(seed, key) for key in range(2)]
    key, network = (int(number) for number in seeds[1].generate_state(2))
    params = initial(jax.random.key(network), layers, start, depth, d)
    trained = train(
        partial(predict, depth=depth),
        jax.tree.map(lambda leaf: leaf[None], params),
        jnp.zeros((1, d)),
        Recipe(steps, rate, batches=min(100, steps), decay=0.0, dtype="float32"),
        seed=key,
        draw=partial(_fresh, size=size, ell=ell, rho=rho),
    )
    final = first(trained.params)
    found = read(final, depth)
    streams = backend.streams(seeds[0])
    w = draw_tasks(max(_TESTS // d, 1), d, streams.tasks, prior="gaussian")
    test = jnp.asarray(prompts(draw_contexts(w, ell, rho, streams)))
    networks = {"risk": final}
    if layers == "full":
        alone = Reading(found.steps, np.zeros(depth))
        networks |= {"read_risk": written(found, d), "steps_risk": written(alone, d)}
    risks = {
        name: float(np.mean((np.asarray(_estimate(network, test, depth)) - w) ** 2))
        for name, network in networks.items()
    }
    # What is read off step sizes are the step sizes.
    risks = dict.fromkeys(("read_risk", "steps_risk"), risks["risk"]) | risks
    return risks | {
        "step_mean": float(found.steps.mean()),
        "step_least": float(found.steps.min()),
        "step_most": float(found.steps.max()),
        # The last layer may do with the tokens what it likes: nothing reads them.
        "token_first": float(found.tokens[0]) if depth > 1 else 0.0,
    }


trained_depth.check = _sizes  # `iclkit.sweep.sweep` calls it before it computes


@partial(jax.jit, static_argnames="depth")
def _estimate(params: dict[str, Any], test: Any, depth: int) -> Any:
    # Predictions are linear in the query, so their gradient is the estimate of the task.
    return jax.grad(lambda tokens: jnp.sum(predict(params, tokens, depth)))(test)[:, -1, :-1]
