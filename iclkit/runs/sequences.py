"""One run on contexts whose tokens are correlated over positions."""

from __future__ import annotations

import numpy as np

from iclkit import _validate, backend
from iclkit._types import Seed, checked
from iclkit.data import kernels
from iclkit.data.contexts import draw_statistics
from iclkit.data.kernels import correlated_error
from iclkit.data.tasks import assign_tasks, draw_tasks
from iclkit.fits.fit import fit_gamma
from iclkit.runs.one import _Sizes, _sizes

QUERIES = ("independent", "correlated")


def _correlated_sizes(
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    kernel: str,
    query: str,
    test_kernel: str | None = None,
    test_query: str | None = None,
) -> _Sizes:
    sizes = _sizes(d=d, tau=tau, alpha=alpha, kappa=kappa, rho=rho, lam=lam)
    for name, word in {"kernel": kernel, "test_kernel": test_kernel}.items():
        if word is not None or name == "kernel":
            _kernel(name, word, 1, "independent")
    for name, choice in {"query": query, "test_query": test_query}.items():
        if choice is not None or name == "query":
            _validate.choice(name, choice, QUERIES)
    return sizes


def _kernel(name: str, word: object, ell: int, query: str) -> np.ndarray:
    try:
        return kernels.kernel(word, ell, query=query == "correlated")  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(str(error).replace("word", name, 1)) from None


@checked(_correlated_sizes)
def correlated_tokens(
    seed: Seed,
    *,
    d: int,
    tau: float,
    alpha: float,
    kappa: float,
    rho: float,
    lam: float = 0.0,
    kernel: str,
    query: str,
    test_kernel: str | None = None,
    test_query: str | None = None,
) -> dict[str, float]:
    """Fit Γ* to fresh contexts of correlated tokens once, and measure its exact errors.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    d : int
        Dimension, at least 1.
    tau : float
        Pretraining contexts τ = n/d², positive and finite; n is rounded.
    alpha : float
        Context length α = ℓ/d, positive and finite; ℓ is rounded.
    kappa : float
        Task diversity κ = k/d, in (0, inf]; k is rounded, and at inf every context has its own
        task.
    rho : float
        Variance of the label noise, at least 0.
    lam : float
        Ridge λ, see `iclkit.runs.linear_attention`.
    kernel : str
        Kernel over positions in words, such as "iid" or "exponential(3)", see
        `iclkit.data.kernel`.
    query : {"independent", "correlated"}
        Whether the query is independent of its context, or its next token.
    test_kernel : str, optional
    test_query : {"independent", "correlated"}, optional
        Those of one more kind of test; by default those of pretraining.

    Returns
    -------
    dict
        Exact for this Γ*, on new tasks and on those of pretraining: `icl_error` and `idg_error` on
        contexts as in pretraining; with `_independent` behind, on such with an independent query;
        with `_iid`, on iid tokens; and with `_test`, on those of `test_kernel` and `test_query`.
        With κ = ∞, all tasks are new ones.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or n, k or ℓ rounds to 0.

    Notes
    -----
    Source: eq-corr-kernel in the book, and eq-corr-icl and eq-corr-idg for the limits.

    Examples
    --------
    >>> from iclkit import runs
    >>> point = {"tau": 4.0, "alpha": 4.0, "kappa": 2.0, "rho": 0.1}
    >>> tokens = {"kernel": "exponential(4)", "query": "correlated"}
    >>> errors = runs.correlated_tokens(0, d=20, **point, **tokens)
    >>> print(errors["icl_error"] < errors["icl_error_independent"])  # near tokens tell more
    True
    """
    n, k, ell, fresh, _ = _correlated_sizes(
        d=d, tau=tau, alpha=alpha, kappa=kappa, rho=rho, lam=lam, kernel=kernel, query=query,
        test_kernel=test_kernel, test_query=test_query,
    )  # fmt: skip
    own = _kernel("kernel", kernel, ell, query)
    tests = {
        "": own,
        "_independent": own[:ell, :ell],
        "_iid": np.eye(ell),
        "_test": _kernel("test_kernel", test_kernel or kernel, ell, test_query or query),
    }
    streams = backend.streams(seed, backend.namespace())
    w = drawn = draw_tasks(k, d, streams.tasks)
    if not fresh:
        w = drawn[assign_tasks(n, k, streams.tasks), :]
    x, h, y = draw_statistics(w, ell, rho, streams, kernel=own)
    gamma = fit_gamma(x, h, y, lam, accuracy=1e-5).gamma
    errors = {}
    for name, test in tests.items():
        errors[f"icl_error{name}"] = correlated_error(gamma, ell, rho, test)
        errors[f"idg_error{name}"] = (
            errors[f"icl_error{name}"]
            if fresh
            else correlated_error(gamma, ell, rho, test, tasks=drawn)
        )
    return errors
