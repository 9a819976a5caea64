"""Sphinx extension: in the ledger of claims each verdict is a chip, counted and chosen on top.

The rows stand in the page as they are written, and the counts are made of them, by part of the
page and by whose claim it is. Choosing needs no script: radio buttons, and a style sheet that
hides the rows of other verdicts.
"""

import re
from collections import Counter
from html import escape

from docutils import nodes
from sphinx.errors import ExtensionError

LEDGER = "book/claims"

# As the ledger defines them. A verdict begins with one; what it may begin with instead comes after.
VERDICTS = {
    "holds within a range": "range",
    "holds": "holds",
    "fails": "fails",
    "cannot be tested": "untestable",
    "not tested": "untested",
}
VERDICT = re.compile("|".join(VERDICTS))
CLASSES = {"tested in": "tested-in", "verdict": "verdict-cell"}
ORDER = ["holds", "holds within a range", "fails", "cannot be tested", "not tested"]


def tables(doctree):
    """Yield the tables that end in a column of verdicts, with the names of their columns."""
    for table in doctree.findall(nodes.table):
        (head,) = table.findall(nodes.thead)
        columns = [entry.astext() for entry in head[0]]
        if columns[-1] == "verdict":
            yield table, columns


def chip(verdict):
    """Return a verdict as it stands on the page."""
    return nodes.inline("", verdict, classes=["verdict", VERDICTS[verdict]])


def mark(app, doctree, page):
    """Give rows and cells their classes, verdicts their chips, and the page its counts."""
    if page != LEDGER:
        return
    for word in list(doctree.findall(nodes.emphasis)):
        if word.astext() in VERDICTS:
            word.replace_self(chip(word.astext()))
    counts = {}
    for table, columns in tables(doctree):
        table["classes"].append("ledger")
        (body,) = table.findall(nodes.tbody)
        part = table.parent
        while not isinstance(part.parent.parent, nodes.document):
            part = part.parent
        part = part.next_node(nodes.title).astext()
        for row in body:
            for entry, column in zip(row, columns, strict=True):
                entry["classes"].append(CLASSES.get(column, column))
            text = next(row[-1].findall(nodes.Text), nodes.Text(""))
            if not (found := VERDICT.match(text)):
                raise ExtensionError(f"a verdict of the ledger is none: {row[-1].astext()!r}")
            verdict = found[0]
            owner = "the book" if row[0].astext().startswith("Book:") else "papers"
            counts.setdefault(part, {}).setdefault(owner, Counter())[verdict] += 1
            row["classes"].append(f"row-{VERDICTS[verdict]}")
            rest = text[found.end() :]
            place = text.parent.index(text)
            text.parent[place : place + 1] = [chip(verdict), nodes.Text(rest)]
    opening = next(doctree.findall(nodes.paragraph))
    place = opening.parent.index(opening) + 1
    total = sum((count for owners in counts.values() for count in owners.values()), Counter())
    opening.parent[place:place] = [choice(total), summary(counts)]


def summary(counts):
    """Return a table of how many rows have which verdict, by part and by whose claims they are."""
    every = {}
    for owners in counts.values():
        for owner, count in owners.items():
            every[owner] = every.get(owner, Counter()) + count
    heads = "".join(f'<th scope="col">{escape(verdict)}</th>' for verdict in ORDER)
    html = ""
    for part, owners in {"All parts": every, **counts}.items():
        html += f'<tbody><tr><th colspan="7" scope="rowgroup">{escape(part)}</th></tr>\n'
        for owner, count in sorted(owners.items()):
            numbers = [*(count[verdict] for verdict in ORDER), count.total()]
            cells = "".join(f"<td>{number}</td>" for number in numbers)
            html += f'<tr><th scope="row">{escape(owner)}</th>{cells}</tr>\n'
        html += "</tbody>\n"
    head = f'<thead><tr><th scope="col">claims</th>{heads}<th scope="col">all</th></tr></thead>'
    caption = "<caption>How many claims have which verdict</caption>"
    return nodes.raw("", f'<table class="counts">{caption}{head}{html}</table>', format="html")


def choice(counts):
    """Return the radio buttons, one for all rows and one for each verdict, with their counts."""
    buttons = [("all", "all", counts.total())]
    buttons += [(VERDICTS[verdict], verdict, counts[verdict]) for verdict in ORDER]
    html = "".join(
        f'<label class="verdict {escape(name)}"><input type="radio" name="verdict" value="{name}"'
        f"{' checked' if name == 'all' else ''}>{escape(label)} <b>{count}</b></label>\n"
        for name, label, count in buttons
    )
    html = f'<fieldset class="verdicts"><legend>Rows to show</legend>\n{html}</fieldset>'
    return nodes.raw("", html, format="html")


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("doctree-resolved", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
