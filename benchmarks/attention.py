"""Time trained attention: folded against plain forms, networks one by one and together, and polish.

    make benchmarks        (a few minutes of it, on a machine that does nothing else)

Everything runs in one process, on one core, rivals in turn on the same data; CPU time, the least
of several rounds, without compilation. The result is `book/data/attention.nc`, which the hardware
page of the book shows.
"""

import os
import time

from tables import write

ALPHA, RHO = 1.0, 0.01
ROUNDS, SPELL = 7, 0.3  # measurements of each, and CPU seconds of one


def alone():
    """Keep to one core; before JAX starts."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def least(*functions):
    """Time functions in turn; the least CPU time of a call of each."""
    import jax

    def spent(function, times):
        start = time.process_time()
        for _ in range(times):
            jax.block_until_ready(function())
        return (time.process_time() - start) / times

    for function in functions:
        spent(function, 1)  # compiles
    times = [max(1, round(SPELL / max(spent(function, 2), 1e-6))) for function in functions]
    rounds = [[spent(f, t) for f, t in zip(functions, times, strict=True)] for _ in range(ROUNDS)]
    return [min(column) for column in zip(*rounds, strict=True)]


def forms(name, d, n):
    """Time one gradient step by each form."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from iclkit.trained.attention import MODELS
    from iclkit.trained.trials import pretraining

    model = MODELS[name]
    start = pretraining(1, name, n, d, round(ALPHA * d), RHO, tests=n)
    params, (inputs, targets) = start.params, jax.tree.map(jnp.asarray, start.test)

    def compiled(predict, inputs):
        def loss(params, inputs):
            return jnp.mean((predict(params, inputs) - targets) ** 2)

        both = jax.jit(jax.value_and_grad(loss))
        return lambda: both(params, inputs)

    folded, plain = compiled(model.predict, model.inputs(inputs)), compiled(model.plain, inputs)
    np.testing.assert_allclose(folded()[0], plain()[0], rtol=1e-10)
    return least(folded, plain)


def together(name, d, tau, m=4, steps=50):
    """Time steps of m networks, one by one and side by side."""
    import jax
    import numpy as np

    from iclkit.trained.attention import MODELS
    from iclkit.trained.prompts import Fixed
    from iclkit.trained.train import _rounds, adamw
    from iclkit.trained.trials import pretraining

    n, predict, optimiser = round(tau * d**2), MODELS[name].predict, adamw(steps, 1e-2)
    starts = [pretraining(seed, name, n, d, round(ALPHA * d), RHO, tests=1) for seed in range(m)]
    numbers, keys = jax.numpy.arange(steps), jax.random.split(jax.random.key(0), m)
    alone = [
        ((start.params, optimiser.init(start.params)), Fixed(start.sample), key)
        for start, key in zip(starts, keys, strict=True)
    ]
    everyone = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *alone)

    def run(state, draw, key):
        return _rounds(predict, optimiser, (1, n), state, draw, key, numbers)

    run_all = jax.jit(jax.vmap(run))
    losses = [np.ravel(run(*one)[1]) for one in alone]
    np.testing.assert_allclose(losses, run_all(*everyone)[1][..., 0], rtol=1e-6)
    one_by_one, side_by_side = least(
        lambda: [run(*one) for one in alone], lambda: run_all(*everyone)
    )
    return n, one_by_one / steps, side_by_side / steps


class Enough(Exception):
    """The goal is reached."""


def polishes(d, tau, goal=1e-10, most=200):
    """Time the polish against scipy's trust-region method, from the same trained network."""
    import jax
    import numpy as np
    import scipy.optimize
    from jax.flatten_util import ravel_pytree

    from iclkit.trained.attention import MODELS, jacobian
    from iclkit.trained.interpolation import polish
    from iclkit.trained.prompts import Fixed
    from iclkit.trained.train import adamw, fit
    from iclkit.trained.trials import pretraining

    n, predict = round(tau * d**2), MODELS["linear"].predict
    params, sample, _ = pretraining(1, "linear", n, d, round(ALPHA * d), RHO, tests=1)
    how = {"key": jax.random.key(0), "shape": (1, n)}
    params, _ = fit(predict, params, Fixed(sample), adamw(3000, 1e-2), 3000, **how)
    flat, restore = ravel_pytree(params)

    @jax.jit
    def residual(flat):
        return predict(restore(flat), sample.inputs) - sample.targets

    slopes = jax.jit(lambda flat: jacobian(predict, restore(flat), sample.inputs))

    def ours():
        end = polish(predict, params, sample, goal=goal, iterations=most)
        ended["polish"] = end.loss, end.iterations
        return ended["polish"]

    def fun(flat):
        r = np.asarray(residual(flat))
        loss, count = np.mean(r**2), ended["trf"][1] + 1
        ended["trf"] = min(loss, ended["trf"][0]), count
        if loss <= goal:
            raise Enough
        return r

    def trf():
        ended["trf"] = np.inf, 0
        try:
            scipy.optimize.least_squares(
                fun, np.asarray(flat), lambda flat: np.asarray(slopes(flat)), method="trf",
                ftol=1e-12, xtol=1e-12, gtol=1e-12, max_nfev=most,
            )  # fmt: skip
        except Enough:
            pass
        return ended["trf"][0]

    ended = {}
    times = least(ours, trf)
    return n, float(np.mean(residual(flat) ** 2)), times, ended


def main():
    """Make the tables, and write them to one file."""
    alone()
    import jax
    from tqdm import tqdm

    jax.config.update("jax_enable_x64", True)

    tables = {"forms": [], "together": [], "polish": []}
    cases = [
        (name, d, n)
        for name in ("linear", "softmax")
        for d in (8, 12, 20)
        for n in (round(0.4 * d**2), 4 * d**2)
    ]
    for name, d, n in tqdm(cases, "forms"):
        folded, plain = forms(name, d, n)
        tables["forms"].append(
            {"model": name, "d": d, "n": n, "plain": 1e3 * plain, "folded": 1e3 * folded}
        )
    groups = ("linear", 10, 1.4), ("softmax", 8, 1.9), ("two-blocks", 6, 3.5)
    for name, d, tau in tqdm(groups, "together"):
        n, looped, vmapped = together(name, d, tau)
        tables["together"].append(
            {"model": name, "d": d, "n": n, "looped": 1e3 * looped, "vmapped": 1e3 * vmapped}
        )
    for tau in tqdm((1.3, 1.37, 1.7), "polish"):
        n, before, times, ended = polishes(10, tau)
        for seconds, (method, (loss, systems)) in zip(times, ended.items(), strict=True):
            tables["polish"].append(
                {
                    "n": n, "before": before, "method": method, "cpu": seconds,
                    "loss": float(loss), "systems": int(systems),
                }
            )  # fmt: skip
    write("attention", tables)


if __name__ == "__main__":
    main()
