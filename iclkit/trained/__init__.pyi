from . import attention, depth, interpolation, loops, prompts, streams, train, trials

__all__ = [
    "attention", "depth", "interpolation", "loops", "prompts", "streams", "train", "trials",
]  # fmt: skip
