/**
 * Live tasks: what is under way and what has just ended, filtered.
 * @module
 */

import { useNews, useNow, useQuery } from "./hooks.js";
import { html, useEffect, useState } from "./html.js";
import { Badge, Choice, Data, Empty, Progress, Search, Section, Time, Trouble } from "./parts.js";
import { linkTo } from "./routes.js";
import { FINISHED, SILENCE, silentFor, STATUSES, toneOfTask } from "./status.js";
import { count, NAME, span, visible } from "./text.js";

const SHOWN = 100;
const CHOICES = 100;
/** Milliseconds between two drawings: rows are many, and move. */
const TICK = 500;

export function Tasks({ feed, scope }) {
  useNews(feed, TICK);
  const now = useNow();
  const [field, change] = useQuery();
  const [most, setMost] = useState(SHOWN);
  const all = [...feed.tasks.values()];
  const chosen = { source: field("source"), kind: field("kind"), status: field("status") };
  const silent = field("heard") === "silent";
  const words = field("text").trim().toLowerCase();
  const fits = ({ task, at }) =>
    (!silent || silentFor({ task, at }, now) > 0) &&
    (!chosen.source || task.source === chosen.source) &&
    (!chosen.kind || task.kind === chosen.kind) &&
    (!chosen.status || task.status === chosen.status) &&
    (!words || `${task.key} ${task.kind ?? ""} ${task.name ?? ""}`.toLowerCase().includes(words));
  const found = all.filter(fits);
  const active = found.filter((known) => !ended(known)).sort((a, b) => (silent && silentFor(b, now) - silentFor(a, now)) || b.order - a.order);
  const over = found.filter(ended).sort((a, b) => ((a.at ?? "") < (b.at ?? "") ? 1 : -1));
  const shownOver = over.slice(0, Math.max(0, most - active.length));
  const values = (name) => [...new Set([...all.map(({ task }) => task[name]).filter(Boolean), chosen[name]])].filter(Boolean).sort().slice(0, CHOICES);

  if (feed.error?.status === 403) return html`<h1 class="unseen">Tasks</h1><${Trouble} error=${feed.error} what="The list of tasks" scope=${scope} /><${Follow} />`;
  return html`<h1 class="unseen">Tasks</h1>
    <${Section} title="Tasks" aside=${feed.ready && html`<span class="dim" data-testid="shown">showing ${count(Math.min(found.length, most))} of ${count(found.length)}${found.length !== all.length ? ` that match, ${count(all.length)} known` : ""}</span>`}>
      <form class="filters" role="search" aria-label="Filter tasks" onSubmit=${(event) => event.preventDefault()}>
        <${Search} label="Text" placeholder="id, kind or name" value=${field("text")} change=${(value) => change("text", value)} />
        <${Choice} label="Source" value=${chosen.source} options=${values("source")} change=${(value) => change("source", value)} />
        <${Choice} label="Kind" value=${chosen.kind} options=${values("kind")} change=${(value) => change("kind", value)} />
        <${Choice} label="Status" value=${chosen.status} options=${STATUSES} change=${(value) => change("status", value)} />
        <${Choice} label="Last heard" value=${field("heard")} options=${[["silent", `silent for ${span(SILENCE / 1000)} or more`]]} change=${(value) => change("heard", value)} />
      </form>
      <${Trouble} error=${feed.error} what="The list of tasks" scope=${scope} />
      ${feed.crowded && html`<p class="note" data-tone="warn">There are more unfinished tasks than this page keeps. Those that are not listed can be opened by their key.</p>`}
      ${!feed.ready && !feed.error && html`<p class="loading">Loading…</p>`}
      ${feed.ready && !found.length && (all.length ? html`<${Empty} title="No task matches">Change the filter, or look among those that ended earlier.<//>` : html`<${Empty} title="No tasks yet">A task is listed once a source has told of it. Is one connected? The overview says.<//>`)}
      <ul class="rows tasks" aria-label="Under way">
        ${active.slice(0, most).map((known) => html`<${Row} key=${known.task.key} known=${known} now=${now} />`)}
      </ul>
      ${shownOver.length > 0 && html`<header class="section-head"><h3>Ended, the last first</h3>
        <span class="dim" data-testid="ended">showing ${count(shownOver.length)} of the last ${count(over.length)}; older ones below</span></header>`}
      <ul class="rows tasks" aria-label="Ended">
        ${shownOver.map((known) => html`<${Row} key=${known.task.key} known=${known} now=${now} />`)}
      </ul>
      ${found.length > most && html`<button type="button" onClick=${() => setMost(most + SHOWN * 2)}>Show more</button>`}
      ${feed.ready && !silent && html`<${Earlier} feed=${feed} chosen=${chosen} scope=${scope} />`}
    <//>
    <${Follow} />`;
}

const ended = ({ task }) => Number(FINISHED.includes(task.status));

function Row({ known, now }) {
  const { task, error, at } = known;
  const tone = toneOfTask(task.status);
  const quiet = silentFor(known, now);
  return html`<li class="row">
    <a href=${linkTo("tasks", task.source, task.id)}>
      <${Badge} tone=${tone}>${task.status}<//>
      <span class="what"><b><${Data} value=${task.name ?? task.kind ?? "task"} most=${NAME / 2} /></b> <${Data} value=${task.id} class="mono dim" most=${40} /></span>
      <span class="where"><${Data} value=${task.source} most=${30} /></span>
      <${Progress} value=${task.progress ?? (task.status === "succeeded" ? 100 : null)} tone=${tone} label=${`progress of ${task.id.slice(0, 40)}`} />
      ${quiet ? html`<span class="when silent" title=${visible(at, 40)}>silent for ${span(quiet / 1000)}</span>` : html`<span class="when dim"><${Time} at=${at} now=${now} /></span>`}
      ${error && html`<span class="error"><${Data} value=${error} most=${200} /></span>`}
    </a>
  </li>`;
}

/** Tasks that ended before this page was opened. */
function Earlier({ feed, chosen, scope }) {
  const filter = Object.fromEntries(Object.entries(chosen).filter(([, value]) => value));
  const key = JSON.stringify(filter);
  const [state, set] = useState({ cursor: null, asked: false, busy: false, error: null });
  useEffect(() => set({ cursor: null, asked: false, busy: false, error: null }), [key]);
  if (chosen.status && !FINISHED.includes(chosen.status)) return null;
  async function ask() {
    set({ ...state, busy: true, error: null });
    try {
      set({ cursor: await feed.fetchFinished(filter, state.cursor), asked: true, busy: false, error: null });
    } catch (error) {
      set({ ...state, busy: false, error });
    }
  }
  if (state.asked && state.cursor === null) return html`<p class="dim">Every finished task that is retained has been looked at.</p>`;
  return html`<${Trouble} error=${state.error} what="Earlier tasks" scope=${scope} />
    <button type="button" disabled=${state.busy} onClick=${ask}>${state.asked ? "More that ended earlier" : "Older ended tasks, from the log"}</button>`;
}

/** To a task by its key: all that a token for single tasks can do. */
function Follow() {
  function go(event) {
    event.preventDefault();
    const key = new FormData(event.target).get("key").trim();
    const slash = key.indexOf("/");
    if (slash > 0) location.hash = linkTo("tasks", key.slice(0, slash), key.slice(slash + 1));
  }
  return html`<${Section} title="Open a task by its key">
    <form class="filters" onSubmit=${go}>
      <label class="field grow"><span>Task key</span><input name="key" required pattern="[^\\/]+\\/.+" title="source name, slash, task id" placeholder="studio/92483a80-236c-4889-9a95-4c90bb64dfd8" autocomplete="off" spellcheck=${false} /></label>
      <button type="submit">Open</button>
    </form>
  <//>`;
}
