from ._store import load
from .anew import redrawn_attention
from .looped import looped_attention
from .many import simulate, sweep
from .one import linear_attention
from .own import contexts_needed, predict, tokens_needed
from .sequences import correlated_tokens
from .streamed import streaming_descent

__all__ = [
    "contexts_needed", "correlated_tokens", "linear_attention", "load", "looped_attention",
    "predict", "redrawn_attention", "simulate", "streaming_descent", "sweep", "tokens_needed",
]  # fmt: skip
