"""One run on contexts that no memory could hold."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from iclkit import _validate, backend
from iclkit._types import Seed, checked
from iclkit.data.blocks import redrawn
from iclkit.data.moments import population_moments, prediction_error
from iclkit.fits.fit import _within
from iclkit.fits.redrawn import fit_redrawn
from iclkit.runs import _expected
from iclkit.runs.one import _Sizes, _sizes


def _redrawn_sizes(
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    rtol: float = 1e-5,
    workers: int = 1,
    folder: str | os.PathLike[str] | None = None,
) -> _Sizes:
    _validate.scalar(_validate.nonnegative, "lam", lam)
    _within("rtol", rtol, 1e-12)
    _validate.count("workers", workers)
    if folder is not None:
        _validate.path("folder", folder)
    return _sizes(d=d, tau=tau, alpha=alpha, kappa=kappa, rho=rho, lam=lam)


@checked(_redrawn_sizes)
def redrawn_attention(
    seed: Seed,
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    rtol: float = 1e-5,
    workers: int = 1,
    folder: str | os.PathLike[str] | None = None,
) -> dict[str, float]:
    """Draw contexts anew in every pass, fit Γ*, and measure its errors.

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
        Ridge λ, at least 0; 0 is the ridgeless limit.
    rtol : float
    workers : int
    folder : path, optional
        Tolerance, threads, and where passes are kept, see `iclkit.fits.fit_redrawn`; the errors
        are exact to about `rtol`.

    Returns
    -------
    dict
        Exact for this Γ*, `icl_error` on new tasks, and `idg_error` on the pretraining tasks; and
        the `residual` and `iterations` of the fit.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, n, k or ℓ rounds to 0, or `folder` is that of another
        fit.

    Warns
    -----
    iclkit.fits.ConvergenceWarning
        If the residual is above `rtol`.

    Notes
    -----
    The law is that of `iclkit.runs.linear_attention`, which holds its contexts and is quicker
    where they fit into memory; contexts are those of `iclkit.data.redrawn`.

    Examples
    --------
    >>> from iclkit import runs
    >>> point = {"tau": 4.0, "alpha": 1.0, "kappa": 1.0, "rho": 0.1}
    >>> found = runs.redrawn_attention(0, d=20, **point)
    >>> sorted(found)
    ['icl_error', 'idg_error', 'iterations', 'residual']
    >>> found == runs.redrawn_attention(0, d=20, **point, workers=2)
    True
    """
    n, k, ell, fresh, _ = _redrawn_sizes(
        d=d, tau=tau, alpha=alpha, kappa=kappa, rho=rho, lam=lam, rtol=rtol, workers=workers,
        folder=folder,
    )  # fmt: skip
    contexts = redrawn(
        seed, n=n, d=d, ell=ell, rho=rho, k=None if fresh else k, xp=backend.namespace()
    )
    fit = fit_redrawn(contexts, lam, rtol=rtol, workers=workers, folder=folder)
    return {
        "icl_error": prediction_error(fit.gamma, population_moments(d, ell, rho)),
        "idg_error": prediction_error(fit.gamma, contexts.moments()),
        "residual": fit.residual,
        "iterations": fit.iterations,
    }


def _theory(
    *, rtol: Any = None, workers: Any = None, folder: Any = None, **point: Any
) -> dict[str, np.ndarray]:
    """Return what is expected, which does not depend on how the fit is made."""
    return _expected.errors(**point)


redrawn_attention.expected = _theory
