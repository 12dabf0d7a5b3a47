/** Tokens per second, from two looks at the gateway's counters (Prometheus's text, /metrics). */
import { fetchText } from "./api.js";

const WINDOW_SECONDS = 60;

/** Samples of the last minute; they outlive the page, so that coming back shows a rate at once. */
const looks = /** @type {{at: number, tokens: number}[]} */ ([]);

/** Looks now. @returns {Promise<{perSecond: number | null, inFlight: number}>} null until there were two looks */
export async function lookAtTraffic(signal) {
  const text = await fetchText("metrics", signal);
  const tokens = sum(text, /^hearth_gateway_tokens_total\{[^}]*kind="completion[^}]*\} (\S+)/gm);
  const inFlight = sum(text, /^hearth_gateway_requests_in_flight(?:\{[^}]*\})? (\S+)/gm);
  const now = { at: performance.now() / 1000, tokens };
  if (looks.length && looks[looks.length - 1].tokens > tokens) looks.length = 0; // the gateway began anew
  looks.push(now);
  while (now.at - looks[0].at > WINDOW_SECONDS) looks.shift();
  const passed = now.at - looks[0].at;
  return { perSecond: passed > 1 ? (tokens - looks[0].tokens) / passed : null, inFlight };
}

const sum = (text, pattern) => [...text.matchAll(pattern)].reduce((total, match) => total + Number(match[1]), 0);
