from . import attention, depth, interpolation, loops, ngrams, prompts, train, trials

__all__ = ["attention", "depth", "interpolation", "loops", "ngrams", "prompts", "train", "trials"]
