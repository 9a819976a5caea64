"""Networks that can make gradient steps: L step sizes, or L layers of linear attention.

Step sizes, or all matrices of a full layer, are one for all layers or one for each; the step that
a full layer makes is read off its parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from iclkit import _validate
from iclkit.theory.descent import deep_attention, descent_layers
from iclkit.trained._jax import jax, jnp

LAYERS = ("scalar-tied", "scalar", "full-tied", "full")
STARTS = ("equal", "random")


class Reading(NamedTuple):
    """What the layers of a network do, one number of each kind for a layer.

    Attributes
    ----------
    steps : numpy.ndarray of shape (L,)
        Step sizes η_l.
    tokens : numpy.ndarray of shape (L,)
        Factors v_l by which tokens are changed, x ← (I + v_l S) x.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained.depth import Layers, Reading, written
    >>> params = written(Reading(steps=np.array([0.5, 1.0]), tokens=np.array([-0.1, 0.0])), d=3)
    >>> steps, tokens = Layers("full", depth=2).read(params)
    >>> print(steps.round(3), tokens.round(3))
    [0.5 1. ] [-0.1  0. ]
    """

    steps: np.ndarray
    tokens: np.ndarray


@dataclass(frozen=True)
class Layers:
    """A network of L layers.

    Attributes
    ----------
    layers : {"scalar-tied", "scalar", "full-tied", "full"}
        Step sizes or all matrices of `deep_attention`, the same in all layers if tied. The
        parameters are `steps` of shape () or (L,), or `between` and `value` of shape
        (d + 1, d + 1) or (L, d + 1, d + 1).
    depth : int
        Number of layers L, at least 1.

    Examples
    --------
    >>> import jax
    >>> from iclkit.trained.depth import Layers
    >>> model = Layers("full", depth=2)
    >>> params = model.init(jax.random.key(0), 3, "equal")
    >>> {name: matrices.shape for name, matrices in params.items()}
    {'between': (2, 4, 4), 'value': (2, 4, 4)}
    >>> print(model.read(params).steps)
    [0.5 0.5]
    """

    layers: str
    depth: int

    def __post_init__(self) -> None:
        """Check the attributes."""
        _validate.choice("layers", self.layers, LAYERS)
        _validate.count("depth", self.depth)

    def init(self, key: jax.Array, d: int, start: str) -> dict[str, Any]:
        """Draw parameters for tokens of dimension d.

        Every layer makes a gradient step of size 1/L if `start` is "equal". If it is "random",
        step sizes are uniform between 0 and 2/L, and the matrices of a full network have Gaussian
        entries of variance 1/(4 (d + 1)).
        """
        equal = _validate.choice("start", start, STARTS) == "equal"
        d, shape = _validate.count("d", d), self._shape
        if not self._full:
            drawn = jax.random.uniform(key, shape, maxval=2.0)
            return {"steps": jnp.where(equal, 1.0, drawn) / self.depth}
        if equal:
            layer = written(Reading(np.array([1 / self.depth]), np.zeros(1)), d)
            return {
                name: np.broadcast_to(matrices[0], (*shape, d + 1, d + 1))
                for name, matrices in layer.items()
            }
        between, value = jax.random.normal(key, (2, *shape, d + 1, d + 1)) / (2 * (d + 1) ** 0.5)
        return {"between": between, "value": value}

    def predict(self, params: dict[str, Any], prompts: Any) -> Any:
        """Predict n labels from prompts of shape (n, ell + 1, d + 1), see `prompts`."""
        self._check(params)
        if self._full:
            pairs = zip(*self._stacked(jnp, params), strict=True)
            return deep_attention(list(pairs), prompts)
        tokens, labels, query = prompts[:, :-1, :-1], prompts[:, :-1, -1], prompts[:, -1, :-1]
        found, scale = jnp.zeros_like(query), query.shape[1] / labels.shape[1]
        for step in jnp.broadcast_to(params["steps"], (self.depth,)):
            # Sums of products are compiled to faster code than as many small matrix products.
            residual = labels - jnp.sum(tokens * found[:, None, :], axis=2)
            found = found + step * scale * jnp.sum(tokens * residual[:, :, None], axis=1)
        return jnp.sum(query * found, axis=1)

    def read(self, params: dict[str, Any]) -> Reading:
        """Read off what each layer does to labels and to tokens; see eq-read-steps in the book.

        Of full layers, it is the diagonal of `between` for the x, averaged, times the last
        diagonal entry of `value` with a minus sign, and times the others, averaged.
        """
        self._check(params)
        if not self._full:
            steps = np.broadcast_to(np.asarray(params["steps"]), (self.depth,))
            return Reading(steps, np.zeros(self.depth))
        between, value = (
            np.diagonal(matrices, axis1=1, axis2=2) for matrices in self._stacked(np, params)
        )
        compared = between[:, :-1].mean(axis=1)
        return Reading(-value[:, -1] * compared, value[:, :-1].mean(axis=1) * compared)

    @property
    def _full(self) -> bool:
        return self.layers.startswith("full")

    @property
    def _shape(self) -> tuple[int, ...]:
        return () if self.layers.endswith("tied") else (self.depth,)

    def _stacked(self, xp: Any, params: dict[str, Any]) -> list[Any]:
        """Return both matrices of all layers, with those that are tied repeated."""
        matrices = [xp.asarray(params[name]) for name in ("between", "value")]
        return [xp.broadcast_to(one, (self.depth, *one.shape[-2:])) for one in matrices]

    def _check(self, params: dict[str, Any]) -> None:
        names, own = (("between", "value"), 2) if self._full else (("steps",), 0)
        shapes = {name: np.shape(value) for name, value in params.items()}
        for name in names:
            shape = shapes.get(name)
            if shape is None or len(shape) < own or shape[: len(shape) - own] != self._shape:
                raise ValueError(f"params must be those of {self}, got shapes {shapes}")


def written(reading: Reading, d: int) -> dict[str, np.ndarray]:
    """Make the full layers that do what was read off, and nothing else.

    Parameters
    ----------
    reading : Reading
        Step sizes and factors of L layers.
    d : int
        Dimension, at least 1.

    Returns
    -------
    dict
        Parameters of `Layers`; NumPy arrays.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.trained import depth
    >>> steps, prompts = np.array([0.5, 0.4]), np.array([[[1.0, 2.0], [3.0, 0.0]]])
    >>> params = depth.written(depth.Reading(steps, np.zeros(2)), d=1)
    >>> full = depth.Layers("full", 2).predict(params, prompts)
    >>> np.allclose(full, depth.Layers("scalar", 2).predict({"steps": steps}, prompts))
    True
    """
    _validate.instance("reading", reading, Reading, "a Reading of steps and tokens")
    layers = descent_layers(reading.steps, d)
    factors = _validate.array("reading.tokens", np.asarray(reading.tokens), (len(layers),))
    between, value = (np.stack(matrices) for matrices in zip(*layers, strict=True))
    tokens = np.diag([1.0] * d + [0.0])
    return {"between": between, "value": value + factors[:, None, None] * tokens}
