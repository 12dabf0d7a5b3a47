/** Lines over steps, drawn as SVG at the width that there is, so that text keeps its size on a phone. */
import { figure } from "./format.js";
import { html, useEffect, useRef, useState } from "./html.js";

const HEIGHT = 260;
const LEFT = 46;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 30;

/** @typedef {{name: string, points: [number, number][], dashed?: boolean, colour: number}} Line */

/** About `wanted` round numbers from `low` to `high`. */
export function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough) ?? rough;
  const first = Math.ceil(low / step) * step;
  return Array.from({ length: Math.floor((high - first) / step + 1e-9) + 1 }, (_, index) => first + index * step);
}

/** @param {{lines: Line[], label: string, xName?: string, xMost?: number}} props */
export function Chart({ lines, label, xName = "step", xMost }) {
  const box = useRef(null);
  const [width, setWidth] = useState(600);
  const [at, setAt] = useState(null);
  useEffect(() => {
    const watch = new ResizeObserver(([entry]) => setWidth(Math.max(240, Math.round(entry.contentRect.width))));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  const all = lines.flatMap((line) => line.points);
  const xs = [Math.min(...all.map(([x]) => x), 1), Math.max(...all.map(([x]) => x), xMost ?? 1)];
  const ys = [Math.min(...all.map(([, y]) => y), 0), Math.max(...all.map(([, y]) => y))];
  if (ys[0] === ys[1]) ys[1] += 1;
  const right = width - RIGHT;
  const x = (value) => LEFT + ((value - xs[0]) / (xs[1] - xs[0] || 1)) * (right - LEFT);
  const y = (value) => HEIGHT - BOTTOM - ((value - ys[0]) / (ys[1] - ys[0])) * (HEIGHT - BOTTOM - TOP);
  const nearest = at === null ? null : xs[0] + ((at - LEFT) / (right - LEFT)) * (xs[1] - xs[0]);
  const moved = (event) =>
    setAt(Math.min(right, Math.max(LEFT, event.clientX - box.current.getBoundingClientRect().left)));
  return html`<figure class="chart" ref=${box} onPointerMove=${moved} onPointerLeave=${() => setAt(null)}>
    <svg
      width=${width}
      height=${HEIGHT}
      viewBox="0 0 ${width} ${HEIGHT}"
      role="img"
      aria-label=${`${label}: ${inWords(lines)}`}
    >
      ${ticks(...ys, 4).map(
        (value) =>
          html`<g key=${`y${value}`}>
            <line class="rule" x1=${LEFT} x2=${right} y1=${y(value)} y2=${y(value)} />
            <text x=${LEFT - 8} y=${y(value) + 4} text-anchor="end">${figure(value)}</text>
          </g>`,
      )}
      ${ticks(...xs, width < 420 ? 3 : 6).map((value) => html`<text key=${`x${value}`} x=${x(value)} y=${HEIGHT - 12} text-anchor="middle">${figure(value)}</text>`)}
      <text x=${right} y=${HEIGHT - BOTTOM - 6} text-anchor="end">${xName}</text>
      ${lines.map((line) => html`<polyline key=${line.name} class="line-${line.colour}" fill="none" stroke-dasharray=${line.dashed ? "5 4" : undefined} points=${line.points.map(([px, py]) => `${x(px).toFixed(1)},${y(py).toFixed(1)}`).join(" ")} />`)}
      ${lines.filter((line) => line.points.length === 1).map((line) => html`<circle class="line-${line.colour}" r="3" cx=${x(line.points[0][0])} cy=${y(line.points[0][1])} />`)}
      ${at !== null && html`<line class="cursor" x1=${at} x2=${at} y1=${TOP} y2=${HEIGHT - BOTTOM} />`}
    </svg>
    <figcaption>
      ${lines.map(
        (line) =>
          html`<span key=${line.name} class="key">
            <svg width="22" height="8" aria-hidden="true">
              <line
                class="line-${line.colour}"
                stroke-dasharray=${line.dashed ? "5 4" : undefined}
                x1="0"
                x2="22"
                y1="4"
                y2="4"
              />
            </svg>
            ${line.name} ${value(line, nearest)}</span
          >`,
      )}
    </figcaption>
  </figure>`;
}

/** The line's value at a step, or its last. */
function value(line, step) {
  if (!line.points.length) return "";
  if (step === null) return figure(line.points[line.points.length - 1][1]);
  const [nearX, nearY] = line.points.reduce((best, each) =>
    Math.abs(each[0] - step) < Math.abs(best[0] - step) ? each : best,
  );
  return `${figure(nearY)} at ${nearX}`;
}

const inWords = (lines) =>
  lines
    .filter((line) => line.points.length)
    .map(
      ({ name, points }) =>
        `${name} from ${figure(points[0][1])} to ${figure(points[points.length - 1][1])} in ${points.length} points`,
    )
    .join("; ") || "no points yet";
