/** The shell: navigation, login, theme, and the page that the address names. */
import { doorbell, key } from "./api.js";
import { useRoute } from "./hooks.js";
import { html, render, useEffect, useErrorBoundary, useRef, useState } from "./html.js";
import { Login } from "./login.js";
import { Deploy } from "./pages/deploy.js";
import { Datasets } from "./pages/datasets.js";
import { Finetune } from "./pages/finetune.js";
import { Jobs } from "./pages/jobs.js";
import { Keys } from "./pages/keys.js";
import { Models } from "./pages/models.js";
import { Overview } from "./pages/overview.js";
import { Playground } from "./pages/playground.js";
import { Button, Problem, Toasts } from "./ui.js";

const PAGES = {
  overview: ["Overview", Overview],
  models: ["Models", Models],
  datasets: ["Datasets", Datasets],
  finetune: ["Fine-tune", Finetune],
  deploy: ["Deploy", Deploy],
  playground: ["Playground", Playground],
  jobs: ["Jobs", Jobs],
  keys: ["Keys & usage", Keys],
};
const THEMES = { auto: "As the system", light: "Light", dark: "Dark" };

function App() {
  const route = useRoute();
  const [asked, setAsked] = useState(false);
  const [turn, setTurn] = useState(0);
  const [open, setOpen] = useState(false);
  const main = useRef(null);
  const [title, Page] = PAGES[route.page] ?? ["Not found", NotFound];
  useEffect(() => {
    const ring = () => setAsked(true);
    doorbell.addEventListener("key-needed", ring);
    return () => doorbell.removeEventListener("key-needed", ring);
  }, []);
  useEffect(() => {
    document.title = `${title} · Hearth`;
    setOpen(false);
  }, [title]);
  const again = () => {
    setAsked(false);
    setTurn(turn + 1);
  };
  const leave = () => {
    key.forget();
    again();
  };
  return html`<a
      class="skip"
      href="#main"
      onClick=${(event) => {
        event.preventDefault();
        main.current.focus();
      }}
      >Skip to the page</a
    >
    <header class="top">
      <a class="brand" href="#/"><img src="console/icon.svg" alt="" width="26" height="26" /> Hearth</a>
      <button
        type="button"
        class="button quiet menu"
        aria-expanded=${open}
        aria-controls="nav"
        onClick=${() => setOpen(!open)}
      >
        Menu
      </button>
    </header>
    <nav id="nav" class=${open ? "open" : ""} aria-label="Pages">
      <ul>
        ${Object.entries(PAGES).map(
          ([name, [words]]) =>
            html`<li>
              <a
                href="#/${name}"
                aria-current=${route.page === name ? "page" : undefined}
                onClick=${() => setOpen(false)}
                >${words}</a
              >
            </li>`,
        )}
        <li><a href="api/docs/">API docs</a></li>
      </ul>
      <div class="foot">
        <${Theme} />
        ${key.get() && html`<${Button} kind="quiet" onClick=${leave}>Forget my key<//>`}
      </div>
    </nav>
    <main id="main" tabindex="-1" ref=${main}>
      <h1>${title}</h1>
      ${asked ? html`<${Login} onDone=${again} />` : html`<${Safe} key=${`${route.page}-${turn}`}><${Page} route=${route} /><//>`}
    </main>
    <${Toasts} />`;
}

/** A fault of ours in one page leaves the others usable. */
function Safe({ children }) {
  const [error] = useErrorBoundary();
  return error ? html`<${Problem} error=${error} title="This page broke; reload it." />` : children;
}

function Theme() {
  const [chosen, setChosen] = useState(document.documentElement.dataset.theme ?? "auto");
  const choose = (event) => {
    const name = event.currentTarget.value;
    setChosen(name);
    if (name === "auto") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("hearth.theme");
    } else {
      document.documentElement.dataset.theme = name;
      localStorage.setItem("hearth.theme", name);
    }
  };
  return html`<label class="theme"
    >Colours
    <select value=${chosen} onChange=${choose}>
      ${Object.entries(THEMES).map(([name, words]) => html`<option value=${name}>${words}</option>`)}
    </select>
  </label>`;
}

const NotFound = () => html`<p>There is no such page. <a href="#/">Back to the overview</a>.</p>`;

render(html`<${App} />`, document.getElementById("app"));
