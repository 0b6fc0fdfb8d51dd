/**
 * Mainstem's stream for browsers and Node: one WebSocket for everything, which comes back by itself and resumes where it
 * was, so that no event is lost and none comes twice.
 * @module
 */

import { connection } from "./connection.js";
import { call, emitter } from "./emitter.js";
import { lists } from "./filter.js";
import { subscriptions } from "./subscriptions.js";
import { task } from "./task.js";

export { StreamRefused, TaskFailed } from "./errors.js";
/** @typedef {import("../types/event.js").MainstemEvent} MainstemEvent */
/** @typedef {import("../types/event.js").TaskEvent} TaskEvent */
/** @typedef {import("../types/event.js").SourceEvent} SourceEvent */
/** @typedef {import("../types/event.js").StreamEvent} StreamEvent */
/** @typedef {import("../types/event.js").TaskData} TaskData */
/** @typedef {import("../types/event.js").Task} Task */
/** @typedef {import("./connection.js").State} State */
/** @typedef {import("./filter.js").Filter} Filter */
/** @typedef {import("./task.js").TaskHandle} TaskHandle */
/** @typedef {import("./task.js").TaskOptions} TaskOptions */

/**
 * @typedef {object} ClientOptions
 * @property {string | URL} [url] where the gateway is, such as `https://events.example.com`; may be relative to the page.
 *   Default: where this file was loaded from, for pages that import the gateway's own `/client.js`
 * @property {() => string | Promise<string>} [getToken] a token for the stream; asked again for every connection and before
 *   the token expires. Not needed where the gateway asks for none
 * @property {new (url: string, protocols: string[]) => WebSocket} [WebSocket] default: the built-in one (browsers, Node 22)
 * @property {{initial?: number, max?: number}} [backoff] milliseconds of the first and the longest wait, 500 and 20000
 * @property {() => number} [random] chance, for tests
 */

/**
 * @typedef {object} SubscribeOptions
 * @property {AbortSignal} [signal] ends the subscription
 * @property {boolean} [snapshot] first the current state of every matching task, as `task.snapshot`
 * @property {string} [after] resume after a position: a `sequence` of an event, or `client.position` of an earlier client
 */

/**
 * What can be listened to: the new state of the connection, errors, the filter of a subscription whose past is incomplete
 * (current states follow), and notices of the stream by their type.
 * @typedef {{state: State, error: Error, reset: Filter | null, [notice: `stream.${string}`]: StreamEvent}} ClientEvents
 */

/**
 * @typedef {object} Client
 * @property {State} state of the connection
 * @property {string | null} position up to which all subscriptions have everything, to be kept and used as `after`
 * @property {<K extends keyof ClientEvents>(type: K, fn: (value: ClientEvents[K]) => void) => () => void} on returns a
 *   function that takes the listener away
 * @property {(filter: Filter | null, fn: (event: MainstemEvent) => void, options?: SubscribeOptions) => () => void} subscribe
 *   calls `fn` with every matching event, each once, in the order of the log. Returns a function that ends it. Throws why
 *   the client has ended, where it has
 * @property {(key: string, options?: TaskOptions) => TaskHandle} task follows one task
 * @property {() => void} close ends everything
 */

/**
 * A client; it connects when it is first asked for something.
 * @param {ClientOptions} [options]
 * @returns {Client}
 * @throws {TypeError} there is no URL, or no WebSocket
 */
export function createClient({ url, getToken, WebSocket = globalThis.WebSocket, backoff, random = Math.random } = {}) {
  if (!WebSocket) throw new TypeError("pass a WebSocket");
  const { on, emit } = emitter();
  /** @param {unknown} error */
  const report = (error) => {
    if (!emit("error", error)) console.error("mainstem:", error);
  };
  /** @type {Error | null} */
  let stopped = null;

  const wire = connection(
    {
      url: streamUrl(url),
      getToken,
      WebSocket,
      backoff: { initial: 500, max: 20_000, ...backoff },
      random,
    },
    {
      message(event) {
        all.message(event);
        if (event.type.startsWith("stream.")) emit(event.type, event);
      },
      lost: () => all.lost(),
      state: (state) => emit("state", state),
      error: report,
      stopped(error) {
        stopped = error;
        if (error.name !== "AbortError") report(error);
        all.stop(error);
      },
    },
  );
  const all = subscriptions(wire.send, wire.redial);

  /** @param {import("./subscriptions.js").Subscriber} subscriber */
  const add = (subscriber) => {
    const remove = all.add(subscriber);
    wire.start();
    return remove;
  };

  return {
    on,
    get state() {
      return wire.state;
    },
    get position() {
      return all.position();
    },
    subscribe(filter, fn, { signal, snapshot = false, after } = {}) {
      if (stopped) throw stopped;
      if (signal?.aborted) return () => {};
      const remove = add({
        filter: lists(filter),
        snapshot,
        after: after == null ? null : String(after),
        take: (event) => call(fn, event),
        reset: () => emit("reset", filter),
        fail: (error) => stopped ?? report(error),
      });
      signal?.addEventListener("abort", remove);
      return () => {
        signal?.removeEventListener("abort", remove);
        remove();
      };
    },
    task: (key, options = {}) => task(key, options, add),
    close: () => wire.stop(new DOMException("closed", "AbortError")),
  };
}

/** @param {string | URL | undefined} url */
function streamUrl(url) {
  const here = import.meta.url; // by a name of its own: bundlers take `new URL("...", import.meta.url)` for a file to ship
  const target = url === undefined ? new URL(".", here) : new URL(url, globalThis.location?.href);
  if (!/^(http|ws)s?:$/.test(target.protocol)) throw new TypeError("pass a url");
  target.protocol = target.protocol.replace("http", "ws");
  target.pathname = target.pathname.replace(/(\/v1\/stream)?\/*$/, "/v1/stream");
  target.search = "subscribe=none";
  target.hash = "";
  return target.href;
}
