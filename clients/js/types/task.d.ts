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
export function task(key: string, { signal, follow }: TaskOptions, add: (subscriber: Subscriber) => () => void): TaskHandle;
export type TaskOptions = {
    /**
     * ends it; `done` rejects with the signal's reason
     */
    signal?: AbortSignal | undefined;
    /**
     * go on after the end, for tasks that may be run again; false: it ends with the task
     */
    follow?: boolean | undefined;
};
/**
 * What can be listened to: events by their type, `*` for all of them, every new state, `reset` when what was known is void
 * and the current state follows, and why the task cannot be followed.
 */
export type TaskEvents = {
    [type: `task.${string}`]: TaskEvent;
    "*": TaskEvent;
    change: TaskData | null;
    reset: void;
    error: Error;
};
export type Followed = {
    /**
     * `<source name>/<task id>`
     */
    key: string;
    /**
     * the newest state, a new object with every change; null while nothing is known
     */
    state: TaskData | null;
    /**
     * why it ended without the task having ended
     */
    error: Error | null;
    /**
     * the final state once the task has succeeded; rejects with `TaskFailed` where it ended
     * otherwise, with the error where it cannot be followed. Nobody has to look at it
     */
    done: Promise<TaskData>;
    /**
     * returns a function
     * that takes the listener away
     */
    on: <K extends keyof TaskEvents>(type: K, fn: (value: TaskEvents[K]) => void) => () => void;
    /**
     * ends it
     */
    close: () => void;
};
/**
 * Iterates over the newest state, whenever there is a newer one: states that a slow reader has no time for are left out,
 * the last one never.
 */
export type TaskHandle = Followed & AsyncIterable<TaskData>;
import type { Subscriber } from "./subscriptions.js";
import type { TaskEvent } from "../types/event.js";
import type { TaskData } from "../types/event.js";
