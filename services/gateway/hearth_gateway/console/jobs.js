/** Jobs as several pages show them: what is at work, how far it is, and how it ended. */
import { get, query, send } from "./api.js";
import { ago, duration } from "./format.js";
import { useAction, useLoaded } from "./hooks.js";
import { html, useEffect, useRef } from "./html.js";
import { Badge, Button, Problem, Progress, toast } from "./ui.js";

export const isOver = (job) => ["FINISHED", "FAILED", "KILLED"].includes(job.status);

/** Jobs of these kinds that are not over, asked for every two seconds; `onOver` is told of each that ended since. */
export function useActiveJobs(kinds, onOver = () => {}) {
  const seen = useRef(new Set());
  const jobs = useLoaded(
    (signal) => get(`jobs/${query({ kind: kinds, status: ["CREATED", "RUNNING"] })}`, signal),
    [],
    2,
  );
  useEffect(() => {
    if (!jobs.data) return;
    const now = new Set(jobs.data.map((job) => job.id));
    for (const id of seen.current) {
      if (!now.has(id))
        get(`jobs/${id}/status/`).then(
          (job) => {
            tell(job);
            onOver(job);
          },
          () => {},
        );
    }
    seen.current = now;
  }, [jobs.data]);
  return jobs;
}

/** Say how a job ended. */
export function tell(job) {
  if (job.status === "FAILED") toast(`${job.name} failed: ${job.error}`, "bad");
  else toast(job.status === "FINISHED" ? `${job.name} is done` : `${job.name} was stopped`);
}

/** A job that is not over: how far it is, and a button that stops it. */
export function ActiveJob({ job, onChange }) {
  const stop = useAction(async () => {
    await send("POST", `jobs/${job.id}/interrupt/`);
    onChange?.();
  });
  const eta = job.eta_seconds ? ` · about ${duration(job.eta_seconds)} left` : "";
  return html`<li class="job">
    <div class="row spread">
      <a href="#/jobs/${job.id}" class="name">${job.name}</a>
      <span class="row"
        ><${Badge} state=${job.status} /><${Button}
          kind="quiet"
          busy=${stop.busy}
          aria-label=${`Stop ${job.name}`}
          onClick=${stop.run}
          >Stop<//
        ></span
      >
    </div>
    ${job.status === "RUNNING" && html`<${Progress} value=${job.progress} label=${`Progress of ${job.name}`} />`}
    <p class="soft">
      ${job.status === "RUNNING" && `${Math.round(job.progress * 100)} % · `}${job.stage}${eta} · ${ago(job.created_at)}
    </p>
    <${Problem} error=${stop.error} />
  </li>`;
}

export const ActiveJobs = ({ jobs, onChange }) =>
  jobs.length > 0 &&
  html`<ul class="plain" aria-label="At work">
    ${jobs.map((job) => html`<${ActiveJob} key=${job.id} job=${job} onChange=${onChange} />`)}
  </ul>`;
