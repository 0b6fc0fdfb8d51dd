/**
 * What can go wrong, as errors.
 * @module
 */

/** @import { TaskData } from "../types/event.js" */

/** The gateway refused: the whole connection (`code` is a close code) or one subscription (`code` is a word). */
export class StreamRefused extends Error {
  name = "StreamRefused";

  /**
   * @param {number | string} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** A task ended without success; `data` is its final state, `code` the upstream's error code or else the status. */
export class TaskFailed extends Error {
  name = "TaskFailed";

  /** @param {TaskData} data */
  constructor(data) {
    const { task, error } = data;
    super(error?.message ?? `${task.key} ${task.status}`);
    this.code = error?.code ?? task.status;
    this.data = data;
  }
}
