"""What a stored sweep is recognised by: the name and the source of its measure, and what is bound.

Two measures that could give different numbers under one description must not share a file, so what
cannot be told apart is refused: the caller names it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

# What a syntax tree holds beside what the code does.
_SILENT = {"annotation", "returns", "type_comment", "type_params", "kind"}


def describe(measure: Callable[..., Any]) -> str:
    """Name a measure, the same whether its file is run or imported."""
    if isinstance(measure, functools.partial):
        return describe(measure.func) + _bound(measure.keywords)
    if not hasattr(measure, "__qualname__"):
        measure = type(measure)
    module = measure.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        module = spec.name if spec else Path(getattr(main, "__file__", "")).stem
    return f"{module}.{measure.__qualname__}".lstrip(".")


def identify(measure: Callable[..., Any]) -> str:
    """Describe a measure with a digest of its source; TypeError if that does not say what it is."""
    function, bound = measure, dict[str, Any]()
    if type(measure) is functools.partial:
        function, bound = measure.func, measure.keywords
    # The name of a lambda, a method or a local function is not an identifier.
    plain = isinstance(function, FunctionType) and function.__qualname__.isidentifier()
    if not plain or function.__closure__:
        raise _unknown(measure, "is not a function at the top of a module, nor a partial of one")
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    for name, value in (defaults | bound).items():
        if not isinstance(value, (bool, int, float, str, np.number, np.bool, type(None))):
            raise _unknown(measure, f"has {name}={value!r}, which is not a number or a word")
    try:
        # By its code, as `inspect` would look through a decorator to what that wraps.
        tree = ast.parse(textwrap.dedent(inspect.getsource(function.__code__)))
    except (OSError, TypeError, SyntaxError):
        raise _unknown(measure, "has no source that can be read") from None
    digest = hashlib.sha256((repr(_form(tree)) + _bound(defaults)).encode()).hexdigest()[:16]
    return f"{describe(measure)}, source {digest}"


def _unknown(measure: Callable[..., Any], reason: str) -> TypeError:
    return TypeError(
        f"measure {reason}, so that its file could be taken for that of another one: "
        f"say what it is by name=, got {measure!r}"
    )


def _bound(values: Mapping[str, Any]) -> str:
    plain = {
        name: value.item()
        if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0
        else value
        for name, value in values.items()
    }
    return f"({', '.join(f'{name}={plain[name]!r}' for name in sorted(plain))})" if plain else ""


def _form(node: Any) -> Any:
    """Reduce a syntax tree to what the code does, in the same way for every version of Python."""
    if isinstance(node, list):
        # A constant that stands for itself does nothing: a docstring, as a rule.
        idle = [isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant) for x in node]
        return [_form(x) for x, nothing in zip(node, idle, strict=True) if not nothing]
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        node = ast.Assign([node.target], node.value)
    if isinstance(node, ast.JoinedStr):  # Python 3.12 adds empty words to some
        node = ast.JoinedStr([x for x in node.values if getattr(x, "value", None) != ""])
    if isinstance(node, ast.AST):
        fields = {name: value for name, value in ast.iter_fields(node) if name not in _SILENT}
        # Fields that a newer Python has added are empty unless something new is used.
        kept = [(name, _form(value)) for name, value in fields.items() if value not in (None, [])]
        return (type(node).__name__, *kept)
    return repr(node)
