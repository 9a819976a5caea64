"""The built book as a reader sees it: every page, opened from the folder in a real browser.

`make test` builds the book first. Without a built book or a browser there is nothing to look at,
and the checks are skipped; where CI is set to "true", that is an error.
"""

import gzip
import os
import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from urllib.parse import quote, unquote

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from browser import MISSING, ON_DESK, PAGES, PHONE, REASON, SITE, looked_at, prefer, visit
from matplotlib.colors import to_rgb
from selenium.webdriver.support.ui import WebDriverWait
from sphinx.util.inventory import InventoryFile
from test_house import ELSEWHERE, PUBLIC

from iclkit import plots

ROOT = Path(__file__).parents[1]
NOTEBOOKS = [p for p in ROOT.glob("book/**/*.ipynb") if ".ipynb_checkpoints" not in p.parts]
CHAPTERS = {
    path.relative_to(ROOT).with_suffix(".html").as_posix() for path in ROOT.glob("book/*/*.ipynb")
}
pytestmark = looked_at
if MISSING and os.environ.get("CI") == "true":
    raise RuntimeError(REASON)

# What a page looks like from within, once its formulas are set and its theme is the one given.
REPORT = """
const [theme, done] = arguments;
const all = (selector) => [...document.querySelectorAll(selector)];
const clientWidth = document.documentElement.clientWidth;
const brief = (element) => element.outerHTML.slice(0, 160);
const luminance = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const contrast = () => {
    const style = getComputedStyle(document.body);
    const [a, b] = [luminance(style.color), luminance(style.backgroundColor)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
};
const typeset = window.MathJax?.startup?.promise ?? Promise.resolve();
const settle = (frames) => frames && document.documentElement.dataset.theme !== theme
    ? requestAnimationFrame(() => settle(frames - 1)) : requestAnimationFrame(report);
const report = () => done({
    theme: document.documentElement.dataset.theme,
    contrast: contrast(),
    width: document.documentElement.scrollWidth,
    wide: all("main *").filter(e => e.getBoundingClientRect().right > clientWidth + 1
        && !e.closest("mjx-container, pre, svg, table")).slice(0, 5).map(brief),
    broken: all("mjx-merror, [data-mml-node=merror]").map(e => e.dataset.mjxError),
    unset: all(".math").filter(e => !e.querySelector("mjx-container")).map(brief),
    nameless: all("main img").filter(e => !e.alt.trim()).map(brief),
    cut: all(".bd-article mjx-container")
        .filter(e => !e.closest(".pst-scrollable-table-container"))  // which scrolls, with a shadow
        .filter(e => e.querySelector("svg")?.getBoundingClientRect().width
        && (e.querySelector("svg").getBoundingClientRect().right > clientWidth + 1
            || (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible")))
        .map(brief),
    stops: all("mjx-container[tabindex]").map(brief),
    undrawn: all("[class*=fa-]:not(svg)").map(brief),
    empty: all("main img").filter(e => e.complete && !e.naturalWidth).map(brief),
});
typeset.then(() => settle(60));
"""


def test_every_caption_has_its_figure():
    bare = []
    for path in NOTEBOOKS:
        html = (SITE / path.relative_to(ROOT).with_suffix(".html")).read_text(encoding="utf-8")
        for cell in nbformat.read(path, as_version=4).cells:
            if name := cell.metadata.get("mystnb", {}).get("figure", {}).get("name"):
                if not re.search(
                    rf'<figure[^>]*\bid="{name}"[^>]*>\s*(?:<picture>.*?)?<img\b', html
                ):
                    bare.append(f"{path.stem}: {name}")
    assert bare == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_page_offers_its_notebook_executed_and_in_plain_markdown(path):
    button = SITE / path.relative_to(ROOT).with_suffix(".html")
    assert f'_sources/{path.relative_to(ROOT).as_posix()}"' in button.read_text(encoding="utf-8")
    cells = nbformat.read(SITE / "_sources" / path.relative_to(ROOT), as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert re.findall(r"\{[\w:]+\}`[^`]*`|^ *`{3,}\{.*|^:\w+:.*", text, re.MULTILINE) == []
    code = [cell for cell in cells if cell.cell_type == "code" and cell.id != "install"]
    assert all(cell.execution_count for cell in code)
    figures = [cell for cell in code if "figure" in cell.metadata.get("mystnb", {})]
    assert len(re.findall(r"^\*Fig\. [\d.]+\*: ", text, re.MULTILINE)) == len(figures)


def test_ledger_shows_no_share_above_one():
    """As it would if a number that is a per cent already were formatted as one."""
    html = (SITE / "book/claims.html").read_text(encoding="utf-8")
    cells = re.sub(r"<[^>]*>", "", "".join(re.findall(r"<table.*?</table>", html, re.DOTALL)))
    shares = [float(share) for share in re.findall(r"([\d.]+)%", cells)]
    assert shares and max(shares) <= 100


def test_the_folder_opens_at_the_front_page():
    assert "url=book/index.html" in (SITE / "index.html").read_text()


# Where the first figure begins, in screens, and the share of the height that is open code.
ORDER = """
const done = arguments[0];
const article = document.querySelector("article.bd-article");
const seen = [...article.querySelectorAll(".cell_input, figure img")].filter(e => e.offsetParent);
const code = seen.filter(e => e.matches(".cell_input") && !e.closest("details"));
const figure = seen.find(e => e.matches("figure img"));
const height = (e) => e.getBoundingClientRect().height;
const top = (e) => e.getBoundingClientRect().top;
requestAnimationFrame(() => requestAnimationFrame(() => done([
    (top(figure) - top(article)) / innerHeight,
    code.reduce((sum, e) => sum + height(e), 0) / height(article)])));
"""


def layouts(browser):
    """How often the page has been laid out so far."""
    browser.execute_cdp_cmd("Performance.enable", {})
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return {metric["name"]: metric["value"] for metric in metrics}["LayoutCount"]


@pytest.mark.parametrize("page", [page for page in PAGES if page != "index.html"])
def test_page(browser, page):
    visit(browser, (SITE / page).as_uri())
    for theme in ("light", "dark"):
        prefer(browser, theme)
        report = browser.execute_async_script(REPORT, theme)
        assert report["theme"] == theme
        assert report["contrast"] >= 7, "text and background are too much alike"
        assert report["width"] <= PHONE, f"wider than a phone: {report['wide']}"
        for fault in ("broken", "unset", "cut", "stops", "undrawn", "nameless", "empty"):
            assert report[fault] == [], fault
    if page in CHAPTERS:
        before = layouts(browser)
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", ON_DESK)
        first, code = browser.execute_async_script(ORDER)
        assert first < 1.5, "the first figure comes late"
        assert code < 1 / 3, "a third of the page is code"
        # It took minutes where each of the formulas that are fitted anew had a layout of its own.
        assert layouts(browser) - before < 200, "turning a phone takes long"

    requests = re.findall(
        r'"method":"Network.requestWillBeSent".*?"url":"((?!file:|data:|blob:|chrome)[^"]*)',
        "\n".join(entry["message"] for entry in browser.get_log("performance")),
    )
    assert requests == [], "the page asks another site"
    console = [e["message"] for e in browser.get_log("browser") if e["level"] != "INFO"]
    assert console == [], "the console"


def test_reader_can_choose_light_or_dark(browser):
    visit(browser, (SITE / "book" / "index.html").as_uri())
    seen = set()
    for _ in range(3):
        browser.execute_script("document.querySelector('.theme-switch-button').click()")
        seen.add(browser.execute_script("return document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}


def press(browser, key):
    event = {"key": key, "windowsVirtualKeyCode": {"Tab": 9, "Enter": 13, "ArrowRight": 39}[key]}
    text = {"text": "\r"} if key == "Enter" else {}
    browser.execute_cdp_cmd("Input.dispatchKeyEvent", event | text | {"type": "keyDown"})
    browser.execute_cdp_cmd("Input.dispatchKeyEvent", event | {"type": "keyUp"})


def test_controls_keep_the_focus_and_show_it(browser):
    visit(browser, (SITE / "book" / "claims.html").as_uri())
    browser.execute_script("document.querySelector('.theme-switch-button').focus()")
    before = browser.execute_script("return document.documentElement.dataset.mode")
    press(browser, "Enter")
    assert browser.execute_script("return document.documentElement.dataset.mode") != before
    assert browser.execute_script(
        "return document.activeElement.classList.contains('theme-switch-button')"
    )
    unseen = set()
    for _ in range(60):
        press(browser, "Tab")
        shown, what = browser.execute_script(
            """const e = document.activeElement, at = e.closest("label") ?? e;
            const {outlineStyle, outlineWidth} = getComputedStyle(at);
            return [outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
                    e.outerHTML.slice(0, 120)];"""
        )
        unseen |= set() if shown else {what}
    assert unseen == set()


def coloured(browser, colour):
    """Whether the figure of the front page has a colour in it, as it is painted."""
    figure = browser.find_element("css selector", ".bd-article figure img")
    browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", figure)
    pixels = plt.imread(BytesIO(figure.screenshot_as_png))[..., :3]
    return bool((np.abs(pixels - to_rgb(colour)).max(axis=-1) < 0.02).any())


def test_figures_follow_the_page_and_not_the_system(browser):
    light = plots.COLOURS["icl"]
    dark = re.findall(r"\{fill: (#\w+) ", plots.for_both_pages(f"<svg>fill: {light}</svg>"))[0]
    visit(browser, (SITE / "book" / "index.html").as_uri())
    for theme, shown, hidden in (("dark", dark, light), ("light", light, dark)):
        browser.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
        assert coloured(browser, shown) and not coloured(browser, hidden)


def test_ledger_can_be_sieved_by_the_keyboard_and_shows_verdicts_on_a_phone(browser):
    visit(browser, (SITE / "book" / "claims.html").as_uri())
    rows = "return [...document.querySelectorAll('.ledger tbody tr')].filter(e => e.offsetHeight)"
    everything = len(browser.execute_script(rows))
    out = browser.execute_script(
        "return [...document.querySelectorAll('.ledger .verdict')].map(e =>"
        " e.getBoundingClientRect()).filter(r => r.left < 0 || r.right > innerWidth).length"
    )
    assert everything > 80 and out == 0
    browser.execute_script("document.querySelector('.verdicts input').focus()")
    counted = 0
    for _ in range(5):
        press(browser, "ArrowRight")
        said = browser.execute_script(
            "return document.querySelector('.verdicts :checked').closest('label').innerText"
        )
        shown = len(browser.execute_script(rows))
        assert said.endswith(f" {shown}") and shown
        counted += shown
    assert counted == everything


def test_paper_shows_all_of_a_chapter(browser):
    visit(browser, (SITE / "book" / "theory" / "error-formulas.html").as_uri())
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        cut, hidden, number = browser.execute_script(
            """const all = (selector) => [...document.querySelectorAll(selector)];
            return [
                all("main :is(pre, figure, img)").filter(
                    e => e.scrollWidth > e.clientWidth + 1 && e.getClientRects().length
                ).map(e => e.outerHTML.slice(0, 120)),
                all(".admonition.toggle p").filter(e => !e.checkVisibility()).length,
                all("h1").find(e => e.checkVisibility()).innerText,
            ];"""
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert (cut, hidden) == ([], 0) and re.match(r"\d+\.", number)


# What readers look for, and pages that answer it, as they stand under book/.
SOUGHT = {
    "phase diagram": "phenomena/phase-diagram",
    "context length": "phenomena/context-length",
    "icl_error": "reference/theory",
    "Marchenko–Pastur": "theory/deterministic-equivalents",
    "Gamma star": "theory/fitting-gamma",
    "Γ*": "theory/fitting-gamma",
    "τ": "notation",
    "alpha": "notation",
    "task diversity": "phenomena/task-diversity",
    "effective ridge": "theory/deterministic-equivalents",
    "dMMSE": "phenomena/task-diversity",
    "cupy": "running-the-book",
    "GPU": "running-the-book",
    "colab": "running-the-book",
    "install": "running-the-book",
    "softmax": "transformers/softmax-attention",
    "cite": "index",
    "optimal ridge": "phenomena/double-descent",
    "interpolation threshold": "transformers/interpolation-threshold",
}


def test_search_puts_the_right_page_among_the_first_three(browser):
    missed = {}
    for query, page in SOUGHT.items():
        visit(browser, (SITE / "search.html").as_uri() + f"?q={quote(query)}")
        finished = (
            "return /finished|did not/.test(document.getElementById('search-results').innerText)"
        )
        WebDriverWait(browser, 20, 0.05).until(lambda b, done=finished: b.execute_script(done))
        first = browser.execute_script(
            """return [...document.querySelectorAll("#search-results li > a")].slice(0, 3)
            .map(a => a.getAttribute("href").replace(/^book\\/|\\.html.*/g, ""))"""
        )
        if page not in first:
            missed[query] = first
    assert missed == {}
    assert [e["message"] for e in browser.get_log("browser") if e["level"] != "INFO"] == []


def test_nothing_but_style_stands_before_the_first_paint():
    shared = set()
    for page in PAGES:
        text = text_of(page)
        head = text.partition("</head>")[0]
        scripts = re.findall(r"<script\b[^>]*\bsrc=[^>]*>", head)
        if page.startswith("book/"):  # scripts of the search and the indices need the others
            assert [script for script in scripts if " defer" not in script] == [], page
        files = re.findall(r'<script\b[^>]*\bsrc="([^"?]*)', text)
        files += re.findall(r'<link\b[^>]*\bhref="([^"?]*\.css)', text)
        if page != "search.html":
            shared |= {(SITE / page).parent.joinpath(file).resolve() for file in files}
    weight = sum(len(gzip.compress(file.read_bytes(), 6)) for file in shared)
    assert weight < 1.2e6, f"{weight / 1e6:.2f} MB"


def test_links_within_the_book_lead_somewhere():
    text = {page: (SITE / page).read_text(encoding="utf-8") for page in PAGES}
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', html)) for page, html in text.items()}
    dead = []
    for page, html in text.items():
        for link in re.findall(r'<a\b[^>]*\shref="(?!\w+:)([^"]*)"', html):
            path, _, anchor = unquote(link).partition("#")
            target = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            if not (SITE / target).exists() or (anchor and anchor not in anchors.get(target, ())):
                dead.append(f"{page}: {link}")
    assert dead == []


def text_of(page):
    # without the places where a long name may break
    return (SITE / page).read_text(encoding="utf-8").replace("<wbr>", "")


def test_reference_has_every_public_name_and_no_private_one():
    with (SITE / "objects.inv").open("rb") as stream:
        inventory = InventoryFile.load(stream, "", os.path.join)
    pages = {
        name: place[2].partition("#")[0]
        for kind, entries in inventory.items()
        for name, place in entries.items()
        if kind.startswith("py:")
    }
    assert PUBLIC.keys() - pages.keys() == set()
    assert {page.rpartition("/")[0] for page in pages.values()} == {"book/reference"}
    assert [name for name in pages if re.search(r"\._(?!_call__$)", name)] == []


def test_reference_leads_to_the_chapters():
    pages = [page for page in PAGES if page.startswith("book/reference/")]
    for page in pages:
        text = re.sub(r"<[^>]*>", "", text_of(page))
        assert re.findall(r"\b(?:eq|lem|prop|thm)-[a-z][\w-]*", text) == [], page
    # One of each kind, with the number that the chapter gives it and the chapter's title.
    theory = text_of("book/reference/theory.html")
    entry = theory[theory.index('id="iclkit.theory.optimal_context"') :].partition("</dd></dl>")[0]
    for label, kind in (("equation-eq-stationary-noise", ""), ("thm-critical-noise", "Theorem ")):
        (where,) = {page for page in PAGES if f'id="{label}"' in text_of(page)}
        link = rf'<a [^>]*href="\.\./{re.escape(where[5:])}#{label}"[^>]*>(?:<[^>]*>)*{kind}\(?\d'
        assert re.search(link, entry), label
        title = re.search(r"<title>\d+\. (.*?) &#8212;", text_of(where))[1]
        assert re.search(rf'href="\.\./{re.escape(where[5:])}"[^>]*><em>{title}</em>', entry)


def test_names_in_the_chapters_lead_to_the_reference():
    code = re.compile(
        r'(<a [^>]*href="([^"]*)"[^>]*>)?<code class="[^"]*literal[^"]*">'
        r'<span class="pre">(iclkit(?:\.\w+)+)</span></code>'
    )
    found = [(page, *match.groups()) for page in PAGES for match in code.finditer(text_of(page))]
    assert [(page, name) for page, link, _, name in found if not link] == []
    assert ("book/notation.html", "reference/theory.html#iclkit.theory.icl_error") in {
        (page, href) for page, _, href, _ in found
    }


def test_what_is_listed_of_other_libraries_is_referred_to():
    text = "".join(text_of(page) for page in PAGES)
    assert [name for name in ELSEWHERE if f'#{name}" title=' not in text] == []


def test_chapters_say_how_to_cite_them():
    chapters = [p for p in NOTEBOOKS if p.parent != ROOT / "book"]
    for path in chapters:
        html = (SITE / path.relative_to(ROOT).with_suffix(".html")).read_text(encoding="utf-8")
        (entry,) = re.findall(r"@incollection{iclkit:([\w-]+),[^@]*</pre>", html)
        assert entry == path.stem


def test_status_has_every_chapter_and_every_file():
    html = (SITE / "book/status.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr.*?</tr>", html, re.DOTALL)
    stored = list((ROOT / "book" / "data").glob("*.nc"))
    assert len(rows) == len(NOTEBOOKS) + len(stored) + 4  # two heads, two sums


def test_cheat_sheet_prints_on_one_page(browser):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", ON_DESK)
    visit(browser, (SITE / "book/cheat-sheet.html").as_uri())
    browser.execute_async_script("MathJax.startup.promise.then(arguments[0])")
    pdf = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"]
    assert len(re.findall(rb"/Type\s*/Page\b", b64decode(pdf))) == 1
