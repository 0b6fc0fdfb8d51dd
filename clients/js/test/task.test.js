import assert from "node:assert/strict";
import { test } from "node:test";

import { TaskFailed } from "../src/client.js";
import { connected, turn } from "./fakes.js";
import { at } from "./model.js";

const state = (status, more = {}) => ({ task: { key: "a/1", source: "a", status, progress: null, ...more }, result: null, error: null });

/** A task that is followed on an open connection, and how to let something happen to it. */
async function following(t, options) {
  const house = await connected(t);
  await house.socket.accept();
  await house.socket.sync(10);
  const task = house.client.task("a/1", options);
  await turn();
  const { id } = house.socket.sent.at(-1);
  let sequence = 10;
  return {
    ...house, task,
    get socket() {
      return house.socket;
    },
    /** States of a subscription that starts, or starts over. */
    async states(data, resume) {
      await house.socket.say("stream.subscribed", { id, resume, sequence: at(sequence) });
      if (data) await house.socket.say("task.snapshot", data, { sequence: at(sequence), partitionkey: "a/1" });
    },
    async snapshot(data, resume = "snapshot") {
      await this.states(data, resume);
      await house.socket.say("stream.synced", { id, sequence: at(sequence) });
    },
    happens: (type, data) => house.socket.say(type, data, { sequence: at(++sequence), partitionkey: "a/1" }),
  };
}

test("a task has a state, events, and an end", async (t) => {
  const house = await following(t);
  const heard = [];
  house.task.on("change", ({ task }) => heard.push(task.status));
  house.task.on("task.progressed", ({ data }) => heard.push(data.task.progress));
  house.task.on("*", ({ type }) => heard.push(type));
  assert.deepEqual(house.socket.sent.at(-1), { op: "subscribe", id: "2", filter: { task: ["a/1"] }, snapshot: true });
  assert.equal(house.task.state, null);
  await house.snapshot(state("queued"));
  assert.equal(house.task.state.task.status, "queued");
  await house.happens("task.progressed", state("running", { progress: 40 }));
  const final = { ...state("succeeded"), result: { url: "u" } };
  await house.happens("task.succeeded", final);
  assert.deepEqual(heard, ["queued", "task.snapshot", "running", 40, "task.progressed", "succeeded", "task.succeeded"]);
  assert.deepEqual(await house.task.done, final);
  assert.equal(house.socket.sent.at(-1).op, "unsubscribe");
});

test("a task that is over already is done at once", async (t) => {
  const house = await following(t);
  await house.snapshot(state("succeeded"));
  assert.equal((await house.task.done).task.status, "succeeded");
});

test("every other end rejects, with the final state", async (t) => {
  for (const [data, code, message] of [
    [{ ...state("failed"), error: { code: "OOM", message: "out of memory", suggestion: null } }, "OOM", "out of memory"],
    [state("cancelled"), "cancelled", "a/1 cancelled"],
    [state("deleted"), "deleted", "a/1 deleted"],
  ]) {
    const house = await following(t);
    await house.happens("task.progressed", state("running")); // before it is in step: nothing is lost
    await house.snapshot(state("running"));
    await house.happens(`task.${data.task.status}`, data);
    await assert.rejects(house.task.done, (error) => {
      assert(error instanceof TaskFailed);
      assert.deepEqual([error.code, error.message, error.data], [code, message, data]);
      return true;
    });
    assert.equal(house.task.error, null);
  }
});

test("it is followed beyond its end where that is wanted", async (t) => {
  const house = await following(t, { follow: true });
  await house.snapshot(state("failed"));
  await assert.rejects(house.task.done, TaskFailed);
  await house.happens("task.retried", state("queued"));
  assert.equal(house.task.state.task.status, "queued");
  house.task.close();
  assert.equal(house.socket.sent.at(-1).op, "unsubscribe");
});

test("iterating brings the newest state, and the last one always", async (t) => {
  const house = await following(t);
  const seen = [];
  let slow = Promise.resolve();
  const reading = (async () => {
    for await (const { task } of house.task) {
      seen.push(task.progress);
      await slow;
    }
  })();
  await house.snapshot(state("running", { progress: 1 }));
  let go;
  slow = new Promise((resolve) => (go = resolve));
  await house.happens("task.progressed", state("running", { progress: 2 }));
  for (let progress = 3; progress < 50; progress++) await house.happens("task.progressed", state("running", { progress }));
  await house.happens("task.succeeded", state("succeeded", { progress: 100 }));
  go();
  await reading;
  assert.deepEqual(seen, [1, 2, 100]);
  const again = [];
  for await (const { task } of house.task) again.push(task.progress);
  assert.deepEqual(again, [100]);
});

test("a signal ends it with its reason", async (t) => {
  const controller = new AbortController();
  const house = await following(t, { signal: controller.signal });
  const reading = (async () => {
    for await (const { task } of house.task) assert.equal(task.status, "running");
  })();
  await house.snapshot(state("running"));
  const reason = new Error("left the page");
  controller.abort(reason);
  await assert.rejects(house.task.done, reason);
  await assert.rejects(reading, reason);
  assert.equal(house.socket.sent.at(-1).op, "unsubscribe");
  const late = house.client.task("a/2", { signal: controller.signal });
  await assert.rejects(late.done, reason);
  assert.equal(late.error, reason);
});

test("closing ends iterations quietly", async (t) => {
  const house = await following(t);
  const reading = (async () => {
    for await (const _ of house.task);
  })();
  await house.snapshot(state("running"));
  house.task.close();
  await reading;
  await assert.rejects(house.task.done, { name: "AbortError" });
});

test("a reset is told; the state is what the new log says, or nothing", async (t) => {
  for (const [known, wanted] of [[state("queued"), "queued"], [null, undefined]]) {
    const house = await following(t);
    const heard = [];
    await house.states(state("running"), "snapshot");
    house.task.on("reset", () => heard.push("reset"));
    house.task.on("change", (data) => heard.push(data?.task.status));
    await house.snapshot(known, "reset");
    assert.deepEqual(heard, ["reset", wanted]);
    assert.equal(house.task.state?.task.status, wanted);
  }
});

test("one listener's mistake stops no other, and is not swallowed", async (t) => {
  const house = await following(t);
  const caught = [];
  const old = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => caught.push(error.message));
  t.after(() => {
    process.removeAllListeners("uncaughtException");
    for (const listener of old) process.on("uncaughtException", listener);
  });
  const heard = [];
  house.task.on("change", () => {
    throw new Error("mistake");
  });
  house.task.on("change", (data) => heard.push(data.task.status));
  await house.snapshot(state("running"));
  assert.deepEqual(heard, ["running"]);
  assert.deepEqual(caught, ["mistake"]);
});

test("a subscription ends by its function or its signal", async (t) => {
  const house = await connected(t);
  const controller = new AbortController();
  await house.socket.accept();
  await house.socket.sync(0);
  const heard = [];
  const off = house.client.subscribe({ source: "a" }, () => heard.push(1));
  await turn();
  await house.socket.sync(0);
  house.client.subscribe({ source: "a" }, () => heard.push(2), { signal: controller.signal });
  house.client.subscribe({ source: "a" }, () => heard.push(3), { signal: AbortSignal.abort() });
  await turn();
  await house.socket.sync(0);
  await house.socket.say("task.started", state("running"), { sequence: at(1), partitionkey: "a/1" });
  off();
  await house.socket.say("task.started", state("running"), { sequence: at(2), partitionkey: "a/1" });
  controller.abort();
  await house.socket.say("task.started", state("running"), { sequence: at(3), partitionkey: "a/1" });
  assert.deepEqual(heard, [1, 2, 2]);
  off();
});
