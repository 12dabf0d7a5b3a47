/** A bar a day. */
import { number } from "./format.js";
import { html } from "./html.js";

const HEIGHT = 120;

/** @param {{label: string, of: [string, number][]}} props */
export function Bars({ label, of }) {
  const most = Math.max(...of.map(([, value]) => value), 1);
  const total = of.reduce((sum, [, value]) => sum + value, 0);
  const width = 100 / of.length;
  return html`<figure class="chart bars">
    <svg
      width="100%"
      height=${HEIGHT}
      role="img"
      aria-label=${`${label}: ${number(total)} in all, at most ${number(most)} a day`}
    >
      ${of.map(([day, value], index) => {
        const height = value ? Math.max(2, (value / most) * HEIGHT) : 0;
        return html`<rect
          key=${day}
          x="${index * width + width * 0.1}%"
          width="${width * 0.8}%"
          y=${HEIGHT - height}
          height=${height}
          rx="2"
          ><title>${day}: ${number(value)}</title></rect
        >`;
      })}
    </svg>
    <figcaption class="row spread">
      <span>${of[0][0]}</span><span>${number(total)} tokens in all, at most ${number(most)} a day</span
      ><span>${of[of.length - 1][0]}</span>
    </figcaption>
  </figure>`;
}
