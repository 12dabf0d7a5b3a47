/** The parts that pages are made of. Each looks after its own names and roles, so that pages need not think of them. */
import { bytes } from "./format.js";
import { html, useEffect, useId, useRef, useState } from "./html.js";

const TONES = {
  READY: "good",
  FINISHED: "good",
  RUNNING: "busy",
  LOADING: "busy",
  CREATED: "calm",
  IDLE: "calm",
  DRAINING: "calm",
  FAILED: "bad",
  KILLED: "calm",
  active: "good",
  revoked: "calm",
  expired: "calm",
};
const WORDS = { CREATED: "waiting", KILLED: "stopped" };

/** A state in a word; its colour only repeats it. */
export const Badge = ({ state }) =>
  html`<span class="badge ${TONES[state] ?? "calm"}">${WORDS[state] ?? state.toLowerCase()}</span>`;

export const Button = ({ kind = "", busy = false, disabled = false, children, ...rest }) =>
  html`<button type="button" class="button ${kind}" disabled=${busy || disabled} aria-busy=${busy} ...${rest}>
    ${children}
  </button>`;

/** @param {{title: string, actions?: any, children?: any, id?: string}} props */
export function Card({ title, actions, children, kind = "" }) {
  const id = useId();
  return html`<section class="card ${kind}" aria-labelledby=${id}>
    <header>
      <h2 id=${id}>${title}</h2>
      ${actions && html`<div class="row">${actions}</div>`}
    </header>
    ${children}
  </section>`;
}

/** What to say and do where there is nothing yet. */
export const Empty = ({ title, children }) =>
  html`<div class="empty">
    <p class="lead">${title}</p>
    <div>${children}</div>
  </div>`;

/** @param {{error: any}} props an ApiError: what was wrong, each fault, and when to try again */
export function Problem({ error, title }) {
  if (!error) return null;
  const faults = error.faults ?? [];
  return html`<div class="problem" role="alert">
    ${title && html`<strong>${title} </strong>`}${error.message}
    ${error.retryAfter ? `${/[.!?]$/.test(error.message) ? "" : "."} Try again in ${error.retryAfter} s.` : ""}
    ${
      faults.length > 0 &&
      html`<ul>
        ${faults.map((fault) => html`<li><code>${place(fault.loc)}</code> ${fault.msg}</li>`)}
      </ul>`
    }
  </div>`;
}

const place = (loc) => loc.filter((part) => part !== "body" && part !== "query").join(" ");

/** What is shown until the first answer; then the problem if there is one, then the page. */
export function Waiting({ of, children }) {
  if (of.data === undefined && of.error) return html`<${Problem} error=${of.error} />`;
  if (of.data === undefined) return html`<p class="soft" aria-busy="true">Loading…</p>`;
  return html`${of.error && html`<${Problem} error=${of.error} title="Not up to date:" />`}${children(of.data)}`;
}

/** @param {{value: number, label: string}} props a share, 0 to 1 */
export const Progress = ({ value, label }) =>
  html`<progress max="1" value=${value} aria-label=${label}>${Math.round(value * 100)} %</progress>`;

/** How much of something, as a bar; red where it is nearly all or more. */
export const Meter = ({ value, max, label }) =>
  html`<div
    class="meter ${value > max * 0.9 ? "full" : ""}"
    role="meter"
    aria-label=${label}
    aria-valuemin="0"
    aria-valuemax=${max}
    aria-valuenow=${Math.min(value, max)}
    aria-valuetext=${`${bytes(value)} of ${bytes(max)}`}
  >
    <span style=${{ width: `${max ? Math.min(100, (100 * value) / max) : 0}%` }}></span>
  </div>`;

/** How much of something is taken. */
export function Taken({ name, space }) {
  const used = space.total_bytes - space.free_bytes;
  return html`<div class="taken">
    <div class="row spread">
      <span>${name}</span><span class="soft">${bytes(space.free_bytes)} free of ${bytes(space.total_bytes)}</span>
    </div>
    <${Meter} value=${used} max=${space.total_bytes} label=${`${name} taken`} />
  </div>`;
}

/**
 * A table that becomes cards on a narrow page; roles are said outright, since CSS display takes them away.
 * @param {{label: string, columns: {name: string, cell: (row: any) => any, kind?: string}[], rows: any[], id: (row: any) => string}} props
 */
export const Table = ({ label, columns, rows, id }) =>
  html`<table role="table" aria-label=${label}>
    <thead role="rowgroup">
      <tr role="row">
        ${columns.map((each) => html`<th role="columnheader" scope="col" class=${each.kind ?? ""}>${each.name}</th>`)}
      </tr>
    </thead>
    <tbody role="rowgroup">
      ${rows.map(
        (row) =>
          html`<tr role="row" key=${id(row)}>
            ${columns.map((each) => {
              const said = each.cell(row);
              return html`<td role="cell" class="${each.kind ?? ""} ${said === "" ? "nothing" : ""}">
                <span class="label" aria-hidden="true">${each.name}</span>
                <div>${said}</div>
              </td>`;
            })}
          </tr>`,
      )}
    </tbody>
  </table>`;

/** Names and values. @param {{of: [string, any][]}} props */
export const Facts = ({ of }) =>
  html`<dl class="facts">
    ${of
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(
        ([name, value]) =>
          html`<div>
            <dt>${name}</dt>
            <dd>${value}</dd>
          </div>`,
      )}
  </dl>`;

/** A field with its label and hint, tied together. `control` gets their ids. */
export function Field({ label, hint, error, control, kind = "" }) {
  const id = useId();
  return html`<div class="field ${kind}">
    <label for=${id}>${label}</label>
    ${control({ id, "aria-describedby": hint || error ? `${id}-hint` : undefined, "aria-invalid": error ? true : undefined })}
    ${(hint || error) && html`<p class="hint ${error ? "wrong" : ""}" id="${id}-hint">${error || hint}</p>`}
  </div>`;
}

/** A text field. */
export const Input = ({ label, hint, error, value, onValue, kind, ...rest }) =>
  html`<${Field}
    label=${label}
    hint=${hint}
    error=${error}
    kind=${kind}
    control=${(ids) => html`<input ...${ids} ...${rest} value=${value} onInput=${(event) => onValue(event.currentTarget.value)} />`}
  />`;

/** One of several. @param {{options: (string | [string, string])[]}} props values, or values with their words */
export const Select = ({ label, hint, value, onValue, options, kind, ...rest }) =>
  html`<${Field}
    label=${label}
    hint=${hint}
    kind=${kind}
    control=${(ids) =>
      html`<select ...${ids} ...${rest} value=${value} onChange=${(event) => onValue(event.currentTarget.value)}>
        ${options.map((each) => [each].flat()).map(([option, words]) => html`<option value=${option} selected=${option === value}>${words ?? option}</option>`)}
      </select>`}
  />`;

export const Check = ({ label, checked, onValue, ...rest }) =>
  html`<label class="check">
    <input type="checkbox" checked=${checked} onChange=${(event) => onValue(event.currentTarget.checked)} ...${rest} />
    <span>${label}</span>
  </label>`;

/** Over the page until it is answered; the browser keeps the focus inside and gives it back. */
export function Dialog({ title, onClose, children }) {
  const at = useRef(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    at.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`<dialog ref=${at} aria-labelledby=${id} onClose=${onClose}>
    <h2 id=${id}>${title}</h2>
    ${children}
  </dialog>`;
}

/** A button that asks once more before it takes something away. */
export function Confirm({ label, title, children, verb, onYes, kind = "quiet danger", describe }) {
  const [open, setOpen] = useState(false);
  const close = () => setOpen(false);
  return html`<${Button} kind=${kind} aria-label=${describe} onClick=${() => setOpen(true)}>${label}<//> ${
      open &&
      html`<${Dialog} title=${title} onClose=${close}>
        <p>${children}</p>
        <div class="row end">
          <${Button} kind="quiet" onClick=${close}>Keep it<//>
          <${Button}
            kind="danger"
            onClick=${() => {
              close();
              onYes();
            }}
            >${verb}<//
          >
        </div>
      <//>`
    }`;
}

const toasts = new EventTarget();

/** Say something for a few seconds, on the page and to screen readers. @param {"good" | "bad"} tone */
export const toast = (text, tone = "good") => toasts.dispatchEvent(new CustomEvent("say", { detail: { text, tone } }));

export function Toasts() {
  const [said, setSaid] = useState(/** @type {{text: string, tone: string, at: number}[]} */ ([]));
  useEffect(() => {
    const say = ({ detail }) => {
      const entry = { ...detail, at: performance.now() };
      setSaid((before) => [...before.slice(-2), entry]);
      setTimeout(() => setSaid((before) => before.filter((each) => each !== entry)), 8000);
    };
    toasts.addEventListener("say", say);
    return () => toasts.removeEventListener("say", say);
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite">
    ${said.map((each) => html`<p key=${each.at} class="toast ${each.tone}">${each.text}</p>`)}
  </div>`;
}

/** Text to take along. */
export function Copy({ text, label = "Copy" }) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast("Copied");
    } catch {
      toast("The browser does not let this page copy; select the text instead", "bad");
    }
  };
  return html`<${Button} kind="quiet" onClick=${copy}>${label}<//>`;
}
