from . import (
    attention,
    depth,
    interpolation,
    intervals,
    loops,
    ngrams,
    prompts,
    stacks,
    streams,
    train,
    trials,
)

__all__ = [
    "attention", "depth", "interpolation", "intervals", "loops", "ngrams", "prompts", "stacks",
    "streams", "train", "trials",
]  # fmt: skip
