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
    wide,
)

__all__ = [
    "attention", "depth", "interpolation", "intervals", "loops", "ngrams", "prompts", "shifts",
    "stacks", "streams", "train", "trials", "wide",
]  # fmt: skip
