"""Arguments: each one of each public function is refused by its name, whatever garbage it is."""

import datetime
import inspect
import warnings
from fractions import Fraction

import array_api_strict
import dask.array
import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr

from iclkit import _validate, backend, plots
from iclkit.data import blocks, contexts, kernels, moments, tasks
from iclkit.fits import accuracy, cost, features, fit, krylov, redrawn, solvers, training
from iclkit.theory import links

mpl.use("Agg")


class Raises:
    """Not even a conversion ends well."""

    def __array__(self, *_, **__):
        raise RuntimeError("no array")


N, D = 6, 2
RNG = np.random.default_rng(0)
X, H, Y, GAMMA = (RNG.standard_normal(shape) for shape in ((N, D), (N, D + 1), N, (D, D + 1)))
MOMENTS = moments.population_moments(D, 3, 0.1)
STREAMS = backend.streams(0)
REDRAWN = blocks.redrawn(0, n=N, d=D, ell=3, rho=0.1)
FIT = fit.fit_gamma(X, H, Y)
T = np.array([1.0, 2.0, 3.0])
LAW = np.array([1.0, 2.0])
KERNEL = kernels.kernel("ar(0.5)", 3)
AX = plt.figure().subplots()

# What is right; every other function of these modules is missing here, see below.
RIGHT = {
    fit.fit_gamma: {"x": X, "h": H, "y": Y, "lam": 0.1, "solver": "auto", "accuracy": 1e-4,
                    "rtol": 1e-5, "dtype": None},
    fit.fit_gamma_path: {"x": X, "h": H, "y": Y, "lams": [0.1], "solver": "auto", "rtol": 1e-5},
    redrawn.fit_redrawn: {"contexts": REDRAWN, "lam": 0.1, "dtype": "float32", "rtol": 1e-5,
                          "workers": 1, "folder": None},
    training.fit_gamma_flow: {"x": X, "h": H, "y": Y, "times": [0.1], "lam": 0.1},
    solvers.metric: {"x": X, "h": H, "ridge": 0.1},
    features.predict: {"x": X, "h": H, "gamma": GAMMA},
    features.adjoint: {"x": X, "h": H, "r": Y},
    features.normal: {"x": X, "h": H, "gamma": GAMMA},
    features.kernel: {"x": X, "h": H},
    features.gram: {"x": X, "h": H},
    cost.plain_edges: {"t": T, "d": D, "n": N, "ridge": 0.1},
    cost.whitened_edges: {"t": T, "d": D, "n": N, "ridge": 0.1},
    cost.mean_resolvent: {"t": T, "d": D, "n": N, "ridge": 0.1},
    accuracy.reach: {"side": "dual", "t": T, "d": D, "n": N, "ridge": 0.1},
    cost.iterations: {"solver": "dual-cg", "n": N, "d": D, "t": T, "ridge": 0.1, "rtol": 1e-5},
    cost.operations: {"solver": "dual-cg", "n": N, "d": D, "iterations": 4.0, "float32": False},
    cost.eigen_operations: {"size": 4},
    krylov.conjugate_gradients: {"operator": lambda z: z, "rhs": Y, "shifts": (0.0, 1.0),
                                 "maxiter": 9, "rtol": 1e-5, "enough": None, "norm": None},
    moments.conditional_moments: {"w": X[0], "ell": 3, "rho": 0.1, "tokens": LAW,
                                  "kernel": KERNEL},
    moments.task_moments: {"tasks": X, "ell": 3, "rho": 0.1, "tokens": LAW, "kernel": KERNEL},
    moments.population_moments: {"d": D, "ell": 3, "rho": 0.1, "prior": "sphere", "tasks": LAW,
                                 "tokens": LAW, "kernel": KERNEL},
    moments.prediction_error: {"gamma": GAMMA, "moments": MOMENTS},
    moments.optimal_gamma: {"moments": MOMENTS, "ridge": 0.1},
    contexts.draw_contexts: {"w": X, "ell": 3, "rho": 0.1, "streams": STREAMS, "tokens": LAW,
                             "kernel": KERNEL},
    contexts.draw_statistics: {"w": X, "ell": 3, "rho": 0.1, "streams": STREAMS,
                               "of": np.arange(N), "tokens": LAW, "kernel": KERNEL},
    contexts.context_statistic: {"tokens": np.ones((N, 3, D)), "labels": np.ones((N, 3))},
    blocks.redrawn: {"seed": 1, "n": N, "d": D, "ell": 3, "rho": 0.1, "k": 3, "rows": 4, "xp": np},
    kernels.kernel: {"word": "iid", "ell": 3, "query": True},
    kernels.correlation: {"kernel": KERNEL, "ell": 3},
    kernels.correlated_error: {"gamma": GAMMA, "ell": 3, "rho": 0.1, "kernel": KERNEL, "tasks": X},
    tasks.draw_tasks: {"k": 3, "d": D, "rng": RNG, "prior": "sphere", "tasks": LAW},
    tasks.assign_tasks: {"n": N, "k": 3, "rng": RNG, "assignment": "uniform"},
    links.features: {"t": T, "degree": 3},
    links.readout_terms: {"link": LAW, "readout": LAW, "overlap": T / 4, "rho": 0.1},
    links.spread: {"link": LAW, "r": 3, "rho": 0.1},
    backend.namespace: {"device": "cpu"},
    backend.to_numpy: {"array": X},
    backend.row_blocks: {"array": X, "rows": 2},
    backend.child_seed: {"seed": 1, "key": 2},
    backend.streams: {"seed": 1, "xp": np},
    plots.for_both_pages: {"svg": "<svg></svg>"},
    plots.ordered_colours: {"n": 3},
    plots.theory: {"ax": AX, "x": Y, "y": Y, "colour": "C0", "label": "a"},
    plots.limit: {"ax": AX, "x": Y, "y": Y, "colour": "C0", "label": "a"},
    plots.simulation: {"ax": AX, "x": Y, "mean": Y, "error": Y**2, "colour": "C0", "label": "a",
                       "published": False},
    plots.spread_labels: {"ax": AX},
    plots.threshold: {"ax": AX, "x": 1.0, "name": "a"},
    plots.histogram: {"ax": AX, "samples": Y, "bins": 4, "colour": "C0", "label": "a"},
}  # fmt: skip
# Wrong for every argument but those that are named; kinds that look like what is wanted, too.
GARBAGE = {
    "none": (
        None,
        "dtype norm rows label device error prior of folder redrawn.k draw_tasks.tasks "
        "fit_gamma.rtol conjugate_gradients.rtol enough "
        "population_moments.tasks conditional_moments.tokens task_moments.tokens "
        "population_moments.tokens draw_contexts.tokens draw_statistics.tokens "
        "conditional_moments.kernel task_moments.kernel population_moments.kernel "
        "draw_contexts.kernel draw_statistics.kernel correlated_error.tasks",
    ),
    "complex": (1j, "to_numpy.array"),
    "word": ("abc", "name label folder"),
    "empty": ("", "name label"),
    "nothing": ([], "to_numpy.array theory.x limit.x simulation.x"),
    "ragged": ([1.0, [2.0, 3.0]], ""),
    "table": ({}, ""),
    "object": (object(), ""),
    "no array": (Raises(), ""),
    "type": (datetime.date, "operator enough norm"),
    "fraction": (Fraction(1, 2), ""),
    "date": (np.datetime64("2020-01-01"), ""),
    "nan": (np.nan, "to_numpy.array"),
    "minus": (-1.5, "threshold.x to_numpy.array histogram.samples"),
    "array of words": (np.array(["dual"]), ""),
    "array of objects": (np.ones((N, D), object), ""),
    "array of nan": (np.full((N, D), np.nan), "to_numpy.array row_blocks.array"),
    "array of huge numbers": (np.full((N, D), 1e200), "array histogram.samples"),
    "masked": (np.ma.masked_array(X, X > 0), "row_blocks.array"),
    "matrix": (np.matrix(X), "row_blocks.array"),
    "structure": (np.zeros(3, [("a", float)]), ""),
    "sparse": (scipy.sparse.eye(N), ""),
    "frame": (pd.DataFrame(X), "to_numpy.array samples"),
    "labelled": (xr.DataArray(X), "to_numpy.array samples"),
    "jax": (jnp.ones((N, D)), "array samples"),
    "dask": (dask.array.ones((N, D)), "array samples"),
    "global generator": (np.random, "xp"),
    "old generator": (np.random.RandomState(0), ""),
    "no streams": (backend.Streams(RNG, RNG, 1), ""),
    "no moments": (MOMENTS._replace(B=None), ""),
    "nan of moments": (MOMENTS._replace(label_variance=np.nan), ""),
}


def test_every_public_function_is_tried():
    modules = {inspect.getmodule(function) for function in RIGHT}
    for module in modules:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_"):
                parameters = inspect.signature(function).parameters
                wanted = [name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
                assert list(RIGHT.get(function, ())) == wanted, name


@pytest.mark.parametrize(
    "function", RIGHT, ids=lambda f: f"{f.__module__.removeprefix('iclkit.')}.{f.__name__}"
)
def test_garbage_is_refused_by_name(function):
    right = RIGHT[function]
    function(**right)
    for argument in right:
        for kind, (value, fine) in GARBAGE.items():
            if {argument, f"{function.__name__}.{argument}"} & set(fine.split()):
                continue
            name = "streams|w" if argument == "streams" else argument
            with pytest.raises((TypeError, ValueError), match=rf"\b({name})\b") as error:
                function(**right | {argument: value})
            assert len(str(error.value)) > len(argument) + 10, kind


def test_methods_of_a_fit_refuse_garbage():
    for value, _ in GARBAGE.values():
        for call, name in (
            (lambda value: FIT.predict(value, H), "x"),
            (lambda value: FIT.predict(X, value), "h"),
            (FIT.error, "moments"),
        ):
            with pytest.raises((TypeError, ValueError), match=f"^{name}"):
                call(value)


@pytest.mark.parametrize("value", [jnp.ones((N, D)), dask.array.ones((N, D)), pd.DataFrame(X),
                                   xr.DataArray(X), scipy.sparse.csr_array(X), X.tolist()],
                         ids=lambda value: type(value).__name__)  # fmt: skip
def test_the_libraries_that_are_taken_are_named(value):
    """Some of these went far, with warnings and in float32, before something broke."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        with pytest.raises(
            TypeError, match=r"^x must be an array, got .*; those of numpy and cupy"
        ):
            fit.fit_gamma(value, H, Y)
    assert not record


def test_shapes_are_written_as_python_does_and_emptiness_is_said():
    with pytest.raises(ValueError, match=rf"^y must have shape \({N},\), got \({N}, 1\)$"):
        fit.fit_gamma(X, H, Y[:, None])
    with pytest.raises(ValueError, match=rf"^x must not be empty, got shape \(0, {D}\)$"):
        fit.fit_gamma(X[:0], H[:0], Y[:0])
    assert [_validate.written(shape) for shape in ((), (3, None))] == ["()", "(3, any)"]


def test_libraries_are_not_mixed():
    strict = array_api_strict.asarray
    message = "must be an array of the same library"
    for arguments in ((X, strict(H), Y), (X, H, strict(Y)), (strict(X), H, Y)):
        with pytest.raises(TypeError, match=rf"^[hy] {message}, numpy.ndarray|^h {message}"):
            fit.fit_gamma(*arguments)
    with pytest.raises(TypeError, match="^streams.tasks must be a array_api_strict"):
        contexts.draw_statistics(strict(X), 3, 0.1, STREAMS)


@pytest.mark.parametrize("value", [2**53 + 1, 10**400, 0, -1, True, np.True_, 1.0, "1", [1]])
def test_counts(value):
    with pytest.raises((TypeError, ValueError), match="^n must be an integer"):
        _validate.count("n", value)
    for good in (1, np.int64(3), np.uint8(4), np.array(5), 2**53):
        assert _validate.count("n", good) == good
    assert _validate.count("n", 10**400, most=None) == 10**400


def test_numbers():
    for good in (1, 1.5, np.float32(2), [1, 2], (1.0,), np.ones((2, 2), int), xr.DataArray([1.0])):
        found = _validate.real("x", good)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, np.asarray(good))
    for bad in ("1", True, 1j, [True], None, 10**400, np.longdouble(1), Fraction(1, 2), Raises()):
        with pytest.raises(TypeError, match="^x must be a real number or an array of them"):
            _validate.real("x", bad)
