"""The house is in order: lock, environments, notebooks, table of contents, docstrings, names."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import lazy_loader
import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import iclkit

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.txt").read_text()
NOTEBOOKS = sorted(p for p in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
MODULES = [
    importlib.import_module(m.name) for m in pkgutil.walk_packages(iclkit.__path__, "iclkit.")
]

notebooks = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=lambda path: path.relative_to(BOOK).as_posix()
)


# Dependencies ---------------------------------------------------------------------------------


def test_lock_has_an_allowed_version_of_every_dependency():
    locked = {}
    for name, version in re.findall(r"^([\w.-]+)==([^ ;]+)", LOCK, re.MULTILINE):
        locked.setdefault(canonicalize_name(name), []).append(version)
    wanted = PROJECT["project"]["dependencies"] + sum(PROJECT["dependency-groups"].values(), [])
    for requirement in map(Requirement, wanted):
        versions = locked.get(canonicalize_name(requirement.name))
        assert versions, f"{requirement.name} is not in requirements.txt: run make lock"
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_lock_has_hashes_and_no_addresses():
    assert "://" not in LOCK
    assert not re.search(r"^-", LOCK, re.MULTILINE), "an option, such as an index, is in the lock"
    entries = re.split(r"\n(?=\S)", LOCK.strip())
    assert [e.splitlines()[0] for e in entries if "--hash=sha256:" not in e] == []


def test_conda_environments_agree_with_the_project():
    cpu, gpu = (
        yaml.safe_load((ROOT / name).read_text())
        for name in ("environment.yml", "environment-gpu.yml")
    )
    python, *others = cpu["dependencies"]
    assert others == ["pip", {"pip": ["-r requirements.txt"]}]
    # Binder looks for just this, and takes a Python of its own choice when it finds another form.
    version = re.fullmatch(r"python=(3\.\d+)", python)[1]
    assert version in SpecifierSet(PROJECT["project"]["requires-python"])
    (cupy,) = map(Requirement, PROJECT["project"]["optional-dependencies"]["gpu"])
    added = [entry for entry in gpu["dependencies"] if entry not in cpu["dependencies"]]
    assert added == [f"cupy {cupy.specifier}"]
    assert [entry for entry in cpu["dependencies"] if entry not in gpu["dependencies"]] == []


def test_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["project"]["version"] == iclkit.__version__
    assert f"## {iclkit.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


# The book -------------------------------------------------------------------------------------


def test_table_of_contents_lists_every_page_once():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [toc["root"]] + [c["file"] for part in toc["parts"] for c in part["chapters"]]
    pages = [*NOTEBOOKS, *BOOK.rglob("*.md")]
    assert sorted(listed) == sorted(p.relative_to(ROOT).with_suffix("").as_posix() for p in pages)


def code_cells(path):
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


@notebooks
def test_notebook_stores_no_results(path):
    assert not any(cell.outputs or cell.execution_count for cell in code_cells(path))


@notebooks
def test_notebook_is_stored_line_by_line(path):
    """So that a change of a sentence is a change of a line."""
    assert path.read_text() == nbformat.writes(nbformat.read(path, as_version=4)) + "\n"


@notebooks
def test_notebook_cells_are_short(path):
    assert [c.source for c in code_cells(path) if len(c.source.splitlines()) > 25] == []


@notebooks
def test_notebook_folds_the_code_of_solutions(path):
    exercises = False
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            exercises = exercises or "## Exercises" in cell.source
        elif exercises:
            assert {"hide-cell", "remove-cell"} & set(cell.metadata.get("tags", [])), cell.source


@notebooks
def test_notebook_asserts_something(path):
    assert any(re.search(r"^\s*assert\b", c.source, re.MULTILINE) for c in code_cells(path))


@notebooks
def test_notebook_gives_no_other_meaning_to_what_it_imports(path):
    nodes = [node for c in code_cells(path) for node in ast.walk(ast.parse(c.source))]
    imports = [n for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))]
    imported = {(a.asname or a.name).split(".")[0] for node in imports for a in node.names}
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    assert stored.isdisjoint(imported)


@notebooks
def test_notebook_needs_nothing_that_lies_around_it(path):
    """Its data and its values for other pages are a matter of `iclkit.book`."""
    code = "\n".join(c.source for c in code_cells(path))
    assert re.findall(r"myst_nb|\.\./|open\(f?[\"']|Path\(f?[\"']", code) == []


@notebooks
def test_notebook_imports_what_comes_with_the_extra_for_the_book(path):
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = map(Requirement, PROJECT["project"]["dependencies"] + extras["book"] + extras["train"])
    there = {requirement.name for requirement in wanted} | sys.stdlib_module_names
    nodes = [node for c in code_cells(path) for node in ast.walk(ast.parse(c.source))]
    names = {n.module for n in nodes if isinstance(n, ast.ImportFrom)}
    names |= {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    of = {"sklearn": "scikit-learn"}  # what is imported under another name
    assert {of.get(m, m) for m in (name.partition(".")[0] for name in names)} - there == set()


FOLDED = {"hide-input", "hide-cell"}


@notebooks
def test_notebook_folds_what_draws_under_a_line_that_says_what_it_shows(path):
    for cell in code_cells(path):
        folded = FOLDED.intersection(cell.metadata.get("tags", ()))
        about = cell.metadata.get("mystnb", {})
        assert folded or "figure" not in about
        if folded:
            line = about.get("code_prompt_show", "")
            assert 0 < len(line) <= 70 and line[-1] != "." and about["code_prompt_hide"] == line


@notebooks
def test_chapter_opens_with_its_figure_and_ends_in_three_lines(path):
    if path.parent == BOOK:
        return
    cells = nbformat.read(path, as_version=4).cells
    figure = next(i for i, c in enumerate(cells) if "figure" in c.metadata.get("mystnb", {}))
    assert not any(re.search("^## ", c.source, re.MULTILINE) for c in cells[:figure])
    (end,) = (text for cell in cells for text in cell.source.split("## In short")[1:])
    lines = re.findall(r"^- \*\*(.*?):\*\* .", end, re.MULTILINE)
    assert lines == ["Found", "How sure", "Next"]


@notebooks
def test_notebook_describes_its_figures(path):
    for cell in code_cells(path):
        about = cell.metadata.get("mystnb", {})
        if "plots.SIZE" in cell.source or "plots.WIDE" in cell.source or "figure" in about:
            assert about.get("image", {}).get("alt", "").strip(), f"no alt text:\n{cell.source}"
            assert about.get("figure", {}).get("caption", "").strip(), f"no caption:\n{cell.source}"
            assert about["figure"].get("name", "").startswith("fig-"), f"no name:\n{cell.source}"


def pages():
    """The text of every page by its path in the book: of a notebook, that of its Markdown cells."""
    texts = {path.relative_to(BOOK).as_posix(): path.read_text() for path in BOOK.rglob("*.md")}
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
        texts[path.relative_to(BOOK).as_posix()] = text
    return texts


def test_references_are_those_that_the_book_cites():
    listed = re.findall(r"^@\w+\{([^,]+),", (BOOK / "references.bib").read_text(), re.MULTILINE)
    roles = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", "\n".join(pages().values()))
    cited = {key.strip() for keys in roles for key in keys.split(",")}
    assert len(listed) == len(set(listed))
    assert sorted(set(listed) - cited) == [], "never cited"
    assert sorted(cited - set(listed)) == [], "not in references.bib"


GLUED = re.compile(r"\{glue:\w+\}`(?:[^`:]*::)?([^`:]+)(?::([^`]*))?`([^\n]?[^\n]?)")


def test_shares_are_glued_as_fractions_and_shown_as_per_cents():
    """The format makes a per cent of a fraction, so that nobody has to know what a name holds."""
    wrong = []
    for page, text in pages().items():
        for name, form, after in GLUED.findall(text):
            if after.strip()[:1] == "%" or ("%" in form and not re.fullmatch(r"\.\d%", form)):
                wrong.append((page, name))
    for path in NOTEBOOKS:
        source = "\n".join(c.source for c in code_cells(path))
        wrong += [(path.stem, call) for call in re.findall(r"glue\(.*\b100 \*.*", source)]
    assert wrong == []


def test_names_of_the_package_in_the_text_exist():
    texts = pages() | {"README.md": (ROOT / "README.md").read_text()}
    for page, text in texts.items():
        for name in re.findall(r"`(iclkit(?:\.\w+)+)", text):
            try:
                pkgutil.resolve_name(name)
            except (AttributeError, ImportError):
                pytest.fail(f"{page} names {name}, which does not exist")


# The package and its front door ---------------------------------------------------------------


def public(module):
    """What a module has for its users: what is made there, or named in its `__all__`."""
    named = vars(module).get("__all__", ())
    for name, item in inspect.getmembers(module):
        home = getattr(item, "__module__", None) == module.__name__ and name[0] != "_"
        if (home or name in named) and (inspect.isfunction(item) or inspect.isclass(item)):
            yield f"{module.__name__}.{name}", item


# Each by its shortest name: rooms come before their modules.
NAMES = {}
for module in MODULES:
    for name, item in public(module) if "._" not in module.__name__ else ():
        NAMES.setdefault(item, name)
PUBLIC = {name: item for item, name in NAMES.items()}
FUNCTIONS = {name: item for name, item in PUBLIC.items() if inspect.isfunction(item)}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_public_function_is_documented(function):
    doc = inspect.getdoc(function) or ""
    parameters = inspect.signature(function).parameters
    assert "Returns\n-------" in doc or "Yields\n------" in doc
    assert not parameters or "Parameters\n----------" in doc
    assert [name for name in parameters if not re.search(rf"\b{name}\b", doc)] == []


# What is named of other libraries: the lines of an inventory for Sphinx after its head.
ELSEWHERE = [
    line.split()[0] for line in (ROOT / "_ext" / "elsewhere.inv").read_text().splitlines()[3:]
]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_named_of_another_library_exists(name):
    if not name.startswith("cupy."):
        pkgutil.resolve_name(name)


# The paths are given by hand where the interpreter sees nothing that is installed.
PATHS = [str(ROOT), str(Path(lazy_loader.__file__).parents[1])]
WITHOUT_SITE = f"import sys; sys.path += {PATHS}\n"
WITHOUT_JAX = "import sys; sys.modules.update(jax=None, jaxlib=None, optax=None)\n"


def run(code, *options):
    """Run code in a Python of its own, and return what it prints."""
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def below(package):
    """The public modules and rooms right below one."""
    return {m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_"}


ROOMS = [importlib.import_module(f"iclkit.{m.name}") for m in pkgutil.iter_modules(iclkit.__path__)
         if m.ispkg]  # fmt: skip


def test_front_door_has_every_room_and_names_what_it_has():
    modules = below(iclkit)
    assert {name for name in dir(iclkit) if inspect.ismodule(getattr(iclkit, name))} == modules
    assert modules - set(iclkit.__all__) == {"trained"}
    assert [name for name in iclkit.__all__ if f"`{name}`" not in iclkit.__doc__] == []
    assert not hasattr(iclkit, "eror")


def test_help_leads_to_the_paper():
    assert "arXiv:2405.11751" in iclkit.__doc__


def test_help_of_the_front_door_names_what_is_elsewhere_by_its_path():
    elsewhere = {name.rpartition(".")[2] for name in PUBLIC} - set(iclkit.__all__)
    for name in iclkit.__all__:
        if inspect.isfunction(function := getattr(iclkit, name)):
            bare = set(re.findall(r"`(\w+)`", function.__doc__))
            assert bare & elsewhere == set(), name


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__)
def test_room_has_every_public_name_once(room):
    """Those of some modules are names of the room, the other modules are addressed by theirs."""
    modules = {name: importlib.import_module(f"{room.__name__}.{name}") for name in below(room)}
    assert [name for name in modules if f"`{name}`" not in room.__doc__] == []
    exported = set(room.__all__) - modules.keys()
    for name, module in modules.items():
        made = {path.rpartition(".")[2]: item for path, item in public(module)}
        if name in room.__all__:  # it may have names of the room for other things, as `flow` has
            assert [n for n in made if getattr(room, n, None) is made[n]] == [], name
        else:
            assert made.keys() <= exported, name
            exported -= made.keys()
    assert all(getattr(room, name).__module__.startswith(f"{room.__name__}._") for name in exported)


# Which room may import from which: a room stands above all that it imports from.
FLOORS = [
    {"_types", "_validate"}, {"_labels", "_progress", "backend", "book", "plots"}, {"data"},
    {"fits", "theory"}, {"runs", "trained"},
]  # fmt: skip
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imports(path):
    """The modules of the package that a file imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "iclkit":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "iclkit")


def test_imports_go_down_the_house():
    modules, rooms = {m.__name__ for m in MODULES}, {room.__name__ for room in ROOMS}
    up, through_faces = [], []
    for path in sorted((ROOT / "iclkit").rglob("*.py")):
        here = path.relative_to(ROOT / "iclkit").with_suffix("").parts[0]
        for name in imports(path):
            there = name.split(".")[1]
            if there not in FLOOR:
                assert name == "iclkit.__version__"
            elif there != here and FLOOR[there] >= FLOOR[here]:
                up.append((path.name, name))
            # What a room shows to others is not for its neighbours, who know the module.
            if name not in modules and name.rpartition(".")[0] in rooms:
                through_faces.append((path.name, name))
    assert up == [] and through_faces == []


@pytest.mark.parametrize(
    "code",
    [
        "import iclkit; help(iclkit)",
        "from iclkit import *; theory.icl_error, simulate",
        "import inspect, iclkit; inspect.getmembers(iclkit)",
        "import os; os.environ['EAGER_IMPORT'] = '1'; import iclkit; iclkit.theory.icl_error",
    ],
)
def test_package_can_be_looked_at_without_jax(code):
    run(WITHOUT_JAX + code)


def test_trained_room_says_how_to_get_jax():
    code = (
        "for code in 'import iclkit.trained.train', 'from iclkit import trained':\n"
        "    try: exec(code)\n"
        "    except ImportError as error: print(error, error.name)"
    )
    assert run(WITHOUT_JAX + code).count('pip install "iclkit[train]" jax\n') == 2


def test_checkout_that_is_not_installed_can_be_imported():
    code = "import iclkit; print(iclkit.__version__, *iclkit.__all__)"
    printed = run(WITHOUT_SITE + code, "-S", "-I")
    assert printed.split() == [iclkit.__version__, *iclkit.__all__]


def test_readme_has_links_that_work():
    for link in re.findall(r"\]\(([^)]*)\)", (ROOT / "README.md").read_text()):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_public_docstrings_name_labels_of_the_book_as_their_source():
    written = set(re.findall(r"^ *:label: (\S+)", "\n".join(pages().values()), re.MULTILINE))
    for name, item in PUBLIC.items():
        for source in re.findall(r"Source: (.*?)(?:\n\n|$)", inspect.getdoc(item) or "", re.DOTALL):
            assert set(re.findall(r"\b(?:eq|lem|prop|thm)-\w+(?:-\w+)*", source)) <= written, name


@pytest.mark.parametrize("name", PUBLIC)
def test_public_docstring_has_an_example_that_runs(name):
    text = inspect.getdoc(PUBLIC[name])
    assert "\nExamples\n--------\n>>> " in text
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    said = []
    doctest.DocTestRunner().run(example, out=said.append)
    assert not said, "".join(said)


def test_readme_names_the_two_commands_and_its_example_runs():
    readme, makefile = ((ROOT / name).read_text() for name in ("README.md", "Makefile"))
    for target in ("book", "test"):
        assert f"make {target}" in readme
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for example in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        exec(example, {})


def test_actions_are_pinned_by_what_they_contain():
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        for action in re.findall(r"uses: (.*)", workflow.read_text()):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v[\d.]+", action), action
