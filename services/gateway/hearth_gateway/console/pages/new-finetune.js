/** Begin a fine-tune: its settings, what Hearth would choose for those left out, and whether it fits. */
import { get, send } from "../api.js";
import { count, number } from "../format.js";
import { Fit } from "../fit.js";
import { go, submits, useAction, useLoaded, useSettled } from "../hooks.js";
import { html, useState } from "../html.js";
import { SettingField, faultsBySetting, readSettings, valuesOf } from "../settings.js";
import { Button, Card, Check, Empty, Input, Problem, Select, Waiting, toast } from "../ui.js";

const FIRST = ["method", "n_epochs", "batch_size", "learning_rate", "lora_rank", "max_length", "validation_split"];

export function NewFinetune({ wanted }) {
  const models = useLoaded((signal) => get("finetune/models/", signal), []);
  const datasets = useLoaded((signal) => get("datasets/", signal), []);
  const settings = useLoaded((signal) => readSettings("Hyperparameters", signal), []);
  return html`<p><a href="#/finetune">← All trainings</a></p>
    <${Waiting} of=${models}
      >${(bases) =>
        html`<${Waiting} of=${datasets}
          >${(sets) =>
            html`<${Waiting} of=${settings}
              >${(all) => {
                if (!bases.length)
                  return html`<${Card} title="New fine-tune"
                    ><${Empty} title="No base model yet"><a href="#/models">Add one</a>, then come back.<//><//
                  >`;
                if (!sets.length)
                  return html`<${Card} title="New fine-tune"
                    ><${Empty} title="No dataset yet"><a href="#/datasets">Upload one</a>, then come back.<//><//
                  >`;
                return html`<${Form} bases=${bases} sets=${sets} settings=${all} wanted=${wanted} />`;
              }}<//
            >`}<//
        >`}<//
    >`;
}

function Form({ bases, sets, settings, wanted }) {
  const known = (all, id, key) => (all.some((each) => each[key] === id) ? id : all[0][key]);
  const [name, setName] = useState("");
  const [model, setModel] = useState(() => known(bases, wanted.model, "model_id"));
  const [data, setData] = useState(() => known(sets, wanted.dataset, "id"));
  const [typed, setTyped] = useState({});
  const [deploy, setDeploy] = useState(false);
  const body = {
    name: name.trim() || "training",
    model_id: model,
    dataset_id: data,
    hyperparameters: valuesOf(settings, typed),
    deploy,
  };
  const asked = useSettled(body);
  const plan = useLoaded(
    async (signal) => {
      const planned = await send("POST", "finetune/plan/", asked, signal);
      return { planned, fit: await send("POST", "finetune/?dry_run=true", asked, signal) };
    },
    [JSON.stringify({ ...asked, name: "" })],
  );
  const counted = useLoaded((signal) => countTokens(model, data, signal), [model, data]);
  const begin = useAction(async () => {
    await send("POST", "finetune/", body);
    const [newest] = await get("finetune/");
    toast(`${name} has begun`);
    go(`finetune/${newest.id}`);
  });
  const faults = faultsBySetting(plan.error ?? begin.error);
  const planned = plan.error ? null : plan.data?.planned;
  const field = (each) =>
    html`<${SettingField}
      key=${each.name}
      of=${each}
      value=${typed[each.name] ?? ""}
      error=${faults[each.name]}
      usual=${planned && (typed[each.name] ?? "") === "" ? shown(planned.hyperparameters[each.name]) : shown(each.default)}
      onValue=${(value) => setTyped({ ...typed, [each.name]: value })}
    />`;
  const first = FIRST.map((each) => settings.find((setting) => setting.name === each)).filter(Boolean);
  return html`<form onSubmit=${submits(begin.run)} class="with-side">
    <div>
      <${Card} title="What is taught">
        <${Input}
          label="Name"
          required
          maxlength="200"
          value=${name}
          onValue=${setName}
          hint="The adapter is called after it."
        />
        <div class="columns">
          <${Select}
            label="Base model"
            value=${model}
            onValue=${setModel}
            options=${bases.map((each) => each.model_id)}
          />
          <${Select}
            label="Dataset"
            value=${data}
            onValue=${setData}
            options=${sets.map((each) => [each.id, `${each.name} (${count(each.rows, "row")})`])}
          />
        </div>
      <//>
      <${Card} title="How">
        <p class="soft">What is left empty is chosen for this model and data, and shown in grey.</p>
        <div class="columns">${first.map(field)}</div>
        <details>
          <summary>All settings</summary>
          <div class="columns">${settings.filter((each) => !FIRST.includes(each.name)).map(field)}</div>
        </details>
      <//>
    </div>
    <${Card} title="What it takes">
      ${planned && html`<p>${number(planned.steps)} steps over ${number(planned.rows)} rows.</p>`}
      <${Tokens} of=${counted} model=${model} data=${data} most=${planned?.hyperparameters.max_length} />
      <${Fit} of=${plan.error ? null : plan.data?.fit} />
      <${Check}
        label="Deploy it when it is trained, if its base is the one deployed then"
        checked=${deploy}
        onValue=${setDeploy}
      />
      <${Problem} error=${begin.error ?? plan.error} />
      <${Button} kind="main" type="submit" busy=${begin.busy}>Begin<//>
    <//>
  </form>`;
}

const countTokens = (model, data, signal) =>
  get(`finetune/tokens/?${new URLSearchParams({ model_id: model, dataset_id: data })}`, signal);

/** How long the dataset is for the model, once that is counted, and whether a row is longer than what is learnt from. */
function Tokens({ of, model, data, most }) {
  if (of.error) return html`<p class="soft">Its tokens cannot be counted: ${of.error.message}</p>`;
  if (of.data?.model_id !== model || of.data.dataset_id !== data) return html`<p class="soft">Counting its tokens…</p>`;
  const { tokens, rows, longest_row: longest, exact } = of.data;
  const each = `${number(Math.round(tokens / Math.max(1, rows)))} a row, ${number(longest)} in the longest`;
  return html`<p>${exact ? "" : "About "}${count(tokens, "token")}: ${each}.</p>
    ${longest > most && html`<p>⚠ Of a longer row than ${number(most)} tokens (Max length) the rest is not learnt.</p>`}`;
}

const shown = (value) => (Array.isArray(value) ? value.join(", ") : value);
