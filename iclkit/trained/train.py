"""Training by gradient descent: AdamW on a loss, by default squares, on what a sampler draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from iclkit import _validate
from iclkit.trained._jax import jax, jnp, optax
from iclkit.trained.prompts import Sample

SCHEDULES = ("cosine", "constant")

_CHUNKS = 50  # chances in one training to notice Ctrl-C or a divergence


def adamw(
    steps: int, rate: float, *, schedule: str = "cosine", decay: float = 1e-4, clip: float = 1.0
) -> optax.GradientTransformation:
    """Make the optimiser: AdamW, with gradients cut to a norm.

    Parameters
    ----------
    steps : int
        Gradient steps in all, at least 1.
    rate : float
        Learning rate, positive and finite; the greatest one of a schedule.
    schedule : {"cosine", "constant"}
        A linear rise over the first 2 % of the steps and a cosine to zero, or `rate` throughout.
    decay : float
        Weight decay, at least 0.
    clip : float
        Norm that gradients are cut to, positive; inf leaves them as they are.

    Returns
    -------
    optax.GradientTransformation
        The same object for the same arguments: what is compiled with it is compiled once.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from iclkit.trained import train
    >>> optimiser = train.adamw(steps=100, rate=1e-2)
    >>> optimiser is train.adamw(steps=100, rate=1e-2)  # so that it is compiled once
    True
    """
    return _adamw(
        _validate.count("steps", steps),
        _validate.finite("rate", rate),
        _validate.choice("schedule", schedule, SCHEDULES),
        _validate.scalar(_validate.nonnegative, "decay", decay),
        _validate.scalar(_validate.positive, "clip", clip),
    )


@cache
def _adamw(
    steps: int, rate: Any, schedule: str, decay: float, clip: float
) -> optax.GradientTransformation:
    if schedule == "cosine":
        rise = min(max(steps // 50, 1), steps - 1)
        rate = optax.warmup_cosine_decay_schedule(0.0, rate, rise, steps) if rise else rate
    adam = optax.adamw(rate, weight_decay=decay)
    return optax.chain(optax.clip_by_global_norm(clip), adam) if np.isfinite(clip) else adam


def squares(outputs: Any, targets: Any) -> Any:
    """Square the deviation of every output from its target.

    Parameters
    ----------
    outputs, targets : array
        Of one shape.

    Returns
    -------
    array
        Of that shape.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import train
    >>> train.squares(np.array([1.0, 2.0]), np.array([1.0, 4.0])).tolist()
    [0.0, 4.0]
    """
    return (outputs - targets) ** 2


def fit(
    predict: Callable[[Any, Any], Any],
    params: Any,
    draw: Callable[[Any, tuple[int, int]], Sample],
    optimiser: optax.GradientTransformation,
    steps: int,
    *,
    key: jax.Array,
    shape: tuple[int, int],
    loss: Callable[[Any, Any], Any] = squares,
) -> tuple[Any, np.ndarray]:
    """Train a network on the mean of a loss, by default the squared error.

    Parameters
    ----------
    predict : callable
        ``predict(params, inputs)`` of a model.
    params : pytree of arrays
        Initial parameters, in the precision to train in.
    draw : callable
        ``draw(key, shape)`` gives minibatches, see `iclkit.trained.prompts`; a pytree.
    optimiser : optax.GradientTransformation
        Such as `adamw`.
    steps : int
        Gradient steps, at least 1.
    key : jax.Array
        Random key; the same key gives the same network on a CPU.
    shape : (int, int)
        Minibatches that are drawn together, as small draws cost a step each, and prompts in one.
    loss : callable
        ``loss(outputs, targets)`` of what is predicted, whose mean is trained on.

    Returns
    -------
    params : pytree of arrays
        Parameters after training.
    losses : numpy.ndarray of shape (steps,)
        Mean loss on each step's minibatch, before the step.

    Raises
    ------
    ValueError, TypeError
        If `steps` or `shape` is outside its range, or another argument of another kind.
    FloatingPointError
        If a loss is not finite; the message names the step.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from iclkit.trained import prompts, train
    >>> draw = prompts.Fixed(prompts.Sample(jnp.array([1.0, 2.0]), jnp.array([2.0, 4.0])))
    >>> slope, losses = train.fit(
    ...     jnp.multiply, jnp.zeros(()), draw, train.adamw(200, rate=0.1, decay=0.0), 200,
    ...     key=jax.random.key(0), shape=(1, 2))
    >>> print(losses.shape, losses[0], round(float(slope), 2))
    (200,) 10.0 2.0
    """
    _validate.function("predict", predict)
    _validate.function("draw", draw)
    _validate.function("loss", loss)
    _validate.instance(
        "optimiser", optimiser, optax.GradientTransformation, "an optax.GradientTransformation"
    )
    steps = _validate.count("steps", steps)
    if not isinstance(shape, Sequence) or len(shape) != 2:
        raise TypeError(f"shape must be two integers, got {shape!r}")
    together, size = (_validate.count("shape", number) for number in shape)
    (key,) = jax.random.split(key, 1)  # nothing that the caller draws with it is drawn here
    rounds, rest = divmod(steps, together)
    span = max(-(-rounds // _CHUNKS), 1)
    plan = [((together, size), np.arange(rounds)[i : i + span]) for i in range(0, rounds, span)]
    if rest:
        plan.append(((rest, size), np.array([rounds])))
    state, losses = (params, optimiser.init(params)), np.empty(0)
    for shape, numbers in plan:
        state, new = _rounds(predict, optimiser, shape, loss, state, draw, key, numbers)
        losses = np.concatenate([losses, np.ravel(new)])
        if not np.isfinite(losses).all():
            step = np.flatnonzero(~np.isfinite(losses))[0]
            raise FloatingPointError(f"the loss is not finite in step {step}: take a smaller rate")
    return state[0], losses


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _rounds(
    predict: Any, optimiser: Any, shape: Any, loss: Any, state: Any, draw: Any, key: jax.Array,
    numbers: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """Draw, make the steps, and so on: once for each of `numbers`."""

    def mean(params: Any, batch: Sample) -> Any:
        return jnp.mean(loss(predict(params, batch.inputs), batch.targets))

    def step(state: Any, batch: Sample) -> tuple[Any, Any]:
        params, moments = state
        value, gradient = jax.value_and_grad(mean)(params, batch)
        updates, moments = optimiser.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    def one_round(state: Any, number: Any) -> tuple[Any, Any]:
        return jax.lax.scan(step, state, draw(jax.random.fold_in(key, number), shape))

    return jax.lax.scan(one_round, state, numbers)
