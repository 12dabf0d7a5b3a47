/** Lines of a local file by their numbers, read no further than the last of them. */

const MOST_BYTES = 64 * 2 ** 20;
const MOST_CHARACTERS = 300;

/** @param {File} file @param {number[]} numbers from 1 @returns {Promise<Map<number, string>>} empty for packed files */
export async function readLines(file, numbers) {
  const found = new Map();
  if (!numbers.length || !/\.(jsonl|json|ndjson|txt)$/i.test(file.name)) return found;
  const wanted = new Set(numbers);
  const last = Math.max(...numbers);
  const reader = file.slice(0, MOST_BYTES).stream().pipeThrough(new TextDecoderStream()).getReader();
  let number = 1;
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) {
      if (wanted.has(number))
        found.set(number, line.length > MOST_CHARACTERS ? `${line.slice(0, MOST_CHARACTERS)}…` : line);
      number += 1;
    }
    if (done || number > last) {
      reader.cancel();
      return found;
    }
  }
}
