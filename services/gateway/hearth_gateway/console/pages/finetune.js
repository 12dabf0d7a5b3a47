/** Fine-tunes: the list, and the way to its other pages. */
import { get } from "../api.js";
import { ago, duration, figure } from "../format.js";
import { go, useLoaded } from "../hooks.js";
import { html, useState } from "../html.js";
import { isOver } from "../jobs.js";
import { Badge, Button, Card, Empty, Progress, Table, Waiting } from "../ui.js";
import { Compare } from "./compare.js";
import { NewFinetune } from "./new-finetune.js";
import { Run } from "./run.js";

export function Finetune({ route }) {
  if (route.id === "new") return html`<${NewFinetune} wanted=${route.query} />`;
  if (route.id === "compare") return html`<${Compare} ids=${(route.query.ids ?? "").split(",").filter(Boolean)} />`;
  if (route.id) return html`<${Run} key=${route.id} id=${route.id} />`;
  return html`<${List} />`;
}

function List() {
  const runs = useLoaded((signal) => get("finetune/", signal), [], 3);
  const [ticked, setTicked] = useState(/** @type {string[]} */ ([]));
  const tick = (id, is) => setTicked(is ? [...ticked, id] : ticked.filter((each) => each !== id));
  const columns = [
    {
      name: "Compare",
      cell: (run) =>
        html`<input
          type="checkbox"
          aria-label=${`Compare ${run.name}`}
          checked=${ticked.includes(run.id)}
          onChange=${(event) => tick(run.id, event.currentTarget.checked)}
        />`,
    },
    {
      name: "Training",
      kind: "first",
      cell: (run) =>
        html`<a class="name" href="#/finetune/${run.id}">${run.name}</a>
          <div class="soft">${run.model_id}</div>`,
    },
    {
      name: "State",
      cell: (run) =>
        html`<${Badge}
            state=${run.job.status}
          />${run.position && html` <span class="soft">${run.position}. in line</span>`}`,
    },
    {
      name: "Progress",
      cell: (run) =>
        isOver(run.job)
          ? ""
          : html`<${Progress} value=${run.job.progress} label=${`Progress of ${run.name}`} /><span class="soft"
                >${run.job.stage}</span
              >`,
    },
    { name: "Left", cell: (run) => (run.job.eta_seconds ? duration(run.job.eta_seconds) : "") },
    {
      name: "Loss",
      kind: "number",
      cell: (run) => (run.result ? figure(run.result.eval_loss ?? run.result.train_loss) : ""),
    },
    { name: "Begun", kind: "time", cell: (run) => ago(run.created_at) },
  ];
  const actions = html` <${Button}
      disabled=${ticked.length < 2}
      onClick=${() => go(`finetune/compare?ids=${ticked.join(",")}`)}
      >Compare<//
    >
    <a class="button main" href="#/finetune/new">New fine-tune</a>`;
  return html`<${Card} title="Trainings" actions=${actions}>
    <${Waiting} of=${runs}
      >${(all) =>
        all.length === 0
          ? html`<${Empty} title="Nothing trained yet"
              >Take a <a href="#/models">base model</a> and a <a href="#/datasets">dataset</a>, and begin a${" "}
              <a href="#/finetune/new">fine-tune</a>: what it learns becomes an adapter that is deployed beside its
              base.<//
            >`
          : html`<${Table} label="Trainings" columns=${columns} rows=${all} id=${(run) => run.id} />`}<//
    >
  <//>`;
}
