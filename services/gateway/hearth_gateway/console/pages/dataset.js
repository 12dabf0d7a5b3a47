/** One dataset: what is known of it, and its rows as conversations. */
import { get, query } from "../api.js";
import { bytes, number, time } from "../format.js";
import { useAction, useLoaded } from "../hooks.js";
import { html, useState } from "../html.js";
import { Button, Card, Facts, Problem, Waiting } from "../ui.js";

export function Preview({ id }) {
  const about = useLoaded((signal) => get(`datasets/${id}/metadata/`, signal), [id]);
  const first = useLoaded((signal) => get(`datasets/${id}/preview/${query({ limit: 10 })}`, signal), [id]);
  return html`<p><a href="#/datasets">← All datasets</a></p>
    <${Waiting} of=${about}
      >${(it) =>
        html`<${Card}
          title=${it.name}
          actions=${html`<a class="button main" href="#/finetune/new${query({ dataset: id })}">Fine-tune on it</a>`}
        >
          ${it.description && html`<p>${it.description}</p>`}
          <${Facts}
            of=${[
              ["Rows", number(it.rows)],
              ["Turns", number(it.turns)],
              ["Rows that repeat another", it.duplicates === null ? null : number(it.duplicates)],
              ["Format", it.format.replaceAll("_", " ")],
              ["Size", bytes(it.bytes)],
              ["Added", time(it.created_at).toLocaleString()],
              ["Id", html`<code>${it.id}</code>`],
            ]}
          />
        <//>`}<//
    >
    <${Card} title="Rows, as they are understood">
      <${Waiting} of=${first}>${(page) => html`<${Rows} id=${id} first=${page} />`}<//>
    <//>`;
}

function Rows({ id, first }) {
  const [more, setMore] = useState([]);
  const next = more.length ? more[more.length - 1].next : first.next;
  const load = useAction(async () => {
    const page = await get(`datasets/${id}/preview/${query({ limit: 10, cursor: next })}`);
    setMore([...more, page]);
  });
  const rows = [first, ...more].flatMap((page) => page.rows);
  return html`<p class="soft">What is marked is learnt; the rest is what it answers to.</p>
    <ol class="plain rows">
      ${rows.map(
        (row) =>
          html`<li key=${row.line}>
            <h3>Line ${row.line}</h3>
            <${Row} of=${row} />
          </li>`,
      )}
    </ol>
    <${Problem} error=${load.error} />
    ${next && html`<${Button} busy=${load.busy} onClick=${load.run}>Show more<//>`}`;
}

function Row({ of: row }) {
  if ("text" in row) return html`<div class="turn learnt"><p class="said">${row.text}</p></div>`;
  if ("messages" in row)
    return row.messages.map((each, index) => html`<${Turn} of=${each} learnt=${row.learn[index]} />`);
  return html`${row.prompt.map((each) => html`<${Turn} of=${each} />`)}
    <p class="soft">better</p>
    ${row.chosen.map((each) => html`<${Turn} of=${each} learnt=${true} />`)}
    <p class="soft">worse</p>
    ${row.rejected.map((each) => html`<${Turn} of=${each} />`)}`;
}

export const Turn = ({ of: message, learnt = false }) =>
  html`<div class="turn ${message.role} ${learnt ? "learnt" : ""}">
    <span class="soft">${message.role}${learnt ? " · learnt" : ""}</span>
    <p class="said">${message.content ?? JSON.stringify(message.tool_calls)}</p>
  </div>`;
