"""Plots: readable on both pages, and true to what they are given."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

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


@pytest.mark.parametrize("colour", plots.COLOURS.values())
@pytest.mark.parametrize("page", ["#ffffff", "#121212"])
def test_colours_are_readable_on_both_pages(colour, page):
    assert contrast(colour, page) > 3.5


def test_ordered_colours_are_readable_and_ordered():
    colours = plots.ordered_colours(6)
    light = [contrast(colour, "#000000") for colour in colours]
    assert light == sorted(light)
    assert (
        min(contrast(colour, page) for colour in colours for page in ("#ffffff", "#121212")) > 2.5
    )
    assert len(plots.ordered_colours(1)) == 1
    with pytest.raises(ValueError, match="n must be"):
        plots.ordered_colours(0)


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
