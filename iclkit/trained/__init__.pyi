from . import (
    attention,
    depth,
    interpolation,
    loops,
    ngrams,
    prompts,
    shifts,
    stacks,
    streams,
    train,
    trials,
)

__all__ = [
    "attention", "depth", "interpolation", "loops", "ngrams", "prompts", "shifts", "stacks",
    "streams", "train", "trials",
]  # fmt: skip
