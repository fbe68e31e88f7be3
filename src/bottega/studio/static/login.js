// Logs in with an API key.

import { $ } from "./dom.js";
import { post } from "./api.js";

$("#login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const error = $("#login-error");
  error.hidden = true;
  try {
    await post("/studio/login", { key: $("#key").value.trim() });
    location.assign("/");
  } catch (failure) {
    error.textContent = `${failure.message} ${failure.fix}`;
    error.hidden = false;
    $("#key").select();
  }
});
