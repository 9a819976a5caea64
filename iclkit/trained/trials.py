"""Trials: train one network, and measure what it can do.

A trial is called as ``trial(seed, **point)``, once by a chapter, or many times by
`iclkit.runs.sweep`. It is written as a function that checks a point and returns the function of
the seed. It computes in double precision, and trains in single where contexts are new at every
step. A seed has one result on one machine; on another number of cores, sums over thousands of
contexts can be divided otherwise, and differ by rounding.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache, partial, update_wrapper
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.stats import ortho_group
from threadpoolctl import threadpool_limits

from iclkit import _validate, backend
from iclkit._types import P, Run, Seed, checked
from iclkit.data.contexts import draw_contexts
from iclkit.data.moments import population_moments, prediction_error
from iclkit.data.tasks import assign_tasks, draw_tasks
from iclkit.theory.descent import power_law
from iclkit.trained._jax import jax, jnp, optax
from iclkit.trained.attention import (
    MODELS,
    ODD,
    compiled,
    error_parts,
    implemented_gamma,
    interpolation_rank,
    mirror_images,
)
from iclkit.trained.interpolation import INTERPOLATED, polish
from iclkit.trained.prompts import (
    Fixed,
    Fresh,
    Grams,
    Listed,
    Rotated,
    Sample,
    write,
)
from iclkit.trained.train import adamw, fit

if TYPE_CHECKING:  # one trial imports it, so that a change of it concerns no chapter but its own
    from iclkit.trained.depth import Layers
    from iclkit.trained.stacks import Stack

Measure = Callable[[Seed], dict[str, Any]]

_double = partial(jax.tree.map, lambda leaf: jnp.asarray(leaf, jnp.float64))
_single = partial(jax.tree.map, lambda leaf: jnp.asarray(leaf, jnp.float32))
# JAX compiles once what it has seen before, and these are the same for the same arguments.
_same = lru_cache(maxsize=None, typed=True)
_bound = _same(partial)

_RAISES = """
    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or a whole number that is made of it rounds to 0.
    FloatingPointError
        If the training diverges.
"""


def _trial(prepare: Callable[P, Measure]) -> Run[P, Measure]:
    """Make a trial of a function that checks a point and returns what is done with a seed."""

    @checked(prepare)
    def trial(seed: Seed, *args: P.args, **point: P.kwargs) -> dict[str, float]:
        measure = prepare(*args, **point)
        # NumPy's products are too small to be shared; XLA has threads of its own.
        with jax.enable_x64(True), threadpool_limits(1):
            return {name: float(value) for name, value in measure(seed).items()}

    update_wrapper(trial, prepare)
    seed = inspect.Parameter("seed", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Seed)
    point = inspect.signature(prepare).parameters.values()
    signature = inspect.Signature([seed, *point], return_annotation=dict[str, float])
    vars(trial)["__signature__"] = signature  # an attribute that types know nothing of
    trial.__doc__ = f"{(prepare.__doc__ or '').rstrip()}\n{_RAISES}"
    return trial


def _counts(**numbers: int) -> list[int]:
    return [_validate.count(name, number) for name, number in numbers.items()]


def _context(d: int, alpha: float, rho: float) -> tuple[int, int, float]:
    ell = _validate.size("alpha", alpha, _validate.count("d", d), "ell = alpha * d")
    return int(d), ell, _validate.scalar(_validate.nonnegative, "rho", rho)


def _model(name: str, allowed: tuple[str, ...] = tuple(MODELS)) -> Any:
    return MODELS[_validate.choice("model", name, allowed)]


def _keys(seed: np.random.SeedSequence, count: int) -> list[jax.Array]:
    return [jax.random.key(int(number)) for number in seed.generate_state(count)]


def _draw_test(w: np.ndarray, ell: int, rho: float, streams: backend.Streams) -> Sample:
    contexts = draw_contexts(w, ell, rho, streams)
    return Sample(write(contexts), np.einsum("nd,nd->n", contexts.query, w))


# A fixed sample -------------------------------------------------------------------------------


class Pretraining(NamedTuple):
    """One network before it is trained, with its data and those that it is tested on.

    Attributes
    ----------
    params : pytree of arrays
        Initial parameters.
    sample : Sample
        What it learns from: inputs and labels of n prompts.
    test : Sample
        Prompts with new tasks, and the labels of their queries without noise.
    known : Sample, optional
        The same with tasks of the list, where there is one.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import prompts, trials
    >>> sample = prompts.Sample(np.ones((4, 3, 2)), np.ones(4))
    >>> start = trials.Pretraining({"bias": np.zeros(())}, sample, test=sample)
    >>> start.sample.inputs.shape
    (4, 3, 2)
    """

    params: Any
    sample: Sample
    test: Sample
    known: Sample | None = None


def pretraining(
    seed: Seed, model: str, n: int, d: int, ell: int, rho: float, *, tests: int = 2000,
    k: int | None = None, mirrored: bool = False,
) -> Pretraining:  # fmt: skip
    """Draw an initial network, a fixed sample of n contexts, and a test.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same draw, and more contexts leave the tasks of the
        first ones as they were.
    model : str
        A name in `iclkit.trained.attention.MODELS`.
    n, d, ell, tests : int
        Contexts, dimension, context length, contexts of the test; each at least 1.
    rho : float
        Variance of the label noise, at least 0.
    k : int, optional
        Tasks, at least 1, of which each context picks one; by default it has one of its own.
    mirrored : bool
        Whether the sample also has the three mirror images of each context, of 4n prompts then.

    Returns
    -------
    Pretraining
        In double precision. Tasks are standard Gaussian, as paper 1 trains with.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from iclkit.trained import trials
    >>> start = trials.pretraining(0, "linear", n=4, d=2, ell=6, rho=0.1, tests=9)
    >>> start.sample.targets.shape, start.test.inputs.shape, str(start.sample.targets.dtype)
    ((4,), (9, 7, 3), 'float64')
    """
    network, mirrored = _model(model), _validate.flag("mirrored", mirrored)
    n, d, ell, tests = _counts(n=n, d=d, ell=ell, tests=tests)
    streams = [backend.streams(backend.child_seed(seed, number)) for number in range(2)]
    listed = draw_tasks(n if k is None else k, d, streams[0].tasks, prior="gaussian")
    w = listed if k is None else listed[assign_tasks(n, k, streams[0].tasks)]
    learnt = draw_contexts(w, ell, rho, streams[0])
    new = draw_tasks(tests, d, streams[1].tasks, prior="gaussian")
    test, known = _draw_test(new, ell, rho, streams[1]), None
    if k is not None:
        known = _draw_test(listed[assign_tasks(tests, k, streams[1].tasks)], ell, rho, streams[1])
    prompts, targets = write(learnt), learnt.target
    if mirrored:
        prompts, targets = np.concatenate(mirror_images(prompts)), np.outer(ODD, targets).ravel()
    with jax.enable_x64(True):
        sample = Sample(network.inputs(prompts), jnp.asarray(targets))
        params = network.init(*_keys(backend.child_seed(seed, 2), 1), d)
        return Pretraining(params, sample, test, known)


def _learning(
    model: str, d: int, tau: float, alpha: float, rho: float, steps: int, rate: float,
    schedule: str, batches: int, decay: float, overlap: bool = False, clip: float = 1.0,
    dtype: str = "float64", kappa: float = np.inf, mirrored: bool = False,
) -> tuple[Callable[[Seed], tuple[Pretraining, Any]], Callable[..., dict[str, Any]]]:  # fmt: skip
    """Check a point; return what trains a network, and what measures it."""
    network, (d, ell, rho) = _model(model), _context(d, alpha, rho)
    n, (batches,) = _validate.size("tau", tau, d**2, "n = tau * d**2"), _counts(batches=batches)
    fresh = _validate.scalar(_validate.positive, "kappa", kappa) == np.inf
    k = None if fresh else _validate.size("kappa", kappa, d, "k = kappa * d")
    optimiser = adamw(steps, rate, schedule=schedule, decay=decay, clip=clip)
    overlap = _validate.flag("overlap", overlap)
    prompts = 4 * n if _validate.flag("mirrored", mirrored) else n
    casts = {"float64": _double, "float32": _single}
    cast = casts[_validate.choice("dtype", dtype, tuple(casts))]
    if batches > prompts:
        number = "4n" if mirrored else "n"
        raise ValueError(f"batches must be at most {number} = {prompts}, got {batches}")

    def learn(seed: Seed) -> tuple[Pretraining, Any]:
        start = pretraining(seed, model, n, d, ell, rho, k=k, mirrored=mirrored)
        params, draw = cast((start.params, Fixed(start.sample, overlap)))
        shape, key = (batches, prompts // batches), jax.random.key(0)
        end, _ = fit(network.predict, params, draw, optimiser, steps, key=key, shape=shape)
        return start, _double(end)

    def measure(start: Pretraining, params: Any) -> dict[str, Any]:
        parts = error_parts(network, params, start.test, rho)
        loss = _square(network, params, start.sample)
        errors = {"icl_error": sum(parts), **parts._asdict(), "train_loss": loss}
        if start.known is not None:
            known = start.known._replace(inputs=network.inputs(start.known.inputs))
            errors["idg_error"] = rho + _square(network, params, known)
        if model == "linear":
            moments = population_moments(d, ell, rho)
            errors["gamma_error"] = prediction_error(implemented_gamma(params, ell), moments)
        return errors

    return learn, measure


def _square(network: Any, params: Any, sample: Sample) -> Any:
    return jnp.mean((compiled(network.predict)(params, sample.inputs) - sample.targets) ** 2)


@_trial
def trained_attention(
    *, model: str, d: int, tau: float, alpha: float, rho: float, steps: int, rate: float = 1e-2,
    schedule: str = "cosine", batches: int = 1, decay: float = 1e-4, overlap: bool = False,
    clip: float = 1.0, dtype: str = "float64", kappa: float = np.inf, mirrored: bool = False,
) -> Measure:  # fmt: skip
    """Train one network on a fixed sample, and measure its errors.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    model : str
        A name in `iclkit.trained.attention.MODELS`.
    d : int
        Dimension and width, at least 1.
    tau, alpha : float
        Pretraining contexts τ = n/d² and context length α = ℓ/d, positive and finite; n and ℓ are
        rounded.
    rho : float
        Variance of the label noise, at least 0.
    steps, rate, schedule, decay, clip
        See `iclkit.trained.train.adamw`.
    batches : int
        Minibatches that have the size of the sample together, 1 to n; 1 is the full batch.
    overlap : bool
        Whether each is drawn by itself, and they are not disjoint.
    dtype : {"float64", "float32"}
        Precision of the training.
    kappa : float
        Task diversity κ = k/d, positive; k is rounded, and at inf every context has its own task.
    mirrored : bool
        Whether the sample also has the three mirror images of each context.

    Returns
    -------
    dict
        `icl_error` on 2000 new contexts and their mirror images, its parts of
        `iclkit.trained.attention.ErrorParts` by name, and `train_loss` after the last step; where
        κ is finite also `idg_error`, on 2000 contexts with tasks of the list; for the linear model
        also `gamma_error`, exact for the Γ that it implements.

    Examples
    --------
    >>> from iclkit.trained import trials
    >>> point = {"model": "linear", "d": 10, "tau": 1.0, "alpha": 1.0, "rho": 0.1, "steps": 100}
    >>> measure = trials.trained_attention.check(**point)  # trains nothing yet
    >>> trials.trained_attention.check(**point, batches=500)
    Traceback (most recent call last):
        ...
    ValueError: batches must be at most n = 100, got 500
    """
    learn, measure = _learning(
        model, d, tau, alpha, rho, steps, rate, schedule, batches, decay, overlap, clip, dtype,
        kappa, mirrored,
    )  # fmt: skip
    return lambda seed: measure(*learn(seed))


@_trial
def interpolates(
    *, model: str, d: int, tau: float, alpha: float, rho: float, steps: int, rate: float = 1e-2,
    schedule: str = "cosine", batches: int = 1, decay: float = 1e-4, iterations: int = 200,
) -> Measure:  # fmt: skip
    """Train one network, polish it, and see whether it has learned its sample by heart.

    Parameters
    ----------
    seed, model, d, tau, alpha, rho, steps, rate, schedule, batches, decay
        See `trained_attention`.
    iterations : int
        See `iclkit.trained.interpolation.polish`.

    Returns
    -------
    dict
        `interpolated`, 1 if the polished loss is below 1e-8 and else 0; `train_loss` and
        `polished_loss`; `icl_error` before and `polished_error` after the polish.

    Examples
    --------
    >>> from iclkit.trained import trials
    >>> point = {"model": "linear", "d": 10, "tau": 1.0, "alpha": 1.0, "rho": 0.1, "steps": 100}
    >>> measure = trials.interpolates.check(**point)  # trains nothing yet
    >>> trials.interpolates.check(**point, iterations=0)
    Traceback (most recent call last):
        ...
    ValueError: iterations must be an integer of at least 1, got 0
    """
    learn, errors = _learning(model, d, tau, alpha, rho, steps, rate, schedule, batches, decay)
    iterations = _validate.count("iterations", iterations)

    def measure(seed: Seed) -> dict[str, Any]:
        start, params = learn(seed)
        before = errors(start, params)
        end = polish(
            _model(model).predict, params, start.sample,
            iterations=iterations, goal=INTERPOLATED / 10,
        )  # fmt: skip
        return {
            "interpolated": end.loss < INTERPOLATED,
            "train_loss": before["train_loss"],
            "polished_loss": end.loss,
            "icl_error": before["icl_error"],
            "polished_error": errors(start, end.params)["icl_error"],
        }

    return measure


@_trial
def linear_threshold(
    *, d: int, alpha: float, rho: float, starts: int = 3, iterations: int = 300,
    mirrored: bool = False,
) -> Measure:  # fmt: skip
    """Find how many contexts full linear attention can learn by heart, to one context.

    Parameters
    ----------
    seed, alpha, rho
        See `trained_attention`.
    d : int
        Dimension and width, at least 3.
    starts : int
        Fresh initial parameters for a size at which the solution for one context less cannot be
        continued; at least 1.
    iterations : int
        See `iclkit.trained.interpolation.polish`.
    mirrored : bool
        Whether predictions are means over mirror images, see `iclkit.trained.attention.Mirrored`.

    Returns
    -------
    dict
        `threshold`, the greatest n of R − 6 … R + 2 that was interpolated, or R − 7 if none was,
        with R of `iclkit.trained.attention.interpolation_rank`, and `loss_above`, the least loss
        reached with one context more than that.

    Notes
    -----
    A sample counts as interpolated below a loss of 1e-10. The samples are the first n contexts
    of one list. Source: eq-interpolation-rank in the book.

    Examples
    --------
    >>> from iclkit.trained import trials
    >>> point = {"d": 5, "alpha": 2.0, "rho": 0.1}
    >>> measure = trials.linear_threshold.check(**point)  # trains nothing yet
    >>> trials.linear_threshold.check(**point | {"d": 2})
    Traceback (most recent call last):
        ...
    ValueError: d must be an integer of at least 3, got 2
    """
    (d, ell, rho), d = _context(d, alpha, rho), _validate.count("d", d, least=3)
    starts, iterations = _counts(starts=starts, iterations=iterations)
    rank, options = interpolation_rank(d, mirrored=mirrored), {"iterations": iterations}
    name = "linear-mirrored" if mirrored else "linear"
    model = _model(name)

    def measure(seed: Seed) -> dict[str, Any]:
        drawn = backend.child_seed(seed, 0)
        warm, sample, *_ = pretraining(drawn, name, rank + 3, d, ell, rho, tests=1)
        keys, least = _keys(backend.child_seed(seed, 1), 9 * starts), {}
        for i, n in enumerate(range(rank - 6, rank + 4)):
            i, ends = min(i, 8) * starts, []
            for begin in (warm, *(model.init(key, d) for key in keys[i : i + starts])):
                ends.append(polish(model.predict, begin, sample, count=n, goal=1e-12, **options))
                if ends[-1].loss < 1e-10:
                    break
            best = min(ends, key=lambda end: end.loss)
            least[n], warm = best.loss, best.params
        interpolated = [n for n in list(least)[:-1] if least[n] < 1e-10]
        threshold = max(interpolated, default=rank - 7)
        return {"threshold": threshold, "loss_above": least[threshold + 1]}

    return measure


# New contexts at every step -------------------------------------------------------------------


def _fit(
    predict: Any, params: Any, draw: Any, optimiser: Any, steps: int, size: int, key: jax.Array
) -> tuple[Any, np.ndarray]:
    params, draw = _single((params, draw))
    end, losses = fit(predict, params, draw, optimiser, steps, key=key, shape=(100, size))
    return _double(end), losses


_SOFTMAX = tuple(name for name in MODELS if not name.startswith("linear"))


@_trial
def diverse_attention(
    *, model: str, d: int, alpha: float, kappa: float, rho: float, width: int, steps: int,
    rate: float = 3e-3, size: int = 128,
) -> Measure:  # fmt: skip
    """Train one network on new contexts at every step, whose tasks come from a list of k.

    Parameters
    ----------
    seed, alpha, rho
        See `trained_attention`.
    model : str
        A name in `iclkit.trained.attention.MODELS` other than "linear".
    d, width, size : int
        Dimension, width h of the network, contexts of a step; each at least 1.
    kappa : float
        Task diversity κ = k/d, positive and finite; k is rounded.
    steps, rate
        See `iclkit.trained.train.adamw`.

    Returns
    -------
    dict
        `icl_error` on new tasks and `idg_error` on tasks of the list, each on 4000 contexts, and
        `train_loss`, the mean over the last 100 steps.

    Examples
    --------
    >>> from iclkit.trained import trials
    >>> point = {"d": 5, "alpha": 2.0, "rho": 0.1, "width": 8, "steps": 100}
    >>> measure = trials.diverse_attention.check(**point, model="softmax", kappa=1.0)  # only checks
    >>> trials.diverse_attention.check(**point, model="softmax", kappa=-1.0)
    Traceback (most recent call last):
        ...
    ValueError: kappa must be positive (inf is allowed), got -1.0
    """
    network, optimiser = _model(model, _SOFTMAX), adamw(steps, rate)
    (d, ell, rho), (width, size) = _context(d, alpha, rho), _counts(width=width, size=size)
    k = _validate.size("kappa", kappa, d, "k = kappa * d")

    def measure(seed: Seed) -> dict[str, Any]:
        streams = backend.streams(backend.child_seed(seed, 0))
        key, initial = _keys(backend.child_seed(seed, 1), 2)
        tasks = draw_tasks(k, d, streams.tasks, prior="gaussian")
        params, draw = network.init(initial, d, width), Listed(tasks, ell, rho)
        params, losses = _fit(network.predict, params, draw, optimiser, steps, size, key)
        new = draw_tasks(4000, d, streams.tasks, prior="gaussian")
        old = tasks[streams.tasks.integers(k, size=4000)]
        parts = error_parts(network, params, _draw_test(new, ell, rho, streams), rho)
        # Without mirror images: those under y → −y have the task −w, which is not in the list.
        idg = rho + _square(network, params, _draw_test(old, ell, rho, streams))
        return {"icl_error": sum(parts), "idg_error": idg, "train_loss": np.mean(losses[-100:])}

    return measure


@_trial
def trained_depth(
    *, d: int, alpha: float, rho: float, depth: int, layers: str, start: str, steps: int,
    rate: float = 1e-2, size: int = 128,
) -> Measure:  # fmt: skip
    """Train a network of L layers on new contexts at every step, and read off its gradient steps.

    Parameters
    ----------
    seed, alpha, rho
        See `trained_attention`.
    d, depth, size : int
        Dimension, number of layers L, contexts of a step; each at least 1.
    layers : {"scalar-tied", "scalar", "full-tied", "full"}
        See `iclkit.trained.depth.Layers`.
    start : {"equal", "random"}
        See `iclkit.trained.depth.Layers.init`.
    steps, rate
        See `iclkit.trained.train.adamw`.

    Returns
    -------
    dict
        `risk`, the mean of |ŵ − w|²/d over 128,000/d new contexts, and on the same contexts that of
        the network of what is read off, `read_risk`, and of its step sizes alone, `steps_risk`;
        of the step sizes `step_mean`, `step_least` and `step_most`; and `token_first`, the factor
        of the first layer, 0 where there is no other.

    Examples
    --------
    >>> from iclkit.trained import trials
    >>> point = {"d": 20, "alpha": 2.0, "rho": 0.0, "depth": 2, "layers": "full", "steps": 100}
    >>> measure = trials.trained_depth.check(**point, start="equal")  # trains nothing yet
    >>> trials.trained_depth.check(**point, start="best")
    Traceback (most recent call last):
        ...
    ValueError: start must be one of equal, random, got 'best'
    """
    from iclkit.trained.depth import STARTS, Layers, Reading, written

    Layers(layers, depth)  # checks them, before they are looked up
    network, optimiser = _layers(layers, depth), adamw(steps, rate, decay=0.0)
    (d, ell, rho), (size,) = _context(d, alpha, rho), _counts(size=size)
    _validate.choice("start", start, STARTS)

    def measure(seed: Seed) -> dict[str, Any]:
        key, initial = _keys(backend.child_seed(seed, 1), 2)
        params, draw = network.init(initial, d, start), Fresh(d, ell, rho, "float32")
        params, _ = _fit(network.predict, params, draw, optimiser, steps, size, key)
        streams = backend.streams(backend.child_seed(seed, 0))
        # Small dimensions have rare contexts that weigh much.
        w = draw_tasks(max(128_000 // d, 1), d, streams.tasks, prior="gaussian")
        prompts, _ = _draw_test(w, ell, rho, streams)

        def risk(network: Layers, params: Any) -> float:
            # Predictions are linear in the query, so their gradient is the estimate of the task.
            estimate = compiled(_bound(_gradient, network))(params, prompts)[:, -1, :-1]
            return float(np.mean((np.asarray(estimate) - w) ** 2))

        found, full = network.read(params), _layers("full", depth)
        risks = dict.fromkeys(("risk", "read_risk", "steps_risk"), risk(network, params))
        if layers.startswith("full"):  # what is read off step sizes are the step sizes
            alone = Reading(found.steps, np.zeros(depth))
            risks["read_risk"] = risk(full, written(found, d))
            risks["steps_risk"] = risk(full, written(alone, d))
        # The last layer may do with the tokens what it likes: nothing reads them.
        token = found.tokens[0] if depth > 1 else 0.0
        return risks | _describe(found.steps) | {"token_first": token}

    return measure


@_same
def _layers(layers: str, depth: int) -> Layers:
    from iclkit.trained.depth import Layers

    return Layers(layers, depth)


def _gradient(network: Layers, params: Any, prompts: Any) -> Any:
    return jax.grad(lambda some: jnp.sum(network.predict(params, some)))(prompts)


def _describe(steps: Any) -> dict[str, Any]:
    return {"step_mean": steps.mean(), "step_least": steps.min(), "step_most": steps.max()}


@_trial
def trained_shape(
    *, nu: float, beta: float, ell: int, depth: int, width: int, tied: bool, steps: int,
    rate: float = 1e-2, size: int = 64,
) -> Measure:  # fmt: skip
    """Train the step sizes of a network of given depth and width on power-law tasks.

    It sees the first d directions of every context and makes L gradient steps in them. As steps
    are numbers, it is of no account how these directions are turned.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        See `trained_attention`.
    nu, beta : float
        Exponents of the task, see `iclkit.theory.descent.power_law`.
    ell, depth, width, size : int
        Context length ℓ, steps L, directions d that the network sees, at most ℓ, and contexts of a
        step; each at least 1.
    tied : bool
        Whether all steps have one size.
    steps, rate
        See `iclkit.trained.train.adamw`.

    Returns
    -------
    dict
        `risk`, the variance of the label that is left, on 4000 new contexts, with all that is
        beyond the width; and of the step sizes `step_mean`, `step_least` and `step_most`. They
        start at random between 0 and 1.

    Notes
    -----
    Source: eq-power-law-risk in the book.

    Examples
    --------
    >>> from iclkit.trained import trials
    >>> point = {"nu": 1.0, "beta": 1.0, "ell": 16, "depth": 2, "tied": True, "steps": 100}
    >>> measure = trials.trained_shape.check(**point, width=8)  # trains nothing yet
    >>> trials.trained_shape.check(**point, width=32)
    Traceback (most recent call last):
        ...
    ValueError: width must be at most ell = 16, got 32
    """
    law, optimiser = power_law(nu, beta, width), adamw(steps, rate, decay=0.0)
    ell, depth, size = _counts(ell=ell, depth=depth, size=size)
    if not isinstance(tied, bool | np.bool_):
        raise TypeError(f"tied must be True or False, got {tied!r}")
    if width > ell:
        raise ValueError(f"width must be at most ell = {ell}, got {width}")
    spectrum, weights, rest = law.nodes[:-1], law.weights[:-1], float(law.weights[-1])
    predict = _bound(_make_steps, depth, tuple(spectrum))

    def measure(seed: Seed) -> dict[str, Any]:
        initial, key, tested = _keys(backend.child_seed(seed, 0), 3)
        draw = _double(Grams(spectrum, weights, rest, ell))
        params = jax.random.uniform(initial, () if tied else (depth,))
        found, _ = _fit(predict, params, draw, optimiser, steps, size, key)
        inputs, targets = draw(tested, (4000,))
        left = jnp.sum((targets - compiled(predict)(found, inputs)) ** 2, axis=1)
        return {"risk": jnp.mean(left) + rest} | _describe(found)

    return measure


def _make_steps(depth: int, spectrum: tuple[float, ...], params: Any, inputs: Any) -> Any:
    covariance, product = inputs

    def step(found: Any, size: Any) -> tuple[Any, None]:
        # Sums of products are compiled to faster code than as many small matrix products.
        gradient = product - jnp.sum(covariance * found[:, None, :], axis=2)
        return found + size * gradient, None

    sizes = jnp.broadcast_to(params, (depth,))
    found, _ = jax.lax.scan(step, jnp.zeros_like(product), sizes)
    return jnp.sqrt(jnp.asarray(spectrum, product.dtype)) * found


@_trial
def trained_softmax(
    *, model: str, nu: float, beta: float, directions: int, ell: int, width: int, steps: int,
    rate: float = 3e-3, size: int = 128,
) -> Measure:  # fmt: skip
    """Train softmax attention on power-law tasks, on new contexts at every step.

    The axes of a context are turned by a rotation of its own: no fixed matrix suits all contexts,
    so that depth has a use.

    Parameters
    ----------
    seed, nu, beta
        See `trained_shape`.
    model, width, steps, rate, size
        See `diverse_attention`.
    directions, ell : int
        Dimension D of the tokens and context length ℓ, each at least 1.

    Returns
    -------
    dict
        `risk`, the mean squared error on 4000 new contexts, over the variance of the label, so that
        predicting zero has a risk of 1; labels have no noise.

    Examples
    --------
    >>> from iclkit.trained import trials
    >>> point = {"model": "softmax", "nu": 1.0, "beta": 1.0, "ell": 8, "width": 8, "steps": 100}
    >>> measure = trials.trained_softmax.check(**point, directions=4)  # trains nothing yet
    >>> trials.trained_softmax.check(**point, directions=0)
    Traceback (most recent call last):
        ...
    ValueError: directions must be an integer of at least 1, got 0
    """
    network, optimiser = _model(model, _SOFTMAX), adamw(steps, rate)
    ell, width, size, D = _counts(ell=ell, width=width, size=size, directions=directions)
    law = power_law(nu, beta, D)
    spectrum, weights = law.nodes[:-1], law.weights[:-1]

    def measure(seed: Seed) -> dict[str, Any]:
        seeds = [backend.child_seed(seed, number) for number in range(3)]
        initial, key, tested = _keys(seeds[2], 3)
        learnt, others = (
            _double(Rotated(_rotations(each, D), spectrum, weights, ell)) for each in seeds[:2]
        )
        params = network.init(initial, D, width)
        params, _ = _fit(network.predict, params, learnt, optimiser, steps, size, key)
        test = jax.tree.map(np.asarray, others(tested, (4000,)))
        return {"risk": sum(error_parts(network, params, test, 0.0)) / weights.sum()}

    return measure


def _rotations(seed: np.random.SeedSequence, directions: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if directions == 1:
        return rng.choice([-1.0, 1.0], (4096, 1, 1))
    turns: np.ndarray = ortho_group.rvs(directions, size=4096, random_state=rng)
    return turns


# Deep stacks ----------------------------------------------------------------------------------


@_trial
def untrained_stacks(*, branch: str, depth: int, width: int, d: int = 8, size: int = 16) -> Measure:
    """Measure what changes of weights do to random stacks, and how their gradients are balanced.

    There is one of every plan of `iclkit.trained.stacks.shares`, all from the same matrices. For
    "admin" shares are those that one pass over the inputs finds.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        See `trained_attention`.
    branch : str
        See `iclkit.trained.stacks.Stack`.
    depth, width, d, size : int
        Blocks, an even number, their width, at least 2, the dimension of inputs, and inputs; each
        at least 1. Attention has eight tokens an input, other branches one.

    Returns
    -------
    dict
        For each plan, the logarithms `log_noise_…` and `log_step_…` of the mean squared change of
        the output over the square of a small relative change of every weight, for Gaussian noise
        and for a first step of Adam on the mean squared error, in which every weight changes as
        much; and of the largest over the smallest gradient of a block, `log_imbalance_…`.

    Notes
    -----
    Source: eq-ds-change, eq-ds-gradient in the book.

    Examples
    --------
    >>> import math
    >>> from iclkit.trained import stacks, trials
    >>> found = trials.untrained_stacks(0, branch="relu", depth=4, width=256)
    >>> expected = stacks.output_change(stacks.shares("even", 4), branch="relu")
    >>> abs(math.exp(found["log_noise_even"]) / expected - 1) < 0.1
    True
    """
    prepare = _side_by_side(branch, d, width, depth, size)

    def measure(seed: Seed) -> dict[str, Any]:
        return prepare(seed)[0]

    return measure


def _side_by_side(
    branch: str, d: int, width: int, depth: int, size: int
) -> Callable[[Seed], tuple[dict[str, Any], Stack, Any, Any]]:
    from iclkit.trained.stacks import PLANS, Means, Stack, weigh  # for no other chapter

    stack = Stack(branch)
    plans = {plan: weigh(plan, depth) for plan in PLANS}
    d, size = _counts(d=d, size=size)
    width = _validate.count("width", width, least=2)  # one number that is normalised is a sign
    draw = Means(d, 8 if branch == "attention" else 1)

    def prepare(seed: Seed) -> tuple[dict[str, Any], Stack, Any, Any]:
        initial, key, noise = _keys(backend.child_seed(seed, 0), 3)
        inputs, targets = draw(key, (size,))
        matrices = stack.init(initial, d, width, depth)
        profile = stack.profile(matrices, inputs)
        every = [matrices | weighed for weighed in plans.values()]
        every[PLANS.index("admin")] |= weigh("admin", depth, profile)
        params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *every)
        found = compiled(_disturbed(stack))(params, inputs, targets, noise)
        names = [f"{name}_{plan}" for name in found for plan in PLANS]
        numbers = np.concatenate([np.asarray(values) for values in found.values()])
        return dict(zip(names, numbers, strict=True)), stack, params, draw

    return prepare


@_same
def _disturbed(stack: Stack) -> Any:
    def disturbed(params: Any, inputs: Any, targets: Any, key: jax.Array) -> dict[str, Any]:
        blocks = params["blocks"]

        def loss(blocks: Any) -> Any:
            return jnp.mean((stack.predict(params | {"blocks": blocks}, inputs) - targets) ** 2)

        def change(direction: Any) -> Any:
            def output(blocks: Any) -> Any:
                return stack.output(params | {"blocks": blocks}, inputs)

            return jnp.mean(jax.jvp(output, (blocks,), (direction,))[1] ** 2)

        gradient = jax.grad(loss)(blocks)
        squares: Any = sum(jnp.sum(leaf**2, axis=(1, 2)) for leaf in jax.tree.leaves(gradient))
        scale = jax.tree.leaves(blocks)[0].shape[-1] ** -0.5
        keys = dict(zip(blocks, jax.random.split(key, len(blocks)), strict=True))
        noise = {n: scale * jax.random.normal(keys[n], leaf.shape) for n, leaf in blocks.items()}
        step = jax.tree.map(lambda leaf: -scale * jnp.sign(leaf), gradient)
        return {
            "log_noise": jnp.log(change(noise)),
            "log_step": jnp.log(change(step)),
            "log_imbalance": jnp.log(squares.max() / squares.min()) / 2,
        }

    return jax.vmap(disturbed, in_axes=(0, None, None, None))


@_trial
def trained_stacks(
    *, branch: str, depth: int, width: int, steps: int, rate: float, d: int = 8, size: int = 32
) -> Measure:
    """Train a stack of every plan with Adam at a constant rate, from the first step on.

    All of them start from the same matrices and see the same inputs. Weights don't decay, and
    gradients are not cut; their moments, and so their steps, have nothing to do with each other.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        See `trained_attention`. For all rates it has the same matrices and inputs.
    branch, depth, width, d
        See `untrained_stacks`.
    steps : int
        Steps, at least 1.
    rate : float
        Learning rate, positive and finite.
    size : int
        New inputs at each step, at least 1.

    Returns
    -------
    dict
        For each plan `loss_…`, the mean squared error after training on 2000 new inputs, over the
        variance of the target; and `log_imbalance_…` of `untrained_stacks`, at the start.

    Examples
    --------
    >>> from iclkit.trained import trials
    >>> found = trials.trained_stacks(0, branch="relu", depth=2, width=8, steps=300, rate=0.01)
    >>> found["loss_even"] < 0.5
    True
    """
    prepare = _side_by_side(branch, d, width, depth, size)
    steps, rate = _validate.count("steps", steps), _validate.finite("rate", rate)

    def measure(seed: Seed) -> dict[str, Any]:
        start, stack, params, draw = prepare(seed)
        key, tested = _keys(backend.child_seed(seed, 1), 2)
        predict = _each(stack)
        count = len(params["inside"])
        params |= {"rate": jnp.full(count, rate)}
        found, _ = _fit(predict, params, draw, _ADAM, steps, size, key)
        inputs, targets = draw(tested, (2000,))
        losses = np.mean((compiled(predict)(found, inputs) - targets) ** 2, axis=1)
        balance = {name: value for name, value in start.items() if "imbalance" in name}
        names = [name.replace("log_imbalance", "loss") for name in balance]
        return balance | dict(zip(names, losses, strict=True))

    return measure


@_same
def _each(stack: Stack) -> Any:
    return jax.vmap(stack.predict, in_axes=(0, None))


def _by_rate(updates: Any, params: Any) -> Any:
    """Multiply the updates of each network by its rate, so that all rates are compiled once."""
    return jax.tree.map(
        lambda leaf: -params["rate"].reshape(-1, *[1] * (leaf.ndim - 1)) * leaf, updates
    )


_ADAM = optax.chain(optax.scale_by_adam(), optax.stateless(_by_rate))
