"""Exact asymptotic theory of in-context learning by linear attention.

One idea a module, each readable in one sitting; the book explains them in the same order:

`tasks` and `contexts` draw the data, `moments` knows their exact averages, `fit` finds Γ*,
`sweep` repeats that many times, `theory` says what the answer is in the limit, `plots` shows
the two together, and `backend` alone knows which array library and device do the work.
"""

from importlib.metadata import version

from iclkit import backend, contexts, fit, moments, plots, sweep, tasks, theory
from iclkit.fit import fit_gamma
from iclkit.sweep import simulate
from iclkit.theory import effective_ridge, icl_error, idg_error, stieltjes

__version__ = version("iclkit")

__all__ = [
    "backend",
    "contexts",
    "effective_ridge",
    "fit",
    "fit_gamma",
    "icl_error",
    "idg_error",
    "moments",
    "plots",
    "simulate",
    "stieltjes",
    "sweep",
    "tasks",
    "theory",
]
