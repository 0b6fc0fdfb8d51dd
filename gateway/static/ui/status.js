/**
 * Words and tones of states. A tone is a colour's meaning; a word always stands beside it.
 * @module
 */

/** @typedef {"good" | "busy" | "wait" | "warn" | "bad" | "idle"} Tone */

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

/** @type {Record<string, [Tone, string]>} */
export const DELIVERY = {
  pending: ["wait", "Pending"], delivered: ["good", "Delivered"], dead: ["bad", "Dead letter"], skipped: ["idle", "Skipped"],
};

/** The stream's connection: states of the client. @type {Record<string, [Tone, string]>} */
export const CONNECTION = {
  idle: ["wait", "Connecting"], connecting: ["wait", "Connecting"], open: ["good", "Live"], waiting: ["warn", "Reconnecting"],
  offline: ["warn", "Offline"], closed: ["bad", "Disconnected"],
};
