"""Execute every notebook once, and let nothing stale survive.

Run as a program, this file executes under nbmake, several at once, the notebooks that have no
current result; `results` says which these are, and `judge` keeps what they give. Used as a Sphinx
extension, it does the same, and hands each chapter's outputs to the book, so that Sphinx executes
nothing itself.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import results
from results import ROOT
from sphinx.errors import ExtensionError

BOOK = ROOT / "book"

# What a kernel is told of the machine it runs on. Everything else in a reader's environment could
# change a result or write to a page: PYTHONWARNINGS, XLA_FLAGS, MPLBACKEND, the language, …
PASSED_ON = (
    "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES", "DYLD_LIBRARY_PATH", "LD_LIBRARY_PATH",
    "PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR",
)  # fmt: skip


def settings() -> dict[str, str]:
    """Return the settings that are part of a result.

    The fixed seeds of the chapters belong to the random streams of the CPU, so a GPU is used only
    when it is asked for: JAX would remark on a card that it has no driver for. Figures are drawn
    in the page, which shows no progress bars. One thread each, as several notebooks run at once.
    """
    chosen = {
        "ICLKIT_DEVICE": os.environ.get("ICLKIT_DEVICE", "cpu"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "TQDM_DISABLE": "1",
        "TZ": "UTC",
    }
    if chosen["ICLKIT_DEVICE"] != "gpu":
        chosen["JAX_PLATFORMS"] = "cpu"
    elif "JAX_PLATFORMS" in os.environ:
        chosen["JAX_PLATFORMS"] = os.environ["JAX_PLATFORMS"]
    return chosen


def environment() -> dict[str, str]:
    """Return all that notebooks and Jupyter see of the environment.

    Their home is in _build: it has no start-up files, and can be written to.
    """
    home = ROOT / "_build" / "home"
    home.mkdir(parents=True, exist_ok=True)
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    recorder = {"PYTHONPATH": str(ROOT / "_ext" / "recorder")}
    return passed_on | settings() | recorder | {"HOME": str(home)}


def notebooks() -> dict[Path, nbformat.NotebookNode]:
    """Return the book's notebooks, whether or not the table of contents lists them."""
    paths = sorted(p for p in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    return {path: read(path, path.read_text(encoding="utf-8")) for path in paths}


def read(path: Path, text: str):
    """Read the text of a notebook, or say which one can't be read."""
    try:
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except Exception as problem:  # of many kinds, from JSON and from nbformat
        reason = str(problem).partition("\n")[0] or type(problem).__name__
        raise SystemExit(f"{path.relative_to(ROOT)} is not a notebook: {reason[:200]}") from None
    return notebook


def main(jobs: str = "1") -> int:
    """Execute the notebooks that have no current result; return 0 if all have one then."""
    # Read once: a notebook may be edited while its copy runs.
    sources = notebooks()
    todo = [path for path, source in sources.items() if not results.find(path, source, settings())]
    print(f"{len(sources)} notebooks, {len(todo)} to execute", flush=True)
    if not todo:
        return 0
    narrow = environment()
    # Where matplotlib is new it makes a list of the fonts, and says so.
    subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], env=narrow)

    # The copies lie outside _build, because nbmake passes over any path that contains it.
    with tempfile.TemporaryDirectory() as folder:
        copies = {path: Path(folder) / path.relative_to(ROOT) for path in todo}
        for path, copy in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(sources[path], copy)
        if (BOOK / "data").is_dir():
            (Path(folder) / "book" / "data").symlink_to(BOOK / "data")

        command = [sys.executable, "-m", "pytest", "-p", "judge", "-v", "-n", jobs]
        command += ["--nbmake", "--overwrite", "--nbmake-timeout=600", "--dist=worksteal"]
        command += ["--durations=0", "--durations-min=1", "-p", "no:cacheprovider"]
        command += ["-c", ROOT / "pyproject.toml", "--rootdir", folder, *copies.values()]
        finds_judge = narrow | {"PYTHONPATH": str(ROOT / "_ext")}
        run = subprocess.Popen(command, cwd=folder, env=finds_judge, start_new_session=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            status = run.wait()
        except KeyboardInterrupt:
            # At once, so that no other notebook begins; a kernel ends with the process it is from.
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            print("interrupted; the notebooks that were finished are kept", flush=True)
            return 130
    results.prune()
    return status


def setup(app):
    """Register the extension with Sphinx."""
    texts, files = {}, {}  # of the notebooks with their outputs, and where these are from

    def execute_all(app, config):
        sources = notebooks()
        if not all(results.find(path, sources[path], settings()) for path in sources):
            subprocess.run([sys.executable, __file__])
        for path, notebook in sources.items():
            name = path.relative_to(ROOT).with_suffix("").as_posix()
            files[name] = results.find(path, notebook, settings())
            if not files[name]:
                raise ExtensionError(f"{path.relative_to(ROOT)} has no result")
            texts[name] = nbformat.writes(results.with_outputs(notebook, files[name]))

    def outdated(app, env, added, changed, removed):
        before = getattr(env, "iclkit_results", {})
        env.iclkit_results = {name: str(file) for name, file in files.items()}
        return [
            name for name in env.found_docs & files.keys() if before.get(name) != str(files[name])
        ]

    def add_outputs(app, name, source):
        if str(app.env.doc2path(name)).endswith(".ipynb"):
            source[0] = texts[name]

    app.connect("config-inited", execute_all)
    app.connect("env-get-outdated", outdated)
    app.connect("source-read", add_outputs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
