/**
 * The newest state of a task, followed while the component is mounted, beyond its end too (it may be run again).
 * @param {Client} client
 * @param {string | null | undefined} key `<source name>/<task id>`; null while there is none
 * @returns {Readonly<TaskView>}
 */
export function useTask(client: Client, key: string | null | undefined): Readonly<TaskView>;
/**
 * The state of the connection.
 * @param {Client} client
 * @returns {State}
 */
export function useConnection(client: Client): State;
export type TaskView = {
    /**
     * the newest state; null while nothing is known
     */
    data: TaskData | null;
    /**
     * why the task cannot be followed
     */
    error: Error | null;
};
import type { Client } from "./client.js";
import type { State } from "./client.js";
import type { TaskData } from "../types/event.js";
