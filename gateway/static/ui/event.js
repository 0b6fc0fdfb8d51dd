/**
 * One event: what it is about in a few words, and all of it. A large one is kept without its payloads, and fetched when it is
 * looked at.
 * @module
 */

import { get, query } from "./api.js";
import { html, useEffect, useState } from "./html.js";
import { Trouble } from "./parts.js";
import { visible } from "./text.js";

/** @import { Entry, Event } from "./feed.js" */

/** What an event is about, in a few words. @param {Event} event */
export function gist({ type, data }) {
  const { task, detail, error } = data;
  if (error && type === "task.failed") return visible(error.message ?? error.code, 160);
  const said = detail?.message ?? detail?.step;
  const parts = [];
  if (type === "task.progressed" && task?.progress != null) parts.push(`${Math.floor(task.progress)}%`);
  if (typeof said === "string") parts.push(visible(said, 100));
  if (!task) parts.push(...["endpoint", "error", "by"].filter((name) => typeof data[name] === "string").map((name) => visible(data[name], 160)));
  if (type === "task.updated" && !parts.length && data.changed?.length) parts.push(visible(data.changed.join(", "), 100));
  if (type === "source.gap") parts.push(data.recovered ? "states were repaired" : "states could not all be repaired");
  return parts.join(" · ");
}

/**
 * Gives all of an event to what draws it.
 * @param {{entry: Entry, children: (event: Event) => any}} props
 */
export function Whole({ entry, children }) {
  const { event, whole } = entry;
  const [full, setFull] = useState(whole ? event : null);
  const [error, setError] = useState(null);
  useEffect(() => {
    if (whole) return;
    const closing = new AbortController();
    const after = String(BigInt(event.sequence) - 1n);
    get(`v1/events${query({ after, limit: 1 })}`, { signal: closing.signal }).then(
      ({ items }) => (items[0]?.id === event.id ? setFull(items[0]) : setError(new Error("it is no longer in the log."))),
      (failure) => closing.signal.aborted || setError(failure),
    );
    return () => closing.abort();
  }, []);
  if (error) return html`<${Trouble} error=${error} what="This large event" />`;
  return full ? children(full) : html`<p class="loading">This is a large event; it is being fetched…</p>`;
}
