"""Sphinx extension: each chapter ends with how to cite it, as BibTeX."""

from html import escape

from sphinx.util.nodes import clean_astext

ENTRY = """\
@incollection{{iclkit:{name},
  author    = {{{{{author}}}}},
  title     = {{{title}}},
  booktitle = {{{book}}},
  chapter   = {{{number}}},
  year      = {{{year}}},{url}
}}"""

BOX = """\
<details class="cite">
<summary>Cite this chapter</summary>
<div class="highlight"><pre>{entry}</pre></div>
</details>
"""


def add_entry(app, page, templatename, context, doctree):
    """Put the entry under a page that has a number, which chapters have and other pages don't."""
    number = app.env.toc_secnumbers.get(page, {}).get("")
    if doctree is None or not number:
        return
    address = f"\n  url       = {{{context['pageurl']}}}," if context.get("pageurl") else ""
    entry = ENTRY.format(
        name=page.rpartition("/")[2],
        author=app.config.author,
        title=clean_astext(app.env.titles[page]),
        book=app.config.html_title or app.config.project,
        number=".".join(map(str, number)),
        year=app.config.copyright,
        url=address,
    )
    context["body"] += BOX.format(entry=escape(entry))


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("html-page-context", add_entry)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
