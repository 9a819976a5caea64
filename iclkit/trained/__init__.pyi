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
    transformer,
    trials,
    wide,
)

__all__ = [
    "attention", "depth", "interpolation", "intervals", "loops", "ngrams", "prompts", "shifts",
    "stacks", "streams", "train", "transformer", "trials", "wide",
]  # fmt: skip
