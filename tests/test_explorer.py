"""What is translated into JavaScript is what Python does, and what can't be is refused.

That the results agree is tested in a browser, in test_site_explorer.py.
"""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "_ext"))
from explorer import PARAMETERS, SIMULATIONS, formulas, points, style, tracer

from iclkit import plots, theory
from iclkit.theory import _equivalent


def translated(function, *parameters, **options):
    code = tracer.javascript("f", lambda *numbers: [function(*numbers)], parameters, **options)
    return re.sub(r"\s+", " ", code)


def test_formula_becomes_one_expression():
    code = translated(lambda x, y: np.sqrt(x) / (1 - y), "x", "y")
    assert code == "function f(x, y) { return [(Math.sqrt(x) / (1 - y))]; } "


def test_branch_is_taken_both_ways():
    def step(x):
        return x + 1 if np.any(x > 0) else -x

    assert translated(step, "x") == (
        "function f(x) { if ((x > 0)) { return [(x + 1)]; } else { return [-x]; } } "
    )
    assert translated(step, "x", never=lambda x: x > 0) == "function f(x) { return [-x]; } "


def test_choice_that_is_decided_is_none():
    def chosen(x):
        return np.where(x > 0, np.log(x), 0.0) if np.any(x > 0) else np.where(x > 0, x, 1.0)

    assert "?" not in translated(chosen, "x")
    assert "((x > 0) ? x : 1)" in translated(lambda x: np.where(x > 0, x, 1.0), "x")


def test_mask_selects_where_it_was_asked_for():
    def masked(x):
        y = x.copy()
        if np.any(x < 0):
            y[x < 0] = -x[x < 0]
        return y

    assert "{ return [-x]; } else { return [x]; }" in translated(masked, "x")
    with pytest.raises(NotImplementedError, match="mask"):
        translated(lambda x: x[x > 0], "x")


@pytest.mark.parametrize("function", [np.cbrt, np.linalg.norm, lambda x: x**0.5])
def test_what_has_no_translation_is_refused(function):
    with pytest.raises((NotImplementedError, TypeError)):
        translated(function, "x")


def test_branch_within_a_search_is_refused():
    def search(x):
        return _equivalent.elementwise.find_root(
            lambda z: z if np.any(z > x) else -z, None, args=()
        ).x

    with pytest.raises(NotImplementedError, match="branch within"):
        translated(search, "x")


def test_work_that_does_not_depend_on_the_unknown_is_done_before_the_search():
    (search,) = re.findall(r"findRoot\(z => \{(.*?)\n\}\)", formulas(), re.DOTALL)
    assert "Math.log(lam)" not in search and "Math.log" in search


def test_points_are_simulations_near_their_theory():
    """So that no parameter is another one's."""
    lines = points()
    assert {axis for axis, _, _ in lines} == {axis for axis, _ in SIMULATIONS.values()}
    assert {point[4] for _, point, _ in lines} >= {0.0, 0.01}
    for axis, point, some in lines:
        x, icl, _, idg, _ = np.transpose(some)
        at = dict(zip(PARAMETERS, point, strict=True)) | {axis: x}
        for error, formula in ((icl, theory.icl_error), (idg, theory.idg_error)):
            assert np.median(np.abs(error / formula(**at) - 1)) < 0.07, point


def test_colours_are_those_of_either_ground():
    start = re.findall(r"--(icl|idg|bayes): (#\w+);", style())
    light, dark = start[:3], start[3:]
    for (name, colour), (same, other) in zip(light, dark, strict=True):
        assert (name, colour) == (same, plots.COLOURS[name])
        assert f"{{fill: {other} " in plots.for_both_pages(f"<svg>fill: {colour}</svg>")
