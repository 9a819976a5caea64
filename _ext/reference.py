"""Sphinx extension: the reference is made of docstrings, and they and the book name each other.

A docstring names an equation or a theorem of the book by its label, and what else the package has
by its name in backticks. Here these become links, and so does every name of the package that a
chapter mentions. What is shown where follows from the package: there is no list to keep.
"""

import importlib
import inspect
import pkgutil
import re
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.roles import XRefRole
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

PACKAGE = "iclkit"
# Where other libraries describe what docstrings and chapters name of them: an inventory for
# intersphinx, kept by hand, as a build asks no other site. The build says which name is missing.
ELSEWHERE = Path(__file__).with_name("elsewhere.inv")

ROLES = {"eq": "eq", "lem": "prf:ref", "prop": "prf:ref", "thm": "prf:ref"}
LABEL = re.compile(rf"\b({'|'.join(ROLES)})-\w+(?:-\w+)*")
NAME = re.compile(r"(?<![:`\w])`([A-Za-z]\w*)((?:\.\w+)*)`(?!`)")
WORD = re.compile(r'"[^"]*"|[A-Za-z_][\w.]*\w')
# Sections whose lines, where they aren't indented, are names and types.
TYPED = {"Attributes", "Parameters", "Raises", "Returns", "Warns", "Yields"}


@cache
def public():
    """Return every public module, class and function with its shortest path, rooms first."""
    paths = {}
    for info in pkgutil.walk_packages(importlib.import_module(PACKAGE).__path__, f"{PACKAGE}."):
        room, _, name = info.name.rpartition(".")
        if name[0] == "_":
            continue
        module = importlib.import_module(info.name)
        # Some modules of a room are addressed by their names, of the others it has the names.
        if room == PACKAGE or name in importlib.import_module(room).__all__:
            paths[module] = info.name
        shown = vars(module).get("__all__", ())
        for name in shown or vars(module):
            item = getattr(module, name)
            made_here = getattr(item, "__module__", None) == info.name and name[0] != "_"
            if (name in shown or made_here) and (inspect.isfunction(item) or inspect.isclass(item)):
                paths.setdefault(item, f"{info.name}.{name}")
    return paths


def path_of(item):
    """Return the path of something public, or None."""
    return public().get(item) if item.__hash__ else None


def link(app, what, name, obj, options, lines):
    """Turn the names, types and labels in a docstring into references to them.

    That of a module ends in a table of what the module has.
    """
    described, section = set(), None  # its parameters or fields, and where we are

    def meant(word):
        item = getattr(obj if what == "module" else inspect.getmodule(obj), word, None)
        of_no_interest = word in described or (inspect.ismodule(item) and what != "module")
        return None if of_no_interest else path_of(item)

    def name_to_link(match):
        path = meant(match[1])
        return f":py:obj:`{match[1]}{match[2]} <{path}{match[2]}>`" if path else match[0]

    def type_to_link(match):
        if match[0][0] == '"':
            return f"``{match[0]}``"
        path = match[0] if "." in match[0] else meant(match[0])
        return f":py:obj:`{match[0]} <{path}>`" if path else match[0]

    for number, line in enumerate(lines):
        if lines[number + 1 : number + 2] == ["-" * len(line)]:
            section = line
        elif section in TYPED and line[:1].isalpha():
            names, colon, types = line.rpartition(" : ")
            described.update(names.split(", "))
            lines[number] = names + colon + WORD.sub(type_to_link, types)
        elif section != "Examples":
            lines[number] = line.replace("|", r"\|")  # a norm, and no substitution

    # "… eq-a and eq-b in the book" becomes "… (1.2) and (1.3) in <title of the chapter>".
    parts = re.split(r"\bthe\s+book\b", NAME.sub(name_to_link, "\n".join(lines)))
    for number, part in enumerate(parts):
        labels = [match[0] for match in LABEL.finditer(part)]
        parts[number] = LABEL.sub(lambda match: f":{ROLES[match[1]]}:`{match[0]}`", part)
        if number + 1 < len(parts):
            parts[number] += f":chapter:`{','.join(labels)}`" if labels else "the book"
    lines[:] = "".join(parts).split("\n")

    if what == "module":
        inside = [path.rpartition(".") for path in public().values()]
        table = [f"   {short}" for module, _, short in inside if module == name]
        lines += ["", ".. autosummary::", "   :nosignatures:", "", *table, ""]


class LinkNames(SphinxPostTransform):
    """Make a link of each name, set as code, of something in the package or listed elsewhere."""

    default_priority = 5  # before references are resolved

    def run(self, **kwargs):
        """Carry this out for one document."""
        libraries = {line.split(".")[0] for line in ELSEWHERE.read_text().splitlines()[3:]}
        known = re.compile(rf"({'|'.join(libraries | {PACKAGE})})(\.\w+)+")
        taken = (nodes.reference, nodes.title, addnodes.pending_xref)
        for literal in list(self.document.findall(nodes.literal)):
            name = literal.astext()
            if not known.fullmatch(name) or isinstance(literal.parent, taken):
                continue
            about = {"refdomain": "py", "reftype": "obj", "reftarget": name, "refexplicit": True}
            xref = addnodes.pending_xref("", literal.deepcopy(), refdoc=self.env.docname, **about)
            literal.replace_self(xref)


def resolve(app, env, node, contnode):
    """Resolve what Sphinx can't: the chapters of labels, and longer paths of what is public."""
    here, builder = node["refdoc"], app.builder
    if node["reftype"] == "chapter":
        links = []
        for page in dict.fromkeys(pages(env, node["reftarget"].split(","))):
            title = nodes.emphasis("", env.titles[page].astext())
            links += [nodes.Text(" and "), make_refnode(builder, here, page, "", title)]
        return nodes.inline("", "", *links[1:])

    target = node["reftarget"]
    while target.startswith(f"{PACKAGE}."):
        try:
            path = path_of(pkgutil.resolve_name(target))
        except (AttributeError, ImportError):
            return None
        if path and path != node["reftarget"]:
            py = env.get_domain("py")
            return py.resolve_xref(env, here, builder, "obj", path, node, contnode)
        target = target.rpartition(".")[0]  # a field is where its class is


def pages(env, labels):
    """Yield the pages with these labels; of one that is nowhere, its own reference complains."""
    equations, statements = env.get_domain("math").equations, getattr(env, "proof_list", {})
    for label in labels:
        if label in equations:
            yield equations[label][0]
        elif label in statements:
            yield statements[label]["docname"]


def skip_fields(app, what, name, obj, skip, options):
    """Leave the fields of named tuples to their classes, which describe them."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    """Register the extension with Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("numpydoc")
    app.add_role("chapter", XRefRole())
    app.add_post_transform(LinkNames)
    app.connect("autodoc-process-docstring", link, priority=400)  # numpydoc comes at 500
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
