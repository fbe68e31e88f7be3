// Painting on a picture what is to be drawn anew: by mouse, by touch, or by arrow keys and the space bar.

import { h } from "./dom.js";

const PAINT = [[15, 95, 104, 190], [255, 255, 255, 190]]; // two colours in squares: seen on any picture

/**
 * Make a canvas paintable; `told` hears in words where the brush is and how much is painted.
 *
 * Returned are load(width, height), clear(), invert(), share() (0 to 1), file() (a PNG file, transparent where it is
 * painted), and `brush` (pixels across) and `erase` to be set.
 */
export function paintable(canvas, told) {
  const ring = h("span.ring", { hidden: true });
  canvas.after(ring);
  const context = canvas.getContext("2d");
  const self = { brush: 4, erase: false, load, clear, invert, share, file };
  let cells = new Uint8Array(0);
  let at = { x: 0, y: 0 };
  let drawing = false;

  const count = () => cells.reduce((sum, cell) => sum + cell, 0);

  function share() {
    return cells.length ? count() / cells.length : 0;
  }

  function load(width, height) {
    Object.assign(canvas, { width, height });
    cells = new Uint8Array(width * height);
    at = { x: Math.floor(width / 2) + 0.5, y: Math.floor(height / 2) + 0.5 };
    ring.hidden = true;
    show();
  }

  function show() {
    const { width, height } = canvas;
    const image = context.createImageData(width, height);
    const square = Math.ceil(Math.max(width, height) / 48);
    cells.forEach((cell, place) => {
      if (!cell) return;
      const odd = (Math.floor(place / width / square) + Math.floor((place % width) / square)) % 2;
      image.data.set(PAINT[odd], 4 * place);
    });
    context.putImageData(image, 0, 0);
  }

  function say() {
    told(`Column ${Math.ceil(at.x)}, row ${Math.ceil(at.y)}. ${Math.round(100 * share())} % will be redrawn.`);
  }

  function clear() {
    cells.fill(0);
    show();
    say();
  }

  function invert() {
    cells = cells.map((cell) => 1 - cell);
    show();
    say();
  }

  /** Paint (or erase) every pixel whose middle the brush covers, and the one it stands on. */
  function stamp({ x, y }) {
    const { width, height } = canvas;
    const reach = self.brush / 2;
    for (let row = Math.max(0, Math.floor(y - reach)); row < Math.min(height, y + reach); row += 1) {
      for (let column = Math.max(0, Math.floor(x - reach)); column < Math.min(width, x + reach); column += 1) {
        const inside = (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 <= reach ** 2;
        if (inside || (column === Math.floor(x) && row === Math.floor(y))) {
          cells[row * width + column] = self.erase ? 0 : 1;
        }
      }
    }
  }

  function stroke(from, to) {
    const steps = Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / Math.max(0.5, self.brush / 4)) || 1;
    for (let step = 1; step <= steps; step += 1) {
      stamp({ x: from.x + (to.x - from.x) * (step / steps), y: from.y + (to.y - from.y) * (step / steps) });
    }
    show();
  }

  function point(event) {
    const box = canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width * canvas.width,
      y: (event.clientY - box.top) / box.height * canvas.height };
  }

  function move(to) {
    at = to;
    const [width, height] = [100 * self.brush / canvas.width, 100 * self.brush / canvas.height];
    ring.hidden = false;
    Object.assign(ring.style, { width: `${width}%`, height: `${height}%`,
      left: `${100 * at.x / canvas.width - width / 2}%`, top: `${100 * at.y / canvas.height - height / 2}%` });
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    drawing = true;
    move(point(event));
    stroke(at, at);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = at;
    move(point(event));
    if (drawing) stroke(before, at);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => {
      drawing = false;
      say();
    });
  }
  canvas.addEventListener("pointerleave", () => { if (!drawing) ring.hidden = true; });
  canvas.addEventListener("blur", () => { ring.hidden = true; });
  canvas.addEventListener("focus", () => move(at));
  canvas.addEventListener("keydown", (event) => {
    const step = Math.max(1, Math.floor(self.brush / 2));
    const [right, down] = { ArrowRight: [step, 0], ArrowLeft: [-step, 0], ArrowDown: [0, step], ArrowUp: [0, -step],
      " ": [0, 0] }[event.key] ?? [];
    if (right === undefined) return;
    event.preventDefault();
    const before = at;
    move({ x: Math.min(canvas.width - 0.5, Math.max(0.5, at.x + right)),
      y: Math.min(canvas.height - 0.5, Math.max(0.5, at.y + down)) });
    if (event.key === " " || event.shiftKey) stroke(before, at);
    say();
  });

  function file() {
    const image = new ImageData(canvas.width, canvas.height);
    cells.forEach((cell, place) => { image.data[4 * place + 3] = cell ? 0 : 255; });
    const made = h("canvas", { width: canvas.width, height: canvas.height });
    made.getContext("2d").putImageData(image, 0, 0);
    return new Promise((resolve) => { made.toBlob(resolve, "image/png"); });
  }
  return self;
}
