"""Tasks of your own: errors and ridges foretold from a list of task vectors, and what they need.

Two things may be meant by such a list, and they have different errors. Either pretraining uses just
these tasks, then `kappa` is None; or they are a sample of a law, of which pretraining draws κd
others. With isotropic tokens neither estimates a covariance, see `iclkit.theory._listed`.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from iclkit import _validate
from iclkit._labels import unlabelled
from iclkit.data import laws
from iclkit.data.laws import FewDirectionsWarning, Law
from iclkit.runs import _table
from iclkit.runs.many import sweep
from iclkit.runs.one import linear_attention
from iclkit.theory import _listed, limit

_TESTS = ("icl", "idg")
# The limit was seen to be off by some per cent for fewer directions.
_FEW = 20
_MANY = 10  # vectors per dimension, from which on a spectrum is taken for that of their law
_QUICK = 4  # fits at each point that are made without being asked for
_QUICK_ENTRIES = 2e8  # of all their features: seconds, or a minute next to the pole
_NEAR = 3  # width of the pole, in d·|n/(d(d + 1)) − 1|
# Ratios n/(d(d + 1)) and ℓ/d among which a target is looked for, and what stands for no end.
_RATIOS = np.geomspace(1e-3, 1e6, 181)
_ENDLESS = 1e9


class _Own(NamedTuple):
    w: np.ndarray
    law: Law
    new: np.ndarray | None
    tokens: Law | None

    @property
    def d(self) -> int:
        return int(self.w.shape[1])

    @property
    def k(self) -> int:
        return len(self.w)


def _own(tasks: Any, tokens: Any, test_tasks: Any) -> _Own:
    law = laws.vectors(tasks)
    assert law.vectors is not None
    d, new, covariance = law.values.size, None, None
    if len(law.vectors) < 2:
        raise ValueError("tasks must be at least 2 vectors, one a row, got 1")
    if test_tasks is not None:
        new = unlabelled("test_tasks", test_tasks, (None, d))
    if tokens is not None:
        x = unlabelled("tokens", tokens, (None, d))
        covariance = laws.covariance(laws.matrix(laws.vectors(x * d**0.5), d))
    return _Own(law.vectors, law, new, covariance)


def _warn(message: str, category: type[Warning] = RuntimeWarning) -> None:
    warnings.warn(message, category, stacklevel=_validate.callers_level())


def _warn_of(own: _Own, tokens: Any, kappa: Any) -> None:
    """Say which of the theory's premises these vectors do not meet."""
    w = own.w
    if own.tokens is not None:
        w = w @ laws.matrix(own.tokens, own.d)
    s = (w * own.w).sum(axis=1)
    directions = 2 * s.mean() ** 2 / max(float(s.var()), 1e-300)
    if directions < _FEW:
        _warn(
            f"the variance of labels differs between tasks as for {directions:.3g} directions, "
            "and the limit takes it that there are many: it may be off by some per cent, see "
            "FewDirectionsWarning",
            FewDirectionsWarning,
        )
    if own.k == own.d and np.allclose(own.w, own.w.T, rtol=1e-12, atol=0.0):
        _warn(
            "tasks are a symmetric matrix, and each of its rows is taken for a task: a covariance "
            "is for iclkit.theory.icl_error"
        )
    if own.k < _FEW:
        _warn(f"with {own.k} tasks, errors differ from list to list by more than the theory tells")
    if own.tokens is not None and len(tokens) < _MANY * own.d:
        _warn(
            f"the covariance of tokens is that of {len(tokens)} samples in {own.d} dimensions, and "
            f"spread more widely than that of their law: {_MANY * own.d} would do"
        )
    if own.tokens is not None and own.k < _MANY * own.d and (kappa is not None or own.new is None):
        _warn(
            f"with tokens, the law of tasks is taken to have the covariance of {own.k} vectors in "
            f"{own.d} dimensions, which is spread more widely: {_MANY * own.d} would do"
        )


def _predicted(own: _Own, point: _listed.Points, sampled: bool) -> tuple[np.ndarray, ...]:
    """Return the ICL and the IDG error at points, and without tokens what is open of the former."""
    if own.tokens is None:
        return _listed.errors(_tasks(own), point)
    known: dict[str, Any] = {"tokens": own.tokens, "tasks": _covariance(own.law)}
    new = known if own.new is None else known | {"test_tasks": _covariance(laws.vectors(own.new))}
    exact = point if sampled else point._replace(kappa=np.full_like(point.kappa, np.inf))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewDirectionsWarning)  # it has been said
        icl = limit.icl_error(*(point if own.new is None else exact), **new)
        return icl, limit.idg_error(*exact, **known)


def _ridge(own: _Own, point: _listed.Points, sampled: bool, test: str) -> np.ndarray:
    if own.tokens is None:
        return _listed.best_ridge(_tasks(own), point, _TESTS.index(test))
    known: dict[str, Any] = {"tokens": own.tokens, "tasks": _covariance(own.law)}
    if test == "icl" and own.new is not None:
        known["test_tasks"] = _covariance(laws.vectors(own.new))
    if not sampled and (test == "idg" or own.new is not None):
        point = point._replace(kappa=np.full_like(point.kappa, np.inf))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewDirectionsWarning)
        found: np.ndarray = limit.optimal_ridge(*point[:4], test=test, **known)
    return found


def _tasks(own: _Own) -> _listed.Listed:
    vectors = own.w if own.new is None else own.new
    return _listed.Listed(own.k, own.law.values, (vectors @ own.law.basis) ** 2, own.new is None)


def _covariance(law: Law) -> Law:
    return law._replace(vectors=None)


def predict(
    tasks: ArrayLike,
    *,
    tau: Any,
    alpha: Any,
    rho: Any,
    kappa: Any = None,
    lam: Any = 0.0,
    tokens: ArrayLike | None = None,
    test_tasks: ArrayLike | None = None,
    runs: int | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Foretell the errors of pretraining on tasks of your own, and the best ridges.

    Parameters
    ----------
    tasks : array of shape (k, d)
        Task vectors w, one a row and at least 2, with labels y = ⟨x, w⟩ + noise. Nothing is
        centred or normalised.
    tau : float or sequence
        Pretraining contexts τ = n/d², with n rounded to at least 1; the formulas of the limit take
        n/(d(d + 1)) for it. Two sequences, and more, make a grid, as in `iclkit.runs.sweep`.
    alpha : float or sequence
        Context length α = ℓ/d, with ℓ rounded to at least 1.
    rho : float or sequence
        Variance of the label noise, at least 0, in the unit of wᵀw/d.
    kappa : float or sequence, optional
        By default pretraining uses exactly the tasks that are given. With a number in (0, inf], it
        uses κd tasks of the law that these are a sample of.
    lam : float or sequence
        Ridge λ, at least 0; also an `xarray.DataArray` along other parameters, as `icl_ridge` is.
    tokens : array of shape (m, d), optional
        Samples of the tokens x, as they are in y = ⟨x, w⟩ + noise. By default x ~ N(0, I/d). With
        them a point takes seconds for d = 25, and a minute for d = 100.
    test_tasks : array of shape (k', d), optional
        Vectors with the law of new tasks; by default that which `tasks` are a sample of.
    runs : int, optional
        Fits that are simulated at each point, at least 2, or 0 for none. Gaussian tokens, tasks
        picked from those given. By default 4, where all of them take seconds, and none with
        `kappa`; the attribute `runs` says how many were made.
    seed : int
        Of the fits, at least 0.

    Returns
    -------
    xarray.Dataset
        Along the parameters that are sequences: `idg_error` on the pretraining tasks, `icl_error`
        on new ones, `idg_ridge` and `icl_ridge`, the best λ for either, and `idg_least` and
        `icl_least`, the errors with it; the numbers `n` and `ell`. With simulated fits,
        `idg_error_simulated` and its standard error `idg_error_simulated_se`, and those of
        `icl_error` if there are `test_tasks`. Without `tokens`, `icl_error_se`, which is what the
        vectors that stand for new tasks leave open of `icl_error`; and what too few tasks leave
        open altogether is NaN, see Warns.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or there is a simulation to be made of a law that only
        a sample is known of.

    Warns
    -----
    iclkit.data.laws.FewDirectionsWarning
        If labels of some tasks have so much more variance than of others that the limit is off by
        some per cent.
    RuntimeWarning
        If there are few tasks; if n is close to the pole at d(d + 1) without ridge; if k tasks do
        not tell what κd > k of them would do; if a covariance is that of few samples, or seems to
        be given for tasks.

    Notes
    -----
    The limit theory at n/(d(d + 1)) contexts per parameter, without the next order in 1/d, which
    `iclkit.theory.icl_error` has for Gaussian tasks of a law. Given tasks and isotropic tokens,
    errors on new tasks of their law follow without its covariance, as each task is new to the rest
    of the list. What lists of independent tasks scatter by was 0.9 to 1.2 times the standard error
    that they give, for k from d/2 to 4d. With `tokens`, C is R where it is needed.
    Source: eq-own-alignment in the book.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit import predict
    >>> w = np.random.default_rng(0).standard_normal((200, 100))
    >>> told = predict(w, tau=[0.5, 2.0], alpha=1.0, rho=0.1, lam=0.1)
    >>> print(told.icl_error.values.round(2), told.idg_error.values.round(2))
    [1.38 1.15] [1.25 0.97]
    >>> print(predict(w, tau=2.0, alpha=1.0, rho=0.1, kappa=float("inf")).icl_ridge.round(2).item())
    1.4
    """
    own = _own(tasks, tokens, test_tasks)
    runs = None if runs is None else _validate.count("runs", runs, least=0)
    if runs and kappa is not None:
        raise ValueError("runs must be 0 with kappa, as only a sample of the law is known")
    if runs == 1:
        raise ValueError("runs must be 0, or at least 2 for an error bar, got 1")
    grid = {"tau": tau, "alpha": alpha, "rho": rho, "lam": lam}
    if kappa is not None:
        grid["kappa"] = kappa
    coords = _table.coordinates(grid)
    values = {name: coords[name] for name in grid}
    sizes = xr.Dataset(coords=coords.coords)
    d = own.d
    sizes["n"] = values["tau"].copy(data=_sizes("tau", values["tau"], d**2, "n = tau * d**2"))
    sizes["ell"] = values["alpha"].copy(data=_sizes("alpha", values["alpha"], d, "ell = alpha * d"))
    for name, check in (("rho", _validate.nonnegative), ("lam", _validate.ridge)):
        check(name, values[name].values)
    ratio: Any = own.k / d
    if kappa is not None:
        ratio = values["kappa"].copy(data=_validate.positive("kappa", values["kappa"].values))
    _warn_of(own, tokens, kappa)
    unit = d * (d + 1)
    numbers = (sizes["n"] / unit, sizes["ell"] / d, ratio, values["rho"], values["lam"])
    _warn_at(own, *numbers[:1], numbers[4])
    told = sizes.assign(_everything(own, numbers, kappa is not None))
    if runs is None:
        entries = float(sizes["n"].mean()) * told.icl_error.size * unit
        runs = _QUICK if kappa is None and _QUICK * entries <= _QUICK_ENTRIES else 0
    if runs:
        told = told.assign(_simulated(own, grid, runs, seed))
    about = "a sample of a law" if kappa is not None else "those of pretraining"
    return told.assign_attrs(d=d, k=own.k, tasks=about, runs=runs)


def _sizes(name: str, ratio: xr.DataArray, unit: int, meaning: str) -> np.ndarray:
    return _validate.sizes(name, _validate.positive(name, ratio.values), unit, meaning)


def _warn_at(own: _Own, per: Any, lam: Any) -> None:
    if np.any((lam == 0) & (own.d * abs(per - 1) < _NEAR)):
        _warn(
            "without ridge, n is so close to d(d + 1) that the limit, which diverges there, "
            "does not hold"
        )


def _points(*numbers: Any) -> _listed.Points:
    arrays = (np.array(a, dtype=float).ravel() for a in np.broadcast_arrays(*numbers))
    return _listed.Points(*arrays)


def _everything(own: _Own, numbers: tuple[Any, ...], sampled: bool) -> dict[str, xr.DataArray]:
    """Return errors, best ridges and the errors with them, with labels."""
    arrays = xr.broadcast(*(xr.DataArray(a) for a in numbers))
    bare = xr.broadcast(*(xr.DataArray(a) for a in numbers[:4]))
    point, free = _points(*arrays), _points(*bare, 0.0)
    found = {}
    errors = _predicted(own, point, sampled)
    for which, test in enumerate(_TESTS):
        ridge = _ridge(own, free, sampled, test)
        least = _predicted(own, free._replace(lam=np.nan_to_num(ridge)), sampled)[which]
        for name, like, flat in (
            ("error", arrays[0], errors[which]),
            ("ridge", bare[0], ridge),
            ("least", bare[0], least),
        ):
            found[f"{test}_{name}"] = like.copy(data=np.reshape(flat, like.shape))
    if own.tokens is None:
        found["icl_error_se"] = arrays[0].copy(data=np.reshape(errors[2], arrays[0].shape))
    if np.any(np.isnan(found["icl_error"])):
        _warn(
            f"{own.k} tasks in {own.d} dimensions do not tell what so many others of their law "
            "would do: where they don't, errors are NaN"
        )
    return found


def _simulated(own: _Own, grid: dict[str, Any], runs: int, seed: int) -> dict[str, xr.DataArray]:
    new = None if own.new is None else laws.vectors(own.new)
    laws_here = {"tasks": own.law, "tokens": own.tokens, "test_tasks": new}
    run: Any = functools.partial(linear_attention, d=own.d, **laws_here)  # type: ignore[arg-type]
    points = grid | {"kappa": np.inf}
    made = sweep(run, points, seed=seed, precision=1e-9, runs=(runs, runs), workers=1)
    tests = ("idg",) if own.new is None else _TESTS
    return {
        f"{test}_error_simulated{ending}": made[f"{test}_error{ending}"].drop_vars("kappa")
        for test in tests
        for ending in ("", "_se")
    }


def contexts_needed(
    tasks: ArrayLike,
    target: float,
    *,
    alpha: float,
    rho: float,
    kappa: float | None = None,
    lam: float | None = None,
    test: str = "icl",
    tokens: ArrayLike | None = None,
    test_tasks: ArrayLike | None = None,
) -> xr.Dataset:
    """Say how many pretraining contexts an error takes.

    Parameters
    ----------
    tasks, alpha, rho, kappa, tokens, test_tasks : optional
        As for `iclkit.runs.predict`, single numbers.
    target : float
        The error, positive, label noise included.
    lam : float, optional
        Ridge λ, at least 0; by default the best one for each n.
    test : {"icl", "idg"}
        Which error.

    Returns
    -------
    xarray.Dataset
        `n`, the least number of contexts with an error of at most `target`, inf if none has it;
        `error` and `ridge` there, or at the floor; `floor`, the least error that any n has, and
        `enough`, whether one suffices. The attribute `says` says it in words. With a given λ more
        contexts may be worse again, see `iclkit.theory.icl_error`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or the tasks do not tell.

    Warns
    -----
    iclkit.data.laws.FewDirectionsWarning
    RuntimeWarning
        As `iclkit.runs.predict`.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.runs import contexts_needed
    >>> w = np.random.default_rng(0).standard_normal((200, 100))
    >>> need = contexts_needed(w, 0.9, alpha=1.0, rho=0.1)
    >>> print(round(need.n.item() / 100**2, 2), need.error.item() <= 0.9)
    1.78 True
    >>> print(contexts_needed(w, 0.2, alpha=1.0, rho=0.1).says)
    no number of contexts suffices: the error stays above 0.7
    """
    given = {"rho": rho, "kappa": kappa, "lam": lam, "test": test}
    own = _own(tasks, tokens, test_tasks)
    ell = _validate.size("alpha", alpha, own.d, "ell = alpha * d")
    _warn_of(own, tokens, kappa)
    unit = own.d * (own.d + 1)
    found = _needed(own, target, given, unit, lambda n: (n / unit, np.full_like(n, ell / own.d)))
    return _answer("n", "contexts", found)


def tokens_needed(
    tasks: ArrayLike,
    target: float,
    *,
    tau: float,
    rho: float,
    kappa: float | None = None,
    lam: float | None = None,
    test: str = "icl",
    tokens: ArrayLike | None = None,
    test_tasks: ArrayLike | None = None,
) -> xr.Dataset:
    """Say how long contexts must be for an error.

    Parameters
    ----------
    tasks, tau, rho, kappa, tokens, test_tasks : optional
        As for `iclkit.runs.predict`, single numbers.
    target : float
        The error, positive, label noise included.
    lam : float, optional
        Ridge λ, at least 0; by default the best one for each ℓ.
    test : {"icl", "idg"}
        Which error.

    Returns
    -------
    xarray.Dataset
        `ell`, the least number of tokens of a context with an error of at most `target`, in
        pretraining and at test, inf if none has it; and the rest as
        `iclkit.runs.contexts_needed`. Without the best ridge, longer contexts may be worse again.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or the tasks do not tell.

    Warns
    -----
    iclkit.data.laws.FewDirectionsWarning
    RuntimeWarning
        As `iclkit.runs.predict`.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.runs import tokens_needed
    >>> w = np.random.default_rng(0).standard_normal((200, 100))
    >>> print(tokens_needed(w, 0.5, tau=4.0, rho=0.1).ell.item())
    376.0
    """
    given = {"rho": rho, "kappa": kappa, "lam": lam, "test": test}
    own = _own(tasks, tokens, test_tasks)
    n = _validate.size("tau", tau, own.d**2, "n = tau * d**2")
    _warn_of(own, tokens, kappa)
    per = n / (own.d * (own.d + 1))
    if lam is not None:
        _warn_at(own, np.array(per), np.array(lam))
    found = _needed(own, target, given, own.d, lambda ell: (np.full_like(ell, per), ell / own.d))
    return _answer("ell", "tokens", found)


class _Need(NamedTuple):
    number: float
    target: float
    error: float
    ridge: float
    floor: float


def _needed(
    own: _Own,
    target: float,
    given: dict[str, Any],
    unit: int,
    ratios: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> _Need:
    """Return the least whole number with an error of at most a target."""
    target = _validate.finite("target", target)
    test = _validate.choice("test", given["test"], _TESTS)
    rho = _validate.scalar(_validate.nonnegative, "rho", given["rho"])
    sampled, lam = given["kappa"] is not None, given["lam"]
    kappa = _validate.scalar(_validate.positive, "kappa", given["kappa"]) if sampled else (
        own.k / own.d
    )  # fmt: skip
    if lam is not None:
        lam = _validate.scalar(_validate.ridge, "lam", lam)

    def error(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tau, alpha = ratios(np.atleast_1d(np.asarray(number, dtype=float)))
        point = _points(tau, alpha, kappa, rho, 0.0 if lam is None else lam)
        ridge = point.lam if lam is not None else _ridge(own, point, sampled, test)
        found = _predicted(own, point._replace(lam=np.nan_to_num(ridge)), sampled)
        return np.where(np.isnan(ridge), np.nan, found[_TESTS.index(test)]), ridge

    numbers = np.unique(np.maximum(np.rint(np.r_[0.0, _RATIOS, _ENDLESS] * unit), 1.0))
    errors, ridges = error(numbers)
    # A short list tells nothing of long contexts, and there the error has no end to be seen.
    known = ~np.isnan(errors)
    if not known.any():
        raise ValueError(
            f"tasks must tell of the law that they are a sample of, got {own.k} of {kappa:g} d"
        )
    numbers, errors, ridges = numbers[known], errors[known], ridges[known]
    least = int(errors.argmin())
    enough = np.flatnonzero(errors[:-1] <= target)
    if not enough.size and not known.all():
        raise ValueError(
            f"tasks must tell of errors down to the target {target:g}, got {own.k} of {kappa:g} d, "
            f"which tell of none below {errors[least]:.3g}"
        )
    if not enough.size:
        return _Need(np.inf, target, errors[least], ridges[least], errors[least])
    high = float(numbers[enough[0]])
    low = float(numbers[enough[0] - 1]) if enough[0] else high - 1
    while high - low > 1:
        middle = float((low + high) // 2)
        low, high = (low, middle) if error(np.array(middle))[0][0] <= target else (middle, high)
    (there,), (ridge,) = error(np.array(high))
    return _Need(high, target, there, ridge, errors[least])


def _answer(name: str, what: str, found: _Need) -> xr.Dataset:
    enough = bool(np.isfinite(found.number))
    suffice = f"{what} suffice" if found.number != 1 else f"{what.removesuffix('s')} suffices"
    says = (
        f"{found.number:.0f} {suffice}: the error is {found.error:.3g}" if enough else
        f"no number of {what} suffices: the error stays above {found.floor:.3g}"
    )  # fmt: skip
    values = {name: found.number, "enough": enough, "target": found.target,
              "error": found.error, "ridge": found.ridge, "floor": found.floor}  # fmt: skip
    return xr.Dataset(values, attrs={"says": says})
