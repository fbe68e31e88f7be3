// Talks to the server of this page: JSON requests, streamed answers, and errors in plain words.

/** A request that failed: what happened, what to do, and how long to wait when the workshop is busy. */
export class Failure extends Error {
  constructor(message, { fix = "", status = 0, wait = 0, checks = [] } = {}) {
    super(message);
    Object.assign(this, { fix, status, wait, checks });
  }
}

async function failure(response) {
  let body = {};
  try {
    body = await response.json();
  } catch { /* not JSON */ }
  if (response.status === 401) {
    return new Failure("You are not logged in.", { fix: "Log in with your API key.", status: 401 });
  }
  if (response.status === 429) {
    const wait = Math.max(1, Math.ceil(Number(response.headers.get("Retry-After")) || 2));
    return new Failure("The workshop is busy.", { fix: `Try again in ${wait} s.`, status: 429, wait });
  }
  return fromBody(body, response.status);
}

/** Make a Failure from a body of the API: {error: {message, fix?}, bottega?: {verdicts}}. */
export function fromBody(body, status = 0) {
  const { message, fix = "" } = body.error ?? {};
  const checks = body.bottega?.verdicts ?? [];
  return new Failure(message || `The server answered with ${status}.`, { fix, status, checks });
}

async function send(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The workshop cannot be reached.", { fix: "Is 'bottega serve' still running?" });
  }
  if (!response.ok) throw await failure(response);
  return response;
}

const posted = (body, signal) => (body instanceof FormData ? { method: "POST", signal, body } : {
  method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
});

/** GET JSON. */
export const get = async (address) => (await send(address)).json();

/** GET a file; with a body, POST it as JSON and take the file that comes. */
export const file = async (address, body) => (await send(address, body && posted(body))).blob();

/** POST JSON and return the JSON answer. */
export const post = async (address, body = {}, signal = undefined) => (await send(address, posted(body, signal))).json();

/** POST JSON or a form and yield each event of the stream as an object; ends at [DONE]. An error event is thrown. */
export async function* stream(address, body, signal) {
  const response = await send(address, posted(body, signal));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    waiting += value.replaceAll("\r\n", "\n");
    const events = waiting.split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      const lines = event.split("\n").filter((line) => line.startsWith("data:"));
      const data = lines.map((line) => line.slice(5).trim()).join("\n");
      if (data === "[DONE]") return;
      if (!data) continue;
      const parsed = JSON.parse(data);
      if (parsed.error) throw fromBody(parsed);
      yield parsed;
    }
  }
}
