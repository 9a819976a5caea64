"""Training by gradient descent, several networks side by side, and what the trained ones can do.

`train` makes AdamW steps (optax) in compiled chunks, so that a run shows its progress, notices a
divergence, and survives a kill by its checkpoints; the random numbers of a pass through the data
depend on the seed and the number of the pass alone, so that a resumed run ends as an unbroken one.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from iclkit import _validate, backend
from iclkit.attention import MODELS, Model, error_parts, implemented_gamma, prompts
from iclkit.contexts import Contexts, draw_contexts
from iclkit.moments import population_moments, prediction_error
from iclkit.sweep import _progress
from iclkit.tasks import draw_tasks

SCHEDULES = ("cosine", "constant")

_CHUNKS = 50  # reports, and chances of a checkpoint, in one training
_PATIENCE = 20  # seconds between checkpoints


class Recipe(NamedTuple):
    """How to train.

    Attributes
    ----------
    steps : int
        Gradient steps, at least 1; rounded up to whole passes through the data.
    rate : float
        Learning rate of AdamW; the greatest one of a schedule.
    schedule : {"cosine", "constant"}
        A linear rise over the first 2 % of the steps and a cosine to zero, or `rate` throughout.
    batches : int
        Minibatches of a pass through the data; 1 is the full batch.
    decay : float
        Weight decay of AdamW.
    clip : float
        Gradients are cut to this norm, inf for never.
    dtype : {"float64", "float32"}
        Precision of parameters and data.
    """

    steps: int
    rate: float = 1e-2
    schedule: str = "cosine"
    batches: int = 1
    decay: float = 1e-4
    clip: float = 1.0
    dtype: str = "float64"


class Trained(NamedTuple):
    """Networks after training.

    Attributes
    ----------
    params : pytree of arrays
        Parameters, with a leading axis of m networks.
    losses : numpy.ndarray of shape (passes, m)
        Mean squared training error over each pass through the data, while it was being made.
    """

    params: Any
    losses: np.ndarray


class Sample(NamedTuple):
    """Prompts to learn from.

    Attributes
    ----------
    inputs : pytree of arrays with leading axes (m, n)
        What the model needs of n prompts, for each of m networks.
    targets : array of shape (m, n)
        The labels of the queries.
    weights : array of shape (m, n)
        1 for a prompt that counts, 0 for one that fills up a batch of networks.
    """

    inputs: Any
    targets: Any
    weights: Any


def shuffled(sample: Sample, key: Any, batches: int) -> Sample:
    """Divide one network's sample at random into minibatches of equal size.

    Parameters
    ----------
    sample : Sample
        The sample, without the axis of networks.
    key : jax.Array
        Random key.
    batches : int
        Their number b, at least 1 and at most n; what does not fill a minibatch rests.

    Returns
    -------
    Sample
        With leading axes (b, n // b).
    """
    n = sample.targets.shape[0]
    if batches == 1:
        return jax.tree.map(lambda leaf: leaf[None], sample)
    rows = jax.random.permutation(key, n)[: n // batches * batches].reshape(batches, -1)
    return jax.tree.map(lambda leaf: leaf[rows], sample)


def train(
    predict: Callable[[Any, Any], Any],
    params: Any,
    data: Any,
    recipe: Recipe,
    *,
    seed: int = 0,
    draw: Callable[[Any, Any, int], Sample] = shuffled,
    checkpoint: str | os.PathLike | None = None,
) -> Trained:
    """Train m networks, independent of each other, on the mean squared error.

    Parameters
    ----------
    predict : callable
        ``predict(params, inputs)`` of one network, see `iclkit.attention.Model`.
    params : pytree of arrays
        Initial parameters, with a leading axis of m networks.
    data : Sample or other pytree of arrays
        What `draw` makes minibatches of, with the same leading axis.
    recipe : Recipe
        How to train.
    seed : int
        At least 0; the same seed gives the same networks on a CPU.
    draw : callable
        ``draw(data, key, batches)`` gives the minibatches of one pass of one network; by default
        `shuffled`.
    checkpoint : path, optional
        A file that keeps the state, at most every 20 seconds. The same call again goes on from
        it, and ends with the same numbers as an unbroken one. Remove it afterwards.

    Returns
    -------
    Trained
        The networks and their losses.

    Raises
    ------
    ValueError, TypeError
        If a number of `recipe` is outside its range, or `checkpoint` is damaged or belongs to
        another training.
    FloatingPointError
        If a loss is no longer finite; the message names the network and the pass.

    Notes
    -----
    Each gradient is the mean over a minibatch of the derivative of ½(f − y)², or rather of the
    square without the half. Steps are compiled and repeated by ``jax.lax.scan``.
    """
    passes = _check(recipe)
    dtype = jnp.dtype(recipe.dtype)

    def cast(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    params, data = jax.tree.map(cast, (params, data))
    m = jax.tree.leaves(params)[0].shape[0]
    keys = jax.random.split(jax.random.key(_validate.count("seed", seed, least=0)), m)
    optimiser = _optimiser(recipe, passes)
    state, losses = (params, jax.vmap(optimiser.init)(params)), np.empty((0, m))
    stored = None if checkpoint is None else Path(checkpoint)
    origin = None if stored is None else _origin(params, data, recipe, seed)
    if stored is not None and stored.exists():
        state, losses = _restore(stored, state, m, origin)
    run, size = _chunk(predict, draw, recipe, passes), -(-passes // _CHUNKS)
    saved = time.monotonic()
    with _progress(f"{m} networks", passes) as bar:
        bar.update(len(losses))
        while len(losses) < passes:
            some = jnp.arange(len(losses), min(len(losses) + size, passes))
            state, new = run(state, data, keys, some)
            new = np.asarray(new, dtype=np.float64).T
            if not np.isfinite(new).all():
                step, network = np.argwhere(~np.isfinite(new))[0]
                raise FloatingPointError(
                    f"the loss of network {network} is not finite in pass {len(losses) + step}: "
                    f"take a smaller rate than {recipe.rate}"
                )
            losses = np.concatenate([losses, new])
            if stored is not None and time.monotonic() - saved > _PATIENCE:
                _save(stored, state, losses, origin)
                saved = time.monotonic()
            bar.update(len(new))
            bar.set_postfix_str(f"loss {np.median(new[-1]):.1e}")
    return Trained(state[0], losses)


def _check(recipe: Recipe) -> int:
    """Check a recipe, and return the number of passes."""
    steps, batches = (
        _validate.count("steps", recipe.steps),
        _validate.count("batches", recipe.batches),
    )
    _validate.scalar(_validate.positive, "clip", recipe.clip)
    _validate.finite("rate", recipe.rate)
    _validate.scalar(_validate.nonnegative, "decay", recipe.decay)
    _validate.choice("schedule", recipe.schedule, SCHEDULES)
    _validate.choice("dtype", recipe.dtype, ("float64", "float32"))
    return -(-steps // batches)


def _optimiser(recipe: Recipe, passes: int) -> optax.GradientTransformation:
    steps, rate = passes * recipe.batches, recipe.rate
    if recipe.schedule == "cosine":
        rise = min(max(steps // 50, 1), steps - 1)
        rate = optax.warmup_cosine_decay_schedule(0.0, rate, rise, steps) if rise else rate
    # The counter of steps is all that an optimiser of this kind needs besides its moments.
    adam = optax.adamw(rate, weight_decay=recipe.decay)
    return optax.chain(optax.clip_by_global_norm(recipe.clip), adam)


def _chunk(predict: Any, draw: Any, recipe: Recipe, passes: int) -> Callable[..., Any]:
    optimiser = _optimiser(recipe, passes)

    def loss(params: Any, batch: Sample) -> Any:
        square = batch.weights * (predict(params, batch.inputs) - batch.targets) ** 2
        return jnp.sum(square) / jnp.sum(batch.weights)

    def step(state: Any, batch: Sample) -> tuple[Any, Any]:
        params, moments = state
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, moments = optimiser.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    def one_pass(state: Any, data: Any, key: Any, number: Any) -> tuple[Any, Any]:
        batches = draw(data, jax.random.fold_in(key, number), recipe.batches)
        state, values = jax.lax.scan(step, state, batches)
        return state, jnp.mean(values)

    def network(state: Any, data: Any, key: Any, numbers: Any) -> tuple[Any, Any]:
        return jax.lax.scan(lambda s, number: one_pass(s, data, key, number), state, numbers)

    return jax.jit(jax.vmap(network, (0, 0, 0, None)))


def _origin(params: Any, data: Any, recipe: Recipe, seed: int) -> np.ndarray:
    """Digest all that a training begins with, to know its checkpoints by."""
    digest = hashlib.sha256(repr((recipe, seed)).encode())
    for leaf in jax.tree.leaves((params, data)):
        digest.update(np.asarray(leaf).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def _save(file: Path, state: Any, losses: np.ndarray, origin: np.ndarray) -> None:
    """Put a state on disk: a reader finds the old file or the new one, whole."""
    part = file.with_name(f".{file.name}.part")
    with open(part, "wb") as stream:
        np.savez(stream, origin, losses, *jax.tree.leaves(state))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, file)


def _restore(file: Path, like: Any, m: int, origin: np.ndarray) -> tuple[Any, np.ndarray]:
    leaves, structure = jax.tree.flatten(like)
    content = io.BytesIO(file.read_bytes())
    try:
        with np.load(content) as stored:
            first, losses, *found = (stored[name] for name in stored.files)
    except Exception:  # a damaged archive raises whatever its bytes happen to lead to
        raise ValueError(f"checkpoint {file} is damaged: delete it and train again") from None
    shapes = [(leaf.shape, leaf.dtype) for leaf in leaves]
    same = np.array_equal(first, origin) and losses.shape[1:] == (m,)
    if not same or [(leaf.shape, leaf.dtype) for leaf in found] != shapes:
        raise ValueError(f"checkpoint {file} belongs to another training: give another file")
    return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in found]), losses


# One run --------------------------------------------------------------------------------------


class Pretraining(NamedTuple):
    """One network before it is trained, with its data and those that it is tested on.

    Attributes
    ----------
    params : pytree of arrays
        Initial parameters, one network along the leading axis.
    sample : Sample
        What it learns from, likewise.
    test : Contexts
        Contexts with new tasks.
    w : array
        Their tasks.
    """

    params: Any
    sample: Sample
    test: Contexts
    w: Any


def pretraining(
    seed: int | np.random.SeedSequence, model: str, n: int, d: int, ell: int, rho: float,
    *, tests: int = 2000,
) -> Pretraining:  # fmt: skip
    """Draw the initial network, a fixed sample of n contexts with a task each, and a test.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same draw, and more contexts leave the tasks of the
        first ones as they were.
    model : str
        A name in `iclkit.attention.MODELS`.
    n, d, ell : int
        Contexts, dimension, context length; each at least 1.
    rho : float
        Variance of the label noise, at least 0.
    tests : int
        Contexts of the test, at least 1.

    Returns
    -------
    Pretraining
        Ready for `train`. Tasks are standard Gaussian, as paper 1 trains with.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.
    """
    _validate.choice("model", model, tuple(MODELS))
    seeds = [backend.child_seed(seed, key) for key in range(3)]
    drawn = []
    for child, count in (seeds[0], n), (seeds[1], tests):
        streams = backend.streams(child)
        w = draw_tasks(count, d, streams.tasks, prior="gaussian")
        drawn.append((draw_contexts(w, ell, rho, streams), w))
    key = jax.random.key(int(seeds[2].generate_state(1)[0]))
    inputs = MODELS[model].inputs(jnp.asarray(prompts(drawn[0][0])))
    targets = jnp.asarray(drawn[0][0].target)
    params, sample = jax.tree.map(
        lambda leaf: leaf[None],
        (MODELS[model].init(key, d), Sample(inputs, targets, jnp.ones(n))),
    )
    return Pretraining(params, sample, *drawn[1])


def first(networks: Any) -> Any:
    """Take the first of several networks, in double precision.

    Parameters
    ----------
    networks : pytree of arrays
        Parameters with a leading axis, as `train` returns them.

    Returns
    -------
    pytree of arrays
        The parameters of one.
    """
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0], jnp.float64), networks)


def _sizes(
    *, model: str, d: int, tau: float, alpha: float, rho: float, **recipe: Any
) -> tuple[int, int, Recipe]:
    _validate.choice("model", model, tuple(MODELS))
    d = _validate.count("d", d)
    _validate.scalar(_validate.nonnegative, "rho", rho)
    recipe = Recipe(**recipe)
    _check(recipe)
    n = _validate.size("tau", tau, d**2, "n = tau * d**2")
    if recipe.batches > n:
        raise ValueError(f"batches must be at most n = {n}, got {recipe.batches}")
    return n, _validate.size("alpha", alpha, d, "ell = alpha * d"), recipe


def trained_attention(
    seed: int | np.random.SeedSequence,
    *,
    model: str,
    d: int,
    tau: float,
    alpha: float,
    rho: float,
    steps: int,
    rate: float = 1e-2,
    schedule: str = "cosine",
    batches: int = 1,
    decay: float = 1e-4,
    dtype: str = "float64",
) -> dict[str, float]:
    """Train one network on a fixed sample with a task in each context, and measure its errors.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    model : str
        A name in `iclkit.attention.MODELS`.
    d : int
        Dimension and width, at least 1.
    tau : float
        Pretraining contexts τ = n/d², positive and finite; n is rounded.
    alpha : float
        Context length α = ℓ/d, positive and finite; ℓ is rounded.
    rho : float
        Variance of the label noise, at least 0.
    steps, rate, schedule, batches, decay, dtype
        See `Recipe`.

    Returns
    -------
    dict
        `icl_error` on 2000 new contexts and their mirror images, its parts of
        `iclkit.attention.ErrorParts` by name, and `train_loss` after the last step; for the
        linear model also `gamma_error`, exact for the Γ that it implements.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or n or ℓ rounds to 0.
    """
    n, ell, recipe = _sizes(
        model=model, d=d, tau=tau, alpha=alpha, rho=rho, steps=steps, rate=rate,
        schedule=schedule, batches=batches, decay=decay, dtype=dtype,
    )  # fmt: skip
    start = pretraining(seed, model, n, d, ell, rho)
    trained = train(MODELS[model].predict, start.params, start.sample, recipe)
    return _errors(MODELS[model], first(trained.params), start, ell, rho)


trained_attention.check = _sizes  # `iclkit.sweep.sweep` calls it before it computes


def _errors(
    model: Model, params: Any, start: Pretraining, ell: int, rho: float
) -> dict[str, float]:
    parts = error_parts(model, params, start.test, start.w, rho)
    inputs, targets, _ = first(start.sample)
    residual = jax.jit(model.predict)(params, inputs) - targets
    errors = {"icl_error": sum(parts), **parts._asdict(), "train_loss": jnp.mean(residual**2)}
    if model is MODELS["linear"]:
        moments = population_moments(start.w.shape[1], ell, rho)
        errors["gamma_error"] = prediction_error(implemented_gamma(params, ell), moments)
    return {name: float(value) for name, value in errors.items()}


# Task diversity -------------------------------------------------------------------------------


def _fresh(tasks: Any, key: Any, batches: int, *, size: int, ell: int, rho: float) -> Sample:
    """Draw new contexts, whose tasks are picked at random from a list."""
    k, d = tasks.shape
    picks, tokens, noise = jax.random.split(key, 3)
    w = tasks[jax.random.randint(picks, (batches, size), 0, k)]
    # The query is a token like the others, and its label what is to be foretold.
    x = jax.random.normal(tokens, (batches, size, ell + 1, d), tasks.dtype) / d**0.5
    y = jnp.einsum("bnid,bnd->bni", x, w)
    y += rho**0.5 * jax.random.normal(noise, y.shape, tasks.dtype)
    prompt = jnp.concatenate([x, y.at[:, :, -1].set(0)[..., None]], axis=3)
    return Sample(prompt, y[:, :, -1], jnp.ones((batches, size), tasks.dtype))


def _diversity_sizes(
    *, model: str, d: int, alpha: float, kappa: float, rho: float, width: int, steps: int,
    rate: float = 3e-3, size: int = 128,
) -> tuple[int, int]:  # fmt: skip
    _, ell, _ = _sizes(model=model, d=d, tau=1.0, alpha=alpha, rho=rho, steps=steps, rate=rate)
    _validate.count("width", width)
    _validate.count("size", size)
    if model == "linear":
        raise ValueError("model must be one of the softmax models, got 'linear'")
    return _validate.size("kappa", kappa, d, "k = kappa * d"), ell


def diverse_attention(
    seed: int | np.random.SeedSequence,
    *,
    model: str,
    d: int,
    alpha: float,
    kappa: float,
    rho: float,
    width: int,
    steps: int,
    rate: float = 3e-3,
    size: int = 128,
) -> dict[str, float]:
    """Train one network on new contexts at every step, whose tasks come from a list of k.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    model : str
        A name in `iclkit.attention.MODELS` other than "linear".
    d : int
        Dimension, at least 1.
    alpha : float
        Context length α = ℓ/d, positive and finite; ℓ is rounded.
    kappa : float
        Task diversity κ = k/d, positive and finite; k is rounded.
    rho : float
        Variance of the label noise, at least 0.
    width : int
        Width h of the network, at least 1.
    steps : int
        Gradient steps, at least 1.
    rate : float
        Greatest learning rate, see `Recipe`.
    size : int
        Contexts of a step, at least 1.

    Returns
    -------
    dict
        `icl_error` on new tasks and `idg_error` on tasks of the list, each on 4000 contexts, and
        `train_loss`, the mean over the last 50th of the steps.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or k or ℓ rounds to 0.
    """
    k, ell = _diversity_sizes(
        model=model, d=d, alpha=alpha, kappa=kappa, rho=rho, width=width, steps=steps, rate=rate,
        size=size,
    )  # fmt: skip
    seeds = [backend.child_seed(seed, key) for key in range(2)]
    streams = backend.streams(seeds[0])
    tasks = draw_tasks(k, d, streams.tasks, prior="gaussian")
    key, network = (int(number) for number in seeds[1].generate_state(2))
    params = MODELS[model].init(jax.random.key(network), d, width=width)
    batches = min(100, steps)  # drawn together, as small draws cost a step each
    trained = train(
        MODELS[model].predict,
        jax.tree.map(lambda leaf: leaf[None], params),
        jnp.asarray(tasks)[None],
        Recipe(steps, rate, batches=batches, dtype="float32"),
        seed=key,
        draw=partial(_fresh, size=size, ell=ell, rho=rho),
    )
    final = first(trained.params)
    new = draw_tasks(4000, d, streams.tasks, prior="gaussian")
    old = tasks[streams.tasks.integers(k, size=4000)]
    test = draw_contexts(new, ell, rho, streams)
    errors = {"icl_error": sum(error_parts(MODELS[model], final, test, new, rho))}
    # Without mirror images: those under y → −y have the task −w, which is not in the list.
    test = draw_contexts(old, ell, rho, streams)
    f = np.asarray(jax.jit(MODELS[model].predict)(final, MODELS[model].inputs(prompts(test))))
    errors["idg_error"] = rho + float(np.mean((f - np.sum(test.query * old, axis=1)) ** 2))
    last = trained.losses[-max(1, len(trained.losses) // 50) :]
    return errors | {"train_loss": float(np.mean(last))}


diverse_attention.check = _diversity_sizes  # `iclkit.sweep.sweep` calls it before it computes
