/** A WebSocket that does what the test says, and a browser around it. */
import { mock } from "node:test";

import { createClient } from "../src/client.js";
import { at } from "./model.js";

export class FakeSocket {
  /** all that were made, oldest first @type {FakeSocket[]} */
  static all = [];
  readyState = 0;
  /** commands that were sent */
  sent = [];
  closed = false;
  /** does not answer pings */
  mute = false;
  #notices = 0;

  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    FakeSocket.all.push(this);
  }

  send(text) {
    const command = JSON.parse(text);
    this.sent.push(command);
    if (command.op === "ping" && !this.mute) void this.say("stream.pong", {});
  }

  close() {
    this.readyState = 3;
    this.closed = true;
  }

  /** The gateway accepts, and greets. */
  async accept(epoch = "log1") {
    this.readyState = 1;
    this.onopen?.({});
    await this.say("stream.opened", { epoch, session: "s", sequence: at(0), scope: "events:read" });
  }

  async say(type, data, extra = {}) {
    const id = `${FakeSocket.all.indexOf(this)}-${++this.#notices}`;
    this.onmessage?.({ data: JSON.stringify({ id, type, sequence: at(0), data, ...extra }) });
    await turn();
  }

  /** The subscription that was asked for last is live. */
  async sync(sequence = 0) {
    const { id } = this.sent.findLast(({ op }) => op === "subscribe");
    await this.say("stream.subscribed", { id, resume: "live", sequence: at(sequence) });
    await this.say("stream.synced", { id, sequence: at(sequence) });
  }

  async end(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
    await turn();
  }
}

/** All promises that can settle have. */
export const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Time, frozen until it is told to pass; put back by the test's end. */
export function clock(t) {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_700_000_000_000 });
  t.after(() => mock.timers.reset());
  return async (milliseconds) => {
    mock.timers.tick(milliseconds);
    await turn();
  };
}

/** A client on fake sockets that has been asked for something, what it reported, and its newest socket. */
export async function connected(t, options = {}) {
  FakeSocket.all = [];
  const client = createClient({ url: "http://gateway.test", WebSocket: FakeSocket, random: () => 0.5, ...options });
  const states = [];
  const errors = [];
  const events = [];
  client.on("state", (state) => states.push(state));
  client.on("error", (error) => errors.push(error));
  client.subscribe(null, (event) => events.push(event));
  t.after(() => client.close());
  await turn();
  return {
    client, states, errors, events,
    get socket() {
      return FakeSocket.all.at(-1);
    },
  };
}

/** What a page has around it. */
export function browser(t) {
  const page = Object.assign(new EventTarget(), { hidden: false });
  const navigator = { onLine: true };
  const old = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  const target = new EventTarget();
  const listen = { addEventListener: globalThis.addEventListener, removeEventListener: globalThis.removeEventListener };
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
  globalThis.document = page;
  for (const name of Object.keys(listen)) globalThis[name] = target[name].bind(target);
  t.after(() => {
    delete globalThis.document;
    delete globalThis.navigator;
    if (old) Object.defineProperty(globalThis, "navigator", old);
    Object.assign(globalThis, listen);
  });
  return {
    show(visible) {
      page.hidden = !visible;
      page.dispatchEvent(new Event("visibilitychange"));
    },
    network(online) {
      navigator.onLine = online;
      target.dispatchEvent(new Event(online ? "online" : "offline"));
    },
  };
}

/** A JSON Web Token that ends in so many seconds; nobody verifies it here. */
export function token(seconds) {
  const claims = { exp: Math.floor(Date.now() / 1000) + seconds, sub: "ü?>" };
  return `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.c2ln`;
}
