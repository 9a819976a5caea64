"""Deep stacks of residual blocks: random ones, and ones that Adam trains without warm-up.

What was expected before the runs, from the theory of infinite width: the first change of the
output by noise is the sum of the shares, which is L/2, about log L, or below 1, for each matrix of
a branch; gradients of blocks are as the roots of the shares. If large changes and not unbalanced
gradients are what makes training fail, the plans that share a sum of L/2 should fail at rates at
which the others train, balanced or not. Pre-LN with branches as strong as those of Post-LN is the
same function at the start and should fail as it does; a first run, of a seed of its own, said that
it need not.
"""

from iclkit._types import Seed
from iclkit.runs import sweep
from iclkit.trained.stacks import PLANS
from iclkit.trained.trials import trained_stack, untrained_stack


def compared(seed: Seed, *, branch: str, rate: float, width: int, steps: int) -> dict[str, float]:
    """Train a stack of every plan from the same matrices on the same inputs."""
    plans = PLANS if branch == "relu" else ("post", "pre", "admin", "pre-heavy")
    found: dict[str, float] = {}
    for plan in plans:
        one = trained_stack(
            seed, plan=plan, branch=branch, depth=24, width=width, steps=steps, rate=rate
        )
        found |= {f"{name}_{plan}": value for name, value in one.items()}
    return found


sweep(
    untrained_stack,
    {
        "plan": ["post", "pre", "admin", "even"], "branch": ["relu", "attention"], "width": 32,
        "depth": [2, 4, 8, 16, 32, 64, 128],
    },
    "book/data/deep-stacks-random.nc",
    name="untrained_stack",
    seed=1,
    runs=(20, 20),
)  # fmt: skip
for branch, rates, runs, sizes in (
    ("relu", [0.003, 0.01, 0.03], 8, {"width": 32, "steps": 400}),
    ("attention", [0.003, 0.01], 5, {"width": 16, "steps": 300}),
):
    sweep(
        compared,
        {"branch": branch, "rate": rates} | sizes,
        f"book/data/deep-stacks-{branch}.nc",
        name="trained_stack of every plan",
        seed=1,
        runs=(runs, runs),
    )
