"""The explorer and the live figures, opened from the folder in a real browser."""

import warnings

import numpy as np
import pytest
from browser import PHONE, SITE, looked_at, prefer, visit
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from iclkit import theory
from iclkit.theory import bayes, descent, flow, loop

pytestmark = looked_at
PAGE = SITE / "book" / "explorer.html"
SCRIPT = SITE / "_static" / "explorer" / "explorer.js"
LIVE = {
    "double-descent": "phenomena/double-descent",
    "context-length": "phenomena/context-length",
    "effective-ridge": "theory/deterministic-equivalents",
    "task-diversity": "phenomena/task-diversity",
    "depth-polynomials": "scaling/depth-as-descent",
    "training-time": "phenomena/training-time",
}


def at(browser, fragment=""):
    """Open the page as a link with this state does."""
    browser.execute_async_script("setTimeout(arguments[0], 400)")  # or it might write, and stay
    visit(browser, PAGE.as_uri() + fragment)
    shown(browser, ".readings td")


def shown(browser, selector):
    """Wait until there is such an element, and return all of them."""
    return WebDriverWait(browser, 30).until(lambda b: b.find_elements("css selector", selector))


def computed(browser, function, arguments):
    """Return what a function of the page gives for rows of numbers."""
    rows = browser.execute_script(
        "const [f, rows] = arguments;"
        "const read = x => x === 'inf' ? Infinity : Number(x);"
        "return rows.map(row => iclkit[f](...row.map(read)).map(String))",
        function,
        [[repr(float(x)) for x in row] for row in arguments],
    )
    return np.array([[float(x.replace("Infinity", "inf")) for x in row] for row in rows])


def hard_points(n, seed):
    """Points of the theory, many of them where it is hard to compute, or a limit."""
    rng = np.random.default_rng(seed)
    tau, kappa = 10 ** rng.uniform(-3, 3, (2, n))
    alpha, lam = 10 ** rng.uniform(-2, 8, n), 10 ** rng.uniform(-12, 3, n)
    rho = 10 ** rng.uniform(-4, 1, n)
    near = 1 + rng.choice([-1e-9, 0, 1e-9, -1e-6, 1e-3], (2, n))
    tau = np.where(rng.random(n) < 0.2, near[0], tau)
    kappa = np.where(rng.random(n) < 0.2, np.minimum(tau, 1) * near[1], kappa)
    for parameter, limit, share in (
        (rho, 0, 0.2), (lam, 0, 0.4), (tau, np.inf, 0.05), (alpha, np.inf, 0.05),
        (kappa, np.inf, 0.05), (alpha, 1e8, 0.05),
    ):  # fmt: skip
        parameter[rng.random(n) < share] = limit
    return np.stack([tau, alpha, kappa, rho, lam], axis=1)


def relative(found, expected):
    with np.errstate(invalid="ignore"):
        return np.where(found == expected, 0, np.abs(found / expected - 1))


def test_errors_are_those_of_the_package(browser):
    at(browser)
    points = hard_points(2000, seed=1)
    found = computed(browser, "errors", points)[:, :3]
    expected = np.stack(
        [f(*points.T) for f in (theory.icl_error, theory.idg_error, theory.effective_ridge)], axis=1
    )
    assert not np.isnan(expected).any()
    assert relative(found, expected).max() < 1e-12  # a NaN is no number below it


def sized_points(n, seed):
    """Points at finite d, many of them where an expansion in 1/d is hard to compute, or a limit."""
    rng = np.random.default_rng(seed)
    d = np.rint(10 ** rng.uniform(0, 4, n))
    # From one context, token and task on.
    tau, alpha, kappa = (
        np.maximum(10 ** rng.uniform(-3, high, n), 1 / d**power)
        for high, power in ((3, 2), (6, 1), (3, 1))
    )
    rho, lam = 10 ** rng.uniform(-4, 1, n), 10 ** rng.uniform(-12, 3, n)
    near = 1 + rng.choice([-1e-5, 0, 1e-5, 1e-4, -1e-3, 1e-2], (2, n))
    tau = np.where(rng.random(n) < 0.2, near[0] * (1 + 1 / d), tau)
    kappa = np.where(rng.random(n) < 0.2, np.maximum(np.minimum(tau, 1) * near[1], 1 / d), kappa)
    for parameter, limit, share in ((rho, 0, 0.2), (lam, 0, 0.4), (kappa, np.inf, 0.1)):
        parameter[rng.random(n) < share] = limit
    return np.stack([tau, alpha, kappa, rho, lam, d], axis=1)


def at_size(error, points, assignment):
    """Return an error of the package, NaN where it refuses one."""
    try:
        return error(*points.T[:5], d=points.T[5].astype(int), assignment=assignment)
    except ValueError:
        if len(points) == 1:
            return np.array([np.nan])
        middle = len(points) // 2
        halves = points[:middle], points[middle:]
        return np.concatenate([at_size(error, half, assignment) for half in halves])


@pytest.mark.parametrize("assignment", ["uniform", "balanced"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_errors_at_finite_size_are_those_of_the_package(browser, assignment):
    """To eleven digits of c, less what is lost near the pole like 1/((τ − 1)² + λ)."""
    at(browser)
    refused = [
        (0.5, 1.0, 0.001, 0.1, 0.0, 20), (0.5, 0.001, 1.0, 0.1, 0.0, 20),
        (0.001, 1.0, 1.0, 0.1, 0.0, 20), (np.inf, 1.0, 1.0, 0.1, 0.0, 20),
        (0.5, np.inf, 1.0, 0.1, 0.0, 20), ((3000 * 3001 + 1) / 3000**2, 1.0, 1.0, 0.1, 0.0, 3000),
    ]  # fmt: skip
    points = np.concatenate([sized_points(2000, seed=4), refused])
    even = np.full((len(points), 1), assignment == "balanced")
    found = computed(browser, "finite", np.hstack([points, even]))
    expected = np.stack(
        [at_size(f, points, assignment) for f in (theory.icl_error, theory.idg_error)], axis=1
    )
    assert np.isnan(expected[-len(refused) :]).all() and np.isnan(expected).mean() < 0.02
    assert np.array_equal(np.isnan(found[:, :2]), np.isnan(expected))
    held = np.isfinite(expected)
    assert np.array_equal(found[:, :2][~held], expected[~held], equal_nan=True)
    d = points[:, 5]
    over = found[:, 4] / (d * (d + 1))
    lost = np.minimum((over - 1) ** 2 + points[:, 4], 1)[:, None]
    allowed = np.broadcast_to(1e-11 / lost, held.shape)[held] * (1 + np.abs(found[:, 2:4][held]))
    assert (np.abs(np.log(found[:, :2][held] / expected[held])) < allowed).all()


def test_errors_along_training_are_those_of_the_package(browser):
    at(browser)
    points, rng = hard_points(2000, seed=5), np.random.default_rng(5)
    t = 10 ** rng.uniform(-3, 6, len(points))
    t[:100], t[100:200] = 0, np.inf
    points = np.column_stack([points, t])
    points[-1, 3] = 1e-10
    allowed = (points == 0) | np.isinf(points) | ((points >= 1e-9) & (points <= 1e9))
    allowed &= np.isfinite(points[:, 1:2]) | np.isfinite(points[:, 5:])
    refused = ~allowed.all(axis=1)
    found = computed(browser, "trained", points)
    expected = np.full(found.shape, np.nan)
    for row, error in enumerate((flow.icl_error, flow.idg_error)):
        t, *others = points[~refused].T[[5, 0, 1, 2, 3, 4]]
        expected[~refused, row] = error(t, *others)
    assert 0 < refused.sum() < 400 and np.isnan(found[-1]).all()
    held = np.isfinite(expected)
    assert np.array_equal(np.isinf(found[~refused]), np.isinf(expected[~refused]))
    # In units of the error before training, but for noise of the labels that is larger than it.
    gap = np.abs(found[held] - expected[held]) / (1e-3 + expected[held])
    assert gap.max() < 1e-10


def test_errors_of_applications_are_those_of_the_package(browser):
    at(browser)
    points, depth = hard_points(300, seed=6), 8
    points = points[(points[:, 1] < 1e6) & (points[:, 4] < 1e3)]
    found = browser.execute_script(
        "const read = x => x === 'inf' ? Infinity : Number(x);"
        "return arguments[0].map(row => iclkit.looped(...row.map(read), 8)"
        ".map(errors => errors.map(String)))",
        [[repr(float(x)) for x in row] for row in points],
    )
    found = np.array([[[float(x.replace("Infinity", "inf")) for x in e] for e in f] for f in found])
    expected = np.array(
        [[loop.loop_error(*p, depth=depth, test=t) for t in ("icl", "idg")] for p in points]
    )
    same = found == expected  # inf, where it diverges beyond the range of floats
    gap = np.abs(found[~same] - expected[~same]) / (1e-3 + expected[~same])
    assert len(points) > 200 and gap.max() < 1e-10


def test_other_readings_are_those_of_the_package(browser):
    at(browser)
    tau, alpha, kappa, rho, _ = hard_points(300, seed=2).T
    least = computed(browser, "bayes", np.stack([alpha, rho], axis=1))[:, 0]
    assert relative(least, bayes.ridge_error(alpha, rho)).max() < 1e-12
    critical = computed(browser, "critical", np.stack([tau, kappa], axis=1))
    for test, found in zip(("icl", "idg"), critical.T, strict=True):
        assert relative(found, theory.critical_noise(tau, kappa, test=test)).max() < 1e-12
    step, x = np.random.default_rng(3).uniform(0, 4, (2, 100))
    left = computed(browser, "oneMinus", np.stack([step, x], axis=1))[:, 0]
    assert np.array_equal(left, descent._one_minus(step, x))


def readings(browser):
    return browser.find_element("css selector", ".readings").text


def settled(browser):
    """Wait until nothing was to be done for a while, and return what a screen reader was told."""
    browser.execute_async_script("setTimeout(arguments[0], 900)")
    return browser.find_element("css selector", ".explorer > .status").get_attribute("textContent")


def test_keys_move_a_slider_and_a_link_restores_the_state(browser):
    at(browser)
    before = readings(browser)
    tau = browser.find_element("css selector", ".explorer input[type=range]")
    tau.send_keys(Keys.ARROW_RIGHT)
    told = settled(browser)
    assert readings(browser) != before
    assert "τ = 0.521" in told and tau.get_attribute("aria-valuetext") == "0.521"

    moved, url = readings(browser), browser.current_url
    assert url.startswith("file:") and "tau=0.521" in url
    at(browser, url.partition("explorer.html")[2])
    assert readings(browser) == moved
    at(browser, "#tau=0.123456&kappa=inf&axis=alpha&rho=nonsense&lam=-1")
    found = dict(zip("τακρλdtL", (f.get_attribute("value") for f in browser.find_elements(
        "css selector", ".explorer input[type=text]")), strict=True))  # fmt: skip
    assert found == {
        "τ": "0.123",
        "α": "10",
        "κ": "∞",
        "ρ": "0.01",
        "λ": "0",
        "d": "∞ (limit)",
        "t": "∞",
        "L": "1",
    }
    error = theory.icl_error(0.123456, 10, np.inf, 0.01)
    assert f"{error:.4g}" in readings(browser)


def test_exact_values_can_be_typed_and_bad_ones_are_not_taken(browser):
    at(browser)
    field = browser.find_element("css selector", "[aria-label^='κ']")
    for typed, shown in (("inf", "∞"), ("1.25", "1.25"), ("-3", "1.25"), ("many", "1.25")):
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(typed, Keys.TAB)
        assert field.get_attribute("value") == shown
        (refused,) = browser.find_elements(
            "css selector", ".slider:has([aria-label^='κ']) .refused"
        )
        told = "" if shown in (typed, "∞") else "κ takes numbers above 0, and inf."
        assert refused.text == told


def test_panel_reaches_to_what_is_chosen(browser):
    """Or its marker would stand at the edge, where it is not."""
    for state, inside in (
        ("#tau=125&x=log", True), ("#tau=125&x=linear", True), ("#tau=0.001", True),
        ("#tau=0.5", True), ("#tau=inf", False),
    ):  # fmt: skip
        at(browser, state)
        settled(browser)
        left, right = browser.execute_script(
            "const [dot] = document.querySelectorAll('.plot .marker');"
            "const box = dot.closest('svg').querySelector('clipPath rect');"
            "const x = dot.cx.baseVal.value;"
            "return [x - box.x.baseVal.value, box.x.baseVal.value + box.width.baseVal.value - x]"
        )
        assert left > 6 and (right > 6) == inside, state


def copied(browser):
    """Return the link, the call and the numbers."""
    browser.execute_script(
        "window.all = []; navigator.clipboard.writeText = async text => { all.push(text) };"
        "document.querySelectorAll('.buttons button').forEach(button => button.click())"
    )
    return browser.execute_script("return all")


def test_copied_call_gives_the_reading(browser):
    at(browser, "#kappa=inf&lam=0.1&tau=2")
    link, call, numbers = copied(browser)
    assert link.partition("#")[0] == PAGE.as_uri() and "kappa=inf" in link
    printed = []
    exec(call, {"print": lambda *values: printed.extend(values)})
    assert all(f"{value:.4g}" in readings(browser) for value in printed) and len(printed) == 2
    names, *rows = numbers.splitlines()
    assert names == "tau,alpha,kappa,rho,lam,icl_error,idg_error,effective_ridge"
    table = np.array([row.split(",") for row in rows], dtype=float)
    assert len(table) >= 290
    assert relative(table[:, 5], theory.icl_error(*table[:, :5].T)).max() < 1e-12


def test_dimension_is_a_slider_that_ends_at_the_limit(browser):
    at(browser, "#d=30&alpha=1&kappa=1&rho=0.1&lam=0.01")
    d = browser.find_elements("css selector", ".explorer input[type=range]")[5]
    at_d, limit = (f"{theory.icl_error(0.5, 1, 1, 0.1, 0.01, d=d):.4g}" for d in (30, None))
    lines = "return [...document.querySelectorAll('.plot .line.icl')].map(e => e.classList[1])"
    settled(browser)
    assert at_d in readings(browser) and limit in readings(browser)
    assert browser.execute_script(lines) == ["dotted", "dashed", "icl"]

    d.send_keys(Keys.END)
    told = settled(browser)
    assert d.get_attribute("aria-valuetext") == "infinite, the limit"
    assert at_d not in readings(browser) and limit in readings(browser) and "d =" not in told
    assert browser.execute_script(lines) == ["icl"] and "d=inf" in browser.current_url

    d.send_keys(Keys.HOME)
    assert "d = 10" in settled(browser)
    field = browser.find_element("css selector", "[aria-label^='d,']")
    for typed, shown in (("37", "37"), ("2.5", "37"), ("0", "37"), ("inf", "∞ (limit)")):
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(typed, Keys.TAB)
        assert field.get_attribute("value") == shown


def test_time_is_a_slider_and_an_axis(browser):
    at(browser, "#tau=5&alpha=20&kappa=0.3&rho=0.1&axis=t&d=20&t=1.73")
    point = (5.0, 20.0, 0.3, 0.1)
    now, last = (f"{flow.icl_error(t, *point):.4g}" for t in (1.73, np.inf))
    told = settled(browser)
    assert now in readings(browser) and last in readings(browser) and "t = 1.73" in told
    assert "d does not count here" in browser.find_element("css selector", ".told .refused").text
    lines = "return [...document.querySelectorAll('.plot .line.icl')].map(e => e.classList[1])"
    assert browser.execute_script(lines) == ["dotted", "icl"]
    _, call, numbers = copied(browser)
    printed = []
    exec(call, {"print": lambda *values: printed.extend(values)})
    assert all(f"{value:.4g}" in readings(browser) for value in printed) and len(printed) == 2
    names, *rows = numbers.splitlines()
    assert names == "tau,alpha,kappa,rho,lam,t,icl_error,idg_error"
    table = np.array([row.split(",") for row in rows], dtype=float)
    assert len(table) > 100 and table[0, 5] < 0.02 and table[-1, 5] > 5000
    expected = flow.icl_error(table[:, 5], *table[:, :5].T)
    assert relative(table[:, 6], expected).max() < 1e-10

    time = browser.find_elements("css selector", ".explorer input[type=range]")[6]
    time.send_keys(Keys.END)
    told = settled(browser)
    assert "t =" not in told and last in told
    time.send_keys(Keys.HOME)
    assert f"t = 0: error on new tasks {1.1}" in settled(browser)


def test_applications_are_a_slider_and_an_axis(browser):
    at(browser, "#tau=4&alpha=2&kappa=3&rho=0.1&axis=L&L=4&d=20&t=3")
    errors = loop.loop_error(4.0, 2.0, 3.0, 0.1, depth=16)
    assert "L = 4" in settled(browser)
    assert all(f"{errors[depth]:.4g}" in readings(browser) for depth in (1, 4))
    said = browser.find_element("css selector", ".told .refused").text
    assert said.startswith("d and t do not count here")
    _, call, numbers = copied(browser)
    printed = []
    exec(call, {"print": lambda *values: printed.extend(values)})
    assert all(f"{value:.4g}" in readings(browser) for value in printed) and len(printed) == 2
    names, *rows = numbers.splitlines()
    assert names == "tau,alpha,kappa,rho,lam,L,icl_error,idg_error"
    table = np.array([row.split(",") for row in rows], dtype=float)
    assert np.array_equal(table[:, 5], np.arange(1, 17))
    assert relative(table[:, 6], errors[1:]).max() < 1e-10

    field = browser.find_element("css selector", "[aria-label^='L,']")
    for typed, shown in (("7", "7"), ("17", "7"), ("0", "7"), ("inf", "7")):
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(typed, Keys.TAB)
        assert field.get_attribute("value") == shown
    at(browser, "#tau=4&alpha=inf&L=2")
    assert "α is finite" in browser.find_element("css selector", ".told .refused").text


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_copied_call_and_numbers_at_finite_size(browser):
    at(browser, "#d=30&kappa=2&lam=0.1&tau=2&axis=kappa&assignment=balanced")
    link, call, numbers = copied(browser)
    assert "d=30" in link and "assignment=balanced" in link
    printed = []
    exec(call, {"print": lambda *values: printed.extend(values)})
    assert all(f"{value:.4g}" in readings(browser) for value in printed) and len(printed) == 2
    names, *rows = numbers.splitlines()
    assert names == "tau,alpha,kappa,rho,lam,d,assignment,icl_error,idg_error,icl_limit,idg_limit"
    table = np.array([row.replace("balanced", "nan").split(",") for row in rows], dtype=float)
    # Only as many tasks as there can be.
    assert len(table) > 100 and np.allclose(table[:, 2] * 30, np.rint(table[:, 2] * 30))
    for error, at_d, limit in ((theory.icl_error, 7, 9), (theory.idg_error, 8, 10)):
        expected = error(*table[:, :5].T, d=30, assignment="balanced")
        assert relative(table[:, at_d], expected).max() < 1e-10
        assert relative(table[:, limit], error(*table[:, :5].T)).max() < 1e-12


def test_page_says_what_the_package_warns_of(browser):
    sentences = {"the term of order 1/d": "The term of order 1/d is", "with": "With"}
    for tau, alpha, kappa, d, others in (
        (0.5, 1.0, 1.0, 20, ""),
        (0.5, 1.0, 0.5, 20, ""),
        (0.5, 0.1, 1.0, 30, ""),
        (2.0, 10.0, 0.1, 20, ""),
        (1.06, 1.0, 1.0, 20, "So close to n = d(d + 1)"),
    ):
        state = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": 0.1, "d": d}
        at(browser, "#" + "&".join(f"{name}={value}" for name, value in state.items()))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            theory.icl_error(**state), theory.idg_error(**state)
        said = browser.find_element("css selector", ".told .refused").text
        for start, sentence in sentences.items():
            assert any(str(one.message).startswith(start) for one in told) == (sentence in said)
        assert others in said and bool(said) == bool(told or others), state
    at(browser, "#d=20&tau=inf")
    assert "τ and α are finite" in browser.find_element("css selector", ".told .refused").text


CONTRAST = """
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const rgb = colour => { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
const luminance = colour => rgb(colour).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = luminance(getComputedStyle(document.body).backgroundColor);
const contrast = colour => { const a = luminance(colour);
    return (Math.max(a, ground) + 0.05) / (Math.min(a, ground) + 0.05); };
const texts = [...document.querySelectorAll(".explorer :is(label, th, td, button, legend, p)")]
    .map(e => contrast(getComputedStyle(e).color));
const drawn = [...document.querySelectorAll(".explorer .plot text")]
    .map(e => contrast(getComputedStyle(e).fill));
const lines = [...document.querySelectorAll(".explorer .plot .line")]
    .map(e => contrast(getComputedStyle(e).stroke));
return [Math.min(...texts, ...drawn), Math.min(...lines)];
"""


@pytest.mark.parametrize("state", ["", "#d=20&kappa=0.3"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_on_a_phone(browser, theme, state):
    prefer(browser, theme)
    at(browser, state)
    settled(browser)
    text, line = browser.execute_script(CONTRAST)
    prefer(browser, "light")
    assert text >= 4.5
    assert line >= 3
    wide = "const [told] = document.querySelectorAll('.told');"
    wide += "return [document.documentElement.scrollWidth, told.scrollWidth - told.clientWidth]"
    assert browser.execute_script(wide) == [PHONE, 0]


def test_what_a_page_loads_is_small():
    weight = sum((SCRIPT.parent / f"explorer.{kind}").stat().st_size for kind in ("js", "css"))
    assert weight <= 70_000


def test_chapters_have_their_live_figure_and_a_picture_in_its_place():
    for name, chapter in LIVE.items():
        html = (SITE / "book" / f"{chapter}.html").read_text(encoding="utf-8")
        assert f'data-live="{name}"' in html
        assert f'<img src="../../_static/explorer/{name}.svg" alt="' in html
        assert (SCRIPT.parent / f"{name}.svg").is_file()


def test_live_figures_follow_their_sliders(browser, tmp_path):
    figures = "".join(f'<div class="live" data-live="{name}"></div>' for name in LIVE)
    head = '<!doctype html><meta name="viewport" content="width=device-width">'
    head += f'<link rel="stylesheet" href="{SCRIPT.with_suffix(".css").as_uri()}">'
    script = f'<script src="{SCRIPT.as_uri()}"></script>'
    (tmp_path / "all.html").write_text(f"{head}{figures}{script}", encoding="utf-8")
    visit(browser, (tmp_path / "all.html").as_uri())
    drawn = "return [...document.querySelectorAll('.line.icl:not(.dotted)')]"
    drawn += ".map(e => e.getAttribute('d'))"
    shown(browser, f"[data-live={list(LIVE)[-1]}] .line.icl")
    settle = "setTimeout(arguments[0], 600)"
    browser.execute_async_script(settle)
    before = browser.execute_script(drawn)
    for name in LIVE:
        slider = browser.find_element("css selector", f"[data-live={name}] input[type=range]")
        slider.send_keys(Keys.ARROW_RIGHT * 3)
    browser.execute_async_script(settle)
    after = browser.execute_script(drawn)
    assert len(before) == len(after) == len(LIVE)
    assert all(old and new and old != new for old, new in zip(before, after, strict=True))
    told = "return [...document.querySelectorAll('.live .status')].map(e => e.textContent)"
    assert all(browser.execute_script(told))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE
