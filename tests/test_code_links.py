"""Names of the package in code lead to the reference, once in a block."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

from docutils import nodes
from docutils.utils import new_document
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "_ext"))
import code_links  # noqa: E402
from reference import public  # noqa: E402

IMPORTS = "import numpy as np\nfrom iclkit import icl_error, plots, theory as th\n"
CALLS = """\
simulate(icl_error=3, plots=np.plots)
plots.theory(ax, x, icl_error(1, 2), fits.icl_error)
th.bayes.ridge_error(2).shape
icl_error(3)
"""


def linked(*blocks):
    """The links in the HTML of blocks of code, as pairs of target and text."""
    document = new_document("a page")
    document += [nodes.literal_block(text, text) for text in blocks]
    objects = {path: SimpleNamespace(docname="r", node_id=path) for path in public().values()}
    env = SimpleNamespace(get_domain=lambda name: SimpleNamespace(objects=objects))
    builder = SimpleNamespace(get_relative_uri=lambda page, other: f"{other}.html")
    body = "".join(highlight(text, PythonLexer(), HtmlFormatter()) for text in blocks)
    context = {"body": body}
    app = SimpleNamespace(env=env, builder=builder)
    code_links.add_links(app, "page", "page.html", context, document)
    assert re.sub("</?a[^>]*>", "", context["body"]) == body
    links = re.findall('<a href="r.html#(.*?)">(.*?)</a>', context["body"])
    return [(target, re.sub("<.*?>", "", text)) for target, text in links]


def test_names_that_are_imported_are_linked_once_in_a_block():
    calls = [
        ("iclkit.plots.theory", "plots.theory"),
        ("iclkit.theory.icl_error", "icl_error"),
        ("iclkit.theory.bayes.ridge_error", "th.bayes.ridge_error"),
    ]
    assert linked(IMPORTS, CALLS)[-3:] == calls


def test_names_of_others_are_not_linked():
    assert linked("from numpy import load\n", CALLS) == []
    assert linked("%matplotlib inline\n", "icl_error(3)") == []


def test_examples_of_docstrings_import_too():
    example = ">>> from iclkit import icl_error\n>>> icl_error(2, 1, 1, 0.1) > 1\nTrue\n"
    assert ("iclkit.theory.icl_error", "icl_error") in linked(example)
