// The glass box of a picture: what it was going to be at each step, walked with a slider.

import { $, h } from "./dom.js";
import { file, get } from "./api.js";
import { decoded, paint } from "./picture_file.js";

const id = encodeURIComponent($("#inside").dataset.output);
const slider = $("#step");
const strip = $("#strip");
const status = $("#frames-status");

async function open() {
  const { frames, replayed, why } = await get(`/studio/inside/${id}.json`);
  const shown = frames.map(decoded);
  $("#replayed").hidden = !replayed;
  status.textContent = why;
  if (!shown.length && !$("#inside").dataset.kept) return $("#frame").remove();
  if (!shown.length) return paint($("#frame"), await file(`/studio/pictures/${id}.png`));
  const last = shown.length - 1;
  status.textContent = last ? `${last + 1} steps. Each shows what the picture was going to be then.`
    : "It was made in one step.";
  const show = (place) => {
    const words = place === last ? "the picture" : `step ${place + 1} of ${last + 1}`;
    slider.value = place;
    slider.setAttribute("aria-valuetext", words);
    $("#step-name").textContent = `Step ${place + 1} of ${last + 1}`;
    $("#frame").setAttribute("aria-label", `The picture at ${words}`);
    [...strip.children].forEach((button, at) => button.setAttribute("aria-pressed", at === place));
    return paint($("#frame"), shown[place]);
  };
  slider.max = last;
  slider.disabled = !last;
  slider.addEventListener("input", () => show(Number(slider.value)));
  strip.replaceChildren(...await Promise.all(shown.map(async (blob, place) => {
    const canvas = h("canvas");
    await paint(canvas, blob);
    return h("button.small-frame", { type: "button", "aria-label": `Step ${place + 1}`, testid: "small-frame",
      onclick: () => show(place) }, canvas);
  })));
  await show(last);
}

open().catch((failure) => { status.textContent = `${failure.message} ${failure.fix ?? ""}`; });
