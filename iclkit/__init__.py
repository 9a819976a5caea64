"""Exact asymptotic theory of in-context learning by linear attention.

Five rooms, by what one does in them:

`data` draws tasks and contexts, and knows their exact averages; `fits` finds Γ*; `theory` says
what its errors are in the limit, and what the best estimators reach; `runs` repeats all that many
times, resumable. `trained` has networks, and needs JAX, an extra
(``pip install "iclkit[train]"``). `plots` shows theory and simulation together, `backend` alone
knows which array library and device do the work, and `book` has the stored data of the chapters.

The theory is that of Lu, Letey, Zavatone-Veth, Maiti and Pehlevan, doi:10.1073/pnas.2502599122,
arXiv:2405.11751. Sources of formulas, such as eq-icl-error, are labels in the book.

The names that most people need are here as well: `icl_error`, `idg_error`, `optimal_ridge`,
`optimal_context`, `critical_noise`, `effective_ridge` and `stieltjes` of `theory`, `fit_gamma` and
`fit_gamma_path` of `fits`, and `simulate` and `predict` of `runs`.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import lazy_loader

# The same is written in pyproject.toml and CITATION.cff, and a test compares them: what is asked
# of the installer instead is not known in a checkout, and old in one that has been updated.
__version__ = "0.1.0"

# What each room has stands in its `__init__.pyi`, and is imported when it is used: what draws and
# tabulates takes seconds and 100 MB, which a process that only fits Γ need not spend.
_lazy, _, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    # Apart, as `from iclkit import *` and EAGER_IMPORT=1 are to work, and to be quick, without JAX.
    return import_module("iclkit.trained") if name == "trained" else _lazy(name)


def __dir__() -> list[str]:
    trained = ["trained"] if find_spec("jax") and find_spec("optax") else []
    return [*__all__, *trained, "__version__"]
