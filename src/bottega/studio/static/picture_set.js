// The pictures of one request: they grow in place, are judged, saved, varied and edited.

import { $, button, h, icon } from "./dom.js";
import { chips, problem } from "./answer.js";
import { file } from "./api.js";
import { tell, why } from "./feedback.js";
import { paint, sharpen } from "./picture_file.js";
import { able } from "./picture_panel.js";
import { rateButton, rating } from "./rate.js";

const REASONS = {
  1: ["what was asked", "beautiful", "clean"],
  [-1]: ["not what was asked", "ugly", "broken", "unsafe"],
};
const ASPECTS = ["follows the words", "beauty", "detail"];
const address = (id) => `/studio/pictures/${encodeURIComponent(id)}.png`;

/** Return the bytes of a picture that was made. */
export const bytes = async (output) => output.blob ?? file(address(output.id));

/** Say what a set of pictures is, in a few words. */
export function titled({ prompt, toward, image, mask }) {
  const words = toward ? `${prompt || "anything"} → ${toward}` : prompt;
  if (mask) return words ? `Edited: ${words}` : "Edited";
  if (image) return words ? `From a picture: ${words}` : "Variations";
  return words || "Anything";
}

/**
 * Build the view of a set: {prompt, toward, image, mask, model, seed, seconds, best, error, finish, verdicts, outputs}.
 *
 * An output is {index, id, thumb, scores}, and `blob` when it was made on this page. Options: busy(), vary(output),
 * edit(output), retry.
 */
export function setView(set, { busy, vary, edit, retry }) {
  const node = h("article.set", { testid: "set" });
  const canvases = set.outputs.map(() => h("canvas", { width: 8, height: 8, role: "img" }));
  let open = null;

  function frame(output) {
    const label = `${titled(set)}, picture ${output.index + 1} of ${set.outputs.length}`;
    if (output.blob || !output.id) {
      const canvas = canvases[output.index];
      canvas.setAttribute("aria-label", label);
      return canvas;
    }
    const image = h("img", { src: address(output.id), alt: label, loading: "lazy" });
    image.addEventListener("load", () => sharpen(image, image.naturalWidth, image.naturalHeight));
    return image;
  }

  function thumb(output, value) {
    return button(value > 0 ? "up" : "down", value > 0 ? "Good picture" : "Bad picture", async () => {
      const before = output.thumb;
      output.thumb = value;
      if (!await tell({ kind: "thumb", output: output.id, value })) output.thumb = before;
      else open = why(output, () => { open = null; draw(); }, REASONS);
      draw();
      open?.scrollIntoView({ block: "nearest" });
    }, { "aria-pressed": output.thumb === value, testid: value > 0 ? "thumb-up" : "thumb-down" });
  }

  function rate(output) {
    open = rating(output, () => {
      open = null;
      draw();
      $(`[data-id="${output.id}"] [data-testid=rate]`, node)?.focus();
    }, { aspects: ASPECTS, title: `Picture ${output.index + 1}` });
    draw();
    open.scrollIntoView({ block: "nearest" });
  }

  async function choose(output) {
    const others = set.outputs.filter((other) => other !== output && other.id);
    if (await tell(others.map((other) => ({ kind: "choice", output: output.id, rejected: other.id })))) {
      set.best = output.id;
      draw();
    }
  }

  function acts(output) {
    const start = able()?.image;
    const href = output.blob ? (output.url ??= URL.createObjectURL(output.blob)) : address(output.id);
    return h("div.acts", {},
      h("span", {}, thumb(output, 1), thumb(output, -1), rateButton(output, () => rate(output)), set.outputs.length > 1 && button("star", "Best of these",
        () => choose(output), { "aria-pressed": set.best === output.id, testid: "best" })),
      h("span", {}, start && button("vary", "Vary", () => vary(output), { testid: "vary" }),
        start && button("edit", "Edit", () => edit(output), { testid: "edit" }),
        h("a.button.plain.square", { href, download: `${output.id}.png`, title: "Save", "aria-label": "Save",
          testid: "save" }, icon("save")),
        h("a.button.plain.square", { href: `/inside/${encodeURIComponent(output.id)}`, title: "Inside",
          "aria-label": "Inside", testid: "inside-link" }, icon("inside"))));
  }

  function tile(output) {
    const made = output.id ? acts(output) : null;
    const held = !output.id && !busy() && set.outputs.some((other) => other.id);
    return h(set.best && set.best === output.id ? "figure.tile.won" : "figure.tile",
      { testid: "tile", dataset: { id: output.id ?? "" } }, h("div.frame", {}, frame(output)), made,
      held && h("span.tiny.muted", {}, "not there: stopped, or held back by the model's own check"));
  }

  function draw() {
    node.classList.toggle("busy", busy());
    node.setAttribute("aria-busy", busy());
    const facts = [set.model, set.seconds && `${set.seconds.toFixed(1)} s`,
      set.seed !== undefined && `seed ${set.seed}`].filter(Boolean).join(" · ");
    node.replaceChildren(h("div.who", {}, h("span.dot"), h("b", { testid: "title" }, titled(set)), chips(set),
      h("span.meta", { testid: "facts" }, facts)),
    ...(set.error ? [problem(set.error, retry)] : [h("div.grid", {}, set.outputs.map(tile))]),
    ...(open ? [open] : []));
  }

  draw();
  return { node, set, draw, grown: (index, blob) => paint(canvases[index], blob) };
}
