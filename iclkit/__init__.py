"""Exact asymptotic theory of in-context learning by linear attention.

One idea a module, each readable in one sitting; the book explains them in the same order:

`tasks` and `contexts` draw the data, `moments` knows their exact averages, `fit` finds Γ* with
the `solvers` that `cost` foretells to be fastest, built on the products of `features` and on
`krylov` iterations; `sweep` repeats that many times, `theory` says what the answer is in the
limit, `bayes` what the best estimators reach, `plots` shows them together, and `backend` alone
knows which array library and device do the work. With JAX, an extra, `attention` has the models
that are trained, `train` trains them, and `interpolation` finds what they can learn by heart.
`descent` knows what layers of linear attention can do with one context, `depth` trains them,
`structured` has the theory for tasks with a spectrum, and `scaling` trains networks on those.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("iclkit")

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
_MODULES = (
    "attention", "backend", "bayes", "contexts", "cost", "depth", "descent", "features", "fit",
    "interpolation", "krylov", "moments", "plots", "scaling", "solvers", "structured", "sweep",
    "tasks", "theory", "train",
)  # fmt: skip

__all__ = sorted((*_HOMES, *_MODULES))


def __getattr__(name: str) -> Any:
    # Modules are imported when they are used: those that draw and tabulate take seconds and
    # 100 MB, which a process that only fits Γ need not spend.
    if name in _MODULES:
        return import_module(f"iclkit.{name}")
    if name in _HOMES:
        return getattr(import_module(f"iclkit.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'iclkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
