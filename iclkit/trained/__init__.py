"""Networks that are trained, with JAX: an extra, ``pip install "iclkit[train]"``.

`prompts` are what networks learn from, `attention`, `depth` and `stacks` what they are, `train`
fits them, `interpolation` finds what they can learn by heart, and `trials` are the experiments that
put all that together, besides `loops`, where one layer is trained through its applications,
`shifts`, where the spectrum at test is another one, `streams`, where Adam sees fresh contexts,
`intervals`, where networks predict a variance, too, and `wide`, where layers are read off what they
predict. Read them in this order. `ngrams` stands apart: random languages, and what learns them.
"""

import lazy_loader

from iclkit.trained import _jax  # noqa: F401 - what is missing is said here

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
