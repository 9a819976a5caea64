"""Sphinx extension: what code names of the package leads to the reference.

Once in a block, so that a reader with a keyboard does not step through every call. A name counts
if a block of the page imports it, and never where it is a keyword or a field.
"""

import ast
import doctest
import pkgutil
import re

from docutils import nodes
from reference import PACKAGE, path_of

BLOCK = re.compile(r'<div class="highlight">.*?</div>', re.DOTALL)
DOT, NAME = r'<span class="o">\.</span>', r'<span class="n">(?:\w+)</span>'
CHAIN = re.compile(rf'(?<!{DOT}){NAME}(?:{DOT}{NAME})*(?!<span class="o">=</span>)')


def imported(doctree):
    """Return what the code of a page imports from the package, as paths by their names there."""
    found = {}
    for block in doctree.findall(nodes.literal_block):
        text = block.astext()
        if ">>> " in text:
            text = "".join(example.source for example in doctest.DocTestParser().get_examples(text))
        try:
            statements = ast.parse(text).body
        except SyntaxError:  # of another language, or of IPython
            continue
        for statement in statements:
            if isinstance(statement, ast.ImportFrom):
                module = statement.module or ""
                if module.split(".")[0] == PACKAGE:
                    for name in statement.names:
                        found[name.asname or name.name] = f"{module}.{name.name}"
            elif isinstance(statement, ast.Import):
                for name in statement.names:
                    if name.name.split(".")[0] == PACKAGE:
                        found[name.asname or PACKAGE] = name.name if name.asname else PACKAGE
    return found


def add_links(app, page, template, context, doctree):
    """Make a link of each name at its first place in a block."""
    names = imported(doctree) if doctree is not None else {}
    if not names:
        return
    known = app.env.get_domain("py").objects

    def address(path):
        """Return where the reference has something, of any of the paths that lead to it."""
        try:
            entry = known.get(path_of(pkgutil.resolve_name(path)))
        except (AttributeError, ImportError):
            return None
        return entry and f"{app.builder.get_relative_uri(page, entry.docname)}#{entry.node_id}"

    def in_block(match):
        linked = set()

        def link(chain):
            parts = re.findall(r">(\w+)<", chain[0])
            if parts[0] not in names:
                return chain[0]
            for count in range(len(parts), 0, -1):
                path = ".".join([names[parts[0]], *parts[1:count]])
                if path not in linked and (target := address(path)):
                    linked.add(path)
                    spans = re.findall(rf"{NAME}|{DOT}", chain[0])
                    inside, rest = spans[: 2 * count - 1], spans[2 * count - 1 :]
                    return f'<a href="{target}">{"".join(inside)}</a>{"".join(rest)}'
                if path in linked:
                    break
            return chain[0]

        return CHAIN.sub(link, match[0])

    context["body"] = BLOCK.sub(in_block, context["body"])


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("html-page-context", add_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
