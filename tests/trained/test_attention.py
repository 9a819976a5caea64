"""Attention: two forms of each model, what linear attention contains, and the parts of an error."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from iclkit.backend import streams
from iclkit.data.contexts import context_statistic, draw_contexts, draw_statistics
from iclkit.data.moments import population_moments, prediction_error
from iclkit.data.tasks import draw_tasks
from iclkit.fits.fit import fit_gamma
from iclkit.trained.attention import (
    MODELS,
    Blocks,
    couplings,
    error_parts,
    implement,
    implemented_gamma,
    interpolation_rank,
    jacobian,
    mirror_images,
)
from iclkit.trained.prompts import Sample, write


@pytest.fixture(scope="module", autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def contexts(n, d, ell, seed=0, rho=0.1):
    """Contexts with a task each, and the tasks."""
    draw = streams(seed)
    w = draw_tasks(n, d, draw.tasks)
    return draw_contexts(w, ell, rho, draw), w


def network(name, d, seed=0, width=None):
    """Parameters of which none is 0 or 1, as after training; drawn by numpy, as JAX compiles."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: MODELS[name].init(jax.random.key(0), d, width=width))
    return jax.tree.map(lambda leaf: 0.2 + 0.6 * rng.standard_normal(leaf.shape), shapes)


# What runs for microseconds need not be compiled well.
quick = partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


def close(a, b, tolerance):
    """Whether arrays agree, relative to the largest number in them."""
    a, b = np.asarray(a), np.asarray(b)
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1e-300, np.abs(b).max()))


# Prompts and models ---------------------------------------------------------------------------


def test_prompts_are_rows_of_tokens_and_labels():
    data, _ = contexts(4, 3, 5)
    p = write(data)
    assert p.shape == (4, 6, 4) and p.dtype == np.float64
    np.testing.assert_array_equal(p[:, :5, :3], data.tokens)
    np.testing.assert_array_equal(p[:, :5, 3], data.labels)
    np.testing.assert_array_equal(p[:, 5, :3], data.query)
    assert not np.any(p[:, 5, 3])


def loss(params, inputs, targets, predict):
    return jnp.mean((predict(params, inputs) - targets) ** 2)


@partial(quick, static_argnums=0)
def both_forms(name, params, p, targets):
    """Loss and gradient of each form, the gradient as one vector."""
    model = MODELS[name]
    forms = (model.predict, model.inputs(p)), (model.plain, p)
    results = [jax.value_and_grad(loss)(params, x, targets, f) for f, x in forms]
    return [(value, ravel_pytree(gradient)[0]) for value, gradient in results]


@pytest.mark.parametrize(
    ("name", "d", "ell", "n", "width"),
    [
        *((name, 3, 7, 6, None) for name in MODELS),
        ("linear", 1, 1, 1, None),
        ("linear", 4, 2, 5, 7),
        ("softmax", 4, 1, 5, 7),
        ("two-blocks", 2, 1, 1, 3),
        ("one-block-mirrored", 4, 1, 5, 7),
    ],
)
def test_two_forms_agree_in_loss_and_gradient(name, d, ell, n, width):
    data, _ = contexts(n, d, ell)
    p, params = write(data), network(name, d, width=width)
    (folded, gradient), (plain, other) = both_forms(name, params, p, data.target)
    assert float(folded) == pytest.approx(float(plain), rel=1e-13)
    assert np.any(other)
    close(gradient, other, 1e-12)


@settings(max_examples=60)
@given(
    # Means over mirror images cancel where labels or queries are 0.
    name=st.sampled_from([name for name in MODELS if not name.endswith("mirrored")]),
    seed=st.integers(0, 10_000),
    size=st.floats(1e-2, 3.0),
    labels=st.sampled_from([0.0, 1.0, 1e3]),
    queries=st.sampled_from([0.0, 1.0, 1e3]),
)
def test_two_forms_agree_for_any_numbers(name, seed, size, labels, queries):
    data, _ = contexts(6, 3, 7, seed)  # one shape, which is compiled once
    p = write(data._replace(labels=labels * data.labels, query=queries * data.query))
    params = jax.tree.map(lambda leaf: size * leaf, network(name, 3, seed))
    (folded, gradient), (plain, other) = both_forms(name, params, p, data.target)
    assert float(folded) == pytest.approx(float(plain), rel=1e-9)
    close(gradient, other, 1e-8)


def test_models_keep_single_precision():
    p = write(contexts(3, 3, 4)[0]).astype(np.float32)
    for name, model in MODELS.items():
        single = jax.tree.map(lambda leaf: leaf.astype(np.float32), network(name, 3))
        predicted = jax.eval_shape(lambda s, m=model: m.predict(s, m.inputs(p)), single)
        assert predicted.dtype == jnp.float32 and predicted.shape == (3,)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("linear", lambda d: 3 * d**2 + 7 * d + 1),
        ("one-block", lambda d: 4 * d**2 + 7 * d + 1),
        ("softmax", lambda d: 4 * d**2 + 5 * d + 1),
        ("two-blocks", lambda d: 9 * d**2 + 13 * d + 1),
        ("three-blocks", lambda d: 13 * d**2 + 18 * d + 1),
        ("four-blocks", lambda d: 17 * d**2 + 23 * d + 1),
    ],
)
@pytest.mark.parametrize("d", [3, 8])
def test_parameters_are_as_many_as_in_paper_1(name, parameters, d):
    assert sum(leaf.size for leaf in jax.tree.leaves(network(name, d))) == parameters(d)
    first = jax.eval_shape(lambda: MODELS[name].init(jax.random.key(0), d, width=2 * d))
    assert first["readout"]["kernel"].shape == (2 * d, 1)


def test_initial_parameters_depend_on_the_key_alone():
    def start(key):
        return ravel_pytree(MODELS["linear"].init(jax.random.key(key), 5))[0]

    np.testing.assert_array_equal(start(1), start(1))
    assert np.count_nonzero(start(1) == start(2)) == 16  # the biases, which start at 0


def test_blocks_are_causal():
    p = write(contexts(3, 3, 5)[0])
    params = network("two-blocks", 3)
    changed = p.copy()
    changed[:, -1] += 1.0

    for name in ("two-blocks", "two-blocks-mlp-residual", "two-blocks-bare"):
        rows = quick(MODELS[name]._rows)
        before, after = (np.asarray(rows(params, some)) for some in (p, changed))
        np.testing.assert_array_equal(before[:, :-1], after[:, :-1])
        assert np.all(np.any(before[:, -1] != after[:, -1], axis=1))
        # The first row is as if it were alone.
        close(rows(params, p[:, :1]), before[:, :1], 1e-13)


def test_blocks_without_perceptron_are_normalised_as_in_paper_1():
    """By hand, for a context of one token: N₂(u + N₁(u)) with u = x + attended."""
    p, params = np.array([[[0.3, -0.8, 1.2, 0.0]]]), network("one-block", 3)

    def norm(of, x):
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
        return x * np.asarray(of["scale"]) + np.asarray(of["bias"])

    block = params["blocks"][0]
    x = p[0, 0] @ params["embedding"]["kernel"] + params["embedding"]["bias"]
    u = np.asarray(x + x @ block["value"]["kernel"])  # it attends to itself alone
    rows = norm(block["second_norm"], u + norm(block["norm"], u))
    once = norm(block["norm"], u)
    for name, row in (("one-block", rows), ("softmax", once)):
        expected = row @ params["readout"]["kernel"] + params["readout"]["bias"]
        close(MODELS[name].plain(params, p), expected, 1e-13)


@pytest.mark.parametrize("name", ["linear", "softmax", "two-blocks"])
def test_one_layer_does_not_see_the_order_of_tokens(name):
    data, _ = contexts(6, 3, 7)
    order = np.random.default_rng(1).permutation(7)
    assert np.any(order != np.arange(7))
    other = data._replace(tokens=data.tokens[:, order], labels=data.labels[:, order])
    params = network(name, 3)
    (f, _), (g, _) = (
        both_forms(name, params, write(some), data.target)[0] for some in (data, other)
    )
    if name == "two-blocks":  # the mask of the first block tells early tokens from late ones
        assert abs(f - g) > 1e-6
    else:
        assert float(f) == pytest.approx(float(g), rel=1e-12)


# Linear attention -----------------------------------------------------------------------------


@quick
def predict(params, p):
    return MODELS["linear"].predict(params, MODELS["linear"].inputs(p))


@pytest.mark.parametrize("width", [2, 9])
def test_couplings_are_all_that_predictions_depend_on(width):
    d = 4
    p = write(contexts(7, d, 5)[0])
    params = network("linear", d, width=width)
    matrix, v = quick(couplings)(params)
    assert matrix.shape == (d + 2, d + 2) and v.shape == (d + 2,)
    assert np.linalg.matrix_rank(matrix) == min(width, d + 2)
    for prompt, f in zip(p, predict(params, p), strict=True):
        z = np.column_stack([prompt, np.ones(6)])
        second = sum(np.outer(row, row) for row in z)
        expected = z[-1] @ np.asarray(matrix) @ second @ np.asarray(v)
        assert float(f) == pytest.approx(expected + params["readout"]["bias"][0], rel=1e-12)


@pytest.mark.parametrize(("d", "ell"), [(1, 1), (4, 3), (5, 12)])
def test_linear_attention_implements_the_reduced_model(d, ell):
    gamma = fit_gamma(*fitting(d, ell, 0.1), 0.1).gamma
    data, _ = contexts(20, d, ell)
    h = context_statistic(data.tokens, data.labels)
    expected = np.einsum("ni,ij,nj->n", data.query, gamma, h)
    params, p = implement(gamma, ell), write(data)
    close(predict(params, p), expected, 1e-13)
    close(quick(MODELS["linear"].plain)(params, p), expected, 1e-13)
    close(implemented_gamma(params, ell), gamma, 1e-14)
    # A network like those that are trained.
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, network("linear", d))


@settings(max_examples=30)
@given(seed=st.integers(0, 999), ell=st.integers(1, 50), size=st.sampled_from([1e-6, 1.0, 1e6]))
def test_implemented_gamma_is_the_inverse(seed, ell, size):
    gamma = size * np.random.default_rng(seed).standard_normal((3, 4))
    close(implemented_gamma(implement(gamma, ell), ell), gamma, 1e-14)


def test_implemented_gamma_of_any_network_is_its_coupling_of_queries_and_statistics():
    d, ell = 4, 6
    params, (data, _) = network("linear", d), contexts(9, d, ell)
    # Taking away what is there without labels leaves terms in xy, y² and y; a mirrored context
    # cancels y, and a mirrored query all that does not depend on the query.
    part = 0
    for context, query, label in product((1, -1), (1, -1), (1, 0)):
        image = data._replace(
            tokens=context * data.tokens, labels=context * label * data.labels,
            query=query * data.query,
        )  # fmt: skip
        part += query * (1 if label else -1) * predict(params, write(image)) / 4
    h = context_statistic(data.tokens, data.labels)
    gamma = implemented_gamma(params, ell)
    assert np.all(gamma)
    close(part, np.einsum("ni,ij,nj->n", data.query, gamma, h), 1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: implement(np.ones((3, 3)), 2), ValueError, r"gamma must have shape \(3, 4\)"),
        (lambda: implement(np.ones(3), 2), ValueError, r"gamma must have shape \(any, any\)"),
        (lambda: implement([[1.0, 2.0]], 2), TypeError, "gamma must be an array, got list"),
        (lambda: implement(np.full((1, 2), np.nan), 2), ValueError, "gamma must be finite"),
        (lambda: implement(np.ones((1, 2)), 0), ValueError, "ell must be an integer of at least 1"),
        (lambda: implemented_gamma(network("linear", 2), 1.5), TypeError, "ell must be an integer"),
        (lambda: interpolation_rank(2, mirrored=1), TypeError, "mirrored must be True or False"),
        (lambda: interpolation_rank(0), ValueError, "d must be an integer of at least 1, got 0"),
        (
            lambda: error_parts(MODELS["linear"], None, sample(*contexts(1, 1, 1)), -0.1),
            ValueError,
            "rho must be finite and at least 0, got -0.1",
        ),
        (
            lambda: error_parts(
                MODELS["linear"], None, Sample(np.ones((2, 2, 2)), np.ones(3)), 0.1
            ),
            ValueError,
            r"test.targets must have shape \(2,\), got \(3,\)",
        ),
        (
            lambda: error_parts(MODELS["linear"], None, Sample(np.ones((2, 2)), np.ones(2)), 0.1),
            ValueError,
            r"test.inputs must have shape \(any, any, any\)",
        ),
        (lambda: Blocks(1, mlp=np.nan), TypeError, "mlp must be True or False, got nan"),
        *(
            (lambda name=name: Blocks(1, **{name: "no"}), TypeError, f"{name} must be True or Fal")
            for name in ("attention_residual", "mlp_residual", "second_norm")
        ),
        (
            lambda: Blocks(1, second_norm=False),
            ValueError,
            "second_norm must be True where mlp is True, got False",
        ),
        (
            lambda: Blocks(1, mlp=False, mlp_residual=False),
            ValueError,
            "mlp_residual must be True where mlp is False, got False",
        ),
        (
            lambda: error_parts("linear", {}, None, 0.1),
            TypeError,
            "model.inputs must be a function, got None",
        ),
        (lambda: error_parts(MODELS["linear"], {}, None, 0.1), TypeError, "test must be an iclkit"),
        (lambda: implement(np.zeros(2, [("a", float)]), 1), TypeError, "gamma must hold real num"),
        (lambda: Blocks(0), ValueError, "depth must be an integer of at least 1, got 0"),
        (
            lambda: MODELS["linear"].init(jax.random.key(0), 0),
            ValueError,
            "d must be an integer of at least 1, got 0",
        ),
        (
            lambda: MODELS["softmax"].init(jax.random.key(0), 2, 0),
            ValueError,
            "width must be an integer of at least 1, got 0",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Derivatives and ranks ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "softmax", "two-blocks"])
def test_jacobian_is_the_limit_of_differences(name):
    data, _ = contexts(4, 2, 4)
    model, params = MODELS[name], network(name, 2)
    flat, restore = ravel_pytree(params)
    inputs = model.inputs(write(data))
    step = 1e-5
    shifts = np.concatenate([np.eye(len(flat)), -np.eye(len(flat))]) * step

    @quick
    def derivatives(params):
        gradient = jax.grad(loss)(params, inputs, data.target, model.predict)
        moved = jax.lax.map(lambda shift: model.predict(restore(flat + shift), inputs), shifts)
        rows = jacobian(model.predict, params, inputs)
        return rows, moved, ravel_pytree(gradient)[0], model.predict(params, inputs)

    rows, moved, gradient, f = derivatives(params)
    assert rows.shape == (4, len(flat))
    up, down = np.split(np.asarray(moved), 2)
    close(rows, (up - down).T / (2 * step), 1e-6)
    close(gradient, 2 * (f - data.target) @ rows / 4, 1e-12)


@pytest.mark.parametrize("d", [3, 4, 5, 6, 7])
def test_rank_of_linear_attention(d):
    rank = interpolation_rank(d)
    assert rank == d * (d + 3) + (d + 2) - 1 + 1  # a matrix of rank d, a vector, a scale, a bias
    p, model = write(contexts(rank + 10, d, d, seed=d)[0]), MODELS["linear"]
    rows = quick(lambda params: jacobian(model.predict, params, model.inputs(p)))
    values = np.linalg.svd(np.asarray(rows(network("linear", d, seed=d))), compute_uv=False)
    # Small but real on one side of the gap, rounding on the other.
    assert values[rank - 1] > 1e-6 * values[0] and values[rank] < 1e-13 * values[0]


# Parts of an error ----------------------------------------------------------------------------


def sample(data, w):
    """Prompts, and the labels of their queries without noise."""
    return Sample(write(data), np.einsum("nd,nd->n", data.query, w))


def images(data, w):
    """Yield the four mirror images with the noiseless target of each."""
    target = np.einsum("nd,nd->n", data.query, w)
    for label in (1, -1):
        for query in (1, -1):
            image = data._replace(labels=label * data.labels, query=query * data.query)
            yield image, label * query * target


@pytest.mark.parametrize("name", ["linear", "one-block"])
def test_means_over_mirror_images_are_the_part_that_is_odd_in_both(name):
    data, w = contexts(30, 3, 5)
    model, mirrored, params = MODELS[name], MODELS[f"{name}-mirrored"], network(name, 3)
    prompts, test = write(data), sample(data, w)
    assert len(found := mirror_images(prompts)) == 4
    predict = quick(mirrored.predict)
    first = np.asarray(predict(params, mirrored.inputs(prompts)))
    for image, (drawn, target) in zip(found, images(data, w), strict=True):
        np.testing.assert_array_equal(image, write(drawn))
        sign = target / test.targets
        close(predict(params, mirrored.inputs(image)), sign * first, 1e-12)
    one, both = (error_parts(some, params, test, 0.1) for some in (model, mirrored))
    assert both.signal == pytest.approx(one.signal, rel=1e-12)
    assert max(both[1:]) < 1e-25 < min(one[1:])


@pytest.mark.parametrize("d", [2, 4])
def test_mirrored_linear_attention_is_a_linear_regression(d):
    """On x_q ⊗ (Σ y x, Σ y), and nothing else."""
    data, _ = contexts(2 * d * (d + 1), d, 5, seed=d)
    model, p = MODELS["linear-mirrored"], write(data)
    sums = np.einsum("ni,nia->na", data.labels, np.dstack([data.tokens, np.ones((len(p), 5, 1))]))
    design = np.einsum("na,nb->nab", data.query, sums).reshape(len(p), -1)
    for seed in (1, 2):
        f = np.asarray(quick(model.predict)(network("linear", d, seed), model.inputs(p)))
        best, *_ = np.linalg.lstsq(design, f, rcond=None)
        close(design @ best, f, 1e-12)
    rows = quick(lambda params: jacobian(model.predict, params, model.inputs(p)))
    values = np.linalg.svd(np.asarray(rows(network("linear", d))), compute_uv=False)
    rank = interpolation_rank(d, mirrored=True)
    assert rank == d * (d + 1) == design.shape[1]
    assert values[rank - 1] > 1e-6 * values[0] and np.all(values[rank:] < 1e-13 * values[0])


@pytest.mark.parametrize("name", ["linear", "one-block", "two-blocks-bare"])
def test_parts_add_up_to_the_error_on_all_mirror_images(name):
    data, w = contexts(30, 3, 5)
    model, params, rho = MODELS[name], network(name, 3), 0.3
    parts = error_parts(model, params, sample(data, w), rho)
    plain = quick(model.plain)
    squares = [
        np.mean((plain(params, write(image)) - target) ** 2) for image, target in images(data, w)
    ]
    assert sum(parts) == pytest.approx(np.mean(squares) + rho, rel=1e-12)
    assert min(parts) > 1e-6 and all(type(part) is float for part in parts)


def test_parts_are_named_by_their_symmetry():
    """Each of four functions of given symmetry has its variance in its own part."""
    data, w = contexts(50, 2, 3)
    functions = {
        "signal": lambda p: p[:, -1, 0] * p[:, 0, 2],
        "odd_even": lambda p: 3 * p[:, 0, 2] ** 3,
        "even_odd": lambda p: 5 * p[:, -1, 1] * p[:, 1, 2] ** 2,
        "even_even": lambda p: 7 * p[:, -1, 1] ** 2,
    }
    target = np.einsum("nd,nd->n", data.query, w)
    values = {name: f(write(data)) for name, f in functions.items()}
    expected = {name: np.mean(f**2) for name, f in values.items()}
    expected["signal"] = np.mean((values["signal"] - target) ** 2)

    class Sum:
        def inputs(self, prompts):
            return jnp.asarray(prompts)

        def predict(self, _, p):
            return sum(f(p) for f in functions.values())

    assert error_parts(Sum(), None, sample(data, w), 0.0)._asdict() == pytest.approx(
        expected, rel=1e-12
    )


def test_parts_of_the_reduced_model():
    d, ell, rho = 4, 6, 0.2
    gamma = fit_gamma(*fitting(d, ell, rho)).gamma
    data, w = contexts(20_000, d, ell, seed=5, rho=rho)
    params = implement(gamma, ell)
    parts = error_parts(MODELS["linear"], params, sample(data, w), rho)
    assert abs(parts.odd_even) < 1e-25 and abs(parts.even_even) < 1e-25
    squares = np.zeros(len(w))
    for image, target in images(data, w):
        h = context_statistic(image.tokens, image.labels)
        squares += (np.einsum("ni,ij,nj->n", image.query, gamma, h) - target) ** 2 / 4
    assert parts.signal + parts.even_odd == pytest.approx(squares.mean() + rho, rel=1e-10)
    exact = prediction_error(gamma, population_moments(d, ell, rho))
    standard_error = squares.std() / len(w) ** 0.5
    assert standard_error < 0.02 * exact
    assert abs(parts.signal + parts.even_odd - exact) < 4 * standard_error


def fitting(d, ell, rho):
    draw = streams(4)
    return draw_statistics(draw_tasks(40, d, draw.tasks), ell, rho, draw)
