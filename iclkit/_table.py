"""What a sweep knows: the points of its grid, their runs so far, and which runs are still to come.

Nothing here computes a run or touches a disk.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from iclkit import _validate

Point = dict[str, Any]


def coordinates(grid: Mapping[str, Any]) -> xr.Dataset:
    """Check a grid, and make its parameters the coordinates of an otherwise empty dataset."""
    if not isinstance(grid, Mapping) or not grid:
        raise ValueError(f"grid must map at least one parameter to its values, got {grid!r}")
    arrays = {name: _axis(name, values) for name, values in grid.items()}
    try:
        aligned = xr.align(*arrays.values(), join="exact")
        coords = xr.Dataset(coords=dict(zip(arrays, aligned, strict=True)))
        coords.to_netcdf(engine="scipy")  # what cannot be stored says so before hours are spent
    except (TypeError, ValueError) as problem:
        raise ValueError(f"grid must fit together, and into a netCDF file: {problem}") from None
    return coords.assign_attrs(parameters=", ".join(arrays))


def _axis(name: str, values: Any) -> xr.DataArray:
    if not isinstance(name, str) or not name.isidentifier() or name in ("seed", "run", "runs"):
        raise ValueError(f"grid must have names of parameters other than seed, got {name!r}")
    name, dim = f"grid[{name!r}]", name
    if isinstance(values, xr.DataArray):
        array = values.reset_coords(drop=True)
    else:
        _validate.refuse_subclasses(name, values)
        plain = np.asarray(values)
        if plain.ndim > 1:
            allowed = "one value, a 1-D sequence or an xarray.DataArray"
            raise ValueError(f"{name} must be {allowed}, got an array of shape {plain.shape}")
        array = xr.DataArray(plain, dims=(dim,) * plain.ndim)
    if array.dtype.kind not in "biufU":
        raise TypeError(f"{name} must hold real numbers or words, got {values!r}")
    if "run" in array.dims:
        raise ValueError(f"{name} must have dimensions other than run, got {array.dims}")
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one value, got {values!r}")
    if array.dtype.kind == "f" and np.isnan(array.values).any():
        raise ValueError(f"{name} must hold numbers (inf is allowed), got nan")
    if array.dims == (dim,):
        distinct, counts = np.unique(array.values, return_counts=True)
        if np.any(counts > 1):
            raise ValueError(f"{name} must hold each value once, got {distinct[counts > 1][0]}")
    return array


def say(point: Mapping[str, Any]) -> str:
    """Name a point in a message."""
    return ", ".join(f"{name}={value}" for name, value in point.items())


def key(point: Mapping[str, Any]) -> int:
    """Return a digest of the values of a point, to the last bit; 10 and 10.0 are the same."""
    words = (
        f"{name}={value!r}" if isinstance(value, str) else f"{name}={(float(value) + 0.0).hex()}"
        for name, value in sorted(point.items())
    )
    return int.from_bytes(hashlib.sha256("\n".join(words).encode()).digest()[:16], "big")


class Table:
    """Runs at the points of a grid.

    Attributes
    ----------
    points : list of dict
        One for each point, the last dimension of the grid fastest.
    samples : dict from str to array of shape (points, runs)
        The runs of each measured quantity; NaN where there is none yet.
    finished : set of int
        Numbers of the points that need no more runs.
    """

    def __init__(self, coords: xr.Dataset, *, precision: float, runs: tuple[int, int]):
        self._coords, self._precision, (self._least, self._most) = coords, precision, runs
        names = coords.attrs["parameters"].split(", ")
        columns = xr.broadcast(*(xr.DataArray(coords[name].variable) for name in names))
        self._dims, self._shape = columns[0].dims, columns[0].shape
        rows = zip(*(column.values.flat for column in columns), strict=True)
        self.points: list[Point] = [
            {name: getattr(value, "item", lambda value=value: value)() for name, value in named}
            for named in (zip(names, row, strict=True) for row in rows)
        ]
        self._row = {key(point): row for row, point in enumerate(self.points)}
        if len(self._row) < len(self.points):
            twice = next(p for row, p in enumerate(self.points) if self._row[key(p)] != row)
            raise ValueError(f"grid must hold each point once, got {say(twice)} again")
        self.samples: dict[str, np.ndarray] = {}
        self.finished: set[int] = set()

    def _target(self, row: int) -> int:
        """Say how many runs a point needs, as far as the runs it has tell.

        The first m runs decide about the next ones, whatever else there is already. So the answer
        depends neither on the order in which runs arrive nor on interruptions.
        """
        m = self._least
        while m < self._most:
            ratio = 0.0
            for samples in self.samples.values():
                first = samples[row, :m]
                if len(first) < m or np.isnan(first).any():
                    return m
                mean, error = _mean_and_error(first)
                allowed = self._precision * abs(mean)
                ratio = max(ratio, error / allowed if allowed else math.inf if error else 0.0)
            if not self.samples or ratio <= 1:
                return m
            m = max(m + 1, math.ceil(min(self._most, 1.1 * m * ratio**2)))
        return self._most

    def _have(self, row: int) -> np.ndarray:
        """Say of each run whether it is there, with all that was measured."""
        there = [~np.isnan(samples[row]) for samples in self.samples.values()]
        return np.all(there, axis=0) if there else np.zeros(0, dtype=bool)

    def _count(self, row: int) -> int:
        """Count the runs before the first gap."""
        have = self._have(row)
        return len(have) if have.all() else int(have.argmin())

    def missing(self) -> list[tuple[int, int]]:
        """List the runs of this round as (point, run).

        The first run of every point comes first: what fails, fails early.
        """
        runs = []
        for row in range(len(self.points)):
            if row not in self.finished:
                done = set(np.flatnonzero(self._have(row)).tolist())
                runs += [(row, run) for run in range(self._target(row)) if run not in done]
        return sorted(runs, key=lambda pair: pair[1] > 0)

    def predicted(self) -> int:
        """Count the runs made and to be made, as far as is known."""
        rows = range(len(self.points))
        return sum(max(self._target(row), self._count(row)) for row in rows)

    def _settle(self, row: int) -> bool:
        if self._count(row) >= self._target(row):
            self.finished.add(row)
        return row in self.finished

    def add(self, row: int, run: int, values: Mapping[str, float]) -> bool:
        """Enter one run; True if its point is finished with it."""
        if not self.samples:
            taken = {*self._coords.variables, *self._dims, "run", "runs"}
            made = [name + end for name in values for end in ("", "_se", "_run")]
            if not made or len({*made, *taken}) < len(made) + len(taken):
                raise ValueError(
                    "measure must return at least one number, under names other than "
                    f"{', '.join(sorted(taken))}, got {', '.join(values) or 'none'}"
                )
            self.samples = {name: np.full((len(self.points), 0), np.nan) for name in values}
        if values.keys() != self.samples.keys() or not np.all(np.isfinite([*values.values()])):
            raise ValueError(
                f"measure must return finite numbers called {', '.join(self.samples)}, "
                f"got {dict(values)} at {say(self.points[row])}, run {run}"
            )
        size = next(iter(self.samples.values())).shape[1]
        if run >= size:
            room = np.full((len(self.points), max(run + 1, self._least) - size), np.nan)
            self.samples = {name: np.hstack([old, room]) for name, old in self.samples.items()}
        for name, value in values.items():
            self.samples[name][row, run] = value
        return self._settle(row)

    def take(self, stored: xr.Dataset) -> None:
        """Enter the runs of an earlier sweep; ValueError if one of its points is not in the grid.

        Their parameters must be the same ones.
        """
        theirs = Table(stored, precision=self._precision, runs=(self._least, self._most))
        for point in theirs.points:
            if key(point) not in self._row:
                raise ValueError(f"has the point {say(point)}, which is not in grid")
        rows = [self._row[key(point)] for point in theirs.points]
        for name in [name.removesuffix("_run") for name in stored if name.endswith("_run")]:
            runs = np.reshape(stored[f"{name}_run"].values, (len(rows), -1))
            self.samples[name] = np.full((len(self.points), runs.shape[1]), np.nan)
            self.samples[name][rows] = runs
        for row in rows:
            self._settle(row)

    def dataset(self) -> xr.Dataset:
        """Return means, standard errors, runs and their numbers; NaN for what is not known yet."""
        counts = np.array([self._count(row) for row in range(len(self.points))])
        for samples in self.samples.values():
            for row in self.finished:
                samples[row, counts[row] :] = np.nan
        data = self._coords.copy()
        for name, samples in self.samples.items():
            pairs = [_mean_and_error(row[:m]) for row, m in zip(samples, counts, strict=True)]
            mean, error = (np.reshape(column, self._shape) for column in zip(*pairs, strict=True))
            used = np.flatnonzero(~np.isnan(samples).all(axis=0)).max(initial=-1) + 1
            data[name] = (self._dims, mean)
            data[f"{name}_se"] = (self._dims, error)
            data[f"{name}_run"] = (
                (*self._dims, "run"), samples[:, :used].reshape(*self._shape, used)
            )  # fmt: skip
        data["runs"] = (self._dims, counts.reshape(self._shape))
        return data.assign_attrs(unfinished=len(self.points) - len(self.finished))


def _mean_and_error(samples: np.ndarray) -> tuple[float, float]:
    m = len(samples)
    if m < 2:
        return np.nan, np.nan
    return float(samples.mean()), float(samples.std(ddof=1) / m**0.5)
