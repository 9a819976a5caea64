"""Correlated tokens: exact errors against integrals and whole contexts, and what is no kernel."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import toeplitz

from iclkit import backend, data
from iclkit.data.contexts import context_statistic, draw_contexts
from iclkit.data.kernels import Correlation, correlated_error, correlation, kernel
from iclkit.data.moments import population_moments, prediction_error, task_moments
from iclkit.data.tasks import draw_tasks


def any_kernel(size, rng, query):
    """One that has nothing to do with a distance, with 1 for the query."""
    root = rng.standard_normal((size, size + 1))
    if query:
        root[-1] /= np.linalg.norm(root[-1])
    return root, root @ root.T


# In words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "over_lag"),
    [
        ("iid", lambda lag: float(lag == 0)),
        ("ar(-0.6)", lambda lag: (-0.6) ** lag),
        ("ar(1)", lambda lag: 1.0),
        ("exponential(2.5)", lambda lag: np.exp(-lag / 2.5)),
        ("power(0.8)", lambda lag: (1 + lag) ** -0.8),
    ],
)
def test_kernels_in_words(word, over_lag):
    found = kernel(word, 5, query=True)
    for i, j in itertools.product(range(6), repeat=2):
        assert found[i, j] == pytest.approx(over_lag(abs(i - j)), rel=1e-14)
    np.testing.assert_array_equal(kernel(word, 5), found[:5, :5])
    assert correlation(found, 5).t1 == 1


@pytest.mark.parametrize("word", ["cube", "ar", "ar()", "ar(1.1)", "ar(nan)", "ar(0.1, 2)", "ar(x)",
                                  "exponential(0)", "exponential(inf)", "power(-1)", "iid(1)", "",
                                  None, 3.0, ["iid"]])  # fmt: skip
def test_words_that_say_no_kernel(word):
    with pytest.raises(ValueError, match=r"^word must be iid, ar\(a\), exponential\(xi\) or power"):
        kernel(word, 5)


# Four numbers ---------------------------------------------------------------------------------


def test_four_numbers_of_an_autoregression():
    """Sums of geometric series, for a context that is much longer than its memory."""
    a, ell = 0.5, 2000
    found = correlation(toeplitz(a ** np.arange(ell + 1.0)), ell)
    assert found.t1 == 1
    assert found.t2 == pytest.approx((1 + a**2) / (1 - a**2), abs=4 / ell)
    assert found.k0 == pytest.approx(a**2 / (1 - a**2), rel=1e-12)
    assert found.k1 == pytest.approx(a**2 * (1 + a**2) / (1 - a**2) ** 2, rel=1e-12)


@given(seed=st.integers(0, 500), ell=st.integers(1, 6))
def test_four_numbers_are_sums_over_positions(seed, ell):
    _, K = any_kernel(ell + 1, np.random.default_rng(seed), query=True)
    positions = range(ell)
    t1 = sum(K[i, i] for i in positions) / ell
    t2 = sum(K[i, j] ** 2 for i in positions for j in positions) / ell
    k0 = sum(K[i, ell] ** 2 for i in positions)
    k1 = sum(K[i, ell] * K[i, j] * K[j, ell] for i in positions for j in positions)
    found = correlation(K, ell)
    np.testing.assert_allclose(found, (t1, t2, k0, k1), rtol=1e-12)
    assert found.t2 >= found.t1**2 * (1 - 1e-12) and found.k1 >= found.k0**2 * (1 - 1e-12)
    assert correlation(K[:ell, :ell], ell) == Correlation(*found[:2], 0.0, 0.0)


# Errors ---------------------------------------------------------------------------------------


def gauss(counts):
    """Nodes of independent standard normal numbers, each exact to degree 2 · count − 1."""
    rules = [np.polynomial.hermite_e.hermegauss(count) for count in counts]
    grids = (np.meshgrid(*(rule[i] for rule in rules), indexing="ij") for i in range(2))
    nodes, weights = (np.stack(grid).reshape(len(counts), -1).T for grid in grids)
    weights = np.prod(weights, axis=1)
    return nodes, weights / weights.sum()


@pytest.mark.parametrize("query", [True, False], ids=["correlated", "independent"])
@pytest.mark.parametrize("seed", range(4))
def test_errors_are_integrals(seed, query):
    """Over tokens and noise at d = ℓ = 2, with an exact rule for each; any diagonal of K."""
    d, ell, rng = 2, 2, np.random.default_rng(seed)
    root, K = any_kernel(ell + 1, rng, query=True)
    if not query:
        root[-1] = [0, 0, 0, 1]
        root[:-1, -1] = 0  # of the context alone, so that the query's is its own
        K = root[:ell] @ root[:ell].T
    root = np.linalg.cholesky(root @ root.T)  # of as many numbers as there are tokens
    gamma, w, rho = rng.standard_normal((d, d + 1)), rng.standard_normal((3, d)), 0.3
    z, weights = gauss([4] * (d * (ell + 1)) + [3] * ell)
    x = np.einsum("ij,njd->nid", root, z[:, :-ell].reshape(-1, ell + 1, d)) / d**0.5
    by_task = []
    for task in w:
        h = context_statistic(x[:, :ell], x[:, :ell] @ task + rho**0.5 * z[:, -ell:])
        missed = x[:, ell] @ task - np.einsum("ni,ij,nj->n", x[:, ell], gamma, h)
        by_task.append(rho + weights @ missed**2)
    found = [correlated_error(gamma, ell, rho, K, tasks=task[None]) for task in w]
    np.testing.assert_allclose(found, by_task, rtol=1e-12)
    assert correlated_error(gamma, ell, rho, K, tasks=w) == pytest.approx(np.mean(by_task))


@pytest.mark.parametrize("query", [True, False], ids=["correlated", "independent"])
def test_errors_are_those_of_whole_contexts(query):
    d, ell, rho, n = 4, 7, 0.2, 150_000
    K = kernel("ar(0.7)", ell, query=query)
    gamma = np.eye(d, d + 1) + 0.3 * np.random.default_rng(1).standard_normal((d, d + 1))
    for tasks in (None, draw_tasks(2, d, np.random.default_rng(2), prior="gaussian")):
        w = draw_tasks(n, d, np.random.default_rng(3)) if tasks is None else tasks[np.arange(n) % 2]
        drawn = draw_contexts(w, ell, rho, backend.streams(4), kernel=K)
        h = context_statistic(drawn.tokens, drawn.labels)
        squares = (drawn.target - np.einsum("ni,ij,nj->n", drawn.query, gamma, h)) ** 2
        exact = correlated_error(gamma, ell, rho, K, tasks=tasks)
        assert abs(squares.mean() - exact) < 4 * squares.std() / n**0.5


@given(seed=st.integers(0, 200), ell=st.integers(1, 6), d=st.integers(1, 5))
def test_an_independent_query_has_the_error_of_its_moments(seed, ell, d):
    rng = np.random.default_rng(seed)
    _, K = any_kernel(ell, rng, query=False)
    gamma, tasks = rng.standard_normal((d, d + 1)), rng.standard_normal((3, d))
    for w, moments in (
        (None, population_moments(d, ell, 0.3, kernel=K)),
        (tasks, task_moments(tasks, ell, 0.3, kernel=K)),
    ):
        found = correlated_error(gamma, ell, 0.3, K, tasks=w)
        assert found == pytest.approx(prediction_error(gamma, moments), rel=1e-11)


def test_new_tasks_are_many_tasks_of_the_sphere():
    """The mean over the sphere, by a rule in the angle that is exact."""
    angle = 2 * np.pi * np.arange(8) / 8
    circle = 2**0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    gamma, K = np.array([[0.4, -0.2, 0.1], [0.3, 0.9, -0.5]]), kernel("power(0.5)", 3, query=True)
    assert correlated_error(gamma, 3, 0.3, K) == pytest.approx(
        correlated_error(gamma, 3, 0.3, K, tasks=circle), rel=1e-13
    )


def test_it_keeps_to_the_library_of_its_arrays(xp):
    rng = np.random.default_rng(0)
    gamma, tasks, K = rng.standard_normal((3, 4)), rng.standard_normal((5, 3)), kernel("ar(.3)", 4)
    for w in (None, tasks):
        one = correlated_error(gamma, 4, 0.1, K, tasks=w)
        given = None if w is None else xp.asarray(w)
        other = correlated_error(xp.asarray(gamma), 4, 0.1, xp.asarray(K), tasks=given)
        assert one == pytest.approx(other, rel=1e-13)


def test_an_error_beyond_all_numbers_is_refused():
    huge = 1e75 * np.ones((2, 2))
    for gamma in (1e75, 1e-75):
        with pytest.raises(ValueError, match="^gamma, kernel and tasks must have an error below"):
            correlated_error(gamma * np.ones((2, 3)), 2, 0.1, 1e75 * np.eye(2), tasks=huge)


# Kernels that are none ------------------------------------------------------------------------

GOOD = kernel("exponential(2)", 3, query=True)
FAR = np.eye(4)  # the query is close to tokens that have nothing in common
FAR[:3, 3] = FAR[3, :3] = 0.7
TAKERS = {
    "correlation": lambda K: correlation(K, 3),
    "correlated_error": lambda K: correlated_error(np.eye(2, 3), 3, 0.1, K),
    "task_moments": lambda K: data.task_moments(np.ones((2, 2)), 3, 0.1, kernel=K),
    "population_moments": lambda K: data.population_moments(2, 3, 0.1, kernel=K),
    "conditional_moments": lambda K: data.conditional_moments(np.ones(2), 3, 0.1, kernel=K),
    "draw_contexts": lambda K: data.draw_contexts(
        np.ones((2, 2)), 3, 0.1, backend.streams(0), kernel=K
    ),
    "draw_statistics": lambda K: data.draw_statistics(
        np.ones((2, 2)), 3, 0.1, backend.streams(0), kernel=K
    ),
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.eye(5), r"kernel must have shape \(3, 3\), or \(4, 4\) with a query, for ell = 3, got"),
        (np.ones((3, 4)), r"kernel must have shape \(3, 3\), or"),
        (np.ones(3), r"kernel must have shape \(any, any\), got \(3,\)"),
        (np.where(np.eye(3) > 0, np.nan, 0), "kernel must be finite"),
        (np.triu(GOOD), "kernel must be symmetric"),
        (np.diag([1.0, 1, 1, 2]), "kernel must have 1 for its query, the last, got 2"),
        (np.diag([1.0, -1e-9, 1]), "kernel must be positive semidefinite"),
        (np.ones((3, 3)) - 1.001 * np.eye(3), "kernel must be positive semidefinite"),
        (FAR, "kernel must be positive semidefinite"),
        (1e-20 * np.diag([1.0, -1, 1]), "kernel must be positive semidefinite"),
        (1e-20 * np.triu(np.ones((3, 3))), "kernel must be symmetric"),
    ],
    ids=["size", "oblong", "row", "nan", "asymmetric", "query", "negative", "indefinite", "apart",
         "small and negative", "small and asymmetric"],
)  # fmt: skip
def test_bad_kernels_are_refused(take, bad, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        take(bad)


def test_rounding_is_no_fault():
    """A kernel of rank 1, and one whose halves differ in the last digit."""
    v = np.array([0.3, -1.7, 0.9, 1.0])
    assert correlation(np.outer(v, v), 3).k0 == pytest.approx(v[:3] @ v[:3])
    assert correlation(1e-20 * np.outer(v[:3], v[:3]), 3).t1 == pytest.approx(1e-20 * 3.79 / 3)
    last_digit = GOOD * (1 + 2e-16 * np.triu(np.ones((4, 4))))
    assert correlation(last_digit, 3) == pytest.approx(correlation(GOOD, 3), rel=1e-14)


def test_moments_lead_on_where_they_do_not_suffice():
    for name in ("task_moments", "population_moments", "conditional_moments"):
        with pytest.raises(ValueError, match=r"^kernel must .*see iclkit.data.correlated_error"):
            TAKERS[name](GOOD)
        TAKERS[name](np.eye(4))  # a row for an independent query says nothing else
