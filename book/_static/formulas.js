/* A formula that is wider than the page is set anew, in lines that begin with a relation or a sign.

MathJax breaks no lines by itself. What can't be broken is set smaller, down to seven tenths;
only what is wider still scrolls, with a shadow at its edge. */
(() => {
  if (!window.MathJax?.startup?.promise) return; // a page without formulas

  const RELATIONS = new Set(
    "= < > \\le \\leq \\ge \\geq \\ll \\gg \\ne \\neq \\approx \\simeq \\sim \\equiv \\propto \\to \\in \\mapsto"
      .concat(" \\Longrightarrow \\Longleftrightarrow \\Rightarrow \\implies \\iff \\longrightarrow \\xrightarrow")
      .split(" ")
  );
  const SIGNS = new Set(["+", "-", "\\pm"]);
  const SPACES = new Set(["\\qquad", "\\quad"]);
  const OPEN = new Set(["{", "(", "[", "\\{", "\\left", "\\begin", "\\lVert", "\\lvert", "\\langle"]);
  const CLOSE = new Set(["}", ")", "]", "\\}", "\\right", "\\end", "\\rVert", "\\rvert", "\\rangle"]);
  const SIZES = /^\\([bB]igg?[lrm]?|left|right|middle)$/;
  const NEW = "\n"; // before a piece that is a formula of its own
  const SMALLEST = 0.7;

  const tokens = (tex) => tex.match(/\\[a-zA-Z]+\*?|\\[^a-zA-Z]|\s+|[^\\\s]/g) ?? [];

  /* The tokens in pieces; each begins where `starts` says so, outside of all brackets, or only of
     those that must stay in one line. */
  const pieces = (list, starts, within = false) => {
    const ofSize = (token) => within && /^(\\[{}lr]|[()[\]])/.test(token);
    const found = [[]];
    let depth = 0;
    list.forEach((token, i) => {
      const sized = /^\\[bB]igg?[lrm]$/.test(list[i - 1] ?? "");
      if (depth === 0 && starts(token, i) && found.at(-1).some((t) => t.trim())) found.push([]);
      found.at(-1).push(token);
      const afterLeft = ["\\left", "\\right"].includes(list[i - 1]);
      if (afterLeft && !SIZES.test(token)) return; // \left and \right have been counted
      if (ofSize(token) && !afterLeft) return;
      if (OPEN.has(token)) depth += 1;
      else if (CLOSE.has(token)) depth = Math.max(0, depth - 1);
      else if (sized && token === "|" && !within) depth += /l$/.test(list[i - 1]) ? 1 : -1;
    });
    return found;
  };

  /* The rows of a formula that is one environment, or the formula itself; and what is around it. */
  const rows = (tex) => {
    let inner = tex.trim();
    let boxed = false;
    for (let match; ; ) {
      if ((match = inner.match(/^\\begin\{(split|aligned|gathered|align\*?)\}([^]*)\\end\{\1\}([.,;]?)$/))) {
        inner = (match[2].trim() + match[3]).trim();
      } else if ((match = inner.match(/^\\boxed\{([^]*)\}([.,;]?)$/))) {
        boxed = true;
        inner = (match[1].replace(/^\\;|\\;$/g, "") + match[2]).trim();
      } else break;
    }
    const list = tokens(inner).map((token) => (token === "\\cr" ? "\\\\" : token));
    const parts = pieces(list, (token, i) => list[i - 1] === "\\\\").map((row) => {
      const text = row.join("").trim().replace(/\\\\(\[[^\]]*\])?$/, "");
      return text.replace(/^\[[\d.]+(ex|em|pt)\]/, "");
    });
    return { boxed, parts: parts.map((row) => pieces(tokens(row), (t) => t === "&")) };
  };

  const plain = (list) => list.filter((token) => token !== "&").join("").trim();

  const lead = (text) => {
    const [first] = tokens(text);
    return RELATIONS.has(first) || SIGNS.has(first) ? `{}${text}` : text;
  };

  const breakable = (text, marks, within = false) => {
    // Brackets that grow must stand in one line; those of a fixed size need not.
    const fixed = text.replace(/\\(left|right)(?![a-z])/g, (_, side) => `\\bigg${side[0]}`);
    const list = tokens(within ? fixed : text);
    const bare = (i) => {
      const before = list.slice(0, i).filter((t) => t.trim()).at(-1) ?? "";
      return !before || OPEN.has(before) || RELATIONS.has(before) || /^[_^,]$/.test(before);
    };
    const colon = (i) => list[i - 1] === ":" && list[i] === "=";
    const starts = (token, i) =>
      SPACES.has(list[i - 1] ?? "") ||
      (token === ":" && list[i + 1] === "=" && marks.has("=")) ||
      (marks.has(token) && !colon(i) && !bare(i));
    return pieces(list, starts, within)
      .map((piece, i, all) => (i && SPACES.has(all[i - 1].filter((t) => t.trim()).at(-1)) ? NEW : "") + plain(piece).replace(/(\\q?quad|\\[;,! ]|\s)+$/, "").replace(/^(\\q?quad|\s)+/, ""))
      .filter((piece) => piece.trim());
  };

  const typeset = (tex, display) => MathJax.tex2svg(tex, { display });
  const units = (tex, display) => {
    const { width } = typeset(tex, display).querySelector("svg").attributes;
    return parseFloat(width.value);
  };

  /* Lines of at most `room` ex: relations begin a line, and signs where that is not enough, even
     those in brackets. */
  const lines = (row, room) => {
    const text = plain(row.flat());
    if (units(text, true) <= room) return [text];
    const done = [];
    const indent = 2;
    const add = (piece, levels) => {
      const last = piece.startsWith(NEW) ? undefined : done.at(-1);
      const joined = `${last ?? ""} ${piece}`;
      const width = (line) => units(lead(line), true);
      if (last !== undefined && width(joined) <= room - indent) done[done.length - 1] = joined;
      else if (width(piece) <= room - indent || !levels.length) done.push(piece);
      else {
        const [first, ...others] = breakable(piece, ...levels[0]);
        const start = piece.startsWith(NEW) ? NEW + first : first;
        [start, ...others].forEach((part) => add(part, levels.slice(1)));
      }
    };
    breakable(text, RELATIONS).forEach((piece) => add(piece, [[SIGNS], [SIGNS, true]]));
    return done.map((line, i) => (i && !line.startsWith(NEW) ? `\\quad ${lead(line)}` : line));
  };

  const shrink = (node, room, width) => {
    node.style.fontSize = "";
    if (width > room) node.style.fontSize = `${Math.max(SMALLEST, (0.99 * room) / width) * 100}%`;
  };

  const widthOf = (node) => node.querySelector("svg").getBoundingClientRect().width;

  const replace = (item, ...nodes) => {
    item.typesetRoot.replaceWith(...nodes);
    item.typesetRoot = nodes[0];
    (item.extra ?? []).forEach((node) => node.remove());
    item.extra = nodes.slice(1);
  };

  const fitDisplay = (item, box) => {
    let node = item.typesetRoot;
    let room = node.clientWidth;
    let width = widthOf(node);
    if (width <= room + 0.5) return;
    box.classList.add("number-below");
    room = node.clientWidth;
    if (width <= room + 0.5) return;
    const ex = width / parseFloat(node.querySelector("svg").getAttribute("width"));
    const cases = /\\begin\{cases\}[^]*?\\end\{cases\}/g; // with the conditions below
    const { boxed, parts } = rows(item.math.replace(cases, (all) => all.replace(/&/g, "\\\\\\qquad")));
    const set = (space) => {
      const all = parts.flatMap((row) => lines(row, space)).map((line) => `&${line}`);
      const tex = `\\begin{aligned}${all.join("\\\\[0.6ex]")}\\end{aligned}`;
      return boxed ? `\\boxed{${tex}}` : tex;
    };
    const broken = typeset(set(room / ex - (boxed ? 3 : 0)), true);
    replace(item, broken);
    if (widthOf(broken) >= width) replace(item, node);
    else node = broken;
    shrink(node, room, widthOf(node));
  };

  const fitInline = (item, box) => {
    const block = box.closest("p, li, dd, td, th, figcaption, h1, h2, h3") ?? box.parentElement;
    const right = Math.min(block.getBoundingClientRect().right, document.documentElement.clientWidth);
    const edges = item.typesetRoot.getBoundingClientRect();
    if (edges.right <= right + 0.5) return;
    for (let whole; (whole = box.closest(".unbroken")); ) whole.classList.remove("unbroken");
    if (item.typesetRoot.getBoundingClientRect().right <= right + 0.5) return;
    const ex = edges.width / units(item.math, false);
    const wide = (text) => units(lead(text.trim()), false) * ex > block.clientWidth;
    const texts = breakable(item.math, RELATIONS).flatMap((text) =>
      wide(text) ? breakable(text, SIGNS, true) : [text]
    );
    if (texts.length > 1 && !item.extra?.length) {
      box.classList.add("broken");
      replace(item, ...texts.map((text) => typeset(lead(text.trim()), false)));
    }
    for (const node of [item.typesetRoot, ...(item.extra ?? [])]) {
      shrink(node, block.clientWidth, widthOf(node));
    }
  };

  let fitted = 0; // the width that formulas were last fitted to

  const fit = () => {
    if (document.documentElement.clientWidth === fitted) return;
    fitted = document.documentElement.clientWidth;
    // First all that changes the page, and then all that measures it: between the two it is laid
    // out, which takes long enough to be done once, and not for each formula.
    const all = [];
    for (const item of MathJax.startup.document.math) {
      const box = item.typesetRoot?.closest(".math");
      if (!box) continue;
      all.push([item, box]);
      box.classList.remove("broken", "number-below");
      if (!item.original) continue;
      if (item.typesetRoot !== item.original || item.extra?.length) replace(item, item.original);
      item.original.style.fontSize = "";
    }
    const seen = all.filter(([item]) => item.typesetRoot.getClientRects().length); // and not folded
    seen.forEach(([item]) => (item.original = item.typesetRoot));
    seen.filter(([item]) => item.display).forEach((pair) => fitDisplay(...pair));
    const within = seen.filter(([item]) => !item.display);
    // Twice, as breaking one formula moves those after it.
    [...within, ...within].forEach((pair) => fitInline(...pair));
  };

  const again = () => ((fitted = 0), fit());

  // Whoever waits for the formulas waits for this as well.
  MathJax.startup.promise = MathJax.startup.promise.then(fit);
  addEventListener("resize", () => requestAnimationFrame(fit));
  document.addEventListener("toggle", again, true); // what was folded is seen for the first time
  document.addEventListener("click", (event) => {
    if (event.target.closest(".toggle-button, .dropdown")) requestAnimationFrame(again);
  });
})();
