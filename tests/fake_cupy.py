"""A cupy without a GPU, for a process of its own: `install` before anything looks for cupy.

Its arrays are NumPy's in a wrapper that is as strict as cupy about where numbers lie: NumPy arrays
are refused in its arithmetic, and nothing but `get` and what makes a single number gives them
back. What cupy 14 does not have is missing, and factors of matrices that are not definite are half
done, without an error, unless `cupyx.errstate` asks for one.
"""

import contextlib
import functools
import sys
import types
import weakref

import numpy as np
import scipy.linalg
from numpy.lib.mixins import NDArrayOperatorsMixin

# Of NumPy's names, what cupy 14 lacks and the package could come to use.
MISSING = {
    "": "errstate frompyfunc geomspace isdtype isnat longdouble matvec unstack vecdot vecmat",
    "linalg": "diagonal matrix_norm multi_dot outer svdvals tensordot trace vecdot vector_norm",
    "fft": "",
}
hooks = []  # those that are told of memory
reports = {"linalg": "ignore"}


class ndarray(NDArrayOperatorsMixin):
    """An array on the device."""

    __module__ = "cupy"

    def __init__(self, host):
        self._host = host
        if host.base is None:
            size = 512 * -(-host.nbytes // 512)
            for hook in hooks:
                hook.malloc_postprocess(device_id=0, size=host.nbytes, mem_size=size)
            weakref.finalize(self, free, size)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return wrap(getattr(ufunc, method)(*unwrap(inputs), **unwrap(options)))

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def get(self, stream=None, order="C", out=None, blocking=True):
        return self._host.copy()

    def __getitem__(self, key):
        return wrap(self._host[unwrap(key)])

    def __setitem__(self, key, value):
        self._host[unwrap(key)] = unwrap(value)

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return map(wrap, self._host)

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __bool__(self):
        return bool(self.get())

    def __complex__(self):
        return complex(self.get())

    __hash__ = None
    device = property(lambda self: Device(0))
    T = property(lambda self: wrap(self._host.T))


def free(size):
    for hook in hooks:
        hook.free_postprocess(device_id=0, mem_size=size)


def method(name):
    def called(self, *arguments, **options):
        return wrap(getattr(self._host, name)(*unwrap(arguments), **unwrap(options)))

    return called


for name in ("shape", "ndim", "dtype", "size", "nbytes", "itemsize", "strides", "flags"):
    setattr(ndarray, name, property(lambda self, name=name: getattr(self._host, name)))
for name in (
    "all", "any", "argmax", "argsort", "astype", "conj", "copy", "cumsum", "dot", "fill", "max",
    "mean", "min", "nonzero", "prod", "ravel", "repeat", "reshape", "sort", "squeeze", "std",
    "sum", "swapaxes", "take", "trace", "transpose", "var", "view",
):  # fmt: skip
    setattr(ndarray, name, method(name))


def unwrap(value):
    """Take arrays off the device, and refuse those that are not on it."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (tuple, list)):
        return type(value)(map(unwrap, value))
    if isinstance(value, dict):
        return {key: unwrap(item) for key, item in value.items()}
    return value


def wrap(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(np.asarray(value))
    return tuple(map(wrap, value)) if isinstance(value, (tuple, list)) else value


def on_device(function):
    @functools.wraps(function)
    def called(*arguments, **options):
        return wrap(function(*unwrap(arguments), **unwrap(options)))

    return called


def from_host(function):
    """Let a function make an array of the device from what lies on the host."""

    def called(value, *arguments, **options):
        if not isinstance(value, ndarray):
            return wrap(np.array(value, *arguments, **options))
        found = function(value._host, *arguments, **options)
        return value if found is value._host else wrap(found)

    return called


def module(name, source, **own):
    """Make a module with what NumPy's has, but for what cupy's has not."""
    made, missing = types.ModuleType(f"cupy.{name}".strip(".")), MISSING.get(name, "").split()
    for key, item in vars(source).items() if source else ():
        if key[0] == "_" or key in missing:
            continue
        if isinstance(item, type) or not callable(item):
            if not isinstance(item, types.ModuleType):
                setattr(made, key, item)
        else:
            setattr(made, key, on_device(item))
    vars(made).update(own)
    return made


# What cupy has besides ---------------------------------------------------------------------------


class Device:
    def __init__(self, device=None):
        self.id = 0 if device is None else int(device)
        self.compute_capability = "90"

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def synchronize(self):
        pass


class MemoryHook:
    def __enter__(self):
        hooks.append(self)
        return self

    def __exit__(self, *_):
        hooks.remove(self)

    def malloc_postprocess(self, **about):
        pass

    free_postprocess = malloc_postprocess


class Philox4x3210:
    def __init__(self, seed=None, *, size=-1):
        assert isinstance(seed, np.random.SeedSequence)
        self.rng = np.random.default_rng(seed.generate_state(1, np.uint32)[0])


class Generator:
    __module__ = "cupy.random._generator_api"

    def __init__(self, bit_generator):
        self._rng = bit_generator.rng

    def random(self, size=None, dtype=np.float64, out=None):
        return wrap(self._rng.random(size, dtype))

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        return wrap(self._rng.standard_normal(size, dtype))

    def integers(self, low, high=None, size=None, dtype=np.int64, endpoint=False):
        return wrap(self._rng.integers(int(low), high, size, dtype, endpoint))

    def chisquare(self, df, size=None):
        if type(df) not in (float, int):
            raise TypeError("df is required to be a cupy.ndarray or a scalar")
        return wrap(self._rng.chisquare(df, size))


def cholesky(a):
    try:
        return wrap(np.linalg.cholesky(unwrap(a)))
    except np.linalg.LinAlgError:
        if reports["linalg"] == "raise":
            raise
        return wrap(np.tril(unwrap(a)))


@contextlib.contextmanager
def errstate(*, linalg=None):
    before = reports["linalg"]
    reports["linalg"] = linalg
    try:
        yield
    finally:
        reports["linalg"] = before


def solve_triangular(
    a, b, trans=0, lower=False, unit_diagonal=False, overwrite_b=False, check_finite=False
):
    assert isinstance(a, ndarray) and isinstance(b, ndarray)
    return wrap(
        scipy.linalg.solve_triangular(
            unwrap(a), unwrap(b), trans=trans, lower=lower, check_finite=False
        )
    )


class LinearOperator:
    def __init__(self, shape, matvec, *, dtype):
        self.shape, self.matvec, self.dtype = shape, matvec, dtype


def cg(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None):
    x, r, p = 0 * b, b, None
    goal, before = max(atol, rtol * float((b * b).sum()) ** 0.5), None
    for _ in range(maxiter):
        z = M.matvec(r)
        now = float((r * z).sum())
        p = z if p is None else z + now / before * p
        before, image = now, A.matvec(p)
        step = now / float((p * image).sum())
        x, r = x + step * p, r - step * image
        callback(x)
        if float((r * r).sum()) ** 0.5 <= goal:
            return x, 0
    return x, maxiter


def install():
    """Be cupy from now on."""
    runtime = types.SimpleNamespace(
        getDeviceProperties=lambda number: {"name": b"No GPU at all"},
        memGetInfo=lambda: (2**33, 2**34),
        runtimeGetVersion=lambda: 12090,
        driverGetVersion=lambda: 12090,
    )
    # Each is a package, as far as imports of what lies in them go.
    cuda = module("cuda", None, __path__=[], Device=Device, MemoryHook=MemoryHook, runtime=runtime)
    random = module("random", None, Generator=Generator, Philox4x3210=Philox4x3210)
    linalg = module("linalg", np.linalg, cholesky=cholesky, annotations=None)
    fft = module("fft", np.fft)
    pool = types.SimpleNamespace(free_all_blocks=lambda: None)
    cupy = module(
        "", np, ndarray=ndarray, array=from_host(np.array), asarray=from_host(np.asarray),
        asnumpy=lambda array: array.get(), cuda=cuda, random=random, linalg=linalg, fft=fft,
        get_default_memory_pool=lambda: pool, __version__="14.0.0",
    )  # fmt: skip
    cupyx = types.ModuleType("cupyx")
    cupyx.errstate = errstate
    dense = types.SimpleNamespace(solve_triangular=solve_triangular)
    sparse = types.SimpleNamespace(cg=cg, LinearOperator=LinearOperator)
    sys.modules |= {
        "cupy": cupy, "cupy.cuda": cuda, "cupy.random": random, "cupy.linalg": linalg,
        "cupy.fft": fft, "cupy.cuda.device": types.SimpleNamespace(Device=Device),
        "cupyx": cupyx, "cupyx.scipy": types.ModuleType("cupyx.scipy"),
        "cupyx.scipy.linalg": dense, "cupyx.scipy.sparse": types.ModuleType("cupyx.scipy.sparse"),
        "cupyx.scipy.sparse.linalg": sparse,
    }  # fmt: skip
