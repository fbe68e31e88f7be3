// The loop on a model's page: start an improvement, follow it, compare, approve or reject.

import { $, button, h, toast } from "./dom.js";
import { get, post } from "./api.js";

const name = $("#model").dataset.name;
const run = $("#run");
const improve = $("#improve");
const STAGES = [["exporting", "Collect the pairs"], ["training", "Train the challenger"], ["comparing", "Compare on held-out pairs"], ["waiting", "You decide"]];
const ENDED = ["approved", "rejected", "failed"];

const MEASURES = { // name in the comparison: what it says, percent or not
  choice_accuracy: ["prefers your choice", true],
  margin: ["lead of the preferred answers", false],
  chosen_logprob: ["log-probability of the preferred answers", false],
  likeness: ["own answers: likeness to the preferred ones", false],
  length: ["tokens an answer", false],
  seconds_per_token: ["seconds a token", false],
};
const VERDICTS = { better: "good", worse: "bad" };

const value = (side) => (typeof side === "object" ? side?.value : side);

function number(found, percent) {
  if (typeof found !== "number") return "–";
  return percent ? `${(100 * found).toFixed(1)} %` : Number(found.toPrecision(3)).toString();
}

const interval = (side, percent) => (side?.low === undefined ? null
  : h("span.tiny.muted", {}, ` ${number(side.low, percent)} to ${number(side.high, percent)}`));

function row(label, sides, percent) {
  const change = sides.change ?? { value: value(sides.challenger) - value(sides.champion) };
  const kind = sides.fell || change.high < 0 ? ".worse" : change.low > 0 ? ".better" : "";
  return h("tr", {}, h("th", { scope: "row" }, label, sides.fell ? h("span.chip.bad", {}, "fell") : null),
    h("td.figure", {}, number(value(sides.champion), percent)), h("td.figure", {}, number(value(sides.challenger), percent)),
    h("td.figure", {}, h(`span${kind}`, {}, `${change.value > 0 ? "+" : ""}${number(change.value, percent)}`), interval(sides.change, percent)));
}

/** The table of champion and challenger, with the verdict and its reason above it. */
function table(comparison) {
  const { verdict, sentence, pairs, prompts, suites } = comparison;
  const known = Object.entries(suites).flatMap(([suite, figures]) => Object.entries(figures)
    .map(([name, sides]) => row(`${suite}: ${name.replaceAll("_", " ")}`, sides, true)));
  return [
    h("div.row", {}, h(`span.chip.${VERDICTS[verdict] ?? "warn"}`, { dataset: { testid: "verdict" } }, verdict), h("span.small", {}, sentence)),
    h("div.wide", {}, h("table", { dataset: { testid: "comparison" } },
      h("thead", {}, h("tr", {}, h("th", {}, `On ${pairs} held-out pairs of ${prompts} prompts`), h("th.figure", {}, "Today"),
        h("th.figure", {}, "Challenger"), h("th.figure", {}, "Change, 95 % interval"))),
      h("tbody", {}, Object.entries(MEASURES).map(([name, [label, percent]]) => row(label, comparison[name], percent)), known))),
  ];
}

function stages(status) {
  const at = STAGES.findIndex(([key]) => key === status);
  const reached = ENDED.includes(status) ? (status === "failed" ? 0 : STAGES.length) : at;
  return h("ol.stages", {}, STAGES.map(([, label], index) => h(`li${index < reached ? ".done" : ""}${index === at ? ".now" : ""}`, {}, label)));
}

const CHIP = { approved: "good", rejected: "bad", failed: "bad", waiting: "accent" };

function show(improvement) {
  const { status, challenger, dataset } = improvement;
  const facts = [`${dataset?.pairs ?? "…"} pairs`, dataset?.held_out ? `${dataset.held_out} held out` : "", challenger].filter(Boolean).join(" · ");
  run.replaceChildren(
    h("div.row", {}, h("h3", {}, "Latest run"), h(`span.chip${CHIP[status] ? `.${CHIP[status]}` : ""}`, { dataset: { testid: "status" } }, status), h("span.small.muted", {}, facts)),
    stages(status),
    ...(improvement.error ? [h("div.notice.bad", {}, improvement.error)] : []),
    ...(improvement.comparison ? table(improvement.comparison) : []),
    ...(improvement.reason ? [h("p.small.muted", {}, `${improvement.decided_by}: ${improvement.reason}`)] : []),
    ...(status === "waiting" ? [h("div.row", {},
      button("check", "Approve", () => decide(improvement, "approve"), { words: true, kind: "main", dataset: { testid: "approve" } }),
      button("close", "Reject", () => decide(improvement, "reject"), { words: true, kind: "danger", dataset: { testid: "reject" } }))] : []));
  improve.disabled = !ENDED.includes(status);
}

async function follow(id) {
  for (;;) {
    let improvement;
    try {
      improvement = await get(`/studio/improvements/${encodeURIComponent(id)}`);
    } catch (failure) {
      if (failure.status) throw failure; // else: the server is being started again; the run goes on there
    }
    if (improvement) show(improvement);
    if (improvement && (improvement.status === "waiting" || ENDED.includes(improvement.status))) return;
    await new Promise((resolve) => { setTimeout(resolve, 1500); });
  }
}

const dialog = $("#decide");
let confirm = async () => {};

function decide(improvement, what) {
  const approve = what === "approve";
  $("#decide-title").textContent = approve ? `Let ${improvement.challenger} answer as ${name}?` : `Keep today's model as ${name}?`;
  $("#decide-about").textContent = approve ? "The next request to this name is answered by the new model. You can go back: both are kept."
    : "The challenger stays in the workshop, but is not served under this name.";
  $("#decide-confirm").textContent = approve ? "Approve" : "Reject";
  $("#decide-error").hidden = true;
  confirm = async () => {
    await post(`/studio/improvements/${encodeURIComponent(improvement.id)}/${what}`, { reason: $("#reason").value.trim() });
    location.reload();
  };
  dialog.showModal();
}

$("#decide-cancel").addEventListener("click", () => dialog.close());
$("#decide-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await confirm();
  } catch (failure) {
    $("#decide-error").textContent = `${failure.message} ${failure.fix}`;
    $("#decide-error").hidden = false;
  }
});

improve?.addEventListener("click", async () => {
  improve.disabled = true;
  $("#improve-error").hidden = true;
  try {
    const { id } = await post(`/studio/models/${encodeURIComponent(name)}/improve`);
    await follow(id);
  } catch (failure) {
    $("#improve-error").textContent = `${failure.message} ${failure.fix}`;
    $("#improve-error").hidden = false;
    improve.disabled = false;
  }
});

if (run?.dataset.latest) follow(run.dataset.latest).catch((failure) => toast(failure.message));
