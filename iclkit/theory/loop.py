r"""A pretrained layer applied many times to one context: w ← w + ηΓ*(b − Sw) from w = 0.

S is the covariance of the test context and b = Sw + noise what the layer reads, Γ* the d × d block
that acts on it. One application with η = 1 is the prediction of `iclkit.theory.icl_error`. In the
limit d → ∞ at a fixed number of applications, Γ* is a function of the covariance R of the tasks
plus a Gaussian matrix Z, the same in all applications,

    Γ* ≃ R(R + x)⁻¹ + Z T^½,   T = (e_IDG/τ)(q + R)(R + x)⁻²,   x = q + ξ.

With endless tasks, R = I, that is θ(I + νZ): pretraining leaves two numbers, and θ only rescales
the step, h = ηθ. That Γ* may be replaced so is not proved; see the chapter for what was tested.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq, elementwise, minimize_scalar
from scipy.special import roots_legendre

from iclkit import _validate
from iclkit._labels import labelled, unlabelled
from iclkit.theory import limit
from iclkit.theory.descent import Law, _check_law, marchenko_pastur

_TESTS = ("icl", "idg")


@labelled()
def step_factor(tau: ArrayLike, alpha: ArrayLike, rho: ArrayLike, lam: ArrayLike = 0.0) -> Any:
    """Factor θ between the step η of a layer pretrained on endless tasks and h = ηθ.

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d in (0, inf], of pretraining.
    rho : float or array
        Variance of the label noise, at least 0, of pretraining.
    lam : float or array
        Ridge λ, at least 0.

    Returns
    -------
    float or array
        θ = 1/(1 + q + ξ), broadcast over the arguments.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Source: eq-think-numbers in the book.

    Examples
    --------
    >>> from iclkit.theory import loop
    >>> print(loop.step_factor(tau=[0.5, 3.0], alpha=2.0, rho=0.1).round(3))  # 1/(1 + q) at most
    [0.323 0.645]
    """
    q, lam = _fit_of(alpha, rho, lam)
    return (1 / (1 + q + limit.effective_ridge(tau, alpha, np.inf, rho, lam)))[()]


@labelled()
def noise_strength(tau: ArrayLike, alpha: ArrayLike, rho: ArrayLike, lam: ArrayLike = 0.0) -> Any:
    """Strength ν² of the noise that pretraining on endless tasks leaves in Γ* ≃ θ(I + νZ).

    Parameters
    ----------
    tau : float or array
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float or array
        Context length α = ℓ/d in (0, inf], of pretraining.
    rho : float or array
        Variance of the label noise, at least 0, of pretraining.
    lam : float or array
        Ridge λ, at least 0.

    Returns
    -------
    float or array
        ν² = (1 + q) e_IDG/τ, broadcast over the arguments; inf where that error is.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Without ridge n₀/(τ − 1) for τ > 1, with n₀ = ρ(1 + q) + q. The best ridge of one application,
    λ* = (1 + q) n₀/τ, makes it least, too. Source: eq-think-numbers in the book.

    Examples
    --------
    >>> from iclkit.theory import loop
    >>> print(loop.noise_strength(tau=[1.5, 3.0], alpha=2.0, rho=0.1).round(3))
    [1.41  0.353]
    >>> print(loop.noise_strength(1.5, 2.0, 0.1, lam=0.729).round(3))  # with the best ridge
    0.757
    """
    q, lam = _fit_of(alpha, rho, lam)
    error = limit.idg_error(tau, alpha, np.inf, rho, lam)
    return ((1 + q) * error / _validate.positive("tau", tau))[()]


def _fit_of(alpha: ArrayLike, rho: ArrayLike, lam: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return q, and the ridge, which is not below zero here."""
    alpha, rho = _validate.positive("alpha", alpha), _validate.nonnegative("rho", rho)
    return (1 + rho) / alpha, _validate.nonnegative("lam", lam)


def noisy_risks(
    steps: ArrayLike,
    law: Law,
    ridge: float = 0.0,
    *,
    nu2: float = 0.0,
    momentum: float | ArrayLike = 0.0,
) -> np.ndarray:
    """Risks of gradient descent on a context through a noisy matrix, I + νZ.

    Parameters
    ----------
    steps : array of shape (L,)
        Step sizes h_l, real.
    law : Law
        The spectrum of the context's covariance; weights are normalised.
    ridge : float
        Label noise over context length, ρ/α, at least 0.
    nu2 : float
        ν², at least 0: the entries of νZ have the variance ν²/d, and Z is the same in all steps.
    momentum : float, or one for each step
        What is added of the last update; for the first step it does not count.

    Returns
    -------
    numpy.ndarray of shape (L + 1,)
        E|w_l − w|²/d after 0 … L steps, for isotropic tasks and without the noise of the query's
        label; inf from where it leaves the range of floats.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    All terms are integrals of polynomials of degree 2L + 2 at most, for which L + 2 Gauss nodes
    are exact. Without noise it is `iclkit.theory.descent.descent_risk`. Source: eq-think-recursion
    in the book.

    Examples
    --------
    >>> from iclkit.theory import descent, loop
    >>> law = descent.marchenko_pastur(alpha=2.0, points=6)
    >>> print(loop.noisy_risks([0.6] * 4, law).round(3))
    [1.    0.34  0.193 0.127 0.09 ]
    >>> print(loop.noisy_risks([0.6] * 4, law, nu2=0.5).round(3))
    [1.    0.61  0.377 0.272 0.205]
    """
    steps = unlabelled("steps", steps, (None,))
    law = _check_law(law)
    ridge = _validate.scalar(_validate.nonnegative, "ridge", ridge)
    nu2 = _validate.scalar(_validate.nonnegative, "nu2", nu2)
    depth = steps.size
    momentum = _for_each("momentum", momentum, depth)
    s, weights = law.nodes, law.weights / law.weights.sum()
    # At each node, δ_l = −a w + b (noise of the labels) + Σ_p c_p g_p, where g_p = νZ r_p is what
    # the matrix adds to step p, and r_p the residual.
    a, b = np.ones((depth + 1, s.size)), np.zeros((depth + 1, s.size))
    c = np.zeros((depth + 1, depth, s.size))
    residuals = np.zeros((depth, depth))
    signal = weights * (s**2 + ridge * s)
    risks = np.full(depth + 1, np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        for at in range(depth + 1):
            past = c[at, :at]
            known = residuals[:at, :at] @ past
            risk = weights @ (a[at] ** 2 + ridge * s * b[at] ** 2 + (past * known).sum(axis=0))
            if not np.isfinite(risk):
                break
            risks[at] = risk
            if at == depth:
                break
            own = (a[: at + 1] * a[at]) @ signal
            own += np.einsum("lpm,pm->l", c[: at + 1, :at], known * weights * s**2)
            residuals[at, : at + 1] = residuals[: at + 1, at] = own
            for part in (a, b, c):
                drift = part[at] - part[at - 1] if at else 0.0
                part[at + 1] = part[at] - steps[at] * s * part[at] + momentum[at] * drift
            b[at + 1] += steps[at]
            c[at + 1, at] += steps[at] * nu2**0.5
    return risks


def _for_each(name: str, value: Any, depth: int) -> np.ndarray:
    """Return a number for each application, of an array or one number for all."""
    if isinstance(value, (list, tuple)) or getattr(value, "ndim", False):
        return unlabelled(name, value, (depth,))
    return np.full(depth, _validate.scalar(_validate.signed, name, value))


def loop_error(
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    *,
    depth: int,
    step: float | ArrayLike = 1.0,
    test: str = "icl",
) -> np.ndarray:
    """Errors of a pretrained layer that is applied 0 … L times to its context.

    Parameters
    ----------
    tau : float
        Pretraining contexts τ = n/d² in (0, inf].
    alpha : float
        Context length α = ℓ/d, positive and finite.
    kappa : float
        Task diversity κ = k/d in (0, inf].
    rho : float
        Variance of the label noise, at least 0.
    lam : float
        Ridge λ, at least 0.
    depth : int
        Number of applications L, at least 1.
    step : float, or one for each application
        Step η.
    test : {"icl", "idg"}
        Whether the tasks are new ones or those of pretraining.

    Returns
    -------
    numpy.ndarray of shape (L + 1,)
        The errors, label noise included: 1 + ρ first, and next, for a step of 1, `icl_error` or
        `idg_error`. They are inf from where they leave the range of floats, and from the first
        application on where those are infinite.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    With κ = ∞ this is `noisy_risks`. Else causal equations for matrices of L + 1 times are solved
    by substitution. At a fixed d the error exceeds the limit by more with every application, and
    by much where the loop diverges. Source: eq-think-recursion and eq-think-mean-field in the book.

    Examples
    --------
    >>> from iclkit import theory
    >>> point = {"tau": 4.0, "alpha": 2.0, "rho": 0.1}
    >>> print(theory.loop.loop_error(**point, kappa=float("inf"), depth=3).round(3))
    [1.1   0.606 0.396 0.325]
    >>> print(theory.loop.loop_error(**point, kappa=0.5, depth=3).round(3))  # a few tasks
    [1.1   0.981 1.131 1.51 ]
    """
    kappa = _validate.scalar(_validate.positive, "kappa", kappa)
    alpha, depth = _validate.finite("alpha", alpha), _validate.count("depth", depth)
    rho = _validate.scalar(_validate.nonnegative, "rho", rho)
    tau = _validate.scalar(_validate.positive, "tau", tau)
    lam = _validate.scalar(_validate.nonnegative, "lam", lam)
    _validate.choice("test", test, _TESTS)
    steps = _for_each("step", step, depth)
    idg = limit.idg_error(tau, alpha, kappa, rho, lam)
    if np.isinf(idg):
        return np.append(1 + rho, np.full(depth, np.inf))
    if np.isinf(kappa):
        steps, nu2 = steps * step_factor(tau, alpha, rho, lam), noise_strength(tau, alpha, rho, lam)
        return rho + noisy_risks(steps, marchenko_pastur(alpha, depth + 2), rho / alpha, nu2=nu2)
    r, weights, mean, noise = _fitted(tau, alpha, kappa, rho, lam)
    return rho + _mean_field(steps, alpha, rho, weights, mean, noise, r if test == "idg" else None)


def _fitted(
    tau: float, alpha: float, kappa: float, rho: float, lam: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return nodes and weights for the spectrum of R, and there the mean of Γ*, and T."""
    r, weights = _tasks_law(kappa)
    q = (1 + rho) / alpha
    x = q + limit.effective_ridge(tau, alpha, kappa, rho, lam)
    variance = limit.idg_error(tau, alpha, kappa, rho, lam) / tau
    return r, weights, r / (r + x), variance * (q + r) / (r + x) ** 2


def _tasks_law(kappa: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights for functions of R with poles next to its spectrum; last is r = 0.

    Gauss nodes of the law itself miss a pole at −x for a small x, that is for long contexts. In
    r = (1 − √c)² + 4√c sin²(φ/2), c = 1/κ, a pole is |ln c|/2 or more away from the real φ, and
    π/2 from the real u in φ = |ln c|/2 · sinh u.
    """
    root = kappa**-0.5
    if root == 0:
        return np.array([1.0, 0.0]), np.array([1.0, 0.0])
    pole = max(abs(np.log(root)), 1e-38)
    half = np.arcsinh(np.pi / pole) / 2
    # They converge as exp(−π · nodes/half).
    u, weights = roots_legendre(40 + int(12 * half))
    angle = pole * np.sinh(half * (1 + u))
    r = (1 - root) ** 2 + 4 * root * np.sin(angle / 2) ** 2
    weights = weights * np.hypot(pole, angle) * np.sin(angle) ** 2 / r
    weights *= min(kappa, 1.0) / weights.sum()
    return np.append(r, 0.0), np.append(weights, max(1 - kappa, 0.0))


def _mean_field(
    steps: np.ndarray, alpha: float, rho: float, weights: np.ndarray, G: np.ndarray, T: np.ndarray,
    tasks: np.ndarray | None,
) -> np.ndarray:  # fmt: skip
    """Solve the causal equations for δ_l = w_l − w; `tasks` is their spectrum, or None for I.

    Row by row: what leaves the range of floats must not reach the earlier rows.
    """
    size = steps.size + 1
    J = np.tril(np.ones((size, size)), -1) * np.append(steps, 0.0)
    target = weights if tasks is None else weights * tasks
    G = G[:, None]
    K, F, C, D = np.zeros((4, size, size))
    H, KH, HJ, KHJ, M = np.zeros((5, G.size, size, size))
    risks = np.full(size, np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        for at in range(size):
            now = slice(at + 1)
            K[at, at], H[:, at, at] = 1, 1
            H[:, at, :at] = -G * ((J[at, :at] @ K[:at, :at]) @ H[:, :at, :at])
            response = (weights @ (G * H[:, at, now])) @ J[now, :at] / alpha
            K[at, :at] = -response @ K[:at, :at]
            KH[:, at, now] = K[at, now] @ H[:, now, now]
            HJ[:, at, :at] = H[:, at, now] @ J[now, :at]
            KHJ[:, at, :at] = KH[:, at, now] @ J[now, :at]
            M[:, at, :at], M[:, at, at] = -G * KHJ[:, at, :at], 1

            sums, moved = H[:, now, now].sum(axis=2), KH[:, now, now].sum(axis=2)
            own = (target * sums[:, at]) @ sums
            own += _row(HJ[:, now, now], weights, G**2 * (HJ[:, at, now] @ F[now, now]))
            own += _row(HJ[:, now, now], weights, HJ[:, at, now] @ C[now, now])
            if not np.isfinite(own[at]):
                break
            risks[at] = own[at]
            D[at, now] = D[now, at] = own
            F[at, now] = F[now, at] = K[at, now] @ (rho + D[now, now]) @ K[now, now].T / alpha
            own = (target * T * moved[:, at]) @ moved
            own += _row(M[:, now, now], weights * T, M[:, at, now] @ F[now, now])
            own += _row(KHJ[:, now, now], weights * T, KHJ[:, at, now] @ C[now, now])
            C[at, now] = C[now, at] = own
    return risks


def _row(rows: np.ndarray, weights: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Return the mean of row · rowsᵀ."""
    found: np.ndarray = np.einsum("r,rp,rlp->l", weights, row, rows, optimize=True)
    return found


# With endless tasks: where the loop ends ------------------------------------------------------


@labelled("end")
def edge(alpha: ArrayLike, nu2: ArrayLike, *, end: str = "upper") -> Any:
    """Largest or least real part of the eigenvalues of (I + νZ)S, zero for α < 1 left out.

    Parameters
    ----------
    alpha : float or array
        Context length α = ℓ/d, positive and finite.
    nu2 : float or array
        ν², at least 0.
    end : {"upper", "lower"}
        Which one.

    Returns
    -------
    float or array
        ω₊ or ω₋, broadcast over the arguments; (1 ± α^(−1/2))² at ν = 0. ω₋ is negative for
        ν² min(1, α) > 1: then no step makes the loop converge.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    The eigenvalues fill a region of the plane, which meets the real axis there. Source:
    eq-think-edges in the book.

    Examples
    --------
    >>> from iclkit.theory import loop
    >>> print(loop.edge(4.0, [0.0, 0.5]).round(3), loop.edge(4.0, [0.0, 0.5], end="lower").round(3))
    [2.25  2.542] [0.25  0.178]
    """
    _validate.choice("end", end, ("upper", "lower"))
    alpha, nu2 = np.broadcast_arrays(_finite("alpha", alpha), _validate.nonnegative("nu2", nu2))
    return (_upper if end == "upper" else _lower)(alpha**0.5, nu2)[()]


def _finite(name: str, value: ArrayLike) -> np.ndarray:
    array = _validate.positive(name, value)
    if np.any(np.isinf(array)):
        raise ValueError(f"{name} must be positive and finite, got inf")
    return array


def _upper(a: np.ndarray, nu2: np.ndarray) -> np.ndarray:
    """Return ω₊; all terms are positive."""

    def excess(u: Any, a: Any, nu2: Any) -> Any:
        return nu2 * u**2 * (a**2 + 1 + 2 * a * u) - (1 - u) * (1 + u)

    u = elementwise.find_root(excess, (np.zeros(a.shape), np.ones(a.shape)), args=(a, nu2)).x
    found: np.ndarray = (a + u) * (1 + a * u) / (a**2 * u)
    return found


def _lower(a: np.ndarray, nu2: np.ndarray) -> np.ndarray:
    """Return ω₋, from v = 1 + p α^(−1/2) or u = 1 − v, whichever is small."""

    def excess(v: Any, a: Any, nu2: Any) -> Any:
        return nu2 * (1 - v) ** 2 * ((a - 1) ** 2 + 2 * a * v) - v * (2 - v)

    def excess_of_u(u: Any, a: Any, nu2: Any) -> Any:
        return nu2 * u**2 * (a * (a - 2 * u) + 1) - (1 - u) * (1 + u)

    # From the maximum of the cubic on, it falls to −1, and its last root in v is wanted.
    with np.errstate(divide="ignore", over="ignore"):
        top = np.array(np.clip((a + 1 / a + 1 / (a * nu2)) / 3, 0.0, 1.0))
    high = np.minimum(top, 0.5)
    far = excess_of_u(high, a, nu2) > 0
    some = ~far & (excess(1 - top, a, nu2) > 0)
    v = np.array(1 - top)
    v[some] = elementwise.find_root(
        excess, (v[some], np.ones(a.shape)[some]), args=(a[some], nu2[some])
    ).x
    found: np.ndarray = np.array((a - 1 + v) * (a - 1 - a * v) / (a**2 * np.where(far, 1, 1 - v)))
    a, nu2, high = a[far], nu2[far], high[far]
    u = elementwise.find_root(excess_of_u, (np.zeros(a.shape), high), args=(a, nu2)).x
    found[far] = (a - u) * (a * u - 1) / (a**2 * u)
    return found


@labelled()
def radius(step: ArrayLike, alpha: ArrayLike, nu2: ArrayLike) -> Any:
    """Factor ϱ by which every late application changes the distance of w from its end.

    Parameters
    ----------
    step : float or array
        Step h = ηθ on the context, positive and finite; 2/(ω₋ + ω₊) is the best one where it is.
    alpha : float or array
        Context length α = ℓ/d, positive and finite.
    nu2 : float or array
        ν², at least 0.

    Returns
    -------
    float or array
        ϱ, broadcast over the arguments. The loop converges for ϱ < 1; for ϱ > 1 errors grow as
        ϱ^(2L), up to powers of L.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    max(|1 − hω₋|, |1 − hω₊|). Where w ends at the task, for α > 1 without noise, a convergent error
    approaches its end as ϱ^(2L), up to powers of L. Else it has a term that is linear in the
    distance, too, and that may be slower. Source: eq-think-radius and eq-think-below in the book.

    Examples
    --------
    >>> from iclkit.theory import loop
    >>> print(loop.radius(0.645, 2.0, [0.0, 0.3, 1.5]).round(3))
    [0.945 0.972 1.353]
    """
    step = _finite("step", step)
    low, high = edge(alpha, nu2, end="lower"), edge(alpha, nu2)
    return np.maximum(np.abs(1 - step * low), np.abs(1 - step * high))[()]


@labelled()
def saturation(alpha: ArrayLike, rho: ArrayLike, nu2: ArrayLike) -> Any:
    """Error that a convergent loop ends with, after endless applications.

    Parameters
    ----------
    alpha : float or array
        Context length α = ℓ/d, positive and finite.
    rho : float or array
        Variance of the label noise, at least 0.
    nu2 : float or array
        ν², at least 0.

    Returns
    -------
    float or array
        The error, label noise included, broadcast over the arguments; inf at α = 1 with noise,
        and for ν² min(1, α) ≥ 1, where no step makes the loop converge.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    For α > 1 it is that of least squares in the context, and nothing of pretraining is left.
    Source: eq-think-saturation in the book.

    Examples
    --------
    >>> from iclkit.theory import loop
    >>> print(loop.saturation([0.5, 2.0], 0.1, 0.5).round(3))
    [0.9 0.2]
    """
    alpha, nu2 = _finite("alpha", alpha), _validate.nonnegative("nu2", nu2)
    rho = _validate.nonnegative("rho", rho)
    gap = np.abs(alpha - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = np.where(rho > 0, rho * alpha / gap, 0.0)
        room = 1 - alpha * nu2
        short = rho + ((1 - alpha) + rho * alpha * nu2) / room + squares
        # For α > 1, ρ + ρ/(α − 1).
        found = np.where(alpha < 1, short, squares)
    return np.where(nu2 * np.minimum(alpha, 1) < 1, found, np.inf)[()]


@labelled("ridge")
def critical_samples(alpha: ArrayLike, rho: ArrayLike, *, ridge: str = "none") -> Any:
    """Pretraining contexts τ above which some step makes the loop converge, with endless tasks.

    Parameters
    ----------
    alpha : float or array
        Context length α = ℓ/d, positive and finite.
    rho : float or array
        Variance of the label noise, at least 0.
    ridge : {"none", "best"}
        With λ = 0 (then there may be a window below τ = 1, too), or with the best ridge.

    Returns
    -------
    float or array
        τ, broadcast over the arguments.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    1 + m n₀, and m n₀ + m/(1 + m) with the best ridge, where m = min(1, α), q = (1 + ρ)/α and
    n₀ = ρ(1 + q) + q. Source: eq-think-threshold in the book.

    Examples
    --------
    >>> from iclkit.theory import loop
    >>> print(loop.critical_samples([0.5, 2.0], 0.1).round(3))
    [2.26  1.705]
    >>> print(loop.critical_samples([0.5, 2.0], 0.1, ridge="best").round(3))
    [1.593 1.205]
    """
    _validate.choice("ridge", ridge, ("none", "best"))
    alpha, rho = _finite("alpha", alpha), _validate.nonnegative("rho", rho)
    share, q = np.minimum(alpha, 1), (1 + rho) / alpha
    least = share / (1 + share) if ridge == "best" else 1.0
    return (least + share * (rho * (1 + q) + q))[()]


def best_step(law: Law, depth: int, ridge: float = 0.0, *, nu2: float = 0.0) -> float:
    """Find the step h at which L equal applications have the least risk.

    Parameters
    ----------
    law : Law
        The spectrum of the context's covariance.
    depth : int
        Number of applications L, at least 1.
    ridge : float
        Label noise over context length, ρ/α, at least 0.
    nu2 : float
        ν², at least 0.

    Returns
    -------
    float
        h, positive; η = h/θ is the step of the layer.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    The best of 80 steps is refined. Noise of the matrix only adds to the risk, and no step is best
    at which the largest node alone has more risk than all have before the first application.

    Examples
    --------
    >>> from iclkit.theory import descent, loop
    >>> law = descent.marchenko_pastur(alpha=2.0, points=10)
    >>> [round(loop.best_step(law, depth, nu2=0.5), 3) for depth in (1, 2, 4)]
    [0.444, 0.538, 0.575]
    """
    nodes, weights = _check_law(law)
    depth = _validate.count("depth", depth)
    ridge = _validate.scalar(_validate.nonnegative, "ridge", ridge)
    nu2 = _validate.scalar(_validate.nonnegative, "nu2", nu2)
    top = np.argmax(nodes)
    if nodes[top] == 0:
        raise ValueError("law must have a positive node of positive weight, got none")
    least = 0.1 / (depth * (nodes[top] + ridge) * (1 + nu2))
    most = 1.1 * (1 + (weights.sum() / weights[top]) ** (1 / (2 * depth))) / nodes[top]

    def risk(log_step: float) -> float:
        steps = np.full(depth, np.exp(log_step))
        return float(noisy_risks(steps, law, ridge, nu2=nu2)[-1])

    grid = np.linspace(np.log(least), np.log(most), 80)
    i = int(np.argmin([risk(log_step) for log_step in grid]))
    around = (grid[max(i - 1, 0)], grid[min(i + 1, grid.size - 1)])
    return float(np.exp(minimize_scalar(risk, bounds=around, options={"xatol": 1e-10}).x))


# With a finite diversity --------------------------------------------------------------------------


@labelled()
def instability(
    tau: ArrayLike,
    alpha: ArrayLike,
    kappa: ArrayLike,
    rho: ArrayLike,
    lam: ArrayLike = 0.0,
) -> Any:
    """F₀ of a pretrained layer: below 1 a small step makes the loop converge, above 1 none does.

    Parameters
    ----------
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

    Returns
    -------
    float or array
        F₀, broadcast over the arguments: ν² min(1, α) at κ = ∞, and inf for κ ≤ min(1, α) at every
        finite τ. At τ = ∞ it is 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    That F₀ < 1 is enough is proved for κ = ∞; else it was seen at all points that were tried.
    Source: eq-think-instability in the book.

    Examples
    --------
    >>> from iclkit.theory import loop
    >>> print(loop.instability(tau=3.0, alpha=2.0, kappa=[0.5, 1.5, 9.0], rho=0.1).round(3))
    [  inf 3.535 0.425]
    """
    numbers = [
        _validate.positive("tau", tau), _finite("alpha", alpha), _validate.positive("kappa", kappa),
        _validate.nonnegative("rho", rho), _validate.nonnegative("lam", lam),
    ]  # fmt: skip
    return np.vectorize(_instability, otypes=[float])(*numbers)[()]


def _instability(tau: float, alpha: float, kappa: float, rho: float, lam: float) -> float:
    if np.isinf(tau):
        return 0.0
    variance = float(limit.idg_error(tau, alpha, kappa, rho, lam)) / tau
    if kappa <= min(1.0, alpha) or np.isinf(variance):
        return np.inf
    if alpha >= 1:
        q, scaled = (1 + rho) / alpha, 1.0 if np.isinf(kappa) else kappa / (kappa - 1)
        return variance * (scaled + q * scaled**3)
    _, weights, G, T = _fitted(tau, alpha, kappa, rho, lam)
    bulk = G > 0

    def excess(log_zeta: float) -> float:
        """Mean of G/(G + ζ), less α; without cancellation for κ next to α."""
        zeta = np.exp(log_zeta)
        return min(kappa, 1.0) - alpha - float(weights[bulk] @ (zeta / (G[bulk] + zeta)))

    # (mean G)/ζ bounds the mean from above.
    high = np.log(weights @ G / alpha)
    low = high - 1.0
    while excess(low) < 0:
        low -= 4.0
    zeta = float(np.exp(brentq(excess, low, high, xtol=1e-13)))
    spread = zeta**2 * float(weights @ (G + zeta) ** -2)
    room = zeta * float(weights @ (G / (G + zeta) ** 2))  # α − mean of G²/(G + ζ)²
    noise = float(weights @ (T / (G + zeta) ** 2))
    return noise * (1 + spread / room)
