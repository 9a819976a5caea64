"""How far the errors of prediction are off while a fit is not finished, foretold by the theory.

With Δ for what Γ lacks, predictions are off by xᵀΔh, by δ√e in the root mean square, where e is the
error. What they are off by is all but uncorrelated with what is not predicted: conjugate gradients
have made them orthogonal on the data, and apart from this Δ has no preferred direction among the
D = d(d + 1) features. So the error is off by no more than

    |Δe|/e ≤ δ² + 2zδ/√D,   z = 2,

and not by 2δ, the bound for any Δ at all. The edge of the spectrum, see `iclkit.fits.cost`, takes
the residual of a fit to δ, and what is left of the labels tells e, as in generalised
cross-validation. Source: eq-accuracy in the book.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from iclkit import _validate
from iclkit.fits import cost

# Standard errors of a mean over the features.
_Z = 2.0


class Reach(NamedTuple):
    """What a residual of 1 means for the errors of prediction.

    Attributes
    ----------
    gain : float
        By how much, at most, predictions move in the root mean square.
    share : float
        What the squares that the system leaves, see `reach`, are to be divided by for the error.
    features : int
        D = d(d + 1).

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import accuracy
    >>> reach = accuracy.reach("primal", np.ones(11), d=10, n=440)
    >>> round(reach.share)  # (1 − D/n)² of n
    248
    >>> goal = reach.goal(squares=44.0, accuracy=1e-4)
    >>> print(f"{reach.off(goal, squares=44.0):.1e}")
    1.0e-04
    """

    gain: float
    share: float
    features: int

    def goal(self, squares: float, accuracy: float) -> float:
        """Return the residual that leaves both errors within a share `accuracy` of them."""
        slope = _Z / self.features**0.5
        delta = accuracy / (slope + (slope**2 + accuracy) ** 0.5)
        return delta * (squares / self.share) ** 0.5 / self.gain

    def off(self, residual: float, squares: float) -> float:
        """Return the share of the errors that they may be off by, inf where nothing is left."""
        delta = self.gain * residual * (self.share / squares) ** 0.5 if squares > 0 else np.inf
        return delta**2 + 2 * _Z / self.features**0.5 * delta


def reach(side: str, t: np.ndarray, d: int, n: int, ridge: float = 0.0) -> Reach:
    """Foretell what a residual means for the errors on old and on new tasks.

    Parameters
    ----------
    side : {"dual", "primal"}
        Whose residual: that of (ΦΦᵀ + ridge) z = y, for n ≤ d(d + 1), whose squares are |z|²; or
        the whitened one of (ΦᵀΦ + ridge) Γ = Φᵀy, for n > d(d + 1), see `iclkit.fits.cost`,
        whose squares are |y − ΦΓ|².
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
    On the dual side |Δ| ≤ |r| max σ/(σ² + ridge) over the spectrum, and predictions on new tasks
    move by |Δ| times the root of the mean variance. On the primal side the whitened Δ is at most
    the residual over the lower edge; on new tasks, on average over directions, this grows by
    R = mean(t)·mean(1/(t + ridge/n)), and the error by no less than R·D/n, if that is above 1.
    The shares are those of generalised cross-validation, n times the squares of
    m = tr(ΦΦᵀ + ridge)⁻¹/n and of ridge·m, or 1 − D/n.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.fits import accuracy
    >>> far, near = (accuracy.reach("dual", np.ones(11), d=10, n=n).gain for n in (30, 100))
    >>> print(far < near)  # near n = d(d + 1), a small residual may hide much
    True
    """
    _validate.choice("side", side, ("dual", "primal"))
    m = cost.mean_resolvent(t, d, n, ridge)
    features = d * len(t)
    if side == "dual":
        low = cost.plain_edges(t, d, n, ridge)[0] - ridge
        most = max(low, ridge)
        return Reach(float(np.mean(t) ** 0.5 * most**0.5 / (most + ridge)), n * m**2, features)
    low = cost.whitened_edges(t, d, n, ridge)[0]
    spread = float(np.mean(t) * np.mean(1 / (t + ridge / n)))
    left = ridge * m if ridge > 0 else 1 - features / n
    on_new_tasks = spread / max(1.0, features / n * spread)
    return Reach(max(1.0, on_new_tasks) ** 0.5 / low / n**0.5, n * left**2, features)
