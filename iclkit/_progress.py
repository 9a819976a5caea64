"""A bar for what takes long."""

from __future__ import annotations

import sys

from tqdm import tqdm

# What takes less than so many seconds needs no progress bar.
_PATIENCE = 5


def progress(title: str, total: int) -> tqdm:
    """Show progress on stdout, and only where somebody watches: a terminal or a notebook."""
    watched = sys.stdout.isatty() or "ipykernel" in sys.modules
    quiet = {} if watched else {"disable": True}
    return tqdm(desc=title, total=total, file=sys.stdout, delay=_PATIENCE, leave=False, **quiet)
