/**
 * Every request to Hearth's public API. Addresses are relative to the page, so that a reverse proxy may show Hearth
 * under a path. The key of whoever looks at the page lies in sessionStorage: it goes with the tab.
 */
import { readEvents } from "./events.js";

const KEY = "hearth.key";
const API = "api/v1/";

/** @typedef {{loc: (string|number)[], msg: string}} Fault */

/** What went wrong, in words; `status` is 0 where nothing answered. */
export class ApiError extends Error {
  /** @param {number} status @param {string} detail @param {Fault[]} faults @param {number | null} retryAfter seconds */
  constructor(status, detail, faults = [], retryAfter = null) {
    super(detail);
    Object.assign(this, { status, faults, retryAfter });
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (/** @type {string} */ value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** Told when the API asks for a key that it was not given, or does not take. */
export const doorbell = new EventTarget();

/** @returns {Record<string, string>} */
const authorization = () => (key.get() ? { authorization: `Bearer ${key.get()}` } : {});

/** A problem document or OpenAI's error object as an ApiError. @param {number} status @param {string} text */
export function errorOf(status, text, /** @type {string | null} */ retryAfter = null) {
  let said;
  try {
    said = JSON.parse(text);
  } catch {
    said = {};
  }
  const detail = said.detail ?? said.error?.message ?? `Hearth answered ${status}`;
  if (status === 401) doorbell.dispatchEvent(new Event("key-needed"));
  return new ApiError(status, String(detail), said.errors ?? [], retryAfter === null ? null : Number(retryAfter));
}

/** An answer of the API. Raises ApiError. @param {string} path @param {RequestInit} options */
async function ask(path, options = {}) {
  let reply;
  try {
    reply = await fetch(path, { ...options, headers: { ...authorization(), ...options.headers }, cache: "no-store" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, "Hearth does not answer. Check that it runs (make status) and that the network is there.");
  }
  if (!reply.ok) throw errorOf(reply.status, await reply.text(), reply.headers.get("retry-after"));
  return reply;
}

/** @param {Record<string, unknown>} values those that are null, undefined or "" are left out */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const pairs = given.flatMap(([name, value]) => [value].flat().map((each) => [name, String(each)]));
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
}

/** @param {string} path below /api/v1/ */
export const get = async (path, signal) => (await ask(API + path, { signal })).json();

/** The answer, and the cursor of the next page or null. */
export async function getPage(path, signal) {
  const reply = await ask(API + path, { signal });
  const next = /<\?([^>]*)>; rel="next"/.exec(reply.headers.get("link") ?? "");
  return { items: await reply.json(), next: next && new URLSearchParams(next[1]).get("cursor") };
}

/** Anything else that changes something, or asks with a body. @returns {Promise<any>} null for 204 */
export async function send(method, path, body, signal) {
  const json =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const reply = await ask(API + path, { method, signal, ...json });
  return reply.status === 204 ? null : reply.json();
}

/** A page outside of /api/v1/, e.g. `metrics` or `api/openapi.json`. */
export const fetchText = async (path, signal) => (await ask(path, { signal })).text();

/** Save what the API gives as a file. */
export async function save(path, name) {
  const url = URL.createObjectURL(await (await ask(API + path)).blob());
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Server-sent events of an answer to a POST, e.g. a chat that streams. @returns {AsyncGenerator<{data: string}>} */
export async function* post(path, body, signal) {
  const headers = { "content-type": "application/json" };
  const reply = await ask(path, { method: "POST", body: JSON.stringify(body), headers, signal });
  yield* readEvents(reply);
}

/**
 * Follow a stream of events until its event `end`, taking up after the last one where the connection broke.
 * (EventSource cannot send a key.)
 */
export async function* follow(path, signal) {
  let last = null;
  for (;;) {
    try {
      const resume = last === null ? {} : { "last-event-id": last };
      const reply = await ask(API + path, { signal, headers: { accept: "text/event-stream", ...resume } });
      for await (const event of readEvents(reply)) {
        last = event.id ?? last;
        yield event;
        if (event.event === "end") return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) throw error;
    }
    await new Promise((done) => setTimeout(done, 1000));
    if (signal.aborted) return;
  }
}

/** Upload a file, telling the share that has gone. XMLHttpRequest, for fetch does not tell. Raises ApiError. */
export function upload(path, file, onProgress, signal) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("POST", API + path);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () =>
      request.status < 300
        ? done(JSON.parse(request.responseText))
        : fail(errorOf(request.status, request.responseText, request.getResponseHeader("retry-after")));
    request.onerror = () => fail(new ApiError(0, "The upload broke off. Check the network, then send the file again."));
    request.onabort = () => fail(new DOMException("aborted", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    const form = new FormData();
    form.append("file", file);
    request.send(form);
  });
}
