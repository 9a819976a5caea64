"""Fixtures for every test."""

import os
import signal

import array_api_strict
import hypothesis
import numpy as np
import pytest

pytest_plugins = ["browser"]

# A slow machine is no failure. New examples are searched for where somebody can follow them up,
# and not in CI, where a change is judged by the same examples each time.
hypothesis.settings.register_profile(
    "iclkit", deadline=None, derandomize=os.environ.get("CI") == "true"
)
hypothesis.settings.load_profile("iclkit")


@pytest.fixture(params=[np, array_api_strict], ids=["numpy", "array-api-strict"])
def xp(request):
    """Array libraries; the strict one fails on anything that is not in the array API standard."""
    return request.param


@pytest.fixture(autouse=True)
def _cpu(monkeypatch):
    """The same numbers on every machine: tests of the choice of device set it themselves."""
    monkeypatch.setenv("ICLKIT_DEVICE", "cpu")


@pytest.fixture
def _heard():
    """SIGINT reaches a test and what it starts, also in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
