// The page of tables: asks for rows, shows the first of them while the rest comes, gives the files.

import { $, h, kept } from "./dom.js";
import { Failure, file, get, stream } from "./api.js";
import { balance, conditions, setUpConditions, showColumns } from "./table_conditions.js";

const SHOWN = 100; // rows
const model = $("#model");
const settings = { model: "", rows: 1000, ...kept.read("tables", {}) };
let running = null;
let last = null; // what was asked last, with its seed, and the output's id

function say(failure) {
  $("#error").textContent = failure ? `${failure.message} ${failure.fix ?? ""}` : "";
  $("#error").hidden = !failure;
}

function show() {
  $("#make").disabled = Boolean(running) || !settings.ready;
  $("#stop").hidden = $("#progress").hidden = !running;
}

async function choose() {
  settings.model = model.value;
  settings.ready = false;
  for (const one of document.querySelectorAll("[data-refused]")) one.hidden = one.dataset.refused !== model.value;
  $("#about").textContent = "The model is being loaded…";
  show();
  try {
    const found = await get(`/v1/tables/${encodeURIComponent(settings.model)}/schema`);
    if (found.model !== settings.model) return; // another one was picked meanwhile
    showColumns(found.columns);
    settings.ready = true;
    const rules = found.rules.length ? ` · every row keeps ${found.rules.join("; ")}` : "";
    const from = found.entity ? `${found.entity.rows} rows of ${found.rows} ${found.entity.name}` : `${found.rows} rows`;
    const each = found.entity ? ` · Rows counts ${found.entity.name}: each comes with all of its rows` : "";
    $("#about").textContent = `${found.model} · ${found.columns.length} columns, learned from ${from}${each}${rules}`;
    say(null);
  } catch (failure) {
    $("#about").textContent = "";
    say(failure);
  }
  show();
}

const cell = (value) => (value === null ? h("td", {}, h("span.muted", { title: "missing" }, "–"))
  : h("td", {}, String(value)));

function take(event, rows) {
  if (event.columns && !$("#head").children.length) {
    $("#head").append(h("tr", {}, event.columns.map((column) => h("th", { scope: "col" }, column.name))));
  }
  const names = event.columns?.map((column) => column.name) ?? [];
  const some = event.data.slice(0, Math.max(0, SHOWN - rows));
  $("#body").append(...some.map((row) => h("tr", {}, names.map((name) => cell(row[name])))));
  $("#notes").append(...event.notes.map((note) => h("p.notice", {}, note)));
}

function asked() {
  const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));
  const wish = conditions();
  return { model: settings.model, rows: number("#rows"), seed: number("#seed"), temperature: number("#temperature"),
    conditions: wish.length ? wish : undefined, balance: balance(), bottega: { door: "studio" } };
}

async function make() {
  const body = asked();
  Object.assign(settings, { rows: body.rows });
  kept.write("tables", { model: settings.model, rows: settings.rows });
  running = new AbortController();
  last = null;
  let rows = 0;
  say(null);
  for (const id of ["#head", "#body", "#notes"]) $(id).replaceChildren();
  $("#files").hidden = $("#result").hidden = true;
  $("#progress").max = body.rows;
  $("#progress").value = 0;
  show();
  const start = performance.now();
  try {
    for await (const event of stream("/v1/tables/generations", { ...body, stream: true }, running.signal)) {
      take(event, rows);
      rows += event.data.length;
      $("#result").hidden = false;
      $("#progress").value = rows;
      if (event.bottega) last = { id: event.bottega.outputs[0], body: { ...body, seed: event.bottega.seed } };
    }
  } catch (error) {
    if (error.name !== "AbortError") {
      say(error instanceof Failure ? error : new Failure("The rows broke off.", { fix: error.message }));
    }
  }
  running = null;
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  $("#caption").textContent = `The first ${Math.min(rows, SHOWN)} of ${rows} rows`;
  $("#status").textContent = last ? `${rows} rows in ${seconds} s, seed ${last.body.seed}` : rows ? "stopped" : "";
  if (last) $("#inside").href = `/inside/${encodeURIComponent(last.id)}`;
  $("#files").hidden = !last;
  show();
}

/** Return the kept file, or make it again from its seed where nothing is kept. */
async function fileOf(ending) {
  try {
    return await file(`/studio/tables/${encodeURIComponent(last.id)}.${ending}`);
  } catch (failure) {
    if (failure.status !== 404) throw failure;
    return file("/v1/tables/generations", { ...last.body, response_format: ending });
  }
}

async function save(ending) {
  try {
    const address = URL.createObjectURL(await fileOf(ending));
    h("a", { href: address, download: `${last.id}.${ending}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  } catch (failure) {
    say(failure);
  }
}

$("#rows").value = settings.rows;
$("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!running && settings.ready) make();
});
$("#stop").addEventListener("click", () => { running?.abort(); $("#make").focus(); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
for (const one of document.querySelectorAll("[data-ending]")) {
  one.addEventListener("click", () => save(one.dataset.ending));
}
setUpConditions();
const ids = [...model.options].map((option) => option.value);
const wanted = new URLSearchParams(location.search).get("model");
model.value = [wanted, settings.model].find((id) => ids.includes(id)) ?? ids[0] ?? "";
model.addEventListener("change", choose);
if (location.search) history.replaceState(null, "", "/tables");
show();
if (ids.length) choose();
