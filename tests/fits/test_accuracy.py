"""Accuracy: what conjugate gradients foretell of themselves, on sampled features."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit.fits import accuracy, krylov

D = 16
FEATURES = D * (D + 1)
TWO = np.where(np.arange(D + 1) < D // 2, 0.2, 1.0)


def sampled(n, t, seed, noise=0.5):
    """Features of these variances, labels of a linear law, and the exact error of any Γ."""
    rng, variances = np.random.default_rng(seed), np.repeat(t, D)
    phi = rng.standard_normal((n, FEATURES)) * variances**0.5
    gamma = rng.standard_normal(FEATURES) / np.sqrt(np.sum(variances))
    y = phi @ gamma + noise * rng.standard_normal(n)
    return phi, y, lambda found: noise**2 + float(np.sum(variances * (found - gamma) ** 2))


def follow(phi, y, ridge, t, side):
    """Conjugate gradients: for each iteration the falls so far, the squares, and Γ."""
    n = len(y)
    root = 1.0 if side == "dual" else (n * np.repeat(t, D) + ridge) ** -0.5
    rows = phi if side == "dual" else phi * root
    path, falls = [], []

    def enough(_, z, size, fall):
        falls.append(fall)
        gamma = phi.T @ z if side == "dual" else root * z
        squares = z @ z if side == "dual" else np.sum((y - phi @ gamma) ** 2)
        path.append((tuple(falls), float(squares), gamma))
        return size < 1e-9

    if side == "dual":
        apply, rhs = lambda z: rows @ (rows.T @ z) + ridge * z, y
    else:
        apply = lambda z: rows.T @ (rows @ z) + ridge * root**2 * z  # noqa: E731
        rhs = rows.T @ y
    krylov.conjugate_gradients(apply, rhs, enough=enough, maxiter=400)
    return path


@pytest.mark.parametrize("t", [np.ones(D + 1), TWO], ids=["equal", "two"])
@pytest.mark.parametrize("ridge", [0.0, 30.0])
@pytest.mark.parametrize(("side", "n"), [("dual", 130), ("primal", 600)])
def test_conjugate_gradients_know_the_error_and_how_far_they_are(side, n, ridge, t):
    reach = accuracy.reach(side, t, D, n, ridge)
    for seed in range(3):
        phi, y, error = sampled(n, t, seed)
        path = follow(phi, y, ridge, t, side)
        end = path[-1][2]
        # What the squares tell is the error to its fluctuation, of relative order 1/√n.
        assert path[-1][1] / reach.share == pytest.approx(error(end), rel=4 * n**-0.5)
        missed = []
        for falls, squares, gamma in path[2:-4]:
            promised = reach.off(reach.distance(list(falls)), squares)
            missed.append(abs(error(gamma) / error(end) - 1) / promised)
        assert len(missed) > 5 and max(missed) < 1
        # Not a bound that is beyond all use.
        assert max(missed) > 0.02


def test_the_rate_is_that_of_the_falls():
    for side, n in (("dual", 130), ("primal", 600)):
        t = np.ones(D + 1)
        phi, y, _ = sampled(n, t, seed=5)
        falls = np.array(follow(phi, y, 0.0, t, side)[-1][0])
        seen = (falls[18] / falls[6]) ** (1 / 12)
        share = min(n / FEATURES, FEATURES / n)
        assert accuracy.reach(side, t, D, n).rate == pytest.approx(share, rel=0.02)
        assert seen == pytest.approx(share, rel=0.15)


@given(st.floats(1e-10, 0.1), st.floats(1e-8, 1e8), st.sampled_from(["dual", "primal"]))
def test_goal_and_off_are_inverse(wanted, squares, side):
    reach = accuracy.reach(side, TWO, D, 200 if side == "dual" else 500, 0.1)
    assert reach.off(reach.goal(squares, wanted), squares) == pytest.approx(wanted, rel=1e-9)
    assert reach.off(1.0, 0.0) == np.inf


def test_slower_falls_are_a_longer_way():
    reach = accuracy.reach("primal", np.ones(D + 1), D, 600)
    quick, slow, one = [1.0, 0.4, 0.16], [1.0, 0.9, 0.81], [1.0]
    assert reach.distance(slow) > reach.distance(quick)
    assert reach.distance(one) > reach.distance(quick)
    assert reach.distance([1.0, 2.0, 4.0]) > reach.distance([1.0, 1.0, 4.0 * reach.rate])
