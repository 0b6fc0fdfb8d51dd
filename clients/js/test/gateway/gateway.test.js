// Against a started gateway, behind a proxy that cuts when told to: see tests/clients/js_house.py, which sets the environment.
import assert from "node:assert/strict";
import { test } from "node:test";

import { WebSocket } from "ws";

import { StreamRefused, TaskFailed, createClient } from "../../src/client.js";

const { MAINSTEM_URL: url, MAINSTEM_CONTROL: control } = process.env;
const KEY = "jobs/job-1";

/** Has something happen on the other side. */
async function order(what, options = {}) {
  const answer = await fetch(`${control}/${what}?${new URLSearchParams(options)}`, { method: "POST" });
  assert.equal(answer.status, 200);
  return answer.json();
}

const token = async (seconds, scope = "events:read") =>
  (await fetch(`${control}/token?${new URLSearchParams({ seconds, scope })}`)).text();

/** A client that is closed with the test, what went wrong, and the states it was in. */
function open(t, options = {}) {
  const client = createClient({ url, WebSocket, getToken: () => token(3600), backoff: { initial: 5, max: 100 }, ...options });
  const errors = [];
  const states = [];
  client.on("error", (error) => errors.push(error));
  client.on("state", (state) => states.push(state));
  t.after(() => client.close());
  return { client, errors, states };
}

/** Returns once something is so. It is looked at with every message and change of state. */
function until(client, condition) {
  if (condition()) return;
  return new Promise((resolve, reject) => {
    const look = () => {
      if (!condition()) return;
      clearTimeout(timer);
      for (const off of offs) off();
      resolve();
    };
    const offs = [
      client.subscribe(null, () => queueMicrotask(look)),
      ...["state", "error", "reset", "stream.synced", "stream.subscribed"].map((type) => client.on(type, () => queueMicrotask(look))),
    ];
    const timer = setTimeout(() => reject(new Error(`it never came to: ${condition}`)), 60_000);
  });
}

/** Numbers of the job's messages, as they came. */
const steps = (events) =>
  events.filter(({ type }) => type !== "task.snapshot").map(({ data }) => Number(data.detail.step.slice(5)));
const upTo = (count) => Array.from({ length: count }, (_, index) => index + 1);

/** A subscription, and what came for it. */
function recorded(client, filter, options) {
  const events = [];
  client.subscribe(filter, (event) => events.push(event), options);
  return events;
}

const inStep = (client) => {
  let count = 0;
  client.on("stream.synced", () => count++);
  return (wanted) => until(client, () => count >= wanted);
};

test("cuts", async (t) => {
  const { client, errors, states } = open(t);
  const synced = inStep(client);
  const all = recorded(client, { source: "jobs" });
  const progressed = recorded(client, { type: ["task.progressed"] });
  const task = client.task(KEY, { follow: true });
  const seen = [];
  task.on("*", ({ type, sequence }) => type !== "task.snapshot" && seen.push(sequence));
  await synced(3);
  await order("network", { budget: 40_000, cut: 1 });
  let said = 0;
  for (let round = 0; round < 24; round++) {
    await order("say", { count: 5 });
    await order("say", { count: 5, kind: "checkpoint" });
    said += 10;
  }
  const tasks = () => all.filter(({ type }) => type.startsWith("task."));
  await until(client, () => tasks().length >= said && progressed.length >= said / 2 && seen.length >= said);
  const { cuts } = await order("network");
  assert(cuts >= 10, `only ${cuts} cuts`);
  assert(states.filter((state) => state === "waiting").length >= 10);
  assert.deepEqual(steps(tasks()), upTo(said));
  assert.deepEqual(steps(progressed), upTo(said).filter((step) => (step - 1) % 10 < 5));
  assert.deepEqual(seen, tasks().map(({ sequence }) => sequence));
  assert.deepEqual(errors, []);
});

test("slow", async (t) => {
  const { client, errors } = open(t);
  const closes = [];
  client.on("stream.closing", ({ data }) => closes.push(data.code));
  const synced = inStep(client);
  const all = recorded(client, { type: "task.*" });
  await synced(1);
  await order("network", { flow: "stop" });
  await order("say", { kind: "checkpoint", count: 4000 });
  await order("published", { count: 4000 }); // 11 MB: more than the sockets and the gateway's buffer hold
  await order("network", { flow: "go" });
  await until(client, () => all.length >= 4000);
  assert.deepEqual(steps(all), upTo(4000));
  assert.deepEqual(closes.slice(0, 1), [4208]);
  assert.deepEqual(errors, []);
});

test("restart", async (t) => {
  const { client, errors, states } = open(t);
  const closes = [];
  client.on("stream.closing", ({ data }) => closes.push([data.code, data.reconnect_after_ms > 0]));
  const synced = inStep(client);
  const all = recorded(client, { type: "task.*" });
  await synced(1);
  await order("say", { count: 3 });
  await until(client, () => all.length === 3); // what a gateway has not read when it goes, nobody repeats
  await order("restart");
  await order("say", { count: 3 });
  await until(client, () => all.length >= 6);
  assert.deepEqual(steps(all), upTo(6));
  assert.deepEqual(closes, [[1001, true]]);
  assert.deepEqual(states.slice(0, 3), ["connecting", "open", "waiting"]);
  assert.equal(states.at(-1), "open");
  assert.deepEqual(errors, []);
});

test("reset", async (t) => {
  const { client, errors } = open(t);
  const resets = [];
  client.on("reset", (filter) => resets.push(filter));
  const synced = inStep(client);
  const all = recorded(client, { type: "task.*" });
  const task = client.task(KEY);
  const told = [];
  task.on("reset", () => told.push("reset"));
  task.on("change", (data) => told.push(data?.detail?.step ?? null));
  await synced(2);
  await order("say", { count: 2 });
  await until(client, () => all.length === 2);
  await order("restart", { log: "new" });
  await until(client, () => resets.length === 1 && told.includes("reset"));
  await order("say", { count: 1 });
  await until(client, () => all.length >= 3);
  assert.deepEqual(resets, [{ type: "task.*" }]);
  assert.deepEqual(steps(all), [1, 2, 3]);
  assert.deepEqual(told.filter((what) => what), ["step 1", "step 2", "reset", "step 3"]);
  assert.deepEqual(errors, []);
});

test("tokens", async (t) => {
  let asked = 0;
  // the first two are renewed on the open connection; the third one ends before anybody asks for another
  const { client, errors, states } = open(t, {
    getToken: () => {
      asked++;
      return asked < 3 ? token(4) : asked === 3 ? token(0.5) : token(3600);
    },
  });
  const closes = [];
  client.on("stream.closing", ({ data }) => closes.push(data.code));
  const synced = inStep(client);
  const all = recorded(client, { type: "task.*" });
  await synced(1);
  await order("say");
  await until(client, () => closes.length > 0);
  await order("say");
  await until(client, () => all.length >= 2 && client.state === "open");
  assert.deepEqual(steps(all), [1, 2]);
  assert.deepEqual(closes, [4009]);
  assert(asked >= 4);
  assert.deepEqual(states, ["connecting", "open", "waiting", "connecting", "open"]);
  assert.deepEqual(errors, []);
});

test("refusals", async (t) => {
  for (const [getToken, code] of [[() => "nonsense", 4001], [() => token(60, "webhooks:write"), 4003]]) {
    const { client, errors } = open(t, { getToken });
    await assert.rejects(client.task(KEY).done, (error) => error instanceof StreamRefused && error.code === code);
    assert.deepEqual(errors.map((error) => error.code), [code]);
    assert.equal(client.state, "closed");
  }
  // a token for single tasks may not have everything; what it may have goes on
  const { client, errors } = open(t, { getToken: () => token(60, "events:read:progress") });
  const nothing = recorded(client, null);
  const task = client.task(KEY);
  await order("say", { count: 2 });
  for await (const { redacted, task: { key } } of task) {
    assert.deepEqual([key, redacted], [KEY, true]);
    break;
  }
  assert.deepEqual(errors.map((error) => error.code), ["not_allowed"]);
  assert.deepEqual(nothing, []);
});

test("tasks", async (t) => {
  const { client, errors } = open(t);
  const reading = [];
  const all = recorded(client, { source: "jobs" });
  const task = client.task(KEY);
  const iterated = (async () => {
    for await (const data of task) reading.push(data.task.status);
  })();
  await order("say", { count: 3 });
  await until(client, () => task.state !== null);
  await order("say", { kind: "dead", status: "dead" });
  await assert.rejects(task.done, (error) => error instanceof TaskFailed && error.data.task.status === "failed");
  await iterated;
  assert.deepEqual([...new Set(reading)], ["running", "failed"]);
  assert.equal(all.at(-1).type, "task.failed");
  // run again, and seen by a client that comes back with the position that it had
  const { position } = client;
  await order("say", { kind: "retried", status: "pending" });
  await order("say", { kind: "completed", status: "completed" });
  const later = open(t).client;
  const missed = recorded(later, { task: KEY }, { after: position });
  await until(later, () => missed.length >= 2);
  assert.deepEqual(missed.map(({ type }) => type), ["task.retried", "task.succeeded"]);
  const final = await later.task(KEY).done;
  assert.equal(final.task.status, "succeeded", "also for who comes late");
  assert.equal(final.result.step, "step 6");
  assert.deepEqual(errors, []);
});
