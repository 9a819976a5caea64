"""One figure style: theory as lines, simulation as points with error bars, limits dotted.

Figures are transparent, drawn for a light page, and carry the colours for a dark one with them:
one file reads on both. What has a colour here has a contrast of at least 4.5 with either ground,
enough for text, and what meets in a figure stays apart for colour-blind readers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from iclkit import _validate

if TYPE_CHECKING:  # newer than the oldest matplotlib that will do
    from matplotlib.typing import ColorType, RcKeyType

# Inches: the width of the text column, one panel or two side by side.
SIZE = (6.4, 3.9)
WIDE = (7.2, 3.5)
NARROW = (4.3, 3.2)  # of the panels of a wide figure below each other, each

# The same thing has the same colour in the whole book, given for a light and for a dark page.
# A colour returns where things don't meet: a linear network has the errors of the exact formulas.
_TABLE = {
    "icl": ("#1f68b8", "#6aa9ee"),
    "idg": ("#b34a05", "#f39a56"),
    "bayes": ("#33373b", "#dddfe0"),
    "neutral": ("#696d72", "#999ea4"),  # axes, text, guides, and what has no name here
    "tied": ("#2f6b00", "#8fd14f"),  # equal layers, or equal steps
    "untied": ("#9a2fa0", "#d68cf0"),  # layers, or steps, of their own
    "linear": ("#1f68b8", "#6aa9ee"),
    "one-block": ("#7f5c00", "#e3b93c"),
    "two-blocks": ("#5b1a8a", "#dccbff"),
}
COLOURS = {name: light for name, (light, _) in _TABLE.items()}

# From violet to amber, and lighter all the way.
_RAMP = LinearSegmentedColormap.from_list("light", ["#31107f", "#9a1f78", "#a86000"])
_DARK_RAMP = LinearSegmentedColormap.from_list("dark", ["#a883f5", "#f08aa8", "#ffdb66"])

_ON_DARK = {to_hex(_RAMP(i)): to_hex(_DARK_RAMP(i)) for i in range(_RAMP.N)} | dict(_TABLE.values())

_AXES = "matplotlib axes"
_END = "end-of-line"  # marks the names that `spread_labels` may move

_STYLE: dict[RcKeyType, Any] = {
    "axes.edgecolor": COLOURS["neutral"],
    "axes.facecolor": "none",
    "axes.formatter.use_mathtext": True,
    "axes.labelcolor": COLOURS["neutral"],
    "axes.labelsize": 12,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": False,
    "errorbar.capsize": 0,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "font.family": "serif",
    "font.serif": ["STIXGeneral"],  # ships with matplotlib: the same on every machine
    "font.size": 12,
    "grid.alpha": 0.25,
    "grid.color": COLOURS["neutral"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": COLOURS["neutral"],
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "mathtext.fontset": "cm",
    "patch.edgecolor": COLOURS["neutral"],
    "savefig.facecolor": "none",
    "svg.hashsalt": "iclkit",  # the same figure is the same file
    "text.color": COLOURS["neutral"],
    "xtick.color": COLOURS["neutral"],
    "ytick.color": COLOURS["neutral"],
}


def use_style() -> None:
    """Set matplotlib's style, and figures in notebooks that fit the page, for this session.

    In a notebook they are vector graphics with the colours of light and of dark pages. If panels
    stand side by side, the file has a view of them below each other as well, for a phone.

    Returns
    -------
    None
        Changes `matplotlib.rcParams`; call it once, at the top of a notebook.

    Examples
    --------
    >>> import matplotlib as mpl
    >>> from iclkit import plots
    >>> with mpl.rc_context():  # for a part of a session
    ...     plots.use_style()
    ...     mpl.rcParams["font.family"]
    ['serif']
    """
    mpl.rcParams.update(_STYLE)
    try:
        from IPython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # no notebook, nothing to set
        return
    if not (shell := get_ipython()):
        return
    set_matplotlib_formats("svg")
    formatter = shell.display_formatter.formatters["image/svg+xml"]
    draw = formatter.lookup_by_type(Figure)

    def both_pages_and_widths(figure: Figure) -> str | None:
        svg = draw(figure)
        if svg and (panels := _in_a_row(figure)):
            _stack(figure, panels)
            svg = _with_narrow(svg, draw(figure))
        return svg and for_both_pages(svg)

    formatter.for_type(Figure, both_pages_and_widths)


def _in_a_row(figure: Figure) -> list[Axes] | None:
    """Return the panels of a figure that is nothing but some side by side."""
    specs = [ax.get_subplotspec() for ax in figure.axes]
    if len(specs) < 2 or any(s is None or s.get_gridspec().nrows > 1 for s in specs):
        return None
    return figure.axes


def _stack(figure: Figure, panels: list[Axes]) -> None:
    """Put panels below each other; those that shared the labels of an axis get their own."""
    grid = figure.add_gridspec(len(panels), 1)
    first, *_ = (ax.get_ylabel() for ax in panels)
    for row, ax in enumerate(panels):
        ax.set_subplotspec(grid[row])
        if not ax.yaxis.get_tick_params().get("labelleft", True):
            ax.tick_params(labelleft=True)
            ax.set_ylabel(ax.get_ylabel() or first)
    figure.set_size_inches(NARROW[0], NARROW[1] * len(panels))


def _with_narrow(svg: str, narrow: str) -> str:
    """Put a narrow drawing below the frame of a wide one, as the view named `narrow`."""
    (top,) = re.findall(r'<svg\b[^>]*viewBox="0 0 [\d.]+ ([\d.]+)"', svg)
    ((size, width, height),) = re.findall(r'viewBox="(0 0 ([\d.]+) ([\d.]+))"', narrow)
    inner = narrow[narrow.index(">", narrow.index("<svg")) + 1 :]
    view = f'<view id="narrow" viewBox="0 {top} {width} {height}"/>'
    below = f'<svg y="{top}" width="{width}" height="{height}" viewBox="{size}">{inner}'
    return svg[: svg.rindex("</svg>")] + view + below.rstrip() + "\n</svg>\n"


def for_both_pages(svg: str) -> str:
    """Give a figure, drawn in the colours of this module, those for a dark page as well.

    Parameters
    ----------
    svg : str
        The figure, as matplotlib writes it.

    Returns
    -------
    str
        The same with a style sheet that holds where dark pages are preferred: by the system, or
        by the page that shows the figure as an image.

    Raises
    ------
    ValueError, TypeError
        If `svg` is no string, or has no picture in it.

    Examples
    --------
    >>> from iclkit import plots
    >>> svg = '<svg><path style="stroke: #1f68b8"/></svg>'
    >>> print(plots.for_both_pages(svg))
    <svg><style>@media (prefers-color-scheme: dark) {
    [style*="stroke: #1f68b8"] {stroke: #6aa9ee !important}
    }</style><path style="stroke: #1f68b8"/></svg>
    """
    _validate.instance("svg", svg, str, "a string")
    if "<svg" not in svg:
        raise ValueError(f"svg must be a picture in SVG, got {svg[:60]!r}")
    used = sorted(set(re.findall(r"\b(fill|stroke): (#[0-9a-f]{6})\b", svg)))
    rules = [
        f'[style*="{what}: {colour}"] {{{what}: {_ON_DARK[colour]} !important}}\n'
        for what, colour in used
        if colour in _ON_DARK
    ]
    style = f"<style>@media (prefers-color-scheme: dark) {{\n{''.join(rules)}}}</style>"
    return re.sub(r"<svg\b[^>]*>", lambda start: start[0] + style, svg, count=1)


def ordered_colours(n: int) -> list[tuple[float, ...]]:
    """Colours for n values of a swept parameter, in order.

    Parameters
    ----------
    n : int
        How many, at least 1.

    Returns
    -------
    list of tuple of float
        From violet to amber, for a light page; `for_both_pages` knows those for a dark one.

    Raises
    ------
    ValueError, TypeError
        If `n` is not an integer of at least 1.

    Examples
    --------
    >>> from iclkit import plots
    >>> violet, *_, amber = plots.ordered_colours(5)
    >>> print(sum(violet) < sum(amber))  # lightness grows
    True
    """
    n = _validate.count("n", n)
    return [tuple(colour) for colour in _RAMP(np.linspace(0, 1, n))]


def _check(ax: Any, colour: Any, label: Any) -> None:
    _validate.instance("ax", ax, Axes, _AXES)
    if not mpl.colors.is_color_like(colour):
        raise ValueError(f"colour must be a matplotlib colour, got {colour!r}")
    if label is not None:
        _validate.instance("label", label, str, "a string")


def theory(
    ax: Axes,
    x: ArrayLike,
    y: ArrayLike,
    *,
    colour: ColorType,
    label: str | None = None,
    **line: Any,
) -> None:
    """Draw a theory curve as a line, named at its right end; divergences leave the frame.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    x, y : array of shape (n,)
        The curve; points where `y` is not finite are left out.
    colour : color
        Any matplotlib colour.
    label : str, optional
        Name, written beside the last finite point.
    **line
        Passed on to `Axes.plot`.

    Returns
    -------
    None
        Draws on `ax`.

    Raises
    ------
    ValueError, TypeError
        If `x` and `y` are not numbers of one shape, or another argument is of another kind.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from iclkit import plots, theory
    >>> ax = Figure(figsize=plots.SIZE).subplots()
    >>> tau = [0.5, 1.0, 2.0]
    >>> error = theory.icl_error(tau, alpha=1.0, kappa=1.0, rho=0.1)
    >>> plots.theory(ax, tau, error, colour=plots.COLOURS["icl"], label="new tasks")
    >>> print(ax.lines[0].get_ydata().round(3))  # the divergence is a gap
    [1.487   nan 1.388]
    """
    _check(ax, colour, label)
    x, y = _validate.real("x", x), _validate.real("y", y)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"x and y must be of one shape (n,), got {x.shape} and {y.shape}")
    y = np.where(np.isfinite(y), y, np.nan)
    ax.plot(x, y, color=colour, **line)
    shown = np.flatnonzero(np.isfinite(y))
    if label is not None and shown.size:
        end = shown[np.argmax(x[shown])]
        ax.annotate(
            label, (x[end], y[end]), xytext=(6, 0), textcoords="offset points",
            color=colour, va="center", annotation_clip=False, gid=_END,
        )  # fmt: skip


def simulation(
    ax: Axes,
    x: ArrayLike,
    mean: ArrayLike,
    error: ArrayLike | None,
    *,
    colour: ColorType,
    label: str | None = None,
    published: bool = False,
) -> None:
    """Draw simulated means as points with error bars.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    x, mean, error : array of shape (n,)
        Where, the means, and their standard errors, or two rows of them: below and above; None
        for no errors. Points that are not finite are left out.
    colour : color
        Any matplotlib colour.
    label : str, optional
        Name in the legend.
    published : bool
        Hollow points, for numbers that others published.

    Returns
    -------
    None
        Draws on `ax`.

    Raises
    ------
    ValueError, TypeError
        If the numbers do not match, an error is negative, or another argument is of another kind.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from iclkit import plots
    >>> ax = Figure(figsize=plots.SIZE).subplots()
    >>> plots.simulation(ax, [1.0, 2.0], [0.9, 0.8], [0.02, 0.01], colour="C0", label="d = 20")
    >>> ax.get_legend_handles_labels()[1]
    ['d = 20']
    """
    _check(ax, colour, label)
    published = _validate.flag("published", published)
    x, mean = _validate.real("x", x), _validate.real("mean", mean)
    if x.shape != mean.shape:
        raise ValueError(f"x and mean must be of one shape, got {x.shape} and {mean.shape}")
    if error is not None:
        error = _validate.real("error", error)
        if error.shape not in (x.shape, (2, *x.shape)):
            raise ValueError(f"error must have the shape of x, {x.shape}, got {error.shape}")
        if np.any(error < 0):
            raise ValueError(f"error must be at least 0, got {np.nanmin(error)}")
    face = "none" if published else colour
    ax.errorbar(
        x, mean, yerr=error, fmt="o", color=colour, mfc=face, label=label, elinewidth=1.2, zorder=3
    )


def spread_labels(ax: Axes) -> None:
    """Move the names at the ends of lines apart, where they would overlap.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        A finished panel: call this last, as it needs the final limits of the axes.

    Returns
    -------
    None
        Shifts the names vertically on `ax`.

    Raises
    ------
    ValueError, TypeError
        If `ax` is no axes.

    Examples
    --------
    >>> import matplotlib as mpl
    >>> from matplotlib.figure import Figure
    >>> from iclkit import plots
    >>> ax = Figure(figsize=plots.SIZE).subplots()
    >>> for name in "one", "two":  # lines that end in the same point
    ...     plots.theory(ax, [0.0, 1.0], [0.0, 1.0], colour="C0", label=name)
    >>> plots.spread_labels(ax)
    >>> low, high = sorted(text.get_position()[1] for text in ax.texts)
    >>> print(high - low > mpl.rcParams["font.size"])
    True
    """
    _validate.instance("ax", ax, Axes, _AXES)
    labels = [text for text in ax.texts if isinstance(text, Annotation)]
    names = [text for text in labels if text.get_gid() == _END]
    to_points = 72 / ax.figure.dpi
    wanted = np.array([ax.transData.transform(text.xy)[1] for text in names]) * to_points
    order = np.argsort(wanted)
    step = 1.15 * mpl.rcParams["font.size"]
    # Least total shift that keeps the order: names that touch share their mean displacement.
    shifts = isotonic_regression(wanted[order] - step * np.arange(len(names))).x
    for rank, place in enumerate(order):
        names[place].set_position((6, shifts[rank] + step * rank - wanted[place]))


def limit(
    ax: Axes, x: ArrayLike, y: ArrayLike, *, colour: ColorType, label: str | None = None
) -> None:
    """Draw a limiting curve, dotted.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    x, y : array of shape (n,)
        The curve.
    colour : color
        Any matplotlib colour.
    label : str, optional
        Name, written beside the last finite point.

    Returns
    -------
    None
        Draws on `ax`.

    Raises
    ------
    ValueError, TypeError
        If it is refused by `theory`.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from iclkit import plots
    >>> from iclkit.theory import bayes
    >>> ax = Figure(figsize=plots.SIZE).subplots()
    >>> alpha = [0.5, 1.0, 2.0]
    >>> plots.limit(ax, alpha, bayes.ridge_error(alpha, 0.1), colour=plots.COLOURS["bayes"])
    >>> ax.lines[0].get_linestyle()
    ':'
    """
    theory(ax, x, y, colour=colour, label=label, linestyle=":")


def threshold(ax: Axes, x: float, name: str) -> None:
    r"""Mark a threshold by a thin vertical with its name at the top.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    x : float
        Where the threshold is.
    name : str
        Its name, such as ``r"$\tau = 1$"``.

    Returns
    -------
    None
        Draws on `ax`.

    Raises
    ------
    ValueError, TypeError
        If `x` is no finite number, or another argument is of another kind.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from iclkit import plots
    >>> ax = Figure(figsize=plots.SIZE).subplots()
    >>> plots.threshold(ax, 1.0, r"$\tau = 1$")
    >>> print(ax.texts[0].get_text())
    $\tau = 1$
    """
    _validate.instance("ax", ax, Axes, _AXES)
    _validate.instance("name", name, str, "a string")
    x = _validate.scalar(_validate.real, "x", x)
    if not np.isfinite(x):
        raise ValueError(f"x must be finite, got {x}")
    ax.axvline(x, color=COLOURS["neutral"], linewidth=0.8, linestyle="--", zorder=0)
    ax.annotate(
        name, (x, 1), xycoords=ax.get_xaxis_transform(), xytext=(4, 0),
        textcoords="offset points", va="top", color=COLOURS["neutral"],
    )  # fmt: skip


def histogram(
    ax: Axes, samples: ArrayLike, bins: ArrayLike, *, colour: ColorType, label: str | None = None
) -> None:
    """Draw a normalised histogram, as a filled outline.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    samples : array
        Any shape.
    bins : int or array
        As in `numpy.histogram`.
    colour : color
        Any matplotlib colour.
    label : str, optional
        Name in the legend.

    Returns
    -------
    None
        Draws on `ax`.

    Raises
    ------
    ValueError, TypeError
        If `samples` is not of finite numbers, `bins` neither a number nor increasing edges.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from iclkit import plots
    >>> ax = Figure(figsize=plots.SIZE).subplots()
    >>> plots.histogram(ax, [0.1, 0.2, 0.7], bins=[0.0, 0.5, 1.0], colour="C0")
    >>> ax.patches[0].get_data().values.round(3)
    array([1.333, 0.667])
    """
    _check(ax, colour, label)
    samples, bins = _validate.real("samples", samples), _validate.real("bins", bins)
    if samples.size == 0 or not np.all(np.isfinite(samples)):
        raise ValueError(f"samples must be finite, and at least one, got {samples}")
    if bins.ndim == 0:
        bins = _validate.count("bins", int(bins) if bins % 1 == 0 else float(bins))
    elif bins.ndim > 1 or bins.size < 2 or not np.all(np.diff(bins) > 0):
        raise ValueError(f"bins must be a number or increasing edges, got {bins}")
    try:
        counts, edges = np.histogram(samples, bins=bins)
    except ValueError:
        raise ValueError(f"bins must be wider than rounding of samples, got {bins}") from None
    if not counts.any():
        raise ValueError(f"bins must hold at least one of samples, got {bins}")
    density = counts / counts.sum() / np.diff(edges)
    ax.stairs(density, edges, fill=True, color=colour, alpha=0.35, label=label)
