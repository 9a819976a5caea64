"""Sphinx extension: a map of the chapters, each above what it builds on, drawn from a list.

    ```{book-map}
    generalization-error: conditional-moments
    ```

Each line names a chapter and, after a colon, those that it needs. A chapter stands a level above
the highest of them, the colours of the boxes are those of the parts, and each box is a link.
"""

import textwrap
from html import escape

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

# Sizes in units of the drawing: a box, the space around it, and a line of text.
WIDE, HIGH, BESIDE, BETWEEN, LINE = 116, 50, 10, 32, 14
LETTERS, ROW = 18, 6  # that fit in a line; boxes in a row


class map_of_book(nodes.Element):  # noqa: N801, as docutils names the visitors after it
    """Where the map will stand: the list of what needs what."""


class BookMap(SphinxDirective):
    """Take the list that the map is drawn from."""

    has_content = True

    def run(self):
        """Return the place of the map."""
        needs = {}
        for line in self.content:
            name, _, others = line.partition(":")
            needs[name.strip()] = [other.strip() for other in others.split(",") if other.strip()]
        return [map_of_book(needs=needs)]


def rows(needs):
    """Return the chapters level by level, in rows of a few; ask for an order in the list."""
    level = {}
    for name, others in needs.items():
        if missing := [other for other in others if other not in level]:
            raise ExtensionError(f"book-map: {name} needs {missing}, which must stand before it")
        level[name] = 1 + max((level[other] for other in others), default=-1)
    levels = [[name for name in needs if level[name] == i] for i in range(max(level.values()) + 1)]
    found = []
    for names in levels:
        count = -(-len(names) // ROW)
        size = -(-len(names) // count)
        found += [names[start : start + size] for start in range(0, len(names), size)]
    return found


def draw(needs, pages, part, address):
    """Return the map as SVG: boxes row by row, and a curve to each from what it needs."""
    place, drawn = {}, rows(needs)
    width = ROW * (WIDE + BESIDE) - BESIDE
    for number, names in enumerate(drawn):
        # Each row is in the order of what it stands on, so that few curves cross.
        above = {n: [place[o][0] for o in needs[n]] or [width / 2] for n in names}
        names.sort(key=lambda name: sum(above[name]) / len(above[name]))
        left = (width - len(names) * (WIDE + BESIDE) + BESIDE) / 2
        for column, name in enumerate(names):
            place[name] = left + column * (WIDE + BESIDE), number * (HIGH + BETWEEN)
    curves, boxes = "", ""
    for name, others in needs.items():
        x, y = place[name][0] + WIDE / 2, place[name][1]
        for other in others:
            x0, y0 = place[other][0] + WIDE / 2, place[other][1] + HIGH
            bend = max(BETWEEN, y - y0) / 2
            curves += (
                f'<path d="M{x0:g} {y0:g}C{x0:g} {y0 + bend:g} {x:g} {y - bend:g} {x:g} {y:g}"/>'
            )
        lines = textwrap.wrap(pages[name], LETTERS)
        top = y + HIGH / 2 - LINE * (len(lines) - 1) / 2 + 4
        text = "".join(
            f'<tspan x="{x:g}" y="{top + LINE * i:g}">{escape(line)}</tspan>'
            for i, line in enumerate(lines)
        )
        boxes += (
            f'<a href="{address(name)}" class="part-{part[name]}"><rect x="{x - WIDE / 2:g}" '
            f'y="{y:g}" width="{WIDE}" height="{HIGH}" rx="5"/><text>{text}</text></a>'
        )
    height = len(drawn) * (HIGH + BETWEEN)
    names = dict.fromkeys(part[name] for name in needs)
    for number, name in enumerate(names):
        x = width / len(names) * (number + 0.5)
        boxes += f'<text class="part-{name}" x="{x:g}" y="{height}">{name.capitalize()}</text>'
    return (
        f'<nav class="book-map" aria-label="Map of the book"><svg viewBox="-2 -2 {width + 4} '
        f'{height + 10}"><g class="needs">{curves}</g>{boxes}</svg></nav>'
    )


def show(app, doctree, docname):
    """Draw the map now that titles, numbers and parts of the chapters are known."""
    places = list(doctree.findall(map_of_book))
    if not places:
        return
    numbered = {p.rpartition("/")[2]: p for p in app.env.toc_secnumbers if p.count("/") == 2}
    titles = {name: app.env.titles[page].astext() for name, page in numbered.items()}
    parts = {name: page.split("/")[1] for name, page in numbered.items()}

    def address(name):
        return app.builder.get_relative_uri(docname, numbered[name])

    for place in places:
        if odd := set(place["needs"]) ^ set(numbered):
            raise ExtensionError(f"book-map: {sorted(odd)} must be both chapters and on the map")
        svg = draw(place["needs"], titles, parts, address)
        place.replace_self(nodes.raw("", svg, format="html"))


def setup(app):
    """Register the extension with Sphinx."""
    app.add_node(map_of_book)
    app.add_directive("book-map", BookMap)
    app.connect("doctree-resolved", show)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
