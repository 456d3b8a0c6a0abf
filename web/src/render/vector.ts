/**
 * The house's own stroke lettering: each glyph is a few pen strokes on a 4 x 6 grid,
 * drawn like everything else on the tube. One table serves canvas and SVG.
 */

const STROKES: Record<string, string> = {
  A: "06 01 10 30 41 46|03 43", B: "03 33 42 41 30 00 06 36 45 44 33", C: "41 30 10 01 05 16 36 45",
  D: "00 30 41 45 36 06 00", E: "40 00 06 46|03 33", F: "40 00 06|03 33", G: "41 30 10 01 05 16 36 45 43 23",
  H: "00 06|40 46|03 43", I: "00 20|10 16|06 26", J: "40 45 36 16 05 04", K: "00 06|40 03 46", L: "00 06 46",
  M: "06 00 23 40 46", N: "06 00 46 40", O: "10 30 41 45 36 16 05 01 10", P: "06 00 30 41 42 33 03",
  Q: "10 30 41 45 36 16 05 01 10|24 46", R: "06 00 30 41 42 33 03|23 46", S: "41 30 10 01 02 13 33 44 45 36 16 05",
  T: "00 40|20 26", U: "00 05 16 36 45 40", V: "00 26 40", W: "00 06 23 46 40", X: "00 46|40 06",
  Y: "00 23 40|23 26", Z: "00 40 06 46",
  0: "10 30 41 45 36 16 05 01 10", 1: "11 20 26|16 36", 2: "01 10 30 41 42 06 46",
  3: "01 10 30 41 42 33 13|33 44 45 36 16 05", 4: "36 30 04 44", 5: "40 00 03 33 44 45 36 16 05",
  6: "41 30 10 01 05 16 36 45 44 33 03", 7: "00 40 41 16", 8: "13 02 01 10 30 41 42 33 13 04 05 16 36 45 44 33",
  9: "05 16 36 45 41 30 10 01 02 13 43", "%": "06 40|00 10 11 01 00|35 45 46 36 35", ".": "25 26", ":": "21 22|24 25",
  "-": "13 33", "!": "00 04|05 06", "/": "06 40", "+": "21 25|03 43", "'": "20 21", "?": "01 10 30 41 42 23 24|25 26",
  ",": "25 16", "(": "30 11 15 36", ")": "10 31 35 16", "<": "31 03 35", ">": "11 43 15",
};

/** Advance of a digit and the height of a capital, in grid units. */
const ADVANCE = 5.6;
const HEIGHT = 6;
/** Space between letters; they take their own width, digits all the same. */
const GAP = 1.6;

/** Pen strokes as numbers: x, y pairs; a negative x lifts the pen. */
const GLYPHS: (Int8Array | undefined)[] = [];
const WIDTHS: number[] = [];
for (const [letter, strokes] of Object.entries(STROKES)) {
  const points: number[] = [];
  for (const stroke of strokes.split("|")) {
    if (points.length > 0) points.push(-1, 0);
    for (const pair of stroke.split(" ")) points.push(Number(pair[0]), Number(pair[1]));
  }
  GLYPHS[letter.charCodeAt(0)] = Int8Array.from(points);
  WIDTHS[letter.charCodeAt(0)] = /[0-9]/.test(letter) ? ADVANCE - GAP : Math.max(...points.filter((_, i) => i % 2 === 0));
}

/** Width of `digits` digits at capital height `size`. */
export function numberWidth(digits: number, size: number): number {
  return (digits * ADVANCE - GAP) * (size / HEIGHT);
}

function advance(code: number): number {
  return (WIDTHS[code] ?? 2) + GAP;
}

function wordWidth(word: string): number {
  let width = -GAP;
  for (let i = 0; i < word.length; i++) width += advance(word.charCodeAt(i));
  return width;
}

/** Adds one glyph to the current path; (x, y) is its top left corner. */
export function traceGlyph(ctx: CanvasRenderingContext2D, code: number, x: number, y: number, size: number): void {
  const glyph = GLYPHS[code];
  if (glyph === undefined) return;
  const unit = size / HEIGHT;
  let pen = false;
  for (let i = 0; i < glyph.length; i += 2) {
    const gx = glyph[i];
    if (gx < 0) { pen = false; continue; }
    const px = x + gx * unit;
    const py = y + glyph[i + 1] * unit;
    if (pen) ctx.lineTo(px, py);
    else ctx.moveTo(px, py);
    pen = true;
  }
}

/** Strokes a word; `align` is the share of its width left of x (0 left, 0.5 centre, 1 right). */
export function strokeWord(ctx: CanvasRenderingContext2D, word: string, x: number, y: number, size: number, align: number): void {
  const unit = size / HEIGHT;
  let at = x - wordWidth(word) * unit * align;
  ctx.beginPath();
  for (let i = 0; i < word.length; i++) {
    traceGlyph(ctx, word.charCodeAt(i), at, y, size);
    at += advance(word.charCodeAt(i)) * unit;
  }
  ctx.stroke();
}

/** Strokes a whole number right-aligned at x, at least `digits` digits; returns its width. */
export function strokeNumber(ctx: CanvasRenderingContext2D, value: number, digits: number, x: number, y: number, size: number): number {
  const step = ADVANCE * (size / HEIGHT);
  let rest = Math.max(0, Math.floor(value));
  let at = x - 4 * (size / HEIGHT);
  let count = 0;
  ctx.beginPath();
  do {
    traceGlyph(ctx, 48 + (rest % 10), at, y, size);
    rest = Math.floor(rest / 10);
    at -= step;
    count++;
  } while (rest > 0 || count < digits);
  ctx.stroke();
  return numberWidth(count, size);
}

/** The same lettering as SVG, for headings: one path, `viewBox` in grid units. */
export function vectorSvg(word: string, className: string): SVGSVGElement {
  const space = "http://www.w3.org/2000/svg";
  let d = "";
  let at = 0;
  for (const letter of word.toUpperCase()) {
    const code = letter.charCodeAt(0);
    const glyph = GLYPHS[code] ?? [];
    let pen = false;
    for (let i = 0; i < glyph.length; i += 2) {
      if (glyph[i] < 0) { pen = false; continue; }
      d += `${pen ? "L" : "M"}${(glyph[i] + at).toFixed(1)} ${glyph[i + 1]}`;
      pen = true;
    }
    at += advance(code);
  }
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `-0.6 -0.6 ${(at - GAP + 1.2).toFixed(1)} ${HEIGHT + 1.2}`);
  svg.setAttribute("class", `vector ${className}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", word);
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", d);
  svg.appendChild(path);
  return svg;
}
