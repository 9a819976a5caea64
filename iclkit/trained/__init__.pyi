from . import attention, depth, interpolation, loops, prompts, train, trials

__all__ = ["attention", "depth", "interpolation", "loops", "prompts", "train", "trials"]
