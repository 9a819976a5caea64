"""Layers that may be wider than their tokens, and softmax blocks, beside as many gradient steps.

What a network does is read off its predictions and not off its parameters: of a layer, the step
by which it moves the estimate of the task, and of a whole network the common step of as many
gradient steps that are nearest to it. Such a step is the same however the network is written.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from iclkit import _validate, backend
from iclkit._types import Seed
from iclkit.data.contexts import Contexts, draw_contexts
from iclkit.data.tasks import draw_tasks
from iclkit.theory.descent import Law, best_step, best_steps
from iclkit.trained._jax import jax, jnp
from iclkit.trained.attention import Blocks, compiled
from iclkit.trained.depth import STARTS, Layers, Reading, written
from iclkit.trained.prompts import Fresh, write
from iclkit.trained.train import adamw
from iclkit.trained.trials import (
    Measure,
    _bound,
    _context,
    _counts,
    _fit,
    _gradient,
    _keys,
    _same,
    _trial,
)

_MATRICES = ("query", "key", "value")


@dataclass(frozen=True)
class Wide:
    """Layers of linear attention on tokens that are embedded in a stream of width h.

    The stream of a prompt is Z E, each layer changes it by (d/ℓ) (Z Q)(Z_c K)ᵀ(Z_c V)/√h, and the
    prediction is read off its last row. A stream that is wider than a token has a memory: layers
    can keep there what they have found before.

    Attributes
    ----------
    depth : int
        Number of layers L, at least 1.

    Notes
    -----
    Source: eq-wide-layer in the book.

    Examples
    --------
    >>> import jax
    >>> from iclkit.trained.wide import Wide
    >>> params = Wide(depth=2).init(jax.random.key(0), 3, 8, "equal")
    >>> params["embedding"].shape, params["readout"].shape
    ((4, 8), (8,))
    >>> sorted((name, matrices.shape) for name, matrices in params["layers"].items())
    [('key', (2, 8, 8)), ('query', (2, 8, 8)), ('value', (2, 8, 8))]
    """

    depth: int

    def __post_init__(self) -> None:
        """Check the attribute."""
        _validate.count("depth", self.depth)

    def init(self, key: jax.Array, d: int, width: int, start: str) -> dict[str, Any]:
        """Draw parameters for tokens of dimension d in a stream of width h, at least d + 1.

        If `start` is "random", all entries are Gaussian with variance 1/h. If it is "equal", the
        embedding is a random isometry, and in its image every layer makes a gradient step of 1/L.
        """
        equal = _validate.choice("start", start, STARTS) == "equal"
        d = _validate.count("d", d)
        h, L = _validate.count("width", width, least=d + 1), self.depth
        first, last, *keys = jax.random.split(key, 5)
        embedding = jax.random.normal(first, (d + 1, h)) / h**0.5
        if equal:
            embedding = jnp.linalg.qr(embedding.T)[0].T
            made = written(Reading(np.full(1, 1 / L), np.zeros(1)), d)
            between, value = (embedding.T @ made[name][0] @ embedding for name in made)
            compare = h**0.25 * between  # a projector
            layer = {"query": compare, "key": compare, "value": value}
            layers = jax.tree.map(lambda leaf: jnp.stack([leaf] * L), layer)
            return {"embedding": embedding, "layers": layers, "readout": -embedding[-1]}
        names = zip(_MATRICES, keys, strict=True)
        layers = {name: jax.random.normal(k, (L, h, h)) / h**0.5 for name, k in names}
        readout = jax.random.normal(last, (h,)) / h**0.5
        return {"embedding": embedding, "layers": layers, "readout": readout}

    def predict(self, params: dict[str, Any], prompts: Any) -> Any:
        """Predict n labels from prompts of shape (n, ell + 1, d + 1), see `prompts`."""
        rows = prompts @ params["embedding"]
        _, ell, d = prompts[:, 1:, 1:].shape
        scale = d / ell / rows.shape[2] ** 0.5
        matrices = (params["layers"][name] for name in _MATRICES)
        for query, key, value in zip(*matrices, strict=True):
            context = rows[:, :-1]
            # In this order nothing is as large as the context squared.
            rows = rows + (rows @ (scale * query @ key.T)) @ (context.mT @ (context @ value))
        return rows[:, -1] @ params["readout"]


# What a network does --------------------------------------------------------------------------


class Moves(NamedTuple):
    """What L layers do to the estimate of the task, one number of each kind for a layer.

    Attributes
    ----------
    steps : numpy.ndarray of shape (L,)
        Step sizes of the gradient steps that are nearest to what each does.
    shares : numpy.ndarray of shape (L,)
        Share of the squared change of the estimate that such a step explains, at most 1; 0 where a
        layer changes nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained.wide import Moves
    >>> print(Moves(steps=np.array([0.5, 1.0]), shares=np.array([1.0, 0.9])).steps.mean())
    0.75
    """

    steps: np.ndarray
    shares: np.ndarray


def moves(estimates: Any, contexts: Contexts) -> Moves:
    """Read off the gradient step that each layer makes.

    Parameters
    ----------
    estimates : array of shape (L + 1, n, d)
        Estimates ŵ_l of the tasks of n contexts before the first layer and after each.
    contexts : Contexts
        The contexts, see `iclkit.data.draw_contexts`; NumPy arrays.

    Returns
    -------
    Moves
        Of ŵ_{l+1} − ŵ_l on the gradient (d/ℓ) Xᵀ(y − X ŵ_l): both are seen in predictions, so
        that parameters don't enter.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-layer-step in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import backend, data
    >>> from iclkit.trained import wide
    >>> w = data.draw_tasks(5, 3, (streams := backend.streams(0)).tasks)
    >>> contexts = data.draw_contexts(w, 6, 0.1, streams)
    >>> product = 3 / 6 * np.einsum("nid,ni->nd", contexts.tokens, contexts.labels)
    >>> found = wide.moves(np.stack([0 * product, 0.7 * product]), contexts)
    >>> print(found.steps.round(3), found.shares.round(3))
    [0.7] [1.]
    """
    X, y = _contexts(contexts)
    n, ell, d = X.shape
    estimates = _validate.array("estimates", estimates, (None, n, d), like=X)
    steps, shares = [], []
    for before, after in zip(estimates[:-1], estimates[1:], strict=True):
        residual = y - np.einsum("nid,nd->ni", X, before)
        gradient = d / ell * np.einsum("nid,ni->nd", X, residual)
        step, share = _explain(after - before, gradient)
        steps.append(step)
        shares.append(share)
    return Moves(np.array(steps), np.array(shares))


def _explain(change: np.ndarray, by: np.ndarray) -> tuple[float, float]:
    step = float(np.sum(change * by) / np.sum(by**2))
    whole = float(np.sum(change**2))
    return step, 1 - float(np.sum((change - step * by) ** 2)) / whole if whole else 0.0


def nearest_step(predicted: Any, contexts: Contexts, depth: int) -> tuple[float, float]:
    """Find the common step of L gradient steps that predict most nearly as a network does.

    Parameters
    ----------
    predicted : array of shape (n,) or (n, d)
        Predictions for the queries of n contexts, or estimates of their tasks.
    contexts : Contexts
        The contexts, see `iclkit.data.draw_contexts`; NumPy arrays.
    depth : int
        Number of gradient steps L, at least 1.

    Returns
    -------
    step, share : float
        The step, between 0 and 3, and the share of the mean square of what is predicted that L
        such steps explain; 0 where all predictions are.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-nearest-step in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import backend, data
    >>> from iclkit.trained import wide
    >>> w = data.draw_tasks(50, 3, (streams := backend.streams(0)).tasks)
    >>> contexts = data.draw_contexts(w, 6, 0.1, streams)
    >>> product = 3 / 6 * np.einsum("nid,ni->nd", contexts.tokens, contexts.labels)
    >>> step, share = wide.nearest_step(0.7 * product, contexts, depth=1)
    >>> print(round(step, 3), round(share, 3))
    0.7 1.0
    """
    X, y = _contexts(contexts)
    n, d = X.shape[0], X.shape[2]
    predicted = _validate.array("predicted", predicted, None, like=X)
    predicted = _validate.array("predicted", predicted, ((n,), (n, d))[predicted.ndim == 2])
    depth = _validate.count("depth", depth)
    x, axes, product = _in_axes(X, y)
    if predicted.ndim == 2:
        parts, wanted = product, np.einsum("ndj,nd->nj", axes, predicted)
    else:
        query = _validate.array("contexts.query", contexts.query, (n, d), like=X)
        parts, wanted = np.einsum("ndj,nd->nj", axes, query) * product, predicted

    def distance(step: float) -> float:
        made = _filter(np.full(depth, step), x) * parts
        return float(np.sum(((made if wanted.ndim == 2 else made.sum(axis=1)) - wanted) ** 2))

    grid = np.linspace(0.0, 3.0, 31)
    i = int(np.argmin([distance(step) for step in grid]))
    around = (grid[max(i - 1, 0)], grid[min(i + 1, grid.size - 1)])
    best = minimize_scalar(distance, bounds=around, options={"xatol": 1e-6})
    whole = float(np.sum(wanted**2))
    return float(best.x), 1 - float(best.fun) / whole if whole else 0.0


def _contexts(contexts: Contexts) -> tuple[np.ndarray, np.ndarray]:
    _validate.instance("contexts", contexts, Contexts, "what iclkit.data.draw_contexts returns")
    X = _validate.array("contexts.tokens", contexts.tokens, (None,) * 3, like=np.empty(0))
    return X, _validate.array("contexts.labels", contexts.labels, X.shape[:2], like=X)


def _in_axes(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return eigenvalues and axes of S = (d/ℓ) XᵀX, and (d/ℓ) Xᵀy in these axes."""
    scale = X.shape[2] / X.shape[1]
    x, axes = np.linalg.eigh(scale * X.mT @ X)
    return np.maximum(x, 0), axes, scale * np.einsum("ndj,nid,ni->nj", axes, X, y, optimize=True)


def _filter(steps: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return (1 − Π (1 − η_l x))/x, of real steps or of complex ones in pairs."""
    left, found = np.ones_like(x, steps.dtype), np.zeros_like(x, steps.dtype)
    for step in steps:
        found, left = found + step * left, left * (1 - step * x)
    return np.real(found)


# Trials ---------------------------------------------------------------------------------------


class _Test(NamedTuple):
    w: np.ndarray
    contexts: Contexts
    prompts: np.ndarray


def _draw(seed: Seed, d: int, ell: int, rho: float) -> _Test:
    streams = backend.streams(backend.child_seed(seed, 0), np)
    # Small dimensions have rare contexts that weigh much.
    w = draw_tasks(max(32_000 // d, 1), d, streams.tasks, prior="gaussian")
    contexts = draw_contexts(w, ell, rho, streams)
    return _Test(w, contexts, write(contexts))


def _beside(test: _Test, depth: int, rho: float) -> dict[str, float]:
    """Measure gradient steps, at their best on these contexts, and Bayes."""
    X, y = test.contexts.tokens, test.contexts.labels
    x, axes, product = _in_axes(X, y)
    w = np.einsum("ndj,nd->nj", axes, test.w)
    law, ridge = Law(x.ravel(), np.full(x.size, 1 / x.size)), rho * X.shape[2] / X.shape[1]
    equal = np.full(depth, best_step(law, depth, ridge))
    found = {"equal_step": equal[0]}
    for name, steps in (("equal", equal), ("own", best_steps(law, depth, ridge))):
        found[f"{name}_risk"] = np.mean((_filter(steps, x) * product - w) ** 2)
    # Without noise ridge is least squares, the one of least norm if ℓ < d.
    inverse = np.where(x + ridge > 1e-12, 1 / np.maximum(x + ridge, 1e-12), 0)
    return found | {"bayes_risk": np.mean((inverse * product - w) ** 2)}


@_trial
def trained_layers(
    *, d: int, alpha: float, rho: float, depth: int, start: str, steps: int,
    width: int | None = None, rate: float = 1e-2, size: int = 128,
) -> Measure:  # fmt: skip
    """Train L layers of linear attention, and say what each does and what L steps would do.

    Parameters
    ----------
    seed, alpha, rho
        See `iclkit.trained.trials.trained_attention`.
    d, depth, size : int
        Dimension, number of layers L, contexts of a step; each at least 1.
    start : {"equal", "random"}
        See `Wide.init` and `iclkit.trained.depth.Layers.init`.
    width : int, optional
        Width h of the stream, at least d + 1; by default the tokens are not embedded, and layers
        are those of `iclkit.trained.depth.Layers`.
    steps, rate
        See `iclkit.trained.train.adamw`.

    Returns
    -------
    dict
        Risks, means of |ŵ − w|²/d over the same 32,000/d new contexts: of the network, `risk`; of
        L equal gradient steps, of L of their own, with a memory where that is better, and of
        Bayes ridge, `equal_risk`, `own_risk`, `bayes_risk`, the steps at their best on these
        contexts, the equal ones `equal_step`. The `step` of `nearest_step` and the `share` that it
        explains; of `moves` for each layer `step_1` and so on, and `share_1` and so on. Of layers
        on tokens as they are, what is read off their parameters, `read_1` and `token_1` and so on,
        and the risks of a network of these numbers, `read_risk`, and of its steps, `steps_risk`.

    Examples
    --------
    >>> from iclkit.trained import wide
    >>> point = {"d": 6, "alpha": 2.0, "rho": 0.1, "depth": 1, "start": "equal"}
    >>> found = wide.trained_layers(0, **point, steps=200)
    >>> abs(found["risk"] / found["equal_risk"] - 1) < 0.05
    True
    """
    Layers("full", depth)  # checks it, before it is looked up
    (d, ell, rho), (size,) = _context(d, alpha, rho), _counts(size=size)
    optimiser = adamw(steps, rate, decay=0.0)
    _validate.choice("start", start, STARTS)
    h = None if width is None else _validate.count("width", width, least=d + 1)
    network = _network(depth, h is not None)

    def measure(seed: Seed) -> dict[str, Any]:
        key, initial = _keys(backend.child_seed(seed, 1), 2)
        init: Any = network.init  # a stream has one size more
        params = init(initial, d, start) if h is None else init(initial, d, h, start)
        draw = Fresh(d, ell, rho, "float32")
        params, _ = _fit(network.predict, params, draw, optimiser, steps, size, key)
        test = _draw(seed, d, ell, rho)
        estimates = estimate(network, params, test.prompts)

        def risk(estimate: np.ndarray) -> float:
            return float(np.mean((estimate - test.w) ** 2))

        found = {"risk": risk(estimates[-1])} | _beside(test, depth, rho)
        found["step"], found["share"] = nearest_step(estimates[-1], test.contexts, depth)
        for name, numbers in zip(("step", "share"), moves(estimates, test.contexts), strict=True):
            found |= _numbered(name, numbers)
        if isinstance(network, Layers):
            reading = network.read(params)
            alone = reading._replace(tokens=np.zeros(depth))
            for name, some in (("read_risk", reading), ("steps_risk", alone)):
                found[name] = risk(estimate(network, written(some, d), test.prompts)[-1])
            for name, numbers in zip(("read", "token"), reading, strict=True):
                found |= _numbered(name, numbers)
        return found

    return measure


def _numbered(name: str, numbers: np.ndarray) -> dict[str, float]:
    return {f"{name}_{layer}": number for layer, number in enumerate(numbers, 1)}


@_same
def _network(depth: int, wide: bool) -> Wide | Layers:
    return Wide(depth) if wide else Layers("full", depth)


def estimate(network: Wide | Layers, params: dict[str, Any], prompts: Any) -> np.ndarray:
    """Find what a network knows of the tasks before its first layer and after each.

    Parameters
    ----------
    network : Wide or Layers
        Full layers, whose predictions are linear in the query.
    params : dict
        Its parameters.
    prompts : array of shape (n, ell + 1, d + 1)
        Prompts, see `iclkit.trained.prompts.write`.

    Returns
    -------
    numpy.ndarray of shape (L + 1, n, d)
        Estimates ŵ_l, such that what the first l layers predict is ⟨x, ŵ_l⟩ for every query x.

    Examples
    --------
    >>> import jax
    >>> import numpy as np
    >>> from iclkit.trained import wide
    >>> from iclkit.trained.depth import Layers
    >>> network = Layers("full", depth=1)
    >>> params = network.init(jax.random.key(0), 1, "equal")
    >>> wide.estimate(network, params, np.array([[[1.0, 2.0], [3.0, 0.0]]])).ravel().tolist()
    [0.0, 2.0]
    """
    wide, d = isinstance(network, Wide), prompts.shape[2] - 1
    start = params["embedding"][:-1] @ params["readout"] if wide else np.zeros(d)
    found = [np.broadcast_to(np.asarray(start), (len(prompts), d))]
    for depth in range(1, network.depth + 1):
        first = operator.itemgetter(slice(depth))
        some = jax.tree.map(first, params["layers"] if wide else params)
        some = params | {"layers": some} if wide else some
        # Predictions are linear in the query, so their gradient is the estimate of the task.
        gradient = compiled(_bound(_gradient, _network(depth, wide)))(some, prompts)
        found.append(np.asarray(gradient)[:, -1, :-1])
    return np.stack(found)


@_trial
def trained_blocks(
    *, d: int, alpha: float, rho: float, depth: int, width: int, steps: int, rate: float = 3e-3,
    size: int = 128,
) -> Measure:  # fmt: skip
    """Train L blocks of softmax attention, and say what L gradient steps would do.

    Parameters
    ----------
    seed, alpha, rho
        See `iclkit.trained.trials.trained_attention`.
    d, depth, width, size : int
        Dimension, number of blocks L, their width, contexts of a step; each at least 1.
    steps, rate
        See `iclkit.trained.train.adamw`.

    Returns
    -------
    dict
        `risk`, the mean squared error of predictions for queries without noise, and the others
        of `trained_layers` that concern no single layer.

    Examples
    --------
    >>> from iclkit.trained import wide
    >>> point = {"d": 3, "alpha": 2.0, "rho": 0.1, "depth": 1, "width": 8}
    >>> found = wide.trained_blocks(0, **point, steps=10)
    >>> found["risk"] > found["equal_risk"] > found["bayes_risk"]
    True
    """
    network, (d, ell, rho) = _blocks(_validate.count("depth", depth)), _context(d, alpha, rho)
    (width, size), optimiser = _counts(width=width, size=size), adamw(steps, rate)

    def measure(seed: Seed) -> dict[str, Any]:
        key, initial = _keys(backend.child_seed(seed, 1), 2)
        params, draw = network.init(initial, d, width), Fresh(d, ell, rho, "float32")
        params, _ = _fit(network.predict, params, draw, optimiser, steps, size, key)
        test = _draw(seed, d, ell, rho)
        predicted = np.asarray(compiled(network.predict)(params, test.prompts))
        labels = np.sum(test.w * test.contexts.query, axis=1)
        found = {"risk": np.mean((predicted - labels) ** 2)} | _beside(test, depth, rho)
        found["step"], found["share"] = nearest_step(predicted, test.contexts, depth)
        return found

    return measure


_blocks = _same(Blocks)
