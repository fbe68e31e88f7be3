// What the person has set: models, controls of two settings, system prompt. Kept in the browser.

import { $, kept } from "./dom.js";

export const choices = JSON.parse($("#create").dataset.choices);

const first = choices.find((choice) => choice.answers) ?? choices[0];
const fresh = () => ({
  compare: false, panel: window.innerWidth > 1240, side: "a", system: "", lock: false,
  a: { model: first?.id ?? "", controls: {} }, b: { model: first?.id ?? "", controls: {} },
});

export const settings = { ...fresh(), ...kept.read("settings", {}) };
for (const side of ["a", "b"]) {
  if (!choices.some((choice) => choice.id === settings[side]?.model)) settings[side] = fresh()[side];
}

export const save = () => kept.write("settings", settings);

/** Return what is known about the model of a side. */
export const modelOf = (side) => choices.find((choice) => choice.id === settings[side].model);

/** Say a setting in a few words, for the moment the blind is lifted. */
export function described(setting) {
  const long = { schema: "JSON", stop: "stop texts" };
  const words = Object.entries(setting.controls).filter(([, value]) => value !== "" && value !== undefined)
    .map(([name, value]) => long[name] ?? `${name.replaceAll("_", " ")} ${value}`);
  return [setting.model, ...words].join(" · ");
}

const PLAIN = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
  "max_tokens", "seed"];

/** Return address and body of a request for a side: an answer to messages, or a continuation of the last text. */
export function request(side, messages) {
  const { model, controls } = settings[side];
  const body = { model, stream: true, stream_options: { include_usage: true },
    bottega: { alternatives: 5, door: "studio" } };
  for (const name of PLAIN) if (controls[name] !== undefined) body[name] = controls[name];
  const stop = (controls.stop ?? "").split("\n").filter(Boolean);
  if (stop.length) body.stop = stop;
  if (controls.schema?.trim()) {
    const schema = JSON.parse(controls.schema);
    body.response_format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
  }
  if (modelOf(side)?.answers === false) {
    return { address: "/v1/completions", body: { ...body, prompt: messages.at(-1).content } };
  }
  const system = settings.system.trim() ? [{ role: "system", content: settings.system }] : [];
  return { address: "/v1/chat/completions", body: { ...body, messages: [...system, ...messages] } };
}
