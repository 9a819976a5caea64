import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import zeta

from iclkit.data import laws
from iclkit.theory.limit import icl_error, idg_error

spectra = st.lists(st.floats(0.01, 10), min_size=1, max_size=6)
sizes = st.integers(1, 40)


@given(spectra, sizes)
def test_eigenvalues_of_a_size_keep_the_mean(values, d):
    law = laws.spectrum(values)
    found = laws.eigenvalues(law, d)
    assert found.shape == (d,) and found.mean() == pytest.approx(np.mean(values), rel=1e-12)
    assert found.min() >= min(values) * (1 - 1e-12) and found.max() <= max(values) * (1 + 1e-12)
    whole = laws.eigenvalues(law, d * len(values))
    np.testing.assert_array_equal(whole, np.repeat(values, d))


@given(st.integers(1, 5), st.integers(0, 1000))
def test_covariance_and_its_matrix_are_the_same(d, seed):
    factor = np.random.default_rng(seed).standard_normal((d, d + 2))
    C = factor @ factor.T
    np.testing.assert_allclose(laws.matrix(laws.covariance(C), d), C, rtol=0, atol=1e-12)
    vectors = laws.vectors(factor.T * (d + 2) ** 0.5)
    np.testing.assert_allclose(laws.matrix(vectors, d), C, rtol=0, atol=1e-12)


@pytest.mark.parametrize("unit", [1e-70, 1.0, 1e70])
def test_vectors_in_any_units(unit):
    w = np.random.default_rng(0).standard_normal((30, 4))
    if unit == 1.0:
        assert laws.vectors(w).values == pytest.approx(np.linalg.eigvalsh(w.T @ w / 30), rel=1e-12)
        return
    with pytest.raises(ValueError, match="tasks must have a mean eigenvalue"):
        laws.vectors(unit * w)
    scaled = laws.vectors(unit**0.5 * w).values
    assert scaled == pytest.approx(unit * laws.vectors(w).values, rel=1e-12)


def test_named_laws_have_mean_one():
    for law in (
        laws.isotropic(), laws.power_law(0.7, 50), laws.low_rank(0.3), laws.low_rank(1.0),
        laws.two_level(0.2, 0.4), laws.two_level(0.3, 1.0),
    ):  # fmt: skip
        assert law.weights @ law.values == pytest.approx(1, rel=1e-12)
        assert law.weights.sum() == pytest.approx(1, rel=1e-12)


def test_what_stands_for_a_law():
    matrix = np.array([[2.0, 1.0], [1.0, 2.0]])
    for value in (matrix, laws.covariance(matrix)):
        np.testing.assert_allclose(laws.matrix(laws.as_law("tasks", value), 2), matrix, atol=1e-15)
    for value in ([1.0, 3.0], np.array([1.0, 3.0]), ([1.0, 3.0], [2.0, 2.0])):
        law = laws.as_law("tasks", value)
        assert law.values.tolist() == [1.0, 3.0] and law.weights.tolist() == [0.5, 0.5]
    assert laws.as_law("tasks", np.ones(19)).d is None  # levels
    assert laws.as_law("tasks", np.ones(20)).d == 20


POINT = {"tau": 2.0, "alpha": 1.0, "kappa": 1.0, "rho": 0.1}


@pytest.mark.parametrize(
    ("law", "few"),
    [
        (laws.power_law(1.5, 10**6), True),
        (laws.power_law(0.8, 100), False),
        (laws.power_law(0.8, 100)[:2], False),
        (np.arange(1.0, 101) ** -1.5, True),
        (np.repeat([1.0, 0.0], [5, 95]), True),
        (np.repeat([1.0, 0.0], [25, 75]), False),
        (([1.0, 0.0], [0.05, 0.95]), False),
        (np.diag(np.arange(1.0, 101) ** -1.5), True),
        ([1.0, 0.0], False),
    ],
)
def test_few_directions_are_told(law, few, recwarn):
    icl_error(**POINT, tasks=law)
    assert [w.category for w in recwarn] == [laws.FewDirectionsWarning] * few
    assert [w.filename for w in recwarn] == [__file__] * few


@pytest.mark.filterwarnings("ignore:the term of order")
@pytest.mark.parametrize("error", [icl_error, idg_error])
@pytest.mark.parametrize(
    ("law", "d", "few"),
    [
        (laws.low_rank(0.25), 40, True),
        (laws.low_rank(0.25), [400, 40], True),
        (laws.low_rank(0.25), 400, False),
        ([2.0, 1.0], 16, False),  # a small dimension, as with the next two
        (laws.isotropic(), 16, False),
        (laws.power_law(0.5, 16), 16, False),
        (laws.power_law(1.5, 16), 16, True),
        (([1.0, 0.0], [0.5, 0.5]), 60, False),
        (np.repeat([1.0, 0.0], [5, 95]), 100, True),
    ],
)
def test_few_directions_are_told_at_a_dimension(law, d, few, error, recwarn):
    error(**POINT, tasks=law, d=d)
    told = [w for w in recwarn if w.category is laws.FewDirectionsWarning]
    assert [w.filename for w in told] == [__file__] * few


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: laws.isotropic(0.0), ValueError, "variance must be positive"),
        (lambda: laws.low_rank(1.5), ValueError, "share must be at most 1, got 1.5"),
        (lambda: laws.two_level(0.5, -0.1), ValueError, "low must be between 0"),
        (lambda: laws.two_level(0.5, 1.1), ValueError, "low must be at most 1, got 1.1"),
        (lambda: laws.power_law(0.0, 3), ValueError, "nu must be positive"),
        (lambda: laws.power_law(np.inf, 3), ValueError, "nu must be positive and finite"),
        (lambda: laws.power_law(1.0, 0), ValueError, "d must be an integer of at least 1"),
        (lambda: laws.spectrum([1.0, np.nan]), ValueError, "values must be finite"),
        (lambda: laws.spectrum([1.0], [1.0, 2.0]), ValueError, r"weights must have shape \(1,\)"),
        (lambda: laws.covariance(np.ones((2, 3))), ValueError, "matrix must be .* not symmetric"),
        (lambda: laws.covariance(-np.eye(2)), ValueError, "matrix must have eigenvalues"),
        (lambda: laws.vectors(np.zeros((3, 2))), ValueError, "tasks must have a positive eigenv"),
        (lambda: laws.vectors([1.0, 2.0]), ValueError, "tasks must have shape"),
        (lambda: laws.eigenvalues(laws.covariance(np.eye(2)), 3), ValueError, "d must be 2"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


# A power law ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::iclkit.data.laws.FewDirectionsWarning")
@pytest.mark.parametrize("d", [1, 7, 3000, 3001, 20_000])
def test_power_law_in_bins(d):
    spectrum, weights = laws.power_law(1.5, d)[:2]
    assert weights.sum() == pytest.approx(1, rel=1e-12)
    assert weights @ spectrum == pytest.approx(1, rel=1e-12)
    plain = np.arange(1.0, d + 1) ** -1.5
    plain /= plain.mean()
    assert spectrum[0] == pytest.approx(plain[0], rel=1e-6)
    point = {"tau": 0.5, "alpha": 1.0, "kappa": 0.5, "rho": 0.1}
    expected = icl_error(tasks=plain, **point)
    assert icl_error(tasks=(spectrum, weights), **point) == pytest.approx(expected, rel=1e-6)


def test_power_law_of_many_directions():
    spectrum, weights = laws.power_law(2.0, 10**7)[:2]
    assert spectrum.size < 5000
    assert spectrum[0] == pytest.approx(1e7 / zeta(2.0), rel=1e-6)
