"""Exact asymptotic theory of in-context learning by linear attention.

One idea a module, each readable in one sitting; the book explains them in the same order:

`tasks` and `contexts` draw the data, `moments` knows their exact averages, `fit` finds Γ* with
the `solvers` that `cost` foretells to be fastest, built on the products of `features` and on
`krylov` iterations; `sweep` repeats that many times, `theory` says what the answer is in the
limit, `bayes` what the best estimators reach, `plots` shows them together, and `backend` alone
knows which array library and device do the work. `descent` knows what layers of linear attention
can do with one context, and `structured` has the theory for tasks with a spectrum.

With JAX, an extra (``pip install "iclkit[train]"``), networks are trained: `prompts` are what they
learn from, `attention` and `depth` what they are, `train` fits them, `interpolation` finds what
they can learn by heart, and `trials` are the experiments that put all that together.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

# The same is written in pyproject.toml and CITATION.cff, and a test compares them: what is asked
# of the installer instead is not known in a checkout, and old in one that has been updated.
__version__ = "0.1.0"

__all__ = [
    "backend", "bayes", "contexts", "cost", "critical_noise", "descent", "effective_ridge",
    "features", "fit", "fit_gamma", "fit_gamma_path", "icl_error", "idg_error", "krylov",
    "moments", "optimal_context", "optimal_ridge", "plots", "simulate", "solvers", "stieltjes",
    "structured", "sweep", "tasks", "theory",
]  # fmt: skip

# Left out of `from iclkit import *`, which is to work, and to be quick, without JAX.
_TRAINED = ["attention", "depth", "interpolation", "prompts", "train", "trials"]

if TYPE_CHECKING:  # a type checker that sees `__getattr__` takes every name for one that exists
    # isort: off
    from iclkit import (
        attention as attention, depth as depth, interpolation as interpolation,
        prompts as prompts, train as train, trials as trials,
    )  # fmt: skip
    from iclkit import (
        backend, bayes, contexts, cost, descent, features, fit, krylov, moments, plots, solvers,
        structured, sweep, tasks, theory,
    )  # fmt: skip
    from iclkit.fit import fit_gamma, fit_gamma_path
    from iclkit.sweep import simulate
    from iclkit.theory import (
        critical_noise, effective_ridge, icl_error, idg_error, optimal_context, optimal_ridge,
        stieltjes,
    )  # fmt: skip
else:
    _HOMES = {
        "critical_noise": "theory",
        "effective_ridge": "theory",
        "fit_gamma": "fit",
        "fit_gamma_path": "fit",
        "icl_error": "theory",
        "idg_error": "theory",
        "optimal_context": "theory",
        "optimal_ridge": "theory",
        "simulate": "sweep",
        "stieltjes": "theory",
    }

    def __getattr__(name: str) -> object:
        # Modules are imported when they are used: those that draw and tabulate take seconds and
        # 100 MB, which a process that only fits Γ need not spend.
        if name in _HOMES:
            return getattr(import_module(f"iclkit.{_HOMES[name]}"), name)
        if name in __all__ or name in _TRAINED:
            return import_module(f"iclkit.{name}")
        raise AttributeError(f"module 'iclkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    trained = _TRAINED if find_spec("jax") and find_spec("optax") else []
    return [*__all__, *trained, "__version__"]
