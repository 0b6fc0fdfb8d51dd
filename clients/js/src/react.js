/**
 * React hooks. Must not know the connection.
 * @module
 */

import { useMemo, useSyncExternalStore } from "react";

/** @import { Client, State } from "./client.js" */
/** @import { TaskData } from "../types/event.js" */

/**
 * @typedef {object} TaskView
 * @property {TaskData | null} data the newest state; null while nothing is known
 * @property {Error | null} error why the task cannot be followed
 */

/** @type {Readonly<TaskView>} */
const NOTHING = Object.freeze({ data: null, error: null });

/**
 * The newest state of a task, followed while the component is mounted, beyond its end too (it may be run again).
 * @param {Client} client
 * @param {string | null | undefined} key `<source name>/<task id>`; null while there is none
 * @returns {Readonly<TaskView>}
 */
export function useTask(client, key) {
  const { subscribe, read } = useMemo(() => store(client, key), [client, key]);
  return useSyncExternalStore(subscribe, read, () => NOTHING);
}

/**
 * The state of the connection.
 * @param {Client} client
 * @returns {State}
 */
export function useConnection(client) {
  const { subscribe, read } = useMemo(
    () => ({
      subscribe: (/** @type {() => void} */ changed) => client.on("state", changed),
      read: () => client.state,
    }),
    [client],
  );
  return useSyncExternalStore(subscribe, read, () => "idle");
}

/**
 * @param {Client} client
 * @param {string | null | undefined} key
 */
function store(client, key) {
  /** @type {Readonly<TaskView>} */
  let view = NOTHING;
  return {
    read: () => view,
    /** @param {() => void} changed */
    subscribe(changed) {
      if (key == null) return () => {};
      const task = client.task(key, { follow: true });
      const look = () => {
        view = Object.freeze({ data: task.state, error: task.error });
        changed();
      };
      const off = [task.on("change", look), task.on("error", look)];
      return () => {
        for (const leave of off) leave();
        task.close();
      };
    },
  };
}
