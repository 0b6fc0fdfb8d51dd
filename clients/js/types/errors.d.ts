/**
 * What can go wrong, as errors.
 * @module
 */
/** @import { TaskData } from "../types/event.js" */
/** The gateway refused: the whole connection (`code` is a close code) or one subscription (`code` is a word). */
export class StreamRefused extends Error {
    /**
     * @param {number | string} code
     * @param {string} message
     */
    constructor(code: number | string, message: string);
    code: string | number;
}
/** A task ended without success; `data` is its final state, `code` the upstream's error code or else the status. */
export class TaskFailed extends Error {
    /** @param {TaskData} data */
    constructor(data: TaskData);
    code: string | number;
    data: TaskData;
}
import type { TaskData } from "../types/event.js";
