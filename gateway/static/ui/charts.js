/**
 * Lines over time. Owns how uPlot (a global of its own script) is fed, sized and coloured; each chart also says its newest
 * values in words, for those who do not see it.
 * @module
 */

import { html, useEffect, useLayoutEffect, useRef } from "./html.js";
import { listed, visible } from "./text.js";

/** Colours that are told apart in both themes, in order. */
const LINES = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6", "--line-7", "--line-8"];
const HEIGHT = 150;
/** Seconds that are drawn at least. */
const NARROWEST = 60;
const WIDEST_LABEL = 64;
/** Seconds that may be between two labels of the time. */
const STEPS = [1, 5, 10, 15, 30, 60, 120, 180, 300, 600, 1800, 3600, 7200, 21600, 86400];

/** Lines by what they are about. @type {Map<string, number>} */
const given = new Map();

/** The line of a name: the same one in every chart, as long as the page is open. @param {string} name */
export function lineOf(name) {
  if (!given.has(name)) given.set(name, given.size % LINES.length);
  return given.get(name);
}

/**
 * @param {{title: string, names: string[], times: number[], series: (number | null)[][], show: (value: number | null) => string, whole?: boolean, none?: string, latest?: (number | null)[], lines?: number[]}} props
 *   `times` in seconds, ascending; a list of values for each name; `whole`: there is nothing between whole numbers;
 *   `none`: what is said where nothing can be drawn; `latest`: the figures beside the names, where they are not the last of the
 *   lines; `lines`: which line each name has, where it is not its place
 */
export const Chart = ({ title, names, times, series, show, whole = false, none = "Waiting for the next measurement.", latest = series.map((values) => values.at(-1) ?? null), lines = names.map((_, index) => index % LINES.length) }) => html`<figure class="chart">
  <figcaption>
    <span class="title">${title}</span>
    <ul class="legend">
      ${names.map((name, index) => html`<li key=${name}><span class="swatch" data-line=${lines[index]}></span><bdi>${visible(name, 30)}</bdi> <b>${show(latest[index] ?? null)}</b></li>`)}
    </ul>
  </figcaption>
  ${times.length > 1 && names.length ? html`<${Plot} title=${title} names=${names} lines=${lines} times=${times} series=${series} show=${show} whole=${whole} />` : html`<p class="plot dim">${none}</p>`}
</figure>`;

function Plot({ title, names, lines, times, series, show, whole }) {
  const place = useRef(null);
  const plot = useRef(null);
  const labels = names.map((name, index) => `${name} ${lines[index]}`).join("\n");
  const latest = useRef({ times, series });
  latest.current = { times, series };

  useLayoutEffect(() => {
    const element = place.current;
    let frame = 0;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(element, lines, show, whole), [latest.current.times, ...latest.current.series], element);
      const { canvas } = plot.current.ctx;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${title}: lines over time of ${listed(names.map((name) => visible(name, 30)))}; the newest values are beside the title`);
    };
    const resize = new ResizeObserver(() => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
    });
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const theme = new MutationObserver(draw);
    theme.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    dark.addEventListener("change", draw);
    draw();
    resize.observe(element);
    return () => {
      cancelAnimationFrame(frame);
      resize.disconnect();
      theme.disconnect();
      dark.removeEventListener("change", draw);
      plot.current.destroy();
      plot.current = null;
    };
  }, [labels]);

  useEffect(() => plot.current?.setData([times, ...series]), [times, series]);

  return html`<div ref=${place} class="plot"></div>`;
}

/** @param {HTMLElement} element @param {number[]} lines @param {(value: number) => string} show @param {boolean} whole */
function options(element, lines, show, whole) {
  const faint = color(element, "--faint");
  const axis = { stroke: color(element, "--dim"), font: `11px ${getComputedStyle(element).fontFamily}`, grid: { stroke: faint, width: 1 }, ticks: { show: false } };
  return {
    width: Math.max(element.clientWidth, 100),
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 26, 0, 0],
    scales: { x: { time: true, range: (_, low, high) => [Math.min(low, high - NARROWEST), high] }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [
      { ...axis, size: 26, gap: 4, grid: { show: false }, incrs: STEPS, values: (_, splits) => splits.map((at) => new Date(at * 1000).toLocaleTimeString("en-GB")), space: 90 },
      { ...axis, size: WIDEST_LABEL, gap: 6, values: (_, splits) => splits.map((value) => (whole && !Number.isInteger(value) ? "" : show(value))), space: 32 },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        stroke: color(element, LINES[line]),
        width: 1.5,
        points: { show: false },
        spanGaps: false,
      })),
    ],
  };
}

/** What a custom property is at the moment, as a colour that a canvas takes. @param {HTMLElement} element @param {string} name */
function color(element, name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
