"""Backend: which library is chosen, what is said when it is not the wished one, and the streams."""

import sys
import types

import numpy as np
import pytest

from iclkit import backend, simulate


class FakeArray:
    """A stand-in for a device array: knows products and sums, or fails as a driver does."""

    def __init__(self, total, error=None):
        self.total, self.error = total, error

    def __matmul__(self, other):
        if self.error:
            raise self.error
        return self

    def sum(self):
        return self.total


@pytest.fixture
def install(monkeypatch):
    """Install a fake cupy (or none), as the process would find it at its start."""

    def install(ones):
        fake = None if ones is None else types.SimpleNamespace(ones=lambda shape: ones)
        monkeypatch.setitem(sys.modules, "cupy", fake)
        monkeypatch.delenv("ICLKIT_DEVICE", raising=False)
        backend._gpu_problem.cache_clear()
        return fake

    yield install
    backend._gpu_problem.cache_clear()


def test_without_cupy_numpy_is_taken_silently(install):
    install(None)
    assert backend.namespace() is np


def test_a_working_gpu_is_taken(install):
    fake = install(FakeArray(8.0))
    assert backend.namespace() is fake
    assert backend.namespace("gpu") is fake
    assert backend.namespace("cpu") is np


@pytest.mark.parametrize(
    "ones", [FakeArray(8.0, RuntimeError("no CUDA-capable device\nmore")), FakeArray(7.0)]
)
def test_an_unusable_gpu_falls_back_with_one_line(install, ones):
    install(ones)
    with pytest.warns(RuntimeWarning, match="GPU .*; computing with numpy$") as record:
        assert backend.namespace() is np
    assert len(record) == 1 and "\n" not in str(record[0].message)


def test_asking_for_a_gpu_that_is_not_there_is_an_error(install, monkeypatch):
    install(FakeArray(8.0, RuntimeError("no CUDA-capable device")))
    with pytest.raises(RuntimeError, match="device asks for a GPU, but .*no CUDA-capable device"):
        backend.namespace("gpu")
    monkeypatch.setenv("ICLKIT_DEVICE", "gpu")
    with pytest.raises(RuntimeError, match="ICLKIT_DEVICE asks for a GPU"):
        backend.namespace()
    install(None)
    monkeypatch.setenv("ICLKIT_DEVICE", "gpu")
    with pytest.raises(RuntimeError, match="cupy is not installed"):
        simulate(d=4, tau=1, alpha=1, kappa=1, rho=0)


def test_the_environment_decides(install, monkeypatch):
    install(FakeArray(8.0))
    monkeypatch.setenv("ICLKIT_DEVICE", "cpu")
    assert backend.namespace() is np
    monkeypatch.setenv("ICLKIT_DEVICE", "tpu")
    with pytest.raises(ValueError, match="ICLKIT_DEVICE must be one of cpu, gpu, got 'tpu'"):
        backend.namespace()


def test_the_installed_cupy_agrees():
    """Where cupy is really there, GPU or not, the choice is consistent with what it can do."""
    pytest.importorskip("cupy")
    backend._gpu_problem.cache_clear()
    if backend._gpu_problem() is None:
        xp = backend.namespace("gpu")
        assert float(backend.to_numpy(xp.ones(3)).sum()) == 3
    else:
        with pytest.raises(RuntimeError, match="asks for a GPU"):
            backend.namespace("gpu")


def test_streams_are_reproducible_and_independent():
    first, again = backend.streams(3), backend.streams(3)
    draws = [stream.standard_normal(1000) for stream in first]
    for one, same in zip(draws, again, strict=True):
        np.testing.assert_array_equal(one, same.standard_normal(1000))
    correlation = np.corrcoef(draws)[np.triu_indices(3, 1)]
    assert np.all(np.abs(correlation) < 4 / np.sqrt(1000))
    root = np.random.SeedSequence(5)
    np.testing.assert_array_equal(
        backend.streams(root).noise.random(4), backend.streams(root).noise.random(4)
    )
    assert not np.array_equal(
        backend.streams(4).tasks.random(4), backend.streams(3).tasks.random(4)
    )


@pytest.mark.parametrize("seed", [-1, "a", 1.5])
def test_bad_seeds_are_refused(seed):
    with pytest.raises((TypeError, ValueError), match="seed must be an integer"):
        backend.streams(seed)


# Blocks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 3), (1000, 41), (3, 10**5), (33_333, 101)])
def test_blocks_cover_every_row_once(xp, n, m):
    array = xp.asarray(np.empty((n, m), dtype=np.float32))
    for rows in (None, 1, 5, n, n + 3):
        if rows == 1 and n > 1000:
            continue
        blocks = backend.row_blocks(array, rows)
        assert [block.start for block in blocks] == [0] + [block.stop for block in blocks[:-1]]
        assert blocks[-1].stop == n and all(block.start < block.stop for block in blocks)
        largest = max(block.stop - block.start for block in blocks)
        if rows is None:
            assert largest == 1 or 4 * m * largest <= 2**18
        else:
            assert largest == min(rows, n)
    # Numbers of double size make blocks of half as many rows.
    wide, narrow = (backend.row_blocks(np.empty((10**5, 8), dtype)) for dtype in ("d", "f"))
    assert wide[0].stop * 2 == narrow[0].stop


def test_blocks_keep_a_device_busy(monkeypatch):
    monkeypatch.setattr(backend, "is_cupy_array", lambda array: True)
    assert backend.row_blocks(np.empty((10**5, 8)))[0].stop == 10**5


def test_children_of_different_parents_differ():
    """A run is a child of its point: were the parent forgotten, points would share runs."""
    parents = [backend.child_seed(5, key) for key in (0, 1)]
    assert len({tuple(backend.child_seed(p, 3).generate_state(2)) for p in parents}) == 2
