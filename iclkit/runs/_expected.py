"""What the theory expects of the means of runs, to first order in 1/d."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from iclkit.data._at import law_at
from iclkit.theory.limit import icl_error, idg_error

LAWS = ("tasks", "test_tasks", "tokens", "test_tokens")


def errors(
    *,
    lam: Any = 0.0,
    assignment: str = "uniform",
    prior: str | None = None,
    **others: Any,
) -> dict[str, np.ndarray]:
    """Return both errors of `iclkit.runs.linear_attention` at points, NaN where there are none.

    At a finite d the theory has Gaussian tasks of any law, in pretraining and at test, and none
    of tokens; nor for λ < 0, and there are no digits close to n = d(d + 1) without ridge.
    """
    given = {name: value for name, value in others.items() if value is not None}
    laws = {name: given.pop(name) for name in LAWS if name in given}
    names = ("lam", *given)
    columns = np.broadcast_arrays(lam, *given.values())
    points = dict(zip(names, columns, strict=True))
    found = {name: np.full(columns[0].shape, np.nan) for name in ("icl_error", "idg_error")}
    if laws.keys() - {"tasks", "test_tasks"} or (laws and prior == "sphere"):
        return found
    if "alpha_test" in points:  # as a run has it, in whole tokens
        points["alpha_test"] = np.rint(points["alpha_test"] * points["d"]) / points["d"]
    for d in np.unique(points["d"]):
        law, test = (law_at(name, laws.get(name), int(d)) for name in ("tasks", "test_tasks"))
        if any(one is not None and one.vectors is not None for one in (law, test)):
            continue  # they are picked from a list
        here = (points["d"] == d) & (points["lam"] >= 0)
        part = {name: column[here] for name, column in points.items()}
        for name, error in (
            ("icl_error", functools.partial(icl_error, test_tasks=test)), ("idg_error", idg_error)
        ):  # fmt: skip
            known = functools.partial(
                error, assignment=assignment, prior=prior or "sphere", tasks=law
            )
            with warnings.catch_warnings():
                # It stands beside the runs, which show how good it is, but not why.
                warnings.filterwarnings("ignore", "(?!tasks have)", RuntimeWarning)
                found[name][here] = _where_possible(known, part)
    return found


def _where_possible(error: Callable[..., Any], points: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return an error at points; those that are refused are looked for by halving."""
    count = points["lam"].size
    try:
        return np.asarray(error(**points))
    except ValueError:
        if count == 1:
            return np.array([np.nan])
    halves = (slice(None, count // 2), slice(count // 2, None))
    parts = ({name: column[half] for name, column in points.items()} for half in halves)
    return np.concatenate([_where_possible(error, part) for part in parts])


def beside(data: xr.Dataset, measure: Callable[..., Any]) -> xr.Dataset:
    """Add to the result of a sweep what is expected of its means, if its measure says that."""
    partial = measure if isinstance(measure, functools.partial) else functools.partial(measure)
    expected = getattr(partial.func, "expected", None)
    if expected is None:
        return data
    names = data.attrs["parameters"].split(", ")
    columns = xr.broadcast(*(xr.DataArray(data[name].variable) for name in names))
    points = {name: column.values.ravel() for name, column in zip(names, columns, strict=True)}
    words = [name for name in names if points[name].dtype.kind not in "biuf"]
    groups = list(zip(*(points.pop(name) for name in words), strict=True))
    groups = groups or [()] * columns[0].size
    found: dict[str, np.ndarray] = {}
    for group in set(groups):
        own = np.array([other == group for other in groups])
        at = partial.keywords | {name: values[own] for name, values in points.items()}
        for name, means in expected(**at, **dict(zip(words, map(str, group), strict=True))).items():
            found.setdefault(name, np.empty(len(groups)))[own] = means
    shape = columns[0].shape
    theory = {
        f"{name}_theory": (columns[0].dims, means.reshape(shape))
        for name, means in found.items()
        if name in data  # a function in the wrapping of another may measure something else
    }
    return data.assign(theory)
