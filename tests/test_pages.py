"""What is said of pages to other sites, where the address of the book is known, and only there.

And what the ledger of claims says of itself: its counts, and its blocks on neighbouring results.
"""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

EXTENSIONS = Path(__file__).parents[1] / "_ext"
ADDRESS = "https://example.org/book/"
LEDGER = Path(__file__).parents[1] / "book" / "claims.md"
# The definitions stand above the tables, as terms.
VERDICTS = re.findall(r"^\*(.+)\*\n: ", LEDGER.read_text(encoding="utf-8"), re.MULTILINE)
# One that begins with another comes first.
VERDICT = "|".join(sorted(VERDICTS, key=len, reverse=True))


@pytest.fixture(scope="module", params=[ADDRESS, ""])
def site(request, tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    (source / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(EXTENSIONS)!r})\n"
        f"extensions = ['pages']\nhtml_theme = 'sphinx_book_theme'\nproject = 'A book'\n"
        f"html_baseurl = {request.param!r}\n"
    )
    (source / "index.rst").write_text("A title\n=======\n\nWhat is *it* about?\n")
    out = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "sphinx", "-q", source, out], check=True)
    return request.param, out


def test_pages_describe_themselves_where_the_address_is_known(site):
    address, out = site
    page = (out / "index.html").read_text()
    said = [
        f'<link rel="canonical" href="{ADDRESS}index.html" />',
        '<meta name="description" content="What is it about?" />',
        '<meta property="og:title" content="A title" />',
        f'<meta property="og:image" content="{ADDRESS}_static/cards/index.png" />',
    ]
    assert [line in page for line in said] == [bool(address)] * len(said)
    made = [out / name for name in ("404.html", "sitemap.xml", "_static/cards/index.png")]
    assert [path.exists() for path in made] == [bool(address)] * len(made)
    if address:
        assert f"<loc>{ADDRESS}index.html</loc>" in (out / "sitemap.xml").read_text()
        assert f'<base href="{ADDRESS}" />' in (out / "404.html").read_text()


def test_icons_are_drawn_into_the_page(site):
    _, out = site
    page = (out / "index.html").read_text()
    assert "fontawesome" not in page and "<i class" not in page
    assert page.count('<svg class="') > 3
    assert not (out / "_static/scripts/fontawesome.js").exists()


def test_panels_are_named_as_they_stand(monkeypatch):
    monkeypatch.syspath_prepend(EXTENSIONS)
    import pages

    figure = (
        '<figure id="fig-a">\n{}<img alt="On the left, a curve." />{}<figcaption>Left: new tasks '
        "(right, as on the left, old), to the right of zero.</figcaption></figure>"
        '<p><a href="#fig-a"><span>Fig. 1</span></a>, left, shows it.</p>'
    )
    in_a_row = figure.format("", "")
    assert pages.with_sides(in_a_row) == in_a_row
    both = pages.with_sides(figure.format("<picture>", "</picture>"))
    assert both.count('class="beside"') == both.count('class="stacked"') == 4
    on_phones = re.sub('<span class="beside">.*?</span>|<[^>]*>', "", both)
    assert on_phones.split("\n")[1] == (
        "Top: new tasks (bottom, as at the top, old), to the right of zero.Fig. 1, top, shows it."
    )
    assert 'alt="On the left, a curve."' in both


def ledger_rows():
    """Yield part, claim and verdict of each row, as the page is written."""
    part = ""
    for line in LEDGER.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            part = line[3:]
        elif line.startswith("| ") and not line.startswith("| claim |"):
            cells = re.split(r" (?<!\\)\| ", line[2:-2])
            assert len(cells) == 4, line
            yield part, cells[0], cells[3]


def test_verdicts_of_the_ledger_are_those_that_it_defines():
    assert len(VERDICTS) == 5
    assert [v for *_, v in ledger_rows() if not re.match(rf"({VERDICT})\b", v)] == []


def test_a_verdict_that_names_a_range_says_so():
    # "holds near …" or "holds at …" would be counted as if nothing were left out.
    whole = re.compile(r"holds( by construction| in the limit)?([,;:] |$)")
    ranged = re.compile("holds within a range[:,] ")
    verdicts = [v for *_, v in ledger_rows() if v.startswith("holds")]
    assert [v for v in verdicts if not (whole.match(v) or ranged.match(v))] == []


def test_ledger_counts_its_rows(tmp_path):
    source = tmp_path / "source"
    (source / "book").mkdir(parents=True)
    shutil.copy(LEDGER, source / "book")
    (source / "index.md").write_text("# A book\n\n```{toctree}\nbook/claims\n```\n")
    (source / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(EXTENSIONS)!r})\n"
        "extensions = ['myst_parser', 'ledger']\n"
        "myst_enable_extensions = ['deflist', 'dollarmath']\n"
    )
    # The roles of other extensions are missing here, which is said, and the tables are whole.
    command = [sys.executable, "-m", "sphinx", "-q", source, tmp_path / "out"]
    subprocess.run(command, check=True, capture_output=True)
    page = (tmp_path / "out" / "book" / "claims.html").read_text(encoding="utf-8")
    (table,) = re.findall(r'<table class="counts">.*?</table>', page, re.DOTALL)
    lines = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    heads, *lines = (re.findall(r"<t[hd].*?>(.*?)</t[hd]>", line) for line in lines)
    said, part = {}, ""
    for name, *numbers in lines:
        part = part if numbers else name
        for head, number in zip(heads[1:], numbers, strict=False):
            said[part, name, head] = int(number)
    counted = Counter()
    for part, claim, text in ledger_rows():
        owner = "the book" if claim.startswith("*Book:*") else "papers"
        for where in (part, "All parts"):
            for verdict in (re.match(VERDICT, text)[0], "all"):
                counted[where, owner, verdict] += 1
    assert counted == {key: number for key, number in said.items() if number}
    assert sum(n for (where, _, v), n in said.items() if (where, v) == ("All parts", "all")) > 150


LABELS = (
    "Tested",
    "Model and networks",
    "Would have failed if",
    "No seed or size settles",
    "Decided by",
)


def test_each_neighbour_has_a_block_with_the_verdicts_of_its_rows():
    text = LEDGER.read_text(encoding="utf-8").partition("## Neighbouring results")[2]
    text = text.partition("### The rows")[0]
    blocks = [block for block in text.split("\n### ")[1:] if "{doc}" in block]
    toc = yaml.safe_load((LEDGER.parents[1] / "_toc.yml").read_text())
    (beyond,) = (part["chapters"] for part in toc["parts"] if part["caption"] == "Beyond")
    chapters = [re.findall(r"\{doc\}`(.*?)`", block)[0] for block in blocks]
    assert sorted(f"book/{chapter}" for chapter in chapters) == sorted(c["file"] for c in beyond)
    for block in blocks:
        assert tuple(re.findall(r"^- \*\*(.+):\*\* ", block, re.MULTILINE)) == LABELS
        papers = re.findall(r"\{cite:t\}`(.*?)`", block)[0].split(",")
        rows = [
            re.match(VERDICT, verdict)[0]
            for _, claim, verdict in ledger_rows()
            if any(paper in claim for paper in papers)
        ]
        decided = block.partition("**Decided by:**")[2]
        assert sorted(re.findall(rf"\*({VERDICT})\*", decided)) == sorted(rows), block


def test_numbers_of_other_chapters_have_a_format():
    """``path::key`` alone is taken for a key and an empty format, and is not found."""
    pages = [path for path in LEDGER.parent.rglob("*") if path.suffix in {".md", ".ipynb"}]
    bare = [
        (path.name, role)
        for path in pages
        for role in re.findall(r"\{glue:text\}`[^`]*::[^`:]*`", path.read_text(encoding="utf-8"))
    ]
    assert len(pages) > 40 and bare == []
