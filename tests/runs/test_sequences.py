"""Runs on correlated tokens: exact for their fits, and the iid ones where tokens are iid."""

import numpy as np
import pytest

from iclkit import backend
from iclkit.data import kernels
from iclkit.data.contexts import context_statistic, draw_contexts
from iclkit.fits.fit import fit_gamma
from iclkit.runs import correlated_tokens, linear_attention, sweep

POINT = {"d": 8, "tau": 2.0, "alpha": 2.0, "kappa": 0.5, "rho": 0.1, "lam": 0.1,
         "kernel": "exponential(3)", "query": "correlated"}  # fmt: skip
IID = POINT | {"kernel": "iid", "query": "independent"}


def in_means(one, other):
    """Do two samples have the same mean, within four standard errors?"""
    se = np.hypot(*(np.std(sample, ddof=1) / len(sample) ** 0.5 for sample in (one, other)))
    return abs(np.mean(one) - np.mean(other)) < 4 * se


def by_hand(seed, tests, *, d, tau, alpha, kappa, rho, lam, kernel, query):
    """All token by token, and tests on many contexts; tasks are those of a list of its own."""
    n, ell, k = round(tau * d**2), round(alpha * d), round(kappa * d)
    rng, streams = np.random.default_rng(seed), backend.streams(seed)

    def sphere(count):
        w = rng.standard_normal((count, d))
        return w * d**0.5 / np.linalg.norm(w, axis=1)[:, None]

    def drawn(w, own):
        found = draw_contexts(w, ell, rho, streams, kernel=own)
        return found.query, context_statistic(found.tokens, found.labels), found.target

    tasks = sphere(k)
    own = kernels.kernel(kernel, ell, query=query == "correlated")
    gamma = fit_gamma(*drawn(tasks[rng.integers(k, size=n)], own), lam).gamma
    errors = {}
    for name, w in {"icl": sphere(1000), "idg": tasks[rng.integers(k, size=1000)]}.items():
        for suffix, test in tests.items():
            x, h, y = drawn(w, own if test is None else test)
            missed = y - np.einsum("ni,ij,nj->n", x, gamma, h)
            errors[f"{name}_error{suffix}"] = np.mean(missed**2)
    return errors


@pytest.mark.parametrize("query", ["independent", "correlated"])
def test_errors_are_those_of_fits_and_tests_token_by_token(query):
    point = POINT | {"query": query}
    found = [correlated_tokens(seed, **point) for seed in range(150)]
    tests = {"": None, "_iid": np.eye(16), "_independent": kernels.kernel("exponential(3)", 16)}
    hand = [by_hand(1000 + seed, tests, **point) for seed in range(60)]
    for name in hand[0]:
        one, other = ([errors[name] for errors in some] for some in (found, hand))
        assert in_means(one, other), name


@pytest.mark.parametrize("kappa", [0.5, np.inf])
def test_iid_tokens_are_those_of_linear_attention(kappa):
    point = IID | {"kappa": kappa}
    others = {name: point[name] for name in ("d", "tau", "alpha", "kappa", "rho", "lam")}
    one = [correlated_tokens(seed, **point) for seed in range(150)]
    other = [linear_attention(1000 + seed, **others) for seed in range(150)]
    for name in ("icl_error", "idg_error"):
        mine = [errors[name] for errors in one]
        assert in_means(mine, [errors[name] for errors in other])
        for suffix in ("_iid", "_independent", "_test"):
            same = [errors[name + suffix] for errors in one]
            np.testing.assert_allclose(same, mine, rtol=1e-13)


def test_one_more_test_has_a_kernel_and_a_query_of_its_own():
    errors = correlated_tokens(0, **POINT, test_kernel="iid", test_query="independent")
    again = correlated_tokens(0, **POINT, test_query="independent")
    plain = correlated_tokens(0, **POINT)
    for name in ("icl_error", "idg_error"):
        assert errors[f"{name}_test"] == errors[f"{name}_iid"] != errors[name]
        assert again[f"{name}_test"] == again[f"{name}_independent"] != again[name]
        assert plain[f"{name}_test"] == plain[name] == errors[name]


def test_without_a_list_all_tasks_are_new():
    errors = correlated_tokens(0, **POINT | {"kappa": np.inf})
    for name in ("", "_independent", "_iid", "_test"):
        assert errors[f"icl_error{name}"] == errors[f"idg_error{name}"]


def test_sweeps_take_it():
    grid = POINT | {"kernel": ["iid", "ar(-0.5)"], "query": ["independent", "correlated"]}
    table = sweep(correlated_tokens, grid, seed=0, runs=(2, 2), workers=1)
    assert table["icl_error_independent"].sizes == {"kernel": 2, "query": 2}


@pytest.mark.parametrize(
    ("name", "value"),
    [("kernel", "cube"), ("kernel", None), ("kernel", "ar(2)"), ("test_kernel", "cube"),
     ("test_kernel", ""), ("query", None), ("query", "near"), ("test_query", True),
     ("test_query", ""), ("tau", 0.0), ("rho", np.nan), ("kappa", None)],
)  # fmt: skip
def test_bad_points_are_refused(name, value):
    with pytest.raises((TypeError, ValueError), match=rf"^{name} must"):
        correlated_tokens(0, **POINT | {name: value})
    with pytest.raises((TypeError, ValueError), match=rf"^{name} must"):
        correlated_tokens.check(**POINT | {name: value})
