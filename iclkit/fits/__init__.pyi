from . import accuracy, cost, features, krylov, solvers
from .fit import ConvergenceWarning, Fit, FitPath, fit_gamma, fit_gamma_path
from .redrawn import fit_redrawn
from .training import fit_gamma_flow

__all__ = [
    "ConvergenceWarning", "Fit", "FitPath", "accuracy", "cost", "features", "fit_gamma",
    "fit_gamma_flow", "fit_gamma_path", "fit_redrawn", "krylov", "solvers",
]  # fmt: skip
