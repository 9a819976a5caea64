"""Random language models of order three, and what learns them."""

import jax
import mpmath
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta, binom, chi2, entropy

from iclkit.trained import ngrams
from iclkit.trained.train import adamw

# Models ---------------------------------------------------------------------------------------


def drawn(kind="arbitrary", V=4, N=2000, seed=0, **options):
    rng = np.random.default_rng(seed)
    rows = ngrams.draw_rows(kind, V, rng, **options)
    return rows, ngrams.draw_tokens(rows, N, rng), rng


def test_arbitrary_rows_have_the_moments_of_dirichlet():
    rows = ngrams.draw_rows("arbitrary", 40, np.random.default_rng(0), lam=0.5).reshape(-1, 40)
    variance, share = rows.var(), 1 / 40
    assert variance == pytest.approx(share * (1 - share) / (40 * 0.5 + 1), rel=0.05)
    assert abs(np.corrcoef(rows[:-1, 0], rows[1:, 0])[0, 1]) < 0.1


def test_shared_rows_are_additive_and_of_low_rank():
    logs = np.log(drawn("shared", V=7, rank=2)[0])
    logs -= logs.mean(axis=-1, keepdims=True)
    mixed = logs[1:, 1:] - logs[:1, 1:] - logs[1:, :1] + logs[:1, :1]
    assert np.abs(mixed).max() < 1e-12
    assert np.linalg.matrix_rank(logs.reshape(49, 7), tol=1e-9) == 2


@pytest.mark.parametrize("V, rank", [(3, 1), (4, 3), (6, 2), (8, 3)])
def test_free_parameters_are_what_laws_can_tell_apart(V, rank):
    """The rank of the derivative of log-laws, less their constants, in U, A and B."""
    factors = np.random.default_rng(V).standard_normal((3, V, rank))
    slope = np.zeros((V, V, V, 3, V, rank))
    for c in range(V):
        slope[:, :, c, 0, c] = factors[1][:, None] + factors[2]
        for a in range(V):
            slope[a, :, c, 1, a] += factors[0, c]
            slope[:, a, c, 2, a] += factors[0, c]
    slope -= slope.mean(axis=2, keepdims=True)
    found = np.linalg.matrix_rank(slope.reshape(V**3, -1))
    assert found == ngrams.free_parameters(V, rank)
    assert ngrams.free_parameters(V) == V**3 - V**2


def test_stationary_law_stays_and_is_seen():
    rows, text, _ = drawn(N=40_000)
    pairs = ngrams.stationary(rows)
    np.testing.assert_allclose(np.einsum("ab,abc->bc", pairs, rows), pairs, atol=1e-12)
    np.testing.assert_allclose(pairs.sum(axis=0), pairs.sum(axis=1), atol=1e-12)
    seen = ngrams.count(text, 4).sum(axis=-1) / 40_000
    assert np.abs(seen - pairs).max() < 0.02  # ten standard errors of independent letters


def test_law_that_is_not_reached_is_refused():
    """A letter is left so seldom that every mixture of two texts of one letter looks stationary."""
    rows = np.tile([[1 - 1e-14, 1e-14], [2e-14, 1 - 2e-14]], (2, 1, 1))
    with pytest.raises(ValueError, match="reached in 10,000"):
        ngrams.stationary(rows)


def test_text_follows_its_rows():
    rows, text, _ = drawn(N=40_000, seed=1)
    counts = ngrams.count(text, 4)
    total = counts.sum(axis=-1, keepdims=True)
    scores = (counts - total * rows) / np.sqrt(total * rows * (1 - rows))
    assert counts.sum() == 40_000 and np.abs(scores).max() < 4.5
    assert np.sqrt(np.mean(scores**2)) == pytest.approx(1, abs=0.3)


def test_counts_are_counted():
    text = drawn(N=100)[1]
    expected = np.zeros((4, 4, 4))
    for a, b, c in zip(text, text[1:], text[2:], strict=False):
        expected[a, b, c] += 1
    np.testing.assert_array_equal(ngrams.count(text, 4), expected)


def test_divergence_is_the_relative_entropy():
    rows, other = drawn()[0], drawn(seed=1)[0]
    weights = np.random.default_rng(0).random((4, 4))
    expected = np.sum(weights * entropy(rows, other, axis=-1))
    assert ngrams.divergence(rows, other, weights) == pytest.approx(expected, rel=1e-12)


# Estimators and what they cost ----------------------------------------------------------------


@pytest.mark.parametrize("lam", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("visits, V", [(0, 3), (1, 2), (7, 5), (60, 4)])
def test_expected_divergence_is_an_integral(visits, V, lam):
    """Of one letter's probability and its binomial count, V times."""
    k = np.arange(visits + 1)
    logs = np.log((k + lam) / (visits + V * lam))

    def integrand(p):
        gain = np.log(p) - binom.pmf(k, visits, p) @ logs
        return beta.pdf(p, lam, (V - 1) * lam) * p * gain

    low, high = (
        quad(integrand, *ends, epsabs=1e-12, limit=200)[0] for ends in ((0, 0.1), (0.1, 1))
    )
    found = ngrams.expected_divergence(visits, V, lam)
    assert found == pytest.approx(V * (low + high), abs=1e-9)


def precise(visits, V, lam):
    """The sum of beta-binomial terms as it stands, in sixty digits."""
    with mpmath.workdps(60):
        lam, total, rising = mpmath.mpf(lam), visits + V * mpmath.mpf(lam), mpmath.rf
        terms = [
            mpmath.binomial(visits, k) * rising(lam, k) * rising((V - 1) * lam, visits - k)
            * (k + lam) / total * mpmath.log((k + lam) / total)
            for k in range(visits + 1)
        ]  # fmt: skip
        entropy = mpmath.digamma(lam + 1) - mpmath.digamma(V * lam + 1)
        return float(entropy - V * mpmath.fsum(terms) / rising(V * lam, visits))


@pytest.mark.parametrize("lam", [1e-6, 0.5, 40.0, 1e5, 1e12])
@pytest.mark.parametrize("visits, V", [(0, 2), (7, 5), (60, 32), (2000, 8)])
def test_expected_divergence_keeps_its_digits(visits, V, lam):
    found = ngrams.expected_divergence(visits, V, lam)
    assert found == pytest.approx(precise(visits, V, lam), rel=1e-9, abs=1e-17)


@pytest.mark.parametrize("lam", [1e-6, 0.5, 1e5, 1e12])
@pytest.mark.parametrize("scale", [0, 1, 1e6, 1e12])
def test_posterior_divergence_keeps_its_digits(scale, lam):
    counts = scale * np.arange(8.0).reshape(2, 2, 2)
    with mpmath.workdps(60):
        alphas = [n + mpmath.mpf(lam) for n in counts[1, 0]]
        total, psi = mpmath.fsum(alphas), mpmath.digamma
        expected = mpmath.fsum(
            a / total * (psi(a + 1) - psi(total + 1) - mpmath.log(a / total)) for a in alphas
        )
    found = ngrams.posterior_divergence(counts, lam)[1, 0]
    assert found == pytest.approx(float(expected), rel=1e-9)


def test_expected_divergence_costs_its_parameters():
    for V in (2, 8):
        shares = [2 * n * ngrams.expected_divergence(n, V, 1.0) / (V - 1) for n in (100, 10_000)]
        assert abs(shares[1] - 1) < 0.01 and abs(shares[1] - 1) < abs(shares[0] - 1)


def test_posterior_divergence_is_that_of_rows_given_their_counts():
    """Rows are drawn from what is left of the prior, and compared with add-λ."""
    counts = ngrams.count(drawn(V=3, N=60)[1], 3)
    rows = np.random.default_rng(1).standard_gamma(counts + 0.7, size=(20_000, 3, 3, 3))
    rows /= rows.sum(axis=-1, keepdims=True)
    apart = entropy(rows, np.broadcast_to(ngrams.smooth(counts, 0.7), rows.shape), axis=-1)
    scores = apart.mean(axis=0) - ngrams.posterior_divergence(counts, 0.7)
    scores /= apart.std(axis=0) / 20_000**0.5
    assert np.abs(scores).max() < 4


def test_no_other_constant_is_better_on_average():
    """Nor is a blend with the laws of single letters."""
    gains = []
    for seed in range(60):
        rows, text, _ = drawn(N=150, seed=seed)
        counts, weights = ngrams.count(text, 4), np.full((4, 4), 1 / 16)
        own = ngrams.smooth(counts, 1.0)
        single = (counts.sum(axis=(0, 1)) + 1) / (counts.sum() + 4)
        others = [ngrams.smooth(counts, 0.5), ngrams.smooth(counts, 2.0), 0.9 * own + 0.1 * single]
        best = ngrams.divergence(rows, own, weights)
        gains.append([ngrams.divergence(rows, other, weights) - best for other in others])
    assert np.all(np.mean(gains, axis=0) > 3 * np.std(gains, axis=0) / 60**0.5)


def test_tuned_constant_is_the_best_of_a_grid():
    rows, text, rng = drawn(N=500)
    counts, held = (ngrams.count(t, 4) for t in (text, ngrams.draw_tokens(rows, 5000, rng)))
    best = ngrams.tune(counts, held)

    def surprise(lam):
        return -np.sum(held * np.log(ngrams.smooth(counts, lam)))

    assert all(surprise(best) <= surprise(lam) for lam in np.geomspace(0.01, 50, 60))
    assert 0.1 < best < 10


def test_low_rank_fit_is_as_much_likelier_as_it_has_parameters():
    rows, text, rng = drawn("shared", V=5, N=5000, rank=2)
    counts = ngrams.count(text, 5)
    found = ngrams.low_rank(counts, 2, rng)
    gain = 2 * np.sum(counts * np.log(found / rows))
    assert chi2.ppf(1e-3, 22) < gain < chi2.ppf(1 - 1e-3, 22)  # of 22 free parameters
    even = ngrams.low_rank(counts, 2, rng, ridge=1e6)
    np.testing.assert_allclose(even, 0.2, atol=1e-3)


# A Transformer --------------------------------------------------------------------------------


def small(depth=2):
    network = ngrams.Decoder(depth=depth, heads=2)
    return network, network.init(jax.random.key(0), 3, 8, 6)


def test_decoder_gives_laws_and_sees_no_later_letter():
    network, params = small()
    windows = np.random.default_rng(0).integers(3, size=(5, 6))
    logs = np.asarray(network.predict(params, windows))
    np.testing.assert_allclose(np.exp(logs).sum(axis=-1), 1, rtol=1e-5)
    changed = windows.copy()
    changed[:, 4:] = (changed[:, 4:] + 1) % 3
    others = np.asarray(network.predict(params, changed))
    np.testing.assert_allclose(others[:, :4], logs[:, :4], atol=1e-5)
    assert np.abs(others[:, 4:] - logs[:, 4:]).max() > 0.01


def test_decoder_sees_the_order_of_earlier_letters():
    network, params = small(depth=1)
    logs = np.asarray(network.predict(params, np.array([[0, 1, 2], [1, 0, 2]])))
    assert np.abs(logs[0, 2] - logs[1, 2]).max() > 1e-3


def test_learning_stops_where_held_out_text_is_foretold_worse():
    network, params = small(depth=1)
    rng = np.random.default_rng(0)
    text, held = rng.integers(3, size=(2, 40))  # nothing to be learned but by heart
    point = {"key": jax.random.key(1), "shape": (16, 6), "every": 10, "patience": 3}
    end = ngrams.learn(network, params, text, held, adamw(2000, 1e-2), 2000, **point)
    assert end.step % 10 == 0 and end.step < 500
    windows = held[:35].reshape(-1, 7)
    logs = np.asarray(network.predict(end.params, windows[:, :-1]))[:, 1:]
    found = -np.take_along_axis(logs, windows[:, 2:, None], axis=-1).mean()
    assert end.loss == pytest.approx(found, rel=1e-4)
    with pytest.raises(FloatingPointError, match="not finite after"):
        ngrams.learn(network, params, text, held, adamw(9, 1e30, decay=1e30), 9, **point)


@pytest.mark.parametrize("name, text", [("text", [0, 1, -1]), ("held", [0, 1, 3])])
def test_learning_refuses_letters_that_a_network_has_not(name, text):
    """Indices of arrays would wrap around or be cut, without a word."""
    network, params = small(depth=1)
    texts = {"text": np.tile([0, 1, 2], 9), "held": np.tile([0, 1, 2], 9), name: np.tile(text, 9)}
    with pytest.raises(ValueError, match=f"^{name} must"):
        ngrams.learn(network, params, **texts, optimiser=adamw(2, 1e-2), steps=2,
                     key=jax.random.key(1), shape=(2, 6))  # fmt: skip


def test_learning_refuses_windows_without_places():
    network, params = small(depth=1)
    text = np.tile([0, 1, 2], 9)
    with pytest.raises(ValueError, match="^shape must"):
        ngrams.learn(network, params, text, text, adamw(2, 1e-2), 2,
                     key=jax.random.key(1), shape=(2, 7))  # fmt: skip


# Trials ---------------------------------------------------------------------------------------


def test_trials_share_their_text():
    point = {"kind": "shared", "V": 3, "N": 100, "rank": 2}
    counted = ngrams.counted_trigrams(3, **point)
    trained = ngrams.trained_trigrams(
        3, **point, width=4, heads=1, depth=1, length=4, steps=2, size=2
    )
    assert trained["smoothed"] == counted["smoothed"]
    assert trained["low_rank"] == pytest.approx(counted["low_rank"], rel=1e-3)
    assert trained["network"] > 0 and trained["step"] in (0, 2)
    assert counted == ngrams.counted_trigrams(3, **point) != ngrams.counted_trigrams(4, **point)


COUNTS, ROWS, RNG = np.ones((3, 3, 3)), np.full((3, 3, 3), 1 / 3), np.random.default_rng(0)
POINT = {"kind": "shared", "V": 8, "N": 1000}


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: ngrams.draw_rows("other", 3, RNG), "kind"),
        (lambda: ngrams.draw_rows("shared", 1, RNG), "V"),
        (lambda: ngrams.draw_rows("shared", 3, 0), "rng"),
        (lambda: ngrams.draw_rows("arbitrary", 3, RNG, lam=np.nan), "lam"),
        (lambda: ngrams.draw_rows("shared", 3, RNG, rank=0), "rank"),
        (lambda: ngrams.free_parameters(4, rank=4), "rank"),
        (lambda: ngrams.stationary(np.full((3, 3, 3), np.nan)), "rows"),
        (lambda: ngrams.stationary(COUNTS), "rows"),
        (lambda: ngrams.stationary(np.full((3, 3, 2), 0.5)), "rows"),
        (lambda: ngrams.draw_tokens(ROWS, 0, RNG), "N"),
        (lambda: ngrams.count(np.array([0, 1, 3]), 3), "text"),
        (lambda: ngrams.count(np.array([0, 1]), 3), "text"),
        (lambda: ngrams.count(np.array([0, 1, 0.5]), 3), "text"),
        (lambda: ngrams.divergence(ROWS, ROWS, -np.ones((3, 3))), "weights"),
        (lambda: ngrams.divergence(ROWS, COUNTS, np.ones((3, 3))), "found"),
        (lambda: ngrams.smooth(-COUNTS, 1.0), "counts"),
        (lambda: ngrams.smooth(COUNTS / 2, 1.0), "counts"),
        (lambda: ngrams.smooth(COUNTS, 0.0), "lam"),
        (lambda: ngrams.tune(COUNTS, np.ones((2, 2, 2))), "held"),
        (lambda: ngrams.tune(COUNTS, 0 * COUNTS), "held"),
        (lambda: ngrams.low_rank(0 * COUNTS, 1, RNG), "counts"),
        (lambda: ngrams.low_rank(COUNTS, 1, RNG, ridge=0.0), "ridge"),
        (lambda: ngrams.low_rank(COUNTS, 1, RNG, starts=0), "starts"),
        (lambda: ngrams.expected_divergence(-1, 3, 1.0), "visits"),
        (lambda: ngrams.expected_divergence(1.5, 3, 1.0), "visits"),
        (lambda: ngrams.posterior_divergence(COUNTS, np.inf), "lam"),
        (lambda: ngrams.Decoder(depth=0, heads=1), "depth"),
        (lambda: ngrams.Decoder(depth=1, heads=True), "heads"),
        (lambda: ngrams.trained_trigrams.check(**POINT, width=30), "width"),
        (lambda: ngrams.trained_trigrams.check(**POINT, length=1), "length"),
        (lambda: ngrams.trained_trigrams.check(**POINT | {"N": 70}), "N"),
        (lambda: ngrams.counted_trigrams.check(**POINT | {"V": 3}), "rank"),
        (lambda: ngrams.counted_trigrams.check(**POINT, ridge=-1.0), "ridge"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(call, name):
    with pytest.raises((ValueError, TypeError), match=f"^{name} must"):
        call()
