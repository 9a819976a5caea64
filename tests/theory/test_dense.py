"""Tokens with a covariance: against matrices row by row, against what cannot be wrong, and fits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.optimize import brentq

from iclkit import fit_gamma
from iclkit.data import laws
from iclkit.data.moments import Moments, prediction_error
from iclkit.theory import _dense, _levels, _structured
from iclkit.theory._setting import setting
from iclkit.theory.limit import _checked_test, effective_ridge, icl_error, idg_error, optimal_ridge

BOTH = (icl_error, idg_error)
pytestmark = pytest.mark.filterwarnings("ignore::iclkit.data.laws.FewDirectionsWarning")

taus = st.floats(0.05, 0.95) | st.floats(1.05, 20)
ratios = st.floats(0.05, 20)
kappas = ratios | st.just(np.inf)
noises = st.just(0.0) | st.floats(1e-3, 5)
ridges = st.just(0.0) | st.floats(1e-3, 10)
spectra = st.lists(st.floats(0.05, 10), min_size=4, max_size=4)


def rotation(rng, d):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def wishart(rng, d):
    factor = rng.standard_normal((d, d + 1))
    return factor @ factor.T / d


def row_by_row(point, s, C, C_t, s_t, alpha_test, rho_test):
    """Both errors with tokens diag(s), by resolvents of each row and none of the code's forms."""
    tau, alpha, kappa, rho, lam = (
        float(point[name]) for name in ("tau", "alpha", "kappa", "rho", "lam")
    )
    d, S = len(s), np.diag(s)
    tr = lambda A: np.trace(A) / d  # noqa: E731
    q = (rho + tr(S @ C)) / alpha
    P = S @ C @ S

    def resolvent(z):
        K = q * S + z * np.eye(d)
        root = 1 / np.sqrt(np.diag(K))
        p = np.linalg.eigvalsh(root[:, None] * P * root)
        if np.isinf(kappa):
            return np.linalg.inv(P + K), K, 1.0
        excess = lambda v: kappa * (v - 1) - np.mean(v * p / (p + v))  # noqa: E731
        v = brentq(excess, 1.0, 1 + p.mean() / kappa + 1e-9, xtol=1e-15, rtol=1e-15)
        return np.linalg.inv(P / v + K), K, 1 / v

    def response(F, K, c, M):
        return c / kappa * tr(P @ F @ M @ F) / (1 + tr(P @ F @ K @ F) / kappa)

    def spent(xi):
        return np.mean([1 - xi / si * tr(resolvent(xi / si)[0]) for si in s])

    xi, slack = 0.0, tau - 1
    if lam > 0 or tau < 1:
        excess = lambda log: tau - tau * lam / np.exp(log) - spent(np.exp(log))  # noqa: E731
        xi = np.exp(brentq(excess, -25, 25, xtol=1e-15, rtol=1e-15))
        slack = tau * lam / xi
    N, f2, bias, growth, b2, S_bg2 = rho, 0.0, rho_test, 0.0, 0.0, 0.0
    S_t = np.diag(s_t) if s_t.ndim == 1 else s_t
    P_t = S_t @ C_t @ S_t
    q_t = (rho_test + tr(S_t @ C_t)) / alpha_test
    q_i = (rho_test + tr(S @ C)) / alpha_test
    M, spread = q_t * S_t + P_t, 0.0
    for i, si in enumerate(s):
        z = xi / si
        F, K, c = resolvent(z)
        slope = response(F, K, c, np.eye(d))
        BG2 = F @ ((c - z * slope) * P + q * S) @ F
        Ki = K[i, i]
        FPF = F @ P @ F
        RG2 = F[i, i] - Ki * (F @ F + slope * FPF)[i, i]
        N += (q * (1 - Ki * F[i, i]) + z * Ki / si * RG2) / d
        r = response(F, K, c, S)
        f2 += (si - 2 * Ki * si * F[i, i] + Ki**2 * (F @ S @ F + r * FPF)[i, i]) / si / d
        growth += z * tr(BG2) / d
        b2 += tr(F @ ((c * P + q * S) @ np.linalg.inv(F)) @ F - z * BG2) / d
        S_bg2 += tr(S @ BG2) / d
        H = np.eye(d) - K @ F
        bias += ((S_t @ C_t)[i, i] - 2 * (H @ P_t)[i, i] / si) / d
        for j, sj in enumerate(s):
            F_j, K_j, c_j = resolvent(xi / sj)
            r = tr(P @ F @ M @ F_j) / (kappa / (c * c_j) - tr(P @ F @ P @ F_j))
            both = H @ M @ (np.eye(d) - K_j @ F_j).T + Ki * K_j[j, j] * r * F @ P @ F_j
            bias += S_t[i, j] / si / sj * both[i, j] / d
        spread += S_t[i, i] / si * tr(M @ BG2) / d
    scale = N / (slack + growth)
    idg = rho_test + (N - rho) + (q_i - q) * f2 + scale * (b2 + (q_i - q) * S_bg2)
    return bias + scale * spread, idg


@pytest.mark.parametrize("seed", range(8))
def test_row_by_row(seed):
    rng, d = np.random.default_rng(seed), 6
    point = dict(zip(("tau", "alpha", "kappa"), 10 ** rng.uniform(-0.7, 0.7, 3), strict=True))
    point |= {"rho": rng.uniform(0, 1), "lam": [0.0, 0.3][seed % 2]}
    if seed > 5:
        point["kappa"] = np.inf
    s, s_t = 10 ** rng.uniform(-0.7, 0.7, (2, d))
    C, C_t = wishart(rng, d), wishart(rng, d)
    S_t = wishart(rng, d) if seed % 4 > 1 else np.diag(s_t)  # which commutes with tokens, or not
    if seed % 3 == 0:
        C = np.diag(np.diag(C))  # which commutes
    expected = row_by_row(point, s, C, C_t, S_t, 3.0, 0.3)
    Q, test = rotation(rng, d), {"alpha_test": 3.0, "rho_test": 0.3}
    around = {"tokens": Q @ np.diag(s) @ Q.T, "tasks": Q @ C @ Q.T}
    around = {name: (A + A.T) / 2 for name, A in around.items()}
    new = {"test_tasks": Q @ C_t @ Q.T, "test_tokens": Q @ S_t @ Q.T}
    new = {name: (A + A.T) / 2 for name, A in new.items()}
    assert icl_error(**point, **around, **new, **test) == pytest.approx(expected[0], rel=1e-10)
    assert idg_error(**point, **around, **test) == pytest.approx(expected[1], rel=1e-10)
    own = row_by_row(point, s, C, C, s, point["alpha"], point["rho"])
    for error, value in zip(BOTH, own, strict=True):
        assert error(**point, **around) == pytest.approx(value, rel=1e-10)


@given(spectra, spectra, taus, ratios, kappas, noises, ridges)
def test_directions_and_matrices_agree(s, C, tau, alpha, kappa, rho, lam):
    """What commutes, as if it did not."""
    point, test = (tau, alpha, kappa, rho, lam), (2.0, 0.3)
    law, numbers = _structured.checked((C, C[::-1], s, s[::-1]), *point)
    if law.tokens.size < 4:
        return
    full = law._replace(tasks=np.diag(law.tasks), test_tasks=np.diag(law.test_tasks))
    test = _checked_test(numbers[1], numbers[3], *test)
    dense = _structured.errors(full, numbers, *test)
    assert dense == pytest.approx(_structured.errors(law, numbers, *test), rel=1e-8)


@given(st.integers(0, 100), st.floats(1.05, 20), ratios, kappas, noises)
def test_whitening_without_ridge(seed, tau, alpha, kappa, rho):
    rng, d = np.random.default_rng(seed), 5
    S, C, C_t = (wishart(rng, d) for _ in range(3))
    values, vectors = np.linalg.eigh(S)
    root = (vectors * values**0.5) @ vectors.T
    white, white_test = (root @ A @ root for A in (C, C_t))
    white, white_test = ((A + A.T) / 2 for A in (white, white_test))
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho}
    found = icl_error(**point, tokens=S, tasks=C, test_tasks=C_t)
    expected = icl_error(**point, tasks=white, test_tasks=white_test)
    assert found == pytest.approx(expected, rel=1e-7)
    found, expected = idg_error(**point, tokens=S, tasks=C), idg_error(**point, tasks=white)
    assert found == pytest.approx(expected, rel=1e-7)


@given(st.integers(0, 100), st.floats(1.05, 20), kappas, noises)
def test_other_tokens_at_test_are_whitened_too(seed, tau, kappa, rho):
    """Without ridge and beyond the peak the tokens of pretraining are no more than a basis."""
    rng, d = np.random.default_rng(seed), 5
    S, S_t, C, C_t = (wishart(rng, d) + 0.1 * np.eye(d) for _ in range(4))
    values, vectors = np.linalg.eigh(S)
    root, inverse = ((vectors * values**p) @ vectors.T for p in (0.5, -0.5))
    white = {"tasks": root @ C @ root, "test_tasks": root @ C_t @ root}
    white |= {"test_tokens": inverse @ S_t @ inverse}
    white = {name: (A + A.T) / 2 for name, A in white.items()}
    point = {"tau": tau, "alpha": 2.0, "kappa": kappa, "rho": rho}
    found = icl_error(**point, tokens=S, tasks=C, test_tasks=C_t, test_tokens=S_t)
    assert found == pytest.approx(icl_error(**point, **white), rel=1e-7)


@pytest.mark.parametrize("lam", [0.0, 0.2])
def test_turned_tokens_at_test(lam):
    """Turned by little they change little; a direction without tokens changes nothing."""
    rng, d = np.random.default_rng(0), 8
    s, s_t, C = rng.gamma(2.0, size=d), rng.gamma(2.0, size=d), wishart(rng, d)
    A = rng.standard_normal((d, d))
    point = {"tau": 0.6, "alpha": 2.0, "kappa": 0.7, "rho": 0.1, "lam": lam, "alpha_test": 5.0}

    def turned(size):
        Q = expm(size * (A - A.T))
        S_t = Q @ np.diag(s_t) @ Q.T
        return (S_t + S_t.T) / 2

    plain = icl_error(**point, tokens=np.diag(s), tasks=C, test_tokens=np.diag(s_t))
    near = icl_error(**point, tokens=np.diag(s), tasks=C, test_tokens=turned(1e-6))
    far = icl_error(**point, tokens=np.diag(s), tasks=C, test_tokens=turned(1.0))
    assert near == pytest.approx(plain, rel=1e-4) and abs(far / plain - 1) > 0.01
    more = {"tau": 0.6 * 0.64, "alpha": 1.6, "kappa": 0.56, "rho": 0.1, "lam": lam / 0.512}
    padded = {"tokens": np.diag(s) / 0.8, "tasks": C, "test_tokens": turned(1.0) / 0.8}
    padded = {name: np.pad(law, (2, 0)) for name, law in padded.items()}
    found = icl_error(**more, **padded, alpha_test=4.0)
    assert found == pytest.approx(far, rel=1e-9)
    with pytest.raises(ValueError, match="test_tokens must be zero in directions"):
        icl_error(**more, **(padded | {"test_tokens": wishart(rng, 10)}))


def test_rows_that_meet_are_interpolated():
    rng, d = np.random.default_rng(0), 70
    s, C = np.exp(np.linspace(-1.5, 1.5, d)), wishart(rng, d)
    law, numbers = _structured.checked(
        (C, wishart(rng, d), np.diag(s), wishart(rng, d)), 0.5, 3.0, 0.6, 0.1, 0.01
    )
    point = _structured.in_units(law, *(np.array([float(a)]) for a in (*numbers, 2.0, 0.2)))
    few = _levels.nodes(law.tokens, law.weights)
    assert few.tokens.size < d
    every = few._replace(tokens=law.tokens, rows=np.eye(d), mean=law.weights)
    xi = _dense.solve(law, point, few)
    found, expected = (_dense.errors_at(law, point, xi, None, at)[0] for at in (few, every))
    assert found == pytest.approx(expected, rel=1e-8)


def test_rows_that_meet_with_either_sign():
    """A response between two rows can be negative, where tasks and test lie across each other."""
    rng, d = np.random.default_rng(0), 4
    s, u, v = np.array([1.0, 9.0, 0.2, 0.05]), *np.array([[1, -3, -0.6, 1.0], [2, 0.6, -0.7, 4]])
    C, C_t = np.outer(v, v) + 1e-3 * np.eye(d), wishart(rng, d)
    S, S_t = np.diag(s), np.outer(u, u) + 1e-3 * np.eye(d)
    q, q_t, kappa, xi = 0.9, 0.7, 0.3, 0.8
    P, M = S @ C @ S, q_t * S_t + S_t @ C_t @ S_t
    found = []
    for z in xi / s:
        K = q * S + z * np.eye(d)
        p = np.linalg.eigvals(np.linalg.solve(K, P)).real
        v = brentq(lambda v, p=p: kappa * (v - 1) - np.mean(v * p / (p + v)), 1, 1e6, xtol=1e-12)
        found.append((np.linalg.inv(P / v + K), K, 1 / v))
    missed = 0.0
    negative = False
    for i, (F, K, c) in enumerate(found):
        for j, (H, L, c2) in enumerate(found):
            r = c * c2 / kappa * np.trace(P @ F @ M @ H) / d
            r /= 1 - c * c2 / kappa * np.trace(P @ F @ P @ H) / d
            negative |= r < -1e-3
            rows = (np.eye(d) - K @ F)[i] / s[i], (np.eye(d) - L @ H)[j] / s[j]
            left = (np.eye(d)[row] - one @ S_t for row, one in zip((i, j), rows, strict=True))
            pair = np.linalg.multi_dot([next(left), C_t, next(left)])
            pair += q_t * rows[0] @ S_t @ rows[1]
            pair += r * (K @ F @ P @ H @ L)[i, j] / s[i] / s[j]
            missed += S_t[i, j] * pair / d
    assert negative
    law = setting(C, C_t, S, S_t)._replace(tokens=s, tasks=C, test_tokens=S_t, test_tasks=C_t)
    states = [_dense._state(law, q, kappa, float(z), np.inf) for z in xi / s]
    told = _dense._coupled_bias(law, states, np.eye(d), q, kappa, xi, q_t)
    assert told == pytest.approx(missed, rel=1e-8)


@given(spectra, spectra, taus, ratios, kappas, noises, ridges, st.floats(0.1, 10))
def test_units_of_tokens_do_not_matter(s, C, tau, alpha, kappa, rho, lam, unit):
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho}
    s, C = np.array(s), np.array(C)
    for error in BOTH:
        plain = error(**point, lam=lam, tokens=s, tasks=C)
        scaled = error(**point, lam=lam * unit**2, tokens=unit * s, tasks=C / unit)
        assert scaled == pytest.approx(plain, rel=1e-9)


@given(spectra, spectra, taus, ratios, kappas, noises, ridges)
def test_directions_without_tokens_are_no_directions(s, C, tau, alpha, kappa, rho, lam):
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho}
    more = {"tau": tau / 4, "alpha": alpha / 2, "kappa": kappa / 2, "rho": rho}
    s, C = np.array(s), np.array(C)
    for error in BOTH:
        plain = error(**point, lam=lam, tokens=s, tasks=C)
        found = error(**more, lam=lam * 8, tokens=np.append(2 * s, 0 * s), tasks=np.append(C, C))
        assert found == pytest.approx(plain, rel=1e-9)


@given(spectra, spectra, taus, ratios, kappas, noises, ridges)
def test_order_and_parts_of_directions_do_not_matter(s, C, tau, alpha, kappa, rho, lam):
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam}
    order = [2, 0, 3, 1]
    for error in BOTH:
        plain = error(**point, tokens=s, tasks=C)
        turned = error(**point, tokens=np.array(s)[order], tasks=np.array(C)[order])
        assert turned == pytest.approx(plain, rel=1e-9)
        parts = {"tokens": np.repeat(s, [3, 6, 3, 3]), "tasks": np.repeat(C, [3, 6, 3, 3])}
        levels = {"tokens": (s, [1.0, 2.0, 1.0, 1.0]), "tasks": (C, [1.0, 2.0, 1.0, 1.0])}
        assert error(**point, **parts) == pytest.approx(error(**point, **levels), rel=1e-9)


@given(spectra, spectra, taus, ratios, noises, ridges)
def test_many_tasks_are_endless(s, C, tau, alpha, rho, lam):
    point = {"tau": tau, "alpha": alpha, "rho": rho, "lam": lam}
    for error in BOTH:
        endless = error(**point, kappa=np.inf, tokens=s, tasks=C)
        assert error(**point, kappa=1e9, tokens=s, tasks=C) == pytest.approx(endless, rel=1e-6)


@pytest.mark.parametrize("tau", [0.4, 3.0])
@pytest.mark.parametrize("wide", [3.0, 12.0, 30.0])
def test_nodes_are_as_good_as_all_tokens(wide, tau):
    rng, m = np.random.default_rng(0), 3000
    s, C = np.exp(wide * np.linspace(-0.5, 0.5, m)), rng.gamma(0.5, size=m)
    law, numbers = _structured.checked((C, C[::-1], s, s**0.5), tau, 3.0, 0.6, 0.1, 0.01)
    point = _structured.in_units(law, *(np.array([float(a)]) for a in (*numbers, 2.0, 0.2)))
    few = _levels.nodes(law.tokens, law.weights)
    assert few.tokens.size < 200
    xi = _levels.solve(law, point, few)
    assert _levels.accurate(law, point, xi, few)
    some = rng.choice(m, 300, replace=False)
    exact = few._replace(tokens=law.tokens[some], rows=np.eye(m)[:, some])
    # The state at a token, from the nodes and by itself.
    for name in ("v", "hg_q", "room"):
        at_nodes, itself = (
            getattr(
                _levels.equivalent(
                    law, *(np.repeat(a, n.size) for a in (point.q, point.kappa)), xi / n,
                    np.full(n.size, np.inf),
                ),
                name,
            )
            for n in (few.tokens, exact.tokens)
        )  # fmt: skip
        np.testing.assert_allclose(few.to_rows(at_nodes[None])[0, some], itself, rtol=1e-9)


def test_too_few_nodes_are_noticed(monkeypatch):
    s, C = np.exp(20 * np.linspace(-0.5, 0.5, 2000)), np.ones(2000)
    law, numbers = _structured.checked((C, C, s, s), 0.5, 3.0, 0.6, 0.1, 0.01)
    point = _structured.in_units(law, *(np.array([float(a)]) for a in (*numbers, 3.0, 0.1)))
    plenty = _levels.nodes(law.tokens, law.weights)
    thin = _levels.nodes(np.geomspace(s[0], s[0] * 1.2, 2000), law.weights)
    wide = law.tokens[0] * np.exp(np.log(thin.tokens / s[0]) / np.log(1.2) * 20)
    few = thin._replace(tokens=wide, others=law.tokens[[100, 1000]],
                        to_others=thin.rows[[100, 1000]])  # fmt: skip
    xi = _levels.solve(law, point, plenty)
    assert _levels.accurate(law, point, xi, plenty)
    assert not _levels.accurate(law, point, xi, few)


def drawn(rng, tasks, ell, rho, root):
    """Contexts token by token: queries, statistics and labels."""
    n, d = tasks.shape
    tokens = rng.standard_normal((n, ell + 1, d)) @ root / d**0.5
    y = np.einsum("nld,nd->nl", tokens, tasks)
    y = y + rho**0.5 * rng.standard_normal(y.shape)
    first = (d / ell) * np.einsum("nl,nld->nd", y[:, :-1], tokens[:, :-1])
    last = np.mean(y[:, :-1] ** 2, axis=1, keepdims=True)
    return tokens[:, -1], np.hstack([first, last]), y[:, -1]


def exact_error(gamma, S, R, quartic, ell, rho):
    """Error of Γ over tasks of covariance R, without the part of odd moments, which is zero."""
    d = len(S)
    energy = rho + np.trace(S @ R) / d
    first = (1 + 1 / ell) * S @ R @ S + d / ell * energy * S
    B = np.zeros((d + 1, d + 1))
    B[:d, :d], B[d, d] = first, (1 + 2 / ell) * (energy**2 + quartic)
    # In the norm of the query, Tr SΓBΓᵀ.
    values, vectors = np.linalg.eigh(S)
    root = (vectors * values**0.5) @ vectors.T
    A = np.hstack([np.linalg.solve(root, S @ R @ S), np.zeros((d, 1))])
    return prediction_error(root @ gamma, Moments(A, B, energy))


@pytest.mark.parametrize(
    "point",
    [
        {"tau": 0.5, "alpha": 2.0, "kappa": np.inf, "rho": 0.2, "lam": 0.1},
        {"tau": 2.5, "alpha": 2.0, "kappa": np.inf, "rho": 0.2, "lam": 0.3},
    ],
)
def test_fits_meet_theory(point):
    """Tasks that do not commute with tokens."""
    means, bars = [], []
    for d in (12, 24):
        rng = np.random.default_rng(d)
        Q = rotation(np.random.default_rng(1), 12)
        Q = np.kron(Q, np.eye(d // 12))  # the same law at both sizes
        S = np.diag(np.repeat([1.6, 0.4], d // 2))
        C = (Q * np.repeat([2.5, 0.5], [d // 4, d - d // 4])) @ Q.T
        ell, n = round(point["alpha"] * d), round(point["tau"] * d**2)
        runs = []
        for _ in range(60):
            w = rng.standard_normal((n, d)) @ np.linalg.cholesky(C).T
            x, h, y = drawn(rng, w, ell, point["rho"], np.sqrt(S))
            gamma = fit_gamma(x, h, y, point["lam"]).gamma
            quartic = 2 * np.trace(S @ C @ S @ C) / d**2
            runs.append(exact_error(gamma, S, C, quartic, ell, point["rho"]))
        means.append(np.mean(runs))
        bars.append(np.std(runs, ddof=1) / len(runs) ** 0.5)
    limit, bar = 2 * means[1] - means[0], np.hypot(2 * bars[1], bars[0])
    expected, isotropic = icl_error(**point, tasks=C, tokens=S), icl_error(**point)
    allowed = 3 * bar + 10 * expected / 24**2
    assert abs(limit - expected) < allowed < abs(limit - isotropic)


@pytest.mark.parametrize("kappa", [0.5, np.inf])
@pytest.mark.parametrize("test", ["icl", "idg"])
def test_best_ridge_is_best(test, kappa):
    rng = np.random.default_rng(0)
    around = {"tasks": wishart(rng, 5), "tokens": wishart(rng, 5)}
    new = {"test_tasks": wishart(rng, 5)} if test == "icl" else {}
    point = {"tau": [0.4, 2.0], "alpha": 2.0, "kappa": kappa, "rho": 0.3}
    best = optimal_ridge(**point, test=test, **around, **new)
    error = icl_error if test == "icl" else idg_error
    lam = best * np.array([[0.9], [1.0], [1.1]])
    assert error(**point, lam=lam, **around, **new).argmin(axis=0).tolist() == [1, 1]


def test_spectra_lie_along_the_axes():
    rng = np.random.default_rng(0)
    point, d = {"tau": 0.5, "alpha": 2.0, "kappa": 0.7, "rho": 0.1, "lam": 0.1}, 5
    s, C = rng.gamma(1.0, size=d), wishart(rng, d)
    for error in BOTH:
        expected = error(**point, tokens=np.diag(s), tasks=C)
        assert error(**point, tokens=s, tasks=C) == pytest.approx(expected, rel=1e-10)
        assert error(**point, tokens=laws.spectrum(s), tasks=laws.covariance(C)) == pytest.approx(
            expected, rel=1e-10
        )


@given(spectra, spectra, taus, ratios, kappas, noises, ridges)
def test_effective_ridge_spends_what_contexts_allow(s, C, tau, alpha, kappa, rho, lam):
    point = {"tau": tau, "alpha": alpha, "kappa": kappa, "rho": rho, "lam": lam}
    isotropic = effective_ridge(**point, tasks=[1.0, 1.0])
    assert isotropic == pytest.approx(effective_ridge(**point), rel=1e-10)
    xi = effective_ridge(**point, tokens=s, tasks=C)
    if lam == 0 and tau > 1:
        assert xi == 0
    elif np.isinf(kappa):
        s, C = np.array(s), np.array(C)
        b = (rho + np.mean(s * C)) / alpha * s + s**2 * C
        spent = np.mean(s[:, None] * b / (s[:, None] * b + xi))
        assert tau * (1 - lam / xi) == pytest.approx(spent, rel=1e-9)


@pytest.mark.parametrize("tau", [0.4, 3.0])
def test_nodes_are_as_good_as_all_tokens_in_matrices(tau, monkeypatch):
    rng, d = np.random.default_rng(0), 60
    s, C, C_t = np.exp(rng.uniform(-1, 1, d)), wishart(rng, d), wishart(rng, d)
    point = {"tau": tau, "alpha": 2.0, "kappa": 0.6, "rho": 0.1, "lam": 0.05}
    found = icl_error(**point, tokens=s, tasks=C, test_tasks=C_t)
    nodes = _levels.nodes
    assert nodes(s, np.full(d, 1 / d)).tokens.size < d
    monkeypatch.setattr(_levels, "nodes", lambda s, w, _: nodes(s, w, 2))
    exact = icl_error(**point, tokens=s, tasks=C, test_tasks=C_t)
    assert found != exact and found == pytest.approx(exact, rel=1e-10)


def test_no_points_have_no_errors():
    for around in ({"tasks": [1.0, 2.0]}, {"tokens": np.geomspace(1, 9, 200)}, {"tasks": [1.0]}):
        for error in BOTH:
            assert error([], 2.0, 1.0, 0.1, 0.1, **around).shape == (0,)
