/** Whether something fits on the machine, as a dry run answered. */
import { bytes } from "./format.js";
import { html } from "./html.js";
import { Meter } from "./ui.js";

const NAMES = { disk: "Disk", memory: "Memory", gpu_memory: "GPU memory" };

export function Fit({ of }) {
  if (!of) return null;
  return html`<div class="fit ${of.fits ? "good" : "bad"}" role="status">
    <strong>${of.fits ? (of.needs.length ? "It fits" : "No estimate") : "It does not fit"}</strong>
    ${of.needs.map(
      (need) =>
        html`<div class="taken">
          <div class="row spread">
            <span>${NAMES[need.resource]}</span
            ><span class="soft">${bytes(need.needed_bytes)} of ${bytes(need.available_bytes)} to be had</span>
          </div>
          <${Meter} value=${need.needed_bytes} max=${need.available_bytes} label=${`${NAMES[need.resource]} needed`} />
          <p class="soft">${parts(need.parts)}</p>
          ${need.remedy && html`<p>${need.remedy}</p>`}
        </div>`,
    )}
    ${of.notes.map((note) => html`<p class="soft">${note}</p>`)}
  </div>`;
}

const parts = (of) =>
  Object.entries(of)
    .filter(([, size]) => size)
    .map(([name, size]) => `${name.replaceAll("_", " ")} ${bytes(size)}`)
    .join(", ");
