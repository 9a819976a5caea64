"""One run: on the theory in the limit, and its arguments checked."""

import numpy as np
import pytest

from iclkit import backend, icl_error, idg_error, simulate
from iclkit.data import laws
from iclkit.data._at import law_at
from iclkit.data.contexts import draw_statistics
from iclkit.data.moments import population_moments, prediction_error
from iclkit.data.tasks import assign_tasks, draw_tasks
from iclkit.fits.fit import fit_gamma
from iclkit.runs.one import linear_attention

POINT = {"d": 12, "tau": 0.5, "alpha": 1.0, "kappa": 0.5, "rho": 0.1}


def turned(law, seed):
    """The covariance of a law in 12 dimensions, with random eigenvectors."""
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((12, 12)))[0]
    C = (basis * laws.eigenvalues(law, 12)) @ basis.T
    return (C + C.T) / 2


LAWS = {
    "tasks": turned(laws.power_law(0.7, 12), 0), "tokens": turned(laws.two_level(0.25, 0.1), 1),
    "test_tasks": turned(laws.low_rank(0.5), 2), "test_tokens": turned(laws.power_law(0.3, 12), 3),
}  # fmt: skip


def test_unlimited_diversity_has_one_error():
    errors = linear_attention(0, **(POINT | {"kappa": np.inf}))
    assert errors["icl_error"] == errors["idg_error"]


@pytest.mark.parametrize("kappa", [0.5, np.inf])
def test_errors_on_gaussian_tasks_are_those_of_test_sets(kappa):
    """Both errors of fits against labels of fresh contexts, within 4 standard errors."""
    point = POINT | {"kappa": kappa, "tau": 2.0, "lam": 0.1, "prior": "gaussian"}
    d, ell, k, n = 12, 12, 6, 288
    gaps = {"icl_error": [], "idg_error": []}
    for seed in range(20):
        errors = linear_attention(seed, **point)
        streams = backend.streams(seed, np)  # the run's own draws once more, for its tasks and Γ*
        tasks = draw_tasks(n if np.isinf(kappa) else k, d, streams.tasks, prior="gaussian")
        w = tasks if np.isinf(kappa) else tasks[assign_tasks(n, k, streams.tasks)]
        gamma = fit_gamma(*draw_statistics(w, ell, point["rho"], streams), point["lam"]).gamma
        new = draw_tasks(20_000, d, streams.tasks, prior="gaussian")
        old = new if np.isinf(kappa) else tasks[assign_tasks(20_000, k, streams.tasks)]
        for name, test in ("icl_error", new), ("idg_error", old):
            x, h, y = draw_statistics(test, ell, point["rho"], streams)
            gaps[name].append(np.mean((y - np.vecdot(x @ gamma, h)) ** 2) - errors[name])
    for gap in gaps.values():
        assert abs(np.mean(gap)) < 4 * np.std(gap, ddof=1) / np.sqrt(len(gap))


@pytest.mark.parametrize("kappa", [0.5, np.inf])
@pytest.mark.parametrize("listed", [False, True])
def test_errors_on_laws_are_those_of_test_sets(kappa, listed):
    """As above, with tasks, tokens and test contexts of any law, none of which commute."""
    given = LAWS
    if listed:
        given = LAWS | {"tasks": laws.vectors(np.random.default_rng(9).standard_normal((9, 12)))}
    point = POINT | {"kappa": kappa, "tau": 2.0, "lam": 0.1}
    new_tasks, new_tokens = {"tasks": LAWS["test_tasks"]}, {"tokens": LAWS["test_tokens"]}
    law, tokens = {"tasks": given["tasks"]}, {"tokens": given["tokens"]}
    d, ell, k, n, many = 12, 12, 6, 288, 20_000
    gaps = {"icl_error": [], "idg_error": []}
    for seed in range(20):
        errors = linear_attention(seed, **point, **given, alpha_test=1.5, rho_test=0.3)
        streams = backend.streams(seed, np)
        tasks = draw_tasks(n if np.isinf(kappa) else k, d, streams.tasks, **law)
        w = tasks if np.isinf(kappa) else tasks[assign_tasks(n, k, streams.tasks)]
        gamma = fit_gamma(*draw_statistics(w, ell, 0.1, streams, **tokens), 0.1).gamma
        new = draw_tasks(many, d, streams.tasks, **new_tasks)
        if np.isinf(kappa):
            old = draw_tasks(many, d, streams.tasks, **law)
        else:
            old = tasks[assign_tasks(many, k, streams.tasks)]
        for name, test, kind in ("icl_error", new, new_tokens), ("idg_error", old, tokens):
            x, h, y = draw_statistics(test, 18, 0.3, streams, **kind)
            gaps[name].append(np.mean((y - np.vecdot(x @ gamma, h)) ** 2) - errors[name])
    for gap in gaps.values():
        assert abs(np.mean(gap)) < 4 * np.std(gap, ddof=1) / np.sqrt(len(gap))


@pytest.mark.parametrize("kappa", [0.5, np.inf])
def test_isotropic_laws_change_no_bit(kappa):
    point = POINT | {"kappa": kappa}
    for prior in ("sphere", "gaussian"):
        one = linear_attention(0, **point, prior=prior)
        for law in ("isotropic", np.ones(12), np.eye(12)):
            assert one == linear_attention(0, **point, prior=prior, tasks=law, tokens=law)
        test = {"alpha_test": point["alpha"], "rho_test": point["rho"], "test_tokens": np.eye(12)}
        assert one == linear_attention(0, **point, prior=prior, test_tasks="isotropic", **test)


def test_a_law_is_gaussian_unless_said():
    law = {"tasks": "power_law(0.7)"}
    assert linear_attention(0, **POINT, **law) == linear_attention(
        0, **POINT, **law, prior="gaussian"
    )
    assert linear_attention(0, **POINT, **law) != linear_attention(
        0, **POINT, **law, prior="sphere"
    )


def test_axes_have_no_order():
    """Permuted laws, with the same numbers drawn in the same order, have permuted fits."""
    C, S = laws.power_law(0.7, 12).values, laws.power_law(0.3, 12).values[::-1]
    turn = np.random.default_rng(0).permutation(12)
    gaps = []
    for seed in range(40):
        one, other = (
            linear_attention(seed, **POINT, tasks=C[by], tokens=S[by]) for by in (slice(None), turn)
        )
        gaps.append(one["icl_error"] - other["icl_error"])
    assert abs(np.mean(gaps)) < 4 * np.std(gaps, ddof=1) / np.sqrt(len(gaps))


@pytest.mark.parametrize(("kappa", "lam"), [(0.5, 0.0), (np.inf, 0.0)])
def test_errors_have_any_unit(kappa, lam):
    """Above the threshold and without ridge; a ridge has units of its own for the last entry."""
    point = POINT | {"tau": 2.0, "kappa": kappa, "lam": lam}
    C, S = laws.power_law(0.7, 12).values, laws.power_law(0.3, 12).values
    one = linear_attention(0, **point, tasks=C, tokens=S)
    for a, b in ((1e-6, 1e12), (1e20, 1e-8)):
        scaled = point | {"rho": a * b * point["rho"]}
        other = linear_attention(0, **scaled, tasks=a * C, tokens=b * S)
        for name, error in one.items():
            assert other[name] == pytest.approx(a * b * error, rel=1e-4)


@pytest.mark.parametrize("kappa", [0.5, np.inf])
def test_without_ridge_and_above_the_threshold_whitening_is_exact(kappa):
    """Tokens of covariance Σ are isotropic ones with tasks of Σ^½CΣ^½, fitted and tested."""
    d, n, ell, rho = 12, 300, 12, 0.1
    C, Sigma = LAWS["tasks"], LAWS["tokens"]
    s, V = np.linalg.eigh(Sigma)
    root = (V * s**0.5) @ V.T
    seen = [root @ law @ root for law in (C, LAWS["test_tasks"])]
    k = n if np.isinf(kappa) else 6
    tasks = draw_tasks(k, d, np.random.default_rng(0), tasks=C)
    w = tasks if np.isinf(kappa) else tasks[assign_tasks(n, k, np.random.default_rng(1))]
    errors = []
    for law, tokens, tests in (
        (w, Sigma, (C, LAWS["test_tasks"])),
        (w @ root, None, [(P + P.T) / 2 for P in seen]),
    ):
        drawn = draw_statistics(law, ell, rho, backend.streams(2), tokens=tokens)
        gamma = fit_gamma(*drawn, solver="primal", rtol=1e-12).gamma
        errors.append(
            [
                prediction_error(gamma, population_moments(d, ell, rho, tasks=P, tokens=tokens))
                for P in tests
            ]
        )
    np.testing.assert_allclose(*errors, rtol=1e-8)


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize(("tau", "lam"), [(0.1, 0.0), (0.5, 0.2), (2.0, 0.0)])
def test_tokens_of_low_rank_are_fitted_where_they_are(tau, lam, turn):
    """The same Γ*, and the same errors, as from the fit in all dimensions."""
    point = POINT | {"tau": tau, "lam": lam}
    tokens = laws.covariance(turned(laws.low_rank(0.25), 4)) if turn else laws.low_rank(0.25)
    errors = linear_attention(3, **point, tokens=tokens, test_tokens=LAWS["tokens"])
    streams = backend.streams(3)
    tasks = draw_tasks(6, 12, streams.tasks)
    w = tasks[assign_tasks(round(tau * 144), 6, streams.tasks)]
    drawn = draw_statistics(w, 12, 0.1, streams, tokens=tokens)
    gamma = fit_gamma(*drawn, lam, solver="dual").gamma
    population = population_moments(12, 12, 0.1, tokens=LAWS["tokens"])
    assert errors["icl_error"] == pytest.approx(prediction_error(gamma, population), rel=1e-6)


def test_gaussian_tasks_are_other_tasks():
    errors = [linear_attention(0, **POINT, prior=prior) for prior in ("sphere", "gaussian")]
    assert errors[0] != errors[1]


@pytest.mark.parametrize("assignment", ["uniform", "balanced"])
@pytest.mark.parametrize(("tau", "lam"), [(0.5, 0.0), (2.0, 0.0), (1.0, 0.5)])
def test_errors_approach_the_theory(assignment, tau, lam):
    point = {"tau": tau, "alpha": 2.0, "kappa": 0.5, "rho": 0.1, "lam": lam}
    sizes = (10, 14, 20, 28)
    found = [simulate(d=d, runs=60, assignment=assignment, **point) for d in sizes]
    for name, theory in (("icl_error", icl_error), ("idg_error", idg_error)):
        require_limit(sizes, [data[name] for data in found], [theory(**point)] * 4)


def require_limit(sizes, samples, theory):
    """Require that means over theory, extrapolated in 1/d, are 1 within 4 standard errors."""
    mean = np.array([float(s.mean()) / e for s, e in zip(samples, theory, strict=True)])
    error = [float(s.std(ddof=1)) / e / len(s) ** 0.5 for s, e in zip(samples, theory, strict=True)]
    design = np.vander(1 / np.array(sizes), 3, increasing=True) / np.array(error)[:, None]
    covariance = np.linalg.inv(design.T @ design)
    limit = covariance @ design.T @ (mean / error)
    assert abs(limit[0] - 1) < 4 * np.sqrt(covariance[0, 0])


def listed(d):
    """A list of 2d tasks whose entries have random signs: of one length, and not Gaussian."""
    signs = np.random.default_rng(d).integers(0, 2, (2 * d, d)) * 2.0 - 1
    return laws.vectors(signs * np.sqrt(laws.power_law(0.5, d).values))


@pytest.mark.parametrize(
    ("point", "given"),
    [
        ({"tau": 0.7, "kappa": 2.0, "lam": 0.1}, {"tasks": lambda d: laws.power_law(0.5, d)}),
        ({"tau": 2.0, "kappa": 2.0}, {"tasks": lambda d: "low_rank(0.5)",
                                      "test_tasks": lambda d: "isotropic"}),
        ({"tau": 2.0, "kappa": 1.0}, {"tokens": lambda d: "two_level(0.5, 0.4)"}),
        ({"tau": 0.5, "kappa": 1.0, "lam": 0.1, "alpha_test": 4.0, "rho_test": 0.3},
         {"tokens": lambda d: "two_level(0.25, 0.4)", "tasks": lambda d: "two_level(0.5, 0.1)"}),
        ({"tau": 0.5, "kappa": np.inf, "lam": 0.1},
         {"tokens": lambda d: "two_level(0.5, 0.4)", "test_tokens": lambda d: "isotropic"}),
        ({"tau": 2.0, "kappa": np.inf}, {"tasks": listed}),
    ],
    ids=["tasks", "low rank", "tokens", "both", "shift", "listed"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::iclkit.data.laws.FewDirectionsWarning")
def test_errors_on_laws_approach_the_theory(point, given):
    """Each over the limit at the law of its own dimension."""
    sizes, point = (12, 16, 24, 32), point | {"alpha": 2.0, "rho": 0.1}
    at = [{name: law(d) for name, law in given.items()} for d in sizes]
    found = [simulate(d=d, runs=60, **point, **law) for d, law in zip(sizes, at, strict=True)]
    as_laws = [{name: law_at(name, one, d) for name, one in law.items()}
               for d, law in zip(sizes, at, strict=True)]  # fmt: skip
    new = [icl_error(**point, **law) for law in as_laws]
    old = [
        idg_error(**point, **{n: one for n, one in law.items() if "test" not in n})
        for law in as_laws
    ]
    require_limit(sizes, [data.icl_error for data in found], new)
    require_limit(sizes, [data.idg_error for data in found], old)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"d": 0}, ValueError, "d must be an integer of at least 1, got 0"),
        ({"d": 10.0}, TypeError, "d must be an integer, got 10.0"),
        ({"tau": 1e-4}, ValueError, r"tau must be finite with n = tau \* d\*\*2 of at least 1"),
        ({"alpha": 0.01}, ValueError, r"alpha must be finite with ell = alpha \* d of at least 1"),
        ({"kappa": 0.01}, ValueError, r"kappa must be finite with k = kappa \* d of at least 1"),
        ({"tau": np.inf}, ValueError, "tau must be finite"),
        ({"alpha": np.inf}, ValueError, "alpha must be finite"),
        ({"kappa": np.nan}, ValueError, "kappa must be positive .*, got nan"),
        ({"kappa": np.array([np.inf])}, ValueError, "kappa must be a single number"),
        ({"rho": 1e300}, ValueError, "rho must be 0 or between"),
        ({"tau": -1.0}, ValueError, "tau must be positive .*, got -1.0"),
        ({"tau": [0.5, 1.0]}, ValueError, "tau must be a single number"),
        ({"rho": -0.1}, ValueError, "rho must be finite and at least 0, got -0.1"),
        ({"lam": -9.0}, ValueError, "lam must be above .* for these data.*, got -9.0"),
        ({"rho": 1j}, TypeError, "rho must be a real number"),
        ({"prior": "laplace"}, ValueError, "prior must be one of sphere, gaussian"),
        ({"tasks": "cube"}, ValueError, "tasks must be a law, or in words isotropic"),
        ({"test_tasks": np.eye(3)}, ValueError, "test_tasks must be a law in d = 12 dimensions, g"),
        ({"tokens": -np.ones(12)}, ValueError, "tokens must have eigenvalues of at least 0"),
        ({"test_tokens": np.full(12, np.nan)}, ValueError, "test_tokens must be finite"),
        ({"tasks": laws.vectors(np.eye(12)), "prior": "sphere"}, ValueError, "prior must be None"),
        ({"alpha_test": 0.01}, ValueError, r"alpha_test must be finite with ell = alpha \* d"),
        ({"alpha_test": np.nan}, ValueError, "alpha_test must be positive"),
        ({"rho_test": -0.1}, ValueError, "rho_test must be finite and at least 0, got -0.1"),
        ({"assignment": "fair"}, ValueError, "assignment must be one of uniform, balanced"),
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0, got -1"),
    ],
)
def test_bad_arguments(change, error, message):
    with pytest.raises(error, match=message):
        linear_attention(**({"seed": 0} | POINT | change))
