"""Sphinx extension: a page is light, and says what it is to those who link to it.

Nothing but style sheets stands between a reader and the first paint: scripts run once the page is
there, and the few icons are drawn in it, taken from the theme's collection of 1.5 MB. Where the
address of the book is known, as `html_baseurl`, each page gets a description and a card for those
who share it, and the book a map and a page for what is not found.
"""

import re
from functools import cache, partial
from html import escape
from pathlib import Path
from textwrap import fill, shorten

from docutils import nodes

ICON = re.compile(r'<(i|span) class="([^"]*\bfa-[^"]*)"([^>]*)>\s*</\1>')
COLLECTION = re.compile(r'<script src="[^"]*fontawesome\.js[^"]*"></script>\s*')
FIGURE = re.compile(r'(<img\b[^>]*\bsrc="([^"]*/_images/[^"]*\.svg)"[^>]*?)\s*/?>(?!</picture>)')
# Where a caption says which panel it means, and the same for those who see them below each other.
SIDE = re.compile(
    r"(?<=\()(?:left|right)\b|\b(?:Left|Right)(?=:)|\b(?:left|right)(?= on\b| panel\b)"
    r"|\b[Oo]n the (?:left|right)\b"
)
STACKED = {"left": "top", "right": "bottom", "on": "at"}
STACKED |= {word.title(): other.title() for word, other in STACKED.items()}
STACKS = re.compile(r'<figure\b[^>]*\bid="([^"]*)"[^>]*>\s*<picture>.*?</figure>', re.DOTALL)
# A name of the code breaks, if it must, before a part of it.
NAME = re.compile(r'(?<=<span class="pre">)[\w./-]{12,}(?=</span>)')
# What would mislead those who listen to a page: a fold's own words are its name, a work in the list
# is an item of it, what heads nothing is no head, and parameters in lines define nothing.
MISLEADING = (
    (re.compile(r'(?<=<summary) aria-label="Toggle hidden content"'), ""),
    (re.compile(r'(?<= role=")doc-biblioentry(?=")'), "listitem"),
    (re.compile(r"<th[^>]*>(?:<p></p>)?</th>"), "<td></td>"),
)
PARAMETERS = re.compile(r'<dl>\s*((?:<dd><em class="sig-param">.*?</dd>\s*)+)</dl>', re.DOTALL)
# What the theme's style sheet has for the same icons as fonts.
FONTS = re.compile(
    r'@font-face\{[^}]*Font Awesome[^}]*\}|(?:\.fa-[\w-]+:before,?)+\{content:"[^}]*\}'
)

# The theme takes the focus from its switch when that is used, where a keyboard has to go on.
KEEP_FOCUS = """document.addEventListener("click", (event) =>
  event.target.closest(".theme-switch-button")?.focus({preventScroll: true}))"""

# A figure that scrolls can be reached by the keyboard, as the theme has it for code and tables.
REACH_FIGURES = """for (const when of ["load", "resize"]) addEventListener(when, () =>
  document.querySelectorAll(".bd-article figure").forEach((e) =>
    getComputedStyle(e).overflowX === "auto" && e.scrollWidth > e.clientWidth
      ? e.setAttribute("tabindex", "0") : e.removeAttribute("tabindex")))"""


def defer(app, page, template, context, doctree):
    """Have scripts run when the page is there, and those for formulas only where there are some."""
    if doctree is None:  # of the search and the indices: scripts in the body need the others
        return
    files = [  # copies, as all pages share the originals
        type(file)(file.filename, priority=file.priority, **file.attributes)
        for file in context["script_files"]
    ]
    if not any("mathjax.js" in str(file.filename) for file in files):
        files = [file for file in files if "formulas.js" not in str(file.filename)]
    for file in files:
        body = file.attributes.get("body", "")
        if file.filename and "async" not in file.attributes:
            file.attributes["defer"] = "defer"
        elif body.startswith("DOCUMENTATION_OPTIONS"):  # which a deferred script defines
            listen = f"addEventListener('DOMContentLoaded', () => {{{body}}})"
            file.attributes["body"] = listen
    context["script_files"] = files


def describe(app, page, template, context, doctree):
    """Say in the head what a page is about, and which picture stands for it."""
    if not app.config.html_baseurl or doctree is None:
        return
    texts = [text for text in doctree.findall(nodes.paragraph) if not [*text.findall(nodes.math)]]
    about = shorten(texts[0].astext(), 200, placeholder=" …") if texts else app.config.project
    title = context["title"]
    facts = {
        "og:type": "article",
        "og:title": re.sub("<[^>]*>", "", title),
        "og:description": about,
        "og:url": f"{app.config.html_baseurl}{page}.html",
        "og:image": f"{app.config.html_baseurl}_static/cards/{page.replace('/', '-')}.png",
        "twitter:card": "summary_large_image",
    }
    tags = [f'<meta name="description" content="{escape(about)}" />']
    tags += [f'<meta property="{key}" content="{escape(value)}" />' for key, value in facts.items()]
    context["metatags"] = context.get("metatags", "") + "\n".join(tags)


def not_found(app):
    """Yield the page for addresses that lead nowhere, where there is a server to show it."""
    if app.config.html_baseurl:
        body = (
            "<h1>This page is not here</h1><p>It may have moved. "
            '<a href="book/index.html">The front page</a> and '
            '<a href="search.html">the search</a> know the others.</p>'
        )
        yield "404", {"title": "Not found", "body": body}, "page.html"


@cache
def narrow(path):
    """Return the size of the view for phones that a drawing has, or nothing."""
    text = path.read_text(encoding="utf-8") if path.suffix == ".svg" and path.exists() else ""
    found = re.search(r'<view id="narrow" viewBox="0 [\d.]+ ([\d.]+) ([\d.]+)"', text)
    return found and found.groups()


def with_narrow(page, match):
    """Offer a figure's view for phones, where it has one, to those who read on one."""
    size = narrow((page.parent / match[2]).resolve())
    if not size:
        return match[0]
    return (
        f'<picture><source media="(max-width: 600px)" srcset="{match[2]}#narrow" />'
        f'{match[1]} style="--narrow: {size[0]} / {size[1]}"></picture>'
    )


def stack(words):
    """Return words that name a panel, and what they are where panels stand below each other."""
    other = re.sub(r"\w+", lambda word: STACKED.get(word[0], word[0]), words)
    return f'<span class="beside">{words}</span><span class="stacked">{other}</span>'


def with_sides(html):
    """Name the panels of figures that have a view for phones as they stand in either view."""

    def caption(figure):
        picture, tag, text = figure[0].partition("<figcaption")
        return picture + tag + SIDE.sub(lambda side: stack(side[0]), text)

    names = "|".join(re.escape(name) for name in STACKS.findall(html))
    refers = rf'(<a [^>]*href="#(?:{names})"[^>]*>(?:(?!</a>).)*</a>, )(left|right)\b'
    return re.sub(refers, lambda found: found[1] + stack(found[2]), STACKS.sub(caption, html))


def in_lines(parameters):
    """Return the parameters of a long signature as lines, and not as definitions of nothing."""
    return f'<div class="sig-lines">{re.sub(r"(?<=</)dd|(?<=<)dd", "div", parameters[1])}</div>'


@cache
def drawing(collection, name):
    """Return width, height and path of an icon; of its styles the filled one comes last."""
    text = Path(collection).read_text(encoding="utf-8")
    found = re.findall(
        rf'[{{,]"?{re.escape(name)}"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"', text
    )
    found = found or re.findall(
        rf':\[(\d+),(\d+),\[[^\]]*"{re.escape(name)}"[^\]]*\],"\w+","([^"]+)"', text
    )
    return found[-1]


def draw(collection, match):
    """Return an icon, named by the classes of an element, as a drawing in the page."""
    names = re.findall(r"\bfa-([\w-]+)", match[2])
    (name,) = [name for name in names if name not in ("solid", "brands", "regular", "lg")]
    width, height, path = drawing(collection, name)
    return (
        f'<svg class="{match[2]} icon"{match[3]} viewBox="0 0 {width} {height}" '
        f'aria-hidden="true" focusable="false"><path fill="currentColor" d="{path}"/></svg>'
    )


def card(title, book, path):
    """Draw a title on the ground of the dark pages, above a curve of double descent."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.3), facecolor="#16181b")
    axes = figure.add_axes((0, 0, 1, 0.4))
    axes.axis("off")
    tau = np.linspace(0.05, 3, 600)
    axes.plot(tau, np.minimum(0.4 + 0.06 / np.abs(tau - 1) - 0.1 * tau, 2), color="#6aa9ee", lw=5)
    axes.set(xlim=(0.05, 3), ylim=(0, 1.6))
    style = {"family": "STIXGeneral", "x": 0.06, "va": "top"}
    figure.text(y=0.9, s=fill(title, 30), size=58, color="#eceae4", **style)
    figure.text(y=0.12, s=book, size=26, color="#9da2a8", **style)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def finish(app, exception):
    """Draw the icons into the pages, drop what only they needed, mend tags, and map the site."""
    if exception or app.builder.format != "html":
        return
    site, base = Path(app.outdir), app.config.html_baseurl
    collection = site / "_static/scripts/fontawesome.js"
    for path in site.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        drawn = ICON.sub(partial(draw, collection), COLLECTION.sub("", html))
        drawn = NAME.sub(lambda name: re.sub(r"(?<=[._/])(?=\w)", "<wbr>", name[0]), drawn)
        drawn = FIGURE.sub(partial(with_narrow, path), drawn)
        drawn = with_sides(drawn)
        for wrong, right in MISLEADING:
            drawn = wrong.sub(right, drawn)
        drawn = PARAMETERS.sub(in_lines, drawn)
        if path.name == "404.html":  # shown at any depth
            drawn = drawn.replace("<head>", f'<head>\n    <base href="{escape(base)}" />', 1)
        if drawn != html:
            path.write_text(drawn, encoding="utf-8")
    style = site / "_static/styles/pydata-sphinx-theme.css"
    style.write_text(FONTS.sub("", style.read_text(encoding="utf-8")), encoding="utf-8")
    for path in [*site.glob("_static/**/*.map"), *site.glob("_static/**/fontawesome*.js*")]:
        path.unlink(missing_ok=True)
    if base:
        pages = sorted(app.env.found_docs)
        for page in pages:
            name = f"_static/cards/{page.replace('/', '-')}.png"
            card(app.env.titles[page].astext(), app.config.project, site / name)
        urls = "".join(f"<url><loc>{escape(base)}{page}.html</loc></url>\n" for page in pages)
        schema = "http://www.sitemaps.org/schemas/sitemap/0.9"
        (site / "sitemap.xml").write_text(
            f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{schema}">\n{urls}</urlset>\n'
        )


def setup(app):
    """Register the extension with Sphinx."""
    app.add_js_file(None, body=KEEP_FOCUS)
    app.add_js_file(None, body=REACH_FIGURES)
    app.connect("html-collect-pages", not_found)
    app.connect("html-page-context", describe)
    app.connect("html-page-context", defer, priority=950)  # after all scripts are known
    app.connect("build-finished", finish, priority=400)  # before the check for other sites
    return {"parallel_read_safe": True, "parallel_write_safe": True}
