/** Playground: one question to the base and its adapters side by side, answers as they come. */
import { get } from "../api.js";
import { html, useRef, useState } from "../html.js";
import { ask, bodyOf } from "../chat.js";
import { asCurl, asPython } from "../snippets.js";
import { figure } from "../format.js";
import { useLoaded } from "../hooks.js";
import { Button, Card, Check, Copy, Dialog, Empty, Field, Input, Problem, Select, Waiting } from "../ui.js";

const MOST = 4;
const PARAMETERS = [
  ["temperature", "Temperature", "0 to 2; 0 gives the likeliest answer each time."],
  ["max_tokens", "Most tokens", "Where the answer is cut off."],
  ["top_p", "Top p", "0 to 1; less keeps to likelier words."],
  ["seed", "Seed", "The same seed, the same answer."],
];

/** What can chat: all that is served, less what is known to be served for something else. */
async function chatModels(signal) {
  const [served, deployments] = await Promise.all([
    get("models", signal),
    get("deployments/", signal).catch(() => []), // only an administrator may ask
  ]);
  const others = deployments
    .filter((each) => each.task !== "generate")
    .flatMap((each) => [each.served_name, each.status?.model_id]);
  return served.data.filter((each) => !others.includes(each.id));
}

export function Playground({ route }) {
  const models = useLoaded(chatModels, [], 5);
  return html`<${Waiting} of=${models}
    >${(all) =>
      all.length === 0
        ? html`<${Card} title="Nothing to talk to"
            ><${Empty} title="No language model answers right now"
              ><a href="#/deploy">Deploy one</a>; it shows here as soon as it is ready.<//
            ><//
          >`
        : html`<${Chat} all=${all} wanted=${route.query.model} />`}<//
  >`;
}

function Chat({ all, wanted }) {
  const ids = all.map((each) => each.id);
  const [chosen, setChosen] = useState(() => [
    ...new Set([ids[0], wanted ?? all.find((each) => each.parent)?.id ?? ids[0]]),
  ]);
  const [system, setSystem] = useState("");
  const [typed, setTyped] = useState({ temperature: "0.7", max_tokens: "256", top_p: "", seed: "" });
  const [turns, setTurns] = useState(/** @type {{question: string, answers: Record<string, any>}[]} */ ([]));
  const [question, setQuestion] = useState("");
  const [stop, setStop] = useState(null);
  const end = useRef(null);
  const models = chosen.filter((id) => ids.includes(id));

  async function submit(event) {
    event.preventDefault();
    if (!question.trim() || stop) return;
    const ending = new AbortController();
    const number = turns.length;
    const before = turns;
    setStop(ending);
    setTurns([...before, { question, answers: {} }]);
    setQuestion("");
    const show = (model) => (answer) =>
      setTurns((now) =>
        now.map((turn, index) =>
          index === number ? { ...turn, answers: { ...turn.answers, [model]: answer } } : turn,
        ),
      );
    await Promise.all(
      models.map((model) => ask(bodyOf(model, system, before, question, typed), show(model), ending.signal)),
    );
    setStop(null);
    end.current?.scrollIntoView?.({ block: "nearest" });
  }
  const enter = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  const toggle = (id) => (is) => setChosen(is ? [...models, id].slice(-MOST) : models.filter((each) => each !== id));
  return html`<div class="playground">
    <${Card} title="Who answers">
      <fieldset>
        <legend class="sr">Models</legend>
        ${ids.map((id) => html`<${Check} key=${id} label=${id} checked=${models.includes(id)} disabled=${!models.includes(id) && models.length >= MOST} onValue=${toggle(id)} />`)}
      </fieldset>
      <details open=${innerWidth > 700}>
        <summary>Instructions and parameters</summary>
        <${Field}
          label="System prompt"
          control=${(given) => html`<textarea ...${given} rows="3" value=${system} onInput=${(event) => setSystem(event.currentTarget.value)}></textarea>`}
        />
        <div class="columns parameters">
          ${PARAMETERS.map(([name, label, hint]) => html`<${Input} label=${label} hint=${hint} inputmode="decimal" value=${typed[name]} onValue=${(value) => setTyped({ ...typed, [name]: value })} />`)}
        </div>
      </details>
      <${Code} body=${models.length > 0 && bodyOf(models[0], system, turns, question || "Hello!", typed)} />
    <//>
    <${Card}
      title="Conversation"
      actions=${turns.length > 0 && html`<${Button} kind="quiet" disabled=${!!stop} onClick=${() => setTurns([])}>Begin anew<//>`}
    >
      ${turns.length === 0 && html`<${Empty} title="Ask something">Each model that is chosen answers by itself, and remembers its own answers.<//>`}
      ${turns.map(
        (turn) =>
          html`<div class="exchange">
            <div class="turn user">
              <span class="soft">you</span>
              <p class="said">${turn.question}</p>
            </div>
            <div class="answers">
              ${Object.entries(turn.answers).map(([model, answer]) => html`<${Answer} key=${model} model=${model} of=${answer} />`)}
            </div>
          </div>`,
      )}
      <form onSubmit=${submit} ref=${end}>
        <${Field}
          label="Your message"
          hint="Enter sends, Shift and Enter begins a line."
          control=${(given) => html`<textarea ...${given} rows="2" value=${question} onKeyDown=${enter} onInput=${(event) => setQuestion(event.currentTarget.value)}></textarea>`}
        />
        <div class="row">
          <${Button} kind="main" type="submit" disabled=${!!stop || models.length === 0}>Send<//>
          ${stop && html`<${Button} onClick=${() => stop.abort()}>Stop<//>`}
        </div>
      </form>
    <//>
  </div>`;
}

function Answer({ model, of: answer }) {
  const rate = answer.seconds > 0 && answer.tokens > 1 ? ` · ${figure(answer.tokens / answer.seconds)} tokens/s` : "";
  return html`<article class="turn assistant" aria-label=${`Answer of ${model}`} aria-busy=${!answer.done}>
    <span class="soft name">${model}</span>
    ${
      answer.reasoning &&
      html`<details>
        <summary>Reasoning</summary>
        <p class="said">${answer.reasoning}</p>
      </details>`
    }
    <p class="said">${answer.text}${!answer.done && html`<span class="caret" aria-hidden="true">▍</span>`}</p>
    <${Problem} error=${answer.error} />
    ${answer.done && answer.first !== null && html`<p class="soft">first token ${figure(answer.first)} s · ${answer.tokens ?? "?"} tokens${rate}${answer.finish === "length" ? " · cut off at most tokens" : ""}</p>`}
  </article>`;
}

function Code({ body }) {
  const [open, setOpen] = useState(false);
  const [kind, setKind] = useState("curl");
  if (!body) return null;
  const text = kind === "curl" ? asCurl(body) : asPython(body);
  return html`<${Button} onClick=${() => setOpen(true)}>As code<//> ${
      open &&
      html`<${Dialog} title="The same, as code" onClose=${() => setOpen(false)}>
        <${Select}
          label="Language"
          value=${kind}
          onValue=${setKind}
          options=${[
            ["curl", "curl"],
            ["python", "Python"],
          ]}
        />
        <pre class="log" tabindex="0">${text}</pre>
        <div class="row end"><${Copy} text=${text} /><${Button} onClick=${() => setOpen(false)}>Close<//></div>
      <//>`
    }`;
}
