<<<<<<< HEAD
from . import bayes, correlated, descent, flow, loop, structured
=======
from . import bayes, descent, flow, loop, nonparametric, structured
>>>>>>> main
from .finite import finite_size_coefficient, pole_strength
from .limit import (
    critical_noise,
    effective_ridge,
    icl_error,
    idg_error,
    optimal_context,
    optimal_ridge,
    ridge_edge,
    stieltjes,
)

__all__ = [
<<<<<<< HEAD
    "bayes", "correlated", "critical_noise", "descent", "effective_ridge",
    "finite_size_coefficient", "flow", "icl_error", "idg_error", "loop", "optimal_context",
    "optimal_ridge", "pole_strength", "ridge_edge", "stieltjes", "structured",
=======
    "bayes", "critical_noise", "descent", "effective_ridge", "finite_size_coefficient", "flow",
    "icl_error", "idg_error", "loop", "nonparametric", "optimal_context", "optimal_ridge",
    "pole_strength", "ridge_edge", "stieltjes", "structured",
>>>>>>> main
]  # fmt: skip
