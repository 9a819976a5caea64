"""What a chapter becomes when it is downloaded; test_site has those of the built book."""

from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).parents[1]


@pytest.fixture
def download(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(ROOT / "_ext")
    import download

    return download


BEGIN, END = r"\begin{equation*}", r"\end{equation*}"
SHOWN = {
    "{eq}`eq-a`": "(1.2)", "{ref}`ex-a`": "Exercise 1.1", "{prf:ref}`lem-a`": "Lemma 1.3",
    "{cite:t}`key`": "Someone (2025)", "{numref}`fig-a`": "Fig. 1.4",
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("By {eq}`eq-a` of {cite:t}`key`, `code`.", "By (1.2) of Someone (2025), `code`."),
        ("```{math}\n:label: eq-a\nx\n```", f"{BEGIN}\nx\n\\tag{{1.2}}\n{END}"),
        ("```{math}\nx\n```", f"{BEGIN}\nx\n{END}"),
        (
            "- so\n\n  ```{math}\n  :label: eq-a\n  x\n  ```",
            f"- so\n\n  {BEGIN}\n  x\n  \\tag{{1.2}}\n  {END}",
        ),
        # Sphinx would set the lines of a formula below one another.
        ("$$\nx \\\\\ny\n$$", f"{BEGIN}\n\\begin{{aligned}}\nx \\\\\ny\n\\end{{aligned}}\n{END}"),
        ("$$\n\\begin{a}\n\\\\\n\\end{a}\n$$", f"{BEGIN}\n\\begin{{a}}\n\\\\\n\\end{{a}}\n{END}"),
        (
            "````{prf:lemma} Name\n:label: lem-a\n\nLet {eq}`eq-a`:\n\n```{math}\nx\n```\n````\nso",
            f"**Lemma 1.3** (Name). Let (1.2):\n\n{BEGIN}\nx\n{END}\nso",
        ),
        ("```{prf:proof}\nClear.\n```", "*Proof.* Clear. ∎"),
        ("```{exercise}\n:label: ex-a\n\nDo.\n```", "**Exercise 1.1**. Do."),
        (
            "```{solution} ex-a\n:class: dropdown\n\nDone.\n```",
            "<details>\n<summary>Solution to Exercise 1.1</summary>\n\nDone.\n\n</details>",
        ),
        (
            "```{live} name\nMove {eq}`eq-a`.\n```",
            "*The page in the book has a figure here that follows sliders.* Move (1.2).",
        ),
        ("```{index} ! so\n```\n\nText.", "\n\nText."),
        ("```{book-map}\nso:\nmore: so\n```", "*The page in the book has the map.*"),
    ],
)
def test_only_plain_markdown_is_left(download, source, plain):
    assert download.plain(source, SHOWN.__getitem__) == plain


def test_outputs_are_those_that_a_reader_sees(download):
    glued = new_output("display_data", {"application/papermill.record/text/plain": "1"})
    glued.metadata["scrapbook"] = {"name": "key"}
    seen = new_output("stream", text="seen")
    cell = new_code_cell("code", outputs=[glued, seen], metadata={"tags": ["hide-cell"]})
    (_, cell) = download.prepared(new_notebook(cells=[cell]), SHOWN.__getitem__, "Book").cells
    assert cell.outputs == [seen] and cell.metadata.jupyter.source_hidden


def test_caption_stands_below_its_figure(download):
    figure = {"name": "fig-a", "caption": "A line, {eq}`eq-a`."}
    cells = [
        new_code_cell("plot", metadata={"mystnb": {"figure": figure}}),
        new_markdown_cell("so"),
    ]
    cells = download.prepared(new_notebook(cells=cells), SHOWN.__getitem__, "Book").cells
    assert [cell.source for cell in cells[1:]] == ["plot", "*Fig. 1.4*: A line, (1.2).", "so"]


def test_first_cell_says_how_to_install(download, monkeypatch):
    monkeypatch.setattr(download, "repository", lambda: "")
    (cell,) = download.installation("Book")
    assert cell.cell_type == "markdown" and '-none-any.whl[book]"`' in cell.source
    monkeypatch.setattr(download, "repository", lambda: "https://github.com/someone/some-book")
    (cell,) = download.installation("Book")
    assert '"iclkit[book] @ git+https://github.com/someone/some-book"' in cell.source
    assert cell.cell_type == "code"
