"""Contexts that are drawn anew: blocks that follow from their number, and their law."""

import numpy as np
import pytest

from iclkit import backend
from iclkit.data import draw_statistics, population_moments, redrawn, task_moments

SIZES = {"n": 1000, "d": 6, "ell": 5, "rho": 0.3}


@pytest.mark.parametrize("k", [None, 4])
def test_a_block_is_the_same_whenever_it_is_drawn(k):
    contexts = redrawn(3, **SIZES, k=k, rows=300)
    assert contexts.blocks == 4
    forth = [contexts.block(number) for number in range(4)]
    back = [redrawn(3, **SIZES, k=k, rows=300).block(number) for number in (3, 2, 1, 0)][::-1]
    for one, other in zip(forth, back, strict=True):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert [part.y.size for part in forth] == [300, 300, 300, 100]
    numbers = np.concat([np.ravel(part) for block in forth for part in block])
    assert np.unique(numbers).size == numbers.size  # of 4 blocks, and of x, h and y in each
    other = redrawn(4, **SIZES, k=k, rows=300)
    assert not np.intersect1d(np.ravel(other.block(0).x), numbers).size
    if k is not None:
        assert contexts.tasks.shape == (4, 6) and (other.tasks != contexts.tasks).all()


@pytest.mark.parametrize("k", [None, 3])
def test_law_of_blocks_is_that_of_contexts(k):
    """Mean products with labels, and of statistics, within five standard errors."""
    contexts = redrawn(5, **(SIZES | {"n": 200_000}), k=k, rows=7001)
    if k is None:
        moments = population_moments(6, 5, 0.3)
    else:
        moments = task_moments(contexts.tasks, 5, 0.3)
    assert (moments.B == contexts.moments().B).all()
    x, h, y = (
        np.concat(part) for part in zip(*map(contexts.block, range(contexts.blocks)), strict=True)
    )
    for sample, mean in (
        (6 * y[:, None, None] * x[:, :, None] * h[:, None, :], moments.A),
        (h[:, :, None] * h[:, None, :], moments.B),
        (6 * x[:, :, None] * x[:, None, :], np.eye(6)),
        (y**2, moments.label_variance),
    ):
        error = sample.std(axis=0) / 200_000**0.5
        assert (abs(sample.mean(axis=0) - mean) < 5 * error).all()


def test_seeds_of_blocks_have_children_of_their_own():
    child = redrawn(backend.child_seed(1, 0), **SIZES)
    assert (child.block(0).x == redrawn(backend.child_seed(1, 0), **SIZES).block(0).x).all()
    assert (child.block(0).x != redrawn(1, **SIZES).block(0).x).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n must be"),
        ({"d": 2.5}, "d must be"),
        ({"ell": 0}, "ell must be"),
        ({"rho": np.nan}, "rho must be"),
        ({"k": 0}, "k must be"),
        ({"rows": 0}, "rows must be"),
        ({"xp": "numpy"}, "xp must be"),
    ],
)
def test_wrong_sizes_are_refused(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        redrawn(0, **(SIZES | change))


@pytest.mark.parametrize("number", [-1, 10, 0.5])
def test_blocks_that_are_not_there_are_refused(number):
    with pytest.raises((ValueError, TypeError), match="number must be"):
        redrawn(0, **SIZES, rows=100).block(number)


@pytest.mark.parametrize("tokens", [None, "power_law(0.5)"])
def test_tasks_by_number_are_those_of_a_copy_for_each_context(tokens):
    rng = np.random.default_rng(0)
    w, of = rng.standard_normal((4, 6)), rng.integers(0, 4, 50)
    long = draw_statistics(w[of], 5, 0.3, backend.streams(1), tokens=tokens)
    short = draw_statistics(w, 5, 0.3, backend.streams(1), of=of, tokens=tokens)
    assert all((a == b).all() for a, b in zip(long, short, strict=True))
    for wrong in (of + 1, of - 1, of / 2, of[None, :], of[:0], list(of)):
        with pytest.raises((ValueError, TypeError), match="of must"):
            draw_statistics(w, 5, 0.3, backend.streams(1), of=wrong)
