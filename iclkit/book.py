"""What the chapters of the book need of it, wherever they run: its stored data, and its ledger.

A chapter that was downloaded runs like one of the checkout: the stored data come with the package.
"""

from __future__ import annotations

import math
from numbers import Integral
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from iclkit import _validate

_PACKAGE = Path(__file__).parent
# A wheel has the files of book/data within the package, see pyproject.toml; a checkout has not.
_SHIPPED, _CHECKOUT = _PACKAGE / "_stored", _PACKAGE.parent / "book" / "data"


def data(name: str = "") -> Path:
    """Where a file of stored results, or of published numbers, lies.

    Parameters
    ----------
    name : str
        Such as ``"double-descent.nc"`` or ``"published/lu2024-times.json"``; by default the folder.

    Returns
    -------
    pathlib.Path
        In ``book/data`` of a checkout, else in the installed package.

    Raises
    ------
    TypeError
        If `name` is not a string.
    FileNotFoundError
        If there is no file of that name.

    Examples
    --------
    >>> from iclkit import book, runs
    >>> stored = runs.load(book.data("double-descent.nc"))
    >>> print(stored.d.item())
    100
    """
    _validate.instance("name", name, str, "a string")
    folder = _SHIPPED if _SHIPPED.is_dir() else _CHECKOUT
    if not (folder / name).exists():
        files = [path for path in folder.rglob("*.*") if path.is_file()]
        there = ", ".join(sorted(path.relative_to(folder).as_posix() for path in files))
        raise FileNotFoundError(f"the book has no data {name!r}, but these: {there or 'none'}")
    return folder / name


def glue(name: str, value: Any) -> None:
    """Keep a value for other pages, such as the ledger, to show; outside the book do nothing.

    Parameters
    ----------
    name : str
        What the pages call it.
    value : number, str or matplotlib.figure.Figure
        A finite number may come from any library, an array of no dimensions among them.

    Returns
    -------
    None
        In a notebook, where MyST-NB is installed, the cell's output holds the value unseen.

    Raises
    ------
    ValueError, TypeError
        If `name` is not a string, or `value` is an array, NaN, infinite or of another kind.

    Examples
    --------
    >>> from iclkit import book
    >>> book.glue("largest-difference", 0.5)
    """
    _validate.instance("name", name, str, "a string")
    value = _plain(f"the value of {name!r}", value)
    try:
        from IPython import get_ipython
        from myst_nb import glue as keep
    except ImportError:
        return
    if get_ipython() is not None:  # else it would be printed
        keep(name, value, display=False)


def _plain(name: str, value: Any) -> bool | int | float | str | Figure:
    """Return what a page shows as one would write it: not as np.float64(0.5)."""
    if getattr(value, "shape", ()):
        raise ValueError(f"{name} must be a single one, got {value!r}")
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, (bool, str, Figure)):
        return value
    if isinstance(value, Integral):
        return int(value)
    try:
        number = float(value)
    except TypeError:
        raise TypeError(f"{name} must be a number, a string or a figure, got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return number
