/* Jets: a value, its slopes by P, J and ν, and the same four of the power 1 of δ, as in _jets.py. */
function jet(value, slope) {
  const made = [value, 0, 0, 0, 0, 0, 0, 0];
  if (slope) made[slope] = 1;
  return made;
}

// Written out, as that is ten times as fast as a loop.
const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4], a[5] + b[5], a[6] + b[6], a[7] + b[7]];
const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3], a[4] - b[4], a[5] - b[5], a[6] - b[6], a[7] - b[7]];
const by = (a, n) => [a[0] * n, a[1] * n, a[2] * n, a[3] * n, a[4] * n, a[5] * n, a[6] * n, a[7] * n];
const late = a => [0, 0, 0, 0, a[0], a[1], a[2], a[3]];
const slope = (a, i) => [a[i], 0, 0, 0, a[i + 4], 0, 0, 0];

function up(a, number) {
  const sum = a.slice();
  sum[0] += number;
  return sum;
}

const mul = (a, b) => [
  a[0] * b[0], a[0] * b[1] + a[1] * b[0], a[0] * b[2] + a[2] * b[0], a[0] * b[3] + a[3] * b[0],
  a[0] * b[4] + a[4] * b[0], a[0] * b[5] + a[5] * b[0] + (a[1] * b[4] + a[4] * b[1]),
  a[0] * b[6] + a[6] * b[0] + (a[2] * b[4] + a[4] * b[2]), a[0] * b[7] + a[7] * b[0] + (a[3] * b[4] + a[4] * b[3]),
];

/* f(a) from f, f′ and f″ at its value. */
const of = (a, f, first, then) => [f, first * a[1], first * a[2], first * a[3], first * a[4],
  first * a[5] + then * a[1] * a[4], first * a[6] + then * a[2] * a[4], first * a[7] + then * a[3] * a[4]];
const inv = a => { const r = 1 / a[0]; return of(a, r, -r * r, 2 * r ** 3); };
const log = a => { const r = 1 / a[0]; return of(a, Math.log(a[0]), r, -r * r); };
const log1p = a => { const r = 1 / (1 + a[0]); return of(a, Math.log1p(a[0]), r, -r * r); };
const sqrt = a => { const r = Math.sqrt(a[0]); return of(a, r, 0.5 / r, -0.25 / r ** 3); };

/* Sums of jets over the nodes of the integral. */
const sums = at => NODES.flatMap(([z, w]) => [at(z, w), at(-z, w)]).reduce((sum, some) => sum.map((a, i) => add(a, some[i])));

/* Below are the decisions of _expansion.py, for one point. */

/* The limits of both errors with c, NaN where it is refused. */
function expanded(tau, alpha, kappa, rho, lam, balanced) {
  const limits = errors(tau, alpha, kappa, rho, lam), q = (1 + rho) / alpha;
  const endless = kappa === Infinity, explicit = endless && lam === 0;
  const large = endless ? 1e9 : kappa, [, , , m, slack] = errors(tau, alpha, large, rho, lam);
  const [trace, trace1, square, square1, last, idg, idg1] = explicit ? []
    : corrections(m, slack, tau, alpha, large, rho, lam, balanced && !endless);
  return [
    [1 + rho - 2 * trace + (1 + q) * square, -2 * trace1 + (1 + q) * square1 + square / alpha + (1 + rho) ** 2 * last],
    [idg, idg1],
  ].map(([difference, first], i) => {
    const c = (explicit ? fresh(tau, q, rho)[0] : first) / limits[i];
    const fine = (tau - 1) ** 2 + lam >= 1e-12 && Number.isFinite(c);
    return [limits[i], fine && (explicit || Math.abs(difference / limits[i] - 1) < 1e-4) ? c : NaN];
  });
}

/* The whole number next to x, an even one from halfway, as in NumPy. */
function whole(x) {
  const next = Math.round(x);
  return next - x === 0.5 && next % 2 ? next - 1 : next;
}

/* Both errors at d, their terms of order 1/d over the limit, and n, ℓ and the tasks in use. */
function finite(tau, alpha, kappa, rho, lam, d, balanced) {
  const n = whole(tau * d ** 2), ell = whole(alpha * d), k = whole(kappa * d);
  const used = balanced && k < Infinity ? Math.min(k, n) : k;
  if (![n, ell, k < Infinity ? k : 1].every(size => size >= 1 && size <= 2 ** 53)) return [NaN, NaN, NaN, NaN, n, ell, used];
  const over = n / (d * (d + 1)), pole = over === 1 && lam === 0;
  const at = tasks => expanded(pole ? 2 : over, ell / d, tasks / d, rho, lam, balanced);
  const error = ([limit, c]) => c / d > 50 ? NaN : pole && c === c ? Infinity : limit * Math.exp(c / d);
  // With as many tasks as contexts or more, n tasks have one each, and new ones are fresh.
  const own = at(used), old = own[1], [young] = balanced && k >= n ? at(Infinity) : own, seen = used / k || 1;
  const idg = seen < 1 ? seen * error(old) + (1 - seen) * error(young) : error(old);
  return [error(young), idg, pole ? NaN : young[1] / d, pole ? NaN : old[1] / d, n, ell, used];
}
