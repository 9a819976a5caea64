"""All addresses come from one setting, `Repository` in pyproject.toml, and there is none without.

What can't ask for it names it itself, which the last test asks for as soon as it is set.
"""

import re
import subprocess
from html import unescape
from pathlib import Path

import nbformat
import pytest
import yaml

import iclkit

ROOT = Path(__file__).parents[1]
FOREIGN = r"https?://(?:github\.com|\w+\.github\.io|mybinder\.org|colab\.\w+\.google\.com)[^\"<>]*"


@pytest.fixture
def address(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(ROOT / "_ext")
    import address

    return address


@pytest.fixture
def links(address, monkeypatch, tmp_path):
    """The links of a page to where it is published, for an address of the repository."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "conf.py").touch()
    cell = nbformat.v4.new_markdown_cell("# A chapter")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "book" / "chapter.ipynb")
    config = {
        "extensions": ["myst_nb", "address"], "html_theme": "sphinx_book_theme",
        "root_doc": "chapter", "nb_execution_mode": "off",
    }  # fmt: skip

    def of(url):
        monkeypatch.setattr(address, "repository", lambda: url)
        folders = (tmp_path / name for name in ("book", "book", "html", "doctrees"))
        with docutils_namespace():
            Sphinx(*folders, "html", confoverrides=config, status=None, warningiserror=True).build()
        return sorted(
            re.findall(FOREIGN, unescape((tmp_path / "html" / "chapter.html").read_text()))
        )

    return of


def test_pages_have_no_address_while_none_is_set(links):
    assert links("") == []


def test_pages_have_every_address_once_one_is_set(links):
    found = links("https://github.com/someone/some-book")
    assert [url for url in found if "issues" not in url] == [
        "https://colab.research.google.com/github/someone/some-book/blob/notebooks/chapter.ipynb",
        "https://github.com/someone/some-book",
        "https://mybinder.org/v2/gh/someone/some-book/notebooks?urlpath=lab/tree/chapter.ipynb",
        "https://someone.github.io/some-book/chapter.html",
    ]


def test_every_address_is_the_one_that_is_set(address):
    """In the files that can't ask for it, the address stands, or else nothing does."""
    url = address.repository()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation.get("repository-code", "") == url
    for text in ((ROOT / "README.md").read_text(), iclkit.__doc__):
        assert url in text
    own = re.compile(r"github\.com/iclkit|iclkit\.github\.io|github\.com/OWNER")
    named = subprocess.run(
        ["git", "grep", "-lE", own.pattern], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    assert own.search(url) or set(named) <= {"pyproject.toml", "tests/test_address.py"}
