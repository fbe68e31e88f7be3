// A number of the panel with its slider: the two in step, and within what the control allows.

import { $ } from "./dom.js";

const NEUTRAL = { top_p: 1, repetition_penalty: 1, temperature: 1, n: 1 }; // where a slider stands while nothing is set

/** Show a value, or that there is none; `own` is what the model takes then. */
export function showNumber(field, value, own) {
  const name = field.dataset.control;
  const number = $("input[type=number]", field);
  const range = $("input[type=range]", field);
  if (number !== document.activeElement) number.value = value ?? ""; // never over what is being typed
  if (name !== "seed") number.placeholder = own ?? "auto";
  field.classList.toggle("unset", value === undefined);
  if (range) range.value = value ?? own ?? NEUTRAL[name] ?? 0;
}

/** Call `set` with each value that a person chooses; undefined leaves it to the model. */
export function watchNumber(field, set) {
  const number = $("input[type=number]", field);
  const range = $("input[type=range]", field);
  number.addEventListener("change", () => {
    if (number.validity.badInput) return;
    let value = number.value === "" ? undefined : Number(number.value);
    if (value !== undefined && number.min !== "") value = Math.max(value, Number(number.min));
    if (value !== undefined && number.max !== "") value = Math.min(value, Number(number.max));
    if (value !== undefined && number.step === "1") value = Math.round(value);
    number.value = value ?? "";
    set(value);
  });
  range?.addEventListener("input", () => set(Number(range.value)));
}
