/** One fine-tune: its curve while it grows, time left, log; interrupt, resume, deploy. */
import { get, query, send } from "../api.js";
import { Chart } from "../chart.js";
import { lineOf, useCurve } from "../curve.js";
import { between, bytes, duration, figure, number } from "../format.js";
import { useAction, useLoaded } from "../hooks.js";
import { html, useState } from "../html.js";
import { isOver } from "../jobs.js";
import { Log } from "../log.js";
import { labelOf } from "../settings.js";
import { Badge, Button, Card, Empty, Facts, Problem, Progress, Waiting, toast } from "../ui.js";

export function Run({ id }) {
  const [over, setOver] = useState(false);
  const run = useLoaded((signal) => get(`finetune/${id}/`, signal), [id, over], over ? null : 2);
  return html`<p><a href="#/finetune">← All trainings</a></p>
    <${Waiting} of=${run}>${(it) => html`<${One} of=${it} onOver=${setOver} onChange=${run.reload} />`}<//>`;
}

function One({ of: run, onOver, onChange }) {
  const { job, result } = run;
  const points = useCurve(run.id, run.job_id, () => onOver(true));
  const last = points[points.length - 1];
  const stop = useAction(async () => {
    await send("POST", `jobs/${job.id}/interrupt/`);
    toast("It stops, and keeps its last checkpoint");
    onChange();
  });
  const resume = useAction(async () => {
    await send("POST", `finetune/${run.id}/resume/`);
    toast("It goes on");
    onOver(false);
    onChange();
  });
  const actions = html`<${Badge} state=${job.status} />
    ${!isOver(job) && html`<${Button} kind="danger" busy=${stop.busy} onClick=${stop.run}>Interrupt<//>`}
    ${["FAILED", "KILLED"].includes(job.status) && html`<${Button} kind="main" busy=${resume.busy} onClick=${resume.run}>Resume<//>`}
    ${job.status === "FINISHED" && html`<a class="button main" href="#/deploy${query({ model: run.model_id, adapter: run.adapter_id })}">Deploy</a>`}`;
  const eta = last?.eta_seconds ?? job.eta_seconds;
  return html`<${Card} title=${run.name} actions=${actions}>
      ${job.error && html`<${Problem} error=${{ message: job.error }} title="It failed:" />`}
      <${Problem} error=${stop.error ?? resume.error} />
      <p>Teaches ${run.model_id}; the adapter is <code>${run.adapter_id}</code>.</p>
      ${
        job.status === "RUNNING" &&
        html`<${Progress} value=${job.progress} label="Progress" />
          <p class="soft" aria-live="off">${job.stage}${eta ? ` · about ${duration(eta)} left` : ""}</p>`
      }
      <${Facts}
        of=${[
          ["Dataset", html`<a href="#/datasets/${run.dataset_id}">its rows</a>`],
          ["Place in line", run.position],
          ["Loss now", isOver(job) ? null : figure(last?.loss)],
          ["Mean loss", result && figure(result.train_loss)],
          [
            "Validation loss",
            result?.eval_loss != null
              ? `${figure(result.eval_loss)} (base alone ${figure(result.base_eval_loss)})`
              : null,
          ],
          ["Took", isOver(job) ? duration(result?.seconds ?? between(job.started_at, job.finished_at)) : null],
          ["Ended early", result?.stopped_early ? `after ${result.steps} steps` : null],
          ["Tokens", result && number(result.tokens)],
          ["Tokens/s", last && figure(last.tokens_per_second)],
          ["Memory at most", last && bytes(last.memory_bytes)],
          ["Resumes from step", isOver(job) && !result ? run.checkpoint_step : null],
        ]}
      />
    <//>
    <${Card} title="Loss">
      ${
        points.length
          ? html`<${Chart}
              label=${`Loss of ${run.name}`}
              xMost=${last.max_steps}
              lines=${[
                { name: "loss", colour: 1, points: lineOf(points, "loss") },
                { name: "validation loss", colour: 2, dashed: true, points: lineOf(points, "eval_loss") },
              ].filter((line) => line.points.length)}
            />`
          : html`<${Empty} title=${isOver(job) ? "It ended before its first step" : "No step yet"}
              >${isOver(job) ? "The log says why." : "The curve begins with the first step; loading the base takes a while."}<//
            >`
      }
    <//>
    <${Card} title="Log"><${Log} key=${job.id} path=${`jobs/${job.id}/logs/`} /><//>
    <${Card} title="Settings"
      ><${Facts}
        of=${Object.entries(run.hyperparameters).map(([name, value]) => [labelOf(name), value === null ? null : String(value)])}
    /><//>`;
}
