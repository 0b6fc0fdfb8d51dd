/**
 * What the stream says, kept in bounds: the newest events, the states of tasks, events a second by source. One feed serves
 * all pages. Owns the order in which the past and the present are brought together without a gap, and that listeners are
 * called a few times a second however much happens. Must not know how anything is drawn.
 *
 * Bounds: `EVENTS` events of no more than `WEIGHT` characters together, `TASKS` tasks (finished ones leave first), `SECONDS`
 * counts for each of `SOURCES` sources. An event over `LARGE` is kept without its payloads, which are fetched when looked at.
 * @module
 */

import { createClient } from "../client.js";
import { BASE, get, query } from "./api.js";
import { session } from "./session.js";
import { FINISHED, UNFINISHED } from "./status.js";

export const EVENTS = 1000;
export const TASKS = 2000;
export const SECONDS = 300;
export const WEIGHT = 8_000_000;
const LARGE = 64_000;
/** Characters that an event may have left without its payloads, about. */
const SLIM = 4000;
const SOURCES = 24;
const PAST = 300;
const PAGE = 1000;
/** Milliseconds between two calls of listeners, and before another try. */
const TICK = 100;
const AGAIN = 3000;
const WORDS = 300;

/** @typedef {{id: string, type: string, sequence: string, time: string, source: string, subject?: string, partitionkey?: string, data: any}} Event */
/** @typedef {{event: Event, weight: number, at: number, whole: boolean}} Entry an event, and when it came (ms) */
/** @typedef {{task: any, error: string | null, sequence: string, at: string | null, order: number}} Known a task's newest state */

/** A feed that is under way. @param {{onStopped: (error: Error) => void}} hooks */
export function openFeed({ onStopped }) {
  const client = createClient({ url: BASE, getToken: () => session.token ?? undefined });
  const closing = new AbortController();
  const { signal } = closing;
  /** @type {Set<() => void>} */
  const listeners = new Set();
  /** @type {Set<(event: Event) => void>} */
  const watchers = new Set();
  /** @type {Map<string, Known>} */
  const tasks = new Map();
  /** oldest first @type {Entry[]} */
  const entries = [];
  /** events in each second, by source; a ring @type {Map<string, Uint32Array>} */
  const rates = new Map();
  let weight = 0;
  let arrived = 0;
  /** places in the list: of the newest, and of the oldest that was fetched later */
  let [newest, oldest] = [0, 0];
  let second = now();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  const feed = {
    client,
    tasks,
    entries,
    rates,
    /** the first states and events are there */
    ready: false,
    /** why there is no feed of everything @type {Error | null} */
    error: null,
    /** what the gateway said of this connection last @type {string | null} */
    complaint: null,
    /** connections in a row that were not opened */
    futile: 0,
    /** more tasks are unfinished than are kept */
    crowded: false,
    began: second,
    get arrived() {
      return arrived;
    },
    /** Calls back a few times a second while there is something new. @param {() => void} fn */
    listen(fn) {
      listeners.add(fn);
      return () => void listeners.delete(fn);
    },
    /** Calls back for every event of the log, at once. @param {(event: Event) => void} fn */
    watch(fn) {
      watchers.add(fn);
      return () => void watchers.delete(fn);
    },
    /** Counts of one source in the seconds before the current one, oldest first. @param {string} name @param {number} seconds */
    history(name, seconds) {
      advance();
      const ring = rates.get(name);
      return Array.from({ length: seconds }, (_, index) => ring?.[(second - seconds + index) % SECONDS] ?? 0);
    },
    /** Events a second lately, of one source or of all. @param {string} [name] */
    pace(name) {
      const names = name === undefined ? [...rates.keys()] : [name];
      const span = Math.max(1, Math.min(10, second - feed.began));
      const total = names.reduce((sum, one) => sum + feed.history(one, span).reduce((a, b) => a + b, 0), 0);
      return total / span;
    },
    /**
     * Finished tasks that the log still knows, a page of them, by key.
     * @param {Record<string, string[]>} filter
     * @param {string | null} cursor
     * @returns {Promise<string | null>} the cursor of the next page
     */
    async fetchFinished(filter, cursor) {
      const page = await get(`v1/tasks${query({ status: FINISHED, ...filter, limit: PAGE / 5, cursor })}`, { signal });
      for (const { sequence, ...data } of page.items) learn(data, sequence, true);
      touch();
      return page.next;
    },
    close() {
      closing.abort();
      clearTimeout(timer);
      listeners.clear();
      watchers.clear();
      client.close();
    },
  };

  client.on("state", () => {
    if (client.state === "open") feed.complaint = null;
    feed.futile = client.state === "open" ? 0 : feed.futile + Number(client.state === "waiting");
    touch();
  });
  client.on("reset", () => {
    entries.length = weight = 0;
    tasks.clear(); // the current states follow
    touch();
  });
  client.on("error", (error) => {
    if (client.state === "closed" && !signal.aborted) onStopped(error);
    feed.complaint = error.message;
    touch();
  });

  function touch() {
    timer ??= setTimeout(() => {
      timer = undefined;
      for (const fn of [...listeners]) fn();
    }, TICK);
  }

  /** Empties the seconds that have passed since the last event. */
  function advance() {
    const current = now();
    for (let passed = Math.min(current - second, SECONDS); passed > 0; passed--) {
      const slot = (current - passed + 1) % SECONDS;
      for (const ring of rates.values()) ring[slot] = 0;
    }
    second = Math.max(second, current);
  }

  /** @param {string} source */
  function countOne(source) {
    advance();
    const name = rates.has(source) || rates.size < SOURCES ? source : "others";
    let ring = rates.get(name);
    if (!ring) rates.set(name, (ring = new Uint32Array(SECONDS)));
    ring[second % SECONDS]++;
  }

  /** @param {Event} event @param {boolean} [live] */
  function take(event, live = true) {
    const { data, type } = event;
    if (data.task) learn(data, event.sequence);
    if (type !== "task.snapshot") {
      keep(event, live);
      if (live) {
        arrived++;
        countOne(data.task?.source ?? data.source ?? "mainstem");
        for (const fn of [...watchers]) fn(event);
      }
    }
    touch();
  }

  /** @param {Event} event @param {boolean} live */
  function keep(event, live) {
    const entry = entryOf(event, live ? Date.now() : Date.parse(event.data.received_at ?? event.time));
    entries.push(entry);
    weight += entry.weight;
    let drop = Math.max(0, entries.length - EVENTS);
    for (let index = 0; index < entries.length && (index < drop || weight > WEIGHT); index++) {
      weight -= entries[index].weight;
      drop = index + 1;
    }
    entries.splice(0, drop);
  }

  /** @param {any} data of a task's event or of the list @param {string} sequence @param {boolean} [past] it is older than all */
  function learn(data, sequence, past = false) {
    const { task } = data;
    const known = tasks.get(task.key);
    if (known && known.sequence > sequence) return;
    tasks.set(task.key, {
      task: { ...task, name: task.name && cut(task.name), kind: task.kind && cut(task.kind) },
      error: data.error ? cut(data.error.message ?? data.error.code ?? "It says no more than that.") : null,
      sequence,
      at: data.received_at,
      order: known?.order ?? (past ? --oldest : ++newest),
    });
    if (tasks.size > TASKS) forget();
  }

  /** Makes room for a tenth: finished tasks first, then those that were heard of first. */
  function forget() {
    const all = [...tasks].sort(([, a], [, b]) => over(b) - over(a) || a.order - b.order);
    for (const [key, { task }] of all.slice(0, TASKS / 10)) {
      tasks.delete(key);
      feed.crowded ||= !FINISHED.includes(task.status);
    }
  }

  async function load() {
    let cursor = null;
    let head = "";
    const found = [];
    do {
      const page = await get(`v1/tasks${query({ status: UNFINISHED, limit: PAGE, cursor })}`, { signal });
      head ||= page.sequence;
      found.push(...page.items);
      cursor = page.next;
    } while (cursor && found.length < TASKS / 2);
    feed.crowded = cursor !== null;
    const began = ({ task, received_at }) => task.created_at ?? task.started_at ?? received_at ?? "";
    found.sort((a, b) => (began(a) < began(b) ? -1 : 1));
    for (const { sequence, ...data } of found) learn(data, sequence);
    let after = String(Math.max(0, Number(head) - PAST));
    for (;;) {
      const page = await get(`v1/events${query({ after, limit: PAGE })}`, { signal }).catch((error) => {
        if (error.problem?.oldest === undefined || error.problem.oldest === after) throw error;
        return { items: [], next: error.problem.oldest };
      });
      for (const event of page.items) take(event, false);
      after = page.next ?? page.position;
      if (page.next === null) break;
    }
    client.subscribe(null, take, { signal, after });
    feed.ready = true;
    touch();
  }

  (async () => {
    while (!signal.aborted) {
      try {
        return await load();
      } catch (error) {
        if (signal.aborted) return;
        feed.error = error;
        entries.length = weight = 0;
        touch();
        if (error.status === 401 || error.status === 403) return;
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
        feed.error = null;
      }
    }
  })();

  return feed;
}

const now = () => Math.floor(Date.now() / 1000);

/** @param {Known} known */
const over = ({ task }) => Number(FINISHED.includes(task.status));

/** A copy no longer than needed, which does not keep a long original in memory. @param {string} text */
const cut = (text) => (text.length > WORDS ? JSON.parse(JSON.stringify(text.slice(0, WORDS) + "…")) : text);

/** What is kept of an event. @param {Event} event @param {number} [at] ms @returns {Entry} */
export function entryOf(event, at = 0) {
  const size = sizeOf(event, LARGE);
  const whole = size < LARGE;
  return { event: whole ? event : slim(event), weight: whole ? size : SLIM, at, whole };
}

/** @param {Event} event */
function slim(event) {
  const { task } = event.data;
  const small = task && { ...task, name: task.name && cut(task.name), kind: task.kind && cut(task.kind) };
  const emptied = Object.fromEntries(
    Object.entries(event.data).map(([name, value]) => [name, sizeOf(value, 1000) < 1000 ? value : null]),
  );
  return { ...event, data: small ? { ...emptied, task: small } : emptied };
}

/** About how many characters a value has as JSON; gives up at `most`. @param {unknown} value @param {number} most */
function sizeOf(value, most) {
  let total = 0;
  const waiting = [value];
  while (waiting.length && total < most) {
    const next = waiting.pop();
    if (typeof next === "string") total += next.length + 2;
    else if (typeof next !== "object" || next === null) total += 6;
    else
      for (const key in next) {
        total += Array.isArray(next) ? 1 : key.length + 4;
        waiting.push(next[key]);
      }
  }
  return total;
}
