"""Translate the functional of finite size into JavaScript, jet by jet.

What jets do is written down, as `tracer` does it for numbers; their arithmetic is in finite.js. The
integral over the tasks becomes one loop over its nodes.
"""

import operator
from functools import partialmethod, reduce
from unittest import mock

import numpy as np

from iclkit.theory import _equivalent, _first_order

from .tracer import Tape, Traced, declared

SLOPES = {"P": 1, "J": 2, "nu": 3}


class Parts:
    """The numbers of a jet, of which 4i + j has the power i of δ and the j-th of (1, P, J, ν)."""

    def __init__(self, jet):
        self.jet = jet

    def __getitem__(self, key):
        """Return one number, those of one power of δ, or by one slope a jet without any others."""
        if not isinstance(key, tuple):
            return [self[key, j] for j in range(4)]
        i, j = key
        if isinstance(i, slice):
            return self.jet.do("slope", j)
        return self.jet.tape.add(f"{self.jet.code}[{4 * i + j}]")

    def __setitem__(self, key, jet):
        """Become a jet without slopes."""
        if key != (slice(None), 0):
            raise NotImplementedError(f"a change of the parts {key} of a jet")
        self.jet.code = jet.code


class TracedJet:
    """Stands for one jet, and remembers by its code in JavaScript where it comes from."""

    __array_ufunc__ = None

    def __init__(self, tape, code):
        self.tape, self.code, self.parts = tape, code, Parts(self)

    def do(self, name, *others):
        """Write down the call of a function of jets, unless it is a product with nothing."""
        codes = {getattr(other, "code", other) for other in (self, *others)}
        if name in ("by", "mul") and codes & {False, "false", call(self.tape, "jet", 0)}:
            return TracedJet(self.tape, call(self.tape, "jet", 0))
        return TracedJet(self.tape, call(self.tape, name, self, *others))

    inverse, times_delta = partialmethod(do, "inv"), partialmethod(do, "late")
    log, log1p, sqrt = (
        partialmethod(do, "log"),
        partialmethod(do, "log1p"),
        partialmethod(do, "sqrt"),
    )

    def __add__(self, other):
        """Add a jet or a number."""
        return self.do("add" if isinstance(other, TracedJet) else "up", other)

    def __mul__(self, other):
        """Multiply by a jet or a number."""
        if not isinstance(other, TracedJet):
            return self if isinstance(other, int) and other == 1 else self.do("by", other)
        return self.do("mul", other)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        """Return the jet with the other sign."""
        return self * -1.0

    def __sub__(self, other):
        """Subtract a jet or a number."""
        return self.do("sub", other) if isinstance(other, TracedJet) else self + -other

    def __rsub__(self, other):
        """Return a number less this jet."""
        return -self + other

    def __truediv__(self, other):
        """Divide by a jet or a number."""
        return self * (other.inverse() if isinstance(other, TracedJet) else 1 / other)

    def __rtruediv__(self, other):
        """Return a number over this jet."""
        return self.inverse() * other

    def sum(self, weights):
        """Write down a sum over the nodes, and do all such sums in one loop."""
        return TracedJet(self.tape, self.tape.sum(self.do("by", weights).code))


class Nodes(Tape):
    """A tape with one loop, over the nodes z and weights w of the integral."""

    def __init__(self):
        super().__init__([])
        self.loop, self.sums = [], []

    def sum(self, code):
        """Return a name for one more sum of the loop, which stands where the first one does."""
        if not self.sums:
            self.place, self.first = len(self.lines), self.add("sums").code
        self.sums.append(code)
        return f"{self.first}[{len(self.sums) - 1}]"

    def beside(self, effects):
        """Return the sum of effects that the theory tells apart."""
        nothing = call(self, "jet", 0)
        return reduce(operator.add, (one for one in effects if one.code != nothing))

    def body(self, results):
        """Return all that was written down, and the results."""
        if self.sums:
            inner = declared(self.loop, f"return [{', '.join(self.sums)}];")
            self.lines[self.place] = (self.first, f"sums((z, w) => {{\n{inner}\n}})")
        return declared(self.lines, f"return [{', '.join(result.code for result in results)}];")


def call(tape, name, *values):
    """Write down a call, and return its name."""
    codes = [value.code if isinstance(value, TracedJet) else tape.code(value) for value in values]
    return tape.add(f"{name}({', '.join(codes)})").code


def function(name, parameters, formula, patches=lambda tape: {}):
    """Return a function in JavaScript; a parameter with a star is a jet, and so are results."""
    tape = Nodes()

    def constant(value, **slopes):
        if any(slope != 1 for slope in slopes.values()):
            raise NotImplementedError(f"a jet with the slopes {slopes}")
        return TracedJet(tape, call(tape, "jet", value, *(SLOPES[by] for by in slopes)))

    def blank(parts):
        if np.any(parts):
            raise NotImplementedError(f"a jet of the parts {parts}")
        return constant(0)

    def where(condition, one, other):
        code = f"({tape.code(condition)} ? {one.code} : {other.code})"
        return TracedJet(tape, tape.add(code).code)

    given = [
        TracedJet(tape, one[1:]) if one[0] == "*" else Traced(tape, one)
        for one in parameters.split()
    ]
    arithmetic = {
        "Jet": blank, "constant": constant, "where": where,
        "_NODES": Traced(tape, "z"), "_WEIGHTS": Traced(tape, "w"),
        "_beside": lambda *effects: tape.beside(effects),
    }  # fmt: skip
    with mock.patch.multiple(_first_order, **arithmetic, **patches(tape)):
        body = tape.body(formula(*given))
    return f"function {name}({', '.join(parameters.replace('*', '').split())}) {{\n{body}\n}}\n"


def javascript():
    """Return the corrections of first order, from m and the slack of the equivalent on."""
    state, kind = _first_order._state, _first_order._State

    def called(tape):
        def traces(at, *others):
            found = call(tape, "traces", *at[:6], *others)
            parts = range(len(kind._fields))
            return kind(*(TracedJet(tape, tape.add(f"{found}[{i}]").code) for i in parts))

        return {"_state": traces}

    def corrections(m, slack, *point):
        given = mock.Mock(return_value=_equivalent.Equivalent(m, None, slack))
        with mock.patch.object(_equivalent, "equivalent", given):
            return _first_order.corrections(*point, gaussian=False)[:7]

    return function(
        "traces", "q kappa rho *ridge *source *nu start *t_w *t_zeta",
        lambda *given: state(_first_order._Setting(*given[:6]), *given[6:]),
    ) + function(
        "corrections", "m slack tau alpha kappa rho lam balanced", corrections, called
    )  # fmt: skip
