// The page of pictures: draws, shows them grow, stops, varies, edits. What was made stays in the workshop's store.

import { $, toast } from "./dom.js";
import { Failure, get, stream } from "./api.js";
import { decoded } from "./picture_file.js";
import { able, request, sawSeed, settings, setUpPanel, suggest, togglePanel } from "./picture_panel.js";
import { bytes, setView } from "./picture_set.js";
import { startFrom, takeFiles } from "./picture_start.js";

const log = $("#log");
const list = $("#sets");
const prompt = $("#prompt");
let views = [];
let running = null; // the AbortController of the pictures that are being drawn

const toEnd = () => { log.scrollTop = log.scrollHeight; };

function show() {
  const ready = Boolean(able());
  $("#welcome").hidden = views.length > 0;
  list.hidden = !views.length;
  $("#stop").hidden = !running;
  $("#send").hidden = Boolean(running);
  $("#send").disabled = !ready;
  $("#upload").hidden = !able()?.image;
  list.setAttribute("aria-busy", Boolean(running));
  $("#welcome-title").textContent = settings.model ? "What shall we draw?" : "No model of pictures yet";
  $("#welcome-about").textContent = ready ? [able().id, able().about, `${able().size} pixels`].filter(Boolean).join(" · ")
    : settings.model ? "The model is being loaded…"
      : "Make one with 'bottega train recipes/symbols-diffusion.yaml', then load this page again.";
}

/** Make the view of a set; `asked` are the words and pictures it is made from, if it is made here. */
function viewOf(set, asked) {
  const view = setView(set, {
    busy: () => running?.set === set,
    vary: async (output) => draw({ prompt: "", image: await bytes(output) }),
    edit: async (output) => startFrom(await bytes(output), set.prompt, draw),
    retry: asked && (() => { remove(view); draw(asked); }),
  });
  return view;
}

function remove(view) {
  views = views.filter((other) => other !== view);
  view.node.remove();
}

function take(set, view, event) {
  const index = event.bottega?.output ?? 0;
  const blob = decoded(event.b64_json);
  if (event.type.endsWith(".completed")) set.outputs[index].blob = blob;
  const shown = view.grown(index, blob);
  if (!event.bottega?.outputs) return shown;
  set.seed = event.bottega.seed;
  set.verdicts = event.bottega.verdicts;
  for (const id of event.bottega.outputs) set.outputs[Number(id.split(".").at(-1))].id = id;
  return shown;
}

/** Draw {prompt}, or start from {image, mask, prompt}; ends when all is made, stopped or failed. */
async function draw(asked) {
  if (running) return toast("Stop the pictures first (Esc)");
  const { address, body } = request(asked);
  const field = (name) => (body instanceof FormData ? body.get(name) : body[name]);
  const set = { prompt: asked.prompt, toward: field("toward"), image: Boolean(asked.image), mask: Boolean(asked.mask),
    model: settings.model, outputs: Array.from({ length: Number(field("n") ?? 1) }, (_, index) => ({ index })) };
  running = new AbortController();
  running.set = set;
  const start = performance.now();
  const view = viewOf(set, asked);
  views.push(view);
  list.append(view.node);
  show();
  toEnd();
  try {
    for await (const event of stream(address, body, running.signal)) await take(set, view, event);
  } catch (error) {
    if (error.name === "AbortError") set.finish = "cancelled";
    else set.error = error instanceof Failure ? error : new Failure("The pictures broke off.", { fix: error.message });
  }
  running = null;
  set.seconds = (performance.now() - start) / 1000;
  view.draw();
  show();
  toEnd();
  if (set.seed !== undefined) sawSeed(set.seed);
}

async function earlier() {
  const made = (await get("/studio/pictures/works")).reverse().map((work) => viewOf(work));
  views.unshift(...made); // something may be drawn already
  list.prepend(...made.map((view) => view.node));
  show();
  toEnd();
}

const stop = () => running?.abort();

$("#composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!running && able()) draw({ prompt: prompt.value.trim() });
});
$("#stop").addEventListener("click", () => { stop(); prompt.focus(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.shiftKey) prompt.focus();
  else if (event.key === "Escape" && running && !$("dialog[open]")) stop();
  else if ((event.ctrlKey || event.metaKey) && event.key === ".") { event.preventDefault(); togglePanel(); }
});
takeFiles((file) => startFrom(file, prompt.value, draw).catch(() => toast("This file is not a picture")));
suggest(prompt, $("#known"));
earlier().catch((failure) => toast(`${failure.message} ${failure.fix ?? ""}`));
const lastSeed = () => [...views].reverse().find((view) => view.set.seed !== undefined)?.set.seed;
setUpPanel({ lastSeed, changed: () => { views.forEach((view) => view.draw()); show(); } });
if (location.search) history.replaceState(null, "", "/pictures");
prompt.focus();
