"""Many runs of one experiment: draw tasks and contexts, fit Γ*, measure its exact errors."""

from __future__ import annotations

import sys

import numpy as np
import xarray as xr
from tqdm import tqdm

from iclkit import _validate, backend
from iclkit.contexts import draw_statistics
from iclkit.fit import fit_gamma
from iclkit.moments import population_moments, prediction_error, task_moments
from iclkit.tasks import ASSIGNMENTS, assign_tasks, draw_tasks


def simulate(
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    runs: int = 10,
    seed: int = 0,
    assignment: str = "uniform",
) -> xr.Dataset:
    """Fit Γ* to fresh data several times, and measure its exact errors.

    Parameters
    ----------
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
        Ridge λ, at least 0; zero is the ridgeless limit.
    runs : int
        Independent repetitions, at least 1. More runs leave the first ones as they were.
    seed : int
        At least 0; the same seed gives the same result on a CPU. Points of a curve need seeds of
        their own: with the same one, their random streams are the same, and so their errors are
        correlated.
    assignment : {"uniform", "balanced"}
        How contexts pick their task, see `iclkit.tasks.assign_tasks`.

    Returns
    -------
    xarray.Dataset
        `icl_error` and `idg_error` along `run`, exact for the Γ* of each run; the parameters and
        the actual `n`, `k` (n when every context has its own task) and `ell` as attributes.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or n, k or ℓ rounds to 0.

    Notes
    -----
    Tasks lie on the sphere of radius √d. The arrays live where `iclkit.backend.namespace` says.
    """
    d, runs = _validate.count("d", d), _validate.count("runs", runs)
    rho = _validate.scalar(_validate.nonnegative, "rho", rho)
    lam = _validate.scalar(_validate.nonnegative, "lam", lam)
    _validate.choice("assignment", assignment, ASSIGNMENTS)
    n = _size("tau", tau, d**2, "n = tau * d**2")
    ell = _size("alpha", alpha, d, "ell = alpha * d")
    fresh = _validate.scalar(_validate.positive, "kappa", kappa) == np.inf
    k = n if fresh else _size("kappa", kappa, d, "k = kappa * d")

    xp = backend.namespace()
    population = population_moments(d, ell, rho)

    def measure(seed: np.random.SeedSequence) -> tuple[float, float]:
        """ICL and IDG error of one fit."""
        streams = backend.streams(seed, xp)
        tasks = draw_tasks(k, d, streams.tasks)
        if fresh:
            w, pretraining = tasks, population
        else:
            w = tasks[assign_tasks(n, k, streams.tasks, assignment=assignment)]
            pretraining = task_moments(tasks, ell, rho)
        gamma = fit_gamma(*draw_statistics(w, ell, rho, streams), lam).gamma
        return prediction_error(gamma, population), prediction_error(gamma, pretraining)

    seeds = [backend.child_seed(seed, run) for run in range(runs)]
    # Progress goes to stdout, and only where somebody watches: a terminal or a notebook.
    watched = sys.stdout.isatty() or "ipykernel" in sys.modules
    progress = tqdm(
        seeds,
        desc=f"d={d}, τ={tau}",
        file=sys.stdout,
        delay=5,
        leave=False,
        **({} if watched else {"disable": True}),
    )
    errors = np.array([measure(seed) for seed in progress])
    return xr.Dataset(
        {"icl_error": ("run", errors[:, 0]), "idg_error": ("run", errors[:, 1])},
        coords={"run": np.arange(runs)},
        attrs={
            "d": d, "tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam,
            "runs": runs, "seed": seed, "assignment": assignment, "n": n, "k": k, "ell": ell,
        },
    )  # fmt: skip


def _size(name: str, ratio: float, unit: int, meaning: str) -> int:
    """Turn a ratio of the theory into a whole number of at least 1."""
    ratio = _validate.scalar(_validate.positive, name, ratio)
    if not np.isfinite(ratio) or round(ratio * unit) < 1:
        raise ValueError(f"{name} must be finite with {meaning} of at least 1, got {ratio}")
    return round(ratio * unit)
