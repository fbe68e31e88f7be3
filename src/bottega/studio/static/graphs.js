// The page of graphs: asks for some, draws the first of them, gives all as a file.

import { $, h, kept, svg } from "./dom.js";
import { Failure, file, get, post } from "./api.js";

const model = $("#model");
const settings = { model: "", rows: 12, ...kept.read("graphs", {}) };
let known = null; // what the page knows of the chosen model
let running = null; // the AbortController of what is being made
let last = null; // what was asked last, with its seed, and the output's id

function say(failure) {
  $("#error").textContent = failure ? `${failure.message} ${failure.fix ?? ""}` : "";
  $("#error").hidden = !failure;
}

function show() {
  $("#make").disabled = Boolean(running) || !known;
  $("#stop").hidden = !running;
}

async function choose() {
  settings.model = model.value;
  known = null;
  show();
  try {
    const found = await get(`/studio/graphs/models/${encodeURIComponent(settings.model)}`);
    if (found.id !== settings.model) return; // another one was picked meanwhile
    known = found;
    const rule = found.rule === "none" ? "" : ` · every one keeps the rule “${found.rule}”`;
    $("#about").textContent = [found.id, found.about, `learned from ${found.learned} graphs${rule}`].filter(Boolean)
      .join(" · ");
    $("#nodes").max = found.largest;
    $("#nodes-help").textContent = `At most ${found.largest}.`;
    $("#save-words").textContent = found.molecules ? "SMILES" : "JSON Lines";
    say(null);
  } catch (failure) {
    $("#about").textContent = "";
    say(failure);
  }
  show();
}

function asked() {
  const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));
  return { model: settings.model, rows: number("#rows"), nodes: number("#nodes"), seed: number("#seed"),
    temperature: number("#temperature"), bottega: { door: "studio" } };
}

function figure({ shapes, about }, side, smiles) {
  const title = smiles ?? about;
  return h("figure", { testid: "drawing" }, svg("svg", { viewBox: `0 0 ${side} ${side}`, role: "img",
    "aria-label": title }, ...shapes.map(([tag, attributes, text]) => svg(tag, attributes, text))),
  h("figcaption", {}, title));
}

async function make() {
  const body = asked();
  settings.rows = body.rows;
  kept.write("graphs", settings);
  running = new AbortController();
  last = null;
  say(null);
  $("#result").hidden = true;
  $("#status").textContent = "They are being made…";
  show();
  const start = performance.now();
  try {
    const made = await post("/v1/graphs/generations", body, running.signal);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    last = { id: made.bottega.outputs[0], body: { ...body, seed: made.bottega.seed } };
    const first = made.data.slice(0, known.shown);
    const { side, drawings } = await post("/studio/graphs/drawings", { model: body.model,
      graphs: first.map(({ nodes, edges }) => ({ nodes, edges })) }, running.signal);
    $("#drawings").replaceChildren(...drawings.map((one, place) => figure(one, side, first[place].smiles)));
    $("#caption").textContent = made.data.length > first.length
      ? `The first ${first.length} of ${made.data.length} graphs` : "";
    $("#caption").hidden = !$("#caption").textContent;
    $("#status").textContent = `${made.data.length} graphs in ${seconds} s, seed ${made.bottega.seed}`;
    $("#inside").href = `/inside/${encodeURIComponent(last.id)}`;
    $("#result").hidden = false;
  } catch (error) {
    $("#status").textContent = error.name === "AbortError" ? "stopped" : "";
    if (error.name !== "AbortError") {
      say(error instanceof Failure ? error : new Failure("The graphs broke off.", { fix: error.message }));
    }
  }
  running = null;
  show();
}

/** Return the kept lines, or make them again from their seed where nothing is kept. */
async function lines() {
  try {
    return await file(`/studio/graphs/${encodeURIComponent(last.id)}.txt`);
  } catch (failure) {
    if (failure.status !== 404) throw failure;
    return file("/v1/graphs/generations", { ...last.body, response_format: "lines" });
  }
}

$("#rows").value = settings.rows;
$("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!running && known) make();
});
$("#stop").addEventListener("click", () => { running?.abort(); $("#make").focus(); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
$("#save").addEventListener("click", async () => {
  try {
    const address = URL.createObjectURL(await lines());
    h("a", { href: address, download: `${last.id}.${known.molecules ? "smi" : "jsonl"}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  } catch (failure) {
    say(failure);
  }
});
const ids = [...model.options].map((option) => option.value);
const wanted = new URLSearchParams(location.search).get("model");
model.value = [wanted, settings.model].find((id) => ids.includes(id)) ?? ids[0] ?? "";
model.addEventListener("change", choose);
if (location.search) history.replaceState(null, "", "/graphs");
show();
if (ids.length) choose();
