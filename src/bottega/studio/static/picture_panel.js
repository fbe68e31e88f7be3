// What the person has set for pictures, and the panel that shows the controls the chosen model understands.

import { $, h, kept, toast } from "./dom.js";
import { get } from "./api.js";
import { showNumber, watchNumber } from "./fields.js";

const panel = $("#panel");
const model = $("#model");
const fields = [...panel.querySelectorAll("[data-control]")];
const NAMES = ["n", "seed", "steps", "guidance_scale", "sampler", "temperature", "negative_prompt", "size", "strength"];

export const settings = { model: "", panel: window.innerWidth > 1240, lock: false, controls: { n: 4 },
  ...kept.read("pictures", {}) };
const save = () => kept.write("pictures", settings);

let chosen = null;

/** Return what the chosen model can do; null until it is known. */
export const able = () => chosen;

const fits = (name) => (name === "toward" ? chosen.toward : name === "size" ? !chosen.fixed // else it is only shown
  : name === "strength" ? chosen.image && chosen.controls.includes(name) : chosen.controls.includes(name));

/** Show the settings in the fields that the model understands. */
export function showSettings() {
  for (const field of fields) {
    const name = field.dataset.control;
    const own = chosen?.defaults[name] ?? (name === "size" ? chosen?.size : undefined);
    const value = settings.controls[name];
    field.hidden = !chosen || !(fits(name) || name === "size");
    if ($("input[type=number]", field)) showNumber(field, value, own);
    else {
      const entry = $("input, select", field);
      if (entry !== document.activeElement) entry.value = value ?? ""; // never over what is being typed
      if (name === "size") {
        entry.readOnly = Boolean(chosen?.fixed);
        if (entry.readOnly) entry.value = own;
        $("small", field).textContent = entry.readOnly ? "The model draws this size only."
          : "WIDTHxHEIGHT in pixels.";
      }
      if (entry.options) entry.options[0].textContent = own ?? "the model's own";
      else if (own) entry.placeholder = own;
    }
  }
  $("#lock").setAttribute("aria-pressed", settings.lock);
  panel.hidden = !settings.panel;
  $("#open-panel").setAttribute("aria-expanded", settings.panel);
}

/** Change a control; undefined or an empty text leaves it to the model. */
export function set(name, value) {
  if (value === undefined || value === "") delete settings.controls[name];
  else settings.controls[name] = value;
  save();
  showSettings();
}

/** Keep the seed of the last pictures when the person locked it. */
export function sawSeed(seed) {
  if (settings.lock && Number.isSafeInteger(seed) && settings.controls.seed === undefined) set("seed", seed);
}

/** Open or close the panel. */
export function togglePanel(open = !settings.panel) {
  settings.panel = open;
  save();
  showSettings();
  if (open) $("input:not([hidden])", panel).focus();
  else $("#open-panel").focus();
}

/**
 * Return address and body of a request.
 *
 * A picture to start from (a Blob) goes as a form, its `mask` (a Blob or nothing) with it; else words are drawn.
 */
export function request({ prompt, image, mask }) {
  const body = { model: settings.model, prompt, stream: true, partial_images: 3 };
  for (const name of NAMES) {
    const value = settings.controls[name];
    if (value !== undefined && fits(name) && (name !== "strength" || image)) body[name] = value;
  }
  if (!image) {
    if (chosen.toward && settings.controls.toward) {
      Object.assign(body, { toward: settings.controls.toward, n: Math.max(2, body.n ?? 4) });
    }
    return { address: "/v1/images/generations", body: { ...body, bottega: { door: "studio" } } };
  }
  const form = new FormData();
  for (const [name, value] of Object.entries({ ...body, "bottega[door]": "studio" })) form.append(name, value);
  form.append("image", image, "image");
  if (mask) form.append("mask", mask, "mask.png");
  return { address: "/v1/images/edits", body: form };
}

/** Offer the model's classes, and behind each word that was written the words that may follow. */
export function suggest(field, known) {
  const shown = () => {
    const before = field.value.slice(0, field.value.search(/[^\s]*$/));
    const begun = field.value.slice(before.length).toLowerCase();
    const whole = before ? [] : [...(chosen?.prompts ?? []), ...(chosen?.classes ?? [])];
    const words = (chosen?.words ?? []).filter((word) => word.startsWith(begun) && word !== begun);
    const found = [...whole, ...words.map((word) => before + word)].slice(0, 60);
    known.replaceChildren(...found.map((value) => h("option", { value })));
  };
  field.addEventListener("input", shown);
  field.addEventListener("focus", shown);
}

async function choose(changed) {
  settings.model = model.value;
  save();
  chosen = null;
  changed();
  try {
    const found = await get(`/studio/pictures/models/${encodeURIComponent(settings.model)}`);
    if (found.id === settings.model) chosen = found; // else another one was picked meanwhile
  } catch (failure) {
    toast(`${failure.message} ${failure.fix ?? ""}`);
  }
  showSettings();
  changed();
}

/** Connect all fields; `changed` is called when `able` changed, `lastSeed` gives the seed to keep. */
export function setUpPanel({ changed, lastSeed }) {
  for (const field of fields) {
    const name = field.dataset.control;
    if ($("input[type=number]", field)) watchNumber(field, (value) => set(name, value));
    else $("input, select", field).addEventListener("change", (event) => set(name, event.target.value.trim()));
  }
  $("#reset").addEventListener("click", () => {
    settings.controls = { n: 4 };
    settings.lock = false;
    set("n", 4);
  });
  $("#lock").addEventListener("click", () => {
    settings.lock = !settings.lock;
    set("seed", undefined);
    if (settings.lock) sawSeed(lastSeed());
  });
  $("#open-panel").addEventListener("click", () => togglePanel());
  $("#close-panel").addEventListener("click", () => togglePanel(false));
  const ids = [...model.options].map((option) => option.value);
  const asked = new URLSearchParams(location.search).get("model");
  model.value = [asked, settings.model].find((id) => ids.includes(id)) ?? ids[0] ?? "";
  model.addEventListener("change", () => choose(changed));
  showSettings();
  if (ids.length) choose(changed);
}
