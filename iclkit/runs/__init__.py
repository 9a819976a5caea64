"""Experiments: one run, many at one point, and many over a grid, resumable.

`one` is a single run, `many` repeats it, or any other measure, until error bars are small, and
keeps what it has on disk. `anew` is a run that draws its contexts anew in every pass, `looped` is a
run whose fit is applied many times, `sequences` one with tokens that are correlated over positions,
and `streamed` one that never sees a context twice. `own` foretells the errors for a list of task
vectors.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
