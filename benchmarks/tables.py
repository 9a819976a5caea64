"""Tables of timings on disk, with the machine that they were made on."""

import os
from pathlib import Path


def machine():
    """Describe the machine, without naming it."""
    import threadpoolctl

    blas = threadpoolctl.threadpool_info()[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cores": os.cpu_count(),
        "memory": f"{memory:.0f} GB",
        "blas": f"{blas['internal_api']} {blas['version']} ({blas.get('architecture', 'unknown')})",
    }


def write(name, tables):
    """Write tables, lists of rows by name, to one file in `book/data`."""
    # Imported late, as NumPy reads the number of threads when it starts.
    import xarray as xr

    from iclkit.runs import _store

    data = xr.Dataset(
        {
            f"{table}_{column}": (table, [row[column] for row in rows])
            for table, rows in tables.items()
            for column in rows[0]
        },
        attrs=_store.provenance() | {"device": _store.device()} | machine(),
    )
    file = Path(__file__).parents[1] / "book" / "data" / f"{name}.nc"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(_store.encode(data))
