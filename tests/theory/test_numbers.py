"""Single numbers go their own way to the same answers as arrays."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iclkit.theory import effective_ridge, icl_error, idg_error, ridge_edge, stieltjes
from iclkit.theory._equivalent import _log_ridge_excess
from iclkit.theory._numbers import root, root_between, where, where_needed

INF = float("inf")
FUNCTIONS = (icl_error, idg_error, effective_ridge)
# The whole range, what people have, and the borders.
SIZES = st.floats(-75, 75).map(lambda z: min(max(10**z, 1e-75), 1e75)) | st.floats(1e-3, 1e3)
RATIOS = SIZES | st.sampled_from([1.0, 1 - 2**-53, 1 + 2**-52, 1e-75, 1e75, INF])
NOISE = SIZES | st.just(0.0)
POINT = {"tau": RATIOS, "alpha": RATIOS, "kappa": RATIOS, "rho": NOISE}
GOOD = {"tau": 0.5, "alpha": 1.0, "kappa": 1.0, "rho": 0.1, "lam": 0.1}


def as_array(function, point, **others):
    """What the array of points has there, beside another one."""
    return function(**{name: np.array([value, 1.0]) for name, value in point.items()}, **others)[0]


@settings(max_examples=100)
@given(point=st.fixed_dictionaries(POINT))
def test_a_number_without_ridge_is_the_element_of_an_array(point):
    for function in FUNCTIONS:
        assert function(**point) == as_array(function, point, lam=0.0)
    x, kappa = point["rho"], point["kappa"]
    assert stieltjes(x, kappa) == stieltjes([x, 1.0], kappa)[0]


@settings(max_examples=100)
@given(point=st.fixed_dictionaries(POINT), other=st.tuples(RATIOS, NOISE), lam=SIZES)
def test_a_number_with_ridge_is_the_element_of_an_array(point, other, lam):
    # The logarithm that is found has 16 digits, and is up to 350: so much is lost at the ends.
    close = {"rel": 1e-12, "abs": 0}
    point["lam"] = lam
    for function in FUNCTIONS:
        assert function(**point) == pytest.approx(as_array(function, point), **close)
    point |= {"alpha_test": other[0], "rho_test": other[1]}
    for function in FUNCTIONS[:2]:
        assert function(**point) == pytest.approx(as_array(function, point), **close)


@settings(max_examples=100)
@given(
    tau=st.floats(0.1, 10), alpha=st.floats(0.1, 100), kappa=st.floats(0.1, 10),
    rho=st.floats(0, 2), lam=st.floats(1e-8, 1e3),
)  # fmt: skip
def test_a_number_with_ridge_is_the_element_to_the_last_digits(tau, alpha, kappa, rho, lam):
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": max(rho, 1e-75) if rho else 0.0}
    point["lam"] = lam
    for function in FUNCTIONS:
        assert function(**point) == pytest.approx(as_array(function, point), rel=1e-14, abs=0)


@settings(max_examples=30)
@given(point=st.fixed_dictionaries(POINT), share=st.floats(1e-6, 0.999))
def test_a_number_below_zero_is_the_element_of_an_array(point, share):
    edge = ridge_edge(**point)
    assert edge == as_array(ridge_edge, point)
    point["lam"] = share * edge
    assume(1e-75 <= -point["lam"] <= 1e75)
    beside = {name: np.array([value, 0.5]) for name, value in point.items()}
    for function in FUNCTIONS:
        # Close to the edge, where errors diverge, digits of the ridge are lost.
        rel = 1e-12 / (1 - share)
        assert function(**point) == pytest.approx(function(**beside)[0], rel=rel, abs=0)


def test_all_kinds_of_numbers_are_the_same():
    kinds = (float, int, np.float64, np.int64, np.float32, np.uint8, np.array)
    for lam in (0, 1):
        for function in FUNCTIONS:
            found = [function(kind(2), kind(1), kind(3), kind(1), kind(lam)) for kind in kinds]
            assert {type(one) for one in found} == {np.float64} and len(set(found)) == 1
            assert function(rho=1, lam=lam, kappa=3, alpha=1, tau=2) == found[0]
    big = icl_error(2**63 - 1, 1, 1, 1)  # as NumPy has it, and beyond that it has none
    assert big == icl_error(2.0**63, 1, 1, 1) == icl_error(2**63, 1, 1, 1)


@pytest.mark.parametrize(
    "value",
    [
        np.nan, -INF, -1.0, -1, 0, 0.0, INF, 1e-76, -1e-76, 1.1e75, 5e-324, 10**30, True, np.True_,
        "1", None, 1j, np.longdouble(1), np.datetime64(1, "D"), np.ma.masked_array(0.5), [],
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_number_is_refused_as_an_array_is(value):
    one = value.reshape(1) if isinstance(value, np.ma.MaskedArray) else [value]

    def said(function, name, value):
        try:
            function(**(GOOD | {name: value}))
        except (TypeError, ValueError) as error:
            # Of what has no numbers, all is shown.
            text = str(error).split(", got")[0] if type(error) is TypeError else str(error)
            assert text.startswith(f"{name} must be ")
            return type(error), text
        return None

    for function in FUNCTIONS:
        for name in GOOD:
            assert said(function, name, value) == said(function, name, one)


def test_ridge_beyond_the_edge_is_refused_as_in_an_array():
    edge = ridge_edge(0.5, 1.0, 1.0, 0.1)
    for lam in (1.1 * edge, [1.1 * edge]):
        said = f"lam must be at least ridge_edge, there {edge}, got {1.1 * edge}"
        with pytest.raises(ValueError, match=re.escape(said)):
            icl_error(0.5, 1.0, 1.0, 0.1, lam)


# Its parts ----------------------------------------------------------------------------------------


def cubic(x, a):
    return x**3 - a


@pytest.mark.parametrize("a", [-1e9, -8.0, -1e-9, 0.0, 1e-30, 0.5, 8.0, 1e9])
def test_root_is_found_wherever_it_is(a):
    assert root(cubic, (a,)) == pytest.approx(np.cbrt(a), rel=1e-15, abs=1e-16)
    assert root(cubic, (np.array([a]),))[0] == pytest.approx(np.cbrt(a), rel=1e-15, abs=1e-16)


def test_root_is_found_among_rounding():
    """It is 1e-9, and is a difference of logarithms: what is below 1e-16 there is noise."""
    at = (1.0, 1.4009104690837347e-62, 1.3601827548680852e49, 949599373.0313506, 1.0)
    alone = root(_log_ridge_excess, tuple(map(np.float64, at)))
    assert alone == pytest.approx(root(_log_ridge_excess, tuple(np.array([at]).T))[0], abs=1e-15)
    assert 1e-10 < alone < 1e-8


def test_root_between_says_whether_there_is_one():
    x, found = root_between(cubic, (0.0, 1.0), (0.125,))
    assert found and x == pytest.approx(0.5, rel=1e-15)
    assert not root_between(cubic, (1.0, 2.0), (0.125,))[1]
    x, found = root_between(cubic, (0.0, 1.0), (np.array([0.125, 2.0]),))
    assert found.tolist() == [True, False] and x[0] == pytest.approx(0.5, rel=1e-15)


def test_choices_are_those_of_numpy():
    x = np.array([1.0, 2.0, 3.0])
    assert where(x > 2, x, -x).tolist() == [where(one > 2, one, -one) for one in x] == [-1, -2, 3]
    assert type(where(x[0] > 2, x[0], 1.0)) is np.float64


def test_needless_points_are_not_asked_for():
    asked = []

    def half(x):
        asked.append(x)
        return x / 2, x / 4

    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    a, b = where_needed(x > 2, half, (x,), (x, 0 * x))
    assert a.tolist() == [[1, 2], [1.5, 2]] and b.tolist() == [[0, 0], [0.75, 1]]
    assert asked.pop().tolist() == [3, 4]
    others = (x[0], x[0])
    assert where_needed(x[0] > 2, half, (x[0],), others) is others
    assert where_needed(x[0, 0] > 2, half, (x[0, 0],), (7.0, 8.0)) == (7.0, 8.0)
    assert not asked
    assert where_needed(x[1, 1] > 2, half, (x[1, 1],), (7.0, 8.0)) == (2.0, 1.0)
