from . import cost, features, krylov, solvers
from .fit import ConvergenceWarning, Fit, FitPath, fit_gamma, fit_gamma_path

__all__ = [
    "ConvergenceWarning", "Fit", "FitPath", "cost", "features", "fit_gamma", "fit_gamma_path",
    "krylov", "solvers",
]  # fmt: skip
