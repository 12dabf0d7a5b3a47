/** What is served, what is at work, and what the machine has left. */
import { get } from "../api.js";
import { count, figure, number } from "../format.js";
import { useLoaded } from "../hooks.js";
import { html } from "../html.js";
import { ActiveJobs, useActiveJobs } from "../jobs.js";
import { lookAtTraffic } from "../metrics.js";
import { Badge, Card, Empty, Problem, Taken, Waiting } from "../ui.js";

const ROLES = { default: "Language model", embedding: "Embeddings", rerank: "Reranker" };
const WORK = ["download", "import", "finetune", "merge"];

export function Overview() {
  const deployments = useLoaded((signal) => get("deployments/", signal), [], 3);
  const system = useLoaded((signal) => get("system/", signal), [], 5);
  const traffic = useLoaded(lookAtTraffic, [], 3);
  const jobs = useActiveJobs(WORK);
  return html`<div class="grid">
    <${Card} title="Served" kind="wide" actions=${html`<a class="button" href="#/deploy">Deploy</a>`}>
      <${Waiting} of=${deployments}>${(all) => html`<${Served} all=${all} />`}<//>
    <//>
    <${Card} title="Traffic">
      <${Waiting} of=${traffic}
        >${(now) =>
          html`<dl class="figures">
            <div>
              <dt>tokens/s, last minute</dt>
              <dd>${now.perSecond === null ? "–" : figure(now.perSecond)}</dd>
            </div>
            <div>
              <dt>requests at work</dt>
              <dd>${number(now.inFlight)}</dd>
            </div>
          </dl>`}<//
      >
    <//>
    <${Card} title="Machine">
      <${Waiting} of=${system}>${(here) => html`<${Machine} here=${here} />`}<//>
    <//>
    <${Card} title="At work" actions=${html`<a class="button" href="#/jobs">All jobs</a>`}>
      <${Waiting} of=${jobs}
        >${(all) =>
          html` ${all.length === 0 && html`<${Empty} title="Nothing is being done">Downloads, imports and trainings show here with their progress.<//>`}
            <${ActiveJobs} jobs=${all} onChange=${jobs.reload} />`}<//
      >
    <//>
    <${Card} title="Queues"><${Waiting} of=${system}>${(here) => html`<${Queues} queues=${here.queues} />`}<//><//>
  </div>`;
}

function Served({ all }) {
  const deployed = all.filter((each) => each.status);
  return html`${!all.some((each) => each.name === "default" && each.status) && html`<${FirstSteps} />`}
    <ul class="plain">
      ${deployed.map((each) => html`<${Deployment} key=${each.name} of=${each} />`)}
    </ul>`;
}

function Deployment({ of: { name, served_name, status } }) {
  const { state, model_id, adapter_ids, detail, serving } = status;
  const other = serving && serving.model_id !== model_id && `Until then ${serving.model_id} answers.`;
  return html`<li class="served">
    <div class="row spread"><strong>${ROLES[name] ?? name}</strong><${Badge} state=${state} /></div>
    <p class="name">${model_id}</p>
    <p class="soft">
      called <code>${served_name}</code>${adapter_ids.length > 0 && ` with ${count(adapter_ids.length, "adapter")}`}
    </p>
    ${detail && html`<p class=${state === "FAILED" ? "wrong" : "soft"}>${detail} ${other}</p>`}
  </li>`;
}

const FirstSteps = () =>
  html`<${Empty} title="No language model is deployed yet">
    <ol class="steps">
      <li><a href="#/models">Add a model</a> from the hub or from a folder,</li>
      <li>
        teach it: <a href="#/datasets">upload conversations</a> and <a href="#/finetune">fine-tune</a>, if you like,
      </li>
      <li><a href="#/deploy">deploy it</a>,</li>
      <li>and <a href="#/playground">talk to it</a>, here or with any OpenAI client.</li>
    </ol>
  <//>`;

const Machine = ({ here }) =>
  html`<${Taken} name="Memory" space=${here.memory} />
    ${here.gpus.map((gpu, index) => html`<${Taken} name=${`GPU ${index}`} space=${gpu} />`)}
    <${Taken} name="Disk" space=${here.disk} />`;

function Queues({ queues }) {
  const idle = queues.filter((each) => each.workers === 0);
  return html`<ul class="plain lines">
      ${queues.map(
        (each) =>
          html`<li class="row spread">
            <span>${each.queue}</span>
            <span class="soft">${number(each.waiting)} waiting, ${count(each.workers, "worker")}</span>
          </li>`,
      )}
    </ul>
    ${idle.length > 0 && html`<${Problem} error=${{ message: `Nobody takes from ${idle.map((each) => each.queue).join(", ")}: what is begun there waits. Start the platform's workers (make up).` }} />`}`;
}
