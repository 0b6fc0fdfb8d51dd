/**
 * What the log says, beyond what this page has seen: the newest events that match a filter, and the gaps of sources.
 * @module
 */

import { get, query } from "./api.js";
import { entryOf } from "./feed.js";
import { useEffect, useState } from "./html.js";

const PAGE = 1000;

/** @import { Entry, Event } from "./feed.js" */

/**
 * The newest events of the log that match, oldest first. The log is read from its oldest page on; no more than `most` are kept.
 * @param {Record<string, string | string[]>} filter as `/v1/events` takes it
 * @param {number} most
 * @param {AbortSignal} signal
 * @returns {Promise<Entry[]>}
 * @throws {ApiError} refused, or no answer; the signal's reason where it was aborted
 */
export async function newest(filter, most, signal) {
  let found = [];
  let after = null;
  do {
    const page = await get(`v1/events${query({ ...filter, after, limit: PAGE })}`, { signal });
    found = [...found, ...page.items.map((event) => entryOf(event, Date.parse(event.data.received_at ?? event.time)))].slice(-most);
    after = page.next;
  } while (after !== null);
  return found;
}

const GAPS = 200;

/**
 * The last gap of each source, from the log and live.
 * @param {{watch: (fn: (event: Event) => void) => () => void}} feed
 * @returns {{gaps: Map<string, Event>, error: Error | null}}
 */
export function useGaps(feed) {
  const [gaps, set] = useState(new Map());
  const [error, setError] = useState(null);
  useEffect(() => {
    const closing = new AbortController();
    const learn = (events) =>
      set((known) => {
        const next = new Map(known);
        for (const event of events) if (!(next.get(event.data.source)?.sequence > event.sequence)) next.set(event.data.source, event);
        return next;
      });
    const stop = feed.watch((event) => event.type === "source.gap" && learn([event]));
    newest({ type: "source.gap" }, GAPS, closing.signal).then(
      (entries) => learn(entries.map(({ event }) => event)),
      (failure) => closing.signal.aborted || failure.status === 403 || setError(failure), // the list of sources says what the scope leaves out
    );
    return () => {
      closing.abort();
      stop();
    };
  }, [feed]);
  return { gaps, error };
}
