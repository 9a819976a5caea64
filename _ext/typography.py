"""Sphinx extension: a line does not break between a formula and what touches it, or in a number.

A browser takes a typeset formula for an image, and would begin the next line with the comma or
the bracket after it; and it would with a sign of per cent, or with the thousands of 10 000.
"""

import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

# Up to the first and from the last space, but not whole paragraphs of a script without spaces.
BEFORE = re.compile(r"\S{1,24}\Z")
AFTER = re.compile(r"\A\S{1,24}")
VERBATIM = nodes.FixedTextElement | nodes.literal | nodes.math
IN_A_NUMBER = re.compile(r"(?<=\d) (?=%|\d{3}\b)")


class KeepFormulasTogether(SphinxPostTransform):
    """Put each inline formula, with the text that adjoins it, into a box that does not break."""

    default_priority = 700
    formats = ("html",)

    def run(self, **kwargs):
        """Carry this out for one document."""
        for formula in list(self.document.findall(nodes.math)):
            box = nodes.inline(classes=["unbroken"])
            parent, place = formula.parent, formula.parent.index(formula)
            before = parent[place - 1] if place else None
            after = parent[place + 1] if place + 1 < len(parent) else None
            start = isinstance(before, nodes.Text) and BEFORE.search(before)
            end = isinstance(after, nodes.Text) and AFTER.search(after)
            if not (start or end):
                continue
            parent[place] = box
            box += [
                *([nodes.Text(start.group())] if start else []),
                formula,
                *([nodes.Text(end.group())] if end else []),
            ]
            if end:
                parent[place + 1] = nodes.Text(after[end.end() :])
            if start:
                parent[place - 1] = nodes.Text(before[: start.start()])


class KeepNumbersTogether(SphinxPostTransform):
    """Let no line break before a sign of per cent, or between the digits of a number."""

    default_priority = 701
    formats = ("html",)

    def run(self, **kwargs):
        """Carry this out for one document."""
        for text in list(self.document.findall(nodes.Text)):
            kept = IN_A_NUMBER.sub("\N{NO-BREAK SPACE}", text)
            if kept != text and not isinstance(text.parent, VERBATIM):
                text.parent.replace(text, nodes.Text(kept))


def setup(app):
    """Register the extension with Sphinx."""
    app.add_post_transform(KeepFormulasTogether)
    app.add_post_transform(KeepNumbersTogether)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
