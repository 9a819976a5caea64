"""Tasks: their laws, and how contexts share them."""

import numpy as np
import pytest

from iclkit.data.tasks import assign_tasks, draw_tasks


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
