// A blind round: one question at a time, voted with a click or a key. The page never learns whose an answer is.

import { $ } from "./dom.js";
import { post } from "./api.js";

const round = $("#round");
const sheets = [...document.querySelectorAll(".sheet-of")];
let at = sheets.findIndex((sheet) => !sheet.dataset.voted);
if (at < 0) at = sheets.length;
let busy = false;

function show() {
  sheets.forEach((sheet, place) => { sheet.hidden = place !== at; });
  $("#done").hidden = at < sheets.length;
  $("#place").textContent = at < sheets.length ? `${at + 1} of ${sheets.length}` : "done";
  for (const button of sheets[at]?.querySelectorAll("[data-choice]") ?? []) {
    button.setAttribute("aria-pressed", String(button.dataset.choice === sheets[at].dataset.voted));
  }
}

async function vote(choice) {
  const sheet = sheets[at];
  if (!sheet || busy) return;
  busy = true;
  $("#vote-error").hidden = true;
  try {
    await post(`/studio/compare/${encodeURIComponent(round.dataset.id)}/vote`,
      { item: Number(sheet.dataset.item), choice, consent: $("#consent").checked });
    sheet.dataset.voted = choice;
    at += 1;
    show();
    scrollTo({ top: 0 });
  } catch (failure) {
    $("#vote-error").textContent = `${failure.message} ${failure.fix}`;
    $("#vote-error").hidden = false;
  } finally {
    busy = false;
  }
}

for (const button of round.querySelectorAll("[data-choice]")) {
  button.addEventListener("click", () => vote(button.dataset.choice));
}

const KEYS = { ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right", 0: "tie", "-": "bad" };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), textarea, dialog")) return;
  if (KEYS[event.key]) {
    event.preventDefault();
    vote(KEYS[event.key]);
  } else if (event.key === "Backspace" && at > 0) {
    event.preventDefault();
    at -= 1;
    show();
  }
});

show();
