/**
 * One task, followed: its newest state, its events, its end. Must not know the connection.
 * @module
 */

import { emitter } from "./emitter.js";
import { TaskFailed } from "./errors.js";

/** @import { TaskData, TaskEvent } from "../types/event.js" */
/** @import { Subscriber } from "./subscriptions.js" */

const FINISHED = new Set(["succeeded", "failed", "cancelled", "deleted"]);

/**
 * @typedef {object} TaskOptions
 * @property {AbortSignal} [signal] ends it; `done` rejects with the signal's reason
 * @property {boolean} [follow] go on after the end, for tasks that may be run again; false: it ends with the task
 */

/**
 * What can be listened to: events by their type, `*` for all of them, every new state, `reset` when what was known is void
 * and the current state follows, and why the task cannot be followed.
 * @typedef {{[type: `task.${string}`]: TaskEvent, "*": TaskEvent, change: TaskData | null, reset: void, error: Error}} TaskEvents
 */

/**
 * @typedef {object} Followed
 * @property {string} key `<source name>/<task id>`
 * @property {TaskData | null} state the newest state, a new object with every change; null while nothing is known
 * @property {Error | null} error why it ended without the task having ended
 * @property {Promise<TaskData>} done the final state once the task has succeeded; rejects with `TaskFailed` where it ended
 *   otherwise, with the error where it cannot be followed. Nobody has to look at it
 * @property {<K extends keyof TaskEvents>(type: K, fn: (value: TaskEvents[K]) => void) => () => void} on returns a function
 *   that takes the listener away
 * @property {() => void} close ends it
 */

/**
 * Iterates over the newest state, whenever there is a newer one: states that a slow reader has no time for are left out,
 * the last one never.
 * @typedef {Followed & AsyncIterable<TaskData>} TaskHandle
 */

/**
 * @param {string} key
 * @param {TaskOptions} options
 * @param {(subscriber: Subscriber) => () => void} add
 * @returns {TaskHandle}
 */
export function task(key, { signal, follow = false }, add) {
  const { on, emit } = emitter();
  /** @type {TaskData | null} */
  let state = null;
  /** @type {Error | null} */
  let error = null;
  let version = 0;
  let over = false;
  /** a state of this log has come since the last reset */
  let fresh = true;
  /** iterators that wait @type {(() => void)[]} */
  let waiting = [];
  /** @type {(data: TaskData) => void} */
  let resolve;
  /** @type {(error: unknown) => void} */
  let reject;
  /** @type {Promise<TaskData>} */
  const done = new Promise((...both) => ([resolve, reject] = both));
  done.catch(() => {}); // it is told by `error` and `state`, too

  /** @param {TaskData | null} next */
  function change(next) {
    state = next;
    version++;
    emit("change", state);
    wake();
  }

  function wake() {
    const all = waiting;
    waiting = [];
    for (const go of all) go();
  }

  /** @param {unknown} why */
  function end(why) {
    if (over) return;
    over = true;
    remove();
    signal?.removeEventListener("abort", abort);
    reject(why);
    wake();
  }

  /** @param {Error} why */
  function fail(why) {
    if (over) return;
    error = why;
    end(why);
    emit("error", why);
  }

  const abort = () => fail(signal?.reason);

  const remove = add({
    filter: { task: [key] },
    snapshot: true,
    after: null,
    take(event) {
      const data = /** @type {TaskData} */ (event.data);
      fresh = true;
      change(data);
      emit(event.type, event);
      emit("*", event);
      if (!FINISHED.has(data.task.status)) return;
      if (data.task.status === "succeeded") resolve(data);
      else reject(new TaskFailed(data));
      if (!follow) end(null);
    },
    reset() {
      fresh = false;
      emit("reset");
    },
    synced() {
      if (fresh) return;
      fresh = true;
      change(null); // the log does not know it
    },
    fail,
  });
  if (signal?.aborted) queueMicrotask(abort);
  else signal?.addEventListener("abort", abort);

  return {
    key,
    done,
    on,
    get state() {
      return state;
    },
    get error() {
      return error;
    },
    close: () => end(new DOMException("closed", "AbortError")),
    async *[Symbol.asyncIterator]() {
      for (let seen = 0; ; ) {
        if (seen !== version) {
          seen = version;
          if (state) yield state;
        } else if (over) {
          if (error) throw error;
          return;
        } else await /** @type {Promise<void>} */ (new Promise((go) => waiting.push(go)));
      }
    },
  };
}
