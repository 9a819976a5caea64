"""Sphinx extension: what the results of the book were computed with, as tables.

`{chapters-status}` has a row for each notebook, `{stored-status}` one for each file of stored
results. They are made anew with every build, from what was noted when each was computed.
"""

import re

import nbformat
import results
from docutils import nodes
from execution import notebooks, settings
from results import ROOT
from sphinx.util.docutils import SphinxDirective

DATA = ROOT / "book" / "data"


def name_of(path):
    """Return what the table of contents calls a page."""
    return path.relative_to(ROOT).with_suffix("").as_posix()


def ran():
    """Yield the path within the book, what it took and what it used, of each notebook in order."""
    order = re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text())
    sources = notebooks()
    for path in sorted(sources, key=lambda path: order.index(name_of(path))):
        notebook = sources[path]
        metadata = nbformat.read(results.find(path, notebook, settings()), as_version=4).metadata
        used = [name for _, name in metadata["used"]]
        yield name_of(path), metadata["took"], used


def chapters():
    """Yield the lines of the table of notebooks."""
    yield "| chapter | seconds | memory, MB | executed | on |"
    yield "|:--|--:|--:|:--|:--|"
    total = 0.0
    for page, took, _ in ran():
        total += took["seconds"]
        memory = f"{took['bytes'] / 1e6:.0f}" if took["bytes"] else "–"
        yield (
            f"| {{doc}}`/{page}` | {took['seconds']:.1f} | {memory} | {took['date']} "
            f"| {took['machine']} |"
        )
    yield f"| together | {total:.0f} | | | |"


def stored():
    """Yield the lines of the table of stored results."""
    from iclkit.runs import load

    readers = {}
    for page, _, used in ran():
        for name in used:
            readers.setdefault(name, []).append(f"{{doc}}`/{page}`")
    yield "| file | runs | minutes | date | commit | device, Python, NumPy | read by |"
    yield "|:--|--:|--:|:--|:--|:--|:--|"
    total = 0.0
    for path in sorted(DATA.glob("*.nc")):
        data = load(path)
        total += data.attrs.get("wall_time", 0)
        about = data.attrs
        runs = int(data.runs.sum()) if "runs" in data else "–"
        minutes = f"{about['wall_time'] / 60:.1f}" if "wall_time" in about else "–"
        commits = ", ".join(f"`{commit[:10]}`" for commit in about["commit"].split("; "))
        versions = ", ".join(str(about.get(key, "–")) for key in ("device", "python", "numpy"))
        pages = ", ".join(readers.get(f"book/data/{path.name}", ())) or "–"
        yield (
            f"| `{path.stem}` | {runs} | {minutes} | {about['date']} | {commits} | {versions} "
            f"| {pages} |"
        )
    yield f"| together | | {total / 60:.0f} | | | | |"


def shows(lines):
    """Return a directive that shows a table, given what yields its lines."""

    class Table(SphinxDirective):
        """Show the table."""

        def run(self):
            """Return the table, to be made again in each build."""
            self.env.note_reread()
            table = self.parse_text_to_nodes("\n".join(lines()))
            return [nodes.container("", *table, classes=["status"])]

    return Table


def setup(app):
    """Register the extension with Sphinx."""
    app.add_directive("chapters-status", shows(chapters))
    app.add_directive("stored-status", shows(stored))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
