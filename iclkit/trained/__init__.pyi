from . import attention, depth, interpolation, ngrams, prompts, train, trials

__all__ = ["attention", "depth", "interpolation", "ngrams", "prompts", "train", "trials"]
