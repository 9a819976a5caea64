"""What of a transformer's lead over two simpler blocks is architecture, and what is recipe.

The two blocks by the recipe of the transformer, and the transformer with two blocks, or by the
recipe of theirs; then rates between those of the first search. An hour on one core.
"""

from collections.abc import Callable
from typing import Any

import xarray as xr

from iclkit.runs import sweep
from iclkit.trained.transformer import trained_blocks, trained_transformer

SETTING = {"d": 5, "alpha": 2.0, "rho": 0.01}


def train(trial: Callable[..., Any], file: str, names: str, rows: list[tuple[Any, ...]],
          seed: int, runs: int, **fixed: Any) -> None:  # fmt: skip
    """Train `runs` networks for each row of parameters."""
    columns = {
        name: xr.DataArray(list(column), dims="point")
        for name, column in zip(names.split(), zip(*rows, strict=True), strict=True)
    }
    sweep(
        trial, SETTING | fixed | columns, f"book/data/transformer-{file}.nc",
        name=trial.__name__, seed=seed, runs=(runs, runs), workers=1,
    )  # fmt: skip


short, long = 3000, 30_000
shape = "width depth heads scaling rate"

# Which rate suits two blocks of a transformer, with one head and with four.
train(
    trained_transformer, "shallow-rates", shape,
    [(32, 2, heads, "mup", rate) for heads in (1, 4) for rate in (1e-3, 3e-3, 1e-2)],
    seed=921, runs=2, steps=short,
)  # fmt: skip
# The two blocks of the chapter on task diversity, three and four; last, by that chapter's recipe.
train(
    trained_blocks, "blocks", "model width rate size steps",
    [("two-blocks", 32, rate, 32, long) for rate in (1e-3, 3e-3, 1e-2, 3e-2)]
    + [(f"{number}-blocks", 32, rate, 32, long) for number in ("three", "four")
       for rate in (3e-3, 1e-2)]
    + [("two-blocks", 20, 3e-3, size, steps) for size, steps in ((32, long), (128, 6000))],
    seed=922, runs=2,
)  # fmt: skip
train(
    trained_transformer, "ablation", "depth heads size steps",
    [(2, 4, 32, long), (4, 4, 128, 6000)],
    seed=923, runs=2, width=32, scaling="mup", rate=3e-3,
)  # fmt: skip
# Between the rates of the first search.
train(
    trained_transformer, "finer-rates", shape,
    [(width, 4, 4, "mup", rate) for width in (32, 64) for rate in (1.7e-3, 5.5e-3)],
    seed=924, runs=2, steps=short,
)  # fmt: skip
