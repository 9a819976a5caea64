from . import (
    bayes,
    correlated,
    descent,
    flow,
    links,
    loop,
    nonparametric,
    streaming,
    structured,
)  # fmt: skip
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
    "bayes", "correlated", "critical_noise", "descent", "effective_ridge",
    "finite_size_coefficient", "flow", "icl_error", "idg_error", "links", "loop",
    "nonparametric", "optimal_context", "optimal_ridge", "pole_strength", "ridge_edge",
    "stieltjes", "streaming", "structured",
]  # fmt: skip
