/** A log that is followed: it stays at its end, unless somebody has scrolled up to read. */
import { follow } from "./api.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Problem } from "./ui.js";

const MOST_LINES = 2000;
const DRAWN_EVERY_MILLISECONDS = 100;

/** @param {{path: string, onEnd?: (job: any) => void}} props */
export function Log({ path, onEnd }) {
  const [state, setState] = useState({ lines: /** @type {string[]} */ ([]), live: true, error: null });
  const box = useRef(null);
  const atEnd = useRef(true);
  useEffect(() => {
    const stop = new AbortController();
    const lines = /** @type {string[]} */ ([]);
    let live = true;
    let error = null;
    let timer = 0;
    const draw = () => {
      timer = 0;
      setState({ lines: lines.slice(-MOST_LINES), live, error });
    };
    const soon = () => (timer ||= setTimeout(draw, DRAWN_EVERY_MILLISECONDS));
    async function read() {
      try {
        for await (const event of follow(path, stop.signal)) {
          if (event.event === "end") onEnd?.(JSON.parse(event.data));
          else lines.push(event.data);
          soon();
        }
      } catch (failure) {
        error = failure;
      }
      live = false;
      if (!stop.signal.aborted) soon();
    }
    read();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [path]);
  useEffect(() => {
    if (atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [state.lines]);
  const scrolled = ({ currentTarget: at }) => {
    atEnd.current = at.scrollHeight - at.scrollTop - at.clientHeight < 24;
  };
  return html`<${Problem} error=${state.error} />
    <pre class="log" tabindex="0" role="log" aria-label="Log" aria-live="off" ref=${box} onScroll=${scrolled}>
${state.lines.join("\n") || (state.live ? "Nothing yet." : "The log is empty.")}</pre>
    <p class="soft">${state.live ? "Followed live." : "The job is over."}</p>`;
}
