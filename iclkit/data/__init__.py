"""Draw the data of in-context regression, and know their exact averages.

`tasks` draws task vectors and which context has which, `contexts` draws the contexts, token by
token or only what linear attention sees of them, and `moments` has the exact averages over
contexts, from which errors follow without test data. Read them in this order. `blocks` has contexts
that are drawn anew instead of held. `laws` says what covariances tasks and tokens have where they
are not isotropic, and `kernels` has tokens that are correlated over positions, and errors on them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
