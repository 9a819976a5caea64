"""Networks that say how sure they are: a mean and a variance for the label, beside those of Bayes.

Tasks are standard Gaussian in training, and noise is of one level, or of its own in every context.
A test may have other noise, longer tasks, contexts of another length, or longer tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, softmax

from iclkit import _validate, backend
from iclkit._types import Seed
from iclkit.trained._jax import jax, jnp
from iclkit.trained.attention import _apply, _dense, _normalise, compiled
from iclkit.trained.prompts import Sample, _fixed, _prompts
from iclkit.trained.train import adamw, fit
from iclkit.trained.trials import Measure, _context, _counts, _double, _keys, _same, _single, _trial

#: What a test can have otherwise than the training.
SHIFTS = ("noise", "task", "length", "tokens")

_WIDE = ndtri(0.95)  # half the width of a 90 % interval, in standard deviations
_LEVELS = 32  # of noise that a mixture is made of
_FIFTHS = 5  # parts of the queries, by length


# The network ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoder:
    """A Transformer that reads prompts of any length and writes two numbers at the last row.

    Each block is softmax attention among all rows, then a perceptron of twice the width with GELU,
    each normalised before and added to what it was given. Places are not marked: a context is a
    set.

    Attributes
    ----------
    depth : int
        Number of blocks, at least 1.
    heads : int
        Heads of each attention, at least 1; the width must be a multiple.

    Examples
    --------
    >>> import jax
    >>> from iclkit.trained import intervals
    >>> network = intervals.Encoder(depth=2, heads=4)
    >>> params = jax.eval_shape(lambda key: network.init(key, 4, 32), jax.random.key(0))
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))
    17410
    """

    depth: int
    heads: int

    def __post_init__(self) -> None:
        """Check the attributes."""
        _validate.count("depth", self.depth)
        _validate.count("heads", self.heads)

    def init(self, key: jax.Array, d: int, width: int) -> dict[str, Any]:
        """Draw parameters for tokens of dimension d."""
        d, width = _validate.count("d", d), _validate.count("width", width)
        if width % self.heads:
            raise ValueError(f"width must be a multiple of heads = {self.heads}, got {width}")
        first, last, *keys = jax.random.split(key, 2 + self.depth)
        shapes = dict.fromkeys(("query", "key", "value", "out"), (width, width))
        shapes |= {"up": (width, 2 * width), "down": (2 * width, width)}
        unit = {"scale": jnp.ones(width), "bias": jnp.zeros(width)}
        blocks = []
        for block in keys:
            parts = zip(shapes.items(), jax.random.split(block, len(shapes)), strict=True)
            params = {name: _dense(part, *shape) for (name, shape), part in parts}
            blocks.append(params | {"norm": unit, "second_norm": unit})
        embedding, readout = _dense(first, d + 1, width), _dense(last, width, 2)
        return {"embedding": embedding, "blocks": blocks, "norm": unit, "readout": readout}

    def predict(self, params: Any, prompts: Any) -> Any:
        """Give a mean and the logarithm of a variance for n queries, of shape (n, 2)."""
        x = _apply(params["embedding"], prompts)
        *blocks, last = params["blocks"]
        for block in blocks:
            x = self._block(block, x, x)
        # Only the last row of the last block is read.
        x = _normalise(params["norm"], self._block(last, x, x[:, -1:]))
        return _apply(params["readout"], x)[:, 0]

    def _block(self, block: Any, x: Any, asking: Any) -> Any:
        def heads(name: str, rows: Any) -> Any:
            return _apply(block[name], rows).reshape(*rows.shape[:2], self.heads, -1)

        rows, own = (_normalise(block["norm"], some) for some in (x, asking))
        q, k, v = heads("query", own), heads("key", rows), heads("value", rows)
        weights = jax.nn.softmax(jnp.einsum("nihd,njhd->nhij", q, k) / q.shape[-1] ** 0.5)
        mixed = jnp.einsum("nhij,njhd->nihd", weights, v).reshape(asking.shape)
        x = asking + _apply(block["out"], mixed)
        inner = jax.nn.gelu(_apply(block["up"], _normalise(block["second_norm"], x)))
        return x + _apply(block["down"], inner)


# What is drawn --------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Noisy:
    """New contexts whose noise has a level of its own: log-uniform from ρ/s to ρs for a spread s.

    Tasks have the standard deviation `scale`, and tokens are `stretch` times as long as standard.
    The queries' labels have noise like the others.

    Examples
    --------
    >>> import jax
    >>> from iclkit.trained import intervals
    >>> draw = intervals.Noisy(d=3, ell=6, rho=0.1, spread=4.0, dtype="float32")
    >>> inputs, targets = jax.eval_shape(lambda key: draw(key, (10, 64)), jax.random.key(0))
    >>> inputs.shape, targets.shape
    ((10, 64, 7, 4), (10, 64))
    """

    d: int = _fixed()
    ell: int = _fixed()
    rho: float = _fixed()
    spread: float = _fixed(default=1.0)
    scale: float = _fixed(default=1.0)
    stretch: float = _fixed(default=1.0)
    dtype: str = _fixed(default="float64")

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> Sample:
        """Draw."""
        first, last = jax.random.split(key)
        inputs, clean, rho = self.parts(first, shape)
        noise = jax.random.normal(last, shape, self.dtype)
        return Sample(inputs, clean + jnp.sqrt(rho) * noise)

    def parts(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
        """Draw prompts, the labels of their queries without noise, and the levels of noise."""
        tasks, tokens, noise, levels = jax.random.split(key, 4)
        w = self.scale * jax.random.normal(tasks, (*shape, self.d), self.dtype)
        x = jax.random.normal(tokens, (*shape, self.ell + 1, self.d), self.dtype)
        x *= self.stretch / self.d**0.5
        y = jnp.einsum("...id,...d->...i", x, w)
        u = jax.random.uniform(levels, shape, self.dtype, minval=-1, maxval=1)
        rho = self.rho * self.spread**u
        noise = jax.random.normal(noise, (*shape, self.ell), self.dtype)
        shown = y.at[..., :-1].add(jnp.sqrt(rho)[..., None] * noise)
        return _prompts(x, shown), y[..., -1], rho


# Forecasts ------------------------------------------------------------------------------------


class Forecast(NamedTuple):
    """What is said about the labels of n queries.

    Attributes
    ----------
    mean, variance : array of shape (n,)
        Of each label, its noise included.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import intervals
    >>> intervals.Forecast(np.zeros(2), np.ones(2)).variance.tolist()
    [1.0, 1.0]
    """

    mean: Any
    variance: Any


def predictive(prompts: Any, rho: float, *, spread: float = 1.0, scale: float = 1.0) -> Forecast:
    """Mean and variance of the labels of queries given their contexts, by Bayes.

    Parameters
    ----------
    prompts : array of shape (n, ell + 1, d + 1)
        Prompts, see `iclkit.trained.prompts.write`.
    rho : float
        Variance of the label noise, positive and finite.
    spread : float
        Where it is at least 1 and not 1, the noise has an unknown level in each context, with the
        law of `Noisy`.
    scale : float
        Standard deviation of the tasks, positive and finite.

    Returns
    -------
    Forecast
        For a spread, mean and variance of the mixture over the levels, of 32 of them.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-predictive in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import intervals
    >>> prompts = np.array([[[1.0, 3.0], [2.0, 0.0]]])  # y = 3 at x = 1; x_q = 2
    >>> found = intervals.predictive(prompts, rho=1.0)
    >>> found.mean.round(6).tolist(), found.variance.round(6).tolist()
    ([3.0], [3.0])
    """
    prompts = _validate.array("prompts", prompts, (None, None, None))
    rho, scale = _validate.finite("rho", rho), _validate.finite("scale", scale)
    spread = _spread(spread)
    X, y, query = prompts[:, :-1, :-1], prompts[:, :-1, -1], prompts[:, -1, :-1]
    nodes, weights = np.polynomial.legendre.leggauss(1 if spread == 1 else _LEVELS)
    level = (rho * spread**nodes)[:, None, None]
    values, axes = np.linalg.eigh(np.swapaxes(X, 1, 2) @ X)
    values = np.maximum(values, 0.0)
    product = np.einsum("nij,nki,nk->nj", axes, X, y)
    query = np.einsum("nij,ni->nj", axes, query)
    below = values + level / scale**2  # levels, contexts, axes
    mean = np.sum(query * product / below, axis=2)
    variance = level[:, :, 0] * (1 + np.sum(query**2 / below, axis=2))
    left = np.sum(y**2, axis=1) - np.sum(product**2 / below, axis=2)
    rows = X.shape[1] * np.log(level[:, :, 0])
    volume = np.sum(np.log1p(scale**2 * values / level), axis=2)
    evidence = -(rows + volume + left / level[:, :, 0]) / 2
    share = softmax(evidence + np.log(weights)[:, None], axis=0)
    middle = np.sum(share * mean, axis=0)
    return Forecast(middle, np.sum(share * (variance + (mean - middle) ** 2), axis=0))


def one_width(prompts: Any, rho: float) -> Forecast:
    """Mean of the best linear attention for fresh Gaussian tasks, and its error for a variance.

    Parameters
    ----------
    prompts : array of shape (n, ell + 1, d + 1)
        Prompts, see `iclkit.trained.prompts.write`; ℓ is that of the training.
    rho : float
        Mean variance of the label noise in training, at least 0.

    Returns
    -------
    Forecast
        The variance is the same for all.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-attention-interval in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import intervals
    >>> prompts = np.array([[[1.0, 3.0], [2.0, 0.0]]])  # a = 1/3 at d = ℓ = 1 without noise
    >>> found = intervals.one_width(prompts, rho=0.0)
    >>> found.mean.round(6).tolist(), found.variance.round(6).tolist()
    ([2.0], [0.666667])
    """
    prompts = _validate.array("prompts", prompts, (None, None, None))
    rho = _validate.scalar(_validate.nonnegative, "rho", rho)
    return _one_width(prompts, rho, prompts.shape[1] - 1)


def _one_width(prompts: np.ndarray, rho: float, ell: int) -> Forecast:
    """Return the same for attention that was trained on contexts of length ℓ."""
    n, rows, columns = prompts.shape
    d = columns - 1
    a = 1 / (1 + (1 + rho) * d / ell + 1 / ell)
    h = d / (rows - 1) * np.einsum("nid,ni->nd", prompts[:, :-1, :-1], prompts[:, :-1, -1])
    return Forecast(a * np.vecdot(prompts[:, -1, :-1], h), np.full(n, rho + 1 - a))


# Training -------------------------------------------------------------------------------------


def likelihood(outputs: Any, targets: Any) -> Any:
    """Score Gaussian forecasts: half of log v + (y − m)²/v, which mean and variance make least.

    Parameters
    ----------
    outputs : array of shape (..., 2)
        Means m and logarithms of variances v.
    targets : array of shape (...,)
        Labels y.

    Returns
    -------
    array of shape (...,)
        The negative log-likelihood in nats, without ½ log 2π.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from iclkit.trained import intervals
    >>> intervals.likelihood(jnp.array([1.0, 0.0]), jnp.array(3.0)).item()
    2.0
    """
    return (outputs[..., 1] + (targets - outputs[..., 0]) ** 2 * jnp.exp(-outputs[..., 1])) / 2


def two_squares(outputs: Any, targets: Any) -> Any:
    """Score forecasts by two squares: (y − m)² + ((y − m)² − v)².

    Parameters
    ----------
    outputs, targets
        See `likelihood`.

    Returns
    -------
    array of shape (...,)
        Least at mean and variance for a law that is symmetric around its mean.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from iclkit.trained import intervals
    >>> intervals.two_squares(jnp.array([1.0, 0.0]), jnp.array(3.0)).item()
    13.0
    """
    square = (targets - outputs[..., 0]) ** 2
    return square + (square - jnp.exp(outputs[..., 1])) ** 2


LOSSES = {"likelihood": likelihood, "two-squares": two_squares}


def _spread(value: Any) -> float:
    spread = _validate.finite("spread", value)
    if spread < 1:
        raise ValueError(f"spread must be at least 1, got {value!r}")
    return float(spread)


@_same
def _train(
    network: int, loss: str, draw: Noisy, model: Encoder, width: int, steps: int, rate: float,
    size: int,
) -> Any:  # fmt: skip
    """Return the parameters of a network; kept, so that one serves all tests."""
    initial, key = _keys(backend.child_seed(network, 0), 2)
    params = _single(model.init(initial, draw.d, width))
    end, _ = fit(
        model.predict, params, draw, adamw(steps, rate), steps,
        key=key, shape=(100, size), loss=LOSSES[loss],
    )  # fmt: skip
    return _double(end)


@_trial
def trained_intervals(
    *, network: int, loss: str, d: int, alpha: float, rho: float, spread: float, width: int,
    steps: int, shift: str, factor: float, depth: int = 2, heads: int = 4, rate: float = 1e-2,
    size: int = 64, tests: int = 4000,
) -> Measure:  # fmt: skip
    """Train a network to predict mean and variance, and test it beside Bayes where things differ.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; of the test. The same seed gives the same result on a CPU.
    network : int
        Seed of the network and of what it learns from, at least 0. Within a process it is trained
        once, for all tests.
    loss : {"likelihood", "two-squares"}
        See `likelihood` and `two_squares`.
    d, width, depth, heads, size, tests : int
        Dimension, width, see `Encoder`, contexts of a step and of the test; each at least 1.
    alpha, rho : float
        Context length α = ℓ/d, positive and finite with ℓ rounded, and variance of the label noise,
        positive and finite.
    spread : float
        At least 1; see `Noisy`.
    steps, rate
        See `iclkit.trained.train.adamw`.
    shift : {"noise", "task", "length", "tokens"}
        What the test has otherwise.
    factor : float
        How often: ρ, the standard deviation of the tasks, ℓ or the length of tokens is multiplied
        by it. Positive and finite; 1 is the law of the training.

    Returns
    -------
    dict
        For each of `network`, `prior`, which is Bayes with the law of the training, `knowing`,
        which is Bayes with that of the test, and `linear`, linear attention with one width:
        `…_error`, mean squares, `…_score`, the likelihood, `…_coverage` of intervals of 90 %, all
        exact over the noise of the query, `…_variance`, its mean, and `…_coverage_1` to
        `…_coverage_5`, from the shortest fifth of the queries to the longest. Of means m and log
        variances s of the network, and of m₀ and m₁ of prior and knowing: `mean_gap`, the mean of
        (m − m₀)², `mean_shift`, of (m₁ − m₀)², and `mean_follow`, of (m − m₀)(m₁ − m₀);
        `doubt_gap`, `doubt_shift` and `doubt_follow` for log variances; and `correlation`, of s
        and s₀.

    Examples
    --------
    >>> from iclkit.trained import intervals
    >>> point = {"network": 0, "loss": "likelihood", "d": 4, "alpha": 2.0, "rho": 0.25}
    >>> point |= {"spread": 1.0, "width": 8, "steps": 100, "factor": 4.0}
    >>> measure = intervals.trained_intervals.check(**point, shift="noise")  # trains nothing yet
    >>> intervals.trained_intervals.check(**point, shift="query")
    Traceback (most recent call last):
        ...
    ValueError: shift must be one of noise, task, length, tokens, got 'query'
    """
    network = _validate.count("network", network, least=0)
    shift = _validate.choice("shift", shift, SHIFTS)
    (d, ell, _), rho = _context(d, alpha, rho), float(_validate.finite("rho", rho))
    width, size, tests = _counts(width=width, size=size, tests=tests)
    model = _encoder(depth, heads)
    if width % heads:
        raise ValueError(f"width must be a multiple of heads = {heads}, got {width}")
    spread, factor = _spread(spread), float(_validate.finite("factor", factor))
    loss = _validate.choice("loss", loss, tuple(LOSSES))
    adamw(steps, rate)
    learnt = Noisy(d, ell, rho, spread, dtype="float32")
    test = Noisy(
        d, _validate.size("factor", factor, ell, "length") if shift == "length" else ell,
        rho * factor if shift == "noise" else rho, spread,
        scale=factor if shift == "task" else 1.0, stretch=factor if shift == "tokens" else 1.0,
    )  # fmt: skip
    level = rho if spread == 1 else rho * np.sinh(np.log(spread)) / np.log(spread)

    def measure(seed: Seed) -> dict[str, Any]:
        params = _train(network, loss, learnt, model, width, steps, rate, size)
        (key,) = _keys(backend.child_seed(seed, 0), 1)
        prompts, clean, rhos = (np.asarray(part) for part in test.parts(key, (tests,)))
        outputs = np.asarray(compiled(model.predict)(params, prompts))
        forecasts = {
            "network": Forecast(outputs[:, 0], np.exp(outputs[:, 1])),
            "prior": predictive(prompts, rho, spread=spread),
            "knowing": predictive(prompts, test.rho, spread=spread, scale=test.scale),
            "linear": _one_width(prompts, level, ell),
        }
        lengths = np.sum(prompts[:, -1, :-1] ** 2, axis=1)
        fifths = np.array_split(np.argsort(lengths), _FIFTHS)
        found: dict[str, Any] = {}
        for name, forecast in forecasts.items():
            numbers = _judge(forecast, clean, rhos, fifths)
            found |= {f"{name}_{what}": value for what, value in numbers.items()}
        ours, prior, knowing = (forecasts[name] for name in ("network", "prior", "knowing"))
        found |= _follow("mean", *(some.mean for some in (ours, prior, knowing)))
        logs = [np.log(some.variance) for some in (ours, prior, knowing)]
        return found | _follow("doubt", *logs) | {"correlation": np.corrcoef(*logs[:2])[0, 1]}

    return measure


@_same
def _encoder(depth: int, heads: int) -> Encoder:
    return Encoder(depth, heads)


def _judge(
    forecast: Forecast, clean: np.ndarray, rho: np.ndarray, parts: list[np.ndarray]
) -> dict[str, float]:
    mean, variance = forecast
    square = (clean - mean) ** 2 + rho
    reach = _WIDE * np.sqrt(variance)
    ends = [(mean - clean + side * reach) / np.sqrt(rho) for side in (1, -1)]
    covered = ndtr(ends[0]) - ndtr(ends[1])
    found = {
        "error": square.mean(),
        "score": np.mean(np.log(variance) + square / variance) / 2,
        "coverage": covered.mean(),
        "variance": variance.mean(),
    }
    return found | {f"coverage_{i}": covered[rows].mean() for i, rows in enumerate(parts, start=1)}


def _follow(name: str, ours: Any, prior: Any, knowing: Any) -> dict[str, float]:
    gap, shift = ours - prior, knowing - prior
    products = {"gap": gap * gap, "shift": shift * shift, "follow": gap * shift}
    return {f"{name}_{key}": product.mean() for key, product in products.items()}
