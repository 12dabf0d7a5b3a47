/** Forms made of a schema of the OpenAPI document, so that ranges, defaults and words are written once: in the API. */
import { fetchText } from "./api.js";
import { html } from "./html.js";
import { Input, Select } from "./ui.js";

/** @typedef {{name: string, kind: "number" | "integer" | "boolean" | "choice" | "text", choices: string[], numeric: boolean, list: boolean, hint: string, min?: number, above?: number, max?: number, default: any}} Setting */

/** The document's schemas, once it had the one that was asked for: it lacks those of services that are away. */
let kept = {};

/** The settings of a schema, in its order. @param {string} schema @returns {Promise<Setting[]>} */
export async function readSettings(schema, signal) {
  if (!kept[schema]) kept = JSON.parse(await fetchText("api/openapi.json", signal)).components.schemas;
  return Object.entries(kept[schema]?.properties ?? {}).map(([name, property]) => setting(name, property));
}

function setting(name, property) {
  const kinds = (property.anyOf ?? [property]).filter((each) => each.type !== "null");
  const one = kinds.find((each) => each.enum || each.const) ?? kinds[0];
  const choices = (one.enum ?? (one.const ? [one.const] : [])).map(String);
  const kind =
    kinds.length > 1
      ? "text"
      : choices.length
        ? "choice"
        : ({ integer: "integer", number: "number", boolean: "boolean" }[one.type] ?? "text");
  const numeric = typeof (one.enum ?? [])[0] === "number";
  return {
    name,
    kind,
    choices,
    numeric,
    list: kinds.some((each) => each.type === "array"),
    default: property.default ?? null,
    hint: property.description ?? "",
    min: one.minimum,
    above: one.exclusiveMinimum,
    max: one.maximum ?? one.exclusiveMaximum,
  };
}

const LABELS = {
  n_epochs: "Epochs",
  lora_rank: "LoRA rank",
  lora_alpha: "LoRA alpha",
  lora_dropout: "LoRA dropout",
  use_dora: "DoRA",
  lr_scheduler_type: "Schedule of the learning rate",
  load_in_4bit: "Load in 4 bits",
  max_loras: "Adapters in a batch",
  max_lora_rank: "Highest LoRA rank",
  max_model_len: "Context length",
  max_num_seqs: "Requests at once",
};

const capital = (text) => text && text[0].toUpperCase() + text.slice(1);

/** What a setting is called on the page. @param {string} name */
export const labelOf = (name) => LABELS[name] ?? capital(name.replaceAll("_", " "));

/** The range in words. @param {Setting} of */
function range(of) {
  const most = of.max?.toLocaleString("en");
  if (of.min !== undefined && most !== undefined) return `${of.min} to ${most}.`;
  const parts = [
    of.min !== undefined && `at least ${of.min}`,
    of.above !== undefined && `above ${of.above}`,
    most !== undefined && `at most ${most}`,
  ];
  const said = parts.filter(Boolean).join(", ");
  return said && `${capital(said)}.`;
}

/** What a setting is for: its description, and its range. @param {Setting} of */
function hintOf(of) {
  const words = of.choices.some((each) => of.hint.startsWith(each)) ? of.hint : capital(of.hint);
  return `${words.replaceAll("`", "")}${words && !words.endsWith(".") ? "." : ""} ${range(of)}`.trim();
}

/** One setting's field. `value` is "" where it is left to Hearth, which then does what `usual` says. */
export function SettingField({ of, value, usual, error, onValue }) {
  const label = labelOf(of.name);
  const hint = hintOf(of);
  const shown = usual === undefined || usual === null ? "" : String(usual);
  const left = ["", `${shown || "as it is"} (usual)`];
  if (of.kind === "boolean")
    return html`<${Select}
      label=${label}
      hint=${hint}
      value=${value}
      onValue=${onValue}
      options=${[left, ["true", "yes"], ["false", "no"]]}
    />`;
  if (of.kind === "choice")
    return html`<${Select}
      label=${label}
      hint=${hint}
      value=${value}
      onValue=${onValue}
      options=${[left, ...of.choices]}
    />`;
  const numeric = of.kind !== "text" && { inputmode: of.kind === "integer" ? "numeric" : "decimal" };
  return html`<${Input}
    label=${label}
    hint=${hint}
    error=${error}
    value=${value}
    onValue=${onValue}
    placeholder=${shown}
    autocomplete="off"
    ...${numeric}
  />`;
}

/** What was typed, as the API takes it; what is left out stays out. @param {Setting[]} all @param {Record<string, string>} typed */
export function valuesOf(all, typed) {
  const given = all.filter((each) => (typed[each.name] ?? "") !== "");
  return Object.fromEntries(given.map((each) => [each.name, valueOf(each, typed[each.name])]));
}

function valueOf(of, text) {
  if (of.kind === "boolean") return text === "true";
  if (of.kind === "choice") return of.numeric ? Number(text) : text;
  if (of.list) return of.choices.includes(text) ? text : text.split(",").map((each) => each.trim());
  if (of.kind === "text") return text;
  const value = Number(text.replace(",", "."));
  return Number.isNaN(value) ? text : value; // the API says better than we could what is wrong with it
}

/** The faults of an error by the setting they are about. @param {{faults?: {loc: any[], msg: string}[]} | null} error */
export const faultsBySetting = (error) =>
  Object.fromEntries((error?.faults ?? []).map((fault) => [fault.loc[fault.loc.length - 1], fault.msg]));
