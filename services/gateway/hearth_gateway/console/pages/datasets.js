/** Datasets: upload with progress, faults at their lines, the list. One of them: see dataset.js. */
import { query, get, save, send, upload } from "../api.js";
import { ago, bytes, number } from "../format.js";
import { useAction, useLoaded } from "../hooks.js";
import { html, useId, useRef, useState } from "../html.js";
import { readLines } from "../lines.js";
import { Button, Card, Confirm, Empty, Input, Problem, Progress, Table, Waiting, toast } from "../ui.js";
import { Preview } from "./dataset.js";

export const Datasets = ({ route }) =>
  route.id ? html`<${Preview} key=${route.id} id=${route.id} />` : html`<${All} />`;

function All() {
  const datasets = useLoaded((signal) => get("datasets/", signal), [], 15);
  return html`<${Upload} onDone=${datasets.reload} />
    <${Card} title="Datasets">
      <${Waiting} of=${datasets}>${(all) => html`<${List} all=${all} onChange=${datasets.reload} />`}<//>
    <//>`;
}

function Upload({ onDone }) {
  const [description, setDescription] = useState("");
  const [share, setShare] = useState(0);
  const [name, setName] = useState("");
  const [refused, setRefused] = useState(null);
  const stop = useRef(null);
  const send = useAction(async (file) => {
    setRefused(null);
    setShare(0);
    setName(file.name);
    stop.current = new AbortController();
    try {
      const made = await upload(`datasets/upload/${query({ description })}`, file, setShare, stop.current.signal);
      toast(`${made.name} is stored: ${number(made.rows)} rows`);
      setDescription("");
      onDone();
    } catch (error) {
      if (!error.faults?.length) throw error;
      const numbers = error.faults.map((fault) => lineOf(fault)).filter((line) => line !== null);
      setRefused({ error, name: file.name, lines: await readLines(file, numbers) });
    }
  });
  return html`<${Card} title="Upload">
    <${DropZone} busy=${send.busy} onFile=${send.run} />
    <${Input}
      label="Description"
      hint="Optional; given to the next file."
      value=${description}
      onValue=${setDescription}
      maxlength="500"
    />
    ${
      send.busy &&
      html`<div aria-live="polite">
        <div class="row spread">
          <span>${share < 1 ? `Sending ${name}` : `${name} is being checked`}</span
          ><${Button} kind="quiet" onClick=${() => stop.current.abort()}>Cancel<//>
        </div>
        <${Progress} value=${share} label=${`Upload of ${name}`} />
      </div>`
    }
    <${Problem} error=${send.error} />
    ${refused && html`<${Faults} of=${refused} />`}
  <//>`;
}

function DropZone({ busy, onFile }) {
  const [over, setOver] = useState(false);
  const id = useId();
  const take = (files) => {
    if (files.length && !busy) onFile(files[0]);
  };
  const hover = (is) => (event) => {
    event.preventDefault();
    setOver(is);
  };
  return html`<div
    class="drop ${over ? "over" : ""}"
    onDragOver=${hover(true)}
    onDragLeave=${hover(false)}
    onDrop=${(event) => {
      hover(false)(event);
      take(event.dataTransfer.files);
    }}
  >
    <input
      type="file"
      id=${id}
      class="file"
      disabled=${busy}
      onChange=${({ currentTarget: at }) => {
        take(at.files);
        at.value = "";
      }}
    />
    <label for=${id}>Choose a file</label><span> or drop it here.</span>
    <p class="soft">
      One row a line:${" "}
      <code>{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}</code>; also
      ShareGPT, Alpaca, prompt and completion, preference pairs and plain text; as JSON lines, gzip, zstd or Parquet.
    </p>
  </div>`;
}

const lineOf = (fault) => (fault.loc[0] === "line" ? Number(fault.loc[1]) : null);

/** What is wrong with a refused file, each fault with the text of its line. */
function Faults({ of: { error, name, lines } }) {
  const columns = [
    { name: "Line", kind: "number", cell: (fault) => lineOf(fault) ?? "–" },
    {
      name: "Field",
      cell: (fault) =>
        html`<code>${fault.loc.slice(lineOf(fault) === null ? 0 : 2).join(".") || "the whole line"}</code>`,
    },
    {
      name: "What is wrong",
      kind: "first",
      cell: (fault) =>
        html`${fault.msg}${lines.has(lineOf(fault)) && html`<code class="excerpt">${lines.get(lineOf(fault))}</code>`}`,
    },
  ];
  const rows = error.faults.map((fault, index) => ({ ...fault, index }));
  return html`<div class="faults" role="alert">
    <p><strong>${name} was not taken.</strong> ${error.message}. Mend these lines and send it again.</p>
    <${Table} label="Faults" columns=${columns} rows=${rows} id=${(fault) => fault.index} />
  </div>`;
}

function List({ all, onChange }) {
  if (all.length === 0)
    return html`<${Empty} title="No datasets yet"
      >Upload a file of conversations above: some dozens of good ones already teach a tone.<//
    >`;
  const columns = [
    {
      name: "Dataset",
      kind: "first",
      cell: (row) =>
        html`<a class="name" href="#/datasets/${row.id}">${row.name}</a
          >${row.description && html`<div class="soft">${row.description}</div>`}`,
    },
    { name: "Rows", kind: "number", cell: (row) => number(row.rows) },
    {
      name: "Repeated",
      kind: "number",
      cell: (row) =>
        row.duplicates === null ? "–" : `${row.duplicates_exact ? "" : "about "}${number(row.duplicates)}`,
    },
    { name: "Format", cell: (row) => row.format.replaceAll("_", " ") },
    { name: "Size", kind: "number", cell: (row) => bytes(row.bytes) },
    { name: "Added", kind: "time", cell: (row) => ago(row.created_at) },
    { name: "Actions", kind: "actions", cell: (row) => html`<${Actions} row=${row} onChange=${onChange} />` },
  ];
  return html`<${Table} label="Datasets" columns=${columns} rows=${all} id=${(row) => row.id} />`;
}

function Actions({ row, onChange }) {
  const remove = useAction(async () => {
    await send("DELETE", `datasets/${row.id}/`);
    toast(`${row.name} was deleted`);
    onChange();
  });
  const download = useAction(() =>
    save(`datasets/${row.id}/`, row.name.replace(/(\.jsonl)?(\.(gz|zst|parquet))?$/, ".jsonl")),
  );
  return html`<div class="row wrap">
      <a
        class="button quiet"
        href="#/finetune/new${query({ dataset: row.id })}"
        aria-label=${`Fine-tune on ${row.name}`}
        >Fine-tune</a
      >
      <${Button} kind="quiet" busy=${download.busy} aria-label=${`Download ${row.name}`} onClick=${download.run}
        >Download<//
      >
      <${Confirm}
        label="Delete"
        describe=${`Delete ${row.name}`}
        title="Delete ${row.name}?"
        verb="Delete it"
        onYes=${remove.run}
      >
        Its ${number(row.rows)} rows cannot be brought back. Adapters that learnt from it stay.
      <//>
    </div>
    <${Problem} error=${remove.error ?? download.error} />`;
}
