from . import attention, depth, interpolation, prompts, train, trials

__all__ = ["attention", "depth", "interpolation", "prompts", "train", "trials"]
