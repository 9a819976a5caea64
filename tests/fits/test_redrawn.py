"""A fit to contexts that are drawn anew, beside the fit to the same contexts held in memory."""

import warnings

import numpy as np
import pytest

from iclkit.data import redrawn
from iclkit.fits import ConvergenceWarning, fit_gamma, fit_redrawn, solvers
from iclkit.fits import redrawn as module


def held(contexts):
    return [
        np.concat(part) for part in zip(*map(contexts.block, range(contexts.blocks)), strict=True)
    ]


def contexts_at(n, d=30, k=30, rows=256):
    return redrawn(1, n=n, d=d, ell=d, rho=0.1, k=k, rows=rows)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "lam"), [(2000, 0.0), (2000, 0.1), (450, 0.0), (450, 0.1)])
def test_fit_is_that_of_the_same_contexts_held(n, lam, dtype):
    contexts = contexts_at(n)
    found = fit_redrawn(contexts, lam, dtype=dtype)
    exact = fit_gamma(*held(contexts), lam, solver="dual" if n < 930 else "primal")
    assert found.residual < 1e-5 and found.solver == "redrawn-cg"
    assert abs(found.gamma - exact.gamma).max() < 2e-4 * abs(exact.gamma).max()
    moments = contexts.moments()
    assert abs(found.error(moments) / exact.error(moments) - 1) < 1e-5


def test_fresh_tasks_and_a_last_block_of_one_context():
    contexts = redrawn(2, n=1801, d=20, ell=10, rho=0.1, rows=100)
    exact = fit_gamma(*held(contexts), solver="primal")
    found = fit_redrawn(contexts, dtype="float64", rtol=1e-9)
    assert abs(found.gamma - exact.gamma).max() < 1e-6 * abs(exact.gamma).max()


def test_residual_is_that_of_the_whitened_gradient():
    """From float64 and the data, though directions are weighed by moments of another origin."""
    contexts = contexts_at(2000)
    x, h, y = held(contexts)
    found = fit_redrawn(contexts, rtol=1e-4)
    B = contexts.moments().B
    whiten = np.linalg.inv(np.linalg.cholesky(B)).T
    left = y - np.vecdot(x @ found.gamma, h)
    norms = [np.linalg.norm((x * r[:, None]).T @ h @ whiten) for r in (left, y)]
    assert 1e-5 < found.residual < 1e-4
    np.testing.assert_allclose(norms[0] / norms[1], found.residual, rtol=0.05)


@pytest.mark.parametrize("n", [450, 2000])
def test_result_does_not_depend_on_workers(n):
    one, three = (fit_redrawn(contexts_at(n, rows=50), workers=workers) for workers in (1, 3))
    assert (one.gamma == three.gamma).all() and one.residual == three.residual


def test_least_norm_below_the_threshold():
    contexts = contexts_at(450)
    x, h, y = held(contexts)
    gamma = fit_redrawn(contexts, dtype="float64", rtol=1e-9).gamma
    assert abs(np.vecdot(x @ gamma, h) - y).max() < 1e-6
    phi = (x[:, :, None] * h[:, None, :]).reshape(450, -1)
    np.testing.assert_allclose(gamma.ravel(), np.linalg.pinv(phi) @ y, atol=1e-6)


def test_a_tolerance_that_rounding_does_not_allow_is_told():
    with pytest.warns(ConvergenceWarning, match="redrawn-cg has reached a residual"):
        found = fit_redrawn(contexts_at(2000), rtol=1e-12)
    assert 1e-12 < found.residual < 1e-6


class Interrupted(Exception):
    pass


def test_an_interrupted_fit_goes_on_where_it_was(tmp_path, monkeypatch):
    contexts, folder, counted, real = contexts_at(2000), tmp_path / "new", [], module._total

    def total(*arguments):
        if len(counted) == 7:
            raise Interrupted
        counted.append(1)
        return real(*arguments)

    whole = fit_redrawn(contexts, 0.1)
    monkeypatch.setattr(module, "_total", total)
    with pytest.raises(Interrupted):
        fit_redrawn(contexts, 0.1, folder=folder)
    with pytest.raises(ValueError, match="folder must be empty, new, or that of the same fit"):
        fit_redrawn(contexts, 0.2, folder=folder)
    (folder / "pass-7.new").write_bytes(b"half")  # as if killed while writing
    counted.clear()
    monkeypatch.setattr(module, "_total", lambda *arguments: counted.append(1) or real(*arguments))
    again = fit_redrawn(contexts, 0.1, folder=folder)
    assert (again.gamma == whole.gamma).all() and again.residual == whole.residual
    assert len(counted) == whole.iterations + 2 - 7
    assert not folder.exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match="folder must be"):
        fit_redrawn(contexts_at(450), folder=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_other_tasks_are_another_fit(tmp_path, monkeypatch):
    contexts, real, counted = contexts_at(2000), module._total, []

    def total(*arguments):
        counted.append(1)
        if len(counted) == 4:
            raise Interrupted
        return real(*arguments)

    monkeypatch.setattr(module, "_total", total)
    with pytest.raises(Interrupted):
        fit_redrawn(contexts, folder=tmp_path)
    with pytest.raises(ValueError, match="folder must be"):
        fit_redrawn(contexts._replace(tasks=contexts.tasks[::-1].copy()), folder=tmp_path)
    assert fit_redrawn(contexts, folder=tmp_path).residual < 1e-5
    assert len(counted) > 4 and not tmp_path.exists()


def test_one_fit_works_in_a_folder(tmp_path, monkeypatch):
    contexts, real, said = contexts_at(450), module._total, []

    def total(*arguments):
        if not said:
            said.append("")
            with pytest.raises(RuntimeError, match="another fit is working in") as caught:
                fit_redrawn(contexts, folder=tmp_path)
            said[0] = str(caught.value)
        return real(*arguments)

    monkeypatch.setattr(module, "_total", total)
    assert fit_redrawn(contexts, folder=tmp_path).residual < 1e-5
    assert str(tmp_path) in said[0] and not tmp_path.exists()


def test_a_file_of_somebody_else_costs_no_fit(tmp_path, monkeypatch):
    contexts, real = contexts_at(450), module._total

    def total(*arguments):
        (tmp_path / "notes.txt").write_text("one more pass")
        return real(*arguments)

    monkeypatch.setattr(module, "_total", total)
    assert fit_redrawn(contexts, folder=tmp_path).residual < 1e-5
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(("d", "n"), [(1, 1), (1, 3), (3, 5), (3, 40)])
def test_one_task_without_noise_in_the_longest_contexts(d, n):
    contexts = redrawn(0, n=n, d=d, ell=2**53, rho=0.0, k=1)
    found = fit_redrawn(contexts, 1e-3, dtype="float64", rtol=1e-8)
    x, h, y = held(contexts)
    assert abs(found.gamma - fit_gamma(x, h, y, 1e-3).gamma).max() < 1e-5 * abs(found.gamma).max()


def test_labels_of_zero_are_fitted_by_zero(monkeypatch):
    contexts = contexts_at(450)
    real = type(contexts).block

    def silent(self, number):
        return real(self, number)._replace(y=np.zeros(real(self, number).y.size))

    monkeypatch.setattr(type(contexts), "block", silent)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit_redrawn(contexts)
    assert not found.gamma.any() and found.residual == 0 and found.iterations == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contexts": (1, 2)}, "contexts must be"),
        ({"lam": -0.1}, "lam must be"),
        ({"lam": np.nan}, "lam must be"),
        ({"dtype": "float16"}, "dtype must be"),
        ({"rtol": 0.5}, "rtol must be"),
        ({"workers": 0}, "workers must be"),
        ({"folder": 3}, "folder must be"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit_redrawn(**({"contexts": contexts_at(450)} | change))


@pytest.mark.parametrize("n", [450, 2000])
def test_large_data_are_cast_block_by_block_to_the_same_end(n, monkeypatch):
    data, solver = held(contexts_at(n)), "dual-cg" if n < 930 else "primal-cg"
    copied = fit_gamma(*data, solver=solver, dtype="float32", rtol=1e-5)
    monkeypatch.setattr(solvers, "_COPIED", 0)
    cast = fit_gamma(*data, solver=solver, dtype="float32", rtol=1e-5)
    assert cast.residual < 1e-5
    assert abs(cast.gamma - copied.gamma).max() < 2e-4 * abs(copied.gamma).max()
