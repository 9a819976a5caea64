"""Contexts that are new at every step of a training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from iclkit.backend import Streams
from iclkit.data.contexts import Statistics, draw_statistics
from iclkit.data.tasks import draw_tasks

# Numbers that are drawn at once, so that drawing costs little more than the numbers.
_BLOCK = 2**18


def batches(
    d: int, ell: int, rho: float, batch: int, steps: int, streams: Streams
) -> Iterator[Statistics]:
    """Draw contexts for each step, with tasks of their own, and without the last entry of h."""
    at_once = max(1, _BLOCK // (batch * d))
    for done in range(0, steps, at_once):
        now = min(at_once, steps - done)
        w = draw_tasks(now * batch, d, streams.tasks)
        x, h, y = draw_statistics(w, ell, rho, streams)
        for rows in np.split(np.arange(now * batch), now):
            part = slice(rows[0], rows[-1] + 1)
            yield Statistics(x[part], h[part, :d], y[part])
