// Saved prompts in Create: choose one, fill its variables, put it into the message.

import { $, h, toast } from "./dom.js";
import { get, post } from "./api.js";

const picker = $("#prompt-picker");
const search = $("#picker-search");
const list = $("#picker-list");
const form = $("#picker-form");
let prompts = [];
let use = () => {};

function show() {
  const words = search.value.toLowerCase();
  const found = prompts.filter((prompt) => `${prompt.name} ${prompt.body}`.toLowerCase().includes(words));
  const line = (prompt) => h("button", { type: "button", onclick: () => pick(prompt), testid: "pick" },
    h("b", {}, prompt.name), h("small", {}, prompt.body));
  const nothing = prompts.length ? "Nothing found." : "No prompts saved yet: make one under Prompts.";
  list.replaceChildren(...(found.length ? found.map(line) : [h("p.small.muted", {}, nothing)]));
}

async function fill(prompt, values) {
  try {
    const address = `/studio/prompts/${encodeURIComponent(prompt.name)}/fill?version=${prompt.version}`;
    const filled = await post(address, { values });
    picker.close();
    use(filled);
  } catch (failure) {
    toast(`${failure.message} ${failure.fix}`);
  }
}

function pick(prompt) {
  if (!prompt.variables.length) return fill(prompt, {});
  list.hidden = search.hidden = $("#picker-foot").hidden = true;
  form.hidden = false;
  const fields = prompt.variables.map((name) => h("div.field", {}, h("label", { htmlFor: `v-${name}` }, name),
    h("input", { type: "text", id: `v-${name}`, name, required: true, testid: `variable-${name}` })));
  form.replaceChildren(h("h3", {}, prompt.name), ...fields, h("div.row.end", {},
    h("button.button", { type: "button", onclick: () => picker.close() }, "Cancel"),
    h("button.button.main", { testid: "fill" }, "Use it")));
  form.onsubmit = (event) => {
    event.preventDefault();
    fill(prompt, Object.fromEntries(new FormData(form)));
  };
  $("input", form).focus();
}

/** Open the list, or at once the prompt of a name. */
export async function openPicker(name, version) {
  form.hidden = true;
  list.hidden = search.hidden = $("#picker-foot").hidden = false;
  search.value = "";
  try {
    if (name) {
      const query = version ? `?version=${encodeURIComponent(version)}` : "";
      const prompt = await get(`/studio/prompts/${encodeURIComponent(name)}${query}`);
      if (prompt.variables.length) picker.showModal();
      return pick(prompt);
    }
    prompts = await get("/studio/prompts");
  } catch (failure) {
    return toast(`${failure.message} ${failure.fix}`);
  }
  show();
  picker.showModal();
  search.focus();
}

/** Say what happens with a filled prompt ({body, system, controls}). */
export function setUpPicker(used) {
  use = used;
  search.addEventListener("input", show);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "ArrowDown") {
      event.preventDefault();
      const first = $("button", list);
      if (event.key === "Enter") first?.click();
      else first?.focus();
    }
  });
  list.addEventListener("keydown", (event) => {
    const next = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!next) return;
    event.preventDefault();
    (document.activeElement[next] ?? search).focus();
  });
  $("#picker-close").addEventListener("click", () => picker.close());
}
