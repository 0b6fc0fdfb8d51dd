/**
 * One task: its state, what it was given and gave, and everything that happened to it, from the log and live.
 * @module
 */

import { ApiError, get, query } from "./api.js";
import { gist, Whole } from "./event.js";
import { entryOf, WEIGHT } from "./feed.js";
import { useNow } from "./hooks.js";
import { html, useEffect, useReducer, useRef, useState } from "./html.js";
import { Badge, Copy, Data, Empty, Facts, Json, Progress, Section, Time, Trouble } from "./parts.js";
import { encoded, linkTo } from "./routes.js";
import { toneOfTask, toneOfType } from "./status.js";
import { clock, count, many, moment, position, span, visible } from "./text.js";

const PAGE = 200;
/** Events of one task that are kept, the newest; repeats of progress that are folded; ms between two drawings. */
const KEPT = 1000;
const FOLD = 3;
const TICK = 100;

export function Task({ feed, source, id, scope }) {
  const key = `${source}/${id}`;
  const now = useNow();
  const story = useStory(feed, key, source, id);
  const { data, events, error, history, next, more } = story;
  const task = data?.task;
  return html`<p class="crumbs"><a href=${linkTo("tasks")}>Tasks</a> / <${Data} value=${key} class="mono" /></p>
    <${Trouble} error=${error} what="The task" scope=${scope} />
    ${!task && !error && html`<p class="loading">Loading…</p>`}
    ${task && html`<${Head} task=${task} data=${data} now=${now} />`}
    ${task && html`<div class="columns">
      <${Section} title="Timeline" aside=${html`<span class="dim">${many(events.length, "event")}${events.length >= KEPT ? ", the newest" : ""}</span>`}>
        <${Trouble} error=${history} what="What happened before this page was opened" scope=${scope} />
        ${!events.length && !history && html`<${Empty} title="Nothing in the log">Its events may be older than what is retained.<//>`}
        <${Timeline} events=${events} />
        ${next && html`<button type="button" onClick=${more}>Load more of the log</button>`}
      <//>
      <div>
        ${data.redacted && html`<p class="note" data-tone="idle">Input, result, error and native payloads are hidden from your token.</p>`}
        ${["result", "error", "input"].map((name) => data[name] != null && html`<${Section} key=${name} title=${{ input: "Input", result: "Result", error: "Error" }[name]}><${Json} value=${data[name]} label=${name} /><//>`)}
        ${data.native != null && html`<${Section} title="As the upstream said it" aside=${html`<span class="dim"><${Data} value=${data.native.type} /></span>`}><${Json} value=${data.native.payload} label="native payload" /><//>`}
      </div>
    </div>`}`;
}

function Head({ task, data, now }) {
  const tone = toneOfTask(task.status);
  const ran = task.started_at && (task.completed_at ? Date.parse(task.completed_at) : now) - Date.parse(task.started_at);
  const queue = task.queue?.position != null && `${task.queue.position}${task.queue.estimated_wait_seconds != null ? `, about ${span(task.queue.estimated_wait_seconds)} to wait` : ""}`;
  return html`<header class="task-head">
    <h1><${Data} value=${task.name ?? task.kind ?? "Task"} /></h1>
    <${Badge} tone=${tone}>${task.status}<//>
    <${Progress} value=${task.progress ?? (task.status === "succeeded" ? 100 : null)} tone=${tone} label="progress" />
    <${Copy} text=${() => task.key} label="Copy key" />
    ${data.error && html`<p class="error"><${Data} value=${data.error.message ?? data.error.code} most=${600} />${data.error.suggestion && html` <${Data} value=${data.error.suggestion} most=${600} />`}</p>`}
    <${Facts} pairs=${[
      ["Source", html`<${Data} value=${task.source} />`],
      ["Adapter", html`<${Data} value=${task.adapter} />`],
      ["Kind", task.kind && html`<${Data} value=${task.kind} />`],
      ["Upstream's word", task.native_status && html`<${Data} value=${task.native_status} />`],
      ["Attempt", task.attempt],
      ["Queue position", queue],
      ["Created", task.created_at && html`<${Time} at=${task.created_at} now=${now} />`],
      ["Started", task.started_at && html`<${Time} at=${task.started_at} now=${now} />`],
      ["Completed", task.completed_at && html`<${Time} at=${task.completed_at} now=${now} />`],
      ["Ran for", ran > 0 && span(ran / 1000)],
      ["Last heard", html`<${Time} at=${data.received_at} now=${now} />`],
    ]} />
  </header>`;
}

/** State and events of a task. What comes while the past is loaded is put in its place by its position. */
function useStory(feed, key, source, id) {
  const [, redraw] = useReducer((drawn) => drawn + 1, 0);
  const story = useRef(null);
  const load = useRef(null);
  useEffect(() => {
    const closing = new AbortController();
    const { signal } = closing;
    const own = (story.current = { data: null, sequence: "", events: new Map(), weight: 0, error: null, history: null, next: null });
    let timer;
    const touch = () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        redraw();
      }, TICK);
    };
    const state = (data, sequence) => {
      if (sequence >= own.sequence) Object.assign(own, { data, sequence, error: null });
    };
    const add = (event) => {
      if (own.events.has(event.id)) return;
      const entry = entryOf(event);
      own.events.set(event.id, entry);
      own.weight += entry.weight;
      for (const [id, { weight }] of own.events) {
        if (own.events.size <= KEPT && own.weight <= WEIGHT) break;
        own.events.delete(id);
        own.weight -= weight;
      }
    };
    const take = (event) => {
      if (event.partitionkey !== key) return;
      if (event.type !== "task.snapshot") add(event);
      state(event.data, event.sequence);
      touch();
    };
    const fail = (name) => (error) => {
      if (!signal.aborted) own[name] = error;
      touch();
    };
    const page = async (after) => {
      const answer = await get(`v1/events${query({ task: key, after, limit: PAGE })}`, { signal });
      answer.items.forEach(add);
      const sorted = [...own.events.values()].sort((a, b) => (a.event.sequence < b.event.sequence ? -1 : 1));
      own.events = new Map(sorted.map((entry) => [entry.event.id, entry]));
      own.next = answer.next;
      touch();
      if (own.next !== null && own.events.size < KEPT) await page(own.next);
    };
    load.current = () => page(own.next).catch(fail("history"));
    const stop = feed.watch(take);
    const single = (error) => {
      if (signal.aborted) return;
      own.history = error;
      // A token for single tasks has no feed of everything: this task is asked for by its key.
      const followed = feed.client.task(key, { signal, follow: true });
      followed.on("*", take);
      followed.on("error", fail("error"));
      touch();
    };
    get(`v1/tasks/${encoded(source)}/${encoded(id)}`, { signal }).then(
      ({ sequence, ...data }) => {
        if (data.task === undefined) throw new ApiError(404, "task_not_found", "There is no such task.");
        state(data, sequence);
        touch();
      },
    ).catch(fail("error"));
    page(null).catch((error) => (error.status === 403 ? single(error) : fail("history")(error)));
    redraw();
    return () => {
      closing.abort();
      clearTimeout(timer);
      stop();
    };
  }, [feed, key]);
  const own = story.current;
  const events = own ? [...own.events.values()] : [];
  return { data: own?.data, error: own?.data ? null : own?.error, history: own?.history, next: own?.next, events, more: () => load.current() };
}

/** Newest first; long runs of progress are one line until somebody wants to see them. */
function Timeline({ events }) {
  const groups = [];
  for (const entry of events) {
    const last = groups.at(-1);
    if (entry.event.type === "task.progressed" && last?.[0].event.type === "task.progressed") last.push(entry);
    else groups.push([entry]);
  }
  return html`<ol class="timeline" reversed>
    ${groups.reverse().map((group) => group.length > FOLD ? html`<${Run} key=${group[0].event.id} group=${group} />` : group.toReversed().map((entry) => html`<${Moment} key=${entry.event.id} entry=${entry} />`))}
  </ol>`;
}

function Run({ group }) {
  const [open, setOpen] = useState(false);
  const [first, last] = [group[0].event, group.at(-1).event];
  const percent = ({ data }) => (data.task.progress == null ? "?" : `${Math.floor(data.task.progress)}%`);
  return html`<li class="event" data-tone="busy">
      <button type="button" class="line" aria-expanded=${open} onClick=${() => setOpen(!open)}>
        <time title=${moment(last.time)}>${clock(last.time)}</time>
        <b>task.progressed</b> <span>${count(group.length)} times, ${percent(first)} to ${percent(last)}</span>
      </button>
    </li>
    ${open && group.toReversed().map((entry) => html`<${Moment} key=${entry.event.id} entry=${entry} inner />`)}`;
}

function Moment({ entry, inner = false }) {
  const { event } = entry;
  const [open, setOpen] = useState(false);
  const { data } = event;
  return html`<li class=${inner ? "event inner" : "event"} data-tone=${toneOfType(event.type)}>
    <button type="button" class="line" aria-expanded=${open} onClick=${() => setOpen(!open)}>
      <time datetime=${visible(event.time, 40)} title=${moment(event.time)}>${clock(event.time)}</time>
      <b><${Data} value=${event.type} title=${false} /></b> <span>${gist(event)}</span>
      ${data.origin !== "live" && html`<span class="tag">${visible(data.origin, 20)}</span>`}
    </button>
    ${open && html`<div class="opened">
      <${Facts} pairs=${[["Position", position(event.sequence)], ["Id", html`<${Data} value=${event.id} class="mono" />`], ["Changed", data.changed?.length ? visible(data.changed.join(", ")) : "nothing"]]} />
      <${Whole} entry=${entry}>${(full) => html`<${Payloads} data=${full.data} />`}<//>
    </div>`}
  </li>`;
}

const Payloads = ({ data }) => html`
  ${data.detail != null && html`<h3>Detail</h3><${Json} value=${data.detail} label="detail" />`}
  ${data.native != null && html`<h3>As the upstream said it: <${Data} value=${data.native.type} /></h3><${Json} value=${data.native.payload} label="native payload" />`}
`;
