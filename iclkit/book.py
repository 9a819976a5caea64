"""What the chapters of the book need of it, wherever they run: its data, its ledger, its tables.

A chapter that was downloaded runs like one of the checkout: the stored data come with the package.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
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
        from myst_nb import glue as keep
    except ImportError:
        return
    if _shell() is not None:  # else it would be printed
        keep(name, value, display=False)


def table(
    columns: Mapping[str, Iterable[Any]],
    caption: str,
    formats: Mapping[str, str] | None = None,
) -> None:
    """Show a table with a caption: on a page as such, elsewhere as lines of text.

    Parameters
    ----------
    columns : mapping of str to iterable
        Heads, with symbols as they are (``"τ"``) and units, and what stands below them: finite
        numbers, strings, or None where there is nothing. All of one length, at least 1.
    caption : str
        A sentence that says what the numbers are.
    formats : mapping of str to str, optional
        Format specifications of columns of numbers, such as ``{"τ": ".2f"}``; by default ``"g"``.

    Returns
    -------
    None
        The table is shown where this is called.

    Raises
    ------
    ValueError, TypeError
        If columns differ in length, are none or empty, hold NaN or an array, or if `formats` has
        a column that isn't there.

    Examples
    --------
    >>> from iclkit import book
    >>> book.table({"τ": [0.5, 2], "error": [1.5, 0.891]}, "Two errors.", {"error": ".2f"})
    Two errors.
      τ  error
    0.5   1.50
      2   0.89
    """
    _validate.instance("columns", columns, Mapping, "a mapping of heads to columns")
    _validate.instance("caption", caption, str, "a string")
    formats = {} if formats is None else dict(formats)
    if unknown := set(formats) - set(columns):
        raise ValueError(f"formats must be of columns {list(columns)}, got {sorted(unknown)}")
    cells = {head: list(column) for head, column in columns.items()}
    lengths = {head: len(column) for head, column in cells.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"columns must be of one length, at least 1, got {lengths}")
    texts = [
        [head, *(_cell(f"the column {head!r}", value, formats.get(head, "g")) for value in column)]
        for head, column in cells.items()
    ]
    shell = _shell()
    rows = list(zip(*texts, strict=True))
    widths = [max(map(len, column)) for column in texts]
    lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
    text = "\n".join([caption, *lines])
    if shell is None:
        print(text)
        return
    html = f'<table class="numbers"><caption>{escape(caption)}</caption>'
    for tag, part in (("th", rows[:1]), ("td", rows[1:])):
        for row in part:
            html += "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>"
    shell.display_pub.publish({"text/html": html + "</table>", "text/plain": text})


def _shell() -> Any:
    """Return IPython's shell within a notebook, else None."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def _cell(name: str, value: Any, form: str) -> str:
    """Return a value as it stands in a table."""
    if value is None:
        return "–"
    value = _plain(name, value)
    if isinstance(value, str):
        return value
    text = format(value, form)
    return text.replace("-", "") if value == 0 or set(text) <= set("-0.") else text  # no −0.0


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
