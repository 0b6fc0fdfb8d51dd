/**
 * The gateway's side of the stream as a model, step by step and in any order: what `gateway/stream` does with
 * subscriptions, replays and snapshots, without sockets. Everything random comes from one seed.
 */
import { matches } from "../src/filter.js";

/** @param {number} seed */
export function chance(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const at = (/** @type {number} */ sequence) => String(sequence).padStart(20, "0");

export class Log {
  epoch = "log1";
  events = [];
  floor = 0;
  head = 0;
  /** task key → its last event */
  tasks = new Map();

  add(task, type, status, id = `evt-${this.epoch}-${this.head + 1}`) {
    const [source] = task.split("/");
    const event = {
      id, type, sequence: at(++this.head), partitionkey: task,
      data: { task: { key: task, source, kind: "k", status, progress: null } },
    };
    this.events.push(event);
    this.tasks.set(task, event);
    return event;
  }

  trim(floor) {
    this.floor = Math.max(this.floor, floor);
    this.events = this.events.filter((event) => Number(event.sequence) > this.floor);
  }
}

/** One connection: commands come in, `lane` is what the client has still to read. */
export class Wire {
  static #sessions = 0;
  lane = [];
  subscriptions = new Map();
  #session = ++Wire.#sessions;
  #notices = 0;

  constructor(log) {
    this.log = log;
    this.tell("stream.opened", { epoch: log.epoch, sequence: at(log.head), scope: "events:read" });
  }

  /** Unique, as ids are, over all connections. */
  #id() {
    return `${this.#session}-${++this.#notices}`;
  }

  tell(type, data) {
    this.lane.push({ id: this.#id(), type, sequence: at(this.log.head), data });
  }

  command({ op, id, filter = {}, after, snapshot }) {
    if (op === "unsubscribe") {
      this.subscriptions.delete(id);
      this.tell("stream.unsubscribed", { id });
    } else if (op === "subscribe") {
      const { log } = this;
      const [, epoch, digits] = /^(?:(.*):)?(\d+)$/.exec(after ?? "0");
      const sequence = Number(digits);
      let outcome = snapshot ? "snapshot" : "live";
      if (after !== undefined) {
        const good = (epoch === undefined || epoch === log.epoch) && log.floor <= sequence && sequence <= log.head;
        outcome = good ? "replayed" : "reset";
      }
      const subscription = { id, filter, outcome, start: sequence, position: sequence, phase: "start", live: false };
      this.subscriptions.set(id, { ...subscription, ahead: new Map(), pages: [] });
    }
  }

  #covers(subscription, event) {
    const sequence = Number(event.sequence);
    const reached = subscription.live ? this.log.head : subscription.position;
    if (!(subscription.start < sequence && sequence <= reached) || !matches(subscription.filter, event)) return false;
    return (subscription.ahead.get(event.partitionkey) ?? 0) < sequence;
  }

  publish(event) {
    if ([...this.subscriptions.values()].some((one) => one.live && matches(one.filter, event))) this.lane.push(event);
  }

  pending() {
    return [...this.subscriptions.values()].filter((one) => !one.live);
  }

  /** One step of a replay: a page of states, an event, or the end. */
  step(one, pageSize) {
    const { log } = this;
    if (one.phase === "start") {
      if (one.outcome === "live") one.start = one.position = log.head;
      if (one.outcome === "snapshot" || one.outcome === "reset") {
        one.start = one.position = log.head;
        one.ahead = new Map();
        one.phase = "states";
        one.cursor = "";
      } else one.phase = "events";
      this.tell("stream.subscribed", { id: one.id, resume: one.outcome, sequence: at(one.start) });
    } else if (one.phase === "states") {
      const keys = [...log.tasks.keys()].sort().filter((key) => key > one.cursor).slice(0, pageSize);
      if (!keys.length) one.phase = "events";
      for (const key of keys) {
        one.cursor = key;
        const last = log.tasks.get(key);
        const state = { ...last, id: this.#id(), type: "task.snapshot", sequence: at(log.head) };
        if (!matches(one.filter, state)) continue;
        this.lane.push(state);
        if (Number(last.sequence) > one.start) one.ahead.set(key, Number(last.sequence));
      }
    } else if (one.position < log.floor) {
      one.outcome = "reset";
      one.phase = "start";
    } else if (one.position >= log.head) {
      one.live = true;
      this.tell("stream.synced", { id: one.id, sequence: at(log.head) });
    } else {
      const event = log.events[one.position - log.floor];
      const known = (one.ahead.get(event.partitionkey) ?? 0) >= Number(event.sequence);
      const others = [...this.subscriptions.values()].filter((other) => other !== one);
      if (matches(one.filter, event) && !known && !others.some((other) => this.#covers(other, event))) this.lane.push(event);
      one.position = Number(event.sequence);
    }
  }
}
