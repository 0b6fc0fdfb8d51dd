/**
 * Which events a subscription is for: the stream's rules, needed here because one connection serves many subscriptions
 * and an event does not say which of them it was sent for.
 * @module
 */

/**
 * A message of the stream as far as this package looks into it.
 * @typedef {{id: string, type: string, sequence: string, partitionkey?: string, data: any}} Message
 */

/**
 * Values of one field are OR-ed, fields are AND-ed; `type` takes prefixes ending in `*`.
 * @typedef {object} Filter
 * @property {string | readonly string[]} [source] names of sources
 * @property {string | readonly string[]} [task] task keys, `<source name>/<task id>`
 * @property {string | readonly string[]} [kind] task kinds
 * @property {string | readonly string[]} [status] canonical statuses
 * @property {string | readonly string[]} [type] event types, exact or a prefix ending in `*`
 */

/** @typedef {Record<string, readonly string[]>} Lists a filter with a list in every field that it has */

/**
 * An empty list accepts everything, as no list does.
 * @param {Filter | null | undefined} filter
 * @returns {Lists}
 */
export function lists(filter) {
  return Object.fromEntries(Object.entries(filter ?? {}).map(([field, values]) => [field, [values ?? []].flat()]));
}

/**
 * A field that an event does not have does not match. A snapshot is a state, and states have no type.
 * @param {Lists} filter
 * @param {Message} event
 * @returns {boolean}
 */
export function matches(filter, event) {
  const { type, partitionkey, data } = event;
  const task = data.task;
  /** @type {Record<string, unknown>} */
  const fields = { type, source: (task ?? data).source, task: partitionkey, kind: task?.kind, status: task?.status };
  /** @param {string} value */
  const begins = (value) => value.endsWith("*") && type.startsWith(value.slice(0, -1));
  return Object.entries(filter).every(
    ([field, values]) =>
      !values.length ||
      values.some(
        (value) => value === fields[field] || (field === "type" && (type === "task.snapshot" || begins(value))),
      ),
  );
}
