/* Both errors after a time of training, as in flow.py: a sum over pairs of complex ridges. */
const cadd = (a, b) => [a[0] + b[0], a[1] + b[1]], cmore = (a, x) => [a[0] + x, a[1]], ctimes = (a, x) => [a[0] * x, a[1] * x];
const cmul = (a, b) => [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]], conj = a => [a[0], -a[1]];
const cabs = a => Math.hypot(a[0], a[1]), cinv = a => ctimes(conj(a), 1 / (a[0] * a[0] + a[1] * a[1])), cdiv = (a, b) => cmul(a, cinv(b));

function csqrt(a) {
  const r = Math.sqrt((cabs(a) + Math.abs(a[0])) / 2), s = r && a[1] / (2 * r);
  return a[0] >= 0 ? [r, s] : [Math.abs(s), a[1] < 0 ? -r : r];
}

/* M_κ(x), by the root as a product of two principal ones. */
function transform(x, kappa) {
  const b = cmore(x, 1 - 1 / kappa);
  const root = cmul(csqrt(cmore(x, (1 + kappa ** -0.5) ** 2)), csqrt(cmore(x, (1 - kappa ** -0.5) ** 2)));
  const plus = cadd(root, b), minus = cadd(root, ctimes(b, -1));
  return cabs(plus) >= cabs(minus) ? cdiv([2, 0], plus) : cdiv(ctimes(minus, kappa / 2), x);
}

/* ξ of a ridge above the real axis, and what the errors take of it. */
function ridged(z, q, tau, kappa) {
  const state = xi => {
    const x = cmore(xi, q), m = transform(x, kappa), c = cinv(cmore(ctimes(m, 1 / kappa), 1));
    return { m, xi, x, c };
  };
  let xi = cmore(z, (1 + q) / tau);
  for (let i = 0, step = 1; i < 60 && step > 1e-3; i++) {  // maps the half plane into itself
    const { m, c } = state(xi), next = ctimes(cadd(cadd(xi, z), ctimes(cmul(xi, cmul(cmore(c, q), m)), 1 / tau)), 0.5);
    step = cabs(cadd(next, ctimes(xi, -1))) / cabs(xi);
    xi = next;
  }
  for (let i = 0, step = 1; i < 12 && step > 1e-15; i++) {
    const { m, x, c } = state(xi), xm = cmul(xi, m), square = cmul(c, c);
    // 1 − tr B(B + ξ)⁻¹/τ is one difference or the other, the one that keeps digits.
    const left = cabs(xm) < 0.5 ? cmore(ctimes(xm, 1 / tau), tau < Infinity ? (tau - 1) / tau : 1)
      : cmore(ctimes(cmul(cmore(c, q), m), -1 / tau), 1);
    const slope = cadd(left, ctimes(cmul(xm, cdiv(cmore(square, q), cadd(x, square))), 1 / tau));
    let move = cdiv(cadd(cmul(xi, left), ctimes(z, -1)), slope);
    for (let half = 0; half < 6 && xi[1] <= move[1]; half++) move = ctimes(move, 0.5);
    if (xi[1] > move[1]) xi = cadd(xi, ctimes(move, -1));
    step = cabs(move) / cabs(xi);
  }
  return { ...state(xi), slack: cdiv(z, xi) };
}

/* The error of two ridges without the noise of the test's labels, on new tasks and on old ones. */
function pair(one, two, tau, kappa, rho, q) {
  const cc = cmul(one.c, two.c), xx = cmul(one.x, two.x);
  const g = cdiv(two.m, cadd(one.x, cc)), rg = cmul(cc, g);
  const f = cmul(rg, cadd(one.c, ctimes(cmul(two.x, two.m), 1 / kappa))), b = cmul(cmore(cc, q), g);
  const room = cadd(one.slack, ctimes(cmul(two.xi, b), 1 / tau));
  const spent = cadd(ctimes(f, q), cmul(xx, rg)), own = cdiv(cmore(spent, rho), room), noise = ctimes(own, 1 / tau);
  return [
    cadd(cadd(cmul(xx, g), ctimes(f, q)), ctimes(cmul(b, noise), 1 + q)),
    cadd(spent, cmul(cadd(ctimes(cadd(b, rg), q), f), noise)),
  ];
}

/* Nodes ζ = zt and weights above the real axis, see flow.py. */
const WAYS = Array.from({ length: 13 }, (_, i) => {
  const h = 1.08179214 / 13, mu = 4.492075287 * 13, phi = 1.172104229, u = (i + 0.5) * h;
  const zeta = [mu * (1 - Math.sin(phi) * Math.cosh(u)), mu * Math.cos(phi) * Math.sinh(u)], size = h * mu / (2 * Math.PI) * Math.exp(zeta[0]);
  const turn = [Math.cos(phi) * Math.cosh(u), Math.sin(phi) * Math.sinh(u)];
  return [zeta, cdiv(cmul(turn, [size * Math.cos(zeta[1]), size * Math.sin(zeta[1])]), zeta)];
});

function trained(tau, alpha, kappa, rho, lam, t) {
  const far = [tau, alpha, kappa, rho, lam, t].some(x => x && x < Infinity && !(x >= 1e-9 && x <= 1e9));
  if (far || lam < 0) return [NaN, NaN];
  if (t === 0) return [1 + rho, 1 + rho];
  if (t === Infinity) return errors(tau, alpha, kappa, rho, lam).slice(0, 2);
  const q = (1 + rho) / alpha, states = WAYS.map(([zeta]) => ridged(cmore(ctimes(zeta, 1 / t), lam), q, tau, kappa));
  const mirrored = states.map(s => Object.fromEntries(Object.entries(s).map(([name, a]) => [name, conj(a)])));
  const sum = [rho, rho];
  states.forEach((one, i) => [states, mirrored].forEach((others, below) => others.forEach((two, j) =>
    pair(one, two, tau, kappa, rho, q).forEach((e, test) => {
      sum[test] += 2 * cmul(e, cmul(WAYS[i][1], below ? conj(WAYS[j][1]) : WAYS[j][1]))[0];
    }))));
  return sum;
}
