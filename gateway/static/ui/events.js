/**
 * The event stream, as it flows: filtered, paused, looked into. Owns what is shown when more happens than anybody can read:
 * a few of each moment, and how many of how many that is.
 * @module
 */

import { gist, Whole } from "./event.js";
import { EVENTS } from "./feed.js";
import { useNews, useQuery } from "./hooks.js";
import { html, useEffect, useReducer, useRef, useState } from "./html.js";
import { Choice, Data, Empty, Json, Search, Section, Trouble } from "./parts.js";
import { newest } from "./past.js";
import { linkTo } from "./routes.js";
import { toneOfType, TYPES } from "./status.js";
import { clock, count, moment, visible } from "./text.js";

/** Milliseconds between two drawings; new rows in each; rows; drawings that a sample is told over. */
const TICK = 250;
const FRESH = 8;
const SHOWN = 100;
const WINDOW = 12;
const PAUSED = 200;
const CHOICES = 100;
/** Events of the log that are shown below those that came. */
const PAST = 200;

export function Events({ feed, scope }) {
  const [field, change] = useQuery();
  const [paused, pause] = useState(null);
  const [most, setMost] = useState(PAUSED);
  const chosen = { source: field("source"), type: field("type"), task: field("task"), text: field("text").trim().toLowerCase() };
  const fits = ({ event }) => matches(chosen, event);
  const flow = useFlow(feed, fits, JSON.stringify(chosen), paused !== null);
  const seen = paused?.entries ?? feed.entries;
  const values = (of, own) => [...new Set([...seen.map(({ event }) => of(event)), own])].filter(Boolean).sort().slice(0, CHOICES);
  const types = [...TYPES, ...values(({ type }) => type, chosen.type).filter((type) => !TYPES.includes(type) && !type.endsWith("*"))];
  const rooms = [...new Set(types.map((type) => `${type.split(".")[0]}.*`))];
  if (feed.error?.status === 403) return html`<h1 class="unseen">Events</h1><${Trouble} error=${feed.error} what="The event stream" scope=${scope} />`;

  // The rows that somebody is looking into stay where they are; the button brings all that are kept.
  const rows = paused === null ? flow.rows : (paused.rows ?? paused.entries).filter(fits).reverse();
  const oldest = seen[0]?.event.sequence ?? "~"; // after all digits: nothing was seen
  const log = useLog(field("log") === "all" && feed.ready, chosen);
  const older = log.entries.filter((entry) => entry.event.sequence < oldest && fits(entry)).reverse();
  const narrowed = chosen.source || chosen.type || chosen.task;
  const halt = (rows) => {
    setMost(PAUSED);
    pause({ entries: [...feed.entries], rows });
  };
  return html`<h1 class="unseen">Events</h1>
    <${Section} title="Event stream" aside=${html`<${Told} feed=${feed} flow=${flow} paused=${paused} rows=${rows} most=${most} />
      <button type="button" aria-pressed=${paused !== null} onClick=${() => (paused === null ? halt(null) : pause(null))}>${paused === null ? "Pause" : "Resume"}</button>`}>
      <form class="filters" role="search" aria-label="Filter events" onSubmit=${(event) => event.preventDefault()}>
        <${Search} label="Text" placeholder="task, kind, name or id" value=${field("text")} change=${(value) => change("text", value)} />
        <${Choice} label="Source" value=${chosen.source} options=${values(sourceOf, chosen.source)} change=${(value) => change("source", value)} />
        <${Choice} label="Type" value=${chosen.type} options=${[...rooms.map((room) => [room, room]), ...types]} change=${(value) => change("type", value)} />
        ${chosen.task && html`<button type="button" onClick=${() => change("task", "")}>Task ${visible(chosen.task, 40)} ×</button>`}
      </form>
      <${Trouble} error=${feed.error} what="The event stream" scope=${scope} />
      ${!feed.ready && !feed.error && html`<p class="loading">Loading…</p>`}
      ${feed.ready && !rows.length && !older.length && !log.busy && (feed.entries.length ? html`<${Empty} title="No event matches">Of the newest ${count(feed.entries.length)} events, none fits the filter. New ones are shown as they come.<//>` : html`<${Empty} title="Nothing has happened yet">Events are shown as they come.<//>`)}
      <ol class="rows events" aria-label="Events, newest first">
        ${rows.slice(0, paused === null ? SHOWN : most).map((entry) => html`<${Row} key=${entry.event.id} entry=${entry} hold=${() => paused === null && halt(flow.rows.toReversed())} />`)}
      </ol>
      ${paused?.rows && paused.rows.length < paused.entries.length && html`<button type="button" onClick=${() => halt(null)}>Show every event</button>`}
      ${log.busy && html`<p class="loading">Looking through the log…</p>`}
      <${Trouble} error=${log.error} what="The log" scope=${scope} />
      ${log.entries.length > 0 && html`<header class="section-head"><h3>Older, from the log</h3><span class="dim">${older.length ? `the last ${count(older.length)}` : "none: all that match are above"}</span></header>`}
      <ol class="rows events" aria-label="Older events, newest first">${older.map((entry) => html`<${Row} key=${entry.event.id} entry=${entry} hold=${() => {}} />`)}</ol>
      ${feed.ready && narrowed && field("log") !== "all" && html`<button type="button" onClick=${() => change("log", "all")}>Look through the log</button>`}
      ${paused !== null && rows.length > most && html`<button type="button" onClick=${() => setMost(most + PAUSED * 2)}>Show more</button>`}
    <//>`;
}

/** The newest events of the whole log that match, once they are wanted. */
function useLog(wanted, { source, type, task }) {
  const [state, set] = useState({ entries: [], busy: false, error: null });
  const asked = wanted && Boolean(source || type || task);
  useEffect(() => {
    const closing = new AbortController();
    set({ entries: [], busy: asked, error: null });
    if (!asked) return;
    newest({ source, type, task }, PAST, closing.signal).then(
      (entries) => set({ entries, busy: false, error: null }),
      (error) => closing.signal.aborted || set({ entries: [], busy: false, error }),
    );
    return () => closing.abort();
  }, [asked, source, type, task]);
  return state;
}

/** How much of what happens is shown. */
function Told({ feed, flow, paused, rows, most }) {
  useNews(feed);
  if (paused !== null) {
    const since = feed.entries.length - 1 - feed.entries.lastIndexOf(paused.entries.at(-1));
    return html`<span class="dim" role="status">paused, showing ${count(Math.min(rows.length, most))} of ${count(rows.length)}${since > 0 && `; ${since >= EVENTS ? `${count(EVENTS)} or more` : count(since)} came since`}</span>`;
  }
  const { shown, arrived } = flow;
  if (shown >= arrived) return html`<span class="dim" data-testid="sample">showing all</span>`;
  const share = Math.round(arrived / Math.max(shown, 1));
  return html`<span class="sampled" data-testid="sample" title="More happens than can be read. Pause to see every one of the newest ${count(EVENTS)}.">showing 1 of ${count(share)}; pause to see all</span>`;
}

const sourceOf = ({ data }) => data.task?.source ?? data.source ?? null;

function matches({ source, type, task, text }, event) {
  if (source && sourceOf(event) !== source) return false;
  if (type && (type.endsWith("*") ? !event.type.startsWith(type.slice(0, -1)) : event.type !== type)) return false;
  if (task && event.partitionkey !== task) return false;
  const known = event.data.task;
  return !text || `${event.partitionkey ?? event.subject ?? ""} ${known?.kind ?? ""} ${known?.name ?? ""} ${event.type} ${event.id}`.toLowerCase().includes(text);
}

/** Rows of a running stream: some of what came since the last drawing on top, those that matter most first in line. */
function useFlow(feed, fits, key, paused) {
  const [, redraw] = useReducer((drawn) => drawn + 1, 0);
  const flow = useRef({ rows: [], shown: 0, arrived: 0 });
  const filter = useRef(fits);
  filter.current = fits;
  useEffect(() => {
    if (paused) return;
    let last = feed.entries.at(-1);
    let timer;
    const past = [];
    const own = (flow.current = { rows: feed.entries.filter((entry) => filter.current(entry)).slice(-SHOWN).reverse(), shown: 0, arrived: 0 });
    const draw = () => {
      timer = undefined;
      const at = feed.entries.lastIndexOf(last);
      last = feed.entries.at(-1);
      const fresh = feed.entries.slice(at + 1).filter((entry) => filter.current(entry));
      const picked = sample(fresh);
      if (picked.length) own.rows = [...picked.reverse(), ...own.rows].slice(0, SHOWN);
      past.push([picked.length, fresh.length]);
      if (past.length > WINDOW) past.shift();
      [own.shown, own.arrived] = past.reduce(([a, b], [c, d]) => [a + c, b + d], [0, 0]);
      redraw();
    };
    const stop = feed.listen(() => (timer ??= setTimeout(draw, TICK)));
    redraw();
    return () => {
      clearTimeout(timer);
      stop();
    };
  }, [feed, key, paused]);
  return flow.current;
}

/** No more than a few, in order: what is not mere progress first, the rest spread evenly. */
function sample(fresh) {
  if (fresh.length <= FRESH) return fresh;
  const spread = (all, most) => (all.length <= most ? all : Array.from({ length: most }, (_, index) => all[Math.floor(((index + 1) * all.length) / most) - 1]));
  const matter = spread(fresh.filter(({ event }) => event.type !== "task.progressed"), FRESH);
  const rest = spread(fresh.filter(({ event }) => event.type === "task.progressed"), FRESH - matter.length);
  const chosen = new Set([...matter, ...rest]);
  return fresh.filter((entry) => chosen.has(entry));
}

/** Looking into one holds the stream, so that it does not run away under the reader. */
function Row({ entry, hold }) {
  const { event } = entry;
  const [open, setOpen] = useState(false);
  const { task } = event.data;
  const toggle = () => {
    if (!open) hold();
    setOpen(!open);
  };
  return html`<li class="event" data-tone=${toneOfType(event.type)}>
    <button type="button" class="line" aria-expanded=${open} onClick=${toggle}>
      <time datetime=${visible(event.time, 40)} title=${moment(event.time)}>${clock(entry.at)}</time>
      <b><${Data} value=${event.type} title=${false} /></b>
      <span class="about"><${Data} value=${task ? `${task.source}/${task.id}` : (sourceOf(event) ?? event.subject ?? event.source)} class="mono" most=${60} /> ${task && html`<span class="dim"><${Data} value=${task.kind ?? ""} most=${40} /></span>`}</span>
      <span class="gist dim">${gist(event)}</span>
    </button>
    ${open && html`<div class="opened">${task && html`<p><a href=${linkTo("tasks", task.source, task.id)}>The whole story of this task</a></p>`}<${Whole} entry=${entry}>${(full) => html`<${Json} value=${full} label="event" depth=${2} />`}<//></div>`}
  </li>`;
}
