/**
 * The one socket: dialling, tokens, liveness, and coming back. Must not know subscriptions or tasks.
 *
 * Browsers show neither pings nor, for minutes, that a peer has gone; so a quiet connection is asked for a `pong`.
 * @module
 */

import { wait } from "./backoff.js";
import { StreamRefused } from "./errors.js";
import { renewIn } from "./token.js";

/** @import { Message } from "./filter.js" */
/** @typedef {"idle" | "connecting" | "open" | "waiting" | "offline" | "closed"} State */

/** Milliseconds: an answer takes no longer; silence before a ping; a connection that lasted so long was a good one. */
const PATIENCE = 10_000;
const QUIET = 25_000;
const LASTING = 10_000;

/**
 * @param {object} options
 * @param {string} options.url
 * @param {(() => string | Promise<string>) | undefined} options.getToken
 * @param {new (url: string, protocols: string[]) => WebSocket} options.WebSocket
 * @param {{initial: number, max: number}} options.backoff milliseconds
 * @param {() => number} options.random
 * @param {object} hooks
 * @param {(event: Message) => void} hooks.message
 * @param {() => void} hooks.lost the connection is gone; it may come back
 * @param {(state: State) => void} hooks.state
 * @param {(error: unknown) => void} hooks.error something failed that is tried again
 * @param {(error: Error) => void} hooks.stopped it will not come back
 */
export function connection({ url, getToken, WebSocket, backoff, random }, hooks) {
  /** @type {State} */
  let state = "idle";
  /** @type {WebSocket | null} */
  let socket = null;
  /** the attempt that callbacks must belong to */
  let attempt = 0;
  let tries = 0;
  let heard = false;
  let opened = 0;
  /** when the gateway wants us back: milliseconds since the epoch */
  let due = 0;
  /** @type {number | null | undefined} */
  let hint;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let renewal;

  /** @param {State} next */
  const become = (next) => {
    if (state !== next) hooks.state((state = next));
  };
  const { document, navigator } = globalThis;
  const hidden = () => document?.hidden;

  /** @param {() => void} next @param {number} delay milliseconds */
  function later(next, delay) {
    clearTimeout(timer);
    timer = setTimeout(next, delay);
  }

  /**
   * Asks the application for a token, on behalf of this attempt only.
   * @param {(token: string | undefined) => void} use
   */
  function withToken(use) {
    const mine = attempt;
    (async () => getToken?.())().then(
      (token) => mine === attempt && use(token),
      (error) => {
        if (mine !== attempt) return;
        hooks.error(error);
        if (!socket) lost();
      },
    );
  }

  /** @param {object} command */
  function send(command) {
    if (socket?.readyState === 1) socket.send(JSON.stringify(command));
  }

  function open() {
    if (navigator?.onLine === false) return become("offline");
    become("connecting");
    later(lost, PATIENCE);
    withToken(dial);
  }

  /** @param {string} [token] */
  function dial(token) {
    try {
      socket = new WebSocket(url, ["cloudevents.json"]);
    } catch (error) {
      return stop(/** @type {Error} */ (error)); // refused by the browser, such as ws: from a page of https:
    }
    socket.onopen = () => authenticate(token);
    socket.onmessage = ({ data }) => hear(JSON.parse(data));
    socket.onclose = ({ code, reason }) => lost(code, reason);
    socket.onerror = () => {}; // says nothing; a close follows
  }

  /** @param {string} [token] */
  function authenticate(token) {
    if (!token) return;
    send({ op: "authenticate", token });
    const delay = renewIn(token, Date.now());
    if (delay !== null) renewal = setTimeout(withToken, delay, authenticate);
  }

  /** @param {Message} event */
  function hear(event) {
    heard = true;
    if (event.type === "stream.opened") {
      opened = Date.now();
      become("open");
      watch();
    } else if (event.type === "stream.closing") {
      hint = event.data.reconnect_after_ms;
    } else if (event.type === "stream.error" && event.data.field === "token") {
      hooks.error(new StreamRefused(event.data.code, event.data.message));
    }
    hooks.message(event);
  }

  /** Looks after silence; every message only sets a flag. */
  function watch() {
    if (!heard) return probe();
    heard = false;
    later(watch, QUIET);
  }

  function probe() {
    heard = false;
    send({ op: "ping" });
    later(() => (heard ? watch() : lost()), PATIENCE);
  }

  /** Forgets the socket. It may take minutes to close: nothing of it is heard any more. */
  function drop() {
    attempt++;
    clearTimeout(timer);
    clearTimeout(renewal);
    const old = socket;
    socket = null;
    if (!old) return;
    old.onopen = old.onmessage = old.onclose = null;
    old.close();
  }

  /** @param {number} [code] close code; by default the one of a connection that went away without @param {string} [reason] */
  function lost(code = 1006, reason = "") {
    drop();
    hooks.lost();
    const now = Date.now();
    tries = opened && now - opened >= LASTING ? 0 : tries;
    // An expired token is nothing to stop for where there is a way to get another one.
    const delay = wait(code === 4009 && getToken ? 4200 : code, hint, tries++, backoff, random);
    opened = 0;
    hint = undefined;
    if (delay === null) return stop(new StreamRefused(code, reason));
    due = now + delay;
    become("waiting");
    comeBack();
  }

  /** A page that nobody looks at comes back without hurry, or when somebody does. */
  function comeBack() {
    later(open, due - Date.now() + (hidden() ? random() * backoff.max : 0));
  }

  /** The network is back, or somebody looks; then the connection may have died while the machine slept. */
  function wake() {
    if (state === "offline" || (state === "waiting" && !hidden())) comeBack();
    else if (state === "open" && !hidden()) probe();
  }

  /** @param {Error} error */
  function stop(error) {
    if (state === "closed") return;
    drop();
    globalThis.removeEventListener?.("online", wake);
    document?.removeEventListener("visibilitychange", wake);
    become("closed");
    hooks.stopped(error);
  }

  return {
    get state() {
      return state;
    },
    send,
    stop,
    /** Connects, unless it has. */
    start() {
      if (state !== "idle") return;
      globalThis.addEventListener?.("online", wake);
      document?.addEventListener("visibilitychange", wake);
      open();
    },
    /** Connects anew. */
    redial() {
      drop();
      hooks.lost();
      open();
    },
  };
}
