"""Training through the loop: one Γ that is applied L times, fitted to the error at the end."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from iclkit import _validate, backend
from iclkit._types import Seed
from iclkit.data.contexts import context_statistic, draw_contexts
from iclkit.data.tasks import draw_tasks
from iclkit.fits.fit import fit_gamma
from iclkit.theory.limit import optimal_ridge
from iclkit.trained._jax import jax, jnp, optax
from iclkit.trained.train import adamw
from iclkit.trained.trials import Measure, _context, _trial

# Adam's steps between two looks at the test contexts.
_LOOK = 10
# Test contexts; the error is the mean over tasks and labels for each.
_CONTEXTS = 400


@_trial
def trained_loop(
    *, d: int, tau: float, alpha: float, rho: float, depth: int, lam: float = 0.0,
    start: str = "zero", looks: int = 150, rate: float = 1e-2,
) -> Measure:  # fmt: skip
    """Fit a layer once to be applied once, and once through all of its applications.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    d : int
        Dimension, at least 1.
    tau, alpha : float
        Pretraining contexts τ = n/d², each with its own task, and context length α = ℓ/d, positive
        and finite; n and ℓ are rounded.
    rho : float
        Variance of the label noise, at least 0.
    depth : int
        Applications L, at least 1.
    lam : float
        Ridge λ of training through the loop, at least 0: its loss is the mean square of y − xᵀw_L
        over all contexts, and λ‖Γ‖²/d.
    start : {"zero", "once"}
        Where it starts: at Γ = 0, or at the Γ* that has the best ridge for one application.
    looks, rate
        How often Adam makes ten steps and the test contexts are looked at, at least once, and its
        rate, positive and finite.

    Returns
    -------
    dict
        Errors on new tasks after L applications, label noise included: of Γ* without ridge and of
        that with the best one for one application, `once` and `once_ridge`, and with the step that
        is best on the test contexts, `once_tuned` and `once_ridge_tuned`; of training through the
        loop, to the end, `looped`, and where it is best on the test contexts, `looped_best`, after
        `stop` steps; and of the best multiple of the identity, `scalar`. `train_loss` is that of
        `looped`. All on the same contexts, 400 drawn ones, and means over tasks and labels.

    Notes
    -----
    w ← w + Γ(b − Sw) with S = (d/ℓ)XᵀX and b = (d/ℓ)Xᵀy, as in `iclkit.runs.looped_attention`.
    What is best on the test contexts is an oracle's choice. Source: eq-think-layer in the book.

    Examples
    --------
    >>> from iclkit.trained import loops
    >>> point = {"d": 8, "tau": 4.0, "alpha": 2.0, "rho": 0.1, "depth": 2}
    >>> errors = loops.trained_loop(0, **point, looks=10)
    >>> errors["looped_best"] <= errors["looped"]
    True
    """
    d, ell, rho = _context(d, alpha, rho)
    n, depth = _validate.size("tau", tau, d**2, "n = tau * d**2"), _validate.count("depth", depth)
    lam = _validate.scalar(_validate.nonnegative, "lam", lam)
    _validate.choice("start", start, ("zero", "once"))
    looks = _validate.count("looks", looks)
    optimiser = adamw(looks * _LOOK, rate, schedule="constant", decay=0.0, clip=np.inf)
    best_ridge = float(optimal_ridge(n / d**2, ell / d, np.inf, rho))

    def measure(seed: Seed) -> dict[str, Any]:
        streams = backend.streams(backend.child_seed(seed, 0), np)
        contexts = draw_contexts(draw_tasks(n, d, streams.tasks), ell, rho, streams)
        h = context_statistic(contexts.tokens, contexts.labels)
        streams = backend.streams(backend.child_seed(seed, 1), np)
        new = draw_contexts(np.zeros((_CONTEXTS, d)), ell, 0.0, streams).tokens

        S = jnp.asarray(_covariances(new))

        def test(gamma: Any) -> float:
            return float(_error(depth, gamma, S, rho, ell))

        def tuned(gamma: Any) -> float:
            return float(minimize_scalar(lambda step: test(step * gamma), (0.3, 1.0)).fun)

        found = {"scalar": tuned(np.eye(d))}
        for name, ridge in (("once", 0.0), ("once_ridge", best_ridge)):
            gamma = fit_gamma(contexts.query, h, contexts.target, ridge).gamma[:, :d]
            found |= {name: test(gamma), f"{name}_tuned": tuned(gamma)}
        gamma = np.zeros((d, d)) if start == "zero" else gamma
        data = _covariances(contexts.tokens), h[:, :d], contexts.query, contexts.target
        arrays = jax.tree.map(jnp.asarray, (gamma, data))
        gammas, losses = _train(optimiser, depth, looks, *arrays, lam)
        errors = [test(gamma) for gamma in gammas]
        best = int(np.argmin(errors))
        found |= {"looped": errors[-1], "looped_best": errors[best], "stop": (best + 1) * _LOOK}
        return found | {"train_loss": losses[-1]}

    return measure


def _covariances(tokens: np.ndarray) -> np.ndarray:
    _, ell, d = tokens.shape
    covariances: np.ndarray = d / ell * np.swapaxes(tokens, 1, 2) @ tokens
    return covariances


@partial(jax.jit, static_argnums=0)
def _error(depth: int, gamma: Any, S: Any, rho: float, ell: int) -> Any:
    """Return the mean over tasks, labels and the contexts of covariances S."""
    d = len(gamma)
    # w_l − w is −A w + B (d/ℓ)Xᵀ(noise).
    A, B = jnp.eye(d), jnp.zeros(S.shape)
    for _ in range(depth):
        A, B = A - gamma @ (S @ A), B + gamma @ (jnp.eye(d) - S @ B)
    risk = jnp.sum(A**2) / d + rho / ell * jnp.sum(B * (B @ S))
    return rho + risk / len(S)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _train(
    optimiser: Any, depth: int, looks: int, gamma: Any, data: Any, lam: Any
) -> tuple[Any, Any]:
    """Return Γ at each look, and the mean square that descent goes down on with a ridge."""
    S, b, x, y = data

    def loss(gamma: Any) -> Any:
        w = jnp.zeros(b.shape)
        for _ in range(depth):
            w = w + (b - jnp.einsum("nij,nj->ni", S, w)) @ gamma.T
        return jnp.mean((y - jnp.sum(x * w, axis=1)) ** 2)

    def step(state: Any, _: Any) -> tuple[Any, Any]:
        gamma, moments = state
        gradient = jax.grad(loss)(gamma) + 2 * lam / len(gamma) * gamma
        updates, moments = optimiser.update(gradient, moments, gamma)
        return (optax.apply_updates(gamma, updates), moments), None

    def look(state: Any, _: Any) -> tuple[Any, Any]:
        state, _ = jax.lax.scan(step, state, length=_LOOK)
        return state, (state[0], loss(state[0]))

    _, (gammas, losses) = jax.lax.scan(look, (gamma, optimiser.init(gamma)), length=looks)
    return gammas, losses
