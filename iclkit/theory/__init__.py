"""What the answer is in the limit of many dimensions, and what the best estimators reach.

The errors of the fitted Γ* and their optima are names of this room: `icl_error` and those beside
it. They are in `limit`, and their first order in 1/d is in `finite`; `structured` says more of
tasks that have a law of `iclkit.data.laws`, `correlated` what the errors are where the tokens of a
context are correlated, `flow` what they are while training goes on, and `loop` what becomes of a
fit that is applied many times to its context; `streaming` is training on fresh contexts at every
step, at finite sizes. `bayes` has the estimators to compare with, and
`descent` what layers of linear attention can do with one context; in `nonparametric` tasks are
functions on an interval, and in `links`, whose arrays are plain, labels are nonlinear functions of
one direction. Read `limit` first; the others stand alone.

The limit is d → ∞ with ℓ/d = α, k/d = κ and n/d² = τ fixed. Arguments that are arrays broadcast.
Labelled arrays stay labelled: an `xarray.DataArray` meets others by the names of its dimensions,
and the result has all of these, with their coordinates.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
