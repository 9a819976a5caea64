"""Deep stacks of residual blocks: random ones, and ones that Adam trains without warm-up.

What was expected before the runs, from the theory of infinite width: the first change of the
output by noise is the sum of the shares, which is L/2, about log L, or below 1, for each matrix of
a branch; gradients of blocks are as the roots of the shares. If large changes and not unbalanced
gradients are what makes training fail, the plans that share a sum of L/2 should fail at rates at
which the others train, balanced or not. Pre-LN with branches as strong as those of Post-LN is the
same function at the start and should fail as it does; a first run, of a seed of its own, said that
it need not.
"""

from iclkit.runs import sweep
from iclkit.trained.trials import trained_stacks, untrained_stacks

sweep(
    untrained_stacks,
    {"branch": ["relu", "attention"], "width": 32, "depth": [2, 8, 32, 128]},
    "book/data/deep-stacks-random.nc",
    name="untrained_stacks",
    seed=1,
    runs=(20, 20),
    workers=1,
)
for branch, rates, runs, sizes in (
    ("relu", [0.003, 0.01, 0.03], 6, {"width": 32, "size": 32}),
    ("attention", [0.003, 0.01], 5, {"width": 16, "size": 16}),
):
    sweep(
        trained_stacks,
        {"branch": branch, "rate": rates, "depth": 24, "steps": 300} | sizes,
        f"book/data/deep-stacks-{branch}.nc",
        name="trained_stacks",
        seed=1,
        runs=(runs, runs),
        workers=1,  # what is compiled serves all runs
    )
