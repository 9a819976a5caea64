"""The book's notebooks: run once, on any machine, and again only when what they use has changed.

A small book with a small package stands for the book here; its notebooks are really executed, in
an environment that is as unkind as that of any reader.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).parents[1]
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
FIGURE = {"mystnb": {"figure": {"name": "fig-line", "caption": "A line."}}}

UNKIND = {
    "COLUMNS": "20",
    "HOME": "/dev/null/nobody",  # not even root can write there
    "JAX_ENABLE_X64": "1",
    "JUPYTER_RUNTIME_DIR": "/dev/null/runtime",
    "LC_ALL": "C",
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": "/dev/null/matplotlib",
    "PYTHONPATH": "/dev/null/modules",
    "PYTHONWARNINGS": "error::UserWarning",
    "TZ": "Asia/Tokyo",
    "XLA_FLAGS": "--xla_of_another_project",
}

PACKAGE = {
    "small/__init__.py": "",
    "small/direct.py": "",
    "small/lazy.py": "",
    "small/unused.py": "",
    "book/data/read.txt": "read",
    "book/data/worker.txt": "read by another process",
}

# Each begins by making the package importable, and runs as a copy in another place.
NOTEBOOKS = {
    "direct": [
        "import small.direct",
        "for name in ('read', 'absent'):\n"
        "    try:\n        print(open(f'data/{name}.txt').read())\n"
        "    except FileNotFoundError:\n        print('none')",
    ],
    "indirect": [
        "import subprocess\n"
        "code = 'from importlib import import_module; import_module(\"small.lazy\");' \\\n"
        "    'print(open(\"book/data/worker.txt\").read())'\n"
        "print(subprocess.run([sys.executable, '-c', code], cwd=ROOT, text=True,\n"
        "      check=True, capture_output=True).stdout)",
        "from pathlib import Path\nprint(len(list(Path('data').glob('*.txt'))))",
    ],
    "page": [
        f"import os\nprint([v for v in {UNKIND!r}.items() if v in os.environ.items()])",
        # A card, and a JAX that has no driver for it.
        "from jax._src import hardware_utils\n"
        "hardware_utils._NVIDIA_GPU_DEVICES[:] = [os.devnull]\n"
        "import jax\nprint(jax.devices()[0].platform)",
        (
            "from matplotlib import pyplot as plt\nplt.plot([0, 1])\nplt.show()",
            FIGURE,
        ),
    ],
}

FAULTY = {
    "error": ["1 / 0"],
    "allowed": [("2 / 0", {"tags": ["raises-exception"]})],
    "figure": [("figure = None", FIGURE)],
    "warning": ["import warnings\nwarnings.warn('look out')"],
    "death": ["import os\nos._exit(1)"],
}


def write_notebook(root, name, cells):
    path = root / "book" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = f"import sys\nROOT = {str(root)!r}\nsys.path.insert(0, ROOT)"
    code = [
        new_code_cell(c) if isinstance(c, str) else new_code_cell(c[0], metadata=c[1])
        for c in (begin, *cells)
    ]
    cells = [new_markdown_cell("# Title"), *code]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)


def new_book(root, notebooks):
    shutil.copytree(ROOT / "_ext", root / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, root)
    for name, text in PACKAGE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name, cells in notebooks.items():
        write_notebook(root, name, cells)


def start(root, jobs=2):
    command = [sys.executable, root / "_ext" / "execution.py", str(jobs)]
    environment = {k: v for k, v in os.environ.items() if k != "ICLKIT_DEVICE"} | UNKIND
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(root, jobs=2):
    process = start(root, jobs)
    said, _ = process.communicate()
    return process.returncode, said


MODULES = {"execution", "recorder", "results"}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The small book once it was run, without what is faulty, and the modules that know it."""
    root = tmp_path_factory.mktemp("small")
    new_book(root, NOTEBOOKS | FAULTY)
    status, said = run(root)
    assert status == 1, said
    for name in FAULTY:
        (root / "book" / f"{name}.ipynb").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root / "_ext")
        for name in [name for name in sys.modules if name.split(".")[0] in MODULES]:
            patch.delitem(sys.modules, name)  # other tests have those of this repository
        import execution
        import results

        yield SimpleNamespace(root=root, execution=execution, results=results, said=said)


@pytest.fixture(autouse=True)
def _device(monkeypatch):
    monkeypatch.delenv("ICLKIT_DEVICE", raising=False)


def missing(small):
    """The notebooks that would be executed now."""
    settings = small.execution.settings()
    sources = small.execution.notebooks().items()
    return {p.stem for p, notebook in sources if not small.results.find(p, notebook, settings)}


def outputs(small, name):
    path = small.root / "book" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    file = small.results.find(path, notebook, small.execution.settings())
    return [c.get("outputs", []) for c in small.results.with_outputs(notebook, file).cells]


# A machine like any other ---------------------------------------------------------------------


def test_unkind_environment_changes_nothing(small):
    assert small.said.startswith("8 notebooks, 8 to execute\n")
    *_, passed_on, platform, figure = outputs(small, "page")
    assert passed_on[0].text == "[]\n"
    assert platform[0].text == "cpu\n"
    assert [kind for kind in figure[-1].data if kind.startswith("image/")] == ["image/png"]
    assert outputs(small, "direct")[-1][0].text == "read\nnone\n"
    assert outputs(small, "indirect")[-2][0].text == "read by another process\n\n"


def test_gpu_is_used_when_it_is_asked_for(small, monkeypatch):
    assert small.execution.settings()["JAX_PLATFORMS"] == "cpu"
    monkeypatch.setenv("ICLKIT_DEVICE", "gpu")
    assert "JAX_PLATFORMS" not in small.execution.settings()
    assert missing(small) == set(NOTEBOOKS)


def test_faults_are_named_and_never_kept(small):
    for name, fault in {
        "error": "1 / 0",
        "allowed": "cell 3, `2 / 0`: fails",
        "figure": "cell 3, `figure = None`: has a caption and draws no figure\n",
        "warning": "cell 3, `import warnings`: writes to the standard error stream\n",
        "death": "Kernel died",
    }.items():
        assert f"FAILED book/{name}.ipynb" in small.said
        assert fault in small.said.partition(f"/book/{name}.ipynb _")[2].partition("\n_")[0]
    assert "ZeroDivisionError" in small.said
    assert "UserWarning: look out" in small.said
    kept = {file.name.partition("-")[0] for file in small.results.RESULTS.iterdir()}
    assert kept == set(NOTEBOOKS)


@pytest.mark.parametrize("text", ["", '{"cells": [', "[]", "{}", '{"cells": 1, "nbformat": 4}'])
def test_what_is_no_notebook_is_named_in_one_line(small, text):
    path = small.root / "book" / "theory" / "broken.ipynb"
    with pytest.raises(SystemExit, match=r"book/theory/broken.ipynb is not a notebook: .+") as info:
        small.execution.read(path, text)
    assert "\n" not in str(info.value)


@pytest.mark.usefixtures("_heard")
def test_interruption_keeps_what_was_finished(tmp_path):
    """Also where only this process hears of it, and not the kernels; and then goes on."""
    lock = tmp_path / "lock"  # as long as the kernel lives
    endless = f"import fcntl, time\nfile = open({str(lock)!r}, 'w')\n"
    endless += "fcntl.flock(file, fcntl.LOCK_EX)\nfile.write('locked')\nfile.flush()\n"
    endless += "while True:\n    time.sleep(1)"
    new_book(tmp_path, {"endless": [endless], "finished": ["1 + 1"]})
    for number, todo, awaited in (
        (signal.SIGINT, 2, "PASSED book/finished.ipynb"),
        (signal.SIGTERM, 1, "to execute\n"),
    ):
        process = start(tmp_path, jobs=todo)
        seen = ""
        while awaited not in seen and (letter := process.stdout.read(1)):
            seen += letter  # as a line ends only where the next begins
        while not (lock.exists() and lock.read_text()):
            assert process.poll() is None, seen
            time.sleep(0.1)
        process.send_signal(number)
        said, _ = process.communicate()
        assert process.returncode == 130, seen + said
        assert seen.startswith(f"2 notebooks, {todo} to execute\n")
        assert "Traceback" not in said
        (kept,) = (tmp_path / "_build" / "results").glob("*")
        assert kept.name.startswith("finished-")
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
        lock.unlink()


# Again, when what they use has changed ----------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "using"),
    [
        ("small/direct.py", {"direct"}),
        ("small/lazy.py", {"indirect"}),  # in another process, by a name that is made up there
        ("small/__init__.py", {"direct", "indirect"}),
        ("small/unused.py", set()),
        ("book/data/read.txt", {"direct"}),
        ("book/data/worker.txt", {"indirect"}),
        ("book/data/absent.txt", {"direct", "indirect"}),  # looked for, and in a list of files
        ("book/data/new.csv", {"indirect"}),
        ("requirements.txt", set(NOTEBOOKS)),
        ("README.md", set()),
    ],
)
def test_change_of_a_file_concerns_those_that_use_it(small, file, using):
    path = small.root / file
    before = path.read_bytes() if path.exists() else None
    path.write_bytes((before or b"") + b"\n# changed\n")
    changed = missing(small)
    path.unlink() if before is None else path.write_bytes(before)
    assert changed == using
    assert missing(small) == set(), "earlier results are current again"


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda cells: setattr(cells[0], "source", "# Another title"), set()),
        (lambda cells: cells.append(new_markdown_cell("More.")), set()),
        (lambda cells: cells[-1].metadata.update(mystnb={"figure": {"caption": "!"}}), set()),
        (lambda cells: setattr(cells[-1], "source", cells[-1].source + "  #"), {"page"}),
        (lambda cells: cells.append(cells.pop(2)), {"page"}),
        (lambda cells: cells.append(new_code_cell("1")), {"page"}),
    ],
    ids=["sentence", "paragraph", "caption", "code", "order", "cell"],
)
def test_change_of_a_notebook_concerns_its_code(small, change, again):
    path = small.root / "book" / "page.ipynb"
    before = path.read_bytes()
    notebook = nbformat.read(path, as_version=4)
    change(notebook.cells)
    nbformat.write(notebook, path)
    changed = missing(small)
    path.write_bytes(before)
    assert changed == again
    assert missing(small) == set()


def test_only_what_is_missing_is_executed_and_there_and_back_costs_nothing(small):
    path = small.root / "small" / "direct.py"
    path.write_text("# another branch\n")
    status, said = run(small.root, jobs=1)
    assert status == 0
    assert said.startswith("3 notebooks, 1 to execute\n")
    assert "PASSED book/direct.ipynb" in said and "1 passed" in said
    for text in ("", "# another branch\n", ""):
        path.write_text(text)
        assert missing(small) == set()


def test_file_that_changed_during_the_run_makes_no_result(small, tmp_path, monkeypatch):
    monkeypatch.setattr(small.results, "RESULTS", tmp_path)
    path = small.root / "book" / "direct.ipynb"
    notebook, record = nbformat.read(path, as_version=4), tmp_path / "record"
    true = f"{small.results.digest('README.md')} README.md\n"
    for lines, kept in (true, True), (true + f"{'0' * 64} README.md\n", False):
        for file in tmp_path.glob("*.ipynb"):
            file.unlink()
        record.write_text(lines)
        small.results.keep(path, notebook, {}, record)
        assert bool(small.results.find(path, notebook, {})) == kept


def test_results_that_were_not_used_for_long_are_deleted(small, tmp_path, monkeypatch):
    monkeypatch.setattr(small.results, "RESULTS", tmp_path)
    monkeypatch.setattr(small.results, "LIMIT", 25)
    for age in range(4):
        file = tmp_path / f"{age}.ipynb"
        file.write_bytes(b"0123456789")
        os.utime(file, (1000 - age, 1000 - age))
    small.results.prune()
    assert sorted(file.stem for file in tmp_path.iterdir()) == ["0", "1"]


def test_pages_show_the_results_and_are_read_again_with_them(small, tmp_path):
    site = tmp_path / "site"
    program = f"import sys; sys.path[:0] = [{str(small.root / '_ext')!r}]\n"
    program += "from sphinx.cmd.build import main; sys.exit(main(sys.argv[1:]))"
    (small.root / "conf.py").write_text(
        "extensions = ['myst_nb', 'execution']\n"
        "nb_execution_mode = 'off'\n"
        "exclude_patterns = ['_build']\n"
    )
    (small.root / "index.md").write_text("# Book\n\n```{toctree}\n:glob:\nbook/*\n```\n")

    def build():
        command = [sys.executable, "-c", program, small.root, site]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    build()
    assert 'alt="' in (page := (site / "book" / "page.html").read_text()) and ">[]\n" in page
    assert "<figure" in page and 'id="fig-line"' in page
    path = small.root / "small" / "direct.py"
    path.write_text("# another branch\n")
    assert "reading sources... [100%] book/direct" in (said := build())
    assert "reading sources... [ 50%]" not in said
