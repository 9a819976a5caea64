"""Sphinx extension: the built book loads nothing from other sites, mathematics included.

It works from a folder, opened by a double click. MathJax is copied as one file from an installed
package, what the theme would load from elsewhere is taken out, and the build fails if a page or
a stylesheet still names another site to load from.
"""

import re
import shutil
from importlib import resources
from pathlib import Path

from sphinx.errors import ExtensionError

MATHJAX = "mathjax.js"

# Tags and style rules that make a browser load from another site. A link that a reader may
# follow is none, and neither is one that only describes the page.
SITE = r"""["']?(?:https?:)?//"""
LOADS = re.compile(
    rf"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*\s(?:src|data)={SITE}
      | <link\b(?![^>]*\brel=["']?(?:canonical|author|license|next|prev))[^>]*\shref={SITE}
      | url\(\s*{SITE}
      | @import\s*{SITE}
      | unpkg\.com | jsdelivr | cdnjs""",
    re.IGNORECASE | re.VERBOSE,
)


def configure(app, config):
    """Make MathJax local, and strict: an unknown command is an error that a test can see."""
    config.mathjax_path = MATHJAX
    config.mathjax3_config = {
        "options": {"enableMenu": False},  # which would make each formula a stop of the tab key
        "tex": {"packages": {"[-]": ["noundefined"]}},
        "svg": {"fontCache": "global"},
    }


def copy_mathjax(app):
    """Copy the one file of MathJax that holds its TeX input, SVG output and fonts."""
    target = Path(app.outdir) / "_static" / MATHJAX
    target.parent.mkdir(parents=True, exist_ok=True)
    source = resources.files("sphinx-mathjax-offline") / "static/mathjax/tex-svg-full.js"
    with resources.as_file(source) as path:
        shutil.copyfile(path, target)


# A browser lets no page from a folder read another one, which excerpts in search results need.
NO_EXCERPTS = (
    "if (location.protocol === 'file:') DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;"
)


def strip_remote(app, pagename, templatename, context, doctree):
    """Take out thebe, which would run cells on a remote machine, and anything not local."""

    def is_local(asset):
        text = f"{asset.filename or ''} {asset.attributes.get('body', '')}"
        return "thebe" not in text and "//" not in str(asset.filename or "")

    if pagename == "search":
        app.add_js_file(None, body=NO_EXCERPTS)
    for kind in ("script_files", "css_files"):
        context[kind] = [asset for asset in context[kind] if is_local(asset)]


def check(app, exception):
    """Fail if something in the built site still loads from another site."""
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir)
    found = [
        f"{path.relative_to(site)}: …{match.group()}…"
        for path in [*site.rglob("*.html"), *site.rglob("*.css")]
        for match in LOADS.finditer(path.read_text(encoding="utf-8"))
    ]
    if found:
        raise ExtensionError("the site would load from another one:\n  " + "\n  ".join(found))


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("config-inited", configure)
    app.connect("builder-inited", copy_mathjax)
    app.connect("html-page-context", strip_remote, priority=900)
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
