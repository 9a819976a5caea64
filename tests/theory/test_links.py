"""Nonlinear links: polynomials of scipy, sampled labels, and gradients that are taken."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import integrate, special

from iclkit.theory import links

LINK = np.array([0.1, 0.7, -0.5, 0.3])
READOUT = np.array([0.0, 0.5, 0.4, 0.0])


def test_features_are_those_of_scipy_and_orthonormal():
    t = np.linspace(-4, 4, 9).reshape(3, 3)
    found = links.features(t, 20)
    for k in range(21):
        wanted = special.eval_hermitenorm(k, t) / math.sqrt(math.factorial(k))
        assert found[..., k] == pytest.approx(wanted, rel=1e-9, abs=1e-9)

    def product(t):
        h = links.features(np.array([t]), 4)[0]
        return np.outer(h, h) * math.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)

    gram, _ = integrate.quad_vec(product, -15, 15)
    assert gram == pytest.approx(np.eye(5), abs=1e-8)


@pytest.mark.parametrize("q", [0.8, -0.4, 0.0, 1.0])
def test_terms_of_a_readout_are_those_of_sampled_examples(q):
    rng, rho, n = np.random.default_rng(3), 0.2, 400_000
    t, v = rng.standard_normal((2, n))
    z = q * t + math.sqrt(1 - q**2) * v
    clean = sum(a * special.eval_hermitenorm(k, z) / math.sqrt(math.factorial(k))
                for k, a in enumerate(LINK))  # fmt: skip
    h = np.stack([special.eval_hermitenorm(k, t) / math.sqrt(math.factorial(k)) for k in range(4)])
    floor, distance, scatter = (
        x[0] for x in links.readout_terms(LINK, READOUT, np.array([q]), rho)
    )

    left = clean - READOUT @ h
    error = left**2
    assert abs(error.mean() - floor - distance) < 3 * error.std() / math.sqrt(n)
    downhill = h * (left + math.sqrt(rho) * rng.standard_normal(n))
    away = LINK * q ** np.arange(4) - READOUT
    assert np.all(np.abs(downhill.mean(axis=1) - away) < 4 * downhill.std(axis=1) / math.sqrt(n))
    around = np.sum((downhill - away[:, None]) ** 2, axis=0)
    assert abs(around.mean() - scatter) < 3 * around.std() / math.sqrt(n)
    assert distance == pytest.approx(np.sum(away**2), rel=1e-12)


@pytest.mark.parametrize("r", [1, 2, 5])
def test_spread_is_that_of_sampled_examples(r):
    rng, rho, n = np.random.default_rng(r), 0.2, 200_000
    s = rng.standard_normal((n, r))
    u = rng.standard_normal(r)
    u /= np.linalg.norm(u)  # a direction along no axis
    y = links.features(s @ u, 3) @ LINK + math.sqrt(rho) * rng.standard_normal(n)
    single = links.features(s, 3)
    for k, wanted in enumerate(links.spread(LINK, r, rho)):
        powers = [p for p in itertools.product(range(k + 1), repeat=r) if sum(p) == k]
        squares = sum(np.prod([single[:, i, e] for i, e in enumerate(p)], axis=0) ** 2
                      for p in powers)  # fmt: skip
        found = y**2 * squares
        assert abs(found.mean() - wanted) < 3 * found.std() / math.sqrt(n), k


def test_terms_keep_their_digits_where_they_are_small():
    """For a constant the scatter is the noise, and the floor of h_3 is 1 - q⁶ in any digits."""
    noise = links.readout_terms(np.array([2.0]), np.array([1.0]), np.array([0.3]), 1e-20).scatter
    assert noise == pytest.approx([1e-20], rel=1e-9, abs=0)
    q = np.array([1 - 1e-9, 1e-13 - 1])
    floor = links.readout_terms(np.eye(4)[3], np.zeros(4), q, 0.1).floor
    wanted = [float(1 - Fraction(x) ** 6) for x in q]
    assert floor == pytest.approx(wanted, rel=1e-14, abs=0)


def test_terms_of_the_largest_degree_are_those_of_exact_integers():
    """At q = 1 without a read-out the scatter is an integral of He_20 and its squares."""
    whole = [np.rint(special.hermitenorm(k).coef).astype(int).tolist() for k in range(21)]
    square = [np.array(x, dtype=object) for x in whole]
    square = [np.convolve(x, x) for x in square]
    wanted = Fraction(-1)
    for k in range(21):
        powers = np.convolve(square[20], square[k])[::-1]
        moments = sum(
            c * math.prod(range(i - 1, 0, -2)) for i, c in enumerate(powers) if i % 2 == 0
        )
        wanted += Fraction(moments, math.factorial(k) * math.factorial(20))
    found = links.readout_terms(np.eye(21)[20], np.zeros(21), np.array([1.0]), 0.0).scatter
    assert found == pytest.approx([float(wanted)], rel=1e-12)


def test_a_linear_link_has_the_error_of_the_linear_layer():
    """With one feature a step is the one of eq-test-error for d = 1, and V₁ that of eq-law-h."""
    link, readout = np.array([0.0, 1.0]), np.array([0.0, 0.3])
    floor, distance, scatter = links.readout_terms(link, readout, np.array([1.0]), 0.1)
    assert floor[0] == pytest.approx(0, abs=1e-14)
    assert distance[0] == pytest.approx(0.49, rel=1e-12)
    # A constant is a feature, too: |h|² = 1 + t² and E t²(1 + t²) = 4.
    assert scatter[0] == pytest.approx(0.49 * 4 + 0.1 * 2 - 0.49, rel=1e-12)
    assert links.spread(link, 7, 0.1) == pytest.approx([1.1, 7 * 1.1 + 2], rel=1e-12)


def test_what_is_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"^overlap must be in \[-1, 1\], got 1.5"):
        links.readout_terms(LINK, READOUT, np.array([0.5, 1.5]), 0.1)
    with pytest.raises(ValueError, match="^readout must have 4 numbers like link, got 3"):
        links.readout_terms(LINK, READOUT[:3], np.array([0.5]), 0.1)
    with pytest.raises(ValueError, match="^link must have at most 21 numbers, got 22"):
        links.spread(np.ones(22), 2, 0.1)
    with pytest.raises(ValueError, match="^t must be at most 1000 in size, got 1001"):
        links.features(np.array([1.0, -1001.0]), 2)
