"""JupyterLab is started for real, and a downloaded chapter run in it, in a browser.

Like the built pages, this is skipped where there is no book or no browser, unless CI is "true".
"""

import os
import re
import secrets
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest
from browser import BROWSER, DRIVER, SITE, looked_at
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = looked_at
CHAPTER = SITE / "_sources" / "book" / "hardware.ipynb"  # one that takes seconds


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab that shows the chapter, with a home of its own."""
    (tmp_path / "chapter.ipynb").write_bytes(CHAPTER.read_bytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}"]
    command += ["--ip=127.0.0.1", "--allow-root", f"--IdentityProvider.token={token}"]
    command += ["--expose-app-in-browser", f"--ServerApp.root_dir={tmp_path}"]
    home = {"HOME": str(tmp_path / "home"), "OPENBLAS_NUM_THREADS": "1"}
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | home)
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urlopen(f"{address}/api").close()
            break
        except OSError:
            time.sleep(0.1)
    yield f"{address}/lab/tree/chapter.ipynb?token={token}"
    server.terminate()
    server.wait()


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-background-networking", "--window-size=1200,1000",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={tmp_path / 'chromium'}",
    ):  # fmt: skip
        options.add_argument(flag)
    with webdriver.Chrome(options, Service(DRIVER)) as driver:
        yield driver


# The notebook in front, once its kernel is idle.
FRONT = """
const shell = window.jupyterapp?.shell;
const widget = shell && [...shell.widgets("main")].find(each => each.context);
if (widget) shell.activateById(widget.id);
const idle = widget?.context?.isReady && widget.sessionContext.session?.kernel?.status === 'idle';
return idle ? widget.context.model.toJSON() : null;
"""
CLEAR = "window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')"
# Lab has no icon for the address, and its toolbar of cells can measure one not yet rendered.
LABS_OWN = re.compile(r"favicon|jlab_core.*undefined \(reading 'node'\)")
RUN = "window.jupyterapp.commands.execute('notebook:run-all-cells')"


def test_downloaded_chapter_runs_in_lab_from_top_to_bottom(lab, browser):
    browser.get(lab)
    patient = WebDriverWait(browser, 300, poll_frequency=1)
    patient.until(lambda driver: driver.execute_script(FRONT))
    browser.execute_script(CLEAR)

    def code(driver):
        notebook = driver.execute_script(FRONT)
        return [cell for cell in (notebook or {}).get("cells", ()) if cell["cell_type"] == "code"]

    def cleared(driver):
        return not any(cell["execution_count"] or cell["outputs"] for cell in code(driver))

    def finished(driver):
        cells = code(driver)
        return all(cell["execution_count"] for cell in cells) and cells

    patient.until(cleared)
    browser.execute_script(RUN)  # which is not waited for
    kinds = {
        output["output_type"] for cell in patient.until(finished) for output in cell["outputs"]
    }
    assert "display_data" in kinds and "error" not in kinds
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [entry["message"] for entry in severe if not LABS_OWN.search(entry["message"])] == []
