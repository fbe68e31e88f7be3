// Makes one answer: sends the request, adds what comes in, and keeps what is known about it.

import { Failure, stream } from "./api.js";
import { described, modelOf, request, settings } from "./settings.js";

/** Return an answer that has not begun, for a side ("a" or "b"). */
export function blank(side) {
  const continues = modelOf(side)?.answers === false;
  return { side, model: settings[side].model, text: "", setting: described(settings[side]), continues };
}

function take(answer, event) {
  const choice = event.choices?.[0];
  if (event.id && !answer.id) answer.id = `${event.id}.${choice?.index ?? 0}`;
  answer.text += choice?.delta?.content ?? choice?.text ?? "";
  if (choice?.finish_reason) answer.finish = choice.finish_reason;
  if (event.usage) answer.tokens = event.usage.completion_tokens;
  if (event.bottega) {
    answer.verdicts = event.bottega.verdicts ?? answer.verdicts;
    answer.seed = event.bottega.seed ?? answer.seed;
  }
}

/** Fill an answer from the server until it ends, fails or is stopped; `grown` is called after each piece. */
export async function make(answer, messages, signal, grown) {
  const start = performance.now();
  try {
    const { address, body } = request(answer.side, messages);
    for await (const event of stream(address, body, signal)) {
      take(answer, event);
      grown();
    }
  } catch (error) {
    if (error.name === "AbortError") answer.finish = "cancelled";
    else {
      const known = error instanceof Failure ? error : new Failure("The answer broke off.", { fix: error.message });
      const { message, fix, status, wait, checks } = known;
      answer.error = { message, fix, status, wait, checks };
    }
  }
  answer.seconds = (performance.now() - start) / 1000;
}
