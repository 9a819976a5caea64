"""Networks on other spectra than those of training: what is drawn, and what is measured of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ortho_group

from iclkit.theory.descent import best_step, best_steps, deep_attention, descent_risk
from iclkit.trained import shifts
from iclkit.trained.depth import Layers
from iclkit.trained.shifts import PLACES, SCALES, Spectra, trained_shifts

POINT = {"spectrum": "band", "chi": 9.0, "full": False, "depth": 2, "steps": 20, "rate": 0.1}


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("spectrum", "bands", ValueError, "spectrum must be one of band, ends, got 'bands'"),
        ("chi", 1.0, ValueError, "chi must be more than 1, got 1.0"),
        ("chi", np.nan, ValueError, "chi must be"),
        ("full", 1, TypeError, "full must be"),
        ("depth", 0, ValueError, "depth must be"),
        ("steps", 0, ValueError, "steps must be"),
        ("rate", 0.0, ValueError, "rate must be"),
        ("d", 0, ValueError, "d must be"),
        ("size", 0, ValueError, "size must be"),
    ],
)
def test_bad_point_is_refused_before_it_is_computed(name, value, error, message):
    with pytest.raises(error, match=message):
        trained_shifts.check(**POINT | {name: value})


@pytest.mark.parametrize("spectrum", shifts.SPECTRA)
def test_eigenvalues_of_training_have_their_law(spectrum):
    chi, d = 9.0, 4
    where = shifts.intervals(spectrum, chi)
    assert where[1, 1] / where[0, 0] == pytest.approx(chi) and where.mean() == pytest.approx(1)
    draw = Spectra(jnp.asarray(ortho_group.rvs(d, size=50, random_state=0)), jnp.asarray(where))
    prompts = np.asarray(draw(jax.random.key(1), (5000,)).inputs)[:, :-1, :-1]
    x = np.linalg.eigvalsh(prompts.mT @ prompts)
    inside = [(low - 1e-9 < x) & (x < high + 1e-9) for low, high in where]
    assert np.all(np.any(inside, axis=0))
    law = shifts.law(spectrum, chi)
    for power in (1, 2, 5):
        seen = np.mean(x**power, axis=1)
        expected = law.weights @ law.nodes**power
        assert abs(seen.mean() - expected) < 4 * seen.std() / len(seen) ** 0.5


def test_a_longer_context_of_the_same_covariance_is_the_same():
    d, ell, rng = 4, 11, np.random.default_rng(2)
    turn, w = ortho_group.rvs(d, random_state=3), rng.standard_normal(d)
    x, query = rng.uniform(0.2, 1.8, d), rng.standard_normal(d)
    ours = shifts._write(*(jnp.asarray(a)[None] for a in (turn, x, w, query)))
    Q, _ = np.linalg.qr(rng.standard_normal((ell, d)))
    tokens = (ell / d) ** 0.5 * Q * np.sqrt(x) @ turn.T
    long = np.zeros((1, ell + 1, d + 1))
    long[0, :ell, :d], long[0, :ell, d], long[0, ell, :d] = tokens, tokens @ w, query
    network = Layers("full", 3)
    params = network.init(jax.random.key(4), d, "random")
    layers = list(zip(params["between"], params["value"], strict=True))
    expected = deep_attention(layers, jnp.asarray(long))
    np.testing.assert_allclose(network.predict(params, ours), expected, rtol=1e-10)


def test_what_is_measured_of_given_steps_is_their_polynomial(monkeypatch):
    """Instead of training, each network gets steps whose polynomial is known."""
    steps = {"scalar-tied": np.array(0.8), "scalar": np.array([0.6, 1.5])}

    def given(predict, params, *rest):
        own = np.ndim(params["steps"])
        return {"steps": jnp.asarray(steps["scalar" if own else "scalar-tied"])}, None

    monkeypatch.setattr(shifts, "_fit", given)
    found = trained_shifts(0, **POINT)
    law = shifts.law("band", 9.0)
    for ending, sizes in (("tied", np.array([0.8, 0.8])), ("own", steps["scalar"])):

        def left(x, sizes=sizes):
            return np.prod(1 - np.multiply.outer(x, sizes), axis=-1) ** 2

        def risk(scale, sizes=sizes):
            return descent_risk(scale * sizes, law)

        assert found[f"risk_{ending}"] == pytest.approx(risk(1.0), rel=0.1)
        for j, scale in enumerate(SCALES):
            assert found[f"scaled_{j}_{ending}"] == pytest.approx(risk(scale), rel=0.1)
        for j, place in enumerate(PLACES):
            assert found[f"along_{j}_{ending}"] == pytest.approx(left(place), rel=0.2, abs=1e-20)
        assert risk(found[f"scale_{ending}"]) == pytest.approx(1, rel=0.1)
        assert left(found[f"edge_{ending}"]) == pytest.approx(1, rel=0.2)


def test_training_finds_the_best_steps():
    point = POINT | {"steps": 1500}
    found = trained_shifts(1, **point)
    law = shifts.law("band", 9.0)
    tied = descent_risk(np.full(2, best_step(law, 2)), law)
    own = descent_risk(best_steps(law, 2), law)
    # The same contexts have the same luck, which drops out of the ratio.
    assert found["risk_own"] / found["risk_tied"] == pytest.approx(own / tied, rel=0.1)
    assert found["risk_own"] == pytest.approx(own, rel=0.15)


def test_full_layers_are_measured_too():
    """One layer of its own is a loop of one layer."""
    point = POINT | {"full": True, "depth": 1, "rate": 3e-3, "d": 2, "size": 4}
    found = trained_shifts(2, **point)
    assert found["risk_own"] < 1 < found["scale_own"] and found["edge_tied"] > 1
    assert len(found) == 2 * (3 + len(SCALES) + len(PLACES))
    for name in (name for name in found if name.endswith("_own")):
        assert found[name] == pytest.approx(found[name.replace("_own", "_tied")], rel=1e-6)


def test_a_network_that_is_broken_from_the_start():
    assert shifts._passes(lambda at: 2.0, 1.0) == 1.0
    assert shifts._passes(lambda at: 0.5, 1.0) == shifts._FAR
    assert shifts._passes(lambda at: at / 3, 1.0) == pytest.approx(3, abs=2e-4)
