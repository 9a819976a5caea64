"""Fixtures for every test."""

import array_api_strict
import numpy as np
import pytest


@pytest.fixture(params=[np, array_api_strict], ids=["numpy", "array-api-strict"])
def xp(request):
    """Array libraries; the strict one fails on anything that is not in the array API standard."""
    return request.param


@pytest.fixture(autouse=True)
def _cpu(monkeypatch):
    """The same numbers on every machine: tests of the choice of device set it themselves."""
    monkeypatch.setenv("ICLKIT_DEVICE", "cpu")
