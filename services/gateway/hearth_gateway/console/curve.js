/** The curve of a fine-tune while it grows. */
import { follow } from "./api.js";
import { useEffect, useState } from "./html.js";

const DRAWN_EVERY_MILLISECONDS = 250;

/**
 * Its points by step. A run that goes back to a checkpoint sends earlier steps again: what came after them is void.
 * @param {string} id @param {string} attempt anything that changes when it begins again @param {() => void} onEnd
 */
export function useCurve(id, attempt, onEnd = () => {}) {
  const [points, setPoints] = useState(/** @type {any[]} */ ([]));
  useEffect(() => {
    const stop = new AbortController();
    let kept = [];
    let timer = 0;
    const soon = () =>
      (timer ||= setTimeout(() => {
        timer = 0;
        setPoints([...kept]);
      }, DRAWN_EVERY_MILLISECONDS));
    (async () => {
      for await (const event of follow(`finetune/${id}/metrics/?follow=true`, stop.signal)) {
        if (event.event === "end") return onEnd();
        const point = JSON.parse(event.data);
        if (kept.length && point.step <= kept[kept.length - 1].step)
          kept = kept.filter((each) => each.step < point.step);
        kept.push(point);
        soon();
      }
    })().catch(() => {}); // the page tells of the same trouble beside the curve
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [id, attempt]);
  return points;
}

/** A quantity of the points as a line. @param {any[]} points @returns {[number, number][]} */
export const lineOf = (points, quantity) =>
  points
    .filter((each) => each[quantity] !== null && each[quantity] !== undefined)
    .map((each) => [each.step, each[quantity]]);
