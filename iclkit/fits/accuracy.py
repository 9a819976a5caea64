"""How far the errors of prediction are off while a fit is not finished, foretold by the theory.

With Δ for what Γ lacks, predictions are off by xᵀΔh, by δ√e in the root mean square, where e is the
error. What they are off by is all but uncorrelated with what is not predicted: conjugate gradients
have made them orthogonal on the data, and apart from this Δ has no preferred direction among the
D = d(d + 1) features. So the error is off by no more than

    |Δe|/e ≤ δ² + 2zδ/√D,   z = 2.5,

and not by 2δ, the bound for any Δ at all. Conjugate gradients know Δ: each step lowers its square
by a number that they have, and these fall by a rate that the edges of the spectrum tell, see
`iclkit.fits.cost`. What is left of the labels tells e, as in generalised cross-validation.
Source: eq-accuracy in the book.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from iclkit import _validate
from iclkit.fits import cost

# Standard errors of a mean over the features.
_Z = 2.5


class Reach(NamedTuple):
    """What conjugate gradients still have to do, in terms of the errors of prediction.

    Attributes
    ----------
    gain : float
        By how much, at most, predictions move in the root mean square, where the distance from
        the solution, in the norm of the system, is 1.
    share : float
        What the squares that the system leaves, see `reach`, are to be divided by for the error.
    features : float
        D = d(d + 1), or fewer where some features have more weight.
    rate : float
        By what the squared distance falls with each step, in the end.
    unit : float
        The distance where a residual of norm 1 has no preferred direction.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import accuracy
    >>> reach = accuracy.reach("primal", np.ones(11), d=10, n=440)
    >>> round(reach.share), round(reach.rate, 3)  # (1 − D/n)² of n, and D/n
    (248, 0.25)
    >>> goal = reach.goal(squares=44.0, accuracy=1e-4)
    >>> print(f"{reach.off(goal, squares=44.0):.1e}")
    1.0e-04
    """

    gain: float
    share: float
    features: float
    rate: float
    unit: float

    def goal(self, squares: float, accuracy: float) -> float:
        """Return the distance that leaves both errors within a share `accuracy` of them."""
        slope = _Z / self.features**0.5
        delta = accuracy / (slope + (slope**2 + accuracy) ** 0.5)
        return float(delta * (squares / self.share) ** 0.5 / self.gain)

    def off(self, distance: float, squares: float) -> float:
        """Return the share of the errors that they may be off by, inf where nothing is left."""
        delta = self.gain * distance * (self.share / squares) ** 0.5 if squares > 0 else np.inf
        return float(delta**2 + 2 * _Z / self.features**0.5 * delta)

    def distance(self, falls: list[float]) -> float:
        """Return the distance that is left, from what each step has lowered its square by."""
        # Where it falls more slowly than foretold, as is seen over one step and over three, there
        # is more of it.
        seen = [(falls[-1] / falls[-1 - j]) ** (1 / j) for j in (1, 3) if j < len(falls)]
        rate = min(max(self.rate, *seen), 0.999) if seen else 0.999
        return float((falls[-1] * rate / (1 - rate)) ** 0.5)


def reach(side: str, t: np.ndarray, d: int, n: int, ridge: float = 0.0) -> Reach:
    """Foretell what is left to do for the errors on old and on new tasks.

    Parameters
    ----------
    side : {"dual", "primal"}
        Whose conjugate gradients: those of (ΦΦᵀ + ridge) z = y, for n ≤ d(d + 1), whose squares
        are |z|²; or the whitened ones of (ΦᵀΦ + ridge) Γ = Φᵀy, for n > d(d + 1), see
        `iclkit.fits.cost`, whose squares are |y − ΦΓ|².
    t : array of shape (d + 1,)
        Variances of the features, each shared by d of them; positive.
    d : int
        Dimension.
    n : int
        Contexts.
    ridge : float
        What is added to the diagonal, at least 0.

    Returns
    -------
    Reach
        In the limit of large d.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    On the dual side |Δ| is at most the distance, and predictions on new tasks move by |Δ| times the
    root of the mean variance; Δ has the weights t, and D is (Σt)²/Σt². On the primal side the
    whitened Δ is at most the distance over the root of the lower edge; on new tasks, on average
    over directions, this grows by mean(t)·mean(1/(t + ridge/n)), and the error, by the noise in Γ*,
    by no less than mean(t)·mean(t/(t + ridge/n)²)·D/n, if that is above 1. The shares are those of
    generalised cross-validation, n times the squares of m = tr(ΦΦᵀ + ridge)⁻¹/n and of ridge·m, or
    1 − D/n.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import accuracy
    >>> far, near = (accuracy.reach("dual", np.ones(11), d=10, n=n).rate for n in (30, 100))
    >>> print(far < near)  # near n = d(d + 1), it takes long
    True
    """
    _validate.choice("side", side, ("dual", "primal"))
    return _reach(side, *cost._check(t, d, n, ridge))


def _reach(side: str, t: np.ndarray, d: int, n: int, ridge: float) -> Reach:
    dual = side == "dual"
    # At n = d(d + 1) the inverse is as if one row less had been there.
    m = cost._mean_resolvent(t, d, min(n, d * t.size - 1) if dual and ridge == 0 else n, ridge)
    low, high = (cost._plain_edges if dual else cost._whitened_edges)(t, d, n, ridge)
    root, features = (high / low) ** 0.5, d * t.size
    rate = ((root - 1) / (root + 1)) ** 2
    if dual:
        weighted = float(d * np.sum(t) ** 2 / np.sum(t**2))
        return Reach(float(np.mean(t)) ** 0.5, n * m**2, weighted, rate, m**0.5)
    inverse = 1 / (t + ridge / n)
    spread, of_noise = (float(np.mean(t) * np.mean(part)) for part in (inverse, t * inverse**2))
    on_new_tasks = max(1.0, spread / max(1.0, features / n * of_noise))
    left = ridge * m if ridge > 0 else 1 - features / n
    return Reach((on_new_tasks / low / n) ** 0.5, n * left**2, features, rate, 1.0)
