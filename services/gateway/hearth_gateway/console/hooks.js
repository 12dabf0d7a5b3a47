/** How pages get what they show: once, again and again, or when a button is pressed. */
import { ApiError } from "./api.js";
import { useCallback, useEffect, useRef, useState } from "./html.js";

/** @typedef {{data: any, error: ApiError | null, reload: () => void}} Loaded */

const AWAY_SECONDS = 2;
const isAway = (error) => error.status === 0 || error.status === 503;

/**
 * Load, and load again every `seconds` while the page can be seen; anew at once when `deps` change. What was there
 * stays while it loads, and when loading fails. What is away is asked again until it is back.
 * @param {(signal: AbortSignal) => Promise<any>} load @param {unknown[]} deps @param {number | null} seconds
 * @returns {Loaded}
 */
export function useLoaded(load, deps = [], seconds = null) {
  const [state, setState] = useState({ data: undefined, error: null });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    async function once() {
      let pause = seconds;
      try {
        const data = await load(stop.signal);
        if (!stop.signal.aborted) setState({ data, error: null });
      } catch (error) {
        if (!stop.signal.aborted) setState((before) => ({ ...before, error }));
        if (isAway(error)) pause = Math.min(pause ?? AWAY_SECONDS, AWAY_SECONDS);
      }
      if (pause !== null && !stop.signal.aborted) timer = setTimeout(again, pause * 1000);
    }
    function again() {
      if (document.hidden) document.addEventListener("visibilitychange", again, { once: true, signal: stop.signal });
      else once();
    }
    once();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [...deps, turn]);
  return { ...state, reload: useCallback(() => setTurn((before) => before + 1), []) };
}

/**
 * What a button does: `busy` while it is at work, so that it is not done twice; `error` where it failed.
 * @returns {{run: (...given: any[]) => Promise<any>, busy: boolean, error: ApiError | null, clear: () => void}}
 */
export function useAction(action) {
  const [state, setState] = useState({ busy: false, error: null });
  const at = useRef(false);
  async function run(...given) {
    if (at.current) return undefined;
    at.current = true;
    setState({ busy: true, error: null });
    try {
      const done = await action(...given);
      setState({ busy: false, error: null });
      return done;
    } catch (error) {
      setState({ busy: false, error: error?.name === "AbortError" ? null : error });
      return undefined;
    } finally {
      at.current = false;
    }
  }
  return { ...state, run, clear: () => setState({ busy: false, error: null }) };
}

/** What a form does when it is sent, in place of what browsers do. @param {() => unknown} run */
export const submits = (run) => (event) => {
  event.preventDefault();
  run();
};

/** A value once it has stayed the same for so long: for what is asked while somebody types. */
export function useSettled(value, milliseconds = 400) {
  const [settled, setSettled] = useState(value);
  const text = JSON.stringify(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), milliseconds);
    return () => clearTimeout(timer);
  }, [text]);
  return settled;
}

/** The part of the address after #: `{page, id, query}`. */
export function readRoute() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, ...rest] = path.split("/").map(decodeURIComponent);
  return { page: page || "overview", id: rest.join("/"), query: Object.fromEntries(new URLSearchParams(search)) };
}

export function useRoute() {
  const [route, setRoute] = useState(readRoute);
  useEffect(() => {
    const changed = () => setRoute(readRoute());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

/** @param {string} address e.g. "jobs" or "finetune/new?model=x" */
export const go = (address) => {
  location.hash = `#/${address}`;
};
