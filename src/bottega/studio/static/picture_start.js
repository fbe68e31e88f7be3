// The window in which a picture is the beginning: paint what is to be redrawn, say what it shall show, how strongly.

import { $, h } from "./dom.js";
import { paintable } from "./mask.js";
import { able, set, settings } from "./picture_panel.js";
import { paint } from "./picture_file.js";

const dialog = $("#start");
const stage = $("#stage");
const words = $("#start-prompt");
const strength = $("#start-strength");
const brush = $("#brush");
const mask = paintable($("#paint"), (said) => { $("#paint-status").textContent = said; });
let begin = async () => {};

/** Open the window over a picture file; `draw` gets {prompt, image, mask}. */
export async function startFrom(image, prompt, draw) {
  const under = $("#under");
  await paint(under, image);
  const { width, height } = under;
  const paints = able()?.mask;
  mask.load(width, height);
  brush.max = Math.max(2, Math.round(Math.max(width, height) / 3));
  brush.value = mask.brush = Math.max(1, Math.round(Math.max(width, height) / 8));
  mask.erase = false;
  $("#erase").setAttribute("aria-pressed", "false");
  stage.style.aspectRatio = `${width} / ${height}`;
  stage.style.width = `min(100%, ${Math.round(40 * width / height)}dvh)`;
  $("#paint").classList.toggle("sharp", under.classList.contains("sharp"));
  $("#paint").hidden = $("#paint-tools").hidden = $("#paint-help").hidden = !paints;
  $("#paint-status").textContent = "";
  words.value = prompt;
  strength.value = settings.controls.strength ?? "";
  $("#strength-field").hidden = !able()?.controls.includes("strength");
  begin = async () => {
    const painted = paints && mask.share() > 0;
    await draw({ prompt: words.value.trim(), image, mask: painted ? await mask.file() : null });
  };
  dialog.showModal();
  (paints ? $("#paint") : words).focus();
}

/** Take pictures that are chosen or dropped on the page; `open` gets the file. */
export function takeFiles(open) {
  const field = $("#file");
  $("#upload").addEventListener("click", () => field.click());
  field.addEventListener("change", () => {
    if (field.files[0]) open(field.files[0]);
    field.value = "";
  });
  const room = $("#pictures");
  const over = h("div.drop", { hidden: true }, "Drop a picture to start from it");
  room.append(over);
  for (const name of ["dragenter", "dragover"]) {
    room.addEventListener(name, (event) => {
      if (!able()?.image || ![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      over.hidden = false;
    });
  }
  room.addEventListener("dragleave", (event) => { if (!room.contains(event.relatedTarget)) over.hidden = true; });
  room.addEventListener("drop", (event) => {
    over.hidden = true;
    if (!able()?.image || !event.dataTransfer.files.length) return;
    event.preventDefault();
    open(event.dataTransfer.files[0]);
  });
}

brush.addEventListener("input", () => { mask.brush = Number(brush.value); });
$("#erase").addEventListener("click", (event) => {
  mask.erase = !mask.erase;
  event.currentTarget.setAttribute("aria-pressed", mask.erase);
});
$("#clear").addEventListener("click", mask.clear);
$("#invert").addEventListener("click", mask.invert);
$("#start-cancel").addEventListener("click", () => dialog.close());
strength.addEventListener("change", () => {
  const value = strength.value === "" ? undefined : Math.min(1, Math.max(0, Number(strength.value)));
  strength.value = value ?? "";
  set("strength", value);
});
$("#start-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  dialog.close();
  await begin();
});
