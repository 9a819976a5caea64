"""What is translated into JavaScript is what Python does, and what can't be is refused.

That the results agree is tested in a browser, in test_site_explorer.py.
"""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "_ext"))
from explorer import PARAMETERS, SIMULATIONS, formulas, jets, points, short, style, tracer

from iclkit import plots, theory
from iclkit.theory import _equivalent, _first_order


def translated(function, *parameters, **options):
    code = tracer.javascript("f", lambda *numbers: [function(*numbers)], parameters, **options)
    return re.sub(r"\s+", " ", code)


def test_formula_becomes_one_expression():
    code = translated(lambda x, y: np.sqrt(x) / (1 - y), "x", "y")
    assert code == "function f(x, y) { return [Math.sqrt(x) / (1 - y)]; } "


def test_branch_is_taken_both_ways():
    def step(x):
        return x + 1 if np.any(x > 0) else -x

    assert translated(step, "x") == (
        "function f(x) { if (x > 0) { return [x + 1]; } else { return [-x]; } } "
    )
    assert translated(step, "x", never=lambda x: x > 0) == "function f(x) { return [-x]; } "


def test_choice_that_is_decided_is_none():
    def chosen(x):
        return np.where(x > 0, np.log(x), 0.0) if np.any(x > 0) else np.where(x > 0, x, 1.0)

    assert "?" not in translated(chosen, "x")
    assert "[(x > 0) ? x : 1]" in translated(lambda x: np.where(x > 0, x, 1.0), "x")


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda x, y: (x * y) / 3 + x, "x * y / 3 + x"),
        (lambda x, y: x * (y / 3), "x * (y / 3)"),
        (lambda x, y: x + (y + 1), "x + (y + 1)"),
        (lambda x, y: (x + y) - 1, "x + y - 1"),
        (lambda x, y: (x + y) * 2, "(x + y) * 2"),
        (lambda x, y: x - -(y * 2), "x - (-y * 2)"),
        (lambda x, y: np.negative(-x), "-(-x)"),
        (lambda x, y: -(x + y) / 2, "-(x + y) / 2"),
        (lambda x, y: np.sqrt((x + y) / 2), "Math.sqrt((x + y) / 2)"),
    ],
)
def test_parentheses_stay_where_they_decide_about_rounding(function, code):
    assert f"return [{code}];" in translated(function, "x", "y")


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
        return _equivalent.root(lambda z: z if np.any(z > x) else -z, ())

    with pytest.raises(NotImplementedError, match="branch within"):
        translated(search, "x")


def test_work_that_does_not_depend_on_the_unknown_is_done_before_the_search():
    (search,) = re.findall(r"findRoot\(z => \{(.*?)\n\}\)", formulas(), re.DOTALL)
    assert "Math.log(lam)" not in search and "Math.log" in search
    (loop,) = re.findall(r"sums\(\(z, w\) => \{(.*?)\n\}\)", formulas(), re.DOTALL)
    assert "Math.exp(" in loop and "Math.log1p(" not in loop and "traces(" not in loop


def test_jet_becomes_calls():
    """Each part of the functional by itself; that it is the right one is tested in a browser."""
    code = jets.function("f", "x *a *b", lambda x, a, b: [(1 - x * a) / b, a.times_delta()])
    assert code.replace("\n", " ") == (
        "function f(x, a, b) { return [mul(up(by(by(a, x), (-1)), 1), inv(b)), late(a)]; } "
    )
    with pytest.raises(NotImplementedError, match="slopes"):
        jets.function("f", "x", lambda x: [_first_order.constant(x, P=2.0)])


def test_script_loses_only_what_means_nothing():
    for code, left in (
        ("const a = 0.5;  // a half\nconst b = a / 10.05;\nf();", "const a=.5,b=a/10.05;f();"),
        ("let i = 0;\nconst f = () => { const a = 1; };", "let i=0;const f=()=>{const a=1};"),
        ("a + +b - --c; return  x in y", "a+ +b- --c;return x in y"),
        ("if (a)\n  f()\ng()", "if(a)\nf()\ng()"),
        ('s = "a  b // c";', 's="a  b // c";'),
        ("s = `a  ${ b + `c  ${ d }` }  e\n\n  f`;", "s=`a  ${b+`c  ${d}`}  e\n\nf`;"),
        ("t.replace(/a  b/g, 1 / 2)", "t.replace(/a  b/g,1/2)"),
        ("for (const x of y) f(x);\nconst z = 1;", "for(const x of y)f(x);const z=1;"),
    ):  # fmt: skip
        assert short.script(code) == left


def test_style_loses_only_what_means_nothing():
    css = "/* a */\n.a :is(b, c) + d {\n  margin: 0 1px;\n  width: calc(1px + 2px);\n}\n"
    assert short.style(css) == ".a :is(b,c) + d{margin:0 1px;width:calc(1px + 2px)}"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_points_are_simulations_near_their_theory():
    """So that no parameter is another one's."""
    lines = points()
    assert {axis for axis, *_ in lines} == {axis for axis, _ in SIMULATIONS.values()}
    assert {point[4] for _, _, point, _ in lines} >= {0.0, 0.01}
    for axis, assignment, point, some in lines:
        x, icl, _, idg, _ = np.transpose(some)
        at = dict(zip(PARAMETERS, point, strict=True)) | {axis: x}
        for error, formula in ((icl, theory.icl_error), (idg, theory.idg_error)):
            assert np.median(np.abs(error / formula(**at) - 1)) < 0.07, point
            # At their own size, with n and k as they were, but for ten tasks: those are too few.
            counted = ["tau"] if axis == "tau" else ["tau", "kappa"]
            sized = at | {name: at[name] * 1.01 for name in counted}
            expected = formula(**sized, d=100, assignment=assignment)
            few = np.rint(100 * np.max(sized["kappa"])) <= 10
            assert few or np.median(np.abs(error / expected - 1)) < 0.01, point


def test_colours_are_those_of_either_ground():
    start = re.findall(r"--(icl|idg|bayes): (#\w+);", style())
    light, dark = start[:3], start[3:]
    for (name, colour), (same, other) in zip(light, dark, strict=True):
        assert (name, colour) == (same, plots.COLOURS[name])
        assert f"{{fill: {other} " in plots.for_both_pages(f"<svg>fill: {colour}</svg>")
