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
    transformer,
    trials,
)

__all__ = [
    "attention", "depth", "interpolation", "loops", "ngrams", "prompts", "stacks", "streams",
    "train", "transformer", "trials",
]  # fmt: skip
