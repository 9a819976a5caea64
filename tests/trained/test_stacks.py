"""Deep stacks: shares, what follows from them, and networks that follow it."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import integrate, stats

from iclkit.trained import stacks
from iclkit.trained.trials import trained_stacks, untrained_stacks


@pytest.fixture(scope="module", autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def test_shares_are_those_of_the_wirings():
    """Pre-LN adds branches of length one to a sum, and the others share a sum by their names."""
    skip, gain, inside = stacks.weigh("pre", 50).values()
    assert inside == 1 and stacks.weigh("post", 50)["inside"] == 0
    np.testing.assert_allclose(skip, 1)
    np.testing.assert_allclose(gain, 1)
    np.testing.assert_array_equal(stacks.shares("admin", 50), stacks.shares("pre", 50))
    assert stacks.shares("post", 50).sum() == stacks.shares("pre_heavy", 50).sum() == 25
    assert stacks.shares("uneven_heavy", 50).sum() == pytest.approx(25)
    even, uneven = (stacks.shares(plan, 50).sum() for plan in ("even", "uneven_light"))
    assert even == pytest.approx(50 / 51) and uneven == pytest.approx(50 / 51)
    assert stacks.imbalance(stacks.shares("uneven_light", 50)) == pytest.approx(19**0.5)


@pytest.mark.parametrize("rho", [-0.9, -0.3, 0.0, 0.5, 0.95])
def test_relu_kernel_is_the_integral(rho):
    def inner(x):  # E max(rho x + sqrt(1 - rho^2) h, 0)
        mean, scale = rho * x, (1 - rho**2) ** 0.5
        return scale * stats.norm.pdf(mean / scale) + mean * stats.norm.cdf(mean / scale)

    found, _ = integrate.quad(lambda x: 2 * x * inner(x) * stats.norm.pdf(x), 0, 40, epsabs=1e-12)
    assert stacks.relu_kernel(rho) == pytest.approx(found, abs=1e-10)


def test_small_noise_is_a_sum_of_shares():
    share = np.random.default_rng(0).uniform(0.05, 0.9, 12)
    assert stacks.output_change(share) == pytest.approx(share.sum())
    for noise in (1e-2, 1e-3):  # of relative order δ² for one matrix, and of δ with a kink
        linear = stacks.output_change(share, noise=noise)
        assert linear == pytest.approx(share.sum(), rel=10 * noise**2)
        relu = stacks.output_change(share, branch="relu", noise=noise)
        assert relu == pytest.approx(2 * share.sum(), rel=10 * noise)
    product = np.prod(1 / np.sqrt(1 + share * 0.3**2))
    assert stacks.output_change(share, noise=0.3) == pytest.approx(2 * (1 - product) / 0.09)


@pytest.mark.parametrize("noise", [1e-12, 1e-8, 1e-5, 0.1, 3.0, 1e4])
def test_the_recursion_loses_no_digits(noise):
    """Against the recursion of overlaps as it is written, in sixty digits."""
    share, squared = stacks.shares("pre", 12), mpmath.mpf(noise) ** 2
    with mpmath.workdps(60):
        for branch, matrices in (("linear", 1), ("relu", 2)):
            overlap, stretch = mpmath.mpf(1), mpmath.sqrt(1 + squared)
            for beta in map(mpmath.mpf, share):
                rho = overlap / stretch
                kernel = mpmath.sqrt(1 - rho**2) + (mpmath.pi - mpmath.acos(rho)) * rho
                aligned = stretch * kernel / mpmath.pi if branch == "relu" else overlap
                length = mpmath.sqrt(1 - beta + beta * (1 + squared) ** matrices)
                overlap = ((1 - beta) * overlap + beta * aligned) / length
            expected = float(2 * (1 - overlap) / squared)
            found = stacks.output_change(share, branch=branch, noise=noise)
            assert found == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("width", [3, 16, 200])
def test_mean_change_has_the_moments_of_a_noncentral_law(width, share):
    """One block by Kummer's function, two by the ratio that is measured block by block."""
    mpmath.mp.dps = 40
    centre = mpmath.mpf(width) * (1 - share) / (2 * share)
    e0, e2 = (
        mpmath.hyp1f1(1, mpmath.mpf(p) / 2 + 1, -centre) / p if p else None
        for p in (width - 2, width)
    )
    one = float((width - 1) * e0)
    passed = float(centre * (e0 + e2) + (width - 1) * e0)
    assert stacks.mean_output_change([share], width) == pytest.approx(one, rel=1e-10)
    two = stacks.mean_output_change([share, share], width)
    assert two == pytest.approx(one * (1 + passed), rel=1e-10)
    if width == 200:
        assert passed == pytest.approx(1 + share * (2 - share) / width, abs=20 / width**2)


def measured(branch, plan, depth, width, runs, noise=0.0):
    """Changes of the output of random stacks, over the square of the noise."""
    stack, weighed = stacks.Stack(branch), stacks.weigh(plan, depth)
    rng = np.random.default_rng(0)
    first, x = rng.standard_normal((runs, 8, width)), rng.standard_normal((runs, 1, 1, 8))
    blocks, other = (
        {
            name: rng.standard_normal((runs, depth, width, width)) / width**0.5
            for name in stacks.BRANCHES[branch]
        }
        for _ in range(2)
    )

    @jax.jit
    @jax.vmap
    def change(first, blocks, other, x):
        def output(blocks):
            return stack.output(weighed | {"first": first, "blocks": blocks}, x)

        if noise == 0:
            return jnp.mean(jax.jvp(output, (blocks,), (other,))[1] ** 2)
        moved = jax.tree.map(lambda a, b: a + noise * b, blocks, other)
        return jnp.mean((output(moved) - output(blocks)) ** 2) / noise**2

    found = np.asarray(change(first, blocks, other, x))
    return found.mean(), found.std(ddof=1) / runs**0.5


@pytest.mark.parametrize("plan", ["post", "admin", "uneven_heavy"])
def test_mean_change_of_linear_stacks_at_a_small_width(plan):
    mean, se = measured("linear", plan, 6, 8, 1000)
    expected = stacks.mean_output_change(stacks.shares(plan, 6), 8)
    assert abs(mean - expected) < 3 * se and se < 0.07 * expected


@pytest.mark.parametrize(("plan", "noise"), [("pre", 0.0), ("post", 0.5), ("admin", 0.5)])
def test_change_of_relu_stacks_tends_to_that_of_infinite_width(plan, noise):
    """Twice the width takes the first order away."""
    (small, small_se), (large, large_se) = (
        measured("relu", plan, 3, width, runs, noise) for width, runs in ((32, 1000), (64, 400))
    )
    expected = stacks.output_change(stacks.shares(plan, 3), branch="relu", noise=noise)
    se = np.hypot(2 * large_se, small_se)
    assert abs(2 * large - small - expected) < 3 * se and se < 0.06 * expected


def test_wirings_with_the_same_shares_are_the_same_function():
    """As far as branches keep lengths, so the wider the closer; scales of a sum don't count."""
    key, x = jax.random.key(3), jax.random.normal(jax.random.key(4), (5, 2, 4))
    stack = stacks.Stack("relu")
    output = jax.jit(stack.output)
    for heavy, other in (("post", "pre_heavy"), ("admin", "pre")):
        gaps = []
        for width in (16, 256):
            params = stack.init(key, 4, width, 4)
            one, two = (output(params | stacks.weigh(plan, 4), x) for plan in (heavy, other))
            gaps.append(float(jnp.mean((one - two) ** 2)))
        assert gaps[1] < 0.02 and gaps[1] < gaps[0] / 4
    params = stack.init(key, 4, 16, 4) | stacks.weigh("post", 4)
    scaled = params | {"skip": 7 * params["skip"], "gain": 7 * params["gain"]}
    np.testing.assert_allclose(output(params, x), output(scaled, x), rtol=1e-9, atol=1e-12)


def test_post_and_pre_norm_are_what_they_are_called():
    """Written out with NumPy, block by block."""

    def norm(x):
        return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True))

    stack, x = stacks.Stack("relu"), np.random.default_rng(0).standard_normal((5, 1, 4))
    params = stack.init(jax.random.key(0), 4, 8, 3)
    inner, outer = (np.asarray(params["blocks"][name]) for name in ("inner", "outer"))
    post = pre = norm(x @ np.asarray(params["first"]))
    for W, V in zip(inner, outer, strict=True):
        post = norm(post + 2**0.5 * np.maximum(post @ W, 0) @ V)
        pre = pre + 2**0.5 * np.maximum(norm(pre) @ W, 0) @ V
    output, predict = jax.jit(stack.output), jax.jit(stack.predict)
    for plan, expected in (("post", post), ("pre", norm(pre))):
        found = output(params | stacks.weigh(plan, 3), x)
        np.testing.assert_allclose(found, expected, rtol=1e-8)
        read = predict(params | stacks.weigh(plan, 3), x)
        np.testing.assert_allclose(read, expected[:, -1] @ params["last"], rtol=1e-8)


def test_constants_are_not_trained():
    stack = stacks.Stack("attention")
    params = stack.init(jax.random.key(0), 4, 8, 2) | stacks.weigh("pre", 2)
    x = jax.random.normal(jax.random.key(1), (3, 5, 4))
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(stack.predict(p, x))))(params)
    assert not any(jnp.any(gradient[name]) for name in ("skip", "gain", "inside"))
    assert all(jnp.any(leaf) for leaf in jax.tree.leaves(gradient["blocks"]))


def test_profile_is_the_plan_of_branches_that_keep_lengths():
    stack = stacks.Stack("relu")
    params = stack.init(jax.random.key(0), 8, 512, 5)
    x = jax.random.normal(jax.random.key(1), (16, 1, 8))
    found = stack.profile(params, x)
    np.testing.assert_allclose(found, stacks.shares("admin", 5), rtol=0.1)
    np.testing.assert_allclose(stacks.weigh("admin", 5, found)["gain"] ** 2, found)
    params["blocks"]["outer"] *= 2  # branches four times as strong in the square
    strong = stack.profile(params, x)
    np.testing.assert_allclose(strong, 1 / (2 + 4 * np.arange(5.0)), rtol=0.1)


def test_attention_sees_no_order_of_tokens():
    stack, weighed = stacks.Stack("attention"), stacks.weigh("post", 2)
    params = stack.init(jax.random.key(0), 4, 8, 2) | weighed
    x = jax.random.normal(jax.random.key(1), (2, 5, 4))
    turned = stack.output(params, x[:, ::-1])
    np.testing.assert_allclose(turned[:, ::-1], stack.output(params, x), atol=1e-12)
    # Softmax weights sum to one: tokens that are alike stay so, and are changed by the values.
    same = jnp.broadcast_to(x[:, :1], x.shape)
    only = stacks.Stack("linear").output(
        params | {"blocks": {"value": params["blocks"]["value"]}}, same
    )
    np.testing.assert_allclose(stack.output(params, same), only, atol=1e-12)


def test_means_have_variance_one_and_are_of_the_inputs():
    inputs, targets = stacks.Means(d=5, tokens=3)(jax.random.key(0), (4, 5000))
    np.testing.assert_allclose(jnp.mean(inputs**2, axis=-1), 1, rtol=1e-9)
    np.testing.assert_allclose(targets, inputs[..., 0].sum(axis=-1) / 3**0.5, atol=1e-12)
    assert float(jnp.var(targets)) == pytest.approx(1, abs=3 * 2**0.5 / 20_000**0.5)


def test_untrained_stacks_are_balanced_and_move_as_their_shares():
    found = untrained_stacks(0, branch="relu", depth=6, width=256)
    for plan in ("uneven_heavy", "uneven_light"):
        assert found[f"log_imbalance_{plan}"] == pytest.approx(np.log(19) / 2, abs=0.35)
    for plan in stacks.PLANS:
        expected = stacks.output_change(stacks.shares(plan, 6), branch="relu")
        assert found[f"log_noise_{plan}"] == pytest.approx(np.log(expected), abs=0.3)
    assert found["log_step_uneven_heavy"] > found["log_step_uneven_light"] + 1


def test_trained_stacks_start_alike_at_all_rates():
    point = {"branch": "linear", "depth": 2, "width": 8, "steps": 20}
    slow, fast = (trained_stacks(3, **point, rate=rate) for rate in (1e-8, 1e-2))
    for plan in stacks.PLANS:
        assert slow[f"log_imbalance_{plan}"] == fast[f"log_imbalance_{plan}"]
        assert slow[f"loss_{plan}"] != fast[f"loss_{plan}"] and 0.3 < slow[f"loss_{plan}"] < 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stacks.shares("both", 2), "plan"),
        (lambda: stacks.shares("post", 0), "depth"),
        (lambda: stacks.shares("uneven_light", 3), "depth must be even"),
        (lambda: stacks.imbalance([0.5, 1.0]), "shares"),
        (lambda: stacks.imbalance([[0.5]]), "shares"),
        (lambda: stacks.output_change([]), "shares"),
        (lambda: stacks.output_change([np.nan]), "shares"),
        (lambda: stacks.output_change([0.5], branch="attention"), "branch"),
        (lambda: stacks.output_change([0.5], noise=-1), "noise"),
        (lambda: stacks.mean_output_change([0.5], 2), "width"),
        (lambda: stacks.mean_output_change([0.5, 1e-9], 11), "smallest of shares"),
        (lambda: stacks.relu_kernel(1.1), "rho"),
        (lambda: stacks.relu_kernel(np.nan), "rho"),
        (lambda: stacks.Stack("none"), "branch"),
        (lambda: stacks.weigh("admin", 1, [2.0]), "profile"),
        (lambda: stacks.weigh("admin", 2, [0.5]), "profile"),
        (lambda: untrained_stacks(0, branch="relu", depth=2, width=1), "width"),
        (lambda: untrained_stacks(0, branch="relu", depth=3, width=2), "depth"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
