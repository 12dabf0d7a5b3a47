/** Reads server-sent events from an answer of fetch. */

/** @typedef {{event: string, data: string, id: string | null}} Sent */

/** @param {Response} reply @returns {AsyncGenerator<Sent>} */
export async function* readEvents(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parseEvent(block);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** One event; null for a comment. @param {string} block @returns {Sent | null} */
function parseEvent(block) {
  const sent = { event: "message", data: /** @type {string[]} */ ([]), id: null };
  for (const line of block.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (field === "data") sent.data.push(value);
    else if (field === "event" || field === "id") sent[field] = value;
  }
  return sent.data.length || sent.event !== "message" ? { ...sent, data: sent.data.join("\n") } : null;
}
