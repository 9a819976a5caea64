"""Find Γ* from data: ridge regression on the features x hᵀ, which are never stored.

`fit` is the way in, and picks the solver that `cost` foretells to be fastest. `solvers` are what
it picks from, built on the products of `features` and on the iterations of `krylov`, which end
where `accuracy` foretells that the errors are right; `training` goes to Γ* by gradient flow, and
`redrawn` fits to contexts that no memory could hold. Read `fit` first, then `features`, `solvers`,
`krylov`, and `cost` and `accuracy` last.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
