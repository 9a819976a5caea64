import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize

from iclkit import backend, theory
from iclkit.data.contexts import draw_contexts
from iclkit.data.tasks import draw_tasks
from iclkit.runs.many import sweep
from iclkit.theory import bayes
from iclkit.theory.descent import (
    Law,
    best_step,
    best_steps,
    deep_attention,
    descent_layers,
    descent_risk,
    gradient_descent,
    marchenko_pastur,
    power_law,
    tied_risk,
    untied_risk,
)
from iclkit.trained.prompts import write

alphas = st.floats(0.05, 20)
noises = st.just(0.0) | st.floats(1e-3, 10)
depths = st.integers(1, 12)


# Spectra --------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.4, 1.0, 2.5])
def test_marchenko_pastur_integrates_polynomials(alpha):
    c = 1 / alpha
    low, high = (1 - c**0.5) ** 2, (1 + c**0.5) ** 2
    law = marchenko_pastur(alpha, 6)
    for degree in range(12):
        # With x = low + (high − low)(1 − cos t)/2 the roots at the edges are smooth.
        def integrand(t, degree=degree):
            x = low + (high - low) * (1 - np.cos(t)) / 2
            root = (high - low) / 2 * np.sin(t)
            return x ** (degree - 1) * root**2 / (2 * np.pi * c)

        exact = quad(integrand, 0, np.pi, epsabs=1e-13)[0]
        exact += max(0.0, 1 - alpha) * (degree == 0)
        assert law.weights @ law.nodes**degree == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("points", [2, 5, 30])
def test_marchenko_pastur_has_no_negative_nodes(points):
    """Its atom at zero is −1e-16 to the eigenvalue solver about half of the time."""
    for alpha in np.geomspace(0.01, 0.99, 40):
        law = marchenko_pastur(alpha, points)
        assert np.all(law.nodes >= 0)
        assert 0 < descent_risk([0.1 * alpha], law) < 1


@given(alphas, st.floats(0.01, 10))
def test_marchenko_pastur_is_that_of_the_theory(alpha, x):
    # tr (S + x)⁻¹, to which Gauss quadrature converges
    law = marchenko_pastur(alpha, 400)
    assert law.weights @ (1 / (law.nodes + x)) == pytest.approx(
        theory.stieltjes(x, alpha), rel=1e-6
    )


def test_power_law_keeps_all_weight():
    total = power_law(1.5, 0.7, 1).weights.sum()
    for width in (3, 100):
        law = power_law(1.5, 0.7, width)
        assert law.weights.sum() == pytest.approx(total, rel=1e-13)
        np.testing.assert_allclose(law.nodes[:3], [1, 2**-1.5, 3**-1.5])
        np.testing.assert_allclose(law.weights[:3], [1, 2**-2.05, 3**-2.05])
        assert law.nodes[-1] == 0


# Optimal steps --------------------------------------------------------------------------------


def test_one_layer():
    for alpha, noise in ((0.5, 0.0), (2.0, 0.3)):
        expected = (1 + noise) / (alpha + 1 + noise)
        assert untied_risk(alpha, 1, noise) == pytest.approx(expected, rel=1e-14)
        assert tied_risk(alpha, 1, noise) == pytest.approx(expected, rel=1e-12)
        step = best_step(marchenko_pastur(alpha, 3), 1, noise / alpha)
        assert step == pytest.approx(alpha / (alpha + 1 + noise), rel=1e-5)


@given(alphas, depths)
def test_without_noise_the_risk_is_a_geometric_sum(alpha, depth):
    expected = 1 / np.sum(alpha ** np.arange(depth + 1.0))
    assert untied_risk(alpha, depth) == pytest.approx(expected, rel=1e-12)


@given(alphas, depths, noises)
def test_best_steps_reach_the_recursion(alpha, depth, noise):
    law, ridge = marchenko_pastur(alpha, depth + 2), noise / alpha
    steps = best_steps(law, depth, ridge)
    assert steps.shape == (depth,)
    reached = descent_risk(steps, law, ridge)
    assert reached == pytest.approx(untied_risk(alpha, depth, noise), rel=1e-7)
    if noise == 0:
        assert np.isrealobj(steps) and np.all(steps > 0)


@pytest.mark.parametrize(("alpha", "noise"), [(1.0, 0.0), (2.0, 0.1)])
def test_no_other_polynomial_is_better(alpha, noise):
    law = marchenko_pastur(alpha, 6)

    def risk(coefficients):
        p = 1 + law.nodes * np.polyval(coefficients, law.nodes)
        noisy = noise / alpha * (1 - p) ** 2 / law.nodes
        return law.weights @ (p**2 + noisy)

    found = minimize(risk, np.zeros(3), tol=1e-14).fun
    assert found == pytest.approx(untied_risk(alpha, 3, noise), rel=1e-6)


@given(alphas, st.integers(0, 12), noises)
def test_risks_are_ordered(alpha, depth, noise):
    floor = bayes.ridge_error(alpha, noise) - noise
    tied, untied = (f(alpha, depth, noise) for f in (tied_risk, untied_risk))
    assert floor * (1 - 1e-9) - 1e-12 <= untied <= tied * (1 + 1e-9)
    assert untied_risk(alpha, depth + 1, noise) <= untied * (1 + 1e-12)
    assert tied <= 1 + 1e-12


def test_endless_depth_is_bayes_ridge():
    for alpha, noise in ((0.5, 0.1), (1.0, 0.25), (3.0, 1.0)):
        floor = bayes.ridge_error(alpha, noise) - noise
        assert untied_risk(alpha, 300, noise) == pytest.approx(floor, rel=1e-12)


def test_known_values():
    np.testing.assert_allclose(
        best_steps(marchenko_pastur(2.0, 5), 3), [0.4, 2 / 3, 2.0], rtol=1e-12
    )
    # At α = 1 the roots are those of a Chebyshev polynomial of the second kind.
    roots = 2 - 2 * np.cos(np.arange(1, 5) * np.pi / 5)
    np.testing.assert_allclose(best_steps(marchenko_pastur(1.0, 6), 4), np.sort(1 / roots))
    assert untied_risk(1.0, 4, 0.25) == pytest.approx(0.39775, abs=5e-6)
    assert tied_risk(1.0, 4, 0.25) == pytest.approx(0.40784, abs=5e-6)


@pytest.mark.parametrize("steps", [[0.3], [0.2, 0.5, 0.1]])
def test_risk_by_hand(steps):
    law, total = Law(np.array([0.0, 0.5, 2.0]), np.array([0.2, 0.3, 0.1])), 0.0
    for x, weight in zip(law.nodes, law.weights, strict=True):
        p = np.prod([1 - s * x for s in steps])
        total += weight * (p**2 + (0.4 * (1 - p) ** 2 / x if x else 0.0))
    assert descent_risk(steps, law, 0.4) == pytest.approx(total, rel=1e-14)


def exact_risk(steps, law, ridge):
    """The risk of these very floats, in fractions."""
    total = Fraction(0)
    for x, weight in zip(map(Fraction, law.nodes), law.weights, strict=True):
        rest = math.prod((1 - Fraction(step) * x for step in steps), start=Fraction(1))
        total += Fraction(weight) * (rest**2 + (Fraction(ridge) * (1 - rest) ** 2 / x if x else 0))
    return float(total)


@given(
    st.lists(st.integers(-60, 60).map(lambda k: 10.0 ** (k / 10)), min_size=1, max_size=5),
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6),
    st.sampled_from([0.0, 1e-20, 1.0, 1e6]),
    st.booleans(),
)
def test_risk_is_right_for_any_steps(nodes, steps, ridge, at_roots):
    """Beside a root all digits of 1 − ηx were lost, and at small x all of (1 − p)²/x."""
    if at_roots:
        steps = [*steps, *(1 / x for x in nodes)]
    law = Law(np.array([0.0, *nodes]), np.linspace(0.1, 1, len(nodes) + 1))
    exact = exact_risk(steps, law, ridge)
    assert descent_risk(steps, law, ridge) == pytest.approx(exact, rel=1e-9)


def test_steps_that_floats_cannot_hold_are_warned_of():
    law, wide = power_law(1.5, 0.8, 20), power_law(1.5, 0.8, 500)
    with pytest.warns(RuntimeWarning, match="a depth of 18 is too large for this law"):
        best_steps(wide, 18)
    # Not if they are good to less than a thousandth, here of their least risk by Christoffel.
    x, w = law.nodes, law.weights
    basis = np.linalg.qr(np.sqrt(w)[:, None] * np.vander(x, 5, increasing=True))[0]
    at_zero = basis[-1] / np.sqrt(w[-1])
    assert x[-1] == 0
    assert descent_risk(best_steps(law, 4), law) == pytest.approx(1 / np.sum(at_zero**2), rel=1e-9)


@pytest.mark.parametrize(("nu", "beta"), [(1e4, 1e4), (1e75, 1.0), (1.0, 1e75)])
def test_steepest_power_law_is_its_first_direction(nu, beta):
    law = power_law(nu, beta, 5)
    assert law.weights.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("unit", [1e-70, 1e-9, 1e70])
def test_steps_have_the_unit_of_one_over_a_node(unit):
    law = Law(np.array([0.0, 0.3, 1.0, 2.0]), np.array([0.1, 0.4, 0.3, 0.2]))
    other = Law(unit * law.nodes, law.weights / unit)
    for ridge in (0.0, 0.2):
        scaled = ridge * unit
        for best in (best_step, best_steps):
            np.testing.assert_allclose(
                unit * best(other, 2, scaled), best(law, 2, ridge), rtol=1e-5
            )


@pytest.mark.parametrize("noise", [1e2, 1e4, 1e8, 1e50])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_equal_steps_in_loud_noise(noise, depth):
    """The best step was looked for above 1/25 of its size without noise only."""
    for alpha in (0.3, 1.0, 4.0):
        untied, tied = (risk(alpha, depth, noise) for risk in (untied_risk, tied_risk))
        assert untied * (1 - 1e-12) <= tied <= 1 + 1e-12
        if depth == 1:
            assert tied == pytest.approx(untied, rel=1e-12)


@pytest.mark.parametrize("alpha", [1e-12, 1e-3, 1e6, 1e12])
def test_one_equal_step_at_extreme_lengths(alpha):
    for noise in (0.0, 1e-6, 1.0):
        assert tied_risk(alpha, 1, noise) == pytest.approx(untied_risk(alpha, 1, noise), rel=1e-3)


@pytest.mark.parametrize(
    "law",
    [
        Law([2.0], [0.3]),
        Law([2.0, 2.0], [0.3, 0.1]),
        Law([2.0, 0.0], [0.3, 0.0]),
        Law([2.0, 1e300 ** (1 / 4)], [0.3, 0.0]),
    ],
)
def test_laws_of_one_node(law):
    assert best_step(law, 3) == pytest.approx(0.5, rel=1e-3)
    assert descent_risk(np.full(3, best_step(law, 3)), law) < 1e-10
    for depth in (1, 2):
        with pytest.raises(ValueError, match="depth must be less than the number of different"):
            best_steps(law, depth)


@pytest.mark.parametrize("ridge", [0.0, 0.05])
def test_equal_steps_are_best_among_equal_steps(ridge):
    law = power_law(1.5, 0.7, 50)
    step = best_step(law, 5, ridge)
    best = descent_risk(np.full(5, step), law, ridge)
    for other in step * np.linspace(0.5, 1.5, 21):
        assert best <= descent_risk(np.full(5, other), law, ridge) + 1e-13
    assert descent_risk(best_steps(law, 5, ridge), law, ridge) < best


def test_a_rare_large_node_does_not_bound_the_step():
    law = Law(np.array([0.5, 1.0, 8.0]), np.array([0.5, 0.5, 1e-6]))
    step = best_step(law, 2)
    assert step > 2 / 8
    for other in np.linspace(0.01, 3, 500):
        assert descent_risk([step, step], law) <= descent_risk([other, other], law) + 1e-12


# At finite d ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_simulation_meets_theory(tied):
    point = {"d": 60, "alpha": 1.0, "rho": 0.25, "depth": 4, "tied": tied, "contexts": 20}
    runs = sweep(gradient_descent, point, seed=3, runs=(40, 40), workers=1)
    expected = (tied_risk if tied else untied_risk)(1.0, 4, 0.25)
    # The limit has corrections of order 1/d.
    assert abs(runs.risk.item() - expected) < 4 * runs.risk_se.item() + expected / 60


@pytest.mark.parametrize("depth", [1, 3])
def test_attention_makes_the_steps(depth):
    d, ell, streams, steps = 5, 8, backend.streams(0), np.array([0.7, 0.3, 0.5])[:depth]
    w = draw_tasks(6, d, streams.tasks, prior="gaussian")
    drawn = draw_contexts(w, ell, 0.1, streams)
    found = np.zeros((6, d))
    for step in steps:
        residual = drawn.labels - np.einsum("nid,nd->ni", drawn.tokens, found)
        found += step * d / ell * np.einsum("nid,ni->nd", drawn.tokens, residual)
    expected = np.sum(found * drawn.query, axis=1)
    prompts, layers = write(drawn), descent_layers(steps, d)
    np.testing.assert_allclose(deep_attention(layers, prompts), expected, rtol=1e-12, atol=1e-14)
    with jax.enable_x64(True):
        compiled = jax.jit(deep_attention)(layers, prompts)
    np.testing.assert_allclose(compiled, expected, rtol=1e-12, atol=1e-14)


# Bad arguments --------------------------------------------------------------------------------


LAW = marchenko_pastur(1.0, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: marchenko_pastur(0.0, 3), ValueError, "alpha must be positive"),
        (lambda: marchenko_pastur(np.inf, 3), ValueError, "alpha must be positive and finite"),
        (lambda: marchenko_pastur(1.0, 0), ValueError, "points must be an integer of at least 1"),
        (lambda: power_law(-1.0, 1.0, 3), ValueError, "nu must be positive"),
        (lambda: power_law(1.0, np.nan, 3), ValueError, "beta must be positive"),
        (lambda: power_law(1.0, 1.0, 0), ValueError, "width must be an integer of at least 1"),
        (lambda: untied_risk(1.0, -1), ValueError, "depth must be an integer of at least 0"),
        (lambda: untied_risk(1.0, 2.5), TypeError, "depth must be an integer"),
        (lambda: tied_risk(1.0, 2, -0.1), ValueError, "noise must be finite and at least 0"),
        (lambda: descent_risk([np.nan], LAW), ValueError, "steps must be finite"),
        (lambda: descent_risk(0.5, LAW), ValueError, "steps must have shape"),
        (lambda: descent_risk([0.5], LAW, np.inf), ValueError, "ridge must be finite"),
        (lambda: best_steps(LAW, 4), ValueError, "depth must be less than the number"),
        (lambda: best_step(LAW, 0), ValueError, "depth must be an integer of at least 1"),
        (lambda: descent_risk([0.5], Law([-1.0], [1.0])), ValueError, "law must have nodes"),
        (lambda: descent_layers([np.inf], 3), ValueError, "steps must be finite"),
        (lambda: descent_risk([complex(np.nan, 1)], LAW), ValueError, "steps must be finite"),
        (lambda: descent_risk([complex(1, np.inf)], LAW), ValueError, "steps must be finite"),
        (
            lambda: descent_risk([[1j], [1, 2]], LAW),
            ValueError,
            "steps must be an array, got a",
        ),
        (lambda: deep_attention(None, np.ones((1, 2, 2))), TypeError, "layers must be a sequence"),
        (lambda: deep_attention(np.array(1.0), np.ones((1, 2, 2))), TypeError, "layers must be a"),
        (lambda: deep_attention([], np), TypeError, "prompts must be an array, got module"),
        (lambda: descent_layers("ab", 3), TypeError, "steps must hold real numbers"),
        (lambda: descent_risk([1e75] * 3, LAW), ValueError, "steps must have a risk in the range"),
        (lambda: descent_risk([0.5], [1.0]), TypeError, "law must be a Law of nodes and weights"),
        (lambda: best_step("ab", 1), TypeError, "law must be a Law of nodes and weights"),
        (lambda: best_steps(None, 1), TypeError, "law must be a Law of nodes and weights"),
        (lambda: best_step(Law([0.0, 0.0], [1.0, 1.0]), 1), ValueError, "law must have a positive"),
        (lambda: best_step(Law([0.0, 1.0], [1.0, 0.0]), 1), ValueError, "law must have a positive"),
        (lambda: best_step(Law([np.nan], [1.0]), 1), ValueError, "law.nodes must be finite"),
        (lambda: best_step(Law([1.0], [np.inf]), 1), ValueError, "law.weights must be finite"),
        (
            lambda: best_step(Law([1e200], [1.0]), 1),
            ValueError,
            "law.nodes must have numbers of",
        ),
        (lambda: best_step(Law([1.0], [1e-200]), 1), ValueError, "law.weights must be 0, or the"),
        (
            lambda: best_step(Law(np.ma.masked_array([1.0, 2.0], [0, 1]), [1.0, 1.0]), 1),
            TypeError,
            "law.nodes must be a plain array",
        ),
        (lambda: best_steps(Law([1.0, 1 + 1e-16, 2.0], [1.0] * 3), 2), ValueError, "depth must be"),
        *(
            (
                lambda ridge=ridge: best_steps(LAW, 1, ridge),
                ValueError,
                "ridge must leave something",
            )
            for ridge in (1e17, 1e30, 1e75)  # the last place of such steps depends on the processor
        ),
        (lambda: tied_risk(1e13, 1), ValueError, r"alpha must be at most 1e\+12"),
        (lambda: tied_risk(1e-10, 1, 1e70), ValueError, "noise/alpha 0 or between"),
        (
            lambda: untied_risk(np.ma.masked_array([1.0], [True]), 1),
            TypeError,
            "alpha must be a pl",
        ),
        (lambda: untied_risk(1.0, "two"), TypeError, "depth must be an integer, got 'two'"),
        (lambda: untied_risk("one", 2), TypeError, "alpha must be a real number"),
        (lambda: untied_risk([1.0, np.nan], 2), ValueError, "alpha must be positive"),
        (lambda: deep_attention([], np.ones((2, 3))), ValueError, "prompts must have shape"),
        (lambda: deep_attention([], [[[1.0]]]), TypeError, "prompts must be an array, got list"),
        (lambda: deep_attention([], np.ones((2, 1, 3))), ValueError, "prompts must have ell and d"),
        (lambda: deep_attention([], np.full((1, 2, 2), np.nan)), ValueError, "prompts must be fin"),
        (
            lambda: deep_attention([np.eye(2)], np.ones((1, 2, 2))),
            TypeError,
            "layers must be pairs",
        ),
        (
            lambda: deep_attention([(np.eye(3), np.eye(2))], np.ones((1, 2, 2))),
            ValueError,
            r"layers must have shape \(2, 2\), got \(3, 3\)",
        ),
        (
            lambda: deep_attention([(np.eye(2), np.eye(2))] * 3, np.full((1, 2, 2), 1e75)),
            ValueError,
            "layers must keep tokens finite",
        ),
        (
            lambda: deep_attention([(jnp.eye(3), np.eye(2))], np.ones((1, 2, 2))),
            ValueError,
            r"layers must have shape \(2, 2\), got \(3, 3\)",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_bad_point_of_a_sweep():
    point = {"d": 5, "alpha": 1.0, "rho": 0.1, "depth": 2}
    with pytest.raises(TypeError, match="tied must be True or False, got 1"):
        gradient_descent(1, **point, tied=1)
    with pytest.raises(ValueError, match="alpha must be finite with ell"):
        gradient_descent(1, **(point | {"alpha": 0.01}), tied=True)


@pytest.mark.parametrize("depth", [11, 12])
def test_steps_that_rounding_spoils_a_little_are_warned_of(depth):
    """Rounded to floats, their risk is 1.2 % and five times above the least."""
    with pytest.warns(RuntimeWarning, match=f"a depth of {depth} is too large for this law"):
        best_steps(power_law(1.5, 1.0, 400), depth)


def test_infinite_risk_is_refused():
    law = Law(np.array([1e70]), np.array([1.0]))
    with pytest.raises(ValueError, match="steps must have a risk in the range of floats"):
        descent_risk(np.full(3, 1e70), law, ridge=1.0)
