from . import (
    attention,
    depth,
    interpolation,
    loops,
    ngrams,
    prompts,
    stacks,
    streams,
    train,
    trials,
    wide,
)

__all__ = [
    "attention", "depth", "interpolation", "loops", "ngrams", "prompts", "stacks", "streams",
    "train", "trials", "wide",
]  # fmt: skip
