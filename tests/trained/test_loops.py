"""Training through the loop: what it measures is right, and its descent goes down on its loss."""

import numpy as np
import pytest

from iclkit import backend, data
from iclkit.trained import loops
from iclkit.trained.loops import trained_loop

POINT = {"d": 4, "tau": 4.0, "alpha": 3.0, "rho": 0.1, "depth": 2, "looks": 2}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("depth", 0, "depth must be"),
        ("lam", -0.1, "lam must be"),
        ("start", "best", "start must be one of zero, once, got 'best'"),
        ("looks", 0, "looks must be"),
        ("tau", 1e-3, r"tau must be finite with n = tau \* d\*\*2 of at least 1"),
    ],
)
def test_bad_point_is_refused_before_it_is_computed(name, value, message):
    with pytest.raises(ValueError, match=message):
        trained_loop.check(**POINT | {name: value})


def test_error_is_that_of_token_by_token_loops():
    """Against drawn tasks and labels, in standard errors."""
    d, ell, rho, depth, n = 3, 7, 0.3, 3, 40_000
    rng = np.random.default_rng(0)
    gamma = 0.5 * np.eye(d) + 0.1 * rng.standard_normal((d, d))
    streams = backend.streams(1)
    w = data.draw_tasks(n, d, streams.tasks, prior="gaussian")
    X, y, _, _ = data.draw_contexts(w, ell, rho, streams)
    found = np.zeros_like(w)
    for _ in range(depth):
        left = y - np.einsum("nld,nd->nl", X, found)
        found = found + d / ell * np.einsum("nl,nld->nd", left, X) @ gamma.T
    squares = np.sum((found - w) ** 2, axis=1) / d + rho
    with loops.jax.enable_x64(True):
        exact = float(loops._error(depth, gamma, loops._covariances(X), rho, ell))
    assert abs(squares.mean() - exact) < 4 * squares.std() / n**0.5
    assert squares.std() / n**0.5 < 0.02 * exact


def test_one_application_ends_at_the_fit():
    """With L = 1 and a ridge, the loss has one minimum, and both ways of training end there."""
    point = POINT | {"depth": 1, "looks": 200}
    lam = float(loops.optimal_ridge(4.0, 3.0, np.inf, 0.1))
    once, zero = (trained_loop(0, **point, lam=lam, start=start) for start in ("once", "zero"))
    # Adam's steps keep their length, so the end is a neighbourhood; the two starts are far apart.
    assert abs(once["looped"] / zero["looped"] - 1) < 1e-4
    # The fit has one more column, which does little.
    assert abs(once["looped"] / once["once_ridge"] - 1) < 0.1
    assert zero["scalar"] <= zero["once_ridge_tuned"] <= zero["once_ridge"]


def test_training_longer_lowers_the_loss():
    short, long = (trained_loop(0, **POINT | {"looks": looks}) for looks in (1, 60))
    assert long["train_loss"] < short["train_loss"]
    assert long["looped_best"] <= long["looped"]
