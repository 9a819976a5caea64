"""Random language models of order three, and what learns them: counts, low rank, a Transformer.

The law of a token depends on the two before it: `rows` of shape (V, V, V), the last axis for the
token. Rows are arbitrary, or share parameters. Everything but the network is NumPy.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import digamma, log_softmax, softmax

from iclkit import _validate, backend
from iclkit._types import Seed
from iclkit.trained._jax import jax, jnp, optax
from iclkit.trained.attention import _apply, _dense, _normalise, compiled
from iclkit.trained.train import adamw
from iclkit.trained.trials import Measure, _bound, _keys, _single, _trial

KINDS = ("arbitrary", "shared")

#: Ridge that stands for none: without any the likelihood of few counts has no maximum.
WEAK = 1e-3


# Models ---------------------------------------------------------------------------------------


def draw_rows(kind: str, V: int, rng: Any, *, lam: float = 1.0, rank: int = 3) -> np.ndarray:
    """Draw the conditional laws of a random model.

    Parameters
    ----------
    kind : {"arbitrary", "shared"}
        Independent rows, each from the symmetric Dirichlet law; or rows that share parameters,
        the softmax over c of ⟨U_c, A_a + B_b⟩ with standard Gaussian A and B and U of variance
        1/rank.
    V : int
        Letters of the alphabet, at least 2.
    rng : numpy.random.Generator
        Where randomness comes from.
    lam : float
        Parameter λ of the Dirichlet law, positive and finite; 1 is the uniform law.
    rank : int
        Numbers that a letter has in each of U, A and B, at least 1.

    Returns
    -------
    numpy.ndarray of shape (V, V, V)
        The probability of letter c after a and b at [a, b, c].

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-ng-models in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import ngrams
    >>> rows = ngrams.draw_rows("shared", 4, np.random.default_rng(0), rank=2)
    >>> rows.shape, bool(np.allclose(rows.sum(axis=-1), 1))
    ((4, 4, 4), True)
    """
    kind, V = _validate.choice("kind", kind, KINDS), _validate.count("V", V, least=2)
    lam, rank = _validate.finite("lam", lam), _validate.count("rank", rank)
    rng = _validate.generator("rng", rng, np.empty(0))
    if kind == "arbitrary":
        drawn: np.ndarray = rng.dirichlet(np.full(V, lam), size=(V, V))
        return drawn
    factors = rng.standard_normal((3, V, rank))
    factors[0] /= rank**0.5
    return _rows(factors)


def _rows(factors: np.ndarray) -> np.ndarray:
    rows: np.ndarray = np.exp(_log_rows(factors))
    return rows


def _log_rows(factors: np.ndarray) -> np.ndarray:
    U, A, B = factors
    logs: np.ndarray = log_softmax((A[:, None] + B) @ U.T, axis=-1)
    return logs


def free_parameters(V: int, rank: int | None = None) -> int:
    """Count the numbers that a model has, less those that change none of its laws.

    Parameters
    ----------
    V : int
        Letters of the alphabet, at least 2.
    rank : int, optional
        Rank of shared parameters, from 1 to V − 1; by default rows are arbitrary.

    Returns
    -------
    int
        V²(V − 1), or 3Vr − r² − 2r.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-ng-gauge in the book.

    Examples
    --------
    >>> from iclkit.trained import ngrams
    >>> ngrams.free_parameters(8), ngrams.free_parameters(8, rank=3)
    (448, 57)
    """
    V = _validate.count("V", V, least=2)
    if rank is None:
        return V * V * (V - 1)
    rank = _validate.count("rank", rank)
    if rank >= V:
        raise ValueError(f"rank must be at most V - 1 = {V - 1}, got {rank}")
    return 3 * V * rank - rank**2 - 2 * rank


def stationary(rows: Any) -> np.ndarray:
    """Find how often each pair of letters is seen in the long run.

    Parameters
    ----------
    rows : array of shape (V, V, V)
        Conditional laws with positive probabilities, see `draw_rows`.

    Returns
    -------
    numpy.ndarray of shape (V, V)
        The stationary law π of pairs.

    Raises
    ------
    ValueError, TypeError
        If `rows` are no such laws, or 10,000 tokens do not lead to π from everywhere.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import ngrams
    >>> ngrams.stationary(np.full((2, 2, 2), 0.5)).tolist()
    [[0.25, 0.25], [0.25, 0.25]]
    """
    rows = _laws("rows", rows)
    V = len(rows)
    # Two starts: where a part of the pairs is hardly ever left, one alone looks stationary.
    pairs = np.random.default_rng(0).dirichlet(np.ones(V * V), size=2).reshape(2, V, V)
    for _ in range(10_000):
        moved = np.einsum("sab,abc->sbc", pairs, rows)
        if np.abs(moved - pairs).sum() + np.abs(moved[0] - moved[1]).sum() < 1e-13:
            mean: np.ndarray = moved.mean(axis=0)
            return mean
        pairs = moved
    raise ValueError("rows must have a stationary law that is reached in 10,000 tokens")


def _laws(name: str, value: Any) -> np.ndarray:
    rows: np.ndarray = _validate.array(name, value, (None, None, None))
    V = rows.shape[-1]
    rows = _validate.array(name, rows, (V, V, V))
    if not np.all(rows > 0) or not np.allclose(rows.sum(axis=-1), 1, rtol=0, atol=1e-9):
        raise ValueError(f"{name} must be positive and add up to 1 along the last axis")
    return rows


def _numbers(name: str, value: Any) -> np.ndarray:
    """Return counts of shape (V, V, V)."""
    counts: np.ndarray = _validate.array(name, value, (None, None, None))
    counts = _validate.array(name, counts, (counts.shape[-1],) * 3)
    wrong = (counts < 0) | (counts != np.rint(counts))
    if np.any(wrong):
        raise ValueError(f"{name} must be whole numbers of at least 0, got {counts[wrong][0]}")
    return counts


def _letters(name: str, value: Any, V: int, least: int) -> np.ndarray:
    """Return a text of at least so many letters."""
    text: np.ndarray = _validate.array(name, value, (None,))
    if len(text) < least or np.any(text != np.rint(text)) or text.min() < 0 or text.max() >= V:
        raise ValueError(
            f"{name} must be at least {least} whole numbers from 0 to V - 1 = {V - 1}, "
            f"got {len(text)} from {text.min():g} to {text.max():g}"
        )
    return text.astype(int)


def draw_tokens(rows: Any, N: int, rng: Any) -> np.ndarray:
    """Write a text: two letters at random, and N more by the law of the model.

    Parameters
    ----------
    rows : array of shape (V, V, V)
        Conditional laws, see `draw_rows`.
    N : int
        Letters that follow a pair, at least 1.
    rng : numpy.random.Generator
        Where randomness comes from.

    Returns
    -------
    numpy.ndarray of shape (N + 2,)
        Letters from 0 to V − 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import ngrams
    >>> text = ngrams.draw_tokens(np.full((2, 2, 2), 0.5), 8, np.random.default_rng(0))
    >>> text.shape, set(text.tolist())
    ((10,), {0, 1})
    """
    rows, N = _laws("rows", rows), _validate.count("N", N)
    rng = _validate.generator("rng", rng, np.empty(0))
    V = len(rows)
    steps, (a, b) = np.cumsum(rows, axis=-1)[..., :-1].tolist(), rng.integers(V, size=2).tolist()
    text = [a, b]
    for uniform in rng.random(N).tolist():
        a, b = b, bisect(steps[a][b], uniform)
        text.append(b)
    return np.array(text)


def count(text: Any, V: int) -> np.ndarray:
    """Count how often each letter has followed each pair.

    Parameters
    ----------
    text : array of shape (N + 2,)
        Letters from 0 to V − 1, at least three.
    V : int
        Letters of the alphabet, at least 2.

    Returns
    -------
    numpy.ndarray of shape (V, V, V)
        Counts, at [a, b, c] those of c after a and b.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import ngrams
    >>> ngrams.count(np.array([0, 0, 1, 0, 0, 1]), 2)[0].tolist()
    [[0.0, 2.0], [1.0, 0.0]]
    """
    V = _validate.count("V", V, least=2)
    text = _letters("text", text, V, 3)
    places = (text[:-2] * V + text[1:-1]) * V + text[2:]
    return np.bincount(places, minlength=V**3).reshape(V, V, V).astype(float)


def divergence(rows: Any, found: Any, weights: Any) -> float:
    """Measure how far estimated laws are from the true ones, in nats a token.

    Parameters
    ----------
    rows, found : array of shape (V, V, V)
        The true laws, and the estimated ones.
    weights : array of shape (V, V)
        What each pair counts, at least 0, such as `stationary`.

    Returns
    -------
    float
        The Kullback–Leibler divergence of each pair's law, times its weight, added up.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-ng-loss in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import ngrams
    >>> even, odd = np.full((2, 2, 2), 0.5), np.tile([0.25, 0.75], (2, 2, 1))
    >>> round(ngrams.divergence(even, odd, np.full((2, 2), 0.25)), 4)
    0.1438
    """
    rows, found = _laws("rows", rows), _laws("found", found)
    found = _validate.array("found", found, rows.shape)
    weights = _validate.nonnegative("weights", _validate.array("weights", weights, rows.shape[:2]))
    return float(np.sum(weights * np.sum(rows * (np.log(rows) - np.log(found)), axis=-1)))


# Estimators -----------------------------------------------------------------------------------


def smooth(counts: Any, lam: float) -> np.ndarray:
    """Estimate the laws by counts, with λ added to each.

    Parameters
    ----------
    counts : array of shape (V, V, V)
        See `count`.
    lam : float
        The constant λ, positive and finite.

    Returns
    -------
    numpy.ndarray of shape (V, V, V)
        Estimated laws.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-ng-add in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import ngrams
    >>> ngrams.smooth(np.tile([3.0, 0.0], (2, 2, 1)), lam=1.0)[0, 0].tolist()
    [0.8, 0.2]
    """
    counts, lam = _numbers("counts", counts), _validate.finite("lam", lam)
    found: np.ndarray = (counts + lam) / (counts + lam).sum(axis=-1, keepdims=True)
    return found


def tune(counts: Any, held: Any) -> float:
    """Choose the constant λ by the likelihood of counts that were held out.

    Parameters
    ----------
    counts, held : array of shape (V, V, V)
        Counts that the estimate is made of, and others of the same model, not all 0.

    Returns
    -------
    float
        The best λ between e⁻⁷ and e⁴.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import ngrams
    >>> rng = np.random.default_rng(0)
    >>> rows = ngrams.draw_rows("arbitrary", 8, rng)
    >>> texts = [ngrams.draw_tokens(rows, N, rng) for N in (3000, 600)]
    >>> 0.5 < ngrams.tune(*(ngrams.count(text, 8) for text in texts)) < 2
    True
    """
    counts, held = _numbers("counts", counts), _numbers("held", held)
    held = _validate.array("held", held, counts.shape)
    if not held.any():
        raise ValueError("held must not all be 0")

    def surprise(log: float) -> float:
        return -float(np.sum(held * np.log(smooth(counts, np.exp(log)))))

    return float(np.exp(minimize_scalar(surprise, bounds=(-7, 4), method="bounded").x))


def low_rank(
    counts: Any, rank: int, rng: Any, *, ridge: float = WEAK, starts: int = 2
) -> np.ndarray:
    """Fit the model that shares parameters, by penalised maximum likelihood.

    Parameters
    ----------
    counts : array of shape (V, V, V)
        See `count`; not all 0.
    rank : int
        Its rank, at least 1.
    rng : numpy.random.Generator
        Draws the starting points.
    ridge : float
        Half of it times the squared norm of U, A and B is added to the negative log-likelihood,
        positive and finite; by default so little that it only makes a minimum exist.
    starts : int
        Starting points, at least 1; the best end is returned.

    Returns
    -------
    numpy.ndarray of shape (V, V, V)
        Estimated laws.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import ngrams
    >>> rng = np.random.default_rng(0)
    >>> rows = ngrams.draw_rows("shared", 5, rng, rank=2)
    >>> counts = ngrams.count(ngrams.draw_tokens(rows, 10_000, rng), 5)
    >>> found, pairs = ngrams.low_rank(counts, 2, rng), ngrams.stationary(rows)
    >>> ngrams.divergence(rows, found, pairs) < 2e-3
    True
    """
    counts, rank = _numbers("counts", counts), _validate.count("rank", rank)
    ridge, starts = _validate.finite("ridge", ridge), _validate.count("starts", starts)
    rng = _validate.generator("rng", rng, np.empty(0))
    V, total, visits = len(counts), counts.sum(), counts.sum(axis=-1, keepdims=True)
    if not total:
        raise ValueError("counts must not all be 0")

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        U, A, B = factors = flat.reshape(3, V, rank)
        logs = _log_rows(factors)
        slope = visits * np.exp(logs) - counts
        back = slope @ U
        gradient = np.array(
            [np.einsum("abc,abr->cr", slope, A[:, None] + B), back.sum(axis=1), back.sum(axis=0)]
        )
        value = ridge / 2 * flat @ flat - np.sum(counts * logs)
        return value / total, (gradient.ravel() + ridge * flat) / total

    options = {"maxiter": 4000, "maxfun": 6000, "ftol": 1e-14, "gtol": 1e-9}
    begin = rng.standard_normal((starts, 3 * V * rank)) / 2
    ends = [minimize(loss, x, jac=True, method="L-BFGS-B", options=options) for x in begin]
    best = min(ends, key=lambda end: float(end.fun))
    return _rows(best.x.reshape(3, V, rank))


# What counting costs --------------------------------------------------------------------------


def expected_divergence(visits: int, V: int, lam: float) -> float:
    """Compute what add-λ is expected to lose on a Dirichlet row after so many visits.

    Parameters
    ----------
    visits : int
        Letters that have been drawn from the row, at least 0.
    V : int
        Letters of the alphabet, at least 2.
    lam : float
        The λ of the law and of the estimate, positive and finite.

    Returns
    -------
    float
        In nats; an exact finite sum, to ten digits where it is above 1e-16.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-ng-exact in the book, as the mean of eq-ng-posterior, in which nothing cancels.

    Examples
    --------
    >>> from iclkit.trained import ngrams
    >>> round(ngrams.expected_divergence(0, 2, 1.0), 6)  # log 2 − ½
    0.193147
    """
    visits = _validate.count("visits", visits, least=0)
    V, lam = _validate.count("V", V, least=2), _validate.finite("lam", lam)
    k, total = np.arange(visits + 1), visits + V * lam
    # The beta-binomial law by ratios of neighbours; by beta functions digits are lost as λ grows.
    up, down = (visits - k[:-1]) * (k[:-1] + lam), k[1:] * (visits - k[1:] + (V - 1) * lam)
    weights = softmax(np.append(0, np.cumsum(np.log(up) - np.log(down))))
    found = (k + lam) / total
    return float(V * np.sum(weights * found * (_excess(k + lam) - _excess(total))))


def _excess(x: Any) -> Any:
    """Return ψ(x + 1) − log x, by its asymptotic series where the two terms cancel."""
    far = 1 / np.maximum(x, 50)
    series = far / 2 - far**2 / 12 * (1 - far**2 / 10 * (1 - 10 * far**2 / 21))
    return np.where(x < 50, digamma(x + 1) - np.log(x), series)


def posterior_divergence(counts: Any, lam: float) -> np.ndarray:
    """Compute what add-λ is expected to lose given the counts, where rows are Dirichlet.

    Parameters
    ----------
    counts : array of shape (V, V, V)
        See `count`.
    lam : float
        The λ of the law and of the estimate, positive and finite.

    Returns
    -------
    numpy.ndarray of shape (V, V)
        For each pair, in nats.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-ng-posterior in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import ngrams
    >>> ngrams.posterior_divergence(np.zeros((2, 2, 2)), 1.0).round(6)[0, 0].item()
    0.193147
    """
    counts, found = _numbers("counts", counts), smooth(counts, lam)
    total = counts.sum(axis=-1, keepdims=True)
    gaps = _excess(counts + lam) - _excess(total + counts.shape[0] * lam)
    each: np.ndarray = np.sum(found * gaps, axis=-1)
    return each


# A Transformer --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decoder:
    """A causal Transformer that gives the log-probabilities of the next letter at each place.

    Attributes
    ----------
    depth : int
        Number of blocks, at least 1: attention, then a perceptron of four times the width with
        GELU, each normalised before and added to what it was given.
    heads : int
        Heads of each attention, at least 1; the width must be a multiple.

    Examples
    --------
    >>> import jax
    >>> from iclkit.trained import ngrams
    >>> network = ngrams.Decoder(depth=2, heads=4)
    >>> params = jax.eval_shape(lambda key: network.init(key, 8, 32, 16), jax.random.key(0))
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))
    26504
    """

    depth: int
    heads: int

    def __post_init__(self) -> None:
        """Check the attributes."""
        _validate.count("depth", self.depth)
        _validate.count("heads", self.heads)

    def init(self, key: jax.Array, V: int, width: int, length: int) -> dict[str, Any]:
        """Draw parameters for V letters and windows of a length."""
        V, width = _validate.count("V", V, least=2), _validate.count("width", width)
        length = _validate.count("length", length)
        if width % self.heads:
            raise ValueError(f"width must be a multiple of heads = {self.heads}, got {width}")
        letters, places, last, *keys = jax.random.split(key, 3 + self.depth)
        shapes = {"query": (1, 1), "key": (1, 1), "value": (1, 1), "out": (1, 1),
                  "up": (1, 4), "down": (4, 1)}  # fmt: skip
        blocks = []
        for block in keys:
            parts = zip(shapes.items(), jax.random.split(block, 6), strict=True)
            params = {name: _dense(k, a * width, b * width) for (name, (a, b)), k in parts}
            blocks.append(params | {"norm": _unit(width), "second_norm": _unit(width)})
        return {
            "letters": jax.random.normal(letters, (V, width)),
            "places": jax.random.normal(places, (length, width)),
            "blocks": blocks,
            "norm": _unit(width),
            "readout": _dense(last, width, V),
        }

    def predict(self, params: Any, windows: Any) -> Any:
        """Give log-probabilities of shape (n, length, V) for n windows of letters."""
        x = params["letters"][windows] + params["places"][: windows.shape[1]]
        for block in params["blocks"]:
            x = x + self._attend(block, _normalise(block["norm"], x))
            inner = jax.nn.gelu(_apply(block["up"], _normalise(block["second_norm"], x)))
            x = x + _apply(block["down"], inner)
        return jax.nn.log_softmax(_apply(params["readout"], _normalise(params["norm"], x)))

    def _attend(self, block: Any, x: Any) -> Any:
        shape = (*x.shape[:2], self.heads, -1)
        q, k, v = (_apply(block[name], x).reshape(shape) for name in ("query", "key", "value"))
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return _apply(block["out"], mixed.reshape(x.shape))


def _unit(width: int) -> dict[str, Any]:
    return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}


# The first place of a window knows one letter only, and is neither learned from nor counted.
_FIRST = 1


def _surprise(network: Decoder, params: Any, windows: Any) -> Any:
    """Mean negative log-likelihood of letters that follow two others of their window."""
    logs = network.predict(params, windows[:, :-1])[:, _FIRST:]
    return -jnp.mean(jnp.take_along_axis(logs, windows[:, _FIRST + 1 :, None], axis=-1))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _advance(
    network: Decoder, optimiser: Any, shape: tuple[int, int], state: Any, text: Any, keys: Any
) -> Any:
    size, length = shape

    def step(state: Any, key: jax.Array) -> tuple[Any, None]:
        params, moments = state
        begin = jax.random.randint(key, (size, 1), 0, len(text) - length)
        windows = text[begin + jnp.arange(length + 1)]
        gradient = jax.grad(partial(_surprise, network))(params, windows)
        updates, moments = optimiser.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), None

    return jax.lax.scan(step, state, keys)[0]


class Learned(NamedTuple):
    """A network when its loss on held-out text was least.

    Attributes
    ----------
    params : pytree of arrays
        Its parameters.
    loss : float
        That loss, in nats a letter.
    step : int
        Steps made until then.

    Examples
    --------
    >>> from iclkit.trained import ngrams
    >>> ngrams.Learned({}, loss=1.5, step=300).step
    300
    """

    params: Any
    loss: float
    step: int


def learn(
    network: Decoder,
    params: Any,
    text: Any,
    held: Any,
    optimiser: optax.GradientTransformation,
    steps: int,
    *,
    key: jax.Array,
    shape: tuple[int, int],
    every: int = 100,
    patience: int = 6,
) -> Learned:
    """Train a network on windows of one text, and stop early by another.

    Parameters
    ----------
    network : Decoder
        The network.
    params : pytree of arrays
        Initial parameters, in the precision to train in.
    text, held : array of letters
        What is learned from, and what is held out, of the letters that `params` have; both
        longer than a window.
    optimiser : optax.GradientTransformation
        Such as `iclkit.trained.train.adamw`.
    steps : int
        Most gradient steps, at least 1.
    key : jax.Array
        Random key of the windows.
    shape : (int, int)
        Windows in a step, and places of a window, from 2 to those of `params`.
    every : int
        Steps between two looks at the held-out loss, at least 1.
    patience : int
        Looks without a new least loss that end the training, at least 1.

    Returns
    -------
    Learned
        The parameters of the look with the least loss.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.
    FloatingPointError
        If the held-out loss is not finite.

    Examples
    --------
    >>> import jax
    >>> import numpy as np
    >>> from iclkit.trained import ngrams, train
    >>> network = ngrams.Decoder(depth=1, heads=1)
    >>> params = network.init(jax.random.key(0), 2, 4, 8)
    >>> text = np.tile([0, 1], 50)  # a letter is known by the one before it
    >>> end = ngrams.learn(
    ...     network, params, text, text, train.adamw(200, 1e-2), 200,
    ...     key=jax.random.key(1), shape=(8, 8))
    >>> end.loss < 0.01
    True
    """
    _validate.instance("network", network, Decoder, "an iclkit.trained.ngrams.Decoder")
    size, length = _validate.count("shape", shape[0]), _validate.count("shape", shape[1], least=2)
    steps, every = _validate.count("steps", steps), _validate.count("every", every)
    patience = _validate.count("patience", patience)
    V, places = len(params["letters"]), len(params["places"])
    if length > places:
        raise ValueError(f"shape must have windows of at most {places} places, got {length}")
    text, held = (_letters(*pair, V, length + 1) for pair in (("text", text), ("held", held)))
    cut = len(held) // (length + 1) * (length + 1)
    windows, text = jnp.asarray(held[:cut]).reshape(-1, length + 1), jnp.asarray(text)
    state, best = (params, optimiser.init(params)), Learned(params, np.inf, 0)
    for begin in range(0, steps, every):
        keys = jax.random.split(jax.random.fold_in(key, begin), min(every, steps - begin))
        state = _advance(network, optimiser, (size, length), state, text, keys)
        loss = float(compiled(_bound(_surprise, network))(state[0], windows))
        if not np.isfinite(loss):
            raise FloatingPointError(f"the loss is not finite after {begin + len(keys)} steps")
        if loss < best.loss:
            best = Learned(state[0], loss, begin + len(keys))
        elif begin + len(keys) >= best.step + patience * every:
            break
    return best


# Trials ---------------------------------------------------------------------------------------


class _Drawn(NamedTuple):
    rows: np.ndarray
    pairs: np.ndarray
    text: np.ndarray
    held: np.ndarray
    counts: np.ndarray
    held_counts: np.ndarray


def _draw(kind: str, V: int, N: int, lam: float, rank: int, rng: np.random.Generator) -> _Drawn:
    """Draw a model, a text of N letters, and one of N/5 that is held out."""
    rows = draw_rows(kind, V, rng, lam=lam, rank=rank)
    text, held = (draw_tokens(rows, size, rng) for size in (N, N // 5))
    return _Drawn(rows, stationary(rows), text, held, count(text, V), count(held, V))


def _point(kind: str, V: int, N: int, rank: int) -> tuple[str, int, int, int]:
    free_parameters(V, rank)  # checks both
    kind, N = _validate.choice("kind", kind, KINDS), _validate.count("N", N, least=5)
    return kind, int(V), N, int(rank)


@_trial
def counted_trigrams(
    *, kind: str, V: int, N: int, lam: float = 1.0, rank: int = 3, ridge: float = 1.0
) -> Measure:
    """Draw a model and a text, and estimate its laws without a network.

    Parameters
    ----------
    seed
        At least 0.
    kind, V, lam, rank
        See `draw_rows`; the rank is also that of the fit.
    N : int
        Letters of the text, at least 5; N/5 more are held out.
    ridge : float
        Of the penalised fit, see `low_rank`.

    Returns
    -------
    dict
        Divergences from the true laws, weighted by the stationary law: `smoothed` of add-λ with
        the λ that is best on the held-out counts, which is `lam_found`, `known` with that of the
        model, `low_rank` of the fit by maximum likelihood and `penalised` with the ridge.

    Examples
    --------
    >>> from iclkit.trained import ngrams
    >>> found = ngrams.counted_trigrams(0, kind="shared", V=8, N=3000)
    >>> found["low_rank"] < found["smoothed"]
    True
    """
    kind, V, N, rank = _point(kind, V, N, rank)
    lam, ridge = _validate.finite("lam", lam), _validate.finite("ridge", ridge)

    def measure(seed: Seed) -> dict[str, Any]:
        rng = np.random.default_rng(backend.child_seed(seed, 0))
        drawn = _draw(kind, V, N, lam, rank, rng)
        away = partial(divergence, drawn.rows, weights=drawn.pairs)
        best = tune(drawn.counts, drawn.held_counts)
        return {
            "smoothed": away(smooth(drawn.counts, best)),
            "known": away(smooth(drawn.counts, lam)),
            "low_rank": away(low_rank(drawn.counts, rank, rng)),
            "penalised": away(low_rank(drawn.counts, rank, rng, ridge=ridge)),
            "lam_found": best,
        }

    return measure


@_trial
def trained_trigrams(
    *, kind: str, V: int, N: int, lam: float = 1.0, rank: int = 3, depth: int = 2, heads: int = 4,
    width: int = 32, length: int = 16, size: int = 32, steps: int = 2000, rate: float = 3e-3,
    decay: float = 1e-2,
) -> Measure:  # fmt: skip
    """Train a Transformer on the text of `counted_trigrams`, and compare it with counts.

    Parameters
    ----------
    seed, kind, V, N, lam, rank
        See `counted_trigrams`; the same seed gives the same text.
    depth, heads, width : int
        See `Decoder`.
    length, size : int
        Places of a window, and windows of a step.
    steps, rate, decay
        See `iclkit.trained.train.adamw`; training stops early by the held-out text.

    Returns
    -------
    dict
        `network`, the divergence from the true laws at places after two letters or more, on 1500
        windows of new text; beside it `smoothed` and `low_rank` of `counted_trigrams`; and `step`,
        when the held-out loss was least.

    Examples
    --------
    >>> from iclkit.trained import ngrams
    >>> measure = ngrams.trained_trigrams.check(kind="shared", V=8, N=1000)  # trains nothing yet
    >>> ngrams.trained_trigrams.check(kind="low", V=8, N=1000)
    Traceback (most recent call last):
        ...
    ValueError: kind must be one of arbitrary, shared, got 'low'
    """
    kind, V, N, rank = _point(kind, V, N, rank)
    lam, network = _validate.finite("lam", lam), Decoder(depth, heads)
    optimiser = adamw(steps, rate, decay=decay)
    length, size = _validate.count("length", length, least=2), _validate.count("size", size)
    if N // 5 + 2 <= length:
        raise ValueError(f"N must be at least {5 * (length - 1)} for windows of {length}, got {N}")
    jax.eval_shape(lambda key: network.init(key, V, width, length), jax.random.key(0))  # checks

    def measure(seed: Seed) -> dict[str, Any]:
        rng = np.random.default_rng(backend.child_seed(seed, 0))
        drawn = _draw(kind, V, N, lam, rank, rng)
        away = partial(divergence, drawn.rows, weights=drawn.pairs)
        key, initial = _keys(backend.child_seed(seed, 1), 2)
        params = _single(network.init(initial, V, width, length))
        end = learn(network, params, drawn.text, drawn.held, optimiser, steps, key=key,
                    shape=(size, length))  # fmt: skip
        new = np.random.default_rng(backend.child_seed(seed, 2))
        test = draw_tokens(drawn.rows, 1500 * (length + 1), new)[2:].reshape(-1, length + 1)
        logs = compiled(network.predict)(end.params, test[:, :-1])[:, _FIRST:]
        true = drawn.rows[test[:, :-2], test[:, 1:-1]]
        apart = np.sum(true * (np.log(true) - np.asarray(logs, float)), axis=-1)
        return {
            "network": np.mean(apart),
            "smoothed": away(smooth(drawn.counts, tune(drawn.counts, drawn.held_counts))),
            "low_rank": away(low_rank(drawn.counts, rank, rng)),
            "step": end.step,
        }

    return measure
