// Two answers to the same message side by side, in random order and without names, until a person has judged.

import { button, h } from "./dom.js";
import { answerView } from "./answer.js";
import { tell } from "./feedback.js";

const JUDGEMENTS = [["a", "A is better"], ["b", "B is better"], ["equal", "Equally good"], ["bad", "Both bad"]];

/** Send a judgement as feedback. Places 0 and 1 are the answers as shown (A left, B right). */
async function keep(answers, judgement) {
  if (judgement === "a" || judgement === "b") {
    const [chosen, other] = judgement === "a" ? answers : [answers[1], answers[0]];
    return tell({ kind: "choice", output: chosen.id, rejected: other.id });
  }
  const value = judgement === "equal" ? 1 : -1;
  const reason = judgement === "equal" ? "equally good" : "both bad";
  for (const answer of answers) {
    if (!await tell({ kind: "thumb", output: answer.id, value, reasons: [reason] })) return false;
  }
  return true;
}

/** Build the view of a pair; `busy(answer)`, `retry()`, `changed()` and `judged()` come from the conversation. */
export function pairView(turn, { busy, retry, changed, judged }) {
  const blind = !turn.judgement;
  const views = turn.answers.map((answer, place) => answerView(answer, {
    title: blind ? `Answer ${"AB"[place]}` : `${"AB"[place]}: ${answer.setting}`,
    blind, busy: () => busy(answer), retry, changed,
  }));
  const won = (place) => !blind && turn.chosen === place && turn.judgement !== "bad";
  const cards = views.map((view, place) => h(won(place) ? "div.card.won" : "div.card",
    { testid: `pair-${"ab"[place]}` }, view.node));
  const ready = turn.answers.every((answer) => answer.id && !busy(answer) && !answer.error);

  async function judge(judgement) {
    if (!await keep(turn.answers, judgement)) return;
    turn.judgement = judgement;
    turn.chosen = judgement === "b" ? 1 : 0;
    judged();
  }

  const buttons = blind && h("div.judge", { role: "group", "aria-label": "Which answer is better?", testid: "judge" },
    JUDGEMENTS.map(([judgement, words]) => button(null, words, () => judge(judgement), { words: true,
      kind: judgement.length === 1 ? "main" : "small", disabled: !ready, testid: `judge-${judgement}` })));
  const said = !blind && h("p.tiny.muted.centred", { testid: "judged" }, {
    a: "You preferred A; the conversation goes on with it.", b: "You preferred B; the conversation goes on with it.",
    equal: "Equally good; the conversation goes on with A.",
    bad: "Both noted as bad; edit your message, or go on with A.",
  }[turn.judgement]);
  return { node: h("div.turn", { testid: "pair" }, h("div.pair", {}, cards), buttons || said), views };
}
