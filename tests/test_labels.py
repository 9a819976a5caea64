"""Labelled arrays: every function that broadcasts keeps labels, and none loses them silently."""

import inspect
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit import theory
from iclkit.theory import (
    bayes,
    correlated,
    descent,
    finite,
    flow,
    limit,
    loop,
    streaming,
    structured,
)

# Of every function that broadcasts, good values of the arguments that do, and the others.
RATIO = {"tau": 0.7, "alpha": 2.0, "kappa": 0.6}
POINT = RATIO | {"rho": 0.3, "lam": 0.2}
OTHER = {"alpha_test": 3.0, "rho_test": 0.5}
CONTEXT = {"alpha": 2.0, "rho": 0.3}
STREAM = {"batch": 5, "d": 4, "ell": 7, "rho": 0.3}
KERNEL = correlated.ar1(0.5, query=True)
BROADCASTING = {
    theory.stieltjes: ({"x": 0.4, "kappa": 0.6}, {}),
    theory.effective_ridge: (POINT, {}),
    theory.icl_error: (POINT | OTHER, {}),
    theory.idg_error: (POINT | OTHER, {}),
    theory.optimal_ridge: (RATIO | {"rho": 0.3} | OTHER, {"test": "idg"}),
    theory.ridge_edge: (RATIO | {"rho": 0.3}, {}),
    theory.critical_noise: ({"tau": 0.7, "kappa": 1.5}, {"test": "icl"}),
    theory.finite_size_coefficient: (POINT | OTHER, {"assignment": "balanced"}),
    theory.pole_strength: ({"alpha": 2.0, "kappa": 0.6, "rho": 0.3, "d": 40}, {"test": "idg"}),
    theory.optimal_context: ({"tau": 0.7, "kappa": 1.5, "rho": 3.0}, {"test": "icl"}),
    structured.alignment: ({"x": 0.4, "kappa": 0.6}, {"tasks": [0.5, 2.0]}),
    structured.worst_error: ({"radius": 0.3} | POINT, {"tasks": [0.5, 2.0], "trained": False}),
    bayes.ridge_error: (CONTEXT, {}),
    bayes.mutual_information: (CONTEXT, {}),
    bayes.dmmse_error: (CONTEXT | {"log_diversity": 0.1}, {"prior": "gaussian"}),
    descent.tied_risk: ({"alpha": 2.0, "depth": 2, "noise": 0.3}, {}),
    descent.untied_risk: ({"alpha": 2.0, "depth": 2, "noise": 0.3}, {}),
    loop.step_factor: ({"tau": 0.7} | CONTEXT | {"lam": 0.2}, {}),
    loop.noise_strength: ({"tau": 0.7} | CONTEXT | {"lam": 0.2}, {}),
    loop.edge: ({"alpha": 2.0, "nu2": 0.3}, {"end": "lower"}),
    loop.radius: ({"step": 0.4, "alpha": 2.0, "nu2": 0.3}, {}),
    loop.saturation: (CONTEXT | {"nu2": 0.3}, {}),
    loop.critical_samples: (CONTEXT, {"ridge": "best"}),
    loop.instability: (POINT, {}),
    correlated.icl_error: (POINT | OTHER, {"correlation": KERNEL}),
    correlated.idg_error: (POINT | OTHER, {"correlation": KERNEL}),
    correlated.effective_context: (CONTEXT | {"t2": 1.5}, {}),
    flow.icl_error: ({"t": 0.4} | POINT | OTHER, {"part": "mean"}),
    flow.idg_error: ({"t": 0.4} | POINT | OTHER, {"part": "variance"}),
    flow.train_loss: ({"t": 0.4} | POINT, {}),
    flow.optimal_time: (POINT | OTHER, {"test": "idg"}),
    flow.finally_rises: (RATIO | {"rho": 0.3} | OTHER, {"test": "icl"}),
    flow.upper_edge: (RATIO | {"rho": 0.3}, {}),
    streaming.icl_error: ({"steps": 9, "rate": 0.1} | STREAM, {}),
    streaming.largest_rate: (STREAM, {}),
    streaming.optimal_rate: ({"steps": 9} | STREAM, {}),
}
# With a dimension, one of the errors takes no other context.
AT_SIZE = {theory.icl_error: POINT | OTHER | {"d": 40}, theory.idg_error: POINT | {"d": 40}}
functions = pytest.mark.parametrize(
    "function", BROADCASTING, ids=lambda f: f"{f.__module__.split('.')[-1]}.{f.__name__}"
)


def test_table_is_complete():
    """As their docstrings say "or array" of each argument that broadcasts, and nobody else's."""
    documented = {
        function: set(arguments)
        for module in (
            limit,
            finite,
            bayes,
            structured,
            correlated,
            descent,
            flow,
            loop,
            streaming,
        )  # fmt: skip
        for _, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not function.__name__.startswith("_")
        if (arguments := broadcasting_by_docstring(function))
    }
    known = {f: set(arguments) for f, (arguments, _) in BROADCASTING.items()}
    assert documented == known | {f: known[f] | set(AT_SIZE[f]) for f in AT_SIZE}


def broadcasting_by_docstring(function):
    parameters = inspect.getdoc(function).split("Returns\n---")[0].splitlines()
    lines = [line.split(" : ") for line in parameters if " or array" in line]
    return [name for line in lines if len(line) == 2 for name in line[0].split(", ")]


def column(name, value, points):
    """An argument that varies along a dimension of its own, with labels and attributes."""
    whole = name in ("depth", "d", "steps", "batch", "ell")
    values = np.arange(points) + value if whole else value * 1.3 ** np.arange(points)
    labels = {f"d_{name}": (f"d_{name}", [f"{name}{i}" for i in range(points)], {"units": "1"})}
    return xr.DataArray(values, dims=f"d_{name}", coords=labels, name=name, attrs={"of": name})


@functions
@settings(max_examples=10)
@given(data=st.data())
def test_labelled_is_broadcast_by_hand(function, data):
    arguments, others = BROADCASTING[function]
    some = data.draw(
        st.lists(st.sampled_from(list(arguments)), min_size=1, max_size=3, unique=True)
    )
    points = st.integers(1, 3)
    columns = {name: column(name, arguments[name], data.draw(points)) for name in some}
    # Two may share a dimension, in another order.
    if len(some) == 3:
        columns[some[0]] = xr.broadcast(columns[some[0]], columns[some[1]])[0].transpose()
    found = function(**(arguments | columns), **others)
    dims = [f"d_{name}" for name in some]
    assert set(found.dims) == set(dims) and found.name == function.__name__ and found.attrs == {}
    full = {
        name: xr.broadcast(*columns.values())[i].transpose(*dims).values
        for i, name in enumerate(some)
    }
    expected = function(**(arguments | full), **others)
    assert type(expected) is np.ndarray
    np.testing.assert_array_equal(found.transpose(*dims).values, expected)
    for name in some:
        xr.testing.assert_identical(found[f"d_{name}"], columns[name][f"d_{name}"])


@pytest.mark.parametrize("error", [theory.icl_error, theory.idg_error])
def test_labels_beside_a_law_of_tasks(error):
    tau, kappa = column("tau", 0.7, 3), column("kappa", 0.6, 2)
    found = error(tau, 2.0, kappa, 0.3, tasks=([0.5, 2.0], [0.7, 0.3]))
    for i, j in np.ndindex(3, 2):
        one = error(float(tau[i]), 2.0, float(kappa[j]), 0.3, tasks=([0.5, 2.0], [0.7, 0.3]))
        assert found.transpose("d_tau", "d_kappa")[i, j] == one


@pytest.mark.parametrize("error", AT_SIZE)
def test_labels_beside_a_dimension(error):
    for name, value in AT_SIZE[error].items():
        for other in AT_SIZE[error].keys() - {name}:
            columns = {name: column(name, value, 3), other: column(other, AT_SIZE[error][other], 2)}
            found = error(**(AT_SIZE[error] | columns))
            found = found.transpose(f"d_{name}", f"d_{other}")
            assert found.shape == (3, 2)
            last = {key: float(array[-1]) for key, array in columns.items()}
            one = error(**(AT_SIZE[error] | last))
            assert found[-1, -1].item() == pytest.approx(one, rel=1e-13)
            xr.testing.assert_identical(found[f"d_{name}"], columns[name][f"d_{name}"])


@functions
def test_a_single_labelled_number_stays_labelled(function):
    arguments, others = BROADCASTING[function]
    name = next(iter(arguments))
    found = function(**(arguments | {name: column(name, arguments[name], 2)[0]}), **others)
    assert found.dims == () and found[f"d_{name}"] == f"{name}0"
    assert found.item() == function(**arguments, **others)


@functions
def test_labels_that_do_not_match_are_refused(function):
    arguments, others = BROADCASTING[function]
    first, second = list(arguments)[:2]
    one = column(first, arguments[first], 3)
    other = xr.DataArray(np.full(3, arguments[second]), dims=one.dims, coords=one.coords)
    assert function(**(arguments | {first: one, second: other}), **others).shape == (3,)
    for bad in (other[::-1], other[:2], other.assign_coords({one.dims[0]: [1, 2, 3]})):
        with pytest.raises(ValueError, match=f"join='exact'.*{one.dims[0]}"):
            function(**(arguments | {first: one, second: bad}), **others)


@functions
def test_other_labels_are_refused_by_name(function):
    arguments, others = BROADCASTING[function]
    for name, value in arguments.items():
        labelled = column(name, value, 2)
        for bad, way in (
            (labelled.to_series(), "use .to_numpy"),
            (labelled.to_dataframe(), "use .to_numpy"),
            (labelled.to_dataset(), "take one of its variables"),
            (labelled.variable, "wrap it"),
        ):
            with pytest.raises(
                TypeError, match=f"{name} must be .*, got {type(bad).__name__}: {way}"
            ):
                function(**(arguments | {name: bad}), **others)


@functions
def test_positions_do_not_meet_labels(function):
    arguments, others = BROADCASTING[function]
    first, second = list(arguments)[:2]
    mixed = {first: column(first, arguments[first], 2), second: [arguments[second]] * 2}
    with pytest.raises(TypeError, match=f"{second} must be a number or an xarray.DataArray"):
        function(**(arguments | mixed), **others)


@functions
def test_arrays_that_do_not_fit_are_named(function):
    arguments, others = BROADCASTING[function]
    first, second = list(arguments)[:2]
    ragged = [[1.0], [1.0, 2.0]]
    for bad in (np.full(2, arguments[second]), [], np.ones((3, 4))):
        with pytest.raises(ValueError, match=rf"{first} and {second} must broadcast, got .*\(3,\)"):
            function(**(arguments | {first: [arguments[first]] * 3, second: bad}), **others)
    with pytest.raises(TypeError, match=f"{first} must be"):
        function(**(arguments | {first: np}), **others)
    labelled = {first: column(first, arguments[first], 2), second: ragged}
    with pytest.raises(TypeError, match=f"{second} must be"):
        function(**(arguments | labelled), **others)


@functions
def test_arguments_that_are_missing_or_unknown_are_told_by_the_function(function):
    arguments, others = BROADCASTING[function]
    said = re.escape(f"{function.__name__}()")
    with pytest.raises(TypeError, match=f"^{said} missing .*'{list(arguments)[0]}'"):
        function()
    with pytest.raises(TypeError, match=f"^{said} got an unexpected keyword argument 'sigma'"):
        function(**arguments, **others, sigma=0.1)
    with pytest.raises(TypeError, match=f"^{said} got an unexpected keyword argument 'sigma'"):
        function(sigma=0.1)


@functions
def test_arrays_in_chunks_are_named(function):
    arguments, others = BROADCASTING[function]
    for name, value in arguments.items():
        lazy = column(name, value, 2).chunk()
        with pytest.raises(TypeError, match=f"{name} must be in memory, got an array in chunks"):
            function(**(arguments | {name: lazy}), **others)


@functions
def test_signature_and_docstring_are_its_own(function):
    arguments, others = BROADCASTING[function]
    assert set(inspect.signature(function).parameters) >= arguments.keys() | others.keys()
    assert inspect.getdoc(function) and function.__name__ != "keeping"


LAW = descent.marchenko_pastur(1.0, 4)
LIST = np.array([0.3, 0.2])


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("tasks", lambda a: theory.icl_error(**POINT, tasks=a)),
        ("tasks[1]", lambda a: theory.idg_error(**POINT, tasks=([1.0, 2.0], a))),
        ("law.nodes", lambda a: descent.descent_risk([0.1], descent.Law(a, LIST))),
        ("law.weights", lambda a: descent.best_step(descent.Law(LIST, a), 1)),
        ("steps", lambda a: descent.descent_risk(a, LAW)),
        ("steps", lambda a: descent.descent_layers(a, 3)),
        ("tokens", lambda a: bayes.ridge_mean(a, LIST, 0.1)),
        ("labels", lambda a: bayes.ridge_mean(np.ones((2, 1, 3)), a, 0.1)),
    ],
)
def test_labels_are_refused_where_only_positions_count(name, call):
    labelled = xr.DataArray(LIST, dims="j", coords={"j": [1, 0]})
    for bad in (labelled, labelled.to_series(), pd.DataFrame({"a": LIST})):
        message = f"{re.escape(name)} must be an array.*, got .*{type(bad).__name__}"
        with pytest.raises(TypeError, match=message):
            call(bad)


def test_labels_cost_nothing_where_there_are_none():
    code = "import sys, iclkit.theory as t; t.icl_error([1, 2], 1, 1, 0.1); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"xarray", "pandas"} & set(run.stdout.split())
