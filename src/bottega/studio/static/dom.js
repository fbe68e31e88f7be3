// Small helpers for building the page. Text always goes in as text; there is no HTML from strings.

export const $ = (selector, root = document) => root.querySelector(selector);

/** Make an element: h("div.card", {onclick, title, testid, dataset, aria…}, ...children). */
export function h(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name);
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (key === "dataset") Object.assign(node.dataset, value);
    else if (key === "testid") node.dataset.testid = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && !key.startsWith("aria")) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** Make an SVG element with attributes. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Return an icon of the sprite that lies beside this module. */
export function icon(name) {
  const address = new URL("./icons.svg", import.meta.url).pathname;
  return svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `${address}#${name}` }));
}

/** Make a button with an icon; without words it gets its label for screen readers and as a tooltip. */
export function button(picture, label, onclick, { words = false, kind = "plain", ...props } = {}) {
  const square = words ? "" : ".square";
  return h(`button.button.${kind}${square}`, { type: "button", onclick, title: words ? undefined : label,
    "aria-label": words ? undefined : label, ...props }, picture ? icon(picture) : null, words ? label : null);
}

/** Show a short notice at the bottom; screen readers hear it. */
export function toast(text) {
  const note = h("div.toast", {}, text);
  $("#toasts").append(note);
  setTimeout(() => note.remove(), 3200);
}

/** Read and write JSON in localStorage; storage may be off or full, then nothing is kept. */
export const kept = {
  read(name, fallback) {
    try {
      return JSON.parse(localStorage.getItem(`bottega.${name}`)) ?? fallback;
    } catch {
      return fallback;
    }
  },
  write(name, value) {
    try {
      localStorage.setItem(`bottega.${name}`, JSON.stringify(value));
    } catch { /* the page works without */ }
  },
};

/** Copy text and say so. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    toast("The browser did not allow copying");
  }
}

/** Give a number few digits: 0.7312 → "73.1 %". */
export function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.005) return "<0.01 %";
  return `${value >= 99.95 ? "100" : value >= 10 ? value.toFixed(1) : value.toFixed(2)} %`;
}
