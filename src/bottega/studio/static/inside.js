// The glass box: tokens marked by probability; a chosen one shows its rivals before and after the controls.

import { $, h, percent, svg } from "./dom.js";
import { get } from "./api.js";

const page = $("#inside");
const tokens = $("#tokens");
const position = $("#position");
const status = $("#tokens-status");
const BANDS = [0.05, 0.2, 0.5, 0.9];

const chosen = (step) => step.rows.find((row) => row.chosen);
const band = (share) => BANDS.filter((edge) => share >= edge).length;
const sum = (rows, column) => rows.reduce((total, row) => total + row[column], 0);
const visible = (text) => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "·") || "(no text)";

function bar(kind, share) {
  const node = h(`div.bar-${kind}`);
  node.style.width = `${100 * share}%`;
  return node;
}

function rival(row, rest = false) {
  return h(row.chosen ? "div.rival.chosen" : "div.rival",
    { testid: rest ? "rest" : "rival", dataset: { model: row.model, after: row.after } },
    rest ? h("span.what.rest", {}, "everything else") : h("span.what", { title: row.text }, visible(row.text)),
    h("span", {}, percent(row.model)), h("span", {}, percent(row.after)),
    h("div.bars", {}, bar("model", row.model), bar("after", row.after)));
}

function show(step, index, count) {
  const all = [...step.rows, step.rest];
  const sums = { model: sum(all, "model"), after: sum(all, "after") };
  position.hidden = false;
  position.replaceChildren(
    h("div.row", {}, h("h2", {}, `Token ${index + 1} of ${count}`), h("span.chip.accent.mono", {}, visible(step.text))),
    h("div", {}, h("div.columns-head", {}, h("span", {}, "what could stand here"), h("span.key-model", {}, "model"),
      h("span.key-after", {}, "after")),
      step.rows.map((row) => rival(row)), rival(step.rest, true),
      h("div.rival.total", { testid: "sum", dataset: sums }, h("span", {}, "together"),
        h("span", {}, percent(sums.model)), h("span", {}, percent(sums.after)))),
    h("div.stack", {}, h("h3", {}, "What the controls did here"),
      step.changes.length ? h("ul.changes", { testid: "changes" }, step.changes.map((words) => h("li", {}, words)))
        : h("p.small.muted", { testid: "changes" }, "Nothing: the model's own probabilities were used.")),
    step.finish ? h("p.small.muted", {}, `The answer ended here: ${step.finish}.`) : "");
}

function chart(steps, choose) {
  const width = 1000 / steps.length;
  const strip = $("#sure");
  strip.setAttribute("viewBox", "0 0 1000 100");
  strip.hidden = false;
  strip.removeAttribute("hidden");
  strip.append(svg("line", { x1: 0, x2: 1000, y1: 99.5, y2: 99.5 }), ...steps.map((step, index) => {
    const share = Math.max(0.015, chosen(step).model);
    const rect = svg("rect", { x: index * width, width: width * 0.82, y: 100 - 100 * share, height: 100 * share });
    rect.addEventListener("click", () => choose(index));
    return rect;
  }));
  return [...strip.querySelectorAll("rect")];
}

async function open() {
  const { steps, replayed, why } = await get(`/studio/inside/${encodeURIComponent(page.dataset.output)}.json`);
  $("#replayed").hidden = !replayed;
  if (!steps.length) {
    status.textContent = why || "The steps of this answer were not kept.";
    return;
  }
  const nodes = steps.map((step) => {
    const share = percent(chosen(step).model);
    return h(`span.token.p${band(chosen(step).model)}`, { role: "option", tabIndex: -1, "aria-selected": "false",
      "aria-label": `${visible(step.text)}, ${share}`, title: share, testid: "token" }, step.text);
  });
  let at = -1;
  let rects = [];
  const choose = (index) => {
    if (at >= 0) {
      nodes[at].setAttribute("aria-selected", "false");
      nodes[at].tabIndex = -1;
      rects[at].classList.remove("on");
    }
    at = index;
    nodes[at].setAttribute("aria-selected", "true");
    nodes[at].tabIndex = 0;
    rects[at].classList.add("on");
    show(steps[at], at, steps.length);
  };
  rects = chart(steps, choose);
  tokens.replaceChildren(...nodes);
  tokens.addEventListener("click", (event) => {
    const index = nodes.indexOf(event.target.closest(".token"));
    if (index >= 0) choose(index);
  });
  tokens.addEventListener("keydown", (event) => {
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0,
      End: nodes.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(Math.min(nodes.length - 1, Math.max(0, to)));
    nodes[at].focus();
  });
  const mean = steps.reduce((total, step) => total + Math.log(Math.max(1e-12, chosen(step).model)), 0) / steps.length;
  status.textContent = `${steps.length} tokens, typically chosen with ${percent(Math.exp(mean))}. ${why}`;
  const shares = steps.map((step) => chosen(step).model);
  choose(shares.indexOf(Math.min(...shares)));
}

open().catch((failure) => { status.textContent = `${failure.message} ${failure.fix ?? ""}`; });
