const expit = x => 1 / (1 + Math.exp(-x));

/* The root of an increasing function, to rounding: Chandrupatla's method, as in SciPy. */
function findRoot(f) {
  let a = -1, b = 1, fa = f(a), fb = f(b);
  while (fa > 0 && a > -1e4) [b, fb, a] = [a, fa, 2 * a], fa = f(a);
  while (fb < 0 && b < 1e4) [a, fa, b] = [b, fb, 2 * b], fb = f(b);
  let t = 0.5;
  for (let step = 0; step < 200 && fa && fb; step++) {
    const x = a + t * (b - a), fx = f(x);
    let c = b, fc = fb;
    if (fx > 0 === fa > 0) c = a, fc = fa; else b = a, fb = fa;
    a = x, fa = fx;
    const width = Math.abs(b - a), least = 2 ** -53 * Math.max(1, Math.abs(a));
    if (width <= 2 * least) break;
    const xi = (a - b) / (c - b), phi = (fa - fb) / (fc - fb);
    t = phi ** 2 < xi && (1 - phi) ** 2 < 1 - xi
      ? fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb) : 0.5;
    t = Math.min(Math.max(t, least / width), 1 - least / width);
  }
  return Math.abs(fa) < Math.abs(fb) ? a : b;
}
