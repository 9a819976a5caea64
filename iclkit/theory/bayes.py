"""The best any model can do: Bayes for fresh tasks (ridge), and for a known list of them (dMMSE).

Both are posterior means of the task w given a context, under w ~ N(0, I) and under the uniform law
on k pretraining tasks. The first generalises, the second has memorised; how far apart the two are
depends on whether the list is long enough to hide that it is one, log k > d·s_c. Errors are exact
over the query: ρ + |ŵ − w|²/d.

Throughout v = tr Σ and v₂ = tr Σ² belong to the posterior covariance Σ = (I + XᵀX/ρ)⁻¹, with "tr"
the normalised trace, a = v/ρ, and c = 1/(1 + a); see `iclkit.theory` for the range of arguments,
and for arrays with labels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import ArrayLike
from scipy.optimize import elementwise
from scipy.special import expit

from iclkit import _validate, backend
from iclkit._labels import labelled
from iclkit._types import Seed, checked
from iclkit.data.contexts import draw_contexts
from iclkit.data.tasks import PRIORS, assign_tasks, draw_tasks

_FAR = 690  # exp(-690) is about the least number that floats resolve

# Limits ---------------------------------------------------------------------------------------


@labelled()
def ridge_error(alpha: ArrayLike, rho: ArrayLike) -> Any:
    """Error of Bayes ridge, the least possible on new tasks.

    Parameters
    ----------
    alpha : float or array
        Context length α = ℓ/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.

    Returns
    -------
    float or array
        ρ + v, label noise included, broadcast over the arguments.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    v = (ρ/α) M_α(ρ/α), which is max(1 − α, 0) at ρ = 0. The same on new and on pretraining tasks,
    as no list of tasks is used. Source: eq-bayes-ridge in the book.

    Examples
    --------
    >>> from iclkit import theory
    >>> from iclkit.theory import bayes
    >>> print(bayes.ridge_error(alpha=[0.5, 2.0], rho=0.0))  # d tokens without noise tell all
    [0.5 0. ]
    >>> error = bayes.ridge_error(2.0, rho=0.1)
    >>> print(error.round(3), error < theory.icl_error(float("inf"), 2.0, float("inf"), 0.1))
    0.184 True
    """
    alpha, rho = _validate.positive("alpha", alpha), _validate.nonnegative("rho", rho)
    return (rho + _posterior(alpha, rho).v)[()]


@labelled()
def mutual_information(alpha: ArrayLike, rho: ArrayLike) -> Any:
    """Nats per dimension that a context tells about its task, s_c.

    Parameters
    ----------
    alpha : float or array
        Context length α = ℓ/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.

    Returns
    -------
    float or array
        ½ tr log(I + XᵀX/ρ), broadcast over the arguments; inf at ρ = 0 and at α = inf. A list of
        more than exp(d·s_c) tasks is, for one context, as good as all tasks.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    ½ (v − 1 − log v + α log(1 + a)). Source: eq-mutual-information in the book.

    Examples
    --------
    >>> from iclkit.theory import bayes
    >>> print(bayes.mutual_information(alpha=[0.5, 1.0, 2.0], rho=0.1).round(3))
    [0.542 0.944 1.39 ]
    >>> print(bayes.mutual_information(1.0, rho=0.0))
    inf
    """
    alpha, rho = _validate.positive("alpha", alpha), _validate.nonnegative("rho", rho)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = _information(_posterior(alpha, rho), alpha)
    return np.where((rho == 0) | np.isinf(alpha), np.inf, value)[()]


@labelled()
def dmmse_error(
    alpha: ArrayLike, rho: ArrayLike, log_diversity: ArrayLike, *, prior: str = "sphere"
) -> Any:
    """Error on new tasks of the posterior mean over exp(d·log_diversity) tasks: a conjecture.

    Parameters
    ----------
    alpha : float or array
        Context length α = ℓ/d in (0, inf].
    rho : float or array
        Variance of the label noise, at least 0.
    log_diversity : float or array
        (log k)/d for k pretraining tasks, at least 0.
    prior : {"sphere", "gaussian"}
        Law of the tasks, old and new, see `iclkit.data.draw_tasks`.

    Returns
    -------
    float or array
        The error, label noise included, broadcast over the arguments: 2 + ρ at `log_diversity` 0,
        falling to `ridge_error` at `mutual_information`, and that from there on.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    A conjecture, by the argument of the random-energy model. Its value at `log_diversity` 0 is
    proved (thm-dmmse-few in the book); above 0 nothing but simulations supports it.
    A posterior that takes its context at an inverse temperature β < 1 is at a distance KL from the
    prior, and only where KL ≤ log_diversity has the list tasks to choose from. If β = 1 is farther,
    the list's posterior is a few draws from the one with KL = log_diversity, two of them the same
    with probability 1 − β. With v and v₂ for noise t in place of ρ, and I(t) the information then:

    * sphere: error ρ + (2 − ρ/t)v, KL = I(t) − ½ log(1 + (1 − ρ/t)(1 − v₂/v)), β < ρ/t;
    * Gaussian: error ρ + v + (1 − β)v₂, KL = I(t) − ½ (1 − β)(v − v₂), β = ρ/t.

    Source: eq-dmmse-rem in the book.

    Examples
    --------
    >>> from iclkit.theory import bayes
    >>> enough = bayes.mutual_information(1.0, 0.1)
    >>> shares = [0.0, 0.5, 1.0]
    >>> print(bayes.dmmse_error(1.0, 0.1, [share * enough for share in shares]).round(3))
    [2.1   0.796 0.37 ]
    >>> print(bayes.ridge_error(1.0, 0.1).round(3))
    0.37
    """
    sphere = _validate.choice("prior", prior, PRIORS) == "sphere"
    alpha, rho, wanted = np.broadcast_arrays(
        _validate.positive("alpha", alpha),
        _validate.nonnegative("rho", rho),
        _validate.nonnegative("log_diversity", log_diversity),
    )
    untempered = ridge_error(alpha, rho)
    threshold = mutual_information(alpha, rho)
    # Endless contexts are, to all digits, contexts longer than any argument allows.
    length: np.ndarray = np.minimum(alpha, 1e100)
    with np.errstate(divide="ignore", invalid="ignore"):
        v, c, spent = _posterior(length, rho)
        # The unknown is z = log(rest/spent), as in `iclkit.theory`, between β = 1 and β = 0: it
        # resolves v near 0 and near 1, and needs no β where ρ = 0 and all that counts is t.
        low = np.fmax(np.log(np.where(length < 1, length * c, v) / spent), -_FAR)
    high = np.full_like(low, _FAR)
    # Beyond these, more or less diversity makes no difference to the digits of the error.
    most = _tempered(low, length, rho, sphere)[0]
    target = np.clip(wanted, 1e-36 * np.minimum(most, 1.0), most)
    arguments = (length, rho, sphere, target)
    z = elementwise.find_root(_excess_divergence, (low, high), args=arguments).x
    return np.where(wanted >= threshold, untempered, _tempered(z, length, rho, sphere)[1])[()]


class _Posterior(NamedTuple):
    v: np.ndarray
    c: np.ndarray
    spent: np.ndarray  # 1 − v, the degrees of freedom that the context decides


def _posterior(alpha: Any, rho: Any) -> _Posterior:
    """Solve v + α v/(ρ + v) = 1, which is the equation of M_α(ρ/α) = v α/ρ."""
    b = (alpha - 1) + rho
    root = np.hypot(b, 2 * np.sqrt(rho))
    with np.errstate(divide="ignore", invalid="ignore"):
        v = np.where(b <= 0, (root - b) / 2, 2 * rho / (b + root))
        return _Posterior(v, rho / (rho + v), alpha * v / (rho + v))


def _information(posterior: _Posterior, alpha: Any) -> np.ndarray:
    v, c, spent = posterior
    # The sum of the logs is at most −2·spent, so that no more than a digit cancels.
    nats: np.ndarray = -(_log(v, spent) + alpha * _log(c, spent / alpha) + spent) / 2
    return nats


def _log(value: Any, missing: Any) -> np.ndarray:
    """Log of value = 1 − missing, exact to rounding near 0 and near 1."""
    log: np.ndarray = np.where(missing < 0.5, np.log1p(-np.minimum(missing, 0.5)), np.log(value))
    return log


def _tempered(z: Any, alpha: Any, rho: Any, sphere: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return KL, and the error if log_diversity is this KL, of a tempered posterior."""
    most = np.minimum(alpha, 1.0)  # the degrees of freedom that a context without noise decides
    spent = most * expit(-z)
    v = (1 - most) + most * expit(z)
    c = (alpha - most) / alpha + most / alpha * expit(z)
    share, lost = v / (v + c * spent), c * spent / (v + c * spent)  # v₂/v and 1 − v₂/v
    cold = np.maximum(1 - rho / alpha * spent / v / c, 0.0)  # 1 − ρ/t
    gain = np.where(sphere, np.log1p(cold * lost), cold * v * lost) / 2
    error = rho + np.where(sphere, (1 + cold) * v, v + cold * v * share)
    return _information(_Posterior(v, c, spent), alpha) - gain, error


def _excess_divergence(z: Any, alpha: Any, rho: Any, sphere: Any, target: Any) -> np.ndarray:
    excess: np.ndarray = _tempered(z, alpha, rho, sphere)[0] - target
    return excess


# Estimators -----------------------------------------------------------------------------------


def ridge_mean(tokens: Any, labels: Any, rho: float) -> Any:
    """Posterior mean of the task under w ~ N(0, I), for each of n contexts.

    Parameters
    ----------
    tokens : array of shape (n, ell, d)
        Tokens xᵢ of each context.
    labels : array of shape (n, ell)
        Their labels yᵢ.
    rho : float
        Variance of the label noise, at least 0.

    Returns
    -------
    array of shape (n, d)
        (XᵀX + ρI)⁻¹Xᵀy; at ρ = 0 its limit, the least-squares solution of least norm.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not match, the arrays do not hold finite real numbers, or `rho` is outside
        its range.

    Notes
    -----
    Source: eq-bayes-ridge in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.theory import bayes
    >>> tokens, labels = np.eye(2)[None], np.array([[1.0, 2.0]])
    >>> bayes.ridge_mean(tokens, labels, rho=0.0)
    array([[1., 2.]])
    >>> bayes.ridge_mean(tokens, labels, rho=1.0)  # what is known from before counts half
    array([[0.5, 1. ]])
    """
    tokens, labels, rho = _check(tokens, labels, rho)
    xp = array_namespace(tokens, labels)
    transposed, y = xp.matrix_transpose(tokens), labels[:, :, None]
    # Xᵀ(XXᵀ + ρI)⁻¹y is the same. The smaller matrix is the cheaper, and as a rule it is regular
    # without ρ, so that no small ρ is needed to tell its zeros from rounding.
    dual = tokens.shape[1] < tokens.shape[2]
    gram = tokens @ transposed if dual else transposed @ tokens
    rhs = y if dual else transposed @ y
    size = gram.shape[1]
    trace = xp.sum(xp.linalg.diagonal(gram), axis=1)
    rounding = size * xp.finfo(gram.dtype).eps * trace[:, None, None]
    if rho > xp.max(rounding):
        shift = rho * xp.eye(size, dtype=gram.dtype, device=device(gram))
        solution = xp.linalg.solve(gram + shift, rhs)
    else:  # of a matrix without full rank the noise would be all that there is to invert
        values, vectors = xp.linalg.eigh(gram)
        real = values[:, :, None] > rounding
        inverse = xp.where(real, 1 / xp.where(real, values[:, :, None] + rho, 1.0), 0.0)
        solution = vectors @ (inverse * (xp.matrix_transpose(vectors) @ rhs))
    return (transposed @ solution if dual else solution)[:, :, 0]


def dmmse_mean(tokens: Any, labels: Any, tasks: Any, rho: float) -> Any:
    """Posterior mean of the task when it is one of the given ones, for each of n contexts.

    Parameters
    ----------
    tokens : array of shape (n, ell, d)
        Tokens xᵢ of each context.
    labels : array of shape (n, ell)
        Their labels yᵢ.
    tasks : array of shape (k, d)
        The tasks, each equally likely beforehand; any number of them.
    rho : float
        Variance of the label noise, at least 0.

    Returns
    -------
    array of shape (n, d)
        Averages of the tasks w with weights ∝ exp(−|y − Xw|²/2ρ); at ρ = 0 their limit, the task
        of the least |y − Xw|², or the average of several.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not match, the arrays do not hold finite real numbers, or `rho` is outside
        its range.

    Notes
    -----
    O(nkd²) time whatever ℓ is. Tasks are taken in blocks, so that besides the Gram matrices of
    the contexts only some ten MB are needed for any k.
    Source: eq-dmmse in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.theory import bayes
    >>> tokens, labels = np.array([[[1.0, 0.0]]]), np.array([[0.9]])
    >>> tasks = np.array([[1.0, 0.0], [-1.0, 0.0]])
    >>> bayes.dmmse_mean(tokens, labels, tasks, rho=0.0)  # the task that fits best
    array([[1., 0.]])
    >>> bayes.dmmse_mean(tokens, labels, tasks, rho=1.0).round(3)
    array([[0.716, 0.   ]])
    """
    tokens, labels, rho = _check(tokens, labels, rho)
    n, _, d = tokens.shape
    tasks = _validate.array("tasks", tasks, (None, d), like=tokens)
    _check_products(tasks=tasks)
    xp = array_namespace(tokens, labels, tasks)
    where = {"dtype": tasks.dtype, "device": device(tasks)}
    # |y − Xw|² is the quadratic form of (w, 1) with the Gram matrix of (X, −y): linear in the
    # products of two entries of (w, 1). So the energies of all tasks in all contexts are one
    # matrix product, by symmetry of half the size. The price is a rounding error of 1e-16 |y|²
    # also for a task that fits much better; but then a task that fits worse by as little is,
    # to 8 digits, the same task.
    joined = xp.concat([tokens, -labels[:, :, None]], axis=2)
    gram = (xp.matrix_transpose(joined) @ joined) * (2 - xp.eye(d + 1, **where))
    gram = xp.concat([gram[:, i, i:] for i in range(d + 1)], axis=1)

    # Softmax of a stream: sums of weights relative to the least energy so far.
    least, total = xp.full(n, xp.inf, **where), xp.zeros(n, **where)
    mean = xp.zeros((n, d), **where)
    for rows in backend.row_blocks(tasks, max(1, 2**21 // (n + gram.shape[1]))):
        block = tasks[rows, :]
        w = xp.concat([block.T, xp.ones((1, block.shape[0]), **where)], axis=0)
        energy = gram @ xp.concat([w[i : i + 1, :] * w[i:, :] for i in range(d + 1)], axis=0)
        lower = xp.minimum(least, xp.min(energy, axis=1))
        kept, weight = _weight(least - lower, rho), _weight(energy - lower[:, None], rho)
        total = total * kept + xp.sum(weight, axis=1)
        mean = mean * kept[:, None] + weight @ block
        least = lower
    return mean / total[:, None]


def _check(tokens: Any, labels: Any, rho: float) -> tuple[Any, Any, float]:
    tokens = _validate.array("tokens", tokens, (None, None, None))
    labels = _validate.array("labels", labels, tokens.shape[:2], like=tokens)
    _check_products(tokens=tokens, labels=labels)
    return tokens, labels, _validate.scalar(_validate.nonnegative, "rho", rho)


def _check_products(**arrays: Any) -> None:
    """Refuse arrays whose products would all be rounded to zero."""
    for name, array in arrays.items():
        most = float(array_namespace(array).max(abs(array)))
        if 0 < most < 1e-75:
            raise ValueError(f"{name} must be 0 or have numbers above 1e-75 in size, got {most}")


def _weight(gap: Any, rho: float) -> Any:
    xp = array_namespace(gap)
    return xp.exp(-gap / (2 * rho)) if rho > 0 else xp.astype(gap == 0, gap.dtype)


# One run --------------------------------------------------------------------------------------


def _sizes(
    *,
    d: int,
    alpha: float,
    kappa: float,
    rho: float,
    contexts: int = 100,
    prior: str = "sphere",
) -> tuple[int, int]:
    """Check the parameters of a run, and turn ratios of the theory into whole numbers k and ℓ."""
    d = _validate.count("d", d)
    _validate.scalar(_validate.nonnegative, "rho", rho)
    _validate.count("contexts", contexts)
    _validate.choice("prior", prior, PRIORS)
    k = _validate.size("kappa", kappa, d, "k = kappa * d")
    return k, _validate.size("alpha", alpha, d, "ell = alpha * d")


@checked(_sizes)
def estimators(
    seed: Seed,
    *,
    d: int,
    alpha: float,
    kappa: float,
    rho: float,
    contexts: int = 100,
    prior: str = "sphere",
) -> dict[str, float]:
    """Draw tasks and contexts once, and measure the errors of both Bayes estimators on them.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence
        At least 0; the same seed gives the same result on a CPU.
    d : int
        Dimension, at least 1.
    alpha : float
        Context length α = ℓ/d, positive and finite; ℓ is rounded.
    kappa : float
        Task diversity κ = k/d, positive and finite; k is rounded.
    rho : float
        Variance of the label noise, at least 0.
    contexts : int
        Contexts with new tasks, and again as many with tasks of the list, picked at random; at
        least 1.
    prior : {"sphere", "gaussian"}
        Law of the tasks, see `iclkit.data.draw_tasks`. Bayes ridge is best for Gaussian ones.

    Returns
    -------
    dict
        `dmmse_icl_error`, `dmmse_idg_error`, `ridge_icl_error` and `ridge_idg_error`, means over
        the contexts and exact over the query.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or k or ℓ rounds to 0.

    Notes
    -----
    The arrays live where `iclkit.backend.namespace` says.

    Examples
    --------
    >>> from iclkit.theory import bayes
    >>> errors = bayes.estimators(0, d=10, alpha=2.0, kappa=1.0, rho=0.1)
    >>> errors["dmmse_idg_error"] < errors["ridge_idg_error"]  # on its own tasks
    True
    >>> errors["dmmse_icl_error"] > errors["ridge_icl_error"]  # and on new ones
    True
    """
    k, ell = _sizes(d=d, alpha=alpha, kappa=kappa, rho=rho, contexts=contexts, prior=prior)
    streams = backend.streams(seed, backend.namespace())
    tasks = draw_tasks(k, d, streams.tasks, prior=prior)
    fresh = draw_tasks(contexts, d, streams.tasks, prior=prior)
    errors = {}
    for name, w in ("icl", fresh), ("idg", tasks[assign_tasks(contexts, k, streams.tasks)]):
        tokens, labels, _, _ = draw_contexts(w, ell, rho, streams)
        for model, mean in (
            ("dmmse", dmmse_mean(tokens, labels, tasks, rho)),
            ("ridge", ridge_mean(tokens, labels, rho)),
        ):
            errors[f"{model}_{name}_error"] = rho + float(((mean - w) ** 2).sum()) / (contexts * d)
    return errors
