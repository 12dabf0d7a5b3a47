/** Jobs: the list, and one of them with its log. */
import { getPage, get, query, send } from "../api.js";
import { ago, between, duration, time } from "../format.js";
import { useAction, useLoaded } from "../hooks.js";
import { html, useState } from "../html.js";
import { isOver } from "../jobs.js";
import { Log } from "../log.js";
import { Badge, Button, Card, Empty, Facts, Problem, Progress, Select, Table, Waiting } from "../ui.js";

const KINDS = ["download", "import", "finetune", "merge", "deploy"];
const STATUSES = ["CREATED", "RUNNING", "FINISHED", "FAILED", "KILLED"];
const PAGE = 50;
const every = (values) => [["", "all"], ...values.map((each) => [each, each.toLowerCase()])];

export const Jobs = ({ route }) => (route.id ? html`<${One} key=${route.id} id=${route.id} />` : html`<${List} />`);

function List() {
  const [filter, setFilter] = useState({ kind: "", status: "" });
  const [cursors, setCursors] = useState([""]);
  const cursor = cursors[cursors.length - 1];
  const page = useLoaded(
    (signal) => getPage(`jobs/${query({ ...filter, cursor, limit: PAGE })}`, signal),
    [filter.kind, filter.status, cursor],
    3,
  );
  const choose = (name) => (value) => {
    setFilter({ ...filter, [name]: value });
    setCursors([""]);
  };
  const columns = [
    { name: "Job", kind: "first", cell: (job) => html`<a class="name" href="#/jobs/${job.id}">${job.name}</a>` },
    { name: "State", cell: (job) => html`<${Badge} state=${job.status} />` },
    {
      name: "Progress",
      cell: (job) =>
        job.status === "RUNNING"
          ? html`<${Progress} value=${job.progress} label=${`Progress of ${job.name}`} /><span class="soft"
                >${job.stage}</span
              >`
          : isOver(job)
            ? ""
            : job.stage,
    },
    {
      name: "Took",
      kind: "number",
      cell: (job) => (job.attempt ? duration(between(job.started_at, job.finished_at)) : ""),
    },
    { name: "Began", kind: "time", cell: (job) => ago(job.created_at) },
  ];
  return html`<${Card}
    title="All jobs"
    kind="wide"
    actions=${html` <${Select}
        label="Kind"
        kind="inline"
        value=${filter.kind}
        onValue=${choose("kind")}
        options=${every(KINDS)}
      />
      <${Select}
        label="State"
        kind="inline"
        value=${filter.status}
        onValue=${choose("status")}
        options=${every(STATUSES)}
      />`}
  >
    <${Waiting} of=${page}
      >${({ items, next }) =>
        html` ${
          items.length === 0
            ? html`<${Empty} title="No such job"
                >Jobs come from <a href="#/models">adding a model</a>, <a href="#/finetune">fine-tuning</a> and${" "}
                <a href="#/deploy">deploying</a>.<//
              >`
            : html`<${Table} label="Jobs" columns=${columns} rows=${items} id=${(job) => job.id} />`
        }
        ${
          (cursors.length > 1 || next) &&
          html`<div class="row end">
            <${Button} disabled=${cursors.length < 2} onClick=${() => setCursors(cursors.slice(0, -1))}>Newer<//>
            <${Button} disabled=${!next} onClick=${() => setCursors([...cursors, next])}>Older<//>
          </div>`
        }`}<//
    >
  <//>`;
}

function One({ id }) {
  const [over, setOver] = useState(false);
  const job = useLoaded((signal) => get(`jobs/${id}/status/`, signal), [id, over], over ? null : 2);
  const stop = useAction(async () => {
    await send("POST", `jobs/${id}/interrupt/`);
    job.reload();
  });
  return html`<p><a href="#/jobs">← All jobs</a></p>
    <${Waiting} of=${job}
      >${(it) =>
        html` <${Card}
          title=${it.name}
          actions=${!isOver(it) && html`<${Button} kind="danger" busy=${stop.busy} onClick=${stop.run}>Stop<//>`}
        >
          <${Problem} error=${stop.error} />
          ${it.error && html`<${Problem} error=${{ message: it.error }} title="It failed:" />`}
          ${it.status === "RUNNING" && html`<${Progress} value=${it.progress} label="Progress" />`}
          <${Facts}
            of=${[
              ["State", html`<${Badge} state=${it.status} />`],
              ["Doing", isOver(it) ? null : it.stage],
              ["Time left", it.eta_seconds ? `about ${duration(it.eta_seconds)}` : null],
              ["Kind", it.kind],
              ["Made", time(it.created_at).toLocaleString()],
              ["Took", it.attempt ? duration(between(it.started_at, it.finished_at)) : null],
              ["Attempt", it.attempt > 1 ? it.attempt : null],
              ["Id", html`<code>${it.id}</code>`],
            ]}
          />
        <//>`}<//
    >
    <${Card} title="Log"><${Log} path=${`jobs/${id}/logs/`} onEnd=${() => setOver(true)} /><//>`;
}
