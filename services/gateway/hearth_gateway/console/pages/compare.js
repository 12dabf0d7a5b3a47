/** Several fine-tunes over one another: their curves, and only the settings in which they differ. */
import { get } from "../api.js";
import { Chart } from "../chart.js";
import { lineOf } from "../curve.js";
import { duration, figure } from "../format.js";
import { useLoaded } from "../hooks.js";
import { html } from "../html.js";
import { labelOf } from "../settings.js";
import { Badge, Card, Table, Waiting } from "../ui.js";

const MOST = 4;

async function load(ids, signal) {
  return Promise.all(
    ids.slice(0, MOST).map(async (id) => {
      const [run, curve] = await Promise.all([get(`finetune/${id}/`, signal), get(`finetune/${id}/metrics/`, signal)]);
      return { ...run, points: curve.points };
    }),
  );
}

export function Compare({ ids }) {
  const runs = useLoaded((signal) => load(ids, signal), [ids.join()], 5);
  return html`<p><a href="#/finetune">← All trainings</a></p>
    <${Waiting} of=${runs}
      >${(all) =>
        html` <${Card} title="Loss"><${Chart} label="Loss of each" lines=${curves(all, "loss", false)} /><//>
          ${all.some((run) => lineOf(run.points, "eval_loss").length) && html`<${Card} title="Validation loss"><${Chart} label="Validation loss of each" lines=${curves(all, "eval_loss", true)} /><//>`}
          <${Card} title="Where they differ"><${Differences} runs=${all} /><//>`}<//
    >`;
}

const curves = (runs, quantity, dashed) =>
  runs
    .map((run, index) => ({ name: run.name, colour: index + 1, dashed, points: lineOf(run.points, quantity) }))
    .filter((line) => line.points.length);

function Differences({ runs }) {
  const facts = [
    ["State", (run) => html`<${Badge} state=${run.job.status} />`],
    ["Mean loss", (run) => figure(run.result?.train_loss)],
    ["Validation loss", (run) => figure(run.result?.eval_loss)],
    ["Took", (run) => duration(run.result?.seconds)],
    ["Base", (run) => run.model_id],
    ["Dataset", (run) => html`<a href="#/datasets/${run.dataset_id}">${run.dataset_id.slice(0, 8)}</a>`],
  ];
  const settings = Object.keys(runs[0]?.hyperparameters ?? {}).filter(
    (name) => new Set(runs.map((run) => String(run.hyperparameters[name]))).size > 1,
  );
  const rows = [
    ...facts,
    ...settings.map((name) => [labelOf(name), (run) => String(run.hyperparameters[name] ?? "–")]),
  ];
  const columns = [
    { name: "What", kind: "first", cell: ([name]) => name },
    ...runs.map((run) => ({ name: run.name, cell: ([, of]) => of(run) })),
  ];
  return html`<${Table} label="Differences" columns=${columns} rows=${rows} id=${([name]) => name} />`;
}
