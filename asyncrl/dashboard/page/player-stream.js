/** The stream of a player: messages of two lengths, a JSON object and bytes (asyncrl/dashboard/player/messages.py). */

/**
 * Open the stream of a run's player. `on(message, bytes)` is called for each message, when it is done with the one before,
 * and `ended(sentence)` once at its end, with "" if `close` ended it.
 */
export function openStream(run, on, ended) {
  const stop = new AbortController();
  read(run, on, stop.signal).then(
    () => ended(stop.signal.aborted ? "" : "The player has ended."),
    (problem) => ended(stop.signal.aborted ? "" : sentence(problem)),
  );
  return { close: () => stop.abort() };
}

/** Send a command to a run's player. */
export async function tell(run, command) {
  const answer = await fetch(`api/player/${run}/command`, { method: "POST", body: JSON.stringify(command) });
  if (!answer.ok) throw new Error(await errorOf(answer));
}

async function read(run, on, signal) {
  const answer = await fetch(`api/player/${run}/stream`, { signal });
  if (!answer.ok) throw new Error(await errorOf(answer));
  const reader = answer.body.getReader();
  let data = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    data = joined(data, value);
    for (let size; (size = sizeOf(data)) <= data.length; data = data.slice(size)) {
      const length = new DataView(data.buffer, data.byteOffset).getUint32(0);
      const message = JSON.parse(new TextDecoder().decode(data.subarray(8, 8 + length)));
      await on(message, data.slice(8 + length, size));
    }
  }
}

function sizeOf(data) {
  if (data.length < 8) return Infinity;
  const view = new DataView(data.buffer, data.byteOffset);
  return 8 + view.getUint32(0) + view.getUint32(4);
}

function joined(first, second) {
  if (!first.length) return second;
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

async function errorOf(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).error ?? text;
  } catch {
    return text;
  }
}

function sentence(problem) {
  return problem instanceof TypeError ? "The page's server has ended or cannot be reached." : problem.message;
}
