/** Deploy: what is served, what shall be, whether that fits, and the swap. */
import { get, send } from "../api.js";
import { submits, useAction, useLoaded, useSettled } from "../hooks.js";
import { html, useState } from "../html.js";
import { Fit } from "../fit.js";
import { SettingField, faultsBySetting, readSettings, valuesOf } from "../settings.js";
import { Badge, Button, Card, Check, Confirm, Empty, Facts, Problem, Progress, Select, Waiting, toast } from "../ui.js";

const ROLES = { default: "Language model", embedding: "Embeddings", rerank: "Reranker" };

export function Deploy({ route }) {
  const deployments = useLoaded((signal) => get("deployments/", signal), [], 1.5);
  const models = useLoaded((signal) => get("models/", signal), []);
  const trainable = useLoaded((signal) => get("finetune/models/", signal), []);
  return html`<div class="grid">
    <${Waiting} of=${deployments}
      >${(all) => all.map((each) => html`<${Deployment} key=${each.name} of=${each} onChange=${deployments.reload} />`)}<//
    >
    <${Card} title="Deploy a model" kind="wide">
      <${Waiting} of=${models}
        >${(all) =>
          html`<${Waiting} of=${trainable}
            >${(generating) =>
              html` <${Form}
                all=${all}
                generating=${generating}
                wanted=${route.query}
                now=${deployments.data ?? []}
                onDone=${deployments.reload}
              />`}<//
          >`}<//
      >
    <//>
  </div>`;
}

function Deployment({ of: { name, served_name, status }, onChange }) {
  const stop = useAction(async () => {
    await send("DELETE", `deployments/${name}/`);
    toast(`${ROLES[name]}: being undeployed`);
    onChange();
  });
  const undeploy =
    status &&
    html`<${Confirm}
      label="Undeploy"
      describe=${`Undeploy ${ROLES[name]}`}
      title="Undeploy ${status.model_id}?"
      verb="Undeploy it"
      onYes=${stop.run}
    >
      Requests to <code>${served_name}</code> are answered with an error from then on. Model and adapters stay in the
      store.
    <//>`;
  if (!status) {
    return html`<${Card} title=${ROLES[name] ?? name}
      ><${Empty} title="Nothing is deployed"
        >Choose a model below; clients will call it <code>${served_name}</code>.<//
      ><//
    >`;
  }
  const { replicas } = status;
  const loading = status.state === "LOADING";
  const instead = status.serving && (loading || status.state === "FAILED") ? status.serving.model_id : null;
  return html`<${Card} title=${ROLES[name] ?? name} actions=${html`<${Badge} state=${status.state} />${undeploy}`}>
    <p class="name">${status.model_id}</p>
    ${status.detail && html`<p class=${status.state === "FAILED" ? "wrong" : "soft"}>${status.detail}</p>`}
    ${loading && html`<${Progress} value=${status.job.progress} label="Loading" />`}
    <${Facts}
      of=${[
        ["Called", html`<code>${served_name}</code>`],
        [
          "Adapters",
          status.adapter_ids.length
            ? html`<ul class="plain">
                ${status.adapter_ids.map((id) => html`<li><code>${id}</code></li>`)}
              </ul>`
            : null,
        ],
        ["Answers meanwhile", instead],
        ["Replicas", replicas.desired > 1 || replicas.max ? `${replicas.ready} of ${replicas.desired} answer` : null],
        ["By load", replicas.max ? `${replicas.min} to ${replicas.max}${replicas.reason && `; ${replicas.reason}`}` : null],
        ["Job", html`<a href="#/jobs/${status.job.id}">log and state</a>`],
      ]}
    />
    <${Problem} error=${stop.error} />
  <//>`;
}

function Form({ all, generating, wanted, now, onDone }) {
  const bases = all.filter((each) => !each.adapter);
  const chat = generating.map((each) => each.model_id);
  const [role, setRole] = useState("default");
  const fit = role === "default" ? chat : bases.map((each) => each.model_id).filter((id) => !chat.includes(id));
  const [chosen, setChosen] = useState(wanted.model ?? "");
  const deployed = now.find((each) => each.name === role)?.status;
  const model = fit.includes(chosen) ? chosen : fit.includes(deployed?.model_id) ? deployed.model_id : (fit[0] ?? "");
  const [ticked, setTicked] = useState(null); // null: as deployed, and the adapter that the address names
  const usual = [
    ...(deployed?.model_id === model ? deployed.adapter_ids : []),
    ...(wanted.adapter ? [wanted.adapter] : []),
  ];
  const adapters = all.filter((each) => each.adapter && each.base_model_id === model).map((each) => each.model_id);
  const with_ = adapters.filter((id) => (ticked ?? usual).includes(id));
  const settings = useLoaded((signal) => readSettings("EngineSettings", signal), []);
  const [typed, setTyped] = useState({});
  const engine = valuesOf(settings.data ?? [], typed);
  const body = { model_id: model, adapter_ids: with_, ...(Object.keys(engine).length ? { engine } : {}) };
  const asked = useSettled({ role, body });
  const ask = ({ role: name, body: what }, dry, signal) =>
    send(
      name === "default" ? "POST" : "PUT",
      `${name === "default" ? "deploy/" : `deployments/${name}/`}${dry ? "?dry_run=true" : ""}`,
      what,
      signal,
    );
  const report = useLoaded(
    async (signal) => (asked.body.model_id ? ask(asked, true, signal) : null),
    [JSON.stringify(asked)],
  );
  const begin = useAction(async () => {
    const job = await ask({ role, body }, false);
    toast(`${job.name} has begun`);
    onDone();
  });
  const same = deployed && deployed.model_id === model;
  const faults = faultsBySetting(report.error ?? begin.error);
  return html`<form onSubmit=${submits(begin.run)}>
    <div class="columns">
      <${Select}
        label="For"
        value=${role}
        onValue=${(value) => {
          setRole(value);
          setTicked(null);
        }}
        options=${Object.entries(ROLES)}
      />
      ${
        model &&
        html`<${Select}
          label="Base model"
          value=${model}
          onValue=${(value) => {
            setChosen(value);
            setTicked(null);
          }}
          options=${fit}
        />`
      }
    </div>
    ${!model && html`<${Empty} title="No model for this yet"><a href="#/models">Add one</a> first.<//>`}
    ${
      role === "default" &&
      model &&
      html`<fieldset>
        <legend>Adapters</legend>
        ${adapters.length === 0 && html`<p class="hint">None of this base yet; <a href="#/finetune/new?model=${model}">fine-tune one</a>.</p>`}
        ${adapters.map((id) => html`<${Check} key=${id} label=${id} checked=${with_.includes(id)} onValue=${(is) => setTicked(is ? [...with_, id] : with_.filter((each) => each !== id))} />`)}
      </fieldset>`
    }
    ${
      role === "default" &&
      model &&
      html`<details>
        <summary>Engine settings</summary>
        <div class="columns">
          ${(settings.data ?? []).map((each) => html`<${SettingField} key=${each.name} of=${each} value=${typed[each.name] ?? ""} error=${faults[each.name]} onValue=${(value) => setTyped({ ...typed, [each.name]: value })} />`)}
        </div>
      </details>`
    }
    ${model && html`<${Fit} of=${report.error ? null : report.data} />`}
    <${Problem} error=${begin.error ?? report.error} />
    <div class="row wrap">
      <${Button} kind="main" type="submit" busy=${begin.busy} disabled=${!model}
        >${same ? "Change the adapters" : deployed ? "Swap" : "Deploy"}<//
      >
      ${deployed && model && html`<span class="soft">${same ? "No request fails meanwhile." : `${deployed.model_id} goes on answering until it is ready.`}</span>`}
    </div>
  </form>`;
}
