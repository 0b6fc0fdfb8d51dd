import assert from "node:assert/strict";
import { test } from "node:test";

import { matches } from "../src/filter.js";
import { subscriptions } from "../src/subscriptions.js";
import { Log, Wire, at, chance } from "./model.js";

const turn = () => new Promise((resolve) => setImmediate(resolve));
const TYPES = [["task.started", "running"], ["task.progressed", "running"], ["task.succeeded", "succeeded"]];
const TASKS = ["a/1", "a/2", "b/1", "b/2"];
const FILTERS = [
  {}, { source: ["a"] }, { task: ["a/1"] }, { task: ["b/1"] }, { task: ["a/2", "b/2"] }, { type: ["task.succeeded"] },
  { type: ["task.*"], source: ["b"] }, { status: ["running"] },
];

/** A client on a model of the gateway, whose every step is asked for. */
class House {
  log = new Log();
  commands = [];
  redials = 0;
  subscribers = [];

  constructor() {
    this.client = subscriptions(
      (command) => this.commands.push(command),
      () => {
        this.redials++;
        this.cut();
      },
    );
    this.wire = new Wire(this.log);
  }

  cut() {
    this.client.lost();
    this.commands.length = 0;
    this.wire = new Wire(this.log);
  }

  happen(task, [type, status], id) {
    this.wire.publish(this.log.add(task, type, status, id));
  }

  /** A subscriber that remembers what it got since `base`, the position it was told to have started from. */
  add(filter, { snapshot = false, after = null } = {}) {
    const one = {
      filter, snapshot, after, base: after === null ? null : Number(after.split(":").at(-1)), got: [], states: new Map(),
      resets: 0, errors: [],
      take(event) {
        if (event.type !== "task.snapshot") return one.got.push(event);
        const older = one.states.get(event.partitionkey);
        assert(!older || older.sequence <= event.sequence, "a state must not be followed by an older one");
        assert(!one.got.some((known) => known.partitionkey === event.partitionkey && known.sequence > event.sequence));
        one.states.set(event.partitionkey, event);
      },
      reset() {
        one.resets++;
      },
      fail: (error) => one.errors.push(error),
    };
    one.remove = this.client.add(one);
    this.subscribers.push(one);
    return one;
  }

  /** The client reads one message. */
  read() {
    const message = this.wire.lane.shift();
    if (!message) return false;
    const { resume, id, sequence } = message.data;
    if (message.type === "stream.subscribed" && resume !== "replayed")
      for (const one of this.subscribers)
        if (one.group?.id === id && (resume !== "live" || one.base === null))
          Object.assign(one, { base: Number(sequence), got: [], states: new Map() });
    this.client.message(message);
    return true;
  }

  /** The gateway hears one command. */
  hear() {
    const command = this.commands.shift();
    if (command) this.wire.command(command);
    return !!command;
  }

  /** Until nothing is left to do. */
  async settle() {
    for (let busy = true; busy; ) {
      await turn();
      busy = this.hear() || this.read();
      for (const one of this.wire.pending()) {
        this.wire.step(one, 2);
        busy = true;
      }
    }
  }

  /** What a subscriber should have got since its base. */
  expected(one) {
    return this.log.events.filter(({ sequence, partitionkey, ...event }) => {
      if (Number(sequence) <= one.base || !matches(one.filter, { sequence, partitionkey, ...event })) return false;
      return sequence > (one.states.get(partitionkey)?.sequence ?? "");
    });
  }

  check(one) {
    const wanted = this.expected(one).map(({ sequence }) => sequence);
    const got = one.got.map(({ sequence }) => sequence);
    // what retention has removed cannot be compared any more
    assert.deepEqual(got.filter((sequence) => Number(sequence) > this.log.floor), wanted);
    assert.deepEqual(got, [...new Set(got)].sort(), "in order, and each once");
  }
}

test("a thousand histories: each subscription gets everything, once, in order, whatever is cut", async () => {
  const seen = { cuts: 0, resets: 0, redials: 0, held: 0 };
  for (let seed = 1; seed <= 1000; seed++) {
    const random = chance(seed);
    const pick = (list) => list[Math.floor(random() * list.length)];
    const house = new House();
    let logs = 1;
    const steps = 60 + Math.floor(random() * 240);
    try {
      for (let step = 0; step < steps; step++) {
        const dice = random();
        if (dice < 0.3) house.happen(pick(TASKS), pick(TYPES));
        else if (dice < 0.6) house.read();
        else if (dice < 0.7) house.hear();
        else if (dice < 0.88) house.wire.pending().forEach((one) => random() < 0.7 && house.wire.step(one, 1 + Math.floor(random() * 3)));
        else if (dice < 0.93) {
          const after = random() < 0.2 ? at(Math.floor(random() * (house.log.head + 1))) : null;
          if (house.subscribers.length < 6) house.add(pick(FILTERS), { snapshot: random() < 0.5, after });
        } else if (dice < 0.96) {
          house.cut();
          seen.cuts++;
        } else if (dice < 0.97 && house.subscribers.length) {
          const [gone] = house.subscribers.splice(Math.floor(random() * house.subscribers.length), 1);
          gone.remove();
        } else if (dice < 0.975) house.log.trim(Math.floor(random() * house.log.head));
        else if (dice < 0.978) {
          house.log = new Log();
          house.log.epoch = `log${++logs}`;
          house.cut();
        }
        if (random() < 0.5) await turn();
        for (const one of house.subscribers) seen.held = Math.max(seen.held, one.group?.held.length ?? 0);
      }
      await house.settle();
      for (const one of house.subscribers) {
        assert.deepEqual(one.errors, []);
        house.check(one);
        seen.resets += one.resets;
      }
      seen.redials += house.redials;
      if (house.subscribers.length) {
        const [epoch, reached] = house.client.position().split(":");
        assert.equal(epoch, house.log.epoch);
        for (const one of house.subscribers)
          assert.equal(house.expected(one).at(-1)?.sequence > reached, false, "the position is behind what everybody has");
      }
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    }
  }
  // else the test would not have tested what it is for
  assert(seen.cuts > 500 && seen.resets > 50 && seen.redials > 100 && seen.held > 5, JSON.stringify(seen));
});

test("many tasks share few commands, and leave with one", async () => {
  const house = new House();
  await house.settle();
  const keys = Array.from({ length: 450 }, (_, index) => `a/${index}`);
  const many = keys.map((key) => house.add({ task: [key] }, { snapshot: true }));
  const heard = [];
  for (let busy = true; busy; ) {
    await turn();
    heard.push(...house.commands.filter((command) => !heard.includes(command)));
    busy = house.hear() || house.read() || house.wire.pending().length > 0;
    for (const one of house.wire.pending()) house.wire.step(one, 1000);
  }
  assert.deepEqual(heard.map(({ op, filter }) => [op, filter.task.length]), [["subscribe", 200], ["subscribe", 200], ["subscribe", 50]]);
  assert.deepEqual(heard.flatMap(({ filter }) => filter.task), keys);
  for (const one of many) one.remove();
  assert.deepEqual(house.commands.map(({ op }) => op), ["unsubscribe", "unsubscribe", "unsubscribe"]);
});

test("what is added and taken away in one turn is never asked for", async () => {
  const house = new House();
  await house.settle();
  house.add({}).remove();
  await turn();
  assert.deepEqual(house.commands, []);
});

test("more than may be held is not held: a new connection brings it", async () => {
  const house = new House();
  const first = house.add({ source: ["a"] });
  const second = house.add({ source: ["a"] });
  await house.settle();
  house.cut();
  for (let count = 0; count < 12_000; count++) house.happen("a/1", TYPES[1]);
  await house.settle();
  assert(house.redials > 0);
  house.check(first);
  house.check(second);
});

test("a subscription that is refused fails, the others go on", async () => {
  const house = new House();
  const wrong = house.add({ colour: ["red"] });
  const right = house.add({});
  await turn();
  house.read();
  const [{ id }] = house.commands.splice(0);
  house.client.message({ id: "x", type: "stream.error", sequence: at(0), data: { code: "invalid_field", message: "no", field: "f", id } });
  await house.settle();
  house.happen("a/1", TYPES[0]);
  await house.settle();
  assert.deepEqual(wrong.errors.map(({ code, message }) => [code, message]), [["invalid_field", "no"]]);
  assert.deepEqual(wrong.got, []);
  house.check(right);
  assert.equal(right.got.length, 1);
});

test("the same occurrence in another log is the same event", async () => {
  const house = new House();
  const one = house.add({});
  await house.settle();
  house.happen("a/1", TYPES[0], "same");
  await house.settle();
  house.log = new Log();
  house.log.epoch = "log2";
  house.cut();
  await house.settle();
  assert.equal(one.resets, 1);
  house.happen("a/1", TYPES[0], "same");
  house.happen("a/1", TYPES[2], "other");
  await house.settle();
  assert.deepEqual(one.got.map(({ id }) => id), ["other"]);
});
