"""Sphinx extension: a page offers its notebook executed, and in Markdown that any program shows.

What only Sphinx knows is written out: references become their numbers, statements and exercises
paragraphs, solutions folds, and captions lines below their figures. A first cell says how to
install what the chapter imports.
"""

import re
from collections import defaultdict
from copy import deepcopy
from pathlib import Path
from textwrap import dedent, indent
from urllib.parse import urljoin

import execution
import nbformat
import results
from address import repository
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.utils import new_document
from myst_parser.parsers.sphinx_ import MystParser
from nbformat.v4 import new_code_cell, new_markdown_cell
from sphinx.util.docutils import sphinx_domains

import iclkit

ROLE = re.compile(r"\{[\w:]+\}`[^`]+`")
DISPLAY = re.compile(r"^\$\$\n(.*?)\n\$\$$", re.MULTILINE | re.DOTALL)
DIRECTIVE = re.compile(
    r"^( *`{3,})\{(?:\w+:)?([\w-]+)\} *([^\n]*)\n"
    r"(?: *:label: *(\S+)\n)?(?: *:class:[^\n]*\n)?\n*(.*?)\n*^\1$",
    re.MULTILINE | re.DOTALL,
)
FOLDED = {"hide-cell", "hide-input", "remove-cell", "remove-input"}


def resolve(app, page, roles):
    """Return what the page has in place of each role, as Markdown."""
    # A value of this page has to be asked for as one of any other.
    local = re.compile(r"(\{glue:text\}`)([^:`]+)(:[^:`]+)?`")
    there = f"/{page}.ipynb::"
    texts = [local.sub(lambda m: f"{m[1]}{there}{m[2]}{m[3] or ':s'}`", role) for role in roles]
    document = new_document(page, get_default_settings(MystParser))
    document.settings.env = app.env
    app.env.prepare_settings(page)
    with sphinx_domains(app.env):
        MystParser().parse("\n\n".join(texts), document)
    app.env.resolve_references(document, page, app.builder)
    here = app.config.html_baseurl and app.builder.get_target_uri(page)

    def markdown(node):
        """Write out what is within a paragraph."""
        inside = "".join(map(markdown, node.children)) or node.astext()
        if isinstance(node, nodes.math):
            return f"${inside}$"
        if isinstance(node, nodes.literal):
            return f"`{node.astext()}`"
        if isinstance(node, nodes.reference) and here:
            target = node.get("refuri") or "#" + node["refid"]
            return f"[{inside}]({urljoin(app.config.html_baseurl + here, target)})"
        return inside

    paragraphs = [node for node in document.children if isinstance(node, nodes.paragraph)]
    found = dict(zip(roles, map(markdown, paragraphs), strict=True))
    return {role: f"*{text}*" if role.startswith("{doc}") else text for role, text in found.items()}


def display(formula, tag=""):
    """Return a display that has the number given, and no other.

    The extension of JupyterLab that knows MyST would number every formula between dollars anew.
    """
    if r"\\" in formula and not formula.startswith(r"\begin"):  # as Sphinx sees to
        formula = f"\\begin{{aligned}}\n{formula}\n\\end{{aligned}}"
    return f"\\begin{{equation*}}\n{formula}{tag}\n\\end{{equation*}}"


def plain(text, shown):
    """Return Markdown without roles and directives; `shown` says what a role becomes."""

    def paragraph(match):
        fence, kind, title, label, body = match.groups()
        margin = fence.rstrip("`")  # within a list
        return indent(written(kind, title, label, dedent(body)), margin)

    def written(kind, title, label, body):
        if kind == "math":
            number = shown(f"{{eq}}`{label}`") if label else ""
            tag = "".join(f"\n\\tag{{{digits}}}" for digits in re.findall(r"\(([\d.]+)\)", number))
            return display(body, tag)
        if kind == "book-map":
            return "*The page in the book has the map.*"
        if kind == "index":
            return ""
        body = plain(body, shown)
        if kind == "live":
            return f"*The page in the book has a figure here that follows sliders.* {body}"
        if kind == "proof":
            return f"*Proof.* {body} ∎"
        if kind == "solution":
            of = shown(f"{{ref}}`{title}`")
            return f"<details>\n<summary>Solution to {of}</summary>\n\n{body}\n\n</details>"
        number = shown(f"{{ref}}`{label}`" if kind == "exercise" else f"{{prf:ref}}`{label}`")
        return f"**{number}**{title and f' ({title})'}. {body}"

    text = DISPLAY.sub(lambda match: display(match[1]), text)
    return ROLE.sub(lambda match: shown(match[0]), DIRECTIVE.sub(paragraph, text))


def installation(title):
    """Return the cells that say what a chapter needs, and install it where it is known where."""
    wanted = f"{iclkit.__name__}[book]"
    if url := repository():
        source = f'if find_spec("iclkit") is None:\n    %pip install --quiet "{wanted} @ git+{url}"'
        yield new_code_cell(f"from importlib.util import find_spec\n\n{source}", id="install")
    else:
        wheel = f"iclkit-{iclkit.__version__}-py3-none-any.whl"
        yield new_markdown_cell(
            f"*This is a chapter of the book {title}, executed. "
            "To run it again, install the package `iclkit` with what its chapters import, "
            f'from its wheel by `pip install "./{wheel}[book]"`, '
            'or in its repository by `pip install ".[book]"`. '
            "Its assertions say what holds at the chapter's own numbers: where you change one, "
            "an `AssertionError` says that a claim or a check of the text does not hold there.*",
            id="install",
        )


def prepared(notebook, shown, title):
    """Return a notebook as it is offered for download."""
    cells = list(installation(title))
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, shown)
            continue
        cell.outputs = [o for o in cell.outputs if "scrapbook" not in o.get("metadata", {})]
        if FOLDED & set(cell.metadata.get("tags", ())):
            cell.metadata["jupyter"] = {"source_hidden": True}
        if figure := cell.metadata.get("mystnb", {}).get("figure"):
            number = shown(f"{{numref}}`{figure['name']}`")
            caption = f"*{number}*: {plain(figure['caption'], shown)}"
            cells.append(new_markdown_cell(caption, id=figure["name"]))
    notebook.cells = cells
    return notebook


def write(app, exception):
    """Put the notebooks where the theme's buttons find them."""
    if exception or app.builder.format != "html":
        return
    title = app.config.html_title
    for path, notebook in execution.notebooks().items():
        page = path.relative_to(results.ROOT).with_suffix("").as_posix()
        notebook = results.with_outputs(
            notebook, results.find(path, notebook, execution.settings())
        )
        asked = defaultdict(str)  # first learn what has to be resolved, then do so at once
        prepared(deepcopy(notebook), asked.__getitem__, title)
        shown = resolve(app, page, list(asked))
        text = nbformat.writes(prepared(notebook, shown.__getitem__, title))
        (Path(app.outdir) / "_sources" / f"{page}.ipynb").write_text(text, encoding="utf-8")


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
