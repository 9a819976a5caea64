"""Judge every notebook that nbmake has executed, and keep its result if it is one: for pytest."""

import os

import nbformat
import pytest
import results
from execution import environment, settings
from nbmake.nb_result import NotebookError, NotebookResult
from nbmake.pytest_items import NotebookFailedException


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Have recorded what a notebook uses; let it fail, or keep its result as soon as it is there.

    What is executed is a copy, whose place in the root of this run is the notebook's in ROOT.
    """
    record = item.path.with_suffix(".record")
    os.environ.update(environment(), ICLKIT_RECORD=str(record))  # as the kernel inherits it
    yield
    ran = nbformat.read(item.path, as_version=4)
    if wrong := faults(ran):
        error = NotebookError(summary=wrong[0], trace="\n".join(wrong), failing_cell_index=-1)
        raise NotebookFailedException(NotebookResult(ran, error))
    path = results.ROOT / item.path.relative_to(item.config.rootpath)
    results.keep(path, ran, settings(), record)


def faults(notebook) -> list[str]:
    """Say what is wrong with the outputs of an executed notebook, and in which cells."""
    found = []
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code":
            continue
        where = f"cell {number}, `{cell.source.partition(chr(10))[0]}`:"
        kinds = {kind for output in cell.outputs for kind in output.get("data", ())}
        written = [output.text for output in cell.outputs if output.get("name") == "stderr"]
        if any(output.output_type == "error" for output in cell.outputs):
            found.append(f"{where} fails, which its tags or the notebook's metadata allow")
        if written:
            found.append(f"{where} writes to the standard error stream\n{''.join(written)}")
        if "figure" in cell.metadata.get("mystnb", {}):
            if not any(kind.startswith("image/") for kind in kinds):
                found.append(f"{where} has a caption and draws no figure")
    return found
