// Save a prompt or a new version of it, delete one.

import { $ } from "./dom.js";
import { post } from "./api.js";

const dialog = $("#edit-prompt");
$("#new-prompt").addEventListener("click", () => dialog.showModal());
$("#prompt-cancel").addEventListener("click", () => dialog.close());
$("#prompt-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = $("#p-name").value.trim();
  try {
    await post("/studio/prompts", {
      name, body: $("#p-body").value, system: $("#p-system").value, note: $("#p-note").value,
    });
    location.assign(`/prompts/${encodeURIComponent(name)}`);
  } catch (failure) {
    $("#prompt-error").textContent = `${failure.message} ${failure.fix}`;
    $("#prompt-error").hidden = false;
  }
});

const prompt = $("#prompt");
if (prompt) {
  const question = $("#delete-dialog");
  $("#delete-prompt").addEventListener("click", () => question.showModal());
  $("#delete-cancel").addEventListener("click", () => question.close());
  $("#delete-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    await post(`/studio/prompts/${encodeURIComponent(prompt.dataset.name)}/delete`);
    location.assign("/prompts");
  });
}
