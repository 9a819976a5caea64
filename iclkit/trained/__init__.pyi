from . import attention, depth, interpolation, prompts, streams, train, trials

__all__ = ["attention", "depth", "interpolation", "prompts", "streams", "train", "trials"]
