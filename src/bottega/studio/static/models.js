// The loop on a model's page: start an improvement, follow it, compare, approve or reject.

import { $, button, h, toast } from "./dom.js";
import { get, post } from "./api.js";

const name = $("#model").dataset.name;
const run = $("#run");
const improve = $("#improve");
const STAGES = [["exporting", "Collect the pairs"], ["training", "Train the challenger"],
  ["comparing", "Compare on held-out pairs"], ["waiting", "You decide"]];
const ENDED = ["approved", "rejected", "failed"];

const MEASURES = { // name in the comparison: what it says, percent or not
  choice_accuracy: ["prefers your choice", true],
  margin: ["lead of the preferred answers", false],
  chosen_logprob: ["log-probability of the preferred answers", false],
  likeness: ["own answers: likeness to the preferred ones", false],
  length: ["tokens an answer", false],
  milliseconds_per_token: ["milliseconds a token", false],
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
  const moved = `${change.value > 0 ? "+" : ""}${number(change.value, percent)}`;
  return h("tr", {}, h("th", { scope: "row" }, label, sides.fell ? h("span.chip.bad", {}, "fell") : null),
    h("td.figure", {}, number(value(sides.champion), percent)),
    h("td.figure", {}, number(value(sides.challenger), percent)),
    h("td.figure", {}, h(`span${kind}`, {}, moved), interval(sides.change, percent)));
}

/** The table of champion and challenger, with the verdict and its reason above it. */
function table(comparison) {
  const { verdict, sentence, pairs, prompts, suites, seconds_per_token: { champion, challenger } } = comparison;
  const figures = { ...comparison,
    milliseconds_per_token: { champion: 1000 * champion, challenger: 1000 * challenger } };
  const known = Object.entries(suites).flatMap(([suite, figures]) => Object.entries(figures)
    .map(([name, sides]) => row(`${suite}: ${name.replaceAll("_", " ")}`, sides, true)));
  const measured = Object.entries(MEASURES).filter(([name]) => figures[name])
    .map(([name, [label, percent]]) => row(label, figures[name], percent));
  const judges = Object.entries(comparison.judges ?? {}).map(([name, { win_rate: { rate, prompts } }]) => h("tr", {},
    h("th", { scope: "row" }, `won by ${name}`), h("td"), h("td.figure", {}, number(rate.value, true)),
    h("td.figure", {}, interval(rate, true), ` of ${prompts} prompts`)));
  return [
    h("div.row", {}, h(`span.chip.${VERDICTS[verdict] ?? "warn"}`, { testid: "verdict" }, verdict),
      h("span.small", {}, sentence)),
    h("div.wide", {}, h("table", { testid: "comparison" },
      h("thead", {}, h("tr", {}, h("th", {}, pairs ? `On ${pairs} held-out pairs of ${prompts} prompts`
        : `On ${comparison.questions?.answered} questions`),
        h("th.figure", {}, "Today"),
        h("th.figure", {}, "Challenger"), h("th.figure", {}, "Change, 95 % interval"))),
      h("tbody", {}, judges, measured, known))),
  ];
}

function stages(status) {
  const at = STAGES.findIndex(([key]) => key === status);
  const reached = ENDED.includes(status) ? (status === "failed" ? 0 : STAGES.length) : at;
  const kind = (index) => (index < reached ? "li.done" : index === at ? "li.now" : "li");
  return h("ol.stages", {}, STAGES.map(([, label], index) => h(kind(index), {}, label)));
}

const CHIP = { approved: "good", rejected: "bad", failed: "bad" };

function show(improvement) {
  const { status, challenger, dataset } = improvement;
  const facts = [challenger, dataset?.pairs && `${dataset.pairs} pairs to learn from`,
    dataset?.held_out && `${dataset.held_out} held out`];
  const decision = (picture, label, what, kind) => button(picture, label, () => decide(improvement, what),
    { words: true, kind, testid: what });
  run.replaceChildren(
    h("div.row", {}, h("h3", {}, "Latest run"),
      h(`span.chip.${CHIP[status] ?? "accent"}`, { testid: "status" }, status),
      h("span.small.muted", {}, facts.filter(Boolean).join(" · "))),
    stages(status),
    ...(improvement.error ? [h("div.notice.bad", {}, improvement.error)] : []),
    ...(improvement.comparison ? table(improvement.comparison) : []),
    ...(improvement.comparison?.report ? [h("p", {}, h("a", { testid: "report",
      href: `/studio/improvements/${encodeURIComponent(improvement.id)}/report` }, "The whole report"))] : []),
    ...(improvement.reason ? [h("p.small.muted", {}, `${improvement.decided_by}: ${improvement.reason}`)] : []),
    ...(status === "waiting" ? [h("div.row", {},
      decision("check", "Approve", "approve", "main"), decision("close", "Reject", "reject", "danger"))] : []));
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
  $("#decide-title").textContent = approve ? `Let ${improvement.challenger} answer as ${name}?`
    : `Keep today's model as ${name}?`;
  $("#decide-about").textContent = approve
    ? "The next request to this name is answered by the new model. You can go back: both are kept."
    : "The challenger stays in the workshop, but is not served under this name.";
  $("#decide-confirm").textContent = approve ? "Approve" : "Reject";
  $("#decide-error").hidden = true;
  confirm = async () => {
    const reason = $("#reason").value.trim();
    await post(`/studio/improvements/${encodeURIComponent(improvement.id)}/${what}`, { reason });
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
