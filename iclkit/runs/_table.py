"""What a sweep knows: the points of its grid, their runs so far, and which runs are still to come.

Nothing here computes a run or touches a disk.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from iclkit import _validate

Point = dict[str, Any]

# Names that a call or a result has for itself.
_TAKEN = ("seed", "run", "runs", "failed", "failed_run")
# What every reader of netCDF takes for a name, and Python for an attribute.
_NAMES = "made of a to z, digits and _, not beginning with a digit"


def coordinates(grid: Mapping[str, Any]) -> xr.Dataset:
    """Check a grid, and make its parameters the coordinates of an otherwise empty dataset."""
    if not isinstance(grid, Mapping) or not grid:
        raise ValueError(f"grid must map at least one parameter to its values, got {grid!r}")
    arrays = {name: _axis(name, values) for name, values in grid.items()}
    try:
        aligned = xr.align(*arrays.values(), join="exact")
        coords = xr.Dataset(coords=dict(zip(arrays, aligned, strict=True)))
        # What cannot be stored, or comes back as something else, says so before hours are spent.
        raw = bytes(coords.to_netcdf(engine="scipy"))
    except (TypeError, ValueError) as problem:
        raise ValueError(f"grid must fit together, and into a netCDF file: {problem}") from None
    if not xr.load_dataset(io.BytesIO(raw), engine="scipy").equals(coords):
        raise ValueError("grid must fit into a netCDF file, which changes its values")
    return coords.assign_attrs(parameters=", ".join(arrays))


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isascii() and name.isidentifier()


def _require_name(what: str, name: Any) -> None:
    if not _is_name(name) or name in _TAKEN:
        raise ValueError(f"{what} {_NAMES}, and other than {', '.join(_TAKEN)}, got {name!r}")


def _axis(name: str, values: Any) -> xr.DataArray:
    _require_name("grid must have names of parameters", name)
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
    for label in array.dims:
        _require_name(f"{name} must have names of dimensions", label)
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
    samples : dict from str to array of shape (points, at least the runs)
        The runs of each measured quantity; NaN where there is none.
    failed : array of bool, shape as of samples
        Runs that were made and gave no numbers, if `skip` says that the others do without them.
    finished : set of int
        Numbers of the points that need no more runs.
    """

    def __init__(
        self, coords: xr.Dataset, *, precision: float, runs: tuple[int, int], skip: bool = False
    ):
        self._coords, self._precision, (self._least, self._most) = coords, precision, runs
        self._skip = skip
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
        self.failed = np.zeros((len(self.points), 0), dtype=bool)
        self.finished: set[int] = set()
        self._made = self.failed.copy()  # runs that are there, or have failed
        self._count = [0] * len(self.points)  # of runs before the first that is not made
        self._target = [self._least] * len(self.points)  # as far as the runs so far tell
        self._summary: dict[str, np.ndarray] = {}  # means and standard errors, but of `_changed`
        self._changed = set(range(len(self.points)))

    def missing(self) -> list[tuple[int, int]]:
        """List the runs of this round as (point, run).

        One run of every point comes first: what fails, fails early.
        """
        first, others = [], []
        for row in range(len(self.points)):
            if row not in self.finished:
                made = set(np.flatnonzero(self._made[row]).tolist())
                runs = [(row, run) for run in range(self._target[row]) if run not in made]
                first += runs[:1]
                others += runs[1:]
        return first + others

    def predicted(self) -> int:
        """Count the runs made and to be made, as far as is known."""
        return sum(map(max, self._target, self._count))

    def add(self, row: int, run: int, values: Mapping[str, float]) -> None:
        """Enter one run."""
        if not self.samples:
            self._start(values)
        if values.keys() != self.samples.keys():
            raise ValueError(
                f"measure must return the same names each time, {', '.join(self.samples)}, "
                f"got {', '.join(map(str, values))} at {say(self.points[row])}, run {run}"
            )
        self._reserve(run + 1)
        for name, value in values.items():
            self.samples[name][row, run] = value
        self._made[row, run] = True
        self._advance(row)

    def fail(self, row: int, run: int) -> None:
        """Enter one run that gave no numbers."""
        self._reserve(run + 1)
        self._made[row, run] = self.failed[row, run] = True
        self._advance(row)

    def take(self, stored: xr.Dataset) -> None:
        """Enter the runs of an earlier sweep; ValueError if one of its points is not in the grid.

        Their parameters must be the same ones.
        """
        theirs = Table(stored, precision=self._precision, runs=(self._least, self._most))
        for point in theirs.points:
            if key(point) not in self._row:
                raise ValueError(f"has the point {say(point)}, which is not in grid")
        rows = [self._row[key(point)] for point in theirs.points]
        runs = {
            str(name).removesuffix("_run"): np.reshape(column.values, (len(rows), -1))
            for name, column in stored.data_vars.items()
            if str(name).endswith("_run")
        }
        failed = runs.pop("failed", None)
        size = stored.sizes.get("run", 0)
        self.samples = {name: np.full(self.failed.shape, np.nan) for name in runs}
        self._reserve(size)
        for name, samples in runs.items():
            self.samples[name][rows, :size] = samples
        self._made[rows, :size] = ~np.isnan([*runs.values()]).any(axis=0)
        if failed is not None and self._skip:
            self.failed[rows, :size] = failed
            self._made |= self.failed
        for row in rows:
            self._advance(row)

    def dataset(self) -> xr.Dataset:
        """Return means, standard errors, runs and their numbers; NaN for what is not known yet."""
        for name in self.samples:
            summary = self._summary.setdefault(name, np.full((len(self.points), 2), np.nan))
            for row in self._changed:
                summary[row] = _mean_and_error(self._first(name, row, self._count[row]))
        self._changed.clear()
        data = self._coords.copy()
        used = np.flatnonzero(self._made.any(axis=0)).max(initial=-1) + 1

        def at_points(column: np.ndarray) -> tuple[Any, np.ndarray]:
            return self._dims, np.reshape(column, self._shape)

        def along_runs(table: np.ndarray) -> tuple[Any, np.ndarray]:
            return (*self._dims, "run"), table[:, :used].reshape(*self._shape, used)

        for name, samples in self.samples.items():
            data[name], data[f"{name}_se"] = map(at_points, self._summary[name].T)
            data[f"{name}_run"] = along_runs(samples)
        counted = np.arange(used) < np.reshape(self._count, (-1, 1))
        failed = np.sum(self.failed[:, :used] & counted, axis=1)
        data["runs"] = at_points(self._count - failed)
        if self._skip:
            data["failed"], data["failed_run"] = at_points(failed), along_runs(self.failed)
        return data.assign_attrs(unfinished=len(self.points) - len(self.finished))

    def _start(self, values: Mapping[str, float]) -> None:
        """Make room for what is measured, as the first run tells."""
        taken = {str(name) for name in (*self._coords.variables, *self._dims, *_TAKEN)}
        made = [f"{name}{end}" for name in values for end in ("", "_se", "_run")]
        fit = made and all(map(_is_name, values))
        if not fit or len({*made, *taken}) < len(made) + len(taken):
            raise ValueError(
                f"measure must return at least one number, under names {_NAMES}, and other than "
                f"{', '.join(sorted(taken))}, got {', '.join(map(repr, values)) or 'none'}"
            )
        self.samples = {name: np.full(self.failed.shape, np.nan) for name in values}

    def _reserve(self, runs: int) -> None:
        """Make room for so many runs of every point, and for more, as more are to come."""
        have = self.failed.shape[1]
        if runs > have:
            wider = ((0, 0), (0, max(runs, self._least, 2 * have) - have))
            self.failed, self._made = np.pad(self.failed, wider), np.pad(self._made, wider)
            for name, samples in self.samples.items():
                self.samples[name] = np.pad(samples, wider, constant_values=np.nan)

    def _first(self, name: str, row: int, count: int) -> np.ndarray:
        """Return what there is of a point's first runs."""
        return self.samples[name][row, :count][~self.failed[row, :count]]

    def _advance(self, row: int) -> None:
        """See what a point's runs tell, and whether they are enough.

        The first m runs decide about the next ones, whatever else there is already. So the answer
        depends neither on the order in which runs arrive nor on interruptions.
        """
        count, target = self._count[row], self._target[row]
        while count < self._made.shape[1] and self._made[row, count]:
            count += 1
        while row not in self.finished and count >= target:
            wanted = self._wanted(row, target)
            if wanted == target:
                self.finished.add(row)
            target = wanted
        if row in self.finished:  # runs after a gap are of a round that has become needless
            for samples in self.samples.values():
                samples[row, count:] = np.nan
            self._made[row, count:] = self.failed[row, count:] = False
        self._count[row], self._target[row] = count, target
        self._changed.add(row)

    def _wanted(self, row: int, m: int) -> int:
        """Say how many runs a point needs, as far as its first m tell: m if they are enough."""
        ratio = 0.0
        for name in self.samples:
            first = self._first(name, row, m)
            if len(first) < 2:
                return min(self._most, m + len(first))  # one may yet do; where none does, give up
            mean, error = _mean_and_error(first)
            allowed = self._precision * abs(mean)
            ratio = max(ratio, error / allowed if allowed else math.inf if error else 0.0)
        if ratio <= 1:
            return m
        return min(self._most, max(m + 1, math.ceil(min(self._most, 1.1 * m * ratio**2))))


def _mean_and_error(samples: np.ndarray) -> tuple[float, float]:
    m = len(samples)
    if m < 2:
        return np.nan, np.nan
    return float(samples.mean()), float(samples.std(ddof=1) / m**0.5)
