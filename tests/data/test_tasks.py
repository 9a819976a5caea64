"""Tasks: their laws, and how contexts share them."""

import numpy as np
import pytest

from iclkit.data import laws
from iclkit.data.tasks import assign_tasks, draw_tasks

C = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_sphere_has_radius_root_d(rng):
    w = draw_tasks(500, 7, rng)
    assert w.shape == (500, 7)
    np.testing.assert_allclose(np.sum(w**2, axis=1), 7, rtol=1e-13)


@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
def test_tasks_are_isotropic(rng, prior):
    k, d = 40_000, 5
    w = draw_tasks(k, d, rng, prior=prior)
    np.testing.assert_allclose(w.mean(axis=0), 0, atol=4 / np.sqrt(k))
    # A product wᵢwⱼ has variance at most E wᵢ⁴ − 1 ≤ 2.
    np.testing.assert_allclose(w.T @ w / k, np.eye(d), atol=4 * np.sqrt(2 / k))


def test_gaussian_norms_fluctuate(rng):
    k, d = 40_000, 5
    norms = np.mean(draw_tasks(k, d, rng, prior="gaussian") ** 2, axis=1)
    assert norms.var() == pytest.approx(2 / d, rel=4 * np.sqrt(2 / k) * 2)


@pytest.mark.parametrize("prior", [None, "sphere", "gaussian"])
@pytest.mark.parametrize("tasks", [C, np.array([4.0, 1.0, 0.0])], ids=["matrix", "eigenvalues"])
def test_tasks_have_the_covariance_of_their_law(rng, tasks, prior):
    k = 100_000
    w = draw_tasks(k, 3, rng, prior=prior, tasks=tasks)
    expected = tasks if tasks.ndim == 2 else np.diag(tasks)
    products = np.einsum("ki,kj->kij", w, w)
    error = products.std(axis=0) / np.sqrt(k) + 1e-12
    assert np.max(np.abs(products.mean(axis=0) - expected) / error) < 4
    assert np.max(np.abs(w.mean(axis=0)) / (w.std(axis=0) / np.sqrt(k) + 1e-12)) < 4


def test_tasks_of_a_law_are_gaussian_unless_said(rng):
    with_law, standard = (
        draw_tasks(5, 3, np.random.default_rng(1), **law)
        for law in ({"tasks": [4.0, 1.0, 0.0]}, {"prior": "gaussian"})
    )
    np.testing.assert_array_equal(with_law, standard * [2.0, 1.0, 0.0])
    w = draw_tasks(5, 3, rng, prior="sphere", tasks=C)
    squares = np.sum(w * np.linalg.solve(C, w.T).T, axis=1)  # |u|² of w = C^½ u
    np.testing.assert_allclose(squares, 3, rtol=1e-12)


@pytest.mark.parametrize("tasks", ["isotropic", laws.isotropic(), np.eye(7), np.ones(7)])
@pytest.mark.parametrize("prior", ["sphere", "gaussian"])
def test_an_isotropic_law_changes_no_bit(prior, tasks):
    one, other = (
        draw_tasks(9, 7, np.random.default_rng(3), prior=prior, tasks=law) for law in (None, tasks)
    )
    np.testing.assert_array_equal(one, other)


def test_tasks_are_picked_from_a_list(rng):
    listed = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    w = draw_tasks(30_000, 2, rng, tasks=laws.vectors(listed))
    found, counts = np.unique(w, axis=0, return_counts=True)
    np.testing.assert_array_equal(found, listed[[1, 0, 2]])
    assert np.all(np.abs(counts - 10_000) < 4 * np.sqrt(30_000 * 2 / 9))


@pytest.mark.parametrize(
    ("word", "law"),
    [
        ("isotropic", laws.isotropic()), ("isotropic(2)", laws.isotropic(2.0)),
        ("power_law(0.5)", laws.power_law(0.5, 8)), ("low_rank(0.25)", laws.low_rank(0.25)),
        ("two_level(0.5, 0.1)", laws.two_level(0.5, 0.1)),
    ],
)  # fmt: skip
def test_a_word_is_a_law(word, law):
    one, other = (draw_tasks(4, 8, np.random.default_rng(0), tasks=law) for law in (word, law))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": "cube"}, "tasks must be a law, or in words isotropic, .* got 'cube'"),
        (
            {"tasks": "power_law"},
            "tasks must be a law, or in words .* got 'power_law': it has other",
        ),
        ({"tasks": "power_law(a)"}, r"got 'power_law\(a\)'"),
        ({"tasks": "power_law(nan)"}, r"got 'power_law\(nan\)': nu must be positive"),
        ({"tasks": "low_rank(2)"}, r"got 'low_rank\(2\)': share must be at most 1, got 2"),
        ({"tasks": np.eye(4)}, "tasks must be a law in d = 3 dimensions, got one in 4"),
        ({"tasks": laws.power_law(0.5, 9)}, "tasks must be a law in d = 3 dimensions, got one in"),
        ({"tasks": np.diag([1.0, -1.0, 1.0])}, "tasks must have eigenvalues of at least 0"),
        ({"tasks": [1.0, np.nan, 1.0]}, "tasks must be finite"),
        ({"tasks": laws.vectors(C), "prior": "sphere"}, "prior must be None for tasks that are pi"),
        ({"tasks": C, "prior": "cube"}, "prior must be one of sphere, gaussian, got 'cube'"),
    ],
)
def test_bad_laws(rng, change, message):
    with pytest.raises(ValueError, match=message):
        draw_tasks(2, 3, rng, **change)


def test_uniform_assignment_is_multinomial(rng):
    n, k = 100_000, 7
    counts = np.bincount(assign_tasks(n, k, rng), minlength=k)
    statistic = np.sum((counts - n / k) ** 2) / (n / k)
    assert counts.sum() == n and 0.2 < statistic < 25  # χ² with 6 degrees of freedom


@pytest.mark.parametrize(("n", "k"), [(12, 4), (14, 4), (3, 8), (5, 1)])
def test_balanced_assignment_is_even(rng, n, k):
    chosen = assign_tasks(n, k, rng, assignment="balanced")
    counts = np.bincount(chosen, minlength=k)
    assert counts.sum() == n and counts.max() - counts.min() == (n % k > 0)


def test_balanced_assignment_is_shuffled(rng):
    orders = {tuple(assign_tasks(6, 3, rng, assignment="balanced")) for _ in range(50)}
    assert len(orders) > 20  # of 90


@pytest.mark.parametrize("bad", [0, -3])
def test_bad_counts(rng, bad):
    for call in (lambda: draw_tasks(bad, 3, rng), lambda: assign_tasks(4, bad, rng)):
        with pytest.raises(ValueError, match=f"k must be an integer of at least 1, got {bad}"):
            call()
    with pytest.raises(ValueError, match="d must be"):
        draw_tasks(3, bad, rng)
    with pytest.raises(ValueError, match="n must be"):
        assign_tasks(bad, 3, rng)


def test_bad_types_and_words(rng):
    with pytest.raises(TypeError, match="k must be an integer, got 2.5"):
        draw_tasks(2.5, 3, rng)
    with pytest.raises(ValueError, match="k must be an integer of at least 1, got True"):
        draw_tasks(True, 3, rng)
    with pytest.raises(ValueError, match="prior must be one of sphere, gaussian, got 'cube'"):
        draw_tasks(2, 3, rng, prior="cube")
    with pytest.raises(ValueError, match="assignment must be one of uniform, balanced"):
        assign_tasks(2, 3, rng, assignment="fair")
