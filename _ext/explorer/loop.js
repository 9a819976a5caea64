/* Both errors after 0 … L applications of the trained layer, as in loop.py: a mean field over the tasks. */
const rules = {};
const legendre = n => rules[n] ||= Array.from({ length: n }, (_, i) => {
  let x = Math.cos(Math.PI * (i + 0.75) / (n + 0.5)), slope = 1;
  for (let step = 0; step < 9; step++) {
    let [before, now] = [1, x];
    for (let k = 2; k <= n; k++) [before, now] = [now, ((2 * k - 1) * x * now - (k - 1) * before) / k];
    slope = n * (before - x * now) / (1 - x * x), x -= now / slope;
  }
  return [x, 2 / ((1 - x * x) * slope ** 2)];
});

/* Eigenvalues r of R and their weights, 0 the last. */
function spectrum(kappa) {
  const root = kappa ** -0.5;
  if (root === 0) return [[1, 1], [0, 0]];
  // As close to κ = 1 as floats of 1 − κ have digits.
  const far = Math.max(Math.abs(Math.log(root)), 1e-12), half = Math.asinh(Math.PI / far) / 2;
  const nodes = legendre(40 + Math.floor(12 * half)).map(([u, weight]) => {
    const angle = far * Math.sinh(half * (1 + u)), r = (1 - root) ** 2 + 4 * root * Math.sin(angle / 2) ** 2;
    return [r, weight * Math.hypot(far, angle) * Math.sin(angle) ** 2 / r];
  });
  const all = nodes.reduce((sum, [, weight]) => sum + weight, 0);
  return [...nodes.map(([r, weight]) => [r, weight * Math.min(kappa, 1) / all]), [0, Math.max(1 - kappa, 0)]];
}

function looped(tau, alpha, kappa, rho, lam, depth) {
  const [, idg, xi] = errors(tau, alpha, kappa, rho, lam), q = (1 + rho) / alpha, last = Array(depth).fill(Infinity);
  if (!(alpha < Infinity) || lam < 0) return Array(2).fill(Array(depth + 1).fill(NaN));
  if (idg === Infinity) return Array(2).fill([1 + rho, ...last]);
  const law = spectrum(kappa).map(([r, weight]) => ({ r, weight, G: r / (r + q + xi), T: idg / tau * (q + r) / (r + q + xi) ** 2 }));
  return [0, 1].map(known => meanField(law.map(node => ({ ...node, target: node.weight * (known ? node.r : 1) })), alpha, rho, depth)
    .map(risk => rho + risk));
}

/* Matrices over times are lists of rows up to the diagonal; those of the nodes lie in the nodes. */
function meanField(nodes, alpha, rho, depth) {
  const K = [], F = [], C = [], D = [], risks = [], none = at => new Float64Array(at + 1);
  const sum = (n, of) => { let all = 0; for (let i = 0; i < n; i++) all += of(i); return all; };
  const both = (A, i, j) => A[Math.max(i, j)][Math.min(i, j)];  // of a symmetric matrix
  nodes.forEach(node => Object.assign(node, { H: [], HJ: [], KHJ: [], M: [], sums: [], moved: [] }));
  for (let at = 0; at <= depth; at++) {
    [K, F, C, D].forEach(A => A.push(none(at)));
    const tail = none(at);  // the row of JK: the columns' sums of K
    for (let j = 0; j < at; j++) tail[j] = sum(at - j, i => K[j + i][j]);
    for (const node of nodes) {
      const H = none(at);
      for (let j = 0; j < at; j++) H[j] = -node.G * sum(at - j, i => tail[j + i] * node.H[j + i][j]);
      H[at] = 1, node.H.push(H);
      const HJ = none(at);  // a row of HJ: what is summed from the right
      for (let j = at - 1; j >= 0; j--) HJ[j] = HJ[j + 1] + H[j + 1];
      node.HJ.push(HJ);
    }
    for (let j = 0; j < at; j++) K[at][j] = -sum(at - j, i => {
      const response = nodes.reduce((all, node) => all + node.weight * node.G * node.HJ[at][j + i], 0) / alpha;
      return response * K[j + i][j];
    });
    K[at][at] = 1;
    for (const node of nodes) {
      const KH = none(at), KHJ = none(at), M = none(at);
      for (let j = 0; j <= at; j++) KH[j] = sum(at - j + 1, i => K[at][j + i] * node.H[j + i][j]);
      for (let j = at - 1; j >= 0; j--) KHJ[j] = KHJ[j + 1] + KH[j + 1], M[j] = -node.G * KHJ[j];
      M[at] = 1;
      node.KHJ.push(KHJ), node.M.push(M);
      node.sums.push(node.H[at].reduce((a, b) => a + b)), node.moved.push(KH.reduce((a, b) => a + b));
    }
    /* The mean over nodes of factor · row · A · rowsᵀ, for all rows up to this one. */
    const add = (own, name, A, factor) => nodes.forEach(node => {
      const row = node[name][at], times = none(at);
      for (let j = 0; j <= at; j++) times[j] = factor(node) * sum(at + 1, i => row[i] * both(A, i, j));
      for (let l = 0; l <= at; l++) own[l] += sum(l + 1, i => times[i] * node[name][l][i]);
    });
    const own = D[at], next = C[at];
    for (let l = 0; l <= at; l++) own[l] = nodes.reduce((all, node) => all + node.target * node.sums[at] * node.sums[l], 0);
    add(own, "HJ", F, node => node.weight * node.G ** 2), add(own, "HJ", C, node => node.weight);
    if (!Number.isFinite(own[at])) break;
    risks.push(own[at]);
    for (let l = 0; l <= at; l++) F[at][l] = sum(at + 1, i => K[at][i] * sum(l + 1, j => K[l][j] * (rho + both(D, i, j)))) / alpha;
    for (let l = 0; l <= at; l++) next[l] = nodes.reduce((all, node) => all + node.target * node.T * node.moved[at] * node.moved[l], 0);
    add(next, "M", F, node => node.weight * node.T), add(next, "KHJ", C, node => node.weight * node.T);
  }
  return [...risks, ...Array(depth + 1 - risks.length).fill(Infinity)];
}
