r"""What the limit theory says of a law of tasks, besides the errors.

With tasks of covariance C and isotropic tokens, all that pretraining keeps of its k tasks, whose
covariance is R, is the equivalent (R + x)⁻¹ ≃ F(x) = (cC + x)⁻¹. New tasks of another covariance
enter through the alignment tr C_test F(x) alone. How much worse a law nearby can make the error is
a matter of the spectrum of one matrix. `iclkit.theory.icl_error` takes laws of tasks and tokens.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq, minimize_scalar

from iclkit import _validate
from iclkit._labels import labelled
from iclkit.data.laws import AnyLaw, Law, as_law, eigenvalues, isotropic
from iclkit.theory import _levels, _structured
from iclkit.theory._setting import Setting, setting
from iclkit.theory._shrinkage import shrinkage

# Directions of the sample that the spectrum of R is taken from.
_SIZE = 800
_MOST_STEPS = 200


@labelled("tasks", "test_tasks")
def alignment(
    x: ArrayLike,
    kappa: ArrayLike,
    *,
    tasks: AnyLaw | None = None,
    test_tasks: AnyLaw | None = None,
) -> Any:
    """Alignment a(x) = tr C_test F(x) of tasks at test with those of pretraining.

    Parameters
    ----------
    x : float or array
        Shift, positive; q + ξ in the error on new tasks.
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    tasks, test_tasks : law, optional
        Covariances of the tasks in pretraining and at test, as for `iclkit.theory.icl_error`; by
        default the identity, and that of pretraining.

    Returns
    -------
    float or array
        a(x), broadcast over x and κ: between tr C_test/(x + max C) and tr C_test/x.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    With it e_ICL = ρ_test + q_test Y + Sa + (Sξ − x²)a′ at x = q + ξ, where S and Y do not depend
    on the test. Without ridge at τ > 1 the bias is −q²a′(q), and the variance is Sa(q).

    Examples
    --------
    >>> from iclkit import theory
    >>> from iclkit.data import laws
    >>> print(theory.structured.alignment(1.0, float("inf")))
    0.5
    >>> low, flat = laws.low_rank(0.5), laws.isotropic()
    >>> print(theory.structured.alignment([0.1, 1.0], 1.0, tasks=low, test_tasks=flat).round(3))
    [5.422 0.707]
    """
    x, kappa = _validate.positive("x", x), _validate.positive("kappa", kappa)
    if np.any(np.isinf(x)):
        raise ValueError("x must be positive and finite, got inf")
    law = setting(tasks, test_tasks, None, None)
    x, kappa = np.broadcast_arrays(x, kappa)
    p = law.tasks / (x.reshape(-1, 1) / law.task_unit)
    _, g, _ = shrinkage(p, law.weights, kappa.astype(float).ravel())
    found = (g @ (law.weights * law.test_tasks)).reshape(x.shape)
    return (found * law.task_unit / x)[()]


@labelled("tasks")
def worst_error(
    radius: ArrayLike,
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
    *,
    tasks: AnyLaw | None = None,
    trained: bool = True,
    seed: int = 0,
) -> Any:
    """Largest error on new tasks of any law near that of pretraining.

    Parameters
    ----------
    radius : float or array
        Distance r > 0 of laws up to which is looked: the Wasserstein-2 distance per dimension, the
        least root of E|w − w₀|²/d over pairs of tasks from both laws.
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d, positive and finite.
    kappa : float or array
        Task diversity κ = k/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    lam : float or array
        Ridge λ, at least 0.
    tasks : law, optional
        Covariance of the tasks, as for `iclkit.theory.icl_error`; by default the identity. Tokens
        are isotropic.
    trained : bool
        Whether the law is the worst for the fitted Γ*, or for its mean. The former fluctuates in
        all directions, of which the worst law uses the most harmful ones: that is worse by a
        factor of 1.3 to 2.3 at points that were tried.
    seed : int
        Of the sample of tasks, at 800 dimensions, whose spectrum the former is computed from.

    Returns
    -------
    float or array
        The error, label noise included, broadcast over the arguments; inf where it diverges. With
        `trained` and a finite κ it has the scatter of one sample, some 10⁻³ of its value.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Warns
    -----
    iclkit.data.laws.FewDirectionsWarning
        If tasks have so few directions that the limit is off by some per cent.

    Notes
    -----
    The risk of a task is ρ(1 + φ) + wᵀQw/d, and the worst law has the error of eq-worst-dual in the
    book. The limit of Q for the fitted Γ* is heuristic; simulated errors at four points,
    extrapolated from d = 16 to 56, were within 1.3 standard errors of it, which were about 1 %.
    `worst_law` is the worst law for one who does not know the draw.

    Examples
    --------
    >>> from iclkit import theory
    >>> point = {"tau": 0.5, "alpha": 3.0, "kappa": float("inf"), "rho": 0.1, "lam": 0.1}
    >>> print(theory.icl_error(**point).round(2))
    1.02
    >>> print(theory.structured.worst_error([0.1, 0.5], **point).round(2))
    [1.26 2.57]
    >>> print(theory.structured.worst_error([0.1, 0.5], **point, trained=False).round(2))
    [0.67 1.17]
    """
    radius = _validate.positive("radius", radius)
    if np.any(np.isinf(radius)):
        raise ValueError("radius must be positive and finite, got inf")
    _validate.flag("trained", trained)
    seed = _validate.count("seed", seed, 0)
    law, numbers = _structured.checked((tasks, None, None, None), tau, alpha, kappa, rho, lam)

    @functools.cache
    def at(*point: float) -> _Quadratic | None:
        return _quadratic(law, point, trained, seed)

    def worst(r: float, *point: float) -> float:
        form = at(*point)
        return np.inf if form is None else _worst(form, r / law.unit**0.5)

    return (law.unit * np.vectorize(worst, otypes=[float])(radius, *numbers))[()]


def worst_law(
    radius: float,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    *,
    tasks: AnyLaw | None = None,
) -> Law:
    """Law of tasks at which new tasks are hardest, of all near that of pretraining.

    It is chosen with knowledge of all numbers of pretraining, but not of the tasks and contexts
    that were drawn. Then the error is linear in the law, and the worst one has the eigenvectors of
    that of pretraining.

    Parameters
    ----------
    radius : float
        Distance r > 0 of laws up to which is looked, as for `worst_error`.
    tau : float
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float
        Context length α = ℓ/d, positive and finite.
    kappa : float
        Task diversity κ = k/d in (0, inf].
    rho : float
        Variance of the label noise, at least 0.
    lam : float
        Ridge λ, at least 0; not 0 at τ = 1, where errors are infinite.
    tasks : law, optional
        Covariance C of the tasks, as for `iclkit.theory.icl_error`; by default the identity. Tokens
        are isotropic.

    Returns
    -------
    Law
        With the directions of C. Its error is that of `iclkit.theory.icl_error` with it as
        `test_tasks`, and at most that of `worst_error`, whose laws know the draw.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Warns
    -----
    iclkit.data.laws.FewDirectionsWarning
        If tasks have so few directions that the limit is off by some per cent.

    Notes
    -----
    The error on a law C_t is a constant plus tr C_tE, with E of eq-blind-sensitivity in the book.
    The worst law is T C T, T = η(η − E)⁻¹, with η from eq-worst-radius at E in place of Q. Where C
    is zero no stretching moves it: if the largest E is there, what is left of r² goes there.

    Examples
    --------
    >>> from iclkit import theory
    >>> from iclkit.data import laws
    >>> point = {"tau": 2.0, "alpha": 2.0, "kappa": 1.0, "rho": 0.1}
    >>> law = laws.two_level(0.5, 0.25)
    >>> worst = theory.structured.worst_law(0.5, **point, tasks=law)
    >>> print(law.values, worst.values.round(2))  # all are longer, the rare ones by more
    [1.75 0.25] [3.14 1.09]
    >>> print(theory.icl_error(**point, tasks=law, test_tasks=worst).round(2))
    2.05
    """
    radius = _validate.finite("radius", radius)
    point = [
        _validate.scalar(_validate.positive, "tau", tau),
        _validate.finite("alpha", alpha),
        _validate.scalar(_validate.positive, "kappa", kappa),
        _validate.scalar(_validate.nonnegative, "rho", rho),
        _validate.scalar(_validate.nonnegative, "lam", lam),
    ]
    law, _ = _structured.checked((tasks, None, None, None), *point)
    mean = _mean(law, point)
    if mean is None:
        raise ValueError("lam must be above 0 at tau = 1, where the error is infinite, got 0.0")
    E = mean.missed + mean.fluctuation + (mean.size + mean.spread) / point[1]
    values = _worst_levels(E, law.tasks, law.weights, radius / law.task_unit**0.5)
    own = isotropic() if tasks is None else as_law("tasks", tasks)
    # Equal eigenvalues may be one level of the setting.
    known, first = np.unique(law.tasks, return_index=True)
    level = first[np.searchsorted(known, own.values / law.task_unit)]
    return own._replace(values=values[level] * law.task_unit, vectors=None)


def _worst_levels(E: np.ndarray, C: np.ndarray, w: np.ndarray, r: float) -> np.ndarray:
    """Return C stretched to the distance r, most where E is large, for tr C = 1."""
    top = E.max()
    empty = (top == E) & (C == 0)

    def excess(gap: float) -> float:
        some = C > 0
        moved = E[some] / (gap + (top - E[some]))
        return float((w * C)[some] @ moved**2) - r**2

    gap, left = 0.0, 0.0
    if np.any(empty) and not np.any((top == E) & (C > 0)) and excess(0.0) <= 0:
        left = -excess(0.0) / float(w[empty].sum())
    else:
        # One level alone, and all at the top, bound the root.
        low = top * float((w * C)[top == E].sum()) ** 0.5 / r
        high = 2 * top / r
        gap = brentq(excess, low / 2, high, xtol=1e-15 * high, rtol=1e-14)
    found = np.where(empty, left, 0.0)
    some = C > 0
    found[some] = C[some] * ((gap + top) / (gap + (top - E[some]))) ** 2
    return found


class _Quadratic(NamedTuple):
    """The risk noise + tr C_t Q of a law of tasks with covariance C_t."""

    noise: float
    least: float  # λ_max(Q) − floor
    floor: float  # what Q has in all directions
    resolvent: Callable[[float], float]  # tr C(a² + floor − Q)⁻¹ of a²


def _worst(form: _Quadratic, r: float) -> float:
    def dual(log_distance: float) -> float:
        squared = form.least + float(np.exp(log_distance))
        eta = squared + form.floor
        return eta * r**2 + eta * (eta * form.resolvent(squared) - 1)

    # Convex in η; with a small radius η is large, of the order of 1/r.
    scale = np.log(form.least + form.floor)
    high = scale + 12 + max(0.0, -np.log(r))
    return form.noise + float(minimize_scalar(dual, bounds=(scale - 25, high), method="bounded",
                                              options={"xatol": 1e-6}).fun)  # fmt: skip


class _Mean(NamedTuple):
    """What the fit has on average, in the units of the setting."""

    q: float
    x: float
    S: float  # of the fluctuations, e_IDG/τ
    missed: np.ndarray  # x²G², of each level
    fluctuation: np.ndarray  # S BG²
    size: float  # tr ΓΓᵀ of the mean
    spread: float  # and of the fluctuations


def _mean(law: Setting, numbers: Any) -> _Mean | None:
    """Return what the fit has on average; None where it diverges."""
    tau, alpha, kappa, rho, lam = numbers
    arrays = [np.array([float(number)]) for number in numbers]
    point = _structured.in_units(law, *arrays, arrays[1], arrays[3])
    if lam == 0 and tau == 1:
        return None
    at = _levels.nodes(law.tokens, law.weights)
    _, idg, xi = _structured.solved(law, point, at)
    state = _levels.equivalent(law, point.q, point.kappa, xi, np.full(1, np.inf))
    q, x, w = float(point.q[0]), float(point.q[0] + xi[0]), law.weights
    g, h, S = state.g[0], state.h[0], float(idg[0] / tau)
    stretched = float(state.v[0] * state.hg_q[0] / kappa / state.room[0])
    missed = g**2 + g * h * float(stretched * x / q)
    fluctuation = S * g * (state.ratio[0] * h + q / x * g) / x
    size = float((h**2 + g * h * (x / q) * stretched) @ w)
    return _Mean(q, x, S, missed, fluctuation, size, float(fluctuation @ w))


def _quadratic(law: Setting, numbers: Any, trained: bool, seed: int) -> _Quadratic | None:
    """Return the form of Γ* or of its mean, in the units of the setting; None where it diverges."""
    _, alpha, kappa, rho, _ = numbers
    mean = _mean(law, numbers)
    if mean is None:
        return None
    if not trained:
        floor = mean.size / alpha
        least, resolvent = _mean_form(law, mean.x, kappa)
    else:
        floor = (mean.size + mean.spread) / alpha
        least, resolvent = _trained_form(law, mean.q, mean.x, mean.S, kappa, seed)
    return _Quadratic(rho / law.unit * (1 + floor), least, floor, resolvent)


def _mean_form(law: Setting, x: float, kappa: float) -> tuple[float, Callable[[float], float]]:
    """Q = x²G² + floor, by the equivalent of R from the other side of its spectrum, too."""
    C, w = law.tasks, law.weights

    def freedom(u: float) -> float:
        return float(w @ (C / (C + u)))

    def shift(u: float) -> float:
        return u * (1 - freedom(u) / kappa)

    lowest = begin = 0.0  # u, and R, where the spectrum of R begins
    if np.isinf(kappa):
        begin = float(C.min())
    elif np.all(C > 0) and kappa > 1:
        edge = float(C.min()) * (0.5 * (float(w[C.argmin()]) / kappa) ** 0.5 - 1)
        lowest = brentq(lambda u: float(w @ (C / (C + u)) ** 2) - kappa, edge, 0.0)
        begin = -shift(lowest)

    def aligned(y: float) -> float:
        """Return tr CF(y), beyond zero up to where the spectrum begins."""
        if np.isinf(kappa):
            return freedom(y)
        if y > 0:
            _, g, _ = shrinkage(C[None] / y, w, np.array([kappa]))
            return float(g[0] @ (w * C) / y)
        u = lowest if -y >= begin else brentq(lambda u: shift(u) - y, lowest, 0.0)
        return freedom(u) / (1 - freedom(u) / kappa)

    def resolvent(squared: float) -> float:
        a = math.sqrt(squared)
        return (1 + x / (2 * a) * (aligned(x - x / a) - aligned(x + x / a))) / squared

    return (x / (x + begin)) ** 2, resolvent


def _trained_form(
    law: Setting, q: float, x: float, S: float, kappa: float, seed: int
) -> tuple[float, Callable[[float], float]]:
    """Q = |xG − ZT^½|² + floor with Z of independent entries and T = SBG², all functions of R."""
    values, shares = _sampled(law, kappa, np.random.default_rng(seed))
    mean, T = (x / (values + x)) ** 2, S * (q + values) / (values + x) ** 2

    def solved(squared: float) -> float:
        """Return tr C(a² + floor − Q)⁻¹, inf where a² is not above the spectrum.

        The two unknowns are the least fixed point of an increasing convex map, to which Newton's
        method climbs from zero, if there is one.
        """
        one = other = 0.0
        for _ in range(_MOST_STEPS):
            left = 1 - other * T
            theta = 1 / (squared * left - mean / (1 - one))
            partner = 1 / (squared * (1 - one) - mean / left)
            if one >= 1 or left.min() <= 0 or theta.min() < 0 or partner.min() < 0:
                return np.inf
            misses = np.mean(T * theta) - one, np.mean(partner) - other
            a, d = (
                np.mean(T * theta**2 * mean) / (1 - one) ** 2,
                np.mean(partner**2 * mean * T / left**2),
            )
            b, c = squared * np.mean((T * theta) ** 2), squared * np.mean(partner**2)
            room = (1 - a) * (1 - d) - b * c
            if a >= 1 or room <= 0:
                return np.inf
            step = (1 - d) * misses[0] + b * misses[1], c * misses[0] + (1 - a) * misses[1]
            one, other = one + step[0] / room, other + step[1] / room
            if step[0] + step[1] <= 1e-13 * room * (one + other):
                return float(np.mean(shares * theta))
        return np.inf

    low, high = float(mean.max()), (float(mean.max()) ** 0.5 + 2 * float(T.max()) ** 0.5) ** 2
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if np.isfinite(solved(middle)) else (middle, high)
    return high, solved


def _sampled(law: Setting, kappa: float, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return eigenvalues of R for random tasks, and what C has along its eigenvectors."""
    C = eigenvalues(Law(law.tasks, law.weights), _SIZE)
    if np.isinf(kappa):
        return C, C
    k = max(1, round(kappa * _SIZE))
    if k < _SIZE:
        root = rng.standard_normal((_SIZE, k))
    else:  # by Bartlett's decomposition, of any number of tasks
        root = np.tril(rng.standard_normal((_SIZE, _SIZE)), -1)
        root[np.diag_indices(_SIZE)] = np.sqrt(rng.chisquare(k - np.arange(_SIZE)))
    root = C[:, None] ** 0.5 * root
    values, vectors = np.linalg.eigh(root @ root.T / k)
    return np.maximum(values, 0.0), C @ vectors**2
