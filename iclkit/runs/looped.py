"""One run of a pretrained layer that is applied many times to its contexts."""

from __future__ import annotations

import numpy as np

from iclkit import _validate, backend
from iclkit._types import Seed, checked
from iclkit.data.contexts import draw_contexts, draw_statistics
from iclkit.data.tasks import assign_tasks, draw_tasks
from iclkit.fits.fit import fit_gamma
from iclkit.runs.one import _Sizes, _sizes


def _loop_sizes(
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    depth: int,
    step: float = 1.0,
    contexts: int = 20,
) -> _Sizes:
    _validate.count("depth", depth)
    _validate.scalar(_validate.signed, "step", step)
    _validate.count("contexts", contexts)
    return _sizes(d=d, tau=tau, alpha=alpha, kappa=kappa, rho=rho, lam=lam)


@checked(_loop_sizes)
def looped_attention(
    seed: Seed,
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    depth: int,
    step: float = 1.0,
    contexts: int = 20,
) -> dict[str, float]:
    """Fit Γ* to fresh data once, and apply it many times to test contexts.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    d : int
        Dimension, at least 1.
    tau : float
        Pretraining contexts τ = n/d², positive and finite; n is rounded.
    alpha : float
        Context length α = ℓ/d, positive and finite; ℓ is rounded.
    kappa : float
        Task diversity κ = k/d, in (0, inf]; k is rounded, and at inf every context has its own
        task.
    rho : float
        Variance of the label noise, at least 0.
    lam : float
        Ridge λ, see `iclkit.runs.linear_attention`.
    depth : int
        Applications L, at least 1.
    step : float
        Step η of each.
    contexts : int
        Test contexts, at least 1.

    Returns
    -------
    dict
        `icl_error_l` on new tasks and, for a finite κ, `idg_error_l` on those of pretraining,
        after l = 1 … L applications. Means over the tokens of the contexts; over tasks and labels
        they are exact. inf from where they leave the range of floats.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or n, k or ℓ rounds to 0.

    Notes
    -----
    w ← w + ηΓ(b − Sw) with S = (d/ℓ)XᵀX and b = (d/ℓ)Xᵀy, where Γ is Γ* without its last column,
    which in the limit does nothing. Source: eq-think-layer in the book.

    Examples
    --------
    >>> from iclkit import runs
    >>> point = {"tau": 4.0, "alpha": 2.0, "kappa": float("inf"), "rho": 0.1}
    >>> errors = runs.looped_attention(0, d=20, **point, depth=3)
    >>> list(errors)
    ['icl_error_1', 'icl_error_2', 'icl_error_3']
    >>> print(errors["icl_error_3"] < errors["icl_error_1"])
    True
    """
    n, k, ell, fresh, _ = _loop_sizes(
        d=d, tau=tau, alpha=alpha, kappa=kappa, rho=rho, lam=lam, depth=depth, step=step,
        contexts=contexts,
    )  # fmt: skip
    streams = backend.streams(seed, backend.namespace())
    w = drawn = draw_tasks(k, d, streams.tasks)
    if not fresh:
        w = drawn[assign_tasks(n, k, streams.tasks), :]
    fit = fit_gamma(*draw_statistics(w, ell, rho, streams), lam, accuracy=1e-5)
    gamma = backend.to_numpy(fit.gamma)[:, :d]
    laws = {"icl": np.eye(d)}
    if not fresh:
        laws["idg"] = backend.to_numpy(drawn.T @ drawn) / k
    streams = backend.streams(backend.child_seed(seed, 1), np)
    errors = np.zeros((len(laws), depth))
    for _ in range(contexts):
        X = draw_contexts(np.zeros((1, d)), ell, 0.0, streams).tokens[0]
        S = d / ell * X.T @ X
        # w_l − w is −A w + B (d/ℓ)Xᵀ(noise), and both are averaged over what is not in S.
        A, B = np.eye(d), np.zeros((d, d))
        with np.errstate(over="ignore", invalid="ignore"):
            for at in range(depth):
                A, B = A - step * gamma @ (S @ A), B + step * gamma @ (np.eye(d) - S @ B)
                noise = rho * (1 + np.vdot(B, B @ S) / ell)
                for row, law in enumerate(laws.values()):
                    errors[row, at] += noise + np.vdot(A, A @ law) / d
    errors = np.where(np.isfinite(errors), errors / contexts, np.inf)
    return {
        f"{test}_error_{at + 1}": float(errors[row, at])
        for row, test in enumerate(laws)
        for at in range(depth)
    }
