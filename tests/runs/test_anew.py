"""A run on contexts that are drawn anew: its errors, and what is said of them in a sweep."""

import numpy as np
import pytest

from iclkit.runs import linear_attention, redrawn_attention, sweep
from iclkit.runs.one import _sizes

POINT = {"d": 10, "tau": 2.0, "alpha": 1.0, "kappa": 1.0, "rho": 0.1}


@pytest.mark.parametrize("change", [{}, {"kappa": np.inf, "lam": 0.1}, {"tau": 0.5}])
def test_errors_have_the_law_of_linear_attention(change):
    point = POINT | change
    pairs = [
        [
            [run(seed, **point)[name] for name in ("icl_error", "idg_error")]
            for seed in range(1000 * number, 1000 * number + 40)
        ]
        for number, run in enumerate((linear_attention, redrawn_attention))
    ]
    one, other = (np.array(part) for part in pairs)
    error = np.sqrt((one.var(axis=0) + other.var(axis=0)) / 40)
    assert (abs(one.mean(axis=0) - other.mean(axis=0)) < 4 * error).all()


def test_sweep_repeats_it_and_knows_what_to_expect():
    table = sweep(redrawn_attention, POINT | {"rtol": 1e-4}, seed=0, runs=(2, 2), workers=1)
    theory = sweep(linear_attention, POINT, seed=0, runs=(2, 2), workers=1)
    assert table.icl_error_theory == theory.icl_error_theory
    assert table.residual < 1e-4 and table.iterations > 5


def test_same_seed_same_result():
    found = [redrawn_attention(seed, **POINT) for seed in (3, 3, 4)]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("name", "value"),
    [("d", 0), ("tau", -1), ("lam", -0.1), ("rtol", 1.0), ("workers", 0), ("folder", 1)],
)
def test_wrong_arguments_are_refused(name, value):
    for call in (lambda **point: redrawn_attention(0, **point), redrawn_attention.check):
        with pytest.raises((ValueError, TypeError), match=f"{name} must"):
            call(**POINT | {name: value})
    assert redrawn_attention.check(**POINT) == _sizes(**POINT)
