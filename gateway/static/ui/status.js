/**
 * Words and tones of states. A tone is a colour's meaning; a word always stands beside it.
 * @module
 */

import { count, many } from "./text.js";

/** @typedef {"good" | "busy" | "wait" | "warn" | "bad" | "idle"} Tone */

/** Every type that the log can have, in the order in which people look for them. */
export const TYPES = [
  ...["created", "queued", "dispatched", "started", "progressed", "checkpointed", "retried", "requeued", "succeeded", "failed", "cancelled",
    "updated", "status_changed", "owner_added", "owner_removed", "assignee_added", "assignee_removed", "deleted"].map((word) => `task.${word}`),
  ...["connected", "disconnected", "gap", "failed", "finished"].map((word) => `source.${word}`),
  ...["created", "updated", "deleted", "enabled", "disabled", "secret_rotated", "replayed", "retried", "test"].map((word) => `webhook.${word}`),
];

/** In order of progress. */
export const UNFINISHED = ["pending", "queued", "dispatched", "running", "unknown"];
export const FINISHED = ["succeeded", "failed", "cancelled", "deleted"];
export const STATUSES = [...UNFINISHED.slice(0, 4), ...FINISHED, "unknown"];

/** @type {Record<string, Tone>} */
const TASK = {
  pending: "idle", queued: "wait", dispatched: "wait", running: "busy", succeeded: "good", failed: "bad", cancelled: "warn",
  deleted: "idle", unknown: "idle",
};

/** @param {string} status @returns {Tone} */
export const toneOfTask = (status) => TASK[status] ?? "idle";

/** @param {string} type of an event @returns {Tone} */
export function toneOfType(type) {
  const [room, word] = type.split(".", 2);
  if (room === "task") return { progressed: "busy", started: "busy", succeeded: "good", failed: "bad", cancelled: "warn" }[word] ?? "idle";
  if (room === "source") return { connected: "good", failed: "bad", disconnected: "warn", gap: "warn" }[word] ?? "idle";
  return room === "webhook" ? "wait" : "idle";
}

/**
 * A source's state in words, as `/v1/sources` has it.
 * @param {{state: string, enabled: boolean, error: string | null}} source
 * @returns {{tone: Tone, word: string, sentence: string}}
 */
export function ofSource({ state }) {
  const known = {
    live: ["good", "Live", "Connected, and listening."],
    connecting: ["wait", "Connecting", "The first connection is being made."],
    retrying: ["warn", "Retrying", "The connection was lost. It is tried again, with growing pauses."],
    failed: ["bad", "Stopped", "The upstream refused for good. It will not be tried again until the gateway restarts."],
    finished: ["idle", "Finished", "Every task that was to be watched has ended."],
    disabled: ["idle", "Disabled", "Switched off in the configuration."],
  };
  const [tone, word, sentence] = known[state] ?? ["idle", state, ""];
  return { tone, word, sentence };
}

/**
 * An endpoint's state in words, as `/v1/webhooks` has it.
 * @param {{state: string, disabled: string | null, paused_until: string | null}} health
 * @returns {{tone: Tone, word: string}}
 */
export function ofEndpoint({ state }) {
  const known = {
    delivering: ["good", "Delivering"],
    replaying: ["busy", "Replaying"],
    paused: ["warn", "Paused"],
    failing: ["bad", "Failing"],
    disabled: ["idle", "Disabled"],
  };
  const [tone, word] = known[state] ?? ["idle", state];
  return { tone, word };
}

/**
 * All endpoints in a few words: the worst first.
 * @param {{health: {state: string, dead: number, pending: number}}[]} items
 * @returns {{tone: Tone, word: string, more: string, stuck: number}} `stuck`: endpoints that somebody has to look after
 */
export function ofEndpoints(items) {
  const total = (of) => items.reduce((sum, { health }) => sum + of(health), 0);
  const counts = ["failing", "paused", "disabled", "replaying", "delivering"]
    .map((state) => [state, total((health) => Number(health.state === state))])
    .filter(([, number]) => number > 0)
    .map(([state, number]) => `${count(number)} ${state}`);
  const bad = total(({ state }) => Number(state === "failing"));
  const stuck = total(({ state, dead }) => Number(state === "failing" || state === "paused" || state === "disabled" || dead > 0));
  const dead = total((health) => health.dead);
  const waiting = total((health) => health.pending);
  return {
    tone: bad ? "bad" : stuck ? "warn" : "good",
    word: counts[0] ?? "none",
    more: [...counts.slice(1), dead ? many(dead, "dead letter") : "no dead letters", `backlog ${count(waiting)}`].join(", "),
    stuck,
  };
}

/** Milliseconds without a word after which a task that should be under way counts as silent. */
export const SILENCE = 120_000;

/** For how long (ms) a task has been silent; 0: it is not. @param {{task: {status: string}, at: string | null}} known @param {number} now */
export function silentFor({ task, at }, now) {
  if (!at || (task.status !== "running" && task.status !== "queued" && task.status !== "dispatched")) return 0;
  const quiet = now - Date.parse(at);
  return quiet >= SILENCE ? quiet : 0;
}

/** @type {Record<string, [Tone, string]>} */
export const DELIVERY = {
  pending: ["wait", "Pending"], delivered: ["good", "Delivered"], dead: ["bad", "Dead letter"], skipped: ["idle", "Skipped"],
};

/** The stream's connection: states of the client. @type {Record<string, [Tone, string]>} */
export const CONNECTION = {
  idle: ["wait", "Connecting"], connecting: ["wait", "Connecting"], open: ["good", "Live"], waiting: ["warn", "Reconnecting"],
  offline: ["warn", "Offline"], closed: ["bad", "Disconnected"],
};
