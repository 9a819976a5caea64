"""Translate functions of the theory into JavaScript, by calling them.

A function is called with arguments that write down what is done to them. Where it branches on one,
both ways are taken, each in a call of its own, so that only numbers decide in JavaScript what
numbers decided here. Arguments are single numbers there: a mask that is true selects all.
"""

import math
import re
from contextlib import contextmanager
from unittest import mock

import numpy as np
from scipy.special import expit

from iclkit import _validate
from iclkit.theory import _equivalent

INFIX = {
    np.add: "+", np.subtract: "-", np.multiply: "*", np.divide: "/", np.equal: "===",
    np.not_equal: "!==", np.less: "<", np.less_equal: "<=", np.greater: ">",
    np.greater_equal: ">=", np.bitwise_and: "&&", np.logical_and: "&&",
    np.bitwise_or: "||", np.logical_or: "||",
}  # fmt: skip
CALLS = {
    np.negative: "(-{})", np.invert: "!{}", np.logical_not: "!{}", np.absolute: "Math.abs({})",
    np.sqrt: "Math.sqrt({})", np.exp: "Math.exp({})", np.log: "Math.log({})",
    np.expm1: "Math.expm1({})", np.log1p: "Math.log1p({})",
    np.hypot: "Math.hypot({}, {})", np.minimum: "Math.min({}, {})",
    np.maximum: "Math.max({}, {})", np.isinf: "(Math.abs({}) === Infinity)",
    np.isfinite: "Number.isFinite({})", expit: "expit({})",
}  # fmt: skip


class Undecided(BaseException):
    """A branch on a number that is not known: the call ends here, and is made again twice."""


class Traced(np.lib.mixins.NDArrayOperatorsMixin):
    """Stands for one number, and remembers by its code in JavaScript where it comes from."""

    shape, ndim = (), 0

    def __init__(self, tape, code):
        self.tape, self.code = tape, code

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        """Write down an elementwise function, also one that changes its argument."""
        if method != "__call__" or options.keys() - {"out"}:
            return NotImplemented
        result = self.tape.ufunc(ufunc, *inputs)
        if "out" in options:
            (target,) = options["out"]
            target.code = result.code
            return target
        return result

    def __array_function__(self, function, types, args, options):
        """Do what else the theory asks of NumPy, for a single number."""
        match function.__name__:
            case "where":
                return self.tape.where(*args)
            case "any" | "real" | "ravel" | "broadcast_to":
                return args[0]
            case "iscomplexobj":
                return False
            case "shape":
                return ()
            case "zeros_like" | "ones_like":
                return Traced(self.tape, "1" if function is np.ones_like else "0")
            case "broadcast_arrays":
                return args
            case "concatenate":
                return self.tape.beside(args[0])
        return NotImplemented

    def __getitem__(self, key):
        """Return the number: a mask has selected it, or `[()]` has unpacked it."""
        if isinstance(key, Traced):
            self.tape.require(key)
        return self

    def __setitem__(self, mask, value):
        """Become another number."""
        self.tape.require(mask)
        self.code = self.tape.code(value)

    def __bool__(self):
        """Say which way a branch goes."""
        return self.tape.decide(self)

    def copy(self):
        """Return another one, which can be changed by itself."""
        return Traced(self.tape, self.code)

    def reshape(self, *shape):
        """Return the number, which has no shape."""
        return self


class Tape:
    """What one call has written down: lines of JavaScript, and what is known of conditions."""

    def __init__(self, decisions):
        self.decisions = list(decisions)
        self.lines, self.names, self.facts = [], {}, {}
        self.loop = None  # lines of the loop that is being written, else None

    def code(self, value):
        """Return a traced value or a number as it is written in JavaScript."""
        if isinstance(value, Traced):
            return value.code
        value = value.item() if isinstance(value, (np.ndarray, np.generic)) else value
        if isinstance(value, bool):
            return "true" if value else "false"
        if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "(-Infinity)"
        text = repr(float(value)).removesuffix(".0")
        return f"({text})" if text[0] == "-" else text

    def known(self, code):
        """Return what a condition is on the way that is taken, or None."""
        return {"true": True, "false": False}.get(code, self.facts.get(code))

    def add(self, expression):
        """Return a name for an expression, the same for the same."""
        if expression not in self.names:
            # What does not depend on what a loop is over is computed before it.
            inside = self.loop is not None and re.search(r"\b(?:r\d+|[zw])\b", expression)
            lines, letter = (self.loop, "r") if inside else (self.lines, "v")
            self.names[expression] = f"{letter}{len(lines)}"
            lines.append((self.names[expression], expression))
        return Traced(self, self.names[expression])

    def ufunc(self, ufunc, *inputs):
        """Write down an elementwise function of NumPy or SciPy."""
        codes = [self.code(value) for value in inputs]
        if ufunc is np.power:
            if codes[1] not in ("2", "3", "4"):
                raise NotImplementedError(f"a power of {codes[1]}")
            return self.add(f"({' * '.join([codes[0]] * int(codes[1]))})")
        if INFIX.get(ufunc) in ("&&", "||"):
            decisive = INFIX[ufunc] == "||"
            for one, other in (codes, codes[::-1]):
                if self.known(one) is not None:
                    return Traced(
                        self, self.code(decisive) if self.known(one) is decisive else other
                    )
        if ufunc is np.multiply and "false" in codes:
            return Traced(self, "false")
        if ufunc is np.maximum and self.known(self.ufunc(np.less, *inputs).code) is False:
            return Traced(self, codes[0])
        if ufunc in INFIX:
            return self.add(f"({codes[0]} {INFIX[ufunc]} {codes[1]})")
        if ufunc in CALLS:
            return self.add(CALLS[ufunc].format(*codes))
        raise NotImplementedError(f"{ufunc.__name__} has no translation")

    def where(self, condition, yes, no):
        """Write down a choice, if it still is one."""
        condition, yes, no = map(self.code, (condition, yes, no))
        if self.known(condition) is not None:
            return Traced(self, yes if self.known(condition) else no)
        return self.add(f"({condition} ? {yes} : {no})")

    def require(self, mask):
        """Refuse a mask that is not known to be true."""
        if self.known(self.code(mask)) is not True:
            raise NotImplementedError("a mask that was not asked for by `if np.any(mask)`")

    def learn(self, condition, holds):
        """Keep what has been decided, and what follows for a comparison with the same number."""
        self.facts[condition] = holds
        expression = next((e for e, name in self.names.items() if name == condition), "")
        if pair := re.fullmatch(r"\((\S+) ([<>]) (\S+)\)", expression):
            a, sign, b = pair.groups()
            equal = self.add(f"({a} === {b})").code
            other = self.add(f"({a} {'<' if sign == '>' else '>'} {b})").code
            if holds:
                self.facts |= {equal: False, other: False}
            elif self.facts.get(other) is False:
                self.facts[equal] = True

    def decide(self, condition):
        """Say which way to go, or stop here."""
        code = condition.code
        if self.known(code) is None:
            if self.loop is not None:
                raise NotImplementedError("a branch within a search for a root")
            if not self.decisions:
                raise Undecided(code)
            self.learn(code, self.decisions.pop(0))
        return self.known(code)

    def beside(self, numbers):
        """Refuse numbers along an axis."""
        raise NotImplementedError("more than a single number")

    def find_root(self, function, args):
        """Write down the search for a root, whose loop is in driver.js."""
        if self.loop is not None:
            raise NotImplementedError("a search for a root within another one")
        self.loop = []
        value = self.code(function(Traced(self, "z"), *args))
        body = declared(self.loop, f"return {value};")
        inner = {name for name, _ in self.loop}
        self.names = {e: name for e, name in self.names.items() if name not in inner}
        self.loop = None
        return self.add(f"findRoot(z => {{\n{body}\n}})")


@contextmanager
def tracing(tape):
    """Let traced numbers pass the checks of arguments, and write down searches for roots."""

    def passed(name, value):
        return value

    search = {
        "root": lambda function, args: tape.find_root(function, args),
        "root_between": lambda function, ends, args: (tape.find_root(function, args), True),
    }
    checks = dict.fromkeys(("positive", "nonnegative", "signed"), passed)
    with (
        mock.patch.multiple(_validate, **checks),
        mock.patch.multiple(_equivalent, **search),
    ):
        yield


def declared(lines, end):
    """Return code with constants before it, of those that it needs; what is used once is put in."""
    for name, expression in reversed(lines):
        uses = [match.start() for match in re.finditer(rf"\b{name}\b", end)]
        # Not into a loop, where it would be computed again and again.
        in_loop = uses and end[: uses[0]].count("=> {") > end[: uses[0]].count("\n})")
        if len(uses) == 1 and not in_loop and "=> {" not in expression:
            before, after = end[: uses[0]], end[uses[0] + len(name) :]
            end = f"{before}{within(before, expression, after)}{after}"
        elif uses:
            more = end.removeprefix("const ")
            end = f"const {name} = {bare(expression)}{';' if more == end else ','}\n{more}"
    return end


def bare(expression):
    """Return an expression without the parentheses around all of it."""
    depth = 0
    for i, sign in enumerate(expression):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return expression if i < len(expression) - 1 or sign != ")" else expression[1:-1]
    return expression


def within(before, expression, after):
    """Return an expression with the parentheses it needs: those that decide how it is rounded."""
    inner = bare(expression)
    outside = inner
    while outside != (outside := re.sub(r"[(\[][^()\[\]]*[)\]]", "", outside)):
        pass
    signs = set(re.findall(r" (\S+) ", outside))
    left, right = before.rstrip()[-1:], after.lstrip()[:1]
    alone = left in "(,[" and right in "),]"
    if signs <= {"*", "/"}:
        alone = alone or left not in "*/!" + inner[0]
    elif signs <= {"*", "/", "+", "-"}:
        alone = alone or (left in "(,[?:<>&|" and right in "+-),;]?:<>&|")
    return inner if alone else expression


def javascript(name, function, parameters, *, never=None, first=None):
    """Return a JavaScript function that does with single numbers what the given function does.

    Both `never` and `first` are functions of the parameters. The first returns a condition that is
    not to be considered, the second one to decide about before all others.
    """

    def block(decisions, written):
        tape = Tape(decisions)
        arguments = [Traced(tape, parameter) for parameter in parameters]
        try:
            if never is not None:
                tape.learn(never(*arguments).code, False)
            if first is not None:
                tape.decide(first(*arguments))
            with tracing(tape):
                results = function(*(argument.copy() for argument in arguments))
        except Undecided as stop:
            ways = [block([*decisions, way], len(tape.lines)) for way in (True, False)]
            end = f"if ({stop}) {{\n{ways[0]}\n}} else {{\n{ways[1]}\n}}"
        else:
            end = f"return [{', '.join(tape.code(result) for result in results)}];"
        return declared(tape.lines[written:], end)

    return f"function {name}({', '.join(parameters)}) {{\n{block([], 0)}\n}}\n"
