"""Results on disk: whole or not at all, written by one sweep at a time, with their provenance.

The format is netCDF, which cannot carry code. A file holds the SHA-256 digest of its own bytes,
so that damage to any of them, down to a flipped bit in a name, is found when it is read.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from types import ModuleType

import numpy as np
import xarray as xr

from iclkit import _validate, backend

# Between two writes lie so many seconds, and more where writes would take more than such a share
# of the time.
_PATIENCE = 1.0
_SHARE = 0.03

_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_BLANK = b"sha256:" + 64 * b"0"


def encode(data: xr.Dataset) -> bytes:
    """Return the bytes of a netCDF file that holds the data and a digest of itself."""
    raw = bytes(data.assign_attrs(digest=_BLANK.decode()).to_netcdf(engine="scipy"))
    return raw.replace(_BLANK, b"sha256:" + hashlib.sha256(raw).hexdigest().encode(), 1)


def decode(raw: bytes) -> xr.Dataset:
    """Return what `encode` was given; ValueError if a byte of it is another one."""
    found = _DIGEST.search(raw)
    if found is None:
        raise ValueError("holds no digest")
    blank = raw[: found.start()] + _BLANK + raw[found.end() :]
    if hashlib.sha256(blank).hexdigest() != found.group()[7:].decode():
        raise ValueError("does not match its digest")
    return xr.load_dataset(io.BytesIO(raw), engine="scipy")


def load(file: str | os.PathLike[str]) -> xr.Dataset:
    """Read the result of a sweep, and check that it is as it was written.

    Parameters
    ----------
    file : path
        What `iclkit.runs.sweep` was given as `file`.

    Returns
    -------
    xarray.Dataset
        As `iclkit.runs.sweep` returns it, but for what the theory expects. While attribute
        `unfinished`, the number of points that need more runs, is not 0, the sweep was interrupted
        or is still going on.

    Raises
    ------
    ValueError
        If the file is damaged, or was not written by a sweep.
    FileNotFoundError
        If there is no such file.
    TypeError
        If `file` is no path.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from iclkit import runs
    >>> point = {"d": 4, "tau": 2.0, "alpha": 1.0, "kappa": 1.0, "rho": 0.1}
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "errors.nc"
    ...     made = runs.sweep(runs.linear_attention, point, file, seed=0, runs=(2, 2), workers=1)
    ...     stored = runs.load(file)
    >>> bool(stored.icl_error == made.icl_error), "icl_error_theory" in stored
    (True, False)
    """
    file = _validate.path("file", file)
    try:
        return decode(file.read_bytes())
    except ValueError as problem:
        raise ValueError(
            f"{file} {problem}: it is damaged, or not the result of a sweep. "
            "Bring back a sound copy, or delete it and run the sweep again"
        ) from None


class Store:
    """The file of one sweep, or nothing at all where `file` is None.

    Used as a context manager it holds the lock: of two stores on one file, the second raises
    RuntimeError. The operating system gives the lock back when a process dies, however it dies.
    """

    def __init__(self, file: Path | None, make: Callable[[], xr.Dataset]):
        self.changing = threading.RLock()  # hold it while changing what `make` reads
        self._file, self._make = file, make
        self._timer: threading.Timer | None = None
        self._due = monotonic()
        self._changed = False

    def __enter__(self) -> Store:
        if self._file is not None:
            from filelock import FileLock, Timeout

            if not self._file.parent.is_dir():
                raise FileNotFoundError(f"file must lie in a folder that exists, got {self._file}")
            self._lock = FileLock(self._file.with_name(f".{self._file.name}.lock"))
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                raise RuntimeError(
                    f"another sweep is writing {self._file}: wait for its end, or give another file"
                ) from None
            except OSError as problem:
                problem.add_note(f"file must lie in a folder that can be written, got {self._file}")
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            try:
                with self.changing:
                    if self._changed:
                        self.write()
            finally:
                self._lock.release()

    def write(self) -> None:
        """Put the present state on disk: a reader finds the old file or the new one, whole."""
        with self.changing:
            if self._file is None:
                return
            self._changed = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            start = monotonic()
            part = self._file.with_name(f".{self._file.name}.part")
            try:
                with open(part, "wb") as stream:
                    stream.write(encode(self._make()))
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(part, self._file)
            except BaseException as problem:
                part.unlink(missing_ok=True)
                problem.add_note(f"while writing {self._file}")
                raise
            self._changed = False
            self._due = monotonic() + max(_PATIENCE, (monotonic() - start) / _SHARE)

    def write_soon(self) -> None:
        """Put the state on disk at once, or as soon as the last write is long enough ago."""
        with self.changing:
            self._changed = True
            if self._file is None or self._timer is not None:
                return
            wait = self._due - monotonic()
            if wait <= 0:
                self.write()
            else:
                self._timer = threading.Timer(wait, self._write_late)
                self._timer.daemon = True
                self._timer.start()

    def _write_late(self) -> None:
        with self.changing:
            if self._timer is threading.current_thread():
                try:
                    self.write()
                except OSError:
                    pass  # a full disk, say: the next run tries again, and reports it


def device() -> str:
    """Name what `iclkit.backend.namespace` chooses: "cpu" or "gpu", and the model."""
    return _model(backend.namespace())


@cache
def _model(xp: ModuleType) -> str:
    if xp is not np:
        return f"gpu, {xp.cuda.runtime.getDeviceProperties(0)['name'].decode()}"
    model = None
    try:
        model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        pass  # not on Linux
    return f"cpu, {model[1] if model else platform.processor() or platform.machine()}"


def _commit() -> str:
    """Hash of the checkout that the package lives in, with -dirty if a tracked file differs.

    Stored results do not count: to compute one anew, it is deleted first.
    """
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            check=True,
            text=True,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        ).stdout.strip()

    try:
        # Installed below somebody else's repository, the package has no commit.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return "unknown"
        code = ("--", str(root), f":(exclude){root / 'book' / 'data'}")
        changes = git("status", "--porcelain", "--untracked-files=no", *code)
        return git("rev-parse", "HEAD") + ("-dirty" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def provenance() -> dict[str, str]:
    """Say what computes, and when: no names of hosts or people, and no paths."""
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "scipy": version("scipy"),
        "date": datetime.now(UTC).date().isoformat(),
    }
