"""Errors from a list of tasks: the theory of a law where the list has it, and its law where not."""

import numpy as np
import pytest

from iclkit.data import laws
from iclkit.theory import _listed, icl_error, idg_error, optimal_ridge

RNG = np.random.default_rng(0)
ENDLESS = 10**15  # tasks, so many that R is C


def points(size=60, *, kappa=None):
    tau, alpha, rho, lam = np.exp(RNG.uniform(-2, 2, (4, size)))
    lam[::3] = 0
    kappa = np.exp(RNG.uniform(-2, 2, size)) if kappa is None else np.full(size, kappa)
    return _listed.Points(tau, alpha, kappa, rho, lam)


@pytest.mark.parametrize("kappa", [None, np.inf])
def test_endless_list_has_the_errors_of_its_law(kappa):
    values, new, at = RNG.gamma(4.0, size=50), RNG.gamma(4.0, size=50), points(kappa=kappa)
    law, other = laws.spectrum(values), laws.spectrum(new)
    icl, idg = _listed.errors(_listed.Listed(ENDLESS, values, None), at)
    np.testing.assert_allclose(icl, icl_error(*at, tasks=law), rtol=1e-11)
    np.testing.assert_allclose(idg, idg_error(*at, tasks=law), rtol=1e-11)
    listed = _listed.Listed(ENDLESS, values, new)
    expected = icl_error(*at, tasks=law, test_tasks=other)
    np.testing.assert_allclose(_listed.errors(listed, at)[0], expected, rtol=1e-11)
    for which, test in enumerate(("icl", "idg")):
        best = optimal_ridge(*at[:4], test=test, tasks=law)
        found = _listed.best_ridge(_listed.Listed(ENDLESS, values, None), at, which)
        np.testing.assert_allclose(found, best, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("share", [0.9, 1.0, 2.5])
def test_errors_on_the_list_are_those_of_its_own_covariance(share):
    """For the tasks of the list, R is no random matrix, and tasks of covariance R are endless."""
    k = round(80 * share)
    law = laws.vectors(RNG.standard_normal((k, 80)) * np.geomspace(1, 2, 80))
    at = points(kappa=k / 80)
    known = law._replace(vectors=None)
    expected = idg_error(*at._replace(kappa=np.full(at.kappa.shape, np.inf)), tasks=known)
    _, idg = _listed.errors(_listed.Listed(k, law.values, None), at)
    np.testing.assert_allclose(idg, expected, rtol=1e-10)
    itself = _listed.errors(_listed.Listed(k, law.values, law.values), at)
    np.testing.assert_allclose(itself, (expected, expected), rtol=1e-10)


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_list_of_isotropic_tasks_tells_of_any_number_of_them(share):
    """Its own law is twice as wide, and more, and nowhere estimated."""
    d = 300
    law = laws.vectors(RNG.standard_normal((round(share * d), d)))
    for kappa in (0.3, share, 5.0, np.inf):
        at = points(kappa=kappa)
        icl, idg = _listed.errors(_listed.Listed(round(share * d), law.values, None), at)
        known = np.isfinite(icl)
        assert known.all() or (share < 1 and kappa > share)
        assert known.mean() > 0.5
        # Linear statistics of R fluctuate by a few 1/d.
        for found, exact in ((icl, icl_error(*at)), (idg, idg_error(*at))):
            assert np.abs(found / exact - 1)[known].max() < 5 / d
        naive = icl_error(*at, tasks=law._replace(vectors=None))
        assert np.abs(naive / icl_error(*at) - 1).max() > 10 / d


def test_what_a_short_list_leaves_open_is_no_number():
    law = laws.vectors(RNG.standard_normal((20, 80)))
    at = _listed.Points(*(np.array([a]) for a in (2.0, 1e4, np.inf, 0.1, 0.0)))
    assert np.isnan(_listed.errors(_listed.Listed(20, law.values, None), at)).all()
    assert np.isnan(_listed.best_ridge(_listed.Listed(20, law.values, None), at, 0)).all()


def test_pole_is_one():
    at = _listed.Points(*(np.array([a]) for a in (1.0, 1.0, 1.0, 0.1, 0.0)))
    assert np.isinf(_listed.errors(_listed.Listed(20, np.ones(20), None), at)).all()
