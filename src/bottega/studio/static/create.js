// The conversation: sends, stops, edits, branches, regenerates, compares. Kept in the browser over a reload.

import { $, button, h, kept, toast } from "./dom.js";
import { answerView, textOf } from "./answer.js";
import { pairView } from "./compare.js";
import { blank, make } from "./making.js";
import { choices, modelOf, save as saveSettings, settings } from "./settings.js";
import { sawSeed, setUpPanel, showSettings, togglePanel } from "./panel.js";
import { openPicker, setUpPicker } from "./picker.js";

let turns = kept.read("conversation", []);
let running = new Map(); // answer → its AbortController
const log = $("#log");
const list = $("#turns");
const message = $("#message");

const save = () => kept.write("conversation", turns);
const busy = () => running.size > 0;

function messages(upTo) {
  return turns.slice(0, upTo).filter((turn) => turn.role === "user" || turn.answers[turn.chosen]?.text)
    .map((turn) => (turn.role === "user" ? { role: "user", content: turn.text }
      : { role: "assistant", content: textOf(turn.answers[turn.chosen]) }));
}

function userView(turn, index) {
  const said = h("div.said", { testid: "said" }, turn.text);
  const acts = h("div.acts", {}, button("edit", "Edit and send again", edit, { testid: "edit-message" }));
  const node = h("article.turn.user", { testid: "user" }, said, acts);
  function edit() {
    if (busy()) return toast("Stop the answer first (Esc)");
    const field = h("textarea", { value: turn.text, rows: 3, "aria-label": "Your message", testid: "message-text" });
    const sendEdited = () => {
      if (!field.value.trim()) return;
      turns = turns.slice(0, index);
      say(field.value);
    };
    const onkeydown = (event) => {
      if (event.key === "Escape") { event.stopPropagation(); draw(); }
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); sendEdited(); }
    };
    const onsubmit = (event) => { event.preventDefault(); sendEdited(); };
    node.replaceChildren(h("form.editing", { onsubmit, onkeydown }, field,
      h("div.row.end", {}, h("span.tiny.muted", {}, "What follows is replaced."),
        button(null, "Cancel", draw, { words: true }),
        h("button.button.main", { testid: "message-save" }, "Send"))));
    field.focus();
  }
  return { node, views: [] };
}

function answersView(turn, index) {
  const shared = { retry: () => again(index), changed: save };
  if (turn.pair) {
    const judged = () => { save(); draw(); toEnd(); message.focus(); };
    return pairView(turn, { ...shared, judged, busy: (answer) => running.has(answer) });
  }
  const answer = turn.answers[turn.chosen];
  const go = (to) => {
    if (busy()) return toast("Stop the answer first (Esc)");
    keepRest(index);
    turn.chosen = to;
    const { rest = [] } = turn.answers[to];
    delete turn.answers[to].rest;
    turns.push(...rest);
    save();
    draw();
  };
  const view = answerView(answer, { ...shared, busy: () => running.has(answer), regenerate: () => again(index),
    siblings: { at: turn.chosen, count: turn.answers.length, go, still: busy } });
  return { node: view.node, views: [view] };
}

/** Cut what follows a turn, and keep it with the answer it was said to. */
function keepRest(index) {
  const turn = turns[index];
  if (turns.length > index + 1) turn.answers[turn.chosen].rest = turns.slice(index + 1);
  turns = turns.slice(0, index + 1);
}

let shown = [];

function draw() {
  shown = turns.map((turn, index) => (turn.role === "user" ? userView(turn, index) : answersView(turn, index)));
  list.replaceChildren(...shown.map((view) => view.node));
  list.classList.toggle("paired", turns.some((turn) => turn.pair));
  list.setAttribute("aria-busy", busy());
  $("#welcome").hidden = turns.length > 0;
  list.hidden = !turns.length;
  $("#stop").hidden = !busy();
  $("#send").hidden = busy();
  message.placeholder = modelOf("a")?.answers === false ? "Write the beginning; the model goes on" : "Write a message";
}

const nearEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 120;
const toEnd = () => { log.scrollTop = log.scrollHeight; };

async function answer(index, answers) {
  const before = messages(index);
  for (const one of answers) running.set(one, new AbortController());
  draw();
  toEnd();
  let waiting = false;
  const grown = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const follow = nearEnd();
      shown[index]?.views.forEach((view) => view.text());
      if (follow) toEnd();
    });
  };
  await Promise.all(answers.map(async (one) => {
    await make(one, before, running.get(one).signal, grown);
    running.delete(one);
    shown[index]?.views.forEach((view) => view.draw());
  }));
  save();
  const follow = nearEnd();
  draw();
  if (follow) toEnd();
  const seed = answers[0].seed;
  if (seed !== undefined) sawSeed(seed);
}

function reply(index) {
  turns = turns.slice(0, index);
  const answers = settings.compare ? [blank("a"), blank("b")] : [blank("a")];
  if (answers.length === 2 && Math.random() < 0.5) answers.reverse();
  turns.push({ role: "assistant", answers, chosen: 0, pair: answers.length === 2 });
  return answer(index, answers);
}

/** Make another answer in place of one; the earlier ones stay reachable. */
function again(index) {
  if (busy()) return toast("Stop the answer first (Esc)");
  const turn = turns[index];
  if (turn.pair || settings.compare) return reply(index);
  keepRest(index);
  turn.answers = turn.answers.filter((one) => (one.id && one.text) || one.rest);
  turn.answers.push(blank("a"));
  turn.chosen = turn.answers.length - 1;
  return answer(index, [turn.answers[turn.chosen]]);
}

function say(text) {
  turns.push({ role: "user", text });
  save();
  return reply(turns.length);
}

function send() {
  const text = message.value;
  if (!text.trim() || busy()) return;
  const last = turns.at(-1);
  if (last?.pair && !last.judgement && last.answers.every((one) => !one.error)) {
    toast("Say first which answer is better");
    $("[data-testid=judge-a]")?.focus();
    return;
  }
  message.value = "";
  fit();
  say(text);
  message.focus();
}

const stop = () => running.forEach((controller) => controller.abort());

function startAnew() {
  stop();
  running = new Map();
  turns = [];
  save();
  draw();
  message.focus();
}

function fit() {
  if (CSS.supports("field-sizing", "content")) return;
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight}px`;
}

function welcome() {
  const model = modelOf("a");
  $("#welcome-title").textContent = model ? "What shall we make?" : "No model yet";
  $("#welcome-about").textContent = !model
    ? "Make your first ones with 'bottega demo' (about six minutes), then load this page again."
    : model.answers ? `${model.id} ${model.about ? `· ${model.about}` : "is ready"}`
      : `${model.id} continues text: write a beginning and it goes on.`;
  $("#examples").replaceChildren(...(model?.prompts ?? []).map((prompt) => h("button.example", { type: "button",
    onclick: () => { message.value = prompt; fit(); message.focus(); } }, prompt)));
  message.disabled = $("#send").disabled = !choices.length;
  draw();
}

$("#composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
message.addEventListener("input", fit);
message.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  if (event.key === "/" && !message.value && !event.ctrlKey && !event.metaKey) { event.preventDefault(); openPicker(); }
});
$("#stop").addEventListener("click", () => { stop(); message.focus(); });
$("#new").addEventListener("click", startAnew);
$("#open-prompts").addEventListener("click", () => openPicker());
window.addEventListener("pagehide", () => {
  for (const one of running.keys()) one.finish = "cancelled";
  save();
});
document.addEventListener("keydown", (event) => {
  const command = event.ctrlKey || event.metaKey;
  if (event.key === "Escape" && event.shiftKey) message.focus();
  else if (event.key === "Escape" && busy() && !$("dialog[open]")) stop();
  else if (command && event.shiftKey && event.key.toLowerCase() === "o") { event.preventDefault(); startAnew(); }
  else if (command && event.key === ".") { event.preventDefault(); togglePanel(); }
});

setUpPicker(({ body, system, controls }) => {
  message.value = body;
  if (system) settings.system = system;
  if (controls) settings.a.controls = { ...settings.a.controls, ...controls };
  saveSettings();
  showSettings();
  fit();
  message.focus();
});
const lastSeed = () => turns.flatMap((turn) => turn.answers ?? []).findLast((one) => one.seed !== undefined)?.seed;
setUpPanel({ changed: welcome, lastSeed });
welcome();
toEnd();
const asked = new URLSearchParams(location.search);
if (asked.get("prompt")) openPicker(asked.get("prompt"), asked.get("version"));
if (location.search) history.replaceState(null, "", "/");
message.focus();
