"""What the extension of the reference makes of a docstring; test_site has what a build makes."""

from pathlib import Path

import pytest

from iclkit.data import moments
from iclkit.fits import fit


@pytest.fixture
def link(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "_ext")
    import reference

    def linked(obj, text, what="function", name=""):
        lines = text.split("\n")
        reference.link(None, what, name, obj, None, lines)
        return "\n".join(lines)

    return linked


def test_labels_lead_to_equations_and_the_book_to_chapters(link):
    text = "E[|w|²] = d. Source: eq-a and\nthm-b-c (see lem-d) in the\nbook; the book, and the-eq."
    assert link(fit.fit_gamma, text) == (
        "E[\\|w\\|²] = d. Source: :eq:`eq-a` and\n:prf:ref:`thm-b-c` (see :prf:ref:`lem-d`) in "
        ":chapter:`eq-a,thm-b-c,lem-d`; the book, and the-eq."
    )


def test_names_are_looked_up_where_the_docstring_is(link):
    text = "`Fit.residual` of `fit_gamma`, not `draw_tasks`, `np`, ``Fit`` or :x:`Fit`"
    assert link(fit.fit_gamma_path, text) == (
        ":py:obj:`Fit.residual <iclkit.fits.Fit.residual>` of "
        ":py:obj:`fit_gamma <iclkit.fits.fit_gamma>`, "
        "not `draw_tasks`, `np`, ``Fit`` or :x:`Fit`"
    )


def test_types_lead_somewhere_and_parameters_are_no_names_of_the_package(link):
    text = """
Parameters
----------
task_moments, xp : Moments or {"a", "b"}
    Not `task_moments`, but `optimal_gamma`.

Returns
-------
numpy.ndarray of shape (d,)

Examples
--------
>>> 1 | 2
3"""
    assert link(moments.prediction_error, text) == (
        text.replace(" Moments ", " :py:obj:`Moments <iclkit.data.Moments>` ")
        .replace('"a", "b"', '``"a"``, ``"b"``')
        .replace("`optimal_gamma`", ":py:obj:`optimal_gamma <iclkit.data.optimal_gamma>`")
        .replace("numpy.ndarray", ":py:obj:`numpy.ndarray <numpy.ndarray>`")
    )


def test_module_lists_what_it_has(link):
    from iclkit import fits

    shown = link(fits, "", "module", "iclkit.fits").split()
    assert shown[:3] == ["..", "autosummary::", ":nosignatures:"]
    assert sorted(shown[3:]) == sorted(fits.__all__)
