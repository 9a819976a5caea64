from . import laws
from .blocks import Redrawn, redrawn
from .contexts import (
    Contexts,
    Statistics,
    context_statistic,
    draw_contexts,
    draw_statistics,
)
from .kernels import Correlation, correlated_error, correlation, kernel
from .moments import (
    Moments,
    conditional_moments,
    optimal_gamma,
    population_moments,
    prediction_error,
    task_moments,
)
from .tasks import assign_tasks, draw_tasks

__all__ = [
    "Contexts", "Correlation", "Moments", "Redrawn", "Statistics", "assign_tasks",
    "conditional_moments", "context_statistic", "correlated_error", "correlation",
    "draw_contexts", "draw_statistics", "draw_tasks", "kernel", "laws", "optimal_gamma",
    "population_moments", "prediction_error", "redrawn", "task_moments",
]  # fmt: skip
