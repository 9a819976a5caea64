from ._store import load
from .many import simulate, sweep
from .one import linear_attention

__all__ = ["linear_attention", "load", "simulate", "sweep"]
