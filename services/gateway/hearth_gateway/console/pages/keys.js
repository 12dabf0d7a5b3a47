/** API keys, what was used with them, and who changed what. */
import { ApiError, get, key as mine, query, send } from "../api.js";
import { Bars } from "../bars.js";
import { ago, number, time } from "../format.js";
import { submits, useAction, useLoaded } from "../hooks.js";
import { html, useState } from "../html.js";
import {
  Badge,
  Button,
  Card,
  Confirm,
  Copy,
  Dialog,
  Empty,
  Input,
  Problem,
  Select,
  Table,
  Waiting,
  toast,
} from "../ui.js";

const LIMITS = {
  requests_per_minute: "Requests a minute",
  tokens_per_minute: "Tokens a minute",
  concurrent_requests: "Requests at once",
  concurrent_streams: "Streams at once",
};
const DAYS = ["7", "30", "90"];

/** What an administrator may see, or null for who is none. */
const forAdmins = (path) => async (signal) => {
  try {
    return await get(path, signal);
  } catch (error) {
    if (error instanceof ApiError && error.status === 403) return null;
    throw error;
  }
};

export function Keys() {
  const keys = useLoaded(forAdmins("keys/"), [], 30);
  return html`<${Usage} keys=${keys.data ?? []} />
    <${Waiting} of=${keys}
      >${(all) =>
        all === null
          ? html`<${Card} title="Keys"
              ><p>Keys are made and revoked with an administrator’s key. Yours shows your own usage.</p><//
            >`
          : html`<${KeyCard} all=${all} onChange=${keys.reload} /><${Audit} />`}<//
    >`;
}

const stateOf = (key) =>
  key.revoked_at ? "revoked" : key.expires_at && time(key.expires_at) <= new Date() ? "expired" : "active";

function KeyCard({ all, onChange }) {
  const [making, setMaking] = useState(false);
  const columns = [
    {
      name: "Key",
      kind: "first",
      cell: (key) =>
        html`<span class="name">${key.name}</span>
          <div class="soft"><code>${key.id}</code></div>`,
    },
    { name: "Role", cell: (key) => key.role },
    { name: "State", cell: (key) => html`<${Badge} state=${stateOf(key)} />` },
    { name: "Limits", cell: (key) => limitsOf(key) || "none" },
    {
      name: "Expires",
      kind: "time",
      cell: (key) => (key.expires_at ? time(key.expires_at).toLocaleDateString() : "never"),
    },
    { name: "Made", kind: "time", cell: (key) => ago(key.created_at) },
    {
      name: "Actions",
      kind: "actions",
      cell: (key) => (stateOf(key) === "active" ? html`<${Revoke} of=${key} onChange=${onChange} />` : ""),
    },
  ];
  return html`<${Card}
    title="Keys"
    actions=${html`<${Button} kind="main" onClick=${() => setMaking(true)}>New key<//>`}
  >
    ${
      all.length === 0
        ? html`<${Empty} title="No keys yet"
            >Whoever reaches this address may do everything. With the first key, which must be an administrator’s,
            Hearth asks everybody for one.<//
          >`
        : html`<${Table} label="Keys" columns=${columns} rows=${all} id=${(key) => key.id} />`
    }
    ${making && html`<${NewKey} isFirst=${all.length === 0} onClose=${() => setMaking(false)} onMade=${onChange} />`}
  <//>`;
}

const limitsOf = (key) =>
  [
    ...Object.entries(LIMITS)
      .filter(([name]) => key.limits[name] !== null)
      .map(([name, words]) => `${number(key.limits[name])} ${words.toLowerCase()}`),
    ...(key.models ? [`only ${key.models.join(", ")}`] : []),
  ].join("; ");

function Revoke({ of: key, onChange }) {
  const revoke = useAction(async () => {
    await send("DELETE", `keys/${key.id}/`);
    toast(`${key.name} opens nothing any more`);
    onChange();
  });
  return html`<${Confirm}
      label="Revoke"
      describe=${`Revoke ${key.name}`}
      title="Revoke ${key.name}?"
      verb="Revoke it"
      onYes=${revoke.run}
    >
      Within a second nobody gets in with it. That cannot be undone; answers that have begun are not cut.
    <//>
    <${Problem} error=${revoke.error} />`;
}

function NewKey({ isFirst, onClose, onMade }) {
  const [name, setName] = useState("");
  const [role, setRole] = useState(isFirst ? "admin" : "user");
  const [models, setModels] = useState("");
  const [expires, setExpires] = useState("");
  const [limits, setLimits] = useState({});
  const [made, setMade] = useState(null);
  const make = useAction(async () => {
    const wanted = {
      name: name.trim(),
      role,
      limits: Object.fromEntries(
        Object.entries(limits)
          .filter(([, text]) => text)
          .map(([limit, text]) => [limit, Number(text)]),
      ),
      models: models.trim() ? models.split(",").map((each) => each.trim()) : null,
      expires_at: expires ? new Date(expires).toISOString() : null,
    };
    const key = await send("POST", "keys/", wanted);
    if (!mine.get()) mine.set(key.secret); // it is asked for from now on
    setMade(key);
    onMade();
  });
  if (made) {
    return html`<${Dialog} title="The key ${made.name}" onClose=${onClose}>
      <p>
        This is the only time that it is shown. Whoever has it can use Hearth as ${made.role}.
        ${isFirst && " This browser tab uses it from now on."}
      </p>
      <pre class="log" tabindex="0">${made.secret}</pre>
      <div class="row end">
        <${Copy} text=${made.secret} /><${Button} kind="main" onClick=${onClose}>I have kept it<//>
      </div>
    <//>`;
  }
  return html`<${Dialog} title="New key" onClose=${onClose}>
    ${isFirst && html`<p>From the first key on, every request needs one; the first must be an administrator’s.</p>`}
    <form onSubmit=${submits(make.run)}>
      <${Input}
        label="Name"
        hint="Who or what will use it."
        required
        maxlength="100"
        value=${name}
        onValue=${setName}
      />
      <${Select}
        label="Role"
        value=${role}
        onValue=${setRole}
        options=${[
          ["user", "user: ask models, own datasets"],
          ["admin", "admin: everything"],
        ].slice(isFirst ? 1 : 0)}
      />
      <details>
        <summary>Limits, models, expiry</summary>
        <div class="columns narrow-columns">
          ${Object.entries(LIMITS).map(([limit, words]) => html`<${Input} key=${limit} label=${words} type="number" min="1" value=${limits[limit] ?? ""} onValue=${(value) => setLimits({ ...limits, [limit]: value })} />`)}
        </div>
        <${Input}
          label="Models it may ask"
          hint="Names with commas between; empty for all."
          value=${models}
          onValue=${setModels}
        />
        <${Input} label="Stops working on" type="date" value=${expires} onValue=${setExpires} />
      </details>
      <${Problem} error=${make.error} />
      <div class="row end">
        <${Button} kind="quiet" onClick=${onClose}>Cancel<//
        ><${Button} kind="main" type="submit" busy=${make.busy}>Make<//>
      </div>
    </form>
  <//>`;
}

function Usage({ keys }) {
  const [days, setDays] = useState("30");
  const first = new Date(Date.now() - (Number(days) - 1) * 86_400_000).toISOString().slice(0, 10);
  const usage = useLoaded((signal) => get(`usage/${query({ from: first })}`, signal), [first], 30);
  return html`<${Card}
    title="Usage"
    actions=${html`<${Select} label="Days" kind="inline" value=${days} onValue=${setDays} options=${DAYS} />`}
  >
    <${Waiting} of=${usage}
      >${(rows) =>
        rows.length === 0
          ? html`<${Empty} title="Nothing used in these days"
              >What models are asked shows here by day, key and model. Try the <a href="#/playground">playground</a>.<//
            >`
          : html`<${Totals} rows=${rows} first=${first} days=${Number(days)} keys=${keys} />`}<//
    >
  <//>`;
}

const tokensOf = (row) => row.prompt_tokens + row.completion_tokens + row.embedding_tokens;

function Totals({ rows, first, days, keys }) {
  const byDay = new Map(
    Array.from({ length: days }, (_, index) => [
      new Date(Date.parse(first) + index * 86_400_000).toISOString().slice(0, 10),
      0,
    ]),
  );
  const byUse = new Map();
  for (const row of rows) {
    byDay.set(row.day, (byDay.get(row.day) ?? 0) + tokensOf(row));
    const use = `${row.key_id} ${row.model}`;
    const sum = byUse.get(use) ?? { ...row, requests: 0, prompt_tokens: 0, completion_tokens: 0, embedding_tokens: 0 };
    for (const count of ["requests", "prompt_tokens", "completion_tokens", "embedding_tokens"])
      sum[count] += row[count];
    byUse.set(use, sum);
  }
  const names = Object.fromEntries(keys.map((key) => [key.id, key.name]));
  const columns = [
    { name: "Model", kind: "first", cell: (row) => html`<span class="name">${row.model}</span>` },
    { name: "Key", cell: (row) => names[row.key_id] ?? (row.key_id === "open" ? "without a key" : row.key_id) },
    { name: "Requests", kind: "number", cell: (row) => number(row.requests) },
    { name: "Tokens read", kind: "number", cell: (row) => number(row.prompt_tokens) },
    { name: "Tokens written", kind: "number", cell: (row) => number(row.completion_tokens) },
    { name: "Tokens embedded", kind: "number", cell: (row) => number(row.embedding_tokens) },
  ];
  const ordered = [...byUse.values()].sort((one, other) => tokensOf(other) - tokensOf(one));
  return html`<${Bars} label="Tokens by day" of=${[...byDay]} />
    <${Table}
      label="Usage by key and model"
      columns=${columns}
      rows=${ordered}
      id=${(row) => `${row.key_id} ${row.model}`}
    />`;
}

function Audit() {
  const entries = useLoaded((signal) => get("audit/?limit=50", signal), [], 30);
  const columns = [
    { name: "What", kind: "first", cell: (entry) => html`<code>${entry.method} ${entry.path}</code>` },
    { name: "Outcome", cell: (entry) => entry.status },
    { name: "Key", cell: (entry) => entry.key_name },
    { name: "From", cell: (entry) => entry.address },
    { name: "When", kind: "time", cell: (entry) => ago(entry.at) },
  ];
  return html`<${Card} title="Who changed what">
    <${Waiting} of=${entries}
      >${(all) =>
        all.length === 0
          ? html`<${Empty} title="Nothing was changed yet">Each change that is asked of the API is recorded here.<//>`
          : html`<${Table}
              label="Changes"
              columns=${columns}
              rows=${all}
              id=${(entry) => entry.request_id + entry.at}
            />`}<//
    >
  <//>`;
}
