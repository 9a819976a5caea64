"""A million unknowns: one fit at d = 1000 to two million contexts that no memory holds.

Fits at d = 200, 400 and 1000 at one point, each in a process of its own on two cores, with their
time, memory and errors; before them, the spread of single runs at three sizes, by which the errors
at d = 1000 are judged. Three quarters of an hour on two cores that do nothing else, and 0.4 GB of
memory.

Interrupted, it goes on where it was, after the last finished pass over the contexts.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

POINT = {"tau": 2.0, "alpha": 1.0, "kappa": 1.0, "rho": 0.1}
RTOL, WORKERS, SEED = 1e-4, 2, 2026
SIZES = (200, 400, 1000)
ROOT = Path(__file__).parents[1]
FILE = ROOT / "book" / "data" / "million.nc"
CORE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ICLKIT_DEVICE": "cpu"}


def fit(d: int) -> dict[str, float]:
    """Make one run, and tell what it took; the pieces of a pass are timed after it."""
    import numpy as np

    from iclkit.data import redrawn
    from iclkit.runs import redrawn_attention

    folder = ROOT / "_build" / f"million-{d}"
    before = len(list(folder.glob("pass-*.npy")))
    start, cpu = time.monotonic(), time.process_time()
    found = redrawn_attention(SEED, d=d, **POINT, rtol=RTOL, workers=WORKERS, folder=folder)
    # Of the passes that this process has made: all of them, unless an earlier one was stopped.
    made = found["iterations"] + 2 - before
    found["seconds"] = (time.monotonic() - start) / made
    found["core_seconds"] = (time.process_time() - cpu) / made
    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    found["memory"] = int(status["VmHWM"].removesuffix(" kB")) * 1024 / 1e6  # MB; on Linux alone
    n = round(POINT["tau"] * d**2)
    contexts = redrawn(SEED, n=n, d=d, ell=d, rho=POINT["rho"], k=d)
    some, cpu = min(20, contexts.blocks - 1), time.process_time()
    for number in range(some):
        contexts.block(number)
    found["drawing"] = (time.process_time() - cpu) * n / (some * contexts.rows)
    a = np.random.default_rng(0).standard_normal((1500, 1500)).astype("float32")
    cpu = time.process_time()
    for _ in range(6):
        a @ a
    found["product"] = (time.process_time() - cpu) * 4 * n * d**2 / (6 * 2 * 1500**3)
    return found | {"n": n, "unknowns": d * (d + 1)}


def main() -> None:
    """Make what is missing."""
    import xarray as xr

    from iclkit.runs import _store, linear_attention, load, sweep

    sweep(
        linear_attention,
        POINT | {"d": [25, 50, 100]},
        FILE.with_name("million-spread.nc"),
        name="linear_attention",
        seed=91,
        runs=(200, 200),
        workers=WORKERS,
    )
    stored = load(FILE) if FILE.exists() else None
    for d in SIZES:
        if stored is not None and d in stored.d:
            continue
        with tempfile.TemporaryDirectory() as folder:
            told = Path(folder) / "row.json"
            # Not through its output, where a terminal shows how far it is.
            subprocess.run(
                [sys.executable, __file__, str(d), told], env=os.environ | CORE, check=True
            )
            row = json.loads(told.read_text())
        new = xr.Dataset({name: ("d", [value]) for name, value in row.items()}, {"d": [d]})
        about = POINT | {"rtol": RTOL, "workers": WORKERS, "seed": SEED} | _store.provenance()
        stored = new if stored is None else xr.concat([stored, new], "d")
        stored = stored.assign_attrs(about | {"device": _store.device()})
        FILE.write_bytes(_store.encode(stored))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[2]).write_text(json.dumps(fit(int(sys.argv[1]))))
    else:
        main()
