// The builder of conditions: column, sign, value; and the shares of a balanced column. Levels go in as text.

import { $, button, h } from "./dom.js";

const CODED = ["category", "boolean"];
const MOST_SHARES = 24; // levels of a column that can be balanced by hand
let columns = [];

const coded = (column) => CODED.includes(column.kind);

function signs(column) {
  const own = coded(column) ? [["=", "is"], ["!=", "is not"], ["in", "is one of"]]
    : [[">=", "is at least"], ["<=", "is at most"], [">", "is above"], ["<", "is below"], ["between", "is between"],
      ["=", "is"]];
  return column.missing ? [...own, ["is missing", "is missing"], ["is not missing", "is not missing"]] : own;
}

const options = (pairs) => pairs.map(([value, word]) => h("option", { value }, word));

function entry(column, label, multiple) {
  if (coded(column)) {
    return h("select", { "aria-label": label, testid: "value", multiple, size: multiple ? 4 : 0 },
      options(column.levels.map((level) => [level, level])));
  }
  const low = column.low;
  const high = column.high;
  if (column.kind !== "datetime") {
    return h("input", { type: "number", step: "any", required: true, "aria-label": label, testid: "value",
      placeholder: low === null ? "" : `${low} to ${high}` });
  }
  return h("input", { type: "datetime-local", step: "1", required: true, "aria-label": label, testid: "value",
    value: low ?? "", title: `${low} to ${high}` });
}

function rowOf(remove) {
  const column = h("select", { "aria-label": "Column", testid: "column" },
    options(columns.map((one) => [one.name, one.name])));
  const sign = h("select", { "aria-label": "Sign", testid: "sign" });
  const values = h("div.values");
  const node = h("div.condition", { role: "group", "aria-label": "Condition", testid: "condition" }, column, sign, values,
    button("close", "Remove this condition", () => remove(node)));
  const of = () => columns.find((one) => one.name === column.value);
  const showValues = () => {
    const asks = sign.value.includes("missing") ? [] : sign.value === "between" ? ["From", "To"] : ["Value"];
    values.replaceChildren(...asks.map((label) => entry(of(), label, sign.value === "in")));
  };
  const showSigns = () => { sign.replaceChildren(...options(signs(of()))); showValues(); };
  column.addEventListener("change", showSigns);
  sign.addEventListener("change", showValues);
  showSigns();
  return node;
}

/** Offer the columns that a model learned; what was asked of another model is dropped. */
export function showColumns(found) {
  columns = found.filter((column) => column.learned && !column.name.includes("`")
    && (coded(column) ? column.levels.length : column.low !== null));
  $("#conditions").replaceChildren();
  $("#add").disabled = !columns.length;
  const balanced = columns.filter((column) => coded(column) && column.levels.length <= MOST_SHARES);
  $("#balance").replaceChildren(...options([["", "none"], ...balanced.map((one) => [one.name, one.name])]));
  showShares();
}

function showShares() {
  const column = columns.find((one) => one.name === $("#balance").value);
  const part = column ? Math.round(1000 / column.levels.length) / 10 : 0;
  $("#shares").replaceChildren(...(column?.levels ?? []).map((level, place) => h("div.field", {},
    h("label", { htmlFor: `share-${place}` }, level),
    h("input", { type: "number", id: `share-${place}`, min: 0, step: "any", value: part, dataset: { level },
      testid: "share" }))));
}

/** Return the conditions as texts that the server reads. */
export function conditions() {
  return [...$("#conditions").children].flatMap((node) => {
    const [column, sign] = node.querySelectorAll("select");
    const of = columns.find((one) => one.name === column.value);
    const name = `\`${column.value}\``;
    const entries = [...node.querySelectorAll(".values > *")];
    const quoted = (value) => (coded(of) ? `"${value}"` : value);
    if (sign.value.includes("missing")) return [`${name} ${sign.value}`];
    if (sign.value === "between") return [`${name} >= ${entries[0].value}`, `${name} <= ${entries[1].value}`];
    if (sign.value !== "in") return [`${name} ${sign.value} ${quoted(entries[0].value)}`];
    const chosen = [...entries[0].selectedOptions].map((option) => option.value);
    // a list is written with commas, which a level may hold: then all others are ruled out instead
    return of.levels.filter((level) => !chosen.includes(level)).map((level) => `${name} != ${quoted(level)}`);
  });
}

/** Return {column: {level: share}} with shares that add up to 1; undefined without a column or any share. */
export function balance() {
  const shares = [...$("#shares").querySelectorAll("input")].map((input) => [input.dataset.level, Number(input.value)]);
  const total = shares.reduce((sum, [, share]) => sum + share, 0);
  if (!total) return undefined;
  const level = shares.filter(([, share]) => share > 0).map(([name, share]) => [name, share / total]);
  return { [$("#balance").value]: Object.fromEntries(level) };
}

/** Connect the buttons. */
export function setUpConditions() {
  const remove = (node) => {
    const next = node.nextElementSibling ?? node.previousElementSibling;
    node.remove();
    (next ? $("select", next) : $("#add")).focus();
  };
  $("#add").addEventListener("click", () => {
    const node = rowOf(remove);
    $("#conditions").append(node);
    $("select", node).focus();
  });
  $("#balance").addEventListener("change", showShares);
}
