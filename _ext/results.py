"""The results of notebooks, each with a record of what it was computed with.

A result belongs to a chapter's code and to the conditions it runs under, which are known before,
and to the files it reads, which are known afterwards: see `recorder`. It is current as long as
all of these are what they were. Results that are not are kept for a while, since a change may be
taken back, and a branch left for another one.
"""

import hashlib
import json
import os
import platform
import sys
from datetime import date, datetime
from pathlib import Path

import nbformat
from recorder.sitecustomize import digest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "_build" / "results"
LIMIT = 500 * 2**20  # bytes; the book has about 10 MB of results


def key(path: Path, notebook, settings: dict[str, str]) -> str:
    """Return a name for all that decides on a result and is known before the notebook runs.

    Captions, alternative texts and Markdown cells are none of it.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    known = [
        path.relative_to(ROOT).as_posix(),
        [[cell.source, cell.metadata.get("tags", [])] for cell in code],
        settings,
        digest("requirements.txt"),
        [platform.python_version(), sys.platform, platform.machine()],
    ]
    return f"{path.stem}-{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]}"


def find(path: Path, notebook, settings: dict[str, str]) -> Path | None:
    """Return the file with the current result of a notebook, if there is one."""
    for file in RESULTS.glob(f"{key(path, notebook, settings)}-*.ipynb"):
        used = nbformat.read(file, as_version=4).metadata["used"]
        if all(digest(name) == was for was, name in used):
            os.utime(file)  # what was used last is deleted last
            return file
    return None


def with_outputs(notebook, result: Path):
    """Return a copy of the notebook with the outputs of its result."""
    notebook, ran = nbformat.from_dict(notebook), nbformat.read(result, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, from_cell in zip(code, ran.cells, strict=True):
        cell.outputs, cell.execution_count = from_cell.outputs, from_cell.execution_count
    for name in {"language_info", "widgets"} & ran.metadata.keys():
        notebook.metadata[name] = ran.metadata[name]
    return notebook


def keep(path: Path, ran, settings: dict[str, str], record: Path) -> None:
    """Store a notebook that was executed, with what the recorder wrote down meanwhile."""
    # A file that changed while it was in use has two lines that can't both be true: no result
    # with such a record is ever current.
    used = sorted(set(record.read_text().splitlines()))
    ran = nbformat.from_dict(ran)
    ran.cells = [cell for cell in ran.cells if cell.cell_type == "code"]
    ran.metadata["used"] = [line.split(" ", 1) for line in used]
    memory = Path(f"{record}.memory")  # which a kernel that had to be killed leaves unwritten
    ran.metadata["took"] = {
        "seconds": sum(seconds(cell) for cell in ran.cells),
        "bytes": max(map(int, memory.read_text().split())) if memory.exists() else None,
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    name = f"{key(path, ran, settings)}-{hashlib.sha256(''.join(used).encode()).hexdigest()[:8]}"
    RESULTS.mkdir(parents=True, exist_ok=True)
    part = RESULTS / f"{name}.part"
    nbformat.write(ran, part)
    part.replace(RESULTS / f"{name}.ipynb")


def seconds(cell) -> float:
    """Return how long a code cell ran, from what Jupyter notes of it."""
    when = cell.metadata.get("execution", {})
    start, end = (when.get(f"iopub.status.{state}") for state in ("busy", "idle"))
    if not start or not end:  # it was empty, and not run
        return 0.0
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def prune() -> None:
    """Delete the results that were not used for longest, as far as there are too many."""
    kept = 0
    for file in sorted(
        RESULTS.glob("*.ipynb"), key=lambda file: file.stat().st_mtime, reverse=True
    ):
        kept += file.stat().st_size
        if kept > LIMIT:
            file.unlink()
