"""Networks that are trained on one spectrum of the context, and tested where it is another.

The covariance S of a context has eigenvalues that are drawn, and axes that are turned at random.
They are exactly those of S, as of long contexts, so that step sizes have a theory at every d: what
L layers with steps η_l leave along an eigenvalue x is p(x) = Π (1 − η_l x).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import brentq

from iclkit import _validate, backend
from iclkit._types import Seed
from iclkit.theory.descent import Law
from iclkit.trained._jax import jax, jnp
from iclkit.trained.attention import compiled
from iclkit.trained.prompts import Sample
from iclkit.trained.train import adamw
from iclkit.trained.trials import (
    Measure,
    _bound,
    _double,
    _fit,
    _gradient,
    _keys,
    _layers,
    _rotations,
    _trial,
)

SPECTRA = ("band", "ends")
# Factors by which all eigenvalues are multiplied at test, and eigenvalues that one is moved to.
SCALES = (1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.6)
PLACES = tuple(np.linspace(0.1, 2.2, 22).round(1).tolist())
# Test contexts; and no network is looked at beyond this eigenvalue, or this factor.
_CONTEXTS, _FAR = 1000, 8.0


def intervals(spectrum: str, chi: float) -> np.ndarray:
    """Where the eigenvalues of training lie.

    Parameters
    ----------
    spectrum : {"band", "ends"}
        All between the least and the largest one, or only the lowest and the highest twentieth.
    chi : float
        The largest over the least, more than 1 and finite.

    Returns
    -------
    numpy.ndarray of shape (2, 2)
        Two intervals of the same weight, with a mean of 1 over both: from 2/(χ + 1) to
        2χ/(χ + 1).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from iclkit.trained import shifts
    >>> print(shifts.intervals("ends", chi=3.0))
    [[0.5  0.55]
     [1.45 1.5 ]]
    """
    _validate.choice("spectrum", spectrum, SPECTRA)
    chi = _validate.finite("chi", chi)
    if chi <= 1:
        raise ValueError(f"chi must be more than 1, got {chi}")
    low, high = 2 / (chi + 1), 2 * chi / (chi + 1)
    width = (high - low) / (2 if spectrum == "band" else 20)
    return np.array([[low, low + width], [high - width, high]])


def law(spectrum: str, chi: float, points: int = 40) -> Law:
    """Gauss quadrature for the eigenvalues of training, which are uniform in `intervals`.

    Parameters
    ----------
    spectrum, chi
        See `intervals`.
    points : int
        Nodes in each of both, at least 1.

    Returns
    -------
    Law
        Exact for polynomials of degree at most 2 points − 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from iclkit.theory import descent
    >>> from iclkit.trained import shifts
    >>> band = shifts.law("band", chi=25.0)
    >>> print(round(descent.best_step(band, depth=1), 3))  # 1/(1 + variance)
    0.779
    """
    nodes, weights = np.polynomial.legendre.leggauss(_validate.count("points", points))
    low, high = intervals(spectrum, chi).T
    x = low[:, None] + (high - low)[:, None] * (nodes + 1) / 2
    return Law(x.ravel(), np.tile(weights, 2) / 4)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Spectra:
    """New contexts with eigenvalues from two intervals, turned axes and labels without noise.

    A context has d tokens, √x_i times the axis i; any other with the same covariance S is the same
    to linear attention. Tasks, and queries of length about 1, are isotropic.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from iclkit.trained import shifts
    >>> draw = shifts.Spectra(jnp.eye(3)[None], jnp.array([[0.1, 0.2], [1.8, 1.9]]))
    >>> inputs, targets = jax.jit(lambda key: draw(key, (5,)))(jax.random.key(0))
    >>> inputs.shape, targets.shape
    ((5, 4, 4), (5,))
    """

    pool: Any  # rotations, of shape (m, d, d)
    intervals: Any  # of shape (2, 2)

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> Sample:
        """Draw, in the precision of the pool."""
        *keys, asked = jax.random.split(key, 5)
        turn, x, w = self.contexts(keys, shape)
        query = jax.random.normal(asked, w.shape, w.dtype) / w.shape[-1] ** 0.5
        return Sample(_write(turn, x, w, query), jnp.sum(w * query, axis=-1))

    def contexts(self, keys: Any, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
        """Draw axes, as columns, eigenvalues and tasks, from four keys."""
        picks, halves, places, tasks = keys
        dtype, d = self.pool.dtype, self.pool.shape[-1]
        turn = self.pool[jax.random.randint(picks, shape, 0, len(self.pool))]
        low, high = self.intervals[jax.random.randint(halves, (*shape, d), 0, 2)].T
        x = (low + (high - low) * jax.random.uniform(places, (*shape, d), dtype).T).T
        return turn, x, jax.random.normal(tasks, (*shape, d), dtype)


def _write(turn: Any, x: Any, w: Any, query: Any) -> Any:
    tokens = jnp.sqrt(x)[..., :, None] * turn.mT
    labels = jnp.einsum("...ij,...j->...i", tokens, w)
    context = jnp.concatenate([tokens, labels[..., None]], axis=-1)
    asked = jnp.concatenate([query, jnp.zeros_like(query[..., :1])], axis=-1)
    return jnp.concatenate([context, asked[..., None, :]], axis=-2)


@_trial
def trained_shifts(
    *, spectrum: str, chi: float, full: bool, depth: int, steps: int, rate: float, d: int = 8,
    size: int = 64,
) -> Measure:  # fmt: skip
    """Train a looped network and one with layers of its own, and test both on other spectra.

    They see the same contexts. Step sizes start at random, full layers at equal gradient steps, see
    `iclkit.trained.depth.Layers.init`.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        See `iclkit.trained.trials.trained_attention`.
    spectrum, chi
        See `intervals`.
    full : bool
        Whether layers have all their matrices, and not a step size only.
    depth, d, size : int
        Number of layers L, dimension, contexts of a step; each at least 1.
    steps, rate
        See `iclkit.trained.train.adamw`.

    Returns
    -------
    dict
        Of both networks, with the endings `_tied` and `_own`, on 1000 new contexts: `risk`, the
        mean of |ŵ − w|²/d, 1 for a network that answers 0; `scale`, the factor of all eigenvalues
        from which on it is more than 1, and `scaled_0`, … what it is at `SCALES`; `edge`, and
        `along_0`, … at `PLACES`, the same for the square along one eigenvalue that is moved there.
        Nothing is looked at beyond 8.

    Examples
    --------
    >>> from iclkit.trained import shifts
    >>> point = {"spectrum": "band", "chi": 25.0, "full": True, "depth": 2, "rate": 3e-3}
    >>> measure = shifts.trained_shifts.check(**point, steps=100)  # trains nothing yet
    >>> shifts.trained_shifts.check(**point | {"chi": 1.0}, steps=100)
    Traceback (most recent call last):
        ...
    ValueError: chi must be more than 1, got 1.0
    """
    where, optimiser = intervals(spectrum, chi), adamw(steps, rate, decay=0.0)
    depth, d, size = (
        _validate.count(name, number)
        for name, number in {"depth": depth, "d": d, "size": size}.items()
    )
    full = _validate.flag("full", full)
    kind, begin = ("full", "equal") if full else ("scalar", "random")

    def measure(seed: Seed) -> dict[str, Any]:
        key, tested, initial = _keys(backend.child_seed(seed, 0), 3)
        draw = _double(Spectra(_rotations(backend.child_seed(seed, 1), d), where))
        turn, x, w = draw.contexts(jax.random.split(tested, 4), (_CONTEXTS,))
        found: dict[str, Any] = {}
        for ending, layers in (("tied", f"{kind}-tied"), ("own", kind)):
            network = _layers(layers, depth)
            params = network.init(initial, d, begin)
            params, _ = _fit(network.predict, params, draw, optimiser, steps, size, key)
            left = partial(compiled(_bound(_left, network)), params, turn, w)
            results = _measured(left, x, float(where[1, 1]))
            found |= {f"{name}_{ending}": value for name, value in results.items()}
        return found

    return measure


def _measured(left: Any, x: Any, top: float) -> dict[str, Any]:
    def scaled(factor: float) -> float:
        return float(np.mean(left(factor * x) ** 2))

    def along(place: float) -> float:
        return float(np.mean(left(x.at[:, 0].set(place))[:, 0] ** 2))

    found = {"risk": scaled(1.0), "scale": _passes(scaled, 1.0), "edge": _passes(along, top)}
    found |= {f"scaled_{j}": scaled(factor) for j, factor in enumerate(SCALES)}
    return found | {f"along_{j}": along(place) for j, place in enumerate(PLACES)}


def _left(network: Any, params: Any, turn: Any, w: Any, x: Any) -> Any:
    """Return what is left of each task, along its context's axes."""
    prompts = _write(turn, x, w, jnp.zeros_like(w))
    # Predictions are linear in the query, so their gradient is the estimate of the task.
    estimate = _gradient(network, params, prompts)[:, -1, :-1]
    return jnp.einsum("nji,nj->ni", turn, w - estimate)


def _passes(risk: Any, start: float) -> float:
    """Find where a risk first passes 1, on a grid from the start, and then to 1e-4."""
    if not risk(start) <= 1:
        return start
    below = start
    for above in np.geomspace(start, _FAR, 31)[1:]:
        if not risk(above) <= 1:
            return float(brentq(lambda at: np.log(risk(at)), below, above, xtol=1e-4))
        below = above
    return _FAR
