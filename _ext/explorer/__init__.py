"""Sphinx extension: the explorer, and small live figures in the chapters.

Both run in the reader's browser, from one script. Its formulas are the functions of `iclkit.theory`
themselves, translated by `tracer` and `jets`; its points are the book's stored simulations; its
colours are those of `iclkit.plots`. Where no script runs, and until it does, there is a picture
instead.
"""

import json
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
from docutils import nodes
from matplotlib.figure import Figure
from sphinx.util.docutils import SphinxDirective

from iclkit import book, plots, theory
from iclkit.runs import load
from iclkit.theory import _equivalent, _first_order, _fresh, bayes, descent, flow

from . import jets, short, tracer

HERE = Path(__file__).parent
PARAMETERS = ("tau", "alpha", "kappa", "rho", "lam")
SYMBOLS = {"tau": "τ", "alpha": "α", "kappa": "κ"}
AXES = {
    "t": "training time, t",
    "tau": "pretraining contexts, τ",
    "alpha": "context length, α",
    "kappa": "task diversity, κ",
}

# Fits of the book at d = 100: the parameter they run along, and those that, as in their chapters,
# are counted in d(d + 1) or d + 1, where fits have the thresholds of the theory.
SIMULATIONS = {
    "double-descent": ("tau", ["tau"]),
    "double-descent-ridge": ("tau", ["tau"]),
    "context-length-a": ("alpha", ["tau", "kappa"]),
    "context-length-b": ("alpha", ["tau", "kappa"]),
    "context-length-c": ("alpha", ["tau", "kappa"]),
    "task-diversity": ("kappa", ["tau", "kappa"]),
}

FIGURES = {
    "double-descent": {
        "start": {"tau": 2, "alpha": 10, "kappa": 0.5, "rho": 0.01, "lam": 0},
        "axis": "tau", "range": [0.1, 10], "y": "log", "sliders": ["lam", "alpha"],
        "alt": "Both errors against pretraining contexts: without a ridge they diverge at τ = 1.",
    },
    "context-length": {
        "start": {"tau": 0.5, "alpha": 10, "kappa": 0.5, "rho": 0.5, "lam": 0},
        "axis": "alpha", "range": [0.1, 1000], "y": "log", "sliders": ["rho", "kappa"],
        "alt": "Both errors against context length, of which the one on new tasks rises again.",
    },
    "effective-ridge": {
        "start": {"tau": 0.5, "alpha": 1, "kappa": 1, "rho": 0.1, "lam": 0.01},
        "axis": "tau", "range": [0.05, 20], "y": "log", "ridge": True, "sliders": ["lam", "alpha"],
        "alt": "The effective ridge against pretraining contexts: past τ = 1 it falls to λ.",
    },
    "task-diversity": {
        "start": {"tau": 2, "alpha": 10, "kappa": 1, "rho": 0.01, "lam": 0},
        "axis": "kappa", "range": [0.1, 100], "y": "log", "sliders": ["alpha", "tau"],
        "alt": "Both errors against task diversity: they come together past as many tasks as "
        "dimensions.",
    },
    "training-time": {
        "start": {"tau": 5, "alpha": 20, "kappa": 0.3, "rho": 0.1, "lam": 0},
        "axis": "t", "range": [0.03, 3000], "y": "log", "sliders": ["kappa", "lam"],
        "alt": "Both errors against training time: the one on new tasks falls, and rises again.",
    },
    "depth-polynomials": {
        "start": {"depth": 4, "alpha": 1}, "depth": True, "sliders": ["depth", "alpha"],
        "alt": "What equal and different layers leave of the task along an eigenvector, against "
        "its eigenvalue.",
    },
}  # fmt: skip
START = FIGURES["double-descent"]
DEPTHS, LENGTHS = list(range(1, 9)), [0.5, 1.0, 2.0, 4.0]


def formulas() -> str:
    """Return the theory in JavaScript."""

    def errors(*point):
        tau, alpha, kappa, rho, lam = point
        m, xi, slack = _equivalent.equivalent(tau, (1 + rho) / alpha, kappa, lam)
        return (theory.icl_error(*point), theory.idg_error(*point), xi, m, slack)

    def critical(tau, kappa):
        return [theory.critical_noise(tau, kappa, test=test) for test in ("icl", "idg")]

    def without_ridge(tau, alpha, kappa, rho, lam):
        return lam > 0

    def no_ridge_below_zero(tau, alpha, kappa, rho, lam):
        return lam < 0

    return "".join(
        (
            tracer.javascript(
                "errors", errors, PARAMETERS, never=no_ridge_below_zero, first=without_ridge
            ),
            tracer.javascript("critical", critical, ("tau", "kappa")),
            tracer.javascript(
                "bayes", lambda *point: [bayes.ridge_error(*point)], ("alpha", "rho")
            ),
            tracer.javascript(
                "oneMinus", lambda step, x: [descent._one_minus(step, x)], ("step", "x")
            ),
            tracer.javascript(
                "fresh", lambda *point: [_fresh.first_order(*point)], ("tau", "q", "rho")
            ),
            jets.javascript(),
        )
    )


def points() -> list:
    """Return simulated lines: along what, with which assignment, all parameters, and their points.

    A point is the parameter along the line, and both errors with their standard errors.
    """
    measured = {"icl_error": 4, "icl_error_se": 2, "idg_error": 4, "idg_error_se": 2}  # digits
    lines = {}
    for name, (axis, counted) in SIMULATIONS.items():
        data = load(book.data(f"{name}.nc"))
        frame = data[list(measured)].to_dataframe().reset_index()
        if "lam" not in frame:
            frame["lam"] = 0.0
        frame[counted] /= 1 + 1 / float(data.d)
        assignment = str(data.assignment.values) if "assignment" in data.coords else "uniform"
        for _, row in frame.iterrows():
            others = (float(f"{row[name]:.4g}") if name != axis else 0.0 for name in PARAMETERS)
            values = [float(f"{row[name]:.{digits}g}") for name, digits in measured.items()]
            point = [float(f"{row[axis]:.4g}"), *values]
            lines.setdefault((axis, assignment, *others), []).append(point)
    # Where the ridge is tuned to each point, there is no line.
    return [[*key[:2], list(key[2:]), some] for key, some in lines.items() if len(some) > 2]


def in_groups() -> list:
    """Return these lines with what several of them share, where their points are too, said once."""
    groups = {}
    for axis, assignment, point, some in points():
        key = (axis, assignment, tuple(x for x, *_ in some))
        groups.setdefault(key, []).append([point, [measured for _, *measured in some]])
    return [[*key, some] for key, some in groups.items()]


def polynomials() -> dict:
    """Return for each α and L the steps and the risk, of equal layers and of different ones."""

    def digits(values, most=5):
        return [float(f"{x:.{most}g}") for x in values]

    def at(alpha, depth):
        law = descent.marchenko_pastur(alpha, depth + 2)
        return {
            "tied": digits([descent.best_step(law, depth), descent.tied_risk(alpha, depth)]),
            "untied": [digits(descent.best_steps(law, depth)),
                       digits([descent.untied_risk(alpha, depth)])[0]],
        }  # fmt: skip

    def density(alpha):
        x, weight = descent.marchenko_pastur(alpha, 60)
        x, height = x[1:], weight[1:] / np.gradient(x[1:])  # an atom at zero has none
        return [digits(x[::2], 4), digits(height[::2] / np.median(height) / 4, 4)]

    return {
        "alphas": LENGTHS,
        "depths": DEPTHS,
        "steps": [[at(alpha, depth) for depth in DEPTHS] for alpha in LENGTHS],
        "density": [density(alpha) for alpha in LENGTHS],
    }


def script() -> str:
    """Return the whole script."""

    def constant(name, value):
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        # As short as JavaScript allows.
        text = re.sub(r"\b0(\.\d)|\.0\b|(?<=e-)0", r"\1", text)
        return f"const {name} = {text};\n"

    ramp = [[round(255 * part) for part in colour[:3]] for colour in plots.ordered_colours(14)]
    parts = [
        formulas(),
        (HERE / "driver.js").read_text(encoding="utf-8"),
        # The other half lies opposite.
        constant("NODES", np.transpose([_first_order._NODES, _first_order._WEIGHTS])[:8].tolist()),
        (HERE / "finite.js").read_text(encoding="utf-8"),
        (HERE / "flow.js").read_text(encoding="utf-8"),
        (HERE / "loop.js").read_text(encoding="utf-8"),
        constant("LINES", in_groups()),
        constant("RAMP", ramp),
        constant("FIGURES", FIGURES),
        constant("POLYNOMIALS", polynomials()),
        (HERE / "page.js").read_text(encoding="utf-8"),
    ]
    return short.script(f'(() => {{\n"use strict";\n{"".join(parts)}}})();\n')


def style() -> str:
    """Return the style sheet, which begins with the colours of the book, on either ground."""
    light = {name: plots.COLOURS[name] for name in ("icl", "idg", "bayes")}
    dark = {name: plots._ON_DARK[colour] for name, colour in light.items()}
    colours, on_dark = (
        "".join(f" --{name}: {colour};" for name, colour in of.items()) for of in (light, dark)
    )
    css = (HERE / "style.css").read_text(encoding="utf-8")
    return short.style(
        f".explorer, .live {{{colours} }}\n"
        f'html[data-theme="dark"] :is(.explorer, .live) {{{on_dark} }}\n{css}'
    )


def picture(spec) -> Figure:
    """Draw what a live figure shows at first."""
    figure = Figure(figsize=plots.SIZE)
    ax = figure.subplots()
    if "depth" in spec:
        depth, alpha = spec["start"]["depth"], spec["start"]["alpha"]
        law = descent.marchenko_pastur(alpha, depth + 2)
        x = np.linspace(0, (1 + alpha**-0.5) ** 2, 200)
        steps = {"idg": [descent.best_step(law, depth)] * depth}
        steps["icl"] = descent.best_steps(law, depth)
        for (test, some), name in zip(steps.items(), ("equal", "different"), strict=True):
            left = np.prod(1 - np.multiply.outer(some, x), axis=0)
            plots.theory(ax, x, left, colour=plots.COLOURS[test], label=name)
        ax.set(xlabel="eigenvalue, x", ylabel="left of the task, p(x)", ylim=(-1, 1))
        return figure
    x = np.geomspace(*spec["range"], 240)
    point = spec["start"] | {spec["axis"]: x}
    errors = flow if spec["axis"] == "t" else theory
    if "ridge" in spec:
        plots.theory(ax, x, theory.effective_ridge(**point), colour=plots.COLOURS["icl"], label="ξ")
        plots.limit(ax, x, np.full(x.shape, point["lam"]), colour=plots.COLOURS["bayes"], label="λ")
    else:
        for test, error in (("icl", errors.icl_error), ("idg", errors.idg_error)):
            colour = plots.COLOURS[test]
            plots.theory(ax, x, error(**point), colour=colour, label=test.upper())
    ax.set(xscale="log", yscale=spec.get("y", "linear"), xlabel=AXES[spec["axis"]])
    ax.set_ylabel("ridge" if "ridge" in spec else "error")
    if spec["axis"] in SYMBOLS and spec["axis"] != "alpha":
        plots.threshold(ax, 1.0, f"{SYMBOLS[spec['axis']]} = 1")
    plots.spread_labels(ax)
    return figure


def write(app):
    """Put the script, its style and the pictures beside the pages."""
    target = Path(app.outdir) / "_static" / "explorer"
    target.mkdir(parents=True, exist_ok=True)
    (target / "explorer.js").write_text(script(), encoding="utf-8")
    (target / "explorer.css").write_text(style(), encoding="utf-8")
    # Words stay words, so that a picture weighs a tenth.
    words = {"svg.fonttype": "none", "axes.formatter.use_mathtext": False}
    with mpl.rc_context(plots._STYLE | words):
        for name, spec in FIGURES.items():
            picture(spec).savefig(target / f"{name}.svg", metadata={"Date": None})


class Live(SphinxDirective):
    """Show a live figure, with the content as its caption; or the explorer, without a name."""

    has_content = True
    optional_arguments = 1

    def run(self):
        """Return the picture, the script that replaces it, and the caption."""
        name = self.arguments[0] if self.arguments else None
        if name is not None and name not in FIGURES:
            raise self.error(f"a live figure is one of {', '.join(FIGURES)}, not {name}")
        static = "../" * self.env.docname.count("/") + "_static/explorer"
        alt = FIGURES[name or "double-descent"]["alt"]
        which = f'class="live" data-live="{name}"' if name else 'class="explorer" data-explorer'
        html = (
            f'<link rel="stylesheet" href="{static}/explorer.css">'
            f'<script src="{static}/explorer.js" defer></script>'
            f'<div {which} data-alt="{alt}">'
            f'<img src="{static}/{name or "double-descent"}.svg" alt="{alt}"></div>'
        )
        if name is None:
            return [nodes.raw("", html, format="html")]
        return [
            nodes.raw("", f'<figure class="live-figure">{html}<figcaption>', format="html"),
            *self.parse_content_to_nodes(),
            nodes.raw("", "</figcaption></figure>", format="html"),
        ]


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("builder-inited", write)
    app.add_directive("explorer", Live)
    app.add_directive("live", Live)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
