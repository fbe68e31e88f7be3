// The frame of every page: menu on small screens, theme, the list of shortcuts, log out, and Markdown documents.

import { $, kept } from "./dom.js";
import { post } from "./api.js";
import { markdown } from "./markdown.js";

const side = $("#side");
const menu = $("#menu");
menu.addEventListener("click", () => menu.setAttribute("aria-expanded", String(side.classList.toggle("open"))));

const THEMES = ["system", "light", "dark"];
const theme = $("#theme");
const current = () => document.documentElement.dataset.theme ?? "system";
const named = () => { $("span", theme).textContent = `Theme: ${current()}`; };
named();
theme.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(current()) + 1) % THEMES.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("bottega.theme", next);
  } catch { /* not kept */ }
  named();
});

const keys = $("#keys");
$("#show-keys").addEventListener("click", () => keys.showModal());
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "/") {
    event.preventDefault();
    if (keys.open) keys.close();
    else keys.showModal();
  }
  if ((event.ctrlKey || event.metaKey) && event.shiftKey && event.key.toLowerCase() === "o" && !$("#create")) {
    event.preventDefault();
    kept.write("conversation", []);
    location.assign("/");
  }
});

$("#logout")?.addEventListener("click", async () => {
  await post("/studio/logout");
  kept.write("conversation", []);
  location.assign("/login");
});

for (const document_ of document.querySelectorAll("[data-markdown]")) {
  const shown = document.createElement("div");
  shown.className = "markdown stack";
  shown.dataset.testid = document_.dataset.testid;
  shown.append(...markdown(document_.textContent));
  document_.replaceWith(shown);
}
