"""Networks trained on power-law tasks: of a given depth and width, or of softmax attention.

The tokens of a context have the covariance S = Q Λ Qᵀ with λ_j = j^−ν and a rotation Q of its own,
and the label has the variance j^(−νβ − 1) along the column j of Q. No fixed matrix suits all
contexts, so that depth has a use.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import ortho_group

from iclkit import _validate, backend
from iclkit.attention import MODELS, error_parts
from iclkit.contexts import Contexts
from iclkit.descent import power_law
from iclkit.train import Recipe, Sample, first, train

_TESTS = 4000  # new contexts
_ROTATIONS = 4096  # to learn from, and as many others to test on


# A given depth and width ----------------------------------------------------------------------


def _seen(
    spectrum: Any, key: Any, batches: int, *, size: int, ell: int, weights: Any, rest: float
) -> Sample:
    """Draw what steps need of new contexts: covariances, and the products of tokens and labels."""
    d, shape = spectrum.size, (batches, size)
    weights = jnp.asarray(weights, spectrum.dtype)
    below, diagonal, tasks, beyond = jax.random.split(key, 4)
    # Bartlett: the Gram matrix of ℓ Gaussian vectors is A Aᵀ, with A triangular.
    A = jnp.tril(jax.random.normal(below, (*shape, d, d), spectrum.dtype), -1)
    freedom = ell - jnp.arange(d, dtype=spectrum.dtype)
    chi = jnp.sqrt(jax.random.chisquare(diagonal, freedom, (*shape, d), spectrum.dtype))
    A = jnp.sqrt(spectrum / ell)[:, None] * (A + chi[..., None] * jnp.eye(d, dtype=A.dtype))
    w = jnp.sqrt(weights / spectrum) * jax.random.normal(tasks, (*shape, d), A.dtype)
    # What lies beyond the width is noise of the labels.
    noise = (rest / ell) ** 0.5 * jax.random.normal(beyond, (*shape, d), A.dtype)
    product = jnp.einsum("...ij,...j->...i", A, jnp.einsum("...ji,...j->...i", A, w) + noise)
    goal = jnp.sqrt(spectrum) * w
    return Sample((A @ A.mT, product), goal, jnp.ones_like(goal))


def _descend(params: Any, inputs: Any, *, spectrum: Any, depth: int) -> Any:
    covariance, product = inputs

    def step(found: Any, size: Any) -> tuple[Any, None]:
        # Sums of products are compiled to faster code than as many small matrix products.
        gradient = product - jnp.sum(covariance * found[:, None, :], axis=2)
        return found + size * gradient, None

    sizes = jnp.broadcast_to(params, (depth,))
    found, _ = jax.lax.scan(step, jnp.zeros_like(product), sizes)
    return jnp.sqrt(spectrum) * found


def _shape_sizes(
    *, nu: float, beta: float, ell: int, depth: int, width: int, tied: bool, steps: int,
    rate: float = 1e-2, size: int = 64,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    for name, number in (("ell", ell), ("depth", depth), ("steps", steps), ("size", size)):
        _validate.count(name, number)
    if not isinstance(tied, bool | np.bool_):
        raise TypeError(f"tied must be True or False, got {tied!r}")
    _validate.finite("rate", rate)
    law = power_law(nu, beta, width)
    if width > ell:
        raise ValueError(f"width must be at most ell = {ell}, got {width}")
    return law.nodes[:-1], law.weights


def trained_shape(
    seed: int | np.random.SeedSequence,
    *,
    nu: float,
    beta: float,
    ell: int,
    depth: int,
    width: int,
    tied: bool,
    steps: int,
    rate: float = 1e-2,
    size: int = 64,
) -> dict[str, float]:
    """Train the step sizes of a network of given depth and width on power-law tasks.

    It sees the first d directions of every context and makes L gradient steps in them. As steps
    are numbers, it is of no account how these directions are turned.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    nu, beta : float
        Exponents of the task, see `iclkit.descent.power_law`.
    ell : int
        Context length ℓ, at least d.
    depth : int
        Steps L, at least 1.
    width : int
        Directions d that the network sees, at least 1.
    tied : bool
        Whether all steps have one size.
    steps : int
        Training steps, at least 1; more than 100 are rounded up to hundreds.
    rate : float
        Greatest learning rate, see `iclkit.train.Recipe`.
    size : int
        Contexts of a training step, at least 1.

    Returns
    -------
    dict
        `risk`, the variance of the label that is left, on 4000 new contexts, with all that is
        beyond the width; and of the step sizes `step_mean`, `step_least` and `step_most`. They
        start at random between 0 and 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.
    FloatingPointError
        If the training diverges.

    Notes
    -----
    Source: eq-power-law-risk in the book.
    """
    spectrum, weights = _shape_sizes(
        nu=nu, beta=beta, ell=ell, depth=depth, width=width, tied=tied, steps=steps, rate=rate,
        size=size,
    )  # fmt: skip
    numbers = [int(n) for n in backend.child_seed(seed, 0).generate_state(3)]
    draw = partial(_seen, ell=ell, weights=weights[:-1], rest=float(weights[-1]))
    descend = partial(_descend, depth=depth)
    start = jax.random.uniform(jax.random.key(numbers[0]), (1, *(() if tied else (depth,))))
    trained = train(
        partial(descend, spectrum=spectrum.astype(np.float32)),
        start,
        jnp.asarray(spectrum)[None],
        Recipe(steps, rate, batches=min(100, steps), decay=0.0, dtype="float32"),
        seed=numbers[1],
        draw=partial(draw, size=size),
    )
    final = first(trained.params)
    test = first(draw(jnp.asarray(spectrum), jax.random.key(numbers[2]), 1, size=_TESTS))
    left = test.targets - jax.jit(partial(descend, spectrum=spectrum))(final, test.inputs)
    return {
        "risk": float(jnp.mean(jnp.sum(left**2, axis=1)) + weights[-1]),
        "step_mean": float(jnp.mean(final)),
        "step_least": float(jnp.min(final)),
        "step_most": float(jnp.max(final)),
    }


trained_shape.check = _shape_sizes  # `iclkit.sweep.sweep` calls it before it computes


# Softmax attention ----------------------------------------------------------------------------


def _rotations(seed: np.random.SeedSequence, directions: int) -> Any:
    rng = np.random.default_rng(seed)
    if directions == 1:
        return jnp.asarray(rng.choice([-1.0, 1.0], (_ROTATIONS, 1, 1)))
    return jnp.asarray(ortho_group.rvs(directions, size=_ROTATIONS, random_state=rng))


def _fresh(
    pool: Any, key: Any, batches: int, *, size: int, ell: int, spectrum: Any, weights: Any
) -> Sample:
    """Draw new contexts, with rotations picked from a pool and Gaussian coefficients."""
    prompt, y, _ = _draw(pool, key, (batches, size), ell, spectrum, weights)
    return Sample(prompt, y[..., -1], jnp.ones((batches, size), pool.dtype))


def _draw(
    pool: Any, key: Any, shape: tuple[int, ...], ell: int, spectrum: Any, weights: Any
) -> tuple[Any, Any, Any]:
    picks, tokens, tasks = jax.random.split(key, 3)
    spectrum, weights = (jnp.asarray(part, pool.dtype) for part in (spectrum, weights))
    turn = pool[jax.random.randint(picks, shape, 0, len(pool))]
    g = jax.random.normal(tokens, (*shape, ell + 1, pool.shape[-1]), pool.dtype)
    z = jax.random.normal(tasks, (*shape, pool.shape[-1]), pool.dtype)
    x = jnp.einsum("...ij,...kj->...ik", g * jnp.sqrt(spectrum), turn)
    y = jnp.einsum("...ij,...j->...i", g, jnp.sqrt(weights) * z)
    prompt = jnp.concatenate([x, y.at[..., -1].set(0)[..., None]], axis=-1)
    return prompt, y, jnp.einsum("...kj,...j->...k", turn, jnp.sqrt(weights / spectrum) * z)


def _softmax_sizes(
    *, model: str, nu: float, beta: float, directions: int, ell: int, width: int, steps: int,
    rate: float = 3e-3, size: int = 128,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    if _validate.choice("model", model, tuple(MODELS)) == "linear":
        raise ValueError("model must be one of the softmax models, got 'linear'")
    for name, number in (("ell", ell), ("width", width), ("steps", steps), ("size", size)):
        _validate.count(name, number)
    _validate.finite("rate", rate)
    law = power_law(nu, beta, _validate.count("directions", directions))
    return law.nodes[:-1], law.weights[:-1]


def trained_softmax(
    seed: int | np.random.SeedSequence,
    *,
    model: str,
    nu: float,
    beta: float,
    directions: int,
    ell: int,
    width: int,
    steps: int,
    rate: float = 3e-3,
    size: int = 128,
) -> dict[str, float]:
    """Train softmax attention on power-law tasks, on new contexts at every step.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    model : str
        A name in `iclkit.attention.MODELS` other than "linear".
    nu, beta : float
        Exponents of the task, see `iclkit.descent.power_law`.
    directions : int
        Dimension D of the tokens, at least 1.
    ell : int
        Context length ℓ, at least 1.
    width : int
        Width h of the network, at least 1.
    steps : int
        Gradient steps, at least 1; more than 100 are rounded up to hundreds.
    rate : float
        Greatest learning rate, see `iclkit.train.Recipe`.
    size : int
        Contexts of a step, at least 1.

    Returns
    -------
    dict
        `risk`, the mean squared error on 4000 new contexts, over the variance of the label, so that
        predicting zero has a risk of 1; labels have no noise.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.
    FloatingPointError
        If the training diverges.
    """
    spectrum, weights = _softmax_sizes(
        model=model, nu=nu, beta=beta, directions=directions, ell=ell, width=width, steps=steps,
        rate=rate, size=size,
    )  # fmt: skip
    seeds = [backend.child_seed(seed, key) for key in range(3)]
    pool, others = (_rotations(each, directions) for each in seeds[:2])
    numbers = [int(number) for number in seeds[2].generate_state(3)]
    trained = train(
        MODELS[model].predict,
        jax.tree.map(
            lambda leaf: leaf[None],
            MODELS[model].init(jax.random.key(numbers[0]), directions, width=width),
        ),
        pool[None],
        Recipe(steps, rate, batches=min(100, steps), dtype="float32"),
        seed=numbers[1],
        draw=partial(_fresh, size=size, ell=ell, spectrum=spectrum, weights=weights),
    )
    drawn = _draw(others, jax.random.key(numbers[2]), (_TESTS,), ell, spectrum, weights)
    prompt, y, w = (np.asarray(part) for part in drawn)
    test = Contexts(prompt[:, :-1, :-1], y[:, :-1], prompt[:, -1, :-1], y[:, -1])
    parts = error_parts(MODELS[model], first(trained.params), test, w, 0.0)
    return {"risk": float(sum(parts) / weights.sum())}


trained_softmax.check = _softmax_sizes  # `iclkit.sweep.sweep` calls it before it computes
