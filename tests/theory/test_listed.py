"""Errors from a list of tasks: the theory of a law where the list has it, and its law where not."""

import numpy as np
import pytest

from iclkit.data import laws
from iclkit.theory import _listed, icl_error, idg_error, optimal_ridge

RNG = np.random.default_rng(0)
ENDLESS = 10**15  # tasks, so many that R is C


def listed(w, new=None):
    law = laws.vectors(w)
    return _listed.Listed(
        len(w), law.values, ((w if new is None else new) @ law.basis) ** 2, new is None
    )


def of_covariance(values, new=None):
    """A list so long that its covariance is that of its law, tested on a covariance."""
    return _listed.Listed(ENDLESS, values, np.atleast_2d(values if new is None else new), False)


def points(size=60, *, kappa=None):
    tau, alpha, rho, lam = np.exp(RNG.uniform(-2, 2, (4, size)))
    lam[::3] = 0
    kappa = np.exp(RNG.uniform(-2, 2, size)) if kappa is None else np.full(size, kappa)
    return _listed.Points(tau, alpha, kappa, rho, lam)


@pytest.mark.parametrize("kappa", [None, np.inf])
def test_endless_list_has_the_errors_of_its_law(kappa):
    values, new, at = RNG.gamma(4.0, size=50), RNG.gamma(4.0, size=50), points(kappa=kappa)
    law, other = laws.spectrum(values), laws.spectrum(new)
    icl, idg, _ = _listed.errors(of_covariance(values), at)
    np.testing.assert_allclose(icl, icl_error(*at, tasks=law), rtol=1e-11)
    np.testing.assert_allclose(idg, idg_error(*at, tasks=law), rtol=1e-11)
    expected = icl_error(*at, tasks=law, test_tasks=other)
    np.testing.assert_allclose(
        _listed.errors(of_covariance(values, new), at)[0], expected, rtol=1e-11
    )
    for which, test in enumerate(("icl", "idg")):
        best = optimal_ridge(*at[:4], test=test, tasks=law)
        found = _listed.best_ridge(of_covariance(values), at, which)
        np.testing.assert_allclose(found, best, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("share", [0.9, 1.0, 2.5])
def test_errors_on_the_list_are_those_of_its_own_covariance(share):
    """For the tasks of the list, R is no random matrix, and tasks of covariance R are endless."""
    k = round(80 * share)
    w = RNG.standard_normal((k, 80)) * np.geomspace(1, 2, 80)
    at = points(kappa=k / 80)
    known = laws.vectors(w)._replace(vectors=None)
    expected = idg_error(*at._replace(kappa=np.full(at.kappa.shape, np.inf)), tasks=known)
    icl, idg, se = _listed.errors(listed(w), at)
    np.testing.assert_allclose(idg, expected, rtol=1e-10)
    assert (icl > idg).all() and (se > 0).all()
    itself = _listed.errors(listed(w, w), at)[:2]
    np.testing.assert_allclose(itself, (expected, expected), rtol=1e-10)


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_list_of_isotropic_tasks_tells_of_any_number_of_them(share):
    """Its own law is twice as wide, and more, and nowhere estimated."""
    d = 300
    w = RNG.standard_normal((round(share * d), d))
    law = laws.vectors(w)
    for kappa in (0.3, share, 5.0, np.inf):
        at = points(kappa=kappa)
        icl, idg, _ = _listed.errors(listed(w), at)
        known = np.isfinite(icl)
        assert known.all() or (share < 1 and kappa > share)
        assert known.mean() > 0.5
        # Linear statistics of R fluctuate by a few 1/d.
        for found, exact in ((icl, icl_error(*at)), (idg, idg_error(*at))):
            assert np.abs(found / exact - 1)[known].max() < 5 / d
        naive = icl_error(*at, tasks=law._replace(vectors=None))
        assert np.abs(naive / icl_error(*at) - 1).max() > 10 / d


def test_what_a_short_list_leaves_open_is_no_number():
    short = listed(RNG.standard_normal((20, 80)))
    at = _listed.Points(*(np.array([a]) for a in (2.0, 1e4, np.inf, 0.1, 0.0)))
    assert np.isnan(_listed.errors(short, at)).all()
    assert np.isnan(_listed.best_ridge(short, at, 0)).all()


def test_pole_is_one():
    at = _listed.Points(*(np.array([a]) for a in (1.0, 1.0, 1.0, 0.1, 0.0)))
    alike = _listed.Listed(20, np.ones(20), np.ones((5, 20)), False)
    assert np.isinf(_listed.errors(alike, at)).all()


@pytest.mark.parametrize("kappa", [0.4, 2.0, np.inf])
def test_each_task_is_new_to_the_rest_of_the_list(kappa):
    """The sums over tasks that are left out are those of as many lists, each without one."""
    w = RNG.standard_normal((60, 30)) * np.geomspace(0.5, 2, 60)[:, None]
    at, x0 = points(20, kappa=kappa), RNG.uniform(0.2, 3.0, 20)
    whole = listed(w)
    t = _listed._traces(whole, at.kappa, x0)
    a, da = _listed._alignments(whole, x0, t)
    step = 1e-6
    ahead = _listed._traces(whole, at.kappa, x0 + step)
    slope = (_listed._alignments(whole, x0 + step, ahead)[0] - a) / (ahead.x - t.x)[:, None]
    np.testing.assert_allclose(da, slope, rtol=1e-4)
    for j in (0, 59):
        rest = np.delete(w, j, axis=0)
        R = rest.T @ rest / 60
        for i, x in enumerate(x0):
            alone = w[j] @ np.linalg.solve(R + x * np.eye(30), w[j]) / 30
            assert abs(a[i, j] * t.ratio[i] / alone - 1) < 1e-10


@pytest.mark.parametrize("share", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("lengths", [False, True])
def test_lists_scatter_as_they_say(share, lengths):
    """About what their own tasks do on new ones of the law, of one length or of several."""
    d, rng = 40, np.random.default_rng(1)
    at = _listed.Points(*(np.array([a]) for a in (2.0, 2.0, share, 0.1, 0.1)))
    z = []
    for _ in range(200):
        w = rng.standard_normal((round(share * d), d))
        w *= np.sqrt(rng.gamma(2.0, 0.5, (len(w), 1))) if lengths else 1.0
        (found,), _, (se,) = _listed.errors(listed(w), at)
        isotropic = listed(w)._replace(squares=np.ones((1, d)), left_out=False)
        (exact,), *_ = _listed.errors(isotropic, at)
        z.append((found - exact) / se)
    assert abs(np.mean(z)) < 0.6 and 0.85 < np.std(z) < 1.45
