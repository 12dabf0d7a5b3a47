/** Figures as people read them. */

const UNITS = ["B", "KB", "MB", "GB", "TB"];

/** Bytes, in powers of 1,024. @param {number | null | undefined} count */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  let power = 0;
  while (count >= 1024 && power < UNITS.length - 1) {
    count /= 1024;
    power += 1;
  }
  return `${power && count < 10 ? count.toFixed(1) : Math.round(count)} ${UNITS[power]}`;
}

/** @param {number | null | undefined} value */
export const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));

/** Few digits, whatever the size: 0.0002, 1.23, 45.6. @param {number | null | undefined} value */
export const figure = (value) =>
  value === null || value === undefined ? "–" : String(Number(value.toPrecision(Math.abs(value) >= 1000 ? 5 : 3)));

/** Seconds as 45 s, 3 min 20 s, 2 h 5 min. @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** The API's times are UTC without an offset. @param {string} text */
export const time = (text) => new Date(/Z|[+-]\d\d:\d\d$/.test(text) ? text : `${text}Z`);

/** @param {string | null | undefined} text */
export function ago(text) {
  if (!text) return "–";
  const seconds = (Date.now() - time(text).getTime()) / 1000;
  if (seconds < 45) return "just now";
  if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  if (seconds < 86_400) return `${Math.round(seconds / 3600)} h ago`;
  if (seconds < 30 * 86_400) return `${Math.round(seconds / 86_400)} d ago`;
  return time(text).toLocaleDateString();
}

/** Seconds from one time to another, or to now. */
export const between = (from, to) => ((to ? time(to).getTime() : Date.now()) - time(from).getTime()) / 1000;

/** `n thing` or `n things`. */
export const count = (n, thing) => `${number(n)} ${thing}${n === 1 ? "" : "s"}`;

/** @param {string} path e.g. org/name, whose slash stays a slash */
export const inPath = (path) => path.split("/").map(encodeURIComponent).join("/");
