// One answer on the page: its text, what the guard did, how it was made, and where a person says what is wrong.

import { $, button, copy, h, icon, toast } from "./dom.js";
import { tell, why } from "./feedback.js";
import { markdown } from "./markdown.js";
import { rateButton, rating } from "./rate.js";

const ACTIONS = ["allow", "flag", "redact", "ask", "block"];
const ENDS = {
  length: ["warn", "cut off",
    "The longest answer was reached, or the model's context is full: raise 'Longest answer' or begin anew"],
  filtered: ["bad", "stopped by the guard", "What followed was not allowed out"],
  content_filter: ["bad", "stopped by the guard", "What followed was not allowed out"],
  cancelled: ["", "stopped", "You stopped it here; the part that was made is kept"],
};

/** Return the text that counts: the person's wording if there is one. */
export const textOf = (answer) => answer.edited ?? answer.text;

/** What the guard did and how an answer ended, as chips. */
export function chips(answer) {
  const found = (answer.verdicts ?? []).map((verdict) => ({ ...verdict,
    did: typeof verdict.action === "number" ? ACTIONS[verdict.action] : String(verdict.action).toLowerCase() }));
  const nodes = found.filter((verdict) => verdict.did !== "allow").map((verdict) => h(
    `span.chip.${verdict.did === "block" ? "bad" : "warn"}`, { title: verdict.reason, testid: "verdict" },
    icon("shield"), `${verdict.category || verdict.check}: ${verdict.did}`));
  const [kind, words, why] = ENDS[answer.finish] ?? [];
  if (words) nodes.push(h(`span.chip.${kind || "plain"}`, { title: why, testid: "finish" }, words));
  if (answer.edited !== undefined) nodes.push(h("span.chip.accent", { testid: "edited" }, "your wording"));
  return nodes;
}

/** A failure in words, with a button to try again. */
export function problem(failure, retry) {
  const checks = (failure.checks ?? []).map((verdict) => `${verdict.check}: ${verdict.reason}`);
  const again = retry && button("again", "Try again", retry, { words: true, kind: "small", testid: "retry" });
  if (again && failure.wait) {
    again.disabled = true;
    setTimeout(() => { again.disabled = false; }, failure.wait * 1000);
  }
  return h("div.notice.bad", { role: "alert", testid: "problem" }, h("b", {}, failure.message),
    failure.fix ? h("span", {}, failure.fix) : null, checks.map((words) => h("span", {}, words)),
    h("div.row", {}, again));
}

function editor(answer, done) {
  const field = h("textarea", { value: textOf(answer), rows: Math.min(14, 2 + textOf(answer).length / 70),
    "aria-label": "Your wording of the answer", testid: "answer-text" });
  const form = h("form.editing", { onsubmit: async (event) => {
    event.preventDefault();
    const text = field.value;
    if (!text.trim() || text === textOf(answer)) return done();
    if (await tell({ kind: "edit", output: answer.id, text })) {
      answer.edited = text;
      toast("Kept: the conversation goes on with your wording");
    }
    done();
  }, onkeydown: (event) => { if (event.key === "Escape") { event.stopPropagation(); done(); } } },
  field, h("div.row", {},
    h("button.button.main", { testid: "answer-save" }, "Save"), button(null, "Cancel", done, { words: true }),
    h("span.tiny.muted", {}, "Your wording is preferred over the model's when it next learns.")));
  queueMicrotask(() => field.focus());
  return form;
}

function facts({ tokens, seconds, seed }) {
  const parts = [tokens && `${tokens} tokens`, seconds && `${seconds.toFixed(1)} s`];
  if (seed !== undefined) parts.push(`seed ${seed}`);
  return parts.filter(Boolean).join(" · ");
}


/** Walk among the answers that were made to the same message, but not while one is being made. */
function siblings({ at, count, go, still } = { count: 0 }) {
  if (count < 2) return null;
  return [button(null, "Earlier answer", () => go(at - 1), { disabled: at === 0 || still(), textContent: "‹" }),
    h("span.tiny.muted", { testid: "sibling" }, `${at + 1} / ${count}`),
    button(null, "Later answer", () => go(at + 1), { disabled: at === count - 1 || still(), textContent: "›" })];
}

/**
 * Build the view of an answer.
 *
 * Options: title (shown instead of the model's name while it is blind), blind, busy(), retry, regenerate, changed
 * (called when the answer itself changed), siblings ({at, count, go, still}); `still()` keeps them where they are.
 */
export function answerView(answer, options) {
  const said = h("div.said", { testid: "answer" });
  const node = h("article.turn.assistant", { testid: "assistant", dataset: { id: answer.id ?? "" } });
  let open = null;

  function text() {
    const words = textOf(answer) ?? "";
    if (answer.continues) {
      said.className = "said continued";
      said.textContent = words;
    } else {
      said.replaceChildren(h("div.markdown", {}, words || !options.busy() ? markdown(words) : [h("p")]));
    }
  }

  function thumb(value) {
    return button(value > 0 ? "up" : "down", value > 0 ? "Good answer" : "Bad answer", async () => {
      const before = answer.thumb;
      answer.thumb = value;
      if (!await tell({ kind: "thumb", output: answer.id, value })) answer.thumb = before;
      else open = why(answer, () => { open = null; draw(); });
      options.changed();
      draw();
      open?.scrollIntoView({ block: "nearest" });
    }, { "aria-pressed": answer.thumb === value, testid: value > 0 ? "thumb-up" : "thumb-down" });
  }

  function rate() {
    open = rating(answer, () => { open = null; options.changed(); draw(); $("[data-testid=rate]", node)?.focus(); },
      { text: answer.text });
    draw();
    open.scrollIntoView({ block: "nearest" });
  }

  function edit() {
    open = editor(answer, () => { open = null; options.changed(); draw(); });
    draw();
  }

  function actions() {
    if (options.busy()) return null;
    if (options.blind) return answer.id && !answer.error && h("div.acts", {}, rateButton(answer, rate, { words: true }));
    const walk = siblings(options.siblings);
    if (answer.error) return walk && h("div.acts", {}, walk);
    const again = options.regenerate && button("again", "Make another answer", options.regenerate,
      { testid: "regenerate" });
    if (!answer.id) return h("div.acts", {}, again);
    return h("div.acts", {}, thumb(1), thumb(-1), rateButton(answer, rate),
      button("edit", "Edit the answer", edit, { testid: "edit-answer" }),
      button("copy", "Copy", () => copy(textOf(answer))),
      again, walk,
      h("a.button.plain", { href: `/inside/${encodeURIComponent(answer.id)}`, testid: "inside-link" },
        icon("inside"), "Inside"),
      h("span.meta", { testid: "facts" }, facts(answer)));
  }

  function draw() {
    node.classList.toggle("busy", options.busy());
    node.dataset.id = answer.id ?? "";
    text();
    const editing = open?.classList.contains("editing");
    const title = h("b", { testid: "title" }, options.title ?? answer.model);
    const parts = [editing ? open : said, answer.error && problem(answer.error, options.retry),
      editing ? null : actions(), editing ? null : open];
    node.replaceChildren(h("div.who", {}, h("span.dot"), title, options.blind ? null : chips(answer)),
      ...parts.filter(Boolean));
  }

  draw();
  return { node, draw, text };
}
