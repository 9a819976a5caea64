"""What is said of pages to other sites, where the address of the book is known, and only there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXTENSIONS = Path(__file__).parents[1] / "_ext"
ADDRESS = "https://example.org/book/"


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
