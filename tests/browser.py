"""The browser in which the tests open the built book, and how they open a page in it."""

import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait
from urllib3.exceptions import HTTPError

SITE = Path(__file__).parents[1] / "_build" / "html"
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if path.relative_to(SITE).parts[0] != "_static"  # where the theme leaves its templates
)
BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
DRIVER = shutil.which("chromedriver")

PHONE = 360  # CSS pixels
ON_DESK = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
ON_PHONE = {"width": PHONE, "height": 780, "deviceScaleFactor": 1, "mobile": True}

MISSING = [
    what
    for what, there in (("built book", PAGES), ("Chromium", BROWSER), ("chromedriver", DRIVER))
    if not there
]
REASON = f"no {' and no '.join(MISSING)} here, so the pages are not looked at"
# A browser can hang, whatever it was shown: then there is a new one, and the test is run again.
HUNG = ["ReadTimeoutError", "TimeoutException", "InvalidSessionIdException"]
looked_at = [
    pytest.mark.skipif(bool(MISSING), reason=REASON),
    pytest.mark.flaky(reruns=2, only_rerun=HUNG),
]


def chromium(folder):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    # A driver that waits for pages by itself can miss the end of one, and wait for ever.
    options.page_load_strategy = "none"
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder}",
    ):
        options.add_argument(flag)
    return webdriver.Chrome(options, Service(DRIVER))


@pytest.fixture(scope="session")
def running():
    """The browser that runs, if any: it is one for all tests, as long as it answers."""
    drivers = []
    yield drivers
    for driver in drivers:
        driver.quit()


@pytest.fixture
def browser(running, tmp_path_factory):
    """One of the width of a phone, with nothing in it from an earlier test."""
    if running:
        try:
            visit(running[0], "about:blank")
            for log in ("performance", "browser"):
                running[0].get_log(log)
        except (HTTPError, WebDriverException):
            running.pop().service.stop()
    if not running:
        running.append(chromium(tmp_path_factory.mktemp("chromium")))
    running[0].execute_cdp_cmd("Emulation.setDeviceMetricsOverride", ON_PHONE)
    prefer(running[0], "light")
    return running[0]


def visit(browser, address):
    """Open a page anew, and wait until it is there with all that belongs to it."""
    there = "return document.readyState === 'complete' && location.href.split('#')[0]"
    for goal in ("about:blank", address):
        browser.get(goal)
        WebDriverWait(browser, 60, 0.02).until(
            lambda b, goal=goal: b.execute_script(there) == goal.partition("#")[0]
        )


def prefer(browser, theme):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": theme}]},
    )
