from . import attention, depth, interpolation, prompts, stacks, train, trials

__all__ = ["attention", "depth", "interpolation", "prompts", "stacks", "train", "trials"]
