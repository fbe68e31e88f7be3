// Scores from 1 to 5, of the whole and of aspects, and a critique of a part that is marked; with mouse or keyboard.

import { button, h, icon, toast } from "./dom.js";
import { tell } from "./feedback.js";

const SCALE = [1, 5];
const SCORES = Array.from({ length: SCALE[1] - SCALE[0] + 1 }, (_, place) => SCALE[0] + place);
const WHOLE = ""; // stands for the whole output among the aspects
const ASPECTS = ["correct", "complete", "clear", "tone"];

/** The button that opens a rating; it shows the score of the whole. Options as `button` takes them. */
export function rateButton(output, open, { words = false } = {}) {
  const score = output.scores?.[WHOLE];
  const label = score === undefined ? "Rate from 1 to 5" : `Rated ${score} of ${SCALE[1]}; rate anew`;
  const node = button("rate", words ? (score === undefined ? "Rate" : `Rated ${score} of ${SCALE[1]}`) : label, open,
    { words, "aria-pressed": score !== undefined, testid: "rate" });
  if (!words && score !== undefined) node.replaceChildren(icon("rate"), h("span.score", {}, String(score)));
  return node;
}

/** A row of five scores as radio buttons: Tab goes to the row, arrow keys choose. */
function scores(aspect, now) {
  const words = aspect === WHOLE ? "as a whole" : aspect;
  return h("div.scale", { role: "radiogroup", "aria-label": `${words}, 1 is poor, 5 is excellent`,
    dataset: { aspect }, testid: "scale" }, h("span.label", { "aria-hidden": "true" }, words),
  SCORES.map((score) => h("label", {}, h("input", { type: "radio", name: `score-${aspect}`, value: String(score),
    checked: score === now }), h("span", {}, String(score)))));
}

/**
 * Return how many characters stand before a place of a text area.
 *
 * The page counts UTF-16 units and shows "\r\n" as one; the workshop counts characters of the text as it is.
 */
export function charactersBefore(text, place) {
  let shown = 0;
  let count = 0;
  for (const [piece] of text.matchAll(/\r\n|[^]/gu)) {
    if (shown >= place) break;
    shown += piece === "\r\n" ? 1 : piece.length;
    count += piece === "\r\n" ? 2 : 1;
  }
  return count;
}

const shortened = (words) => (words.length > 80 ? `${words.slice(0, 45)} … ${words.slice(-30)}` : words);

/** The answer's words to mark a part of; `span()` is [first character, the one after the last] or undefined. */
function markable(text, changed) {
  // not readOnly: then browsers have no caret, and the keyboard could mark nothing
  const field = h("textarea.mark", { value: text, rows: Math.min(8, 2 + Math.floor(text.length / 70)),
    "aria-readonly": "true", spellcheck: false, testid: "mark",
    "aria-label": "The answer as it was made. Mark what the critique is about: Shift and arrow keys" });
  field.addEventListener("beforeinput", (event) => event.preventDefault());
  field.addEventListener("input", () => { field.value = text; }); // composed signs cannot be prevented
  field.setSelectionRange(0, 0);
  const marked = () => field.value.slice(field.selectionStart, field.selectionEnd);
  for (const name of ["select", "selectionchange", "keyup", "pointerup"]) {
    field.addEventListener(name, () => changed(marked()));
  }
  return { field, span: () => (marked() ? [charactersBefore(text, field.selectionStart),
    charactersBefore(text, field.selectionEnd)] : undefined) };
}

/** The words of a critique, what they are about, and (for a text) the part that is marked. */
function critique(text, aspects) {
  const status = h("p.tiny.muted", { role: "status", testid: "marked" }, "Nothing is marked: about the whole answer.");
  const words = h("textarea", { rows: 2, maxLength: 10000, placeholder: "In your words (may stay empty)",
    "aria-label": "Critique", testid: "critique" });
  const about = h("select", { "aria-label": "What the critique is about", testid: "critique-aspect" },
    h("option", { value: WHOLE }, "in general"), aspects.map((aspect) => h("option", {}, aspect)));
  const mark = text && markable(text, (marked) => {
    status.textContent = marked ? `Marked: “${shortened(marked)}”` : "Nothing is marked: about the whole answer.";
    words.required = Boolean(marked);
  });
  return {
    nodes: [h("span.label", {}, mark ? "Mark a part and say what is wrong or right there" : "Critique"),
      mark && mark.field, mark && status, h("div.critique", {}, about, words)].filter(Boolean),
    value: () => (words.value.trim() ? { kind: "comment", text: words.value.trim(),
      aspect: about.value || undefined, span: mark ? mark.span() : undefined } : undefined),
  };
}

/**
 * Build the form of a rating; what is said goes to the workshop as scores and a comment, and `output.scores` keeps it.
 *
 * Options: text (of an answer, to mark a part of), aspects that get a score, title.
 */
export function rating(output, close, { text, aspects = ASPECTS, title = "This answer" } = {}) {
  const known = output.scores ?? {};
  const rows = [WHOLE, ...aspects].map((aspect) => scores(aspect, known[aspect]));
  const said = critique(text, aspects);
  const chosen = () => Object.fromEntries(rows.map((row) => [row.dataset.aspect,
    Number(row.querySelector("input:checked")?.value)]).filter(([aspect, score]) => score && score !== known[aspect]));

  async function send(event) {
    event.preventDefault();
    const given = chosen();
    const words = said.value();
    const all = [...Object.entries(given).map(([aspect, score]) => ({ kind: "score", score, scale: SCALE,
      aspect: aspect || undefined })), ...(words ? [words] : [])];
    sending.disabled = true; // a second click says nothing more
    if (all.length && !await tell(all.map((one) => ({ ...one, output: output.id })))) {
      sending.disabled = false;
      return;
    }
    if (all.length) toast("Thank you, kept");
    output.scores = { ...known, ...given };
    close();
  }

  const sending = h("button.button.main", { testid: "rating-send" }, "Send");
  const form = h("form.why", { testid: "rating", "aria-label": `${title}: a rating`, onsubmit: send,
    onkeydown: (event) => { if (event.key === "Escape") { event.stopPropagation(); close(); } } },
  h("div.scales", {}, h("span.label", {}, title),
    h("span.tiny.muted", {}, "1 is poor, 5 is excellent; leave out what you cannot judge"), rows), ...said.nodes,
  h("div.row.end", {}, button(null, "Cancel", close, { words: true }),
    sending));
  queueMicrotask(() => (form.querySelector("input:checked") ?? form.querySelector("input")).focus());
  return form;
}
