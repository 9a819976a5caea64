"""A run on a stream: its mean is the exact one, at every step and in blocks of any size."""

import numpy as np
import pytest

from iclkit.data import _stream
from iclkit.runs import streaming_descent, sweep
from iclkit.theory.streaming import icl_error, largest_rate

POINT = {"d": 8, "alpha": 1.5, "rho": 0.2, "batch": 5, "steps": 30, "share": 0.3}


@pytest.mark.parametrize("changed", [{}, {"batch": 40, "share": 0.1}, {"steps": 1, "share": 0.9}])
def test_mean_is_exact(changed):
    point = POINT | changed
    errors = [streaming_descent(seed, **point)["icl_error"] for seed in range(200)]
    rate = point["share"] * largest_rate(point["batch"], 8, 12, 0.2)
    expected = icl_error(point["steps"], rate, point["batch"], 8, 12, 0.2)
    assert abs(np.mean(errors) - expected) < 3 * np.std(errors, ddof=1) / 200**0.5


def test_blocks_are_contexts_of_their_own(monkeypatch):
    monkeypatch.setattr(_stream, "_BLOCK", 1)
    test_mean_is_exact({})


def test_what_diverges_is_infinite():
    assert streaming_descent(0, **POINT | {"share": 50.0, "steps": 300})["icl_error"] == np.inf


def test_sweep_checks_before_it_starts(tmp_path):
    with pytest.raises(ValueError, match="^share must be"):
        sweep(streaming_descent, POINT | {"share": [0.1, -1.0]}, tmp_path / "a.nc", seed=0)


def test_noise_beyond_the_theory_is_refused_before_anything_is_trained():
    with pytest.raises(ValueError, match="^rho must be at most 1e"):
        streaming_descent.check(**POINT | {"rho": 1e10})
