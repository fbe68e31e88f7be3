// What a person says about an output after a thumb: kept by the workshop at once, reasons and words when they follow.

import { button, h, toast } from "./dom.js";
import { post } from "./api.js";

const REASONS = {
  1: ["right", "clear", "complete", "good tone"],
  [-1]: ["wrong", "off the question", "too long", "bad tone", "unsafe"],
};

/** Send feedback, one or a list; says so when it could not be kept. */
export async function tell(feedback) {
  try {
    await post("/v1/feedback", feedback);
    return true;
  } catch (failure) {
    toast(`Not kept: ${failure.message} ${failure.fix}`);
    return false;
  }
}

/** The reasons and comment that may follow a thumb; `words` are the reasons to offer for each thumb. */
export function why(answer, close, words = REASONS) {
  const picked = new Set();
  const comment = h("textarea", { rows: 2, maxLength: 4000, placeholder: "In your words (may stay empty)",
    "aria-label": "Comment", testid: "comment" });
  const reasons = words[answer.thumb].map((reason) => h("button.button", { type: "button", "aria-pressed": "false",
    testid: "reason", onclick: (event) => {
      if (!picked.delete(reason)) picked.add(reason);
      event.target.setAttribute("aria-pressed", picked.has(reason));
    } }, reason));
  const form = h("form.why", { testid: "why", onsubmit: async (event) => {
    event.preventDefault();
    const text = comment.value.trim();
    const thumb = { kind: "thumb", output: answer.id, value: answer.thumb, reasons: [...picked] };
    if (picked.size && !await tell(thumb)) return;
    if (text && !await tell({ kind: "comment", output: answer.id, text })) return;
    toast("Thank you, kept");
    close();
  } }, h("span.label", {}, answer.thumb > 0 ? "What was good?" : "What was wrong?"), h("div.row", {}, reasons), comment,
  h("div.row.end", {}, button(null, "Skip", close, { words: true }),
    h("button.button.main", { testid: "why-send" }, "Send")));
  return form;
}
