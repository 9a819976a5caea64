"""Plots: readable on both pages, and true to what they are given."""

import re
from io import StringIO
from itertools import combinations, pairwise
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure

from iclkit import plots

mpl.use("Agg")


@pytest.fixture
def ax():
    with mpl.rc_context():
        plots.use_style()
        figure, axes = plt.subplots(figsize=plots.SIZE)
        yield axes
        plt.close(figure)


def contrast(one, other):
    def luminance(colour):
        rgb = np.array(mpl.colors.to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


# The grounds of the book's pages, as its style sheet has them.
BOOK = Path(__file__).parents[1] / "book"
CSS = (BOOK / "_static/custom.css").read_text(encoding="utf-8")
GROUNDS = re.findall(r"--pst-color-background: (#\w+)", CSS)

# How colours look to readers without cones for green or for red (Machado et al. 2009, severity 1).
SEEN = {
    "all cones": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750]]
TO_XYZ += [[0.0193339, 0.1191920, 0.9503041]]


def apart(one, other):
    """The least distance of two colours in CIELAB, over the kinds of readers."""

    def lab(colour, seen):
        rgb = np.array(mpl.colors.to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        xyz = TO_XYZ @ np.clip(seen @ linear, 0, 1) / np.sum(TO_XYZ, axis=1)
        f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    return min(np.linalg.norm(lab(one, np.array(s)) - lab(other, s)) for s in SEEN.values())


def both(colour):
    """A colour on a light page, and its counterpart on a dark one."""
    svg = plots.for_both_pages(f'<svg><path style="fill: {mpl.colors.to_hex(colour)}"/></svg>')
    (dark,) = re.findall(r"\{fill: (#[0-9a-f]{6}) !important\}", svg)
    return colour, dark


def test_the_pages_have_two_grounds():
    light, dark = GROUNDS
    assert contrast(light, "#000000") > 18 and contrast(dark, "#ffffff") > 15


@pytest.mark.parametrize("name", [*plots.COLOURS, *range(6)])
def test_colours_are_readable_as_text_on_both_pages(name):
    colour = plots.COLOURS[name] if name in plots.COLOURS else plots.ordered_colours(6)[name]
    for shade, ground in zip(both(colour), GROUNDS, strict=True):
        assert contrast(shade, ground) >= 4.5, (shade, ground)


GREYS = ["bayes", "neutral"]


@pytest.mark.parametrize(
    "names",
    [["icl", "idg", *GREYS], ["tied", "untied", *GREYS]]
    + [["linear", "one-block", "two-blocks", *GREYS]],
)
def test_what_meets_in_a_figure_is_told_apart(names):
    for one, other in combinations(names, 2):
        for pair in zip(both(plots.COLOURS[one]), both(plots.COLOURS[other]), strict=True):
            assert apart(*pair) >= 15, (one, other)


def test_ordered_colours_are_ordered_and_told_apart():
    for page in (0, 1):
        colours = [both(colour)[page] for colour in plots.ordered_colours(6)]
        light = [contrast(colour, "#000000") for colour in colours]
        assert light == sorted(light)
        assert min(apart(*pair) for pair in pairwise(colours)) >= 8
    assert len(plots.ordered_colours(1)) == 1
    with pytest.raises(ValueError, match="n must be"):
        plots.ordered_colours(0)


def test_every_colour_of_a_figure_has_one_for_a_dark_page(ax):
    plots.theory(ax, [1, 2], [1.0, 2.0], colour=plots.COLOURS["icl"], label="theory")
    for colour in plots.ordered_colours(3):
        plots.simulation(ax, [1, 2], [1.0, 2.0], [0.1, 0.1], colour=colour, published=True)
    plots.threshold(ax, 1.5, r"$\tau = 1$")
    stream = StringIO()
    ax.figure.savefig(stream, format="svg")
    svg = stream.getvalue()
    used = set(re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", svg))
    styled = re.findall(r'\[style\*="(.*?)"\]', plots.for_both_pages(svg))
    assert len(used) > 5 and sorted(used) == styled
    with pytest.raises(TypeError, match="svg must be a string"):
        plots.for_both_pages(svg.encode())


def test_the_book_takes_its_colours_from_the_table():
    """But for what lies on the colour map of the phase diagram, the same on both pages."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in BOOK.rglob("*.ipynb")}
    assert {stem for stem, text in texts.items() if re.search(r'"#[0-9a-f]{6}\b', text)} == {
        "phase-diagram"
    }
    pairs = {(light, both(light)[1]) for light in plots.COLOURS.values()}
    for path in (BOOK / "figures").glob("*.svg"):
        svg = path.read_text(encoding="utf-8")
        rules = re.findall(r'\[(?:fill|stroke)="(#\w+)"\] \{(?:fill|stroke): (#\w+)\}', svg)
        assert set(rules) <= pairs
        assert set(re.findall(r'(?:fill|stroke)="(#\w+)"(?!\])', svg)) == {
            light for light, _ in rules
        }


def test_a_notebook_shows_figures_for_both_pages():
    shell = InteractiveShell.instance()
    try:
        with mpl.rc_context():
            plots.use_style()
            figure = Figure()
            figure.subplots()
            shown, _ = shell.display_formatter.format(figure)
    finally:
        InteractiveShell.clear_instance()
    assert "prefers-color-scheme: dark" in shown["image/svg+xml"]


def test_pages_show_through(ax):
    assert mpl.colors.to_rgba(ax.get_facecolor())[3] == 0
    assert mpl.colors.to_rgba(ax.figure.get_facecolor())[3] == 0


def test_divergences_leave_the_frame(ax):
    plots.theory(ax, [1, 2, 3], [1.0, np.inf, 2.0], colour="C0", label="α = 1")
    (line,) = ax.lines
    np.testing.assert_array_equal(np.isnan(line.get_ydata()), [False, True, False])
    (name,) = ax.texts
    assert name.get_text() == "α = 1" and name.xy == (3, 2.0)


def test_a_line_ending_in_a_divergence_is_named_before_it(ax):
    plots.limit(ax, [1, 2, 3], [1.0, 4.0, np.inf], colour="C0", label="limit")
    assert ax.texts[0].xy == (2, 4.0)
    assert ax.lines[0].get_linestyle() == ":"


def test_crowded_names_are_spread_in_order(ax):
    ax.set(ylim=(0, 10))
    for end in (5.0, 5.1, 4.9, 1.0):
        plots.theory(ax, [0, 1], [0, end], colour="C0", label=f"{end}")
    plots.spread_labels(ax)
    shift = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert shift["1.0"] == pytest.approx(0)
    points = [ax.transData.transform(t.xy)[1] * 72 / ax.figure.dpi for t in ax.texts]
    places = dict(zip(shift, np.array(points) + list(shift.values()), strict=True))
    assert places["5.0"] - places["4.9"] >= 12 and places["5.1"] - places["5.0"] >= 12


def test_simulation_has_error_bars(ax):
    plots.simulation(ax, [1, 2], [3.0, 4.0], [0.5, 0.1], colour="C1", label="d = 40")
    plots.simulation(ax, [1], [3.0], [0.5], colour="C1", published=True)
    filled, hollow = ax.containers
    assert filled.lines[0].get_markerfacecolor() == "C1"
    assert hollow.lines[0].get_markerfacecolor() == "none"
    (bars,) = filled.lines[2]
    np.testing.assert_allclose([s[:, 1] for s in bars.get_segments()], [[2.5, 3.5], [3.9, 4.1]])


def test_threshold_is_named(ax):
    plots.threshold(ax, 1.0, r"$\tau = 1$")
    assert ax.texts[0].get_text() == r"$\tau = 1$"
    assert list(ax.lines[0].get_xdata()) == [1.0, 1.0]


def test_histogram_is_a_density(ax):
    samples = np.random.default_rng(0).standard_normal(1000)
    plots.histogram(ax, samples, 20, colour="C0")
    (patch,) = ax.patches
    values, edges, _ = patch.get_data()
    assert np.sum(values * np.diff(edges)) == pytest.approx(1)
