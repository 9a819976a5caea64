import iclkit.trained as trained

from . import backend, book, data, fits, plots, runs, theory
from .fits import fit_gamma, fit_gamma_path
from .runs import predict, simulate
from .theory import (
    critical_noise,
    effective_ridge,
    icl_error,
    idg_error,
    optimal_context,
    optimal_ridge,
    stieltjes,
)

__all__ = [
    "backend", "book", "critical_noise", "data", "effective_ridge", "fit_gamma", "fit_gamma_path",
    "fits", "icl_error", "idg_error", "optimal_context", "optimal_ridge", "plots", "predict",
    "runs", "simulate", "stieltjes", "theory", "trained",
]  # fmt: skip

__version__: str
