"""Sphinx extension: the search knows the words of the book, and puts their pages first.

Each term of the glossary leads to the place where the glossary says that it is made precise, each
symbol of the notation to its row and its first use, each name of the package to its description,
each title to its page. All of this is written down already: nothing is listed here. What else a
reader may look for is an `index` directive where it belongs, marked as main by an exclamation mark.
"""

import re
import unicodedata
from collections import defaultdict

from docutils import nodes
from reference import pages
from sphinx import addnodes

GLOSSARY, NOTATION = "book/glossary", "book/notation"
SYMBOL = re.compile(r"\\([A-Z]?[a-z]+)(\^\*)?(?:\s*=.*)?")
GREEK = re.compile(r"([Α-Ωα-ω])(\*?)")


def spelled(letter, star):
    """Return the ways to type a Greek letter, such as Γ* and Gamma star."""
    name = unicodedata.name(letter).rpartition(" ")[2].replace("LAMDA", "LAMBDA").lower()
    return [letter + star, name + " star" * bool(star)]


def letter(name):
    """Return the Greek letter that TeX has under a name, if it is one."""
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    try:
        return unicodedata.lookup(f"GREEK {case} LETTER {name.upper().replace('LAMBDA', 'LAMDA')}")
    except KeyError:
        return None


def places(env, node):
    """Yield pages and anchors of what a part of a page refers to, terms excepted."""
    for xref in node.findall(addnodes.pending_xref):
        target, kind = xref["reftarget"], xref["reftype"]
        if kind == "doc":
            yield target.removeprefix("/").removesuffix(".ipynb"), ""
        elif kind in ("eq", "ref"):
            for page in pages(env, [target]):
                yield page, f"equation-{target}" if kind == "eq" else target


def collect(app, env):
    """Gather the words that lead to each page, with their anchors."""
    found = env.iclkit_words = defaultdict(list)
    for item in env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        for page, anchor in [*places(env, item)][:1]:
            for term in item.findall(nodes.term):
                found[page].append((term.astext(), anchor))
    for row in env.get_doctree(NOTATION).findall(nodes.row):
        if len(row) < 4:  # of the letters with several meanings
            continue
        symbol, code, *_, use = row.children
        words = [literal.astext() for literal in code.findall(nodes.literal)]
        words = [word for word in words if word.isidentifier()]
        for math in symbol.findall(nodes.math):
            match = SYMBOL.fullmatch(math.astext())
            if match and (greek := letter(match[1])):
                words += spelled(greek, "*" if match[2] else "")
        for page, anchor in [(NOTATION, ""), *places(env, use)]:
            found[page] += [(word, anchor) for word in words]
    for name, entry in env.get_domain("py").objects.items():
        last = name.rpartition(".")[2]
        found[entry.docname] += [(word, entry.node_id) for word in {last, last.replace("_", " ")}]
    for page, title in env.titles.items():
        found[page].append((title.astext(), ""))
        for match in GREEK.finditer(title.astext()):
            found[page] += [(word, "") for word in spelled(*match.groups())]


def mark(app, doctree, page):
    """Give a page the words that lead to it; only the search sees them."""
    words = dict.fromkeys(app.env.iclkit_words.get(page, ()))
    entries = [("single", word.replace(";", ","), anchor, "main", None) for word, anchor in words]
    if entries:
        doctree.append(addnodes.index(entries=entries))


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("env-updated", collect)
    app.connect("doctree-resolved", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
