import assert from "node:assert/strict";
import { test } from "node:test";

import { GlobalWindow } from "happy-dom";

import { connected, turn } from "./fakes.js";
import { at } from "./model.js";

// before React looks for a document
const window = new GlobalWindow();
for (const [name, value] of Object.entries({ window, document: window.document, navigator: window.navigator }))
  Object.defineProperty(globalThis, name, { value, configurable: true });
globalThis.IS_REACT_ACT_ENVIRONMENT = true;
const { StrictMode, act, createElement: h } = await import("react");
const { createRoot } = await import("react-dom/client");
const { renderToString } = await import("react-dom/server");
const { useConnection, useTask } = await import("../src/react.js");

const state = (key, status, progress) => ({ task: { key, source: "a", status, progress }, result: null, error: null });

function Bar({ client, id }) {
  const { data, error } = useTask(client, id);
  return h("p", null, error ? error.message : data ? `${data.task.status} ${data.task.progress}` : "nothing");
}

function Light({ client }) {
  return h("i", null, useConnection(client));
}

/** Something rendered, and the text of it. */
async function rendered(t, element) {
  const root = createRoot(document.createElement("div"));
  const show = (next) => act(async () => root.render(next));
  await show(element);
  t.after(() => act(async () => root.unmount()));
  return { show, unmount: () => act(async () => root.unmount()), text: () => root._internalRoot.containerInfo.textContent };
}

async function synced(house, key, data, sequence = 5) {
  const { id } = house.socket.sent.findLast(({ op }) => op === "subscribe");
  await act(async () => {
    await house.socket.say("stream.subscribed", { id, resume: "snapshot", sequence: at(sequence) });
    if (data) await house.socket.say("task.snapshot", data, { sequence: at(sequence), partitionkey: key });
    await house.socket.say("stream.synced", { id, sequence: at(sequence) });
  });
}

test("a component shows the task that it is given", async (t) => {
  const house = await connected(t);
  await house.socket.accept();
  await house.socket.sync(5);
  const bar = (id) => h(StrictMode, null, h(Bar, { client: house.client, id }), h(Light, { client: house.client }));
  const { show, text, unmount } = await rendered(t, bar("a/1"));
  assert.equal(text(), "nothingopen");
  await synced(house, "a/1", state("a/1", "running", 10));
  assert.equal(text(), "running 10open");
  await act(() => house.socket.say("task.progressed", state("a/1", "running", 60), { sequence: at(6), partitionkey: "a/1" }));
  assert.equal(text(), "running 60open");
  await act(() => house.socket.say("task.succeeded", state("a/1", "succeeded", 100), { sequence: at(7), partitionkey: "a/1" }));
  await act(() => house.socket.say("task.retried", state("a/1", "queued", 0), { sequence: at(8), partitionkey: "a/1" }));
  assert.equal(text(), "queued 0open");

  await show(bar("a/2"));
  assert.equal(text(), "nothingopen");
  await synced(house, "a/2", state("a/2", "queued", 3), 8);
  assert.equal(text(), "queued 3open");
  const asked = house.socket.sent.filter(({ op, filter }) => op === "subscribe" && filter.task);
  assert.deepEqual(asked.map(({ filter }) => filter.task), [["a/1"], ["a/2"]], "mounting twice, as StrictMode does, asks once");

  await show(bar(null));
  assert.equal(text(), "nothingopen");
  await unmount();
  assert.equal(house.socket.sent.filter(({ op }) => op === "unsubscribe").length, 2);
});

test("a task that cannot be followed is an error to show", async (t) => {
  const house = await connected(t);
  await house.socket.accept();
  await house.socket.sync(5);
  const { text } = await rendered(t, h(Bar, { client: house.client, id: "a/1" }));
  await act(() => house.socket.end(4003, "not_allowed"));
  assert.equal(text(), "not_allowed");
  await turn();
});

test("on a server there is nothing yet, and no connection", async (t) => {
  const house = await connected(t);
  const client = { ...house.client, task: () => assert.fail("connected while rendering") };
  assert.equal(renderToString(h(Bar, { client, id: "a/1" })), "<p>nothing</p>");
  assert.equal(renderToString(h(Light, { client })), "<i>idle</i>");
});
