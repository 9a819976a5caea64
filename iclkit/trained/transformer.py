"""A transformer as practitioners build it: pre-norm blocks with heads and a GELU network.

It reads prompts in one of two ways. In pairs, (xᵢ, yᵢ) is a token, and the query's label alone is
predicted, as everywhere else in this package; interleaved, every xᵢ and every yᵢ is a token, and
each label is predicted from what stands before it, as in a language model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from iclkit import _validate, backend
from iclkit._types import Seed
from iclkit.data.contexts import Contexts, draw_contexts
from iclkit.data.tasks import draw_tasks
from iclkit.theory.bayes import dmmse_mean, ridge_mean
from iclkit.trained._jax import jax, jnp, optax
from iclkit.trained.attention import _apply, _dense, _normalise, compiled
from iclkit.trained.prompts import Fixed, Fresh, Listed, Sample, write
from iclkit.trained.train import adamw, fit
from iclkit.trained.trials import (
    _SOFTMAX,
    Measure,
    _context,
    _counts,
    _keys,
    _model,
    _same,
    _single,
    _trial,
)

TOKENS = ("pairs", "interleaved")
SCALINGS = ("standard", "mup")
#: Width at which both scalings are the same, but for the draw of the read-out.
BASE = 16
#: Context lengths of the tests beside that of training.
LENGTHS = (1, 2, 3, 5, 7, 10, 14, 20, 30, 40)
#: When errors are looked at during the training, in per cent of the steps.
LOOKS = (2, 4, 6, 10, 16, 24, 36, 52, 72, 100)

_TESTS = 2000
_NARROW = 0.02  # standard deviation of learned positions, as in GPT-2


@dataclass(frozen=True)
class Transformer:
    """A decoder of pre-norm blocks, each with attention of several heads and a GELU network.

    Attributes
    ----------
    width : int
        Width h, a multiple of `heads`; the GELU network is four times as wide.
    depth, heads : int
        Number of blocks and of heads, each at least 1.
    tokens : {"pairs", "interleaved"}
        Whether (xᵢ, yᵢ) is a token, or xᵢ and yᵢ are tokens of their own.
    positions : int
        Tokens that have a learned position; at 0 there are none, and prompts may be of any length.
    scaling : {"standard", "mup"}
        How what is drawn and what is learned depends on the width. By "mup" the scores are divided
        by the size of a head and not by its root, and the read-out by the width; see `optimiser`.
        At a width of 16 both are the same network, but for the draw of the read-out.

    Examples
    --------
    >>> import jax
    >>> from iclkit.trained.transformer import Transformer
    >>> model = Transformer(width=32)
    >>> params = jax.eval_shape(lambda key: model.init(key, d=5), jax.random.key(0))
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))
    50625
    """

    width: int
    depth: int = 4
    heads: int = 4
    tokens: str = "pairs"
    positions: int = 0
    scaling: str = "standard"

    def __post_init__(self) -> None:
        """Check the attributes."""
        for name in ("width", "depth", "heads"):
            _validate.count(name, getattr(self, name))
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads = {self.heads}, got {self.width}")
        _validate.choice("tokens", self.tokens, TOKENS)
        _validate.count("positions", self.positions, least=0)
        _validate.choice("scaling", self.scaling, SCALINGS)

    def init(self, key: jax.Array, d: int) -> dict[str, Any]:
        """Draw parameters for tokens of dimension d; branches are small, as in GPT-2."""
        params: dict[str, Any]
        d, h = _validate.count("d", d), self.width
        first, last, place, *keys = jax.random.split(key, 3 + self.depth)
        blocks: list[Any] = []
        for drawn_from in keys:
            names = ("query", "key", "value", "out", "inside", "outside")
            sizes = [(h, h)] * 4 + [(h, 4 * h), (4 * h, h)]
            drawn = zip(names, jax.random.split(drawn_from, len(names)), sizes, strict=True)
            block = {name: _dense(k, *size, bias=size != (h, h)) for name, k, size in drawn}
            for name in ("out", "outside"):
                block[name]["kernel"] = block[name]["kernel"] / (2 * self.depth) ** 0.5
            blocks.append(block | {"attended": _norm(h), "dense": _norm(h)})
        params = {"embedding": _dense(first, d + 1, h), "blocks": blocks, "norm": _norm(h)}
        params["readout"] = _dense(last, h if self.scaling == "standard" else BASE, 1)
        if self.scaling == "mup":  # as many columns as there are, with the variance of the base
            params["readout"]["kernel"] = jax.random.normal(last, (h, 1), float) / BASE**0.5
        if self.positions:
            params["positions"] = _NARROW * jax.random.normal(place, (self.positions, h), float)
        return params

    def predict(self, params: Any, prompts: Any) -> Any:
        """Predict labels from prompts of shape (n, ell + 1, d + 1), see `prompts`.

        The last of n rows of labels is that of the query. Interleaved, a row has all ell + 1,
        each from the labels before it; in pairs it has no other.
        """
        x = _apply(params["embedding"], self._read(prompts))
        if self.positions:
            if x.shape[1] > self.positions:
                raise ValueError(
                    f"prompts must have at most {self.positions} tokens, got {x.shape[1]}"
                )
            x = x + params["positions"][: x.shape[1]]
        for block in params["blocks"]:
            x = x + self._attend(block, _normalise(block["attended"], x))
            hidden = jax.nn.gelu(_apply(block["inside"], _normalise(block["dense"], x)))
            x = x + _apply(block["outside"], hidden)
        read = x[:, ::2] if self.tokens == "interleaved" else x[:, -1:]
        shrink = BASE / self.width if self.scaling == "mup" else 1.0
        readout = params["readout"]
        out = _normalise(params["norm"], read) @ readout["kernel"] * shrink + readout["bias"]
        return out[..., 0]

    def _read(self, prompts: Any) -> Any:
        if self.tokens == "pairs":
            return prompts
        n, rows, columns = prompts.shape
        x = prompts.at[..., -1].set(0)
        y = prompts.at[..., :-1].set(0)
        return jnp.stack([x, y], axis=2).reshape(n, 2 * rows, columns)[:, :-1]

    def _attend(self, block: Any, x: Any) -> Any:
        shape = (*x.shape[:2], self.heads, -1)
        q, k, v = (_apply(block[name], x).reshape(shape) for name in ("query", "key", "value"))
        size = q.shape[-1]
        scale = size**-0.5 if self.scaling == "standard" else (BASE / self.heads) ** 0.5 / size
        scores = scale * jnp.einsum("nihc,njhc->nhij", q, k)
        causal = jnp.tril(jnp.ones(scores.shape[2:], dtype=bool))
        weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
        return _apply(block["out"], jnp.einsum("nhij,njhc->nihc", weights, v).reshape(x.shape))

    def optimiser(self, steps: int, rate: float) -> optax.GradientTransformation:
        """Make AdamW; by "mup" the rate of all matrices inside is divided by the width.

        Those of the embedding, the positions, the read-out, biases and norms are as they are. The
        width is counted in units of 16, so that both scalings mean the same by a rate there.
        """
        return _optimiser(self, steps, rate)


def _norm(h: int) -> dict[str, Any]:
    return {"scale": jnp.ones(h), "bias": jnp.zeros(h)}


@_same
def _optimiser(model: Transformer, steps: int, rate: float) -> optax.GradientTransformation:
    adam = adamw(steps, rate)
    if model.scaling == "standard":
        return adam
    return optax.chain(adam, optax.masked(optax.scale(BASE / model.width), _inside))


def _inside(params: Any) -> Any:
    """Mark the matrices between two widths; the read-out has its factor in `predict`."""

    def inside(path: Any, _: Any) -> bool:
        names = [getattr(part, "key", None) for part in path]
        return names[0] == "blocks" and names[-1] == "kernel"

    return jax.tree_util.tree_map_with_path(inside, params)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Labelled:
    """The prompts of a sampler, with the labels that a `Transformer` predicts.

    Attributes
    ----------
    draw : sampler
        See `iclkit.trained.prompts`.
    tokens : {"pairs", "interleaved"}
        See `Transformer`.

    Examples
    --------
    >>> import jax
    >>> from iclkit.trained import prompts
    >>> from iclkit.trained.transformer import Labelled
    >>> draw = Labelled(prompts.Fresh(d=3, ell=6, rho=0.1, dtype="float32"), "interleaved")
    >>> inputs, targets = draw(jax.random.key(0), (2, 5))
    >>> targets.shape, bool((targets[..., :-1] == inputs[..., :-1, -1]).all())
    ((2, 5, 7), True)
    """

    draw: Any
    tokens: str = field(metadata={"static": True})

    def __call__(self, key: jax.Array, shape: tuple[int, int]) -> Sample:
        """Draw."""
        inputs, targets = self.draw(key, shape)
        targets = targets[..., None]
        if self.tokens == "interleaved":
            targets = jnp.concatenate([inputs[..., :-1, -1], targets], axis=-1)
        return Sample(inputs, targets)


@_trial
def trained_transformer(
    *, d: int, alpha: float, rho: float, width: int, steps: int, rate: float,
    scaling: str = "standard", tokens: str = "pairs", positions: bool = False,
    kappa: float = np.inf, tau: float = np.inf, size: int = 32, depth: int = 4, heads: int = 4,
) -> Measure:  # fmt: skip
    """Train one transformer, and compare what it predicts with Bayes' predictions.

    Parameters
    ----------
    seed, alpha, rho
        See `iclkit.trained.trials.trained_attention`.
    d, size : int
        Dimension, and contexts of a step; each at least 1.
    width, depth, heads, tokens, scaling
        See `Transformer`.
    steps : int
        Gradient steps, a multiple of 50.
    rate : float
        See `Transformer.optimiser`.
    positions : bool
        Whether each token has a learned position.
    kappa : float
        Task diversity κ = k/d, positive; k is rounded, and at inf every context has its own task.
    tau : float
        Pretraining contexts τ = n/d², positive; n is rounded, and at inf every step has new ones.

    Returns
    -------
    dict
        On 2000 contexts, each with its own task, `bayes_error`, the error of Bayes ridge, and
        `icl_error`, which is that and the mean square of the difference between both predictions.
        This mean is more precise than that of squared errors, whose excess it is on average; it is
        also given during the training, as `excess_06` after 6 % of the steps, and at other context
        lengths, as `excess_ell_03` on 1000 contexts, up to that of training where positions are
        learned. Where κ is finite also `idg_error` on tasks of the list, `dmmse_error`, that of the
        posterior mean over the list on these, and `from_dmmse` and `from_ridge`, mean squares of
        differences from both on new tasks. `train_loss` is the mean over the last fiftieth of the
        steps.

    Notes
    -----
    Source: eq-pt-excess in the book.

    Examples
    --------
    >>> from iclkit.trained import transformer
    >>> point = {"d": 5, "alpha": 2.0, "rho": 0.01, "steps": 30_000, "rate": 1e-3}
    >>> measure = transformer.trained_transformer.check(**point, width=32)  # trains nothing yet
    >>> transformer.trained_transformer.check(**point, width=33)
    Traceback (most recent call last):
        ...
    ValueError: width must be a multiple of heads = 4, got 33
    """
    (d, ell, rho), (size,), steps = _context(d, alpha, rho), _counts(size=size), _parts(steps)
    rows = 2 * ell + 1 if tokens == "interleaved" else ell + 1
    learned = rows if _validate.flag("positions", positions) else 0
    Transformer(width, depth, heads, tokens, learned, scaling)  # checks, before it is looked up
    model = _transformer(width, depth, heads, tokens, learned, scaling)
    optimiser = model.optimiser(steps, rate)
    fresh = _validate.scalar(_validate.positive, "kappa", kappa) == np.inf
    k = None if fresh else _validate.size("kappa", kappa, d, "k = kappa * d")
    online = _validate.scalar(_validate.positive, "tau", tau) == np.inf
    n = None if online else _validate.size("tau", tau, d**2, "n = tau * d**2")
    if n is not None and n < size:
        raise ValueError(f"size must be at most n = {n}, got {size}")
    lengths = [length for length in LENGTHS if not learned or length <= ell]
    network = _Network(partial(model.init, d=d), model.predict, tokens)
    return _measure(network, optimiser, (d, ell, rho), size, steps, lengths, k=k, n=n)


@_trial
def trained_blocks(
    *, model: str, d: int, alpha: float, rho: float, width: int, steps: int, rate: float,
    size: int = 32,
) -> Measure:  # fmt: skip
    """Train blocks of attention as `trained_transformer` trains a transformer.

    Parameters
    ----------
    seed, d, alpha, rho, steps, size
        See `trained_transformer`, as every context has its own task, and every step new ones.
    model : str
        A name in `iclkit.trained.attention.MODELS` other than "linear".
    width : int
        Width h, at least 1.
    rate : float
        See `iclkit.trained.train.adamw`.

    Returns
    -------
    dict
        See `trained_transformer`.

    Examples
    --------
    >>> from iclkit.trained import transformer
    >>> point = {"d": 5, "alpha": 2.0, "rho": 0.01, "width": 32, "rate": 1e-3}
    >>> check = transformer.trained_blocks.check  # trains nothing
    >>> measure = check(**point, model="two-blocks", steps=30_000)
    >>> check(**point, model="two-blocks", steps=30_010)
    Traceback (most recent call last):
        ...
    ValueError: steps must be a multiple of 50, got 30010
    """
    blocks, context = _model(model, _SOFTMAX), _context(d, alpha, rho)
    (width, size), steps = _counts(width=width, size=size), _parts(steps)
    network = _Network(partial(blocks.init, d=context[0], width=width), _column(blocks), "pairs")
    return _measure(network, adamw(steps, rate), context, size, steps, list(LENGTHS))


def _parts(steps: int) -> int:
    (steps,) = _counts(steps=steps)
    if steps % 50:
        raise ValueError(f"steps must be a multiple of 50, got {steps}")
    return steps


class _Network(NamedTuple):
    init: Callable[[jax.Array], Any]
    predict: Callable[[Any, Any], Any]  # of prompts, with a row of labels for each
    tokens: str


_transformer = _same(Transformer)


@_same
def _column(blocks: Any) -> Callable[[Any, Any], Any]:
    def predict(params: Any, prompts: Any) -> Any:
        return blocks.predict(params, blocks.inputs(prompts))[:, None]

    return predict


def _measure(
    network: _Network, optimiser: optax.GradientTransformation, context: tuple[int, int, float],
    size: int, steps: int, lengths: list[int], *, k: int | None = None, n: int | None = None,
) -> Measure:  # fmt: skip
    (d, ell, rho), predict = context, network.predict
    # As many together as divide a fiftieth of the steps.
    together = max(count for count in range(1, 101) if steps // 50 % count == 0)

    def measure(seed: Seed) -> dict[str, Any]:
        streams = backend.streams(backend.child_seed(seed, 0))
        key, initial, once = _keys(backend.child_seed(seed, 1), 3)
        listed = None if k is None else draw_tasks(k, d, streams.tasks, prior="gaussian")
        draw: Any = Fresh(d, ell, rho, "float32") if k is None else Listed(listed, ell, rho)
        draw = _single(Labelled(draw, network.tokens))
        if n is not None:
            kept = jax.tree.map(lambda leaf: leaf[0], draw(once, (1, n)))
            draw = Fixed(kept, overlap=True)

        w = draw_tasks(_TESTS, d, streams.tasks, prior="gaussian")
        test, found = _test(w, ell, rho, streams), {}
        ridge = ridge_mean(test.contexts.tokens, test.contexts.labels, rho)

        def watch(part: int, params: Any) -> None:
            if 2 * part in LOOKS:
                found[f"excess_{2 * part:02d}"] = _from(predict, params, test, ridge)

        start = _single(network.init(initial))
        params, losses = fit(
            predict, start, draw, optimiser, steps, key=key, shape=(together, size),
            watch=watch,
        )  # fmt: skip
        w = draw_tasks(_TESTS // 2, d, streams.tasks, prior="gaussian")
        found |= _along(predict, params, _test(w, lengths[-1], rho, streams), lengths, rho)
        found["bayes_error"] = rho + float(np.mean((ridge - test.w) ** 2))
        found["icl_error"] = found["bayes_error"] + _from(predict, params, test, ridge)
        found["train_loss"] = np.mean(losses[-steps // 50 :])
        if listed is not None:
            w = listed[streams.tasks.integers(len(listed), size=_TESTS)]
            old = _test(w, ell, rho, streams)
            known, memory = (
                dmmse_mean(some.contexts.tokens, some.contexts.labels, listed, rho)
                for some in (old, test)
            )
            found |= {
                "idg_error": rho + _from(predict, params, old, w),
                "dmmse_error": rho + float(np.mean((known - w) ** 2)),
                "from_dmmse": _from(predict, params, test, memory),
                "from_ridge": _from(predict, params, test, ridge),
            }
        return found

    return measure


class _Test(NamedTuple):
    """Contexts of a test, one task for each."""

    prompts: Any
    contexts: Contexts
    w: np.ndarray


def _test(w: np.ndarray, ell: int, rho: float, streams: backend.Streams) -> _Test:
    contexts = draw_contexts(w, ell, rho, streams)
    return _Test(jnp.asarray(write(contexts), jnp.float32), contexts, w)


def _from(predict: Any, params: Any, test: _Test, mean: np.ndarray) -> float:
    """Return the mean square of the difference from the predictions of some mean of the task."""
    found = np.asarray(compiled(predict)(params, test.prompts)[:, -1])
    return float(np.mean((found - np.vecdot(mean, test.contexts.query)) ** 2))


def _along(
    predict: Any, params: Any, test: _Test, lengths: list[int], rho: float
) -> dict[str, float]:
    """Compare with Bayes ridge at other context lengths: the queries are tokens of one context."""
    tokens = np.concatenate([test.contexts.tokens, test.contexts.query[:, None]], axis=1)
    excess = {}
    for length in lengths:
        x, y = tokens[:, :length], test.contexts.labels[:, :length]
        part = Contexts(x, y, tokens[:, length], test.contexts.target)
        prompts = jnp.asarray(write(part), jnp.float32)
        mean = ridge_mean(x, y, rho)
        excess[f"excess_ell_{length:02d}"] = _from(
            predict, params, _Test(prompts, part, test.w), mean
        )
    return excess
