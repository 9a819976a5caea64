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
)

__all__ = [
    "attention", "depth", "interpolation", "loops", "ngrams", "prompts", "stacks", "streams",
    "train", "trials",
]  # fmt: skip
