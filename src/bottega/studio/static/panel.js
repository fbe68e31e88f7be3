// The panel of controls and the model pickers: fields ↔ settings.

import { $ } from "./dom.js";
import { showNumber, watchNumber } from "./fields.js";
import { choices, modelOf, save, settings } from "./settings.js";

const panel = $("#panel");
const fields = [...panel.querySelectorAll("[data-control]")];

function setting() {
  return settings[settings.compare ? settings.side : "a"];
}

function showField(field) {
  const name = field.dataset.control;
  const own = modelOf(settings.compare ? settings.side : "a")?.controls?.[name];
  showNumber(field, setting().controls[name], own);
}

function checkSchema() {
  const text = $("#c-schema").value.trim();
  const problem = $("#schema-error");
  let message = "";
  try {
    const schema = text ? JSON.parse(text) : {};
    if (schema === null || typeof schema !== "object") message = "A schema is an object: { … }";
  } catch (error) {
    message = `This is not JSON yet: ${error.message}`;
  }
  problem.textContent = message;
  problem.hidden = !message;
  return !message;
}

/** Show the settings in all fields and buttons. */
export function showSettings() {
  fields.forEach(showField);
  $("#system").value = settings.system;
  $("#c-stop").value = setting().controls.stop ?? "";
  $("#c-schema").value = setting().controls.schema ?? "";
  checkSchema();
  $("#model-a").value = settings.a.model;
  $("#model-b").value = settings.b.model;
  $("#model-b").hidden = $("#versus").hidden = $("#sides").hidden = !settings.compare;
  $("#compare").setAttribute("aria-pressed", settings.compare);
  $("#lock").setAttribute("aria-pressed", settings.lock);
  for (const side of panel.querySelectorAll("[data-side]")) {
    side.setAttribute("aria-pressed", side.dataset.side === settings.side);
  }
  panel.hidden = !settings.panel;
  $("#open-panel").setAttribute("aria-expanded", settings.panel);
}

function set(name, value) {
  if (value === undefined || value === "") delete setting().controls[name];
  else setting().controls[name] = value;
  save();
}

/** Keep the seed of the last answer when the person locked it. */
export function sawSeed(seed) {
  if (settings.lock && Number.isSafeInteger(seed) && settings.a.controls.seed === undefined) {
    settings.a.controls.seed = settings.b.controls.seed = seed;
    save();
    showSettings();
  }
}

/** Open or close the panel. */
export function togglePanel(open = !settings.panel) {
  settings.panel = open;
  save();
  showSettings();
  if (open) $("#system").focus();
  else $("#open-panel").focus();
}

/** Connect all fields; `changed` is called when another model is picked, `lastSeed` gives the seed to keep. */
export function setUpPanel({ changed, lastSeed }) {
  $("#model-b").append(...[...$("#model-a").children].map((group) => group.cloneNode(true)));
  for (const field of fields) {
    watchNumber(field, (value) => {
      set(field.dataset.control, value);
      showField(field);
    });
  }
  $("#system").addEventListener("input", (event) => { settings.system = event.target.value; save(); });
  $("#c-stop").addEventListener("input", (event) => set("stop", event.target.value));
  $("#c-schema").addEventListener("input", (event) => set("schema", checkSchema() ? event.target.value : ""));
  for (const side of ["a", "b"]) {
    $(`#model-${side}`).addEventListener("change", (event) => {
      settings[side].model = event.target.value;
      save();
      showSettings();
      changed();
    });
  }
  panel.addEventListener("click", (event) => {
    const side = event.target.closest("[data-side]")?.dataset.side;
    if (side) { settings.side = side; save(); showSettings(); }
  });
  $("#reset").addEventListener("click", () => {
    setting().controls = {};
    settings.system = "";
    settings.lock = false;
    save();
    showSettings();
  });
  $("#lock").addEventListener("click", () => {
    settings.lock = !settings.lock;
    for (const side of ["a", "b"]) settings[side].controls.seed = undefined;
    if (settings.lock) sawSeed(lastSeed());
    save();
    showSettings();
  });
  $("#compare").addEventListener("click", () => {
    settings.compare = !settings.compare;
    save();
    showSettings();
    changed();
  });
  $("#open-panel").addEventListener("click", () => togglePanel());
  $("#close-panel").addEventListener("click", () => togglePanel(false));
  const asked = new URLSearchParams(location.search);
  const wanted = choices.find((choice) => choice.id === asked.get("model"));
  if (wanted) settings.a.model = settings.b.model = wanted.id;
  if (asked.has("compare")) settings.compare = true;
  showSettings();
}
