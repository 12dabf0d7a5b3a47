/** Base models and adapters: what there is, adding more, taking some away. */
import { get, query, save, send } from "../api.js";
import { ago, bytes, count, inPath, number } from "../format.js";
import { submits, useAction, useLoaded, useSettled } from "../hooks.js";
import { html, useState } from "../html.js";
import { ActiveJobs, useActiveJobs } from "../jobs.js";
import { Fit } from "../fit.js";
import { Button, Card, Confirm, Dialog, Empty, Input, Problem, Select, Table, Waiting, toast } from "../ui.js";

export function Models() {
  const models = useLoaded((signal) => get("models/", signal), [], 15);
  const jobs = useActiveJobs(["download", "import", "merge"], models.reload);
  return html`<div class="grid">
    <${FromHub} onBegun=${jobs.reload} />
    <${FromFolder} onBegun=${jobs.reload} />
    ${jobs.data?.length > 0 && html`<${Card} title="On their way" kind="wide"><${ActiveJobs} jobs=${jobs.data} onChange=${jobs.reload} /><//>`}
    <${Card} title="Models and adapters" kind="wide">
      <${Waiting} of=${models}
        >${(all) => html`<${List} all=${all} onChange=${models.reload} onBegun=${jobs.reload} />`}<//
      >
    <//>
  </div>`;
}

function FromHub({ onBegun }) {
  const [wanted, setWanted] = useState("");
  const text = useSettled(wanted.trim());
  const found = useLoaded(
    async (signal) => (text.length > 1 ? get(`hub/models/${query({ search: text, limit: 6 })}`, signal) : null),
    [text],
  );
  const check = useAction(() => send("POST", `models/add/${query({ model_id: wanted.trim(), dry_run: true })}`));
  const [fit, setFit] = useState(null);
  const add = useAction(async () => {
    const job = await send("POST", `models/add/${query({ model_id: wanted.trim() })}`);
    toast(`${job.name} has begun`);
    setWanted("");
    setFit(null);
    onBegun();
  });
  const choose = (value) => {
    setWanted(value);
    setFit(null);
    add.clear();
    check.clear();
  };
  const hits = (found.data ?? []).filter((each) => each.model_id !== wanted.trim());
  return html`<${Card} title="Add from the hub">
    <form onSubmit=${submits(add.run)}>
      <${Input}
        label="Model id, or words to search for"
        required
        value=${wanted}
        onValue=${choose}
        placeholder="organisation/name"
        spellcheck=${false}
        autocomplete="off"
      />
      <div aria-live="polite">
        ${found.error && html`<p class="hint">Not searched: ${found.error.message}</p>`}
        ${
          hits.length > 0 &&
          html`<ul class="plain hits">
            ${hits.map(
              (each) =>
                html`<li key=${each.model_id}>
                  <button type="button" class="hit" onClick=${() => choose(each.model_id)}>
                    <span class="name">${each.model_id}</span>
                    <span class="soft"
                      >${each.license ?? "no licence stated"}${each.gated ? " · gated" : ""} · ${`${number(each.downloads)} downloads`}</span
                    >
                  </button>
                </li>`,
            )}
          </ul>`
        }
      </div>
      <${Fit} of=${fit} />
      <${Problem} error=${add.error ?? check.error} />
      <div class="row">
        <${Button} kind="main" type="submit" busy=${add.busy}>Add<//>
        <${Button} busy=${check.busy} disabled=${!wanted.trim()} onClick=${async () => setFit(await check.run())}
          >Check size<//
        >
      </div>
    </form>
  <//>`;
}

function FromFolder({ onBegun }) {
  const system = useLoaded((signal) => get("system/", signal), []);
  const [folder, setFolder] = useState("");
  const [name, setName] = useState("");
  const begin = useAction(async () => {
    const job = await send("POST", "models/import/", { model_id: name.trim(), folder: folder || folders[0] });
    toast(`${job.name} has begun`);
    setName("");
    onBegun();
  });
  const folders = system.data?.imports ?? [];
  return html`<${Card} title="Import a folder">
    <${Waiting} of=${system}
      >${() =>
        folders.length === 0
          ? html`<${Empty} title="No folder to import">
              Put a model’s folder under <code>imports/</code> of Hearth’s data (<code>.hearth/imports</code>) on the
              machine, then <button type="button" class="link" onClick=${system.reload}>look again</button>.
            <//>`
          : html`<form onSubmit=${submits(begin.run)}>
              <${Select}
                label="Folder under imports/"
                value=${folder || folders[0]}
                onValue=${setFolder}
                options=${folders}
              />
              <${Input}
                label="Id to give it"
                required
                value=${name}
                onValue=${setName}
                placeholder="organisation/name"
                spellcheck=${false}
                autocomplete="off"
              />
              <${Problem} error=${begin.error} />
              <${Button} kind="main" type="submit" busy=${begin.busy}>Import<//>
            </form>`}<//
    >
  <//>`;
}

function List({ all, onChange, onBegun }) {
  if (all.length === 0)
    return html`<${Empty} title="No models yet"
      >Add one above; a small one to begin with is HuggingFaceTB/SmolLM2-135M-Instruct.<//
    >`;
  const adapters = all.filter((each) => each.adapter);
  const bases = all.filter((each) => !each.adapter);
  const ordered = bases.flatMap((base) => [base, ...adapters.filter((each) => each.base_model_id === base.model_id)]);
  const rows = [...ordered, ...adapters.filter((each) => !ordered.includes(each))];
  const columns = [
    {
      name: "Model",
      kind: "first",
      cell: (row) =>
        html`<span class="name ${row.adapter ? "below" : ""}">${row.model_id}</span
          >${row.adapter && html`<span class="soft below">adapter of ${row.base_model_id}</span>`}`,
    },
    { name: "Size", kind: "number", cell: (row) => bytes(row.size_bytes) },
    { name: "Licence", cell: (row) => row.license ?? "not stated" },
    { name: "Added", kind: "time", cell: (row) => ago(row.created_at) },
    {
      name: "Actions",
      kind: "actions",
      cell: (row) => html`<${Actions} row=${row} onChange=${onChange} onBegun=${onBegun} adapters=${adapters} />`,
    },
  ];
  return html`<${Table} label="Models and adapters" columns=${columns} rows=${rows} id=${(row) => row.model_id} />`;
}

function Actions({ row, adapters, onChange, onBegun }) {
  const remove = useAction(async () => {
    await send("DELETE", `models/${inPath(row.model_id)}/`);
    toast(`${row.model_id} was deleted`);
    onChange();
  });
  const download = useAction(() => save(`models/${row.model_id}/download/`, `${row.model_id}.tar`));
  const mine = adapters.filter((each) => each.base_model_id === row.model_id).length;
  const deploy = query(row.adapter ? { model: row.base_model_id, adapter: row.model_id } : { model: row.model_id });
  return html`<div class="row wrap">
      <a class="button quiet" href="#/deploy${deploy}" aria-label=${`Deploy ${row.model_id}`}>Deploy</a>
      ${
        row.adapter
          ? html`<${Button}
                kind="quiet"
                busy=${download.busy}
                aria-label=${`Download ${row.model_id}`}
                onClick=${download.run}
                >Download<//
              >
              <${Merge} adapter=${row.model_id} onBegun=${onBegun} />`
          : html`<a
              class="button quiet"
              href="#/finetune/new${query({ model: row.model_id })}"
              aria-label=${`Fine-tune ${row.model_id}`}
              >Fine-tune</a
            >`
      }
      <${Confirm}
        label="Delete"
        describe=${`Delete ${row.model_id}`}
        title="Delete ${row.model_id}?"
        verb="Delete it"
        onYes=${remove.run}
      >
        ${row.adapter ? "The adapter is removed from the store; it can be trained again, but not brought back." : `${bytes(row.size_bytes)} are freed.${mine ? ` ${count(mine, "adapter")} of it cannot be used until it is added again.` : ""}`}
      <//>
    </div>
    <${Problem} error=${remove.error ?? download.error} />`;
}

function Merge({ adapter, onBegun }) {
  const [open, setOpen] = useState(false);
  const [name, setName] = useState(`merged/${adapter}`);
  const merge = useAction(async () => {
    const job = await send("POST", `models/${adapter}/merge/`, { model_id: name.trim() });
    toast(`${job.name} has begun`);
    setOpen(false);
    onBegun();
  });
  return html`<${Button} kind="quiet" aria-label=${`Merge ${adapter}`} onClick=${() => setOpen(true)}>Merge<//> ${
      open &&
      html`<${Dialog} title="Merge into a new model" onClose=${() => setOpen(false)}>
        <form onSubmit=${submits(merge.run)}>
          <p>The adapter’s weights are added to its base’s: a model that needs no adapter.</p>
          <${Input} label="Id of the new model" required value=${name} onValue=${setName} spellcheck=${false} />
          <${Problem} error=${merge.error} />
          <div class="row end">
            <${Button} kind="quiet" onClick=${() => setOpen(false)}>Cancel<//>
            <${Button} kind="main" type="submit" busy=${merge.busy}>Merge<//>
          </div>
        </form>
      <//>`
    }`;
}
