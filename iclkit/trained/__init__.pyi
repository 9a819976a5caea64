from . import (
    attention,
    depth,
    interpolation,
    intervals,
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
    "attention", "depth", "interpolation", "intervals", "loops", "ngrams", "prompts", "shifts",
    "stacks", "streams", "train", "trials",
]  # fmt: skip
