"""Execute every notebook once, and let nothing stale survive.

Run as a program, this file executes, several at once, the notebooks that have no current result;
`results` says which these are, and keeps what they give. Used as a Sphinx extension, it does the
same, and hands each chapter's outputs to the book, so that Sphinx executes nothing itself.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
import results
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from results import ROOT
from sphinx.errors import ExtensionError

BOOK = ROOT / "book"
SECONDS = 600  # the most that a cell may take

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


def faults(notebook) -> list[str]:
    """Say what is wrong with the outputs of an executed notebook, and in which cells."""
    found = []
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code":
            continue
        where = f"cell {number}, `{cell.source.partition(chr(10))[0]}`:"
        kinds = {kind for output in cell.outputs for kind in output.get("data", ())}
        raised = [o.traceback for o in cell.outputs if o.output_type == "error"]
        written = [o.text for o in cell.outputs if o.get("name") == "stderr"]
        for traceback in raised:
            found.append(f"{where} fails\n" + "\n".join(traceback))
        if written:
            found.append(f"{where} writes to the standard error stream\n{''.join(written)}")
        if "figure" in cell.metadata.get("mystnb", {}) and not raised:
            if not any(kind.startswith("image/") for kind in kinds):
                found.append(f"{where} has a caption and draws no figure")
    return found


def execute(client: NotebookClient, path: Path, record: Path) -> tuple[float, list[str]]:
    """Execute a notebook, and keep its result if it is one; return seconds and faults."""
    start = time.monotonic()
    wrong = []
    try:
        client.execute(cwd=str(path.parent), env=os.environ | {"ICLKIT_RECORD": str(record)})
    except CellExecutionError:
        pass  # what was raised is among the outputs
    except Exception as problem:  # a cell that takes too long, a kernel that dies
        wrong = [str(problem)]
    wrong += faults(client.nb)
    if not wrong:
        results.keep(path, client.nb, settings(), record)
    return time.monotonic() - start, wrong


def main(jobs: str = "1") -> int:
    """Execute the notebooks that have no current result; return 0 if all have one then."""
    narrow = environment()
    os.environ.clear()
    os.environ.update(narrow)
    sources = notebooks()
    todo = [path for path, source in sources.items() if not results.find(path, source, settings())]
    print(f"{len(sources)} notebooks, {len(todo)} to execute", flush=True)
    if not todo:
        return 0
    # Where matplotlib is new it makes a list of the fonts, and says so.
    subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"])

    stopped = threading.Event()

    def check(**_):  # for a kernel that was too young to be killed
        if stopped.is_set():
            raise RuntimeError("interrupted")

    clients = {
        path: NotebookClient(
            sources[path],
            timeout=SECONDS,
            on_cell_start=check,
            extra_arguments=["--log-level=ERROR"],
        )
        for path in todo
    }
    failed = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(int(jobs)) as pool,
    ):
        try:
            running = {
                pool.submit(execute, client, path, Path(folder) / str(number)): path
                for number, (path, client) in enumerate(clients.items())
            }
            for future in as_completed(running):
                name = running[future].relative_to(ROOT)
                seconds, wrong = future.result()
                failed += bool(wrong)
                print(f"{name}: {seconds:.0f} s{', failed' if wrong else ''}", flush=True)
                for fault in wrong:
                    print(f"{name}, {fault}", flush=True)
        except KeyboardInterrupt:
            # What was finished is kept. Kernels don't hear the keyboard, so they are ended here.
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for client in clients.values():
                if client.km and client.km.has_kernel:
                    asyncio.run(client.km.provisioner.kill())
            print("interrupted; the notebooks that were finished are kept", flush=True)
            return 130
    results.prune()
    return int(failed > 0)


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
