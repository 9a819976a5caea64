/* Drawing, controls and state. What is computed comes from the functions above, made of iclkit. */

const spaced = (low, high, n, log) => Array.from({ length: n }, (_, i) => i / Math.max(n - 1, 1))
  .map(part => log ? low * (high / low) ** part : low + (high - low) * part);
const PARAMETERS = {
  tau: { symbol: "τ", name: "pretraining contexts, n/d²", low: 0.01, high: 100, endless: true },
  alpha: { symbol: "α", name: "context length, ℓ/d", low: 0.1, high: 1000, endless: true },
  kappa: { symbol: "κ", name: "task diversity, k/d", low: 0.01, high: 100, endless: true },
  rho: { symbol: "ρ", name: "label noise", low: 0.001, high: 10, zero: true },
  lam: { symbol: "λ", name: "ridge", low: 1e-4, high: 100, zero: true },
};
const NAMES = Object.keys(PARAMETERS);
PARAMETERS.d = { symbol: "d", name: "dimension", whole: true, endless: true,
  values: [10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500, 1000, Infinity] };
PARAMETERS.t = { symbol: "t", name: "training time", low: 0.01, high: 1e4, zero: true, endless: true };
PARAMETERS.L = { symbol: "L", name: "applications", whole: true, values: spaced(1, 16, 16) };
const TESTS = { icl: "new tasks", idg: "pretraining tasks" };
const STEPS = 240;

// Small helpers -------------------------------------------------------------------------------

const at = state => NAMES.map(name => state[name]);
const limit = state => errors(...at(state));
// While training goes on, and of a layer that is applied again, there is a theory of the limit only.
const deep = state => state.axis === "L" || state.axis !== "t" && state.L > 1;
const timed = state => state.t < Infinity && !deep(state);
const bounded = state => state.d < Infinity && !timed(state) && !deep(state) && state.axis !== "t";
const errorsAt = state => deep(state) ? looped(...at(state), state.L).map(found => found[state.L]) : timed(state) ? trained(...at(state), state.t) : bounded(state) ? finite(...at(state), state.d, state.assignment === "balanced") : limit(state);
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const superscript = n => String(n).replace(/./g, c => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻");

function say(x, digits = 3) {
  if (x === Infinity) return "∞";
  if (isNaN(x)) return "–";
  if (x === 0) return "0";
  if (Math.abs(x) >= 1e-3 && Math.abs(x) < 1e5) return String(+x.toPrecision(digits));
  const exponent = Math.floor(Math.log10(Math.abs(x)) + 1e-9);
  const front = +(x / 10 ** exponent).toPrecision(digits);
  return `${front === 1 ? "" : `${front}·`}10${superscript(exponent)}`;
}

const signed = x => x > 0 ? `+${say(x)}` : say(x).replace("-", "−");

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false) made.setAttribute(name, value === true ? "" : value);
  made.append(...children);
  return made;
}

/* Call at most once a frame, and `later` when there was nothing to do for a while. */
function steady(now, later) {
  let frame = 0, timer = 0;
  return () => {
    frame ||= requestAnimationFrame(() => { frame = 0; now(); });
    clearTimeout(timer);
    timer = setTimeout(later, 300);
  };
}

// A slider with a field for exact values ---------------------------------------------------------

const value = (p, step) => p.values ? p.values[step] : p.zero && step === 0 ? 0
  : p.endless && step === STEPS ? Infinity : +(p.low * (p.high / p.low) ** (step / STEPS)).toPrecision(3);
const step = (p, x) => p.values ? p.values.filter(one => one < x).length : x === Infinity ? STEPS
  : x === 0 ? 0 : clamp(Math.round(STEPS * Math.log(x / p.low) / Math.log(p.high / p.low)),
    p.zero ? 1 : 0, p.endless ? STEPS - 1 : STEPS);

/* The number that a text means, or null where the parameter can't have it. */
function parsed(p, text) {
  const x = /^(∞( \(limit\))?|inf|infinity)$/i.test(text.trim()) ? Infinity : Number(text.trim() || NaN);
  const allowed = p.whole ? x >= 1 && x < (p.endless ? 1e7 : 17) && x % 1 === 0 : x >= 1e-75 && x <= 1e75 || x === 0 && p.zero;
  return allowed || x === Infinity && p.endless ? x : null;
}

const wanted = p => p.whole && !p.endless ? `${p.symbol} takes whole numbers from 1 to 16.` : `${p.symbol} takes ${p.zero ? "0 and numbers above" : `${p.whole ? "whole " : ""}numbers above 0`}${p.endless ? ", and inf" : ""}.`;

let identities = 0;

function slider(p, state, name, changed) {
  const id = `explorer-${++identities}`, last = p.values ? p.values.length - 1 : STEPS;
  const range = element("input", { id, type: "range", min: 0, max: last, oninput: () => {
    state[name] = value(p, Number(range.value)), show(), changed();
  } });
  const field = p.values && !p.whole ? element("output", { for: id }) : element("input", { type: "text", inputmode: "decimal", size: 6,
    "aria-label": `${p.symbol}, exact value`, onchange: () => {
      const x = parsed(p, field.value);
      if (x !== null) state[name] = x, changed();
      show();
      refused.textContent = x === null ? wanted(p) : "";
    } });
  const refused = element("span", { class: "refused", role: "status" });
  function show() {
    refused.textContent = "";
    const text = p.whole ? state[name] < Infinity ? state[name] : "∞ (limit)" : say(state[name]);
    range.value = step(p, state[name]);
    range.setAttribute("aria-valuetext", state[name] === Infinity ? p.whole ? "infinite, the limit" : "infinite" : text);
    field.value = text;
  }
  show();
  const symbol = element("i", {}, p.symbol);
  return { show, row: element("div", { class: "slider" },
    element("label", { for: id }, symbol, ` ${p.name}`),
    field, range, refused) };
}

function choice(legend, options, state, name, changed) {
  const group = `explorer-${++identities}`, inputs = {};
  const labels = Object.entries(options).map(([key, text]) => {
    inputs[key] = element("input", { type: "radio", name: group, value: key,
      onchange: () => { state[name] = key, changed(); } });
    return element("label", {}, inputs[key], element("span", {}, text));
  });
  const show = () => { inputs[state[name]].checked = true; };
  show();
  return { show, row: element("fieldset", { class: "choice" },
    element("legend", {}, legend), ...labels) };
}

// Curves and points ------------------------------------------------------------------------------

/* The nearest value with whole n, ℓ or k. */
const rounded = (x, axis, state) => {
  const unit = bounded(state) ? axis === "tau" ? state.d ** 2 : state.d : Infinity;
  return x * unit < Infinity ? Math.max(whole(x * unit), 1) / unit : x;
};

const pole = state => bounded(state) ? 1 + 1 / state.d : 1;

/* Where to compute: evenly, and closer and closer to where a curve has a pole or a bend. */
function places(axis, state, [low, high], log) {
  if (axis === "L") return spaced(1, high, high);
  const n = bounded(state) ? 200 : 300, bend = axis === "tau" ? pole(state) : axis === "kappa" ? Math.min(state.tau, 1) : 0;
  const close = bend > low && bend < high
    ? spaced(0.7, 1e-5, n / 6, true).flatMap(part => [bend * (1 - part), bend * (1 + part)]) : [];
  const inside = close.filter(x => x > low && x < high);
  return [...new Set([...spaced(low, high, n - inside.length, log), ...inside].sort((a, b) => a - b)
    .map(x => rounded(x, axis, state)))];
}

function curves(axis, state, range, log) {
  const x = places(axis, state, range, log), along = axis === "L" && looped(...at(state), x.length);
  const found = x.map((one, i) => along ? along.map(e => e[one]) : errorsAt({ ...state, [axis]: one }));
  const sure = found.map(values => !bounded(state) || !doubt(state, values));
  return [0, 1, 2].map(i => ({ x, y: found.map(values => values[i]), sure }));
}

const near = (a, b) => a === b || Math.abs(Math.log(a / b)) < 0.03;

const POINTS = LINES.flatMap(([axis, assignment, x, lines]) => lines.flatMap(([point, some]) =>
  some.map((measured, i) => [...point.with(NAMES.indexOf(axis), x[i]), ...measured, axis, assignment])));

/* The book's simulations at these parameters, but for the one on the axis. */
const simulations = (axis, state) => timed(state) || deep(state) || axis === "t" ? [] : POINTS.filter(point => NAMES.every((name, i) =>
  name === axis || near(point[i], state[name])) && (!bounded(state) || state.d === 100 && point[10] === state.assignment));

// A panel ----------------------------------------------------------------------------------------

function ticks({ low, high, log }, most) {
  if (!log) {
    const raw = (high - low) / most, unit = 10 ** Math.floor(Math.log10(raw));
    const gap = unit * [1, 2, 5, 10].find(f => f * unit >= raw * 0.999), first = Math.ceil(low / gap);
    return spaced(first, Math.floor(high / gap + 1e-9), Math.floor(high / gap + 1e-9) - first + 1)
      .map(i => +(i * gap).toPrecision(6));
  }
  const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
  const every = Math.ceil((last - first + 1) / most) || 1;
  const decades = spaced(first, last, last - first + 1).filter(e => e % every === 0);
  if (last - first > 1) return decades.map(e => +`1e${e}`);
  return decades.flatMap(e => [1, 2, 5].map(f => +`${f}e${e}`)).concat(+`2e${first - 1}`, +`5e${first - 1}`)
    .filter(x => x >= low * 0.999 && x <= high * 1.001);
}

/* Draw axes, lines, points, thresholds and markers into an SVG; return where a value lies. */
function panel(svg, { x, y, lines, points = [], thresholds = [], notes = [], markers = [], area, frame }) {
  const width = svg.clientWidth || 600, height = Number(svg.dataset.height);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const [left, right, top, bottom] = [52, frame ? 12 : width < 480 ? 14 : 118, 20, 48];
  const place = ({ low, high, log }, a, b) => log
    ? value => a + (b - a) * Math.log(value / low) / Math.log(high / low)
    : value => a + (b - a) * (value - low) / (high - low);
  const px = place(x, left, width - right), py = place(y, height - bottom, top);
  const clip = `explorer-${svg.dataset.clip ||= ++identities}`;
  const out = [`<clipPath id="${clip}"><rect x="${left}" y="${top - 4}"
    width="${width - left - right}" height="${height - top - bottom + 4}"/></clipPath>`];
  const text = (a, b, said, how = "") => `<text x="${a.toFixed(1)}" y="${b.toFixed(1)}" ${how}>${said}</text>`;
  out.push(`<path class="axis" d="M${left} ${top}V${height - bottom}H${width - right}"/>`);
  for (const one of ticks(x, width < 480 ? 4 : 7))
    out.push(`<path class="axis" d="M${px(one)} ${height - bottom}v5"/>`,
      text(px(one), height - bottom + 19, say(one), `text-anchor="middle"`));
  for (const one of ticks(y, 6))
    out.push(`<path class="axis" d="M${left} ${py(one)}h-5"/>`,
      text(left - 9, py(one) + 4.5, say(one), `text-anchor="end"`));
  out.push(text((left + width - right) / 2, height - 6, x.label, `text-anchor="middle" class="name"`));
  out.push(`<text transform="translate(13 ${(top + height - bottom) / 2}) rotate(-90)"
    text-anchor="middle" class="name">${y.label}</text>`);
  for (const { at: where, name } of thresholds) if (where > x.low && where < x.high)
    out.push(`<path class="threshold" d="M${px(where)} ${top}V${height - bottom}"/>`,
      text(px(where) + (frame ? 5 : 13), top + (frame ? 16 : 6), name, `class="aside"`));
  const path = (xs, ys) => {
    let d = "", pen = "M";
    for (let i = 0; i < xs.length; i++) {
      const b = py(ys[i]);
      if (!Number.isFinite(b)) { pen = "M"; continue; }
      d += `${pen}${px(xs[i]).toFixed(1)} ${clamp(b, -1e4, 1e4).toFixed(1)}`, pen = "L";
    }
    return d;
  };
  out.push(`<g clip-path="url(#${clip})">`);
  if (area) out.push(`<path class="area" d="${path(area.x, area.y)}L${px(area.x.at(-1))} ${py(0)}L${px(area.x[0])} ${py(0)}Z"/>`);
  for (const line of lines)
    out.push(`<path class="line ${line.kind}" d="${path(line.x, line.y)}"/>`);
  for (const { x: a, y: b, error, kind } of points)
    out.push(`<path class="bar ${kind}" d="M${px(a).toFixed(1)} ${py(b + error).toFixed(1)}V${py(y.log ? Math.max(b - error, y.low) : b - error).toFixed(1)}"/>`,
      `<circle class="point ${kind}" cx="${px(a).toFixed(1)}" cy="${py(b).toFixed(1)}" r="3"/>`);
  for (const note of notes) out.push(text(px(note.x), py(note.y), note.text, `class="aside"`));
  for (const { x: a, y: b, kind } of markers) if (Number.isFinite(py(b)))
    out.push(`<circle class="marker ${kind}" cx="${px(clamp(a, x.low, x.high))}" cy="${py(b)}" r="6"/>`);
  out.push("</g>");
  // The name of a line stands at its end, or, on a phone, above the panel; names keep apart.
  const named = lines.filter(line => line.name).map(line => {
    const shown = line.y.findLastIndex(value => Number.isFinite(py(value)));
    return { line, y: clamp(py(line.y[shown] ?? y.low), top, height - bottom) };
  }).sort((a, b) => a.y - b.y);
  named.forEach((one, i) => { if (i) one.y = Math.max(one.y, named[i - 1].y + 17); });
  const over = Math.max(0, (named.at(-1)?.y ?? 0) - (height - bottom));
  let next = left + 4;
  for (const { line, y: b } of named)
    if (right > 20) out.push(text(width - right + 8, b - over + 4.5, line.name, `class="label ${line.kind}"`));
    else out.push(text(next, 12, line.name, `class="label ${line.kind}"`)), next += 8 * line.name.length + 18;
  svg.innerHTML = out.join("");
  return { px, py, left, right, top, bottom, width, height };
}

/* A range for errors that does not jump with every step, and lets what diverges leave the frame. */
function bounds(lines, { low: first, high: last, log: across }, log) {
  const even = spaced(first, last, 60, across), all = lines.flatMap(({ x, y }) => {
    let i = 0;
    return even.map(one => { while (i < x.length - 1 && x[i] < one) i++; return y[i]; });
  }).filter(value => value > 0 && Number.isFinite(value)).sort((a, b) => a - b);
  if (!all.length) return [log ? 0.1 : 0, 1];
  // Most of both lines is shown, and twice as much where they go on rising.
  const nice = x => { const unit = 10 ** Math.floor(Math.log10(x)); return unit * (log ? [1, 2, 5, 10] : [1, 1.5, 2, 3, 5, 7, 10]).find(f => f * unit >= x); };
  const high = nice(Math.min(all.at(-1) * 1.02, all[Math.floor(0.85 * (all.length - 1))] * (log ? 5 : 2)));
  return log ? [1 / nice(1 / (all[0] * 0.98)), high] : [0, high];
}

function drawing(height, ...classes) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", classes.join(" "));
  svg.setAttribute("role", "img");
  svg.dataset.height = height;
  svg.style.height = `${height}px`;
  return svg;
}

function summary(state) {
  const told = ([icl, idg]) => `error on new tasks ${say(icl)}, on pretraining tasks ${say(idg)}`, found = errorsAt(state);
  const time = deep(state) ? `, L = ${state.L}` : timed(state) ? `, t = ${say(state.t)}` : "";
  return `${NAMES.map(name => `${PARAMETERS[name].symbol} = ${say(state[name])}`).join(", ")}${time}${bounded(state)
    ? `, d = ${state.d}: ${told(found)}; in the limit ${told(limit(state))}. ${doubt(state, found)}` : `: ${told(found)}.`}`;
}

/* What iclkit warns of, or refuses, at a finite d. */
function doubt({ d, lam }, [icl, idg, onNew, onOld, n, ell, k]) {
  if (![n, ell, k].every(size => size >= 1) || n + ell === Infinity) return "At a finite d, τ and α are finite, and n, ℓ and k at least 1.";
  if (isNaN(icl + idg)) return "The expansion in 1/d has no digits here.";
  const worst = Math.abs(onNew) > Math.abs(onOld) ? onNew : onOld;
  return (Math.abs(worst) > 1 / 3 ? `The term of order 1/d is ${signed(worst)} of the limit: terms that are left out may be as large as its square. ` : "")
    + (k <= 10 ? `With ${k} task${k > 1 ? "s" : ""}, terms of order 1/k² that are left out can be several per cent: the expansion is for k above 10. ` : "")
    + (lam === 0 && Math.abs(n - d * (d + 1)) <= d + 1 ? "So close to n = d(d + 1) the expansion says nothing." : "");
}

const THRESHOLDS = {
  tau: state => [{ at: pole(state), name: bounded(state) ? "n = d(d + 1)" : "τ = 1" }],
  kappa: state => [{ at: Math.min(state.tau, 1), name: state.tau < 1 ? "κ = τ" : "κ = 1" }],
  alpha: () => [],
  t: () => [],
  L: () => [],
};

/* Both errors, or the effective ridge, against one parameter; return the simulations shown. */
function drawCurves(svg, state, { axis, log, logy, ridge, range }) {
  const found = curves(axis, state, range, log), here = errorsAt(state), endless = { ...state, d: Infinity };
  const lines = ridge
    ? [{ ...found[2], kind: "icl", name: "effective, ξ" },
       { x: range, y: [state.lam, state.lam], kind: "dotted", name: "ridge, λ" }]
    : Object.keys(TESTS).map((kind, i) => ({ ...found[i], kind,
      name: svg.clientWidth >= 480 ? TESTS[kind] : kind.toUpperCase() }));
  // At a finite d a line is dashed but for where the expansion is to be trusted, and the limit is dotted.
  if (bounded(state)) lines.splice(0, 2, ...curves(axis, endless, range, log).slice(0, 2)
    .map((line, i) => ({ ...line, kind: `dotted ${lines[i].kind}` })),
    ...lines.flatMap(line => [{ ...line, kind: `dashed ${line.kind}` },
      { ...line, name: "", y: line.y.map((error, i) => line.sure[i] ? error : NaN) }]));
  if (axis === "t") lines.unshift(...Object.keys(TESTS).map((kind, i) => {
    const last = limit(state)[i];
    return { x: range, y: [last, last], kind: `dotted ${kind}` };
  }));
  const some = ridge ? [] : simulations(axis, state);
  const i = NAMES.indexOf(axis);
  const points = some.flatMap(p => [["icl", 5], ["idg", 7]].map(([kind, j]) =>
    // At their own d they are where their n and k are.
    ({ x: p[i] * (bounded(state) && (axis === "tau" || axis === "kappa" && p[9] !== "tau") ? 1.01 : 1),
      y: p[j], error: p[j + 1], kind }))).filter(p => p.x >= range[0] && p.x <= range[1]);
  const x = { low: range[0], high: range[1], log, label: `${PARAMETERS[axis].name.split(",")[0]}, ${PARAMETERS[axis].symbol}` };
  const [low, high] = ridge ? [1e-3, 100] : bounds(lines, x, logy);
  panel(svg, {
    x,
    y: { low, high, log: logy, label: ridge ? "ridge" : "error" },
    lines, points, thresholds: THRESHOLDS[axis](state),
    markers: (ridge ? [[2, "icl"]] : [[1, "idg"], [0, "icl"]])
      .map(([i, kind]) => ({ x: rounded(state[axis], axis, state), y: here[i], kind })),
  });
  return some;
}

const RANGES = { tau: [0.05, 20], alpha: [0.1, 1000], kappa: [0.05, 100], t: [0.01, 1e4], L: [1, 16] };
const LINEAR = { tau: [0.02, 4], alpha: [0.1, 30], kappa: [0.02, 4], t: [0.02, 40], L: [1, 16] };

// The map of one error over τ and κ --------------------------------------------------------------

const MAP = { low: 0.05, high: 20, log: true }, BANDS = 14;

/* Draw the map, coarse at once or fine in pieces; return what stops the drawing. */
function heat(canvas, state, test, n, done) {
  const which = Object.keys(TESTS).indexOf(test), side = spaced(MAP.low, MAP.high, 24, true);
  const error = (tau, kappa) => limit({ ...state, tau, kappa })[which];
  const probe = side.flatMap(t => side.map(k => error(t * 1.003, k))).filter(Number.isFinite).sort((a, b) => a - b);
  const low = Math.log(probe[0]), high = Math.max(Math.log(probe[Math.floor(0.93 * probe.length)]), low + 1e-6);
  const image = new ImageData(n, n), places = spaced(MAP.low, MAP.high, 2 * n + 1, true);
  let row = 0, timer = 0;
  (function some() {
    const start = performance.now();
    for (; row < n && performance.now() - start < 12; row++)
      for (let column = 0; column < n; column++) {
        const e = error(places[2 * column + 1], places[2 * (n - row) - 1]);
        const part = clamp((Math.log(e) - low) / (high - low), 0, 1);
        image.data.set([...RAMP[Math.min(Math.floor(part * BANDS), BANDS - 1)], 255], 4 * (row * n + column));
      }
    if (row < n) { timer = setTimeout(some); return; }
    canvas.width = canvas.height = n;
    canvas.getContext("2d").putImageData(image, 0, 0);
    done([Math.exp(low), Math.exp(high)]);
  })();
  return () => clearTimeout(timer);
}

/* Where the noise is critical for new tasks: the κ below which a finite context is best. */
function border(rho) {
  const x = [], y = [];
  for (const tau of spaced(MAP.low, MAP.high, 120, true)) {
    const over = findRoot(z => critical(tau, Math.exp(z))[0] > rho ? 1 : -1);
    x.push(tau), y.push(Math.exp(over));
  }
  return { x, y };
}

// The page ---------------------------------------------------------------------------------------

const START = { tau: 0.5, alpha: 10, kappa: 0.5, rho: 0.01, lam: 0, d: Infinity, t: Infinity, L: 1, assignment: "uniform", axis: "tau", x: "log", y: "log", map: "icl" };
const OPTIONS = { assignment: { uniform: "uniform", balanced: "balanced" }, axis: { tau: "τ", alpha: "α", kappa: "κ", t: "t", L: "L" }, x: { log: "log", linear: "linear" },
  y: { log: "log", linear: "linear" }, map: TESTS };
const PRESETS = {
  "double descent": {},
  "a ridge against the peak": { kappa: Infinity, lam: 0.1 },
  "the best context length": { axis: "alpha", tau: 0.5, alpha: 10, kappa: 0.3, rho: 0.5 },
  "task diversity": { axis: "kappa", tau: 2, alpha: 10, kappa: 1, rho: 0.01 },
  "training time": { axis: "t", tau: 5, alpha: 20, kappa: 0.3, rho: 0.1 },
  "a layer applied again": { axis: "L", tau: 4, alpha: 2, kappa: 3, rho: 0.1 },
  "a finite dimension": { alpha: 1, kappa: 1, rho: 0.1, d: 20 },
};

function restore(state, hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  for (const [name, text] of given)
    if (OPTIONS[name]?.[text]) state[name] = text;
    else if (PARAMETERS[name]) state[name] = parsed(PARAMETERS[name], text) ?? state[name];
}

const number = x => x === Infinity ? "inf" : String(x);
const fragment = state => "#" + Object.keys(START).map(name =>
  `${name}=${typeof state[name] === "string" ? state[name] : number(state[name])}`).join("&");

const call = state => deep(state) ? `from iclkit.theory.loop import loop_error

inf = float("inf")
point = dict(${NAMES.map(name => `${name}=${number(state[name])}`).join(", ")}, depth=${state.L})
print(*(loop_error(**point, test=test)[-1] for test in ("icl", "idg")))
` : `from iclkit${timed(state) ? ".theory.flow" : ""} import icl_error, idg_error

inf = float("inf")
point = dict(${NAMES.map(name => `${name}=${number(state[name])}`).join(", ")}${bounded(state) ? `, d=${state.d}, assignment="${state.assignment}"` : timed(state) ? `, t=${state.t}` : ""})
print(icl_error(**point), idg_error(**point))
`;

const table = (state, { axis, range, log }) => deep(state) || timed(state) || axis === "t" ? [
  `${NAMES},${deep(state) ? "L" : "t"},icl_error,idg_error`,
  ...places(axis, state, range, log).map(one => ({ ...state, [axis]: one })).map(one =>
    [...at(one), one[deep(state) ? "L" : "t"], ...errorsAt(one).slice(0, 2)].map(number).join(","))].join("\n") + "\n" : [
  `${NAMES},${bounded(state) ? "d,assignment,icl_error,idg_error,icl_limit,idg_limit" : "icl_error,idg_error,effective_ridge"}`,
  ...places(axis, state, range, log).map(one => ({ ...state, [axis]: one })).map(one => [...at(one), ...bounded(one)
    ? [one.d, one.assignment, ...errorsAt(one).slice(0, 2), ...limit(one).slice(0, 2)] : limit(one).slice(0, 3)].map(number).join(","))].join("\n") + "\n";

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // a browser that asks for more than a folder
    const area = element("textarea", {}, text);
    document.body.append(area), area.select(), document.execCommand("copy"), area.remove();
  }
}

function explorer(root) {
  const state = { ...START };
  restore(state, location.hash);
  let stop = () => {}, scale = [1, 1];

  const plot = drawing(400, "plot"), over = drawing(340, "over"), canvas = element("canvas", {
    width: 1, height: 1, "aria-hidden": true });
  const map = element("div", { class: "map" }, canvas, over);
  const readings = element("table", { class: "readings" }), doubted = element("p", { class: "refused" }), said = element("p", { class: "said" });
  const key = element("p", { class: "key" });
  const status = element("p", { role: "status", class: "status" });
  const note = element("p", { class: "copied", role: "status" });

  const changed = steady(draw, idle);
  const controls = [
    ...Object.keys(PARAMETERS).map(name => slider(PARAMETERS[name], state, name, changed)),
    choice("tasks", OPTIONS.assignment, state, "assignment", changed),
    choice("against", OPTIONS.axis, state, "axis", changed),
    choice("across", OPTIONS.x, state, "x", changed),
    choice("up", OPTIONS.y, state, "y", changed),
    choice("map", OPTIONS.map, state, "map", changed),
  ];
  const rows = controls.map(control => control.row);

  /* What is chosen is in the panel, also where it was typed. */
  function across() {
    const { axis, [axis]: chosen } = state, log = state.x === "log";
    let [low, high] = (log ? RANGES : LINEAR)[axis];
    if (chosen > high && chosen < Infinity) high = chosen * (log ? 1.5 : 1.05);
    if (chosen < low && chosen > 0 && log) low = chosen / 1.5;
    return { axis, log, range: [low, high] };
  }

  function draw() {
    const some = drawCurves(plot, state, { ...across(), logy: state.y === "log" });
    said.textContent = (some.length
      ? `Points: ${some.length} simulations of the book at d = 100.`
      : `No simulation of the book is at these parameters${bounded(state) ? " and this d" : ""}.`)
      + (bounded(state) ? " Dotted: the limit. Dashed: where the expansion is not to be trusted." : "");
    rows[8].style.display = bounded(state) ? "" : "none";
    read();
    stop(), stop = heat(canvas, state, state.map, 36, overlay);
  }

  function overlay(range) {
    if (range) scale = range;
    const lines = [{ x: [MAP.low, 1, MAP.high], y: [MAP.low, 1, 1], kind: "threshold" }];
    const divided = state.lam === 0 && state.map === "icl" && state.rho > 0;
    if (divided) lines.push({ ...border(state.rho), kind: "critical" });
    const { left, right, top, bottom, width, height } = panel(over, {
      x: { ...MAP, label: "pretraining contexts, τ" }, y: { ...MAP, label: "task diversity, κ" },
      lines, thresholds: [{ at: 1, name: "τ = 1" }], frame: true,
      notes: divided ? [{ x: 1.15, y: 0.062, text: "a finite α is best" }] : [],
      markers: [{ x: clamp(state.tau, MAP.low, MAP.high), y: clamp(state.kappa, MAP.low, MAP.high), kind: "here" }],
    });
    Object.assign(canvas.style, { left: `${left}px`, top: `${top}px`,
      width: `${width - left - right}px`, height: `${height - top - bottom}px` });
    key.replaceChildren(say(scale[0], 2), element("span", { class: "ramp", "aria-hidden": true,
      style: `background: linear-gradient(to right, ${RAMP.map(colour => `rgb(${colour})`)})` }), `${say(scale[1], 2)} and more${bounded(state) ? ", in the limit" : timed(state) ? ", at the end of training" : deep(state) ? ", applied once" : ""}`);
  }

  function read() {
    const sized = bounded(state), found = errorsAt(state), [icl, idg, xi] = limit(state), only = sized ? ", limit" : timed(state) ? ", at the end" : deep(state) ? ", applied once" : "";
    const row = (name, span, ...told) => `<tr><th scope="row">${name}</th>${told.map(one => `<td colspan="${span}">${one}</td>`).join("")}</tr>`;
    const one = (name, told) => row(name, sized ? 4 : 2, told);
    const line = (name, changes) => {
      const here = { ...state, ...changes }, own = errorsAt(here), far = limit(here);
      return row(name, 1, ...[0, 1].flatMap(i => sized ? [own[i], far[i]] : [own[i]]).map(error => say(error, 4)));
    };
    const [ofNew] = critical(state.tau, state.kappa);
    const sign = (a, b) => a < b ? "<" : a > b ? ">" : "=", most = Math.min(state.tau, 1);
    const over = sized ? sign(found[4], state.d * (state.d + 1)) : sign(state.tau, 1);
    const heads = Object.entries(TESTS).map(([kind, name]) => `<th scope="col" colspan="${sized ? 2 : 1}" class="${kind}">${name}</th>`).join("");
    const sizes = sized ? `<tr><td></td>${`<th scope="col">d = ${state.d}</th><th scope="col">limit</th>`.repeat(2)}</tr>` : "";
    readings.innerHTML = `<thead><tr><th scope="col">Error on</th>${heads}</tr>${sizes}</thead><tbody>`
      + line("here")
      + (sized ? row("first order, c/d", 2, signed(found[2]), signed(found[3]))
        + one("n, ℓ and k", found.slice(4).map(size => size < Infinity ? size : "∞").join(", ")) : "")
      + (timed(state) ? line("trained to the end, t → ∞", { t: Infinity, d: Infinity }) : "")
      + (deep(state) && state.L > 1 ? line("applied once, L = 1", { L: 1 }) : "")
      + line("endless pre&shy;training, τ → ∞", { tau: Infinity }) + line("endless contexts, α → ∞", { alpha: Infinity })
      + line("endless tasks, κ → ∞", { kappa: Infinity }) + one(`least possible on new tasks (Bayes)${sized ? ", limit" : ""}`, say(bayes(state.alpha, state.rho)[0], 4))
      + one("gap between the two", `${say(found[0] - found[1], 4)}${sized ? `, limit ${say(icl - idg, 4)}` : ""}`) + one(`effective ridge, ξ${only}`, say(xi, 4))
      + one(`inter&shy;polation threshold${timed(state) ? only : ""}`, `${sized ? `n ${over} d(d + 1)` : `τ ${over} 1`}: ${
        { "<": "fits all contexts", ">": "more contexts than parameters", "=": "here" }[over]}`)
      + one(`task threshold${deep(state) ? "" : only}`, `κ ${sign(state.kappa, most)} ${state.tau < 1 ? "τ" : "1"}`)
      + one(`critical noise, ρ<sub>c</sub> (no ridge)${only}`, `${say(ofNew)}: ${state.rho > ofNew ? "a finite context is best" : "the longest context is best"}`)
      + "</tbody>";
    const idle = ["d", "t", "L"].filter(name => ({ d: state.d < Infinity && !sized, t: state.t < Infinity && deep(state), L: state.L > 1 && !deep(state) })[name]);
    doubted.textContent = sized ? doubt(state, found) : isNaN(found[0]) ? "There is no such error: α is finite, and all parameters are 1e-9 to 1e9, besides 0 and ∞."
      : idle.length ? `${idle.join(" and ")} ${idle.length > 1 ? "do" : "does"} not count here: ${deep(state) ? "applications are those of the limit, trained to the end" : "along training there is one application, in the limit"}.` : "";
  }

  function idle() {
    stop(), stop = heat(canvas, state, state.map, 200, overlay);
    const address = fragment(state);
    if (address !== (location.hash || fragment(START))) history.replaceState(null, "", address);
    status.textContent = summary(state);
    plot.setAttribute("aria-label", `Both errors against ${PARAMETERS[state.axis].symbol}. ${status.textContent}`);
    over.setAttribute("aria-label", `Map of the error on ${TESTS[state.map]} over pretraining contexts τ, from 0.05 to 20 across, and task diversity κ, from 0.05 to 20 up; from ${say(scale[0], 2)} to ${say(scale[1], 2)}. The marker is at τ = ${say(state.tau)}, κ = ${say(state.kappa)}.`);
  }

  function refresh() {
    controls.forEach(control => control.show());
    changed();
  }

  function drag(event) {
    const box = canvas.getBoundingClientRect(), along = part => +(MAP.low * (MAP.high / MAP.low) ** clamp(part, 0, 1)).toPrecision(3);
    state.tau = along((event.clientX - box.left) / box.width);
    state.kappa = along(1 - (event.clientY - box.top) / box.height);
    refresh();
  }
  // A finger that begins to scroll here changes nothing; a tap does.
  over.addEventListener("pointerdown", event => {
    if (event.pointerType !== "touch") over.setPointerCapture(event.pointerId), drag(event);
  });
  over.addEventListener("pointermove", event => {
    if (event.pointerType !== "touch" && event.buttons & 1) drag(event);
  });
  over.addEventListener("click", drag);
  addEventListener("hashchange", () => { Object.assign(state, START), restore(state, location.hash), refresh(); });

  const button = (name, text, make) => element("button", { type: "button", onclick: async () => {
    await copy(make());
    note.textContent = `${text} copied.`;
    setTimeout(() => { note.textContent = ""; }, 4000);
  } }, name);
  const presets = element("p", { class: "presets" }, "Start from a figure: ",
    ...Object.entries(PRESETS).map(([name, preset]) => element("button", { type: "button",
      onclick: () => { Object.assign(state, START, preset), refresh(); } }, name)));

  root.replaceChildren(presets,
    element("div", { class: "sides" },
      element("div", { class: "main" }, element("div", { class: "choices" }, ...rows.slice(9, 12)), plot, said),
      element("div", { class: "sliders" }, ...rows.slice(0, 9))),
    element("div", { class: "sides" }, element("div", { class: "main" }, rows[12], map, key),
      element("div", { class: "told" }, doubted, readings)),
    element("div", { class: "buttons" },
      button("Copy link", "Link", () => location.href.split("#")[0] + fragment(state)),
      button("Copy the call", "Call", () => call(state)),
      button("Copy the numbers", "Numbers", () => table(state, across())), note),
    status);
  new ResizeObserver(changed).observe(root);
}

// The small figures in the chapters --------------------------------------------------------------

function live(root) {
  const spec = FIGURES[root.dataset.live], state = { ...START, ...spec.start };
  const svg = drawing(spec.depth ? 300 : 330, "plot"), status = element("p", { role: "status", class: "status" });
  const draw = spec.depth ? () => drawDepth(svg, state) : () => drawCurves(svg, state, {
    axis: spec.axis, log: spec.x !== "linear", logy: spec.y === "log", ridge: spec.ridge, range: spec.range });
  const told = () => {
    status.textContent = spec.depth ? toldDepth(state) : spec.ridge
      ? `${summary(state).split(":")[0]}: effective ridge ${say(limit(state)[2])}.` : summary(state);
    svg.setAttribute("aria-label", `${root.dataset.alt} ${status.textContent}`);
  };
  const changed = steady(draw, told);
  const controls = spec.sliders.map(name => slider(spec.depth ? DEPTH[name] : PARAMETERS[name], state, name, changed));
  root.replaceChildren(svg, element("div", { class: "sliders" }, ...controls.map(c => c.row)), status);
  svg.setAttribute("aria-label", root.dataset.alt);
  new ResizeObserver(changed).observe(root);
}

const DEPTH = {
  depth: { symbol: "L", name: "layers", values: POLYNOMIALS.depths },
  alpha: { symbol: "α", name: "context length, ℓ/d", values: POLYNOMIALS.alphas },
};

const polynomial = state => POLYNOMIALS.steps[POLYNOMIALS.alphas.indexOf(state.alpha)][POLYNOMIALS.depths.indexOf(state.depth)];
const toldDepth = state => {
  const { tied, untied } = polynomial(state);
  return `L = ${state.depth}, α = ${state.alpha}: of the task is left ${say(tied[1])} by equal layers, ${say(untied[1])} by different ones.`;
};

function drawDepth(svg, state) {
  const { tied, untied } = polynomial(state), most = (1 + state.alpha ** -0.5) ** 2;
  const x = spaced(0, most, 240), density = POLYNOMIALS.density[POLYNOMIALS.alphas.indexOf(state.alpha)];
  const left = steps => x.map(one => steps.reduce((p, step) => p * oneMinus(step, one)[0], 1));
  panel(svg, {
    x: { low: 0, high: most, label: "eigenvalue of the context's covariance, x" },
    y: { low: -1, high: 1, label: "left of the task, p(x)" },
    area: { x: density[0], y: density[1] },
    lines: [{ x: [0, most], y: [0, 0], kind: "zero" },
      { x, y: left(Array(state.depth).fill(tied[0])), kind: "idg", name: svg.clientWidth < 480 ? "equal" : "equal layers" },
      { x, y: left(untied[0]), kind: "icl", name: svg.clientWidth < 480 ? "different" : "different layers" }],
  });
}

document.querySelectorAll("[data-explorer]").forEach(explorer);
document.querySelectorAll("[data-live]").forEach(live);
window.iclkit = { errors, critical, bayes, oneMinus, finite, trained, looped };
