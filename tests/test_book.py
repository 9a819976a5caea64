"""What chapters need of the book: data from a checkout or a package, values for the ledger."""

import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
import xarray as xr
from matplotlib.figure import Figure

from iclkit import book

ROOT = Path(__file__).parents[1]


def test_data_are_those_of_the_checkout():
    assert book.data() == ROOT / "book" / "data"
    assert book.data("published/lu2024-times.json").parts[-3:-1] == ("data", "published")
    with pytest.raises(FileNotFoundError, match=r"no data 'double\.nc', but these: .*descent\.nc"):
        book.data("double.nc")
    with pytest.raises(TypeError, match="name must be a string"):
        book.data(3)


def test_data_are_those_of_the_package_where_it_has_some(tmp_path):
    """As in the wheel; .ci/check-wheel has one that was built."""
    shutil.copytree(ROOT / "iclkit", tmp_path / "iclkit")
    stored = tmp_path / "iclkit" / "_stored"
    for folder in (stored, tmp_path / "book" / "data"):  # the second may belong to anybody
        folder.mkdir(parents=True)
    (stored / "some.nc").touch()
    code = "from iclkit import book; print(book.data('some.nc'))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == stored / "some.nc"


@pytest.fixture
def glued(monkeypatch):
    """What has been glued, by name, as if in a notebook."""
    kept = {}

    def keep(name, value, display):
        assert display is False
        kept[name] = value

    monkeypatch.setattr("myst_nb.glue", keep)
    monkeypatch.setattr("IPython.get_ipython", lambda: "a shell")
    return kept


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (2, 2), (2.5, 2.5), (True, True), ("text", "text"), (Fraction(1, 4), 0.25),
        (np.int64(5), 5), (np.uint8(5), 5), (np.float32(0.5), 0.5), (np.True_, True),
        (np.array(0.5), 0.5), (np.array(3), 3), (np.str_("text"), "text"),
        (jnp.array(0.5), 0.5), (jnp.array(7), 7),
        (xr.DataArray(1.5), 1.5), (xr.DataArray(4), 4),
        (sp.Integer(3), 3), (sp.Rational(1, 8), 0.125), (sp.Float(0.5), 0.5), (sp.sqrt(4), 2),
        (sp.pi, float(sp.pi)),
    ],
)  # fmt: skip
def test_numbers_of_every_library_are_kept_as_plain_ones(glued, value, plain):
    book.glue("key", value)
    assert glued == {"key": plain} and type(glued["key"]) is type(plain)


def test_figures_are_kept(glued):
    figure = Figure()
    book.glue("key", figure)
    assert glued["key"] is figure


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (float("nan"), ValueError, "finite"), (np.float64("inf"), ValueError, "finite"),
        (jnp.array(-jnp.inf), ValueError, "finite"), (sp.nan, ValueError, "finite"),
        (sp.oo, ValueError, "finite"), (xr.DataArray(np.nan), ValueError, "finite"),
        (np.ones(1), ValueError, "a single"), (jnp.ones((2, 2)), ValueError, "a single"),
        (xr.DataArray([1.0]), ValueError, "a single"), ([1.0], TypeError, "a number"),
        (sp.Matrix([1]), ValueError, "a single"), (xr.Dataset(), TypeError, "a number"),
        (None, TypeError, "a number"), (1j, TypeError, "a number"), ({}, TypeError, "a number"),
        (sp.Symbol("x"), TypeError, "a number"),
    ],
)  # fmt: skip
def test_what_no_page_could_show_is_refused_by_its_name(glued, value, error, said):
    with pytest.raises(error, match=f"the value of 'some-key' must be {said}"):
        book.glue("some-key", value)
    assert glued == {}


def test_names_are_strings(glued):
    with pytest.raises(TypeError, match="name must be a string"):
        book.glue(1.0, "name")


@pytest.mark.parametrize("missing", ["myst_nb", "IPython"])
def test_nothing_is_glued_where_there_is_no_book(monkeypatch, glued, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    book.glue("key", 1.0)
    assert glued == {}
    with pytest.raises(ValueError, match="finite"):  # the mistake is one there, too
        book.glue("key", np.nan)


def test_nothing_is_printed_outside_a_notebook(capsys):
    book.glue("key", 1.0)
    assert capsys.readouterr().out == ""


def test_table_outside_notebooks_is_text(capsys):
    columns = {"τ": [np.float64(0.5), 2], "model": ["linear", "x<y"], "z": [None, jnp.array(1.25)]}
    book.table(columns, "Two rows.", {"z": ".1f"})
    shown = ["Two rows.", "  τ   model    z", "0.5  linear    –", "  2     x<y  1.2"]
    assert capsys.readouterr().out.splitlines() == shown


def test_table_has_no_negative_zero(capsys):
    book.table({"z": [-0.0, -0.04, -0.06, 1e-9]}, "Small.", {"z": ".1f"})
    assert capsys.readouterr().out.split()[2:] == ["0.0", "0.0", "-0.1", "0.0"]


def test_table_in_a_notebook_is_html(monkeypatch):
    shown = []
    publisher = SimpleNamespace(publish=shown.append)
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(display_pub=publisher))
    book.table({"a<b": [1]}, "A & B")
    assert shown[0]["text/html"] == (
        '<table class="numbers"><caption>A &amp; B</caption>'
        "<tr><th>a&lt;b</th></tr><tr><td>1</td></tr></table>"
    )
    assert shown[0]["text/plain"].splitlines() == ["A & B", "a<b", "  1"]


@pytest.mark.parametrize(
    ("columns", "formats", "error", "message"),
    [
        ({"a": [1, 2], "b": [1]}, None, ValueError, r"of one length, .* got \{'a': 2, 'b': 1\}"),
        ({"a": []}, None, ValueError, "at least 1, got"),
        ({}, None, ValueError, "at least 1, got"),
        ({"a": [np.nan]}, None, ValueError, "column 'a' must be finite, got nan"),
        ({"a": [np.ones(2)]}, None, ValueError, "column 'a' must be a single one"),
        ({"a": [1]}, {"b": "g"}, ValueError, r"of columns \['a'\], got \['b'\]"),
        ([1], None, TypeError, "columns must be a mapping"),
    ],
)  # fmt: skip
def test_table_refuses(columns, formats, error, message):
    with pytest.raises(error, match=message):
        book.table(columns, "A caption.", formats)
