"""Execute every notebook once, and let nothing stale survive.

Run as a program, this file executes under nbmake, in parallel, the notebooks that have no
current result, and stores the results where the book's build looks for them. Used as a Sphinx
extension, it tells the build where that is: a folder named by a digest of everything besides
its own cells that a chapter computes with. Change one of those, and the folder is a new one:
notebooks are executed again, and Sphinx reads every page again.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
RESULTS = ROOT / "_build" / "results"


def results_folder() -> Path:
    """Return the folder of results that belong to the package, data and lock as they are now."""
    sources = [*ROOT.glob("iclkit/**/*.py"), *BOOK.glob("data/**/*"), ROOT / "requirements.txt"]
    digest = hashlib.sha256()
    for path in sorted(path for path in sources if path.is_file()):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return RESULTS / digest.hexdigest()[:16]


def settings() -> dict[str, str]:
    """Return the environment variables that notebooks are executed with for the book.

    The fixed seeds of the chapters belong to the random streams of the CPU, so a GPU is used only
    when it is asked for; and pages show no progress bars.
    """
    return {"ICLKIT_DEVICE": os.environ.get("ICLKIT_DEVICE", "cpu"), "TQDM_DISABLE": "1"}


def notebooks() -> list[Path]:
    """Return the book's notebooks, whether or not the table of contents lists them."""
    return sorted(p for p in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def has_result(cache, notebook) -> bool:
    """Tell whether the cache holds the outputs of exactly these code cells."""
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    return True


def store(cache, notebook, path: Path, executed: Path) -> None:
    """Put the outputs in `executed` into the cache, under the key of the notebook from `path`.

    Execution leaves marks in the metadata that are part of the key, so only outputs are taken.
    """
    ran = nbformat.read(executed, as_version=4)
    for cell, ran_cell in zip(notebook.cells, ran.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs = ran_cell.outputs
            cell.execution_count = ran_cell.execution_count
    notebook.metadata["language_info"] = ran.metadata["language_info"]
    cache.cache_notebook_bundle(CacheBundleIn(notebook, str(path)), overwrite=True)


def main(jobs: str) -> int:
    """Execute the notebooks that have no current result; return the exit status of pytest."""
    current = results_folder()
    for old in RESULTS.glob("*"):
        if old != current:
            shutil.rmtree(old)
    cache = get_cache(current)
    # Read once: a notebook may be edited while its copy runs.
    sources = {path: nbformat.read(path, as_version=4) for path in notebooks()}
    todo = [path for path, notebook in sources.items() if not has_result(cache, notebook)]
    print(f"{len(sources)} notebooks, {len(todo)} to execute", flush=True)
    if not todo:
        return 0

    # The copies lie outside _build, because nbmake passes over any path that contains it.
    with tempfile.TemporaryDirectory() as folder:
        copies = {path: Path(folder) / path.relative_to(ROOT) for path in todo}
        for path, copy in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(sources[path], copy)
        if (BOOK / "data").is_dir():
            (Path(folder) / "book" / "data").symlink_to(BOOK / "data")

        command = [
            sys.executable,
            "-m",
            "pytest",
            "--nbmake",
            "--overwrite",
            "--nbmake-timeout=600",
        ]
        command += ["-n", jobs, "--dist=worksteal", "--durations=0", "--durations-min=1"]
        command += ["-c", ROOT / "pyproject.toml", "--rootdir", folder, "-p", "no:cacheprovider"]
        # One thread each, as several run at once.
        environment = os.environ | settings() | {"OPENBLAS_NUM_THREADS": "1"}
        status = subprocess.run([*command, *copies.values()], env=environment).returncode
        for path, copy in copies.items():
            if finished(copy):
                store(cache, sources[path], path, copy)
    return status


def finished(copy: Path) -> bool:
    """Tell whether every code cell of the copy was executed and none of them failed."""
    cells = [c for c in nbformat.read(copy, as_version=4).cells if c.cell_type == "code"]
    errors = any(output.output_type == "error" for cell in cells for output in cell.outputs)
    return not errors and all(cell.execution_count for cell in cells if cell.source.strip())


def setup(app):
    """Register the extension with Sphinx."""
    os.environ.update(settings())

    def use_results(app, config):
        config.nb_execution_cache_path = str(results_folder())

    app.connect("config-inited", use_results)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
