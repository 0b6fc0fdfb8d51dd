/**
 * The gateway's own measurements: its `/metrics`, read every few seconds while somebody looks, and what follows from two
 * readings. Must not know how anything is drawn.
 * @module
 */

import { get } from "./api.js";

/** Milliseconds between two readings; readings that are kept; readings that a quantile is taken over. */
export const EVERY = 3000;
const KEPT = 200;
const WINDOW = 10;

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** @typedef {{labels: Record<string, string>, value: number}[]} Samples */

/**
 * The Prometheus text format; comments are left out.
 * @param {string} text
 * @returns {Map<string, Samples>}
 */
export function parse(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : SAMPLE.exec(line);
    if (!match) continue;
    const [, name, list, value] = match;
    const labels = Object.create(null);
    for (const [, label, quoted] of (list ?? "").matchAll(LABEL)) labels[label] = quoted.replace(/\\(.)/g, (_, char) => (char === "n" ? "\n" : char));
    const samples = found.get(name) ?? found.set(name, []).get(name);
    samples.push({ labels, value: value === "+Inf" ? Infinity : Number(value) });
  }
  return found;
}

/**
 * A quantile of what a histogram took in between two readings, by linear interpolation as Prometheus does it; null where
 * that was nothing. Seconds.
 * @param {Map<string, Samples> | undefined} before none: since the gateway started
 * @param {Map<string, Samples>} after
 * @param {string} name
 * @param {number} share
 */
export function quantile(before, after, name, share) {
  const earlier = new Map((before?.get(`${name}_bucket`) ?? []).map(({ labels, value }) => [labels.le, value]));
  const buckets = (after.get(`${name}_bucket`) ?? [])
    .map(({ labels, value }) => ({ upto: labels.le === "+Inf" ? Infinity : Number(labels.le), count: value - (earlier.get(labels.le) ?? 0) }))
    .sort((a, b) => a.upto - b.upto);
  const total = buckets.at(-1)?.count ?? 0;
  if (total <= 0) return null;
  const rank = share * total;
  let [floor, below] = [0, 0];
  for (const { upto, count } of buckets) {
    if (count >= rank) return upto === Infinity ? floor : floor + (upto - floor) * ((rank - below) / (count - below || 1));
    [floor, below] = [upto, count];
  }
  return floor;
}

/** @param {Map<string, Samples>} reading @param {string} name */
const gauge = (reading, name) => reading.get(name)?.reduce((sum, { value }) => sum + value, 0) ?? null;

/** Reads as long as it is not closed. */
export function openMetrics() {
  const closing = new AbortController();
  const listeners = new Set();
  /** @type {{at: number, values: Map<string, Samples>}[]} */
  const readings = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let reading = false;

  const metrics = {
    /** what is drawn: one point a reading @type {{at: number, relay: (number | null)[], append: (number | null)[], connections: number | null}[]} */
    points: [],
    /** why there is no newer reading @type {Error | null} */
    error: null,
    /** @param {() => void} fn */
    listen(fn) {
      listeners.add(fn);
      return () => void listeners.delete(fn);
    },
    /** Attempts of an endpoint since the gateway started; null where nothing is known. @param {string} endpoint */
    attempts(endpoint) {
      const samples = readings.at(-1)?.values.get("mainstem_delivery_attempts_total");
      if (!samples) return null;
      const own = samples.filter(({ labels }) => labels.endpoint === endpoint);
      const good = own.filter(({ labels }) => labels.outcome === "delivered");
      return { total: sum(own), delivered: sum(good) };
    },
    close() {
      closing.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", wake);
      listeners.clear();
    },
  };

  async function read() {
    reading = true;
    try {
      const text = await get("metrics", { signal: closing.signal, text: true });
      const values = parse(text);
      if (!values.has("mainstem_relay_latency_seconds_bucket")) throw new Error("what is at /metrics is not the gateway's");
      note(values);
      metrics.error = null;
    } catch (error) {
      if (closing.signal.aborted) return;
      metrics.error = error;
    } finally {
      reading = false;
    }
    for (const fn of [...listeners]) fn();
    timer = setTimeout(wake, EVERY);
  }

  /** @param {Map<string, Samples>} values */
  function note(values) {
    const created = (reading) => gauge(reading, "mainstem_log_append_seconds_count") ?? 0;
    const last = readings.at(-1);
    if (last && created(values) < created(last.values)) readings.length = 0; // the gateway has started anew
    const before = readings.at(-WINDOW)?.values ?? readings[0]?.values;
    readings.push({ at: Date.now(), values });
    if (readings.length > WINDOW) readings.shift();
    // One reading alone tells of all the time since the gateway started, which is not what is drawn.
    const both = (name) => [0.5, 0.99].map((share) => before && quantile(before, values, name, share)).map((value) => value ?? null);
    metrics.points.push({
      at: Date.now() / 1000,
      relay: both("mainstem_relay_latency_seconds"),
      append: both("mainstem_log_append_seconds"),
      connections: gauge(values, "mainstem_stream_connections"),
    });
    if (metrics.points.length > KEPT) metrics.points.shift();
  }

  /** Reads again; not while nobody looks. */
  function wake() {
    clearTimeout(timer);
    if (document.visibilityState !== "hidden" && !reading) read();
  }

  document.addEventListener("visibilitychange", wake);
  wake();
  return metrics;
}

/** @param {Samples} samples */
const sum = (samples) => samples.reduce((total, { value }) => total + value, 0);
