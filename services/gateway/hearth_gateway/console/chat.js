/** One chat completion as it streams in. */
import { post } from "./api.js";

export const CHAT = "api/v1/chat/completions";

/** The request for a model: its own answers of earlier turns, and the parameters that were given. */
export function bodyOf(model, system, turns, question, typed) {
  const messages = turns.flatMap(({ question: asked, answers }) => [
    { role: "user", content: asked },
    ...(answers[model]?.text ? [{ role: "assistant", content: answers[model].text }] : []),
  ]);
  const given = Object.entries(typed)
    .filter(([, text]) => text.trim() !== "")
    .map(([name, text]) => [name, Number(text)]);
  return {
    model,
    messages: [
      ...(system.trim() ? [{ role: "system", content: system }] : []),
      ...messages,
      { role: "user", content: question },
    ],
    ...Object.fromEntries(given),
  };
}

/**
 * Ask, and show the answer each time it has grown. Never raises: what goes wrong is part of the answer.
 * `first` and `seconds` are from the request to the first token, and from there to the last.
 */
export async function ask(body, show, signal) {
  const began = performance.now();
  const answer = {
    text: "",
    reasoning: "",
    tokens: null,
    first: null,
    seconds: 0,
    finish: null,
    error: null,
    done: false,
  };
  show({ ...answer });
  try {
    for await (const { data } of post(
      CHAT,
      { ...body, stream: true, stream_options: { include_usage: true } },
      signal,
    )) {
      if (data === "[DONE]") break;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      const choice = event.choices?.[0];
      const text = choice?.delta?.content ?? "";
      const reasoning = choice?.delta?.reasoning ?? choice?.delta?.reasoning_content ?? "";
      if (text || reasoning) {
        answer.first ??= (performance.now() - began) / 1000;
        answer.text += text;
        answer.reasoning += reasoning;
        answer.seconds = (performance.now() - began) / 1000 - answer.first;
      }
      answer.finish = choice?.finish_reason ?? answer.finish;
      answer.tokens = event.usage?.completion_tokens ?? answer.tokens;
      show({ ...answer });
    }
  } catch (error) {
    if (!signal.aborted) answer.error = error;
  }
  show({ ...answer, done: true });
}
