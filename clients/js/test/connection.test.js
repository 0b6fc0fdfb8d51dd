import assert from "node:assert/strict";
import { test } from "node:test";

import { StreamRefused, createClient } from "../src/client.js";
import { FakeSocket, browser, clock, connected, token, turn } from "./fakes.js";
import { at } from "./model.js";

const authentications = ({ sent }) => sent.filter(({ op }) => op === "authenticate").map(({ token }) => token);

test("it connects once it is asked for something, to the stream below the url", async (t) => {
  const urls = {
    "http://gateway.test": "ws://gateway.test/v1/stream?subscribe=none",
    "https://gateway.test/": "wss://gateway.test/v1/stream?subscribe=none",
    "https://gateway.test/base": "wss://gateway.test/base/v1/stream?subscribe=none",
    "wss://gateway.test/base/v1/stream?x=1#y": "wss://gateway.test/base/v1/stream?subscribe=none",
  };
  for (const [url, wanted] of Object.entries(urls)) {
    FakeSocket.all = [];
    const client = createClient({ url, WebSocket: FakeSocket });
    assert.equal(client.state, "idle");
    await turn();
    assert.equal(FakeSocket.all.length, 0);
    client.subscribe(null, () => {});
    await turn();
    assert.deepEqual(FakeSocket.all.map((socket) => socket.url), [wanted]);
    assert.deepEqual(FakeSocket.all[0].protocols, ["cloudevents.json"]);
    client.close();
    assert(FakeSocket.all[0].closed);
  }
  assert.throws(() => createClient({ WebSocket: FakeSocket }), TypeError); // this file came from no gateway
  assert.throws(() => createClient({ url: "ftp://gateway.test", WebSocket: FakeSocket }), TypeError);
});

test("without a WebSocket it says so", { skip: "WebSocket" in globalThis && "this Node has one" }, () => {
  assert.throws(() => createClient({ url: "http://gateway.test" }), /WebSocket/);
});

test("close codes that mean never stop it, and everybody is told why", async (t) => {
  for (const code of [1008, 1009, 4000, 4001, 4003, 4009, 4099]) {
    await t.test(String(code), async (t) => {
      const pass = clock(t);
      const house = await connected(t);
      await house.socket.accept();
      const task = house.client.task("a/1");
      await house.socket.end(code, "why");
      await pass(120_000);
      assert.equal(FakeSocket.all.length, 1);
      assert.equal(house.client.state, "closed");
      assert.deepEqual(house.errors.map(({ name, code, message }) => [name, code, message]), [["StreamRefused", code, "why"]]);
      await assert.rejects(task.done, (error) => error === house.errors[0] && error instanceof StreamRefused);
      assert.equal(task.error, house.errors[0]);
      assert.throws(() => house.client.subscribe(null, () => {}), house.errors[0]);
      await assert.rejects(house.client.task("a/2").done, house.errors[0]);
    });
  }
});

test("other closes bring it back: at once, when it was told to, or after a growing wait with jitter", async (t) => {
  const cases = [
    { code: 4208, hint: 0, wait: 0 },
    { code: 4299, wait: 0 },
    { code: 1001, hint: 1234, wait: 1234 },
    { code: 1001, wait: 250 },
    { code: 1006, wait: 250 },
    { code: 1011, hint: 900, wait: 900 },
    { code: 4129, hint: 100, wait: 250 },
    { code: 4129, hint: 3000, wait: 3000 },
  ];
  for (const { code, hint, wait } of cases) {
    await t.test(`${code} ${hint}`, async (t) => {
      const pass = clock(t);
      const house = await connected(t);
      await house.socket.accept();
      if (hint !== undefined) await house.socket.say("stream.closing", { reason: "r", reconnect_after_ms: hint, code });
      await house.socket.end(code);
      assert.equal(house.client.state, "waiting");
      if (wait) await pass(wait - 1);
      assert.equal(FakeSocket.all.length, 1);
      await pass(1);
      assert.equal(FakeSocket.all.length, 2);
      assert.deepEqual(house.errors, []);
    });
  }
});

test("waits grow to the limit, and begin anew after a connection that lasted", async (t) => {
  const pass = clock(t);
  const house = await connected(t, { backoff: { initial: 1000, max: 8000 }, random: () => 1 });
  const waits = [];
  for (let round = 0; round < 6; round++) {
    const known = FakeSocket.all.length;
    await house.socket.end(1006);
    let waited = 0;
    for (; FakeSocket.all.length === known; waited += 500) await pass(500);
    waits.push(waited);
  }
  assert.deepEqual(waits, [1000, 2000, 4000, 8000, 8000, 8000]);
  await house.socket.accept();
  await pass(10_000);
  const known = FakeSocket.all.length;
  await house.socket.end(1006);
  await pass(999);
  assert.equal(FakeSocket.all.length, known);
  await pass(1);
  assert.equal(FakeSocket.all.length, known + 1);
});

test("even 'at once' waits where no connection lasts", async (t) => {
  const pass = clock(t);
  const house = await connected(t);
  for (let round = 0; round < 3; round++) {
    await house.socket.accept();
    await house.socket.end(4208);
    await pass(0);
  }
  assert.equal(FakeSocket.all.length, 4);
  await house.socket.accept();
  await house.socket.end(4208);
  await pass(1000);
  assert.equal(FakeSocket.all.length, 4);
  await pass(1000);
  assert.equal(FakeSocket.all.length, 5);
});

test("an attempt that gets no answer is given up", async (t) => {
  const pass = clock(t);
  const house = await connected(t);
  await pass(9_999);
  assert.equal(FakeSocket.all.length, 1);
  await pass(1);
  assert(FakeSocket.all[0].closed);
  await pass(250);
  assert.equal(FakeSocket.all.length, 2);
  // what the first one does now is of no interest
  FakeSocket.all[0].onmessage?.({ data: "{}" });
  await FakeSocket.all[0].end(4003);
  assert.deepEqual(house.errors, []);
});

test("the token is the first thing that is said; a new one is asked for with every connection", async (t) => {
  const pass = clock(t);
  let asked = 0;
  const house = await connected(t, { getToken: async () => `opaque-${++asked}` });
  await house.socket.accept();
  assert.deepEqual(house.socket.sent[0], { op: "authenticate", token: "opaque-1" });
  assert.equal(house.socket.sent[1].op, "subscribe");
  assert(!house.socket.url.includes("opaque"));
  await pass(3_600_000);
  await house.socket.end(1006);
  await pass(250);
  await house.socket.accept();
  assert.deepEqual(authentications(house.socket), [`opaque-${asked}`]);
});

test("a token is renewed on the open connection before it expires", async (t) => {
  const pass = clock(t);
  const given = [];
  const house = await connected(t, { getToken: () => given[given.push(token([300, 60, 2][given.length] ?? 3600)) - 1] });
  await house.socket.accept();
  await pass(269_999); // 30 s before its end
  assert.equal(given.length, 1);
  await pass(1);
  assert.deepEqual(authentications(house.socket), given);
  assert.equal(given.length, 2);
  await pass(48_000); // a fifth before its end
  assert.equal(given.length, 3);
  await pass(1_600);
  assert.equal(given.length, 4);
  assert.deepEqual(authentications(house.socket), given);
  assert.deepEqual(house.errors, []);
});

test("a renewal that fails is told; the connection goes on", async (t) => {
  const pass = clock(t);
  let asked = 0;
  const house = await connected(t, {
    getToken: () => {
      if (asked++) throw new Error("the backend is away");
      return token(100);
    },
  });
  await house.socket.accept();
  await pass(80_000);
  assert.deepEqual(house.errors.map(({ message }) => message), ["the backend is away"]);
  assert.equal(house.client.state, "open");
  await house.socket.say("stream.error", { code: "bad_token", message: "The token is not valid.", field: "token", id: null });
  assert.deepEqual(house.errors.map(({ code }) => code), [undefined, "bad_token"]);
  assert.equal(house.client.state, "open");
});

test("an expired token brings another one, where there is a way to get one", async (t) => {
  const pass = clock(t);
  let asked = 0;
  const house = await connected(t, { getToken: () => `t${++asked}` });
  await house.socket.accept();
  await house.socket.sync(7);
  await house.socket.end(4009);
  await pass(0);
  await house.socket.accept();
  assert.deepEqual(authentications(house.socket), ["t2"]);
  assert.equal(house.socket.sent.at(-1).after, `log1:${at(7)}`);
  assert.deepEqual(house.errors, []);
});

test("a token that cannot be had is told, and asked for again", async (t) => {
  const pass = clock(t);
  let asked = 0;
  const house = await connected(t, {
    getToken: async () => {
      if (++asked < 3) throw new Error(`no ${asked}`);
      return "t";
    },
  });
  assert.equal(house.client.state, "waiting");
  await pass(250);
  await pass(500);
  await house.socket.accept();
  assert.deepEqual(house.errors.map(({ message }) => message), ["no 1", "no 2"]);
  assert.deepEqual(authentications(house.socket), ["t"]);
});

test("a token that comes too late for its attempt is not used", async (t) => {
  const pass = clock(t);
  const answers = [];
  await connected(t, { getToken: () => new Promise((resolve) => answers.push(resolve)) });
  await pass(10_000);
  await pass(250);
  answers[0]("late");
  await turn();
  assert.equal(FakeSocket.all.length, 0);
  answers[1]("good");
  await turn();
  await FakeSocket.all[0].accept();
  assert.deepEqual(authentications(FakeSocket.all[0]), ["good"]);
});

test("a quiet connection is asked whether it lives, and left where it does not answer", async (t) => {
  const pass = clock(t);
  const house = await connected(t);
  house.socket.mute = true;
  await house.socket.accept();
  await house.socket.sync();
  await pass(25_000); // something was heard in this time
  assert(!house.socket.sent.some(({ op }) => op === "ping"));
  await pass(25_000);
  assert.equal(house.socket.sent.at(-1).op, "ping");
  await house.socket.say("stream.pong", {});
  await pass(10_000);
  assert.equal(house.client.state, "open");
  await pass(50_000);
  assert.equal(house.socket.sent.filter(({ op }) => op === "ping").length, 2);
  await pass(10_000);
  assert(house.socket.closed);
  assert.equal(house.client.state, "waiting");
});

test("without a network it waits for one", async (t) => {
  const pass = clock(t);
  const { network } = browser(t);
  const house = await connected(t);
  await house.socket.accept();
  network(false);
  await house.socket.end(1006);
  await pass(300_000);
  assert.equal(FakeSocket.all.length, 1);
  assert.equal(house.client.state, "offline");
  network(true);
  await pass(0);
  assert.equal(FakeSocket.all.length, 2);
  await house.socket.accept();
  assert.deepEqual(house.states, ["connecting", "open", "waiting", "offline", "connecting", "open"]);
});

test("a hidden page comes back without hurry, or as soon as it is looked at", async (t) => {
  const pass = clock(t);
  const { show } = browser(t);
  const house = await connected(t);
  await house.socket.accept();
  show(false);
  await house.socket.end(1006);
  await pass(10_249);
  assert.equal(FakeSocket.all.length, 1);
  await pass(1);
  assert.equal(FakeSocket.all.length, 2);
  await house.socket.end(1006);
  await pass(400);
  show(true);
  await pass(99); // looking does not shorten what the backoff asks for
  assert.equal(FakeSocket.all.length, 2);
  await pass(1);
  assert.equal(FakeSocket.all.length, 3);
});

test("a page that is looked at again asks whether its connection lives", async (t) => {
  const pass = clock(t);
  const { show } = browser(t);
  const house = await connected(t);
  house.socket.mute = true;
  await house.socket.accept();
  show(false);
  assert(!house.socket.sent.some(({ op }) => op === "ping"));
  show(true);
  assert.equal(house.socket.sent.at(-1).op, "ping");
  await pass(10_000);
  assert.equal(house.client.state, "waiting");
});

test("closing ends everything, at any time", async (t) => {
  const pass = clock(t);
  const { network } = browser(t);
  const house = await connected(t);
  await house.socket.accept();
  const task = house.client.task("a/1");
  await house.socket.end(1006);
  house.client.close();
  await pass(300_000);
  network(true);
  await pass(0);
  assert.equal(FakeSocket.all.length, 1);
  assert.deepEqual(house.states, ["connecting", "open", "waiting", "closed"]);
  assert.deepEqual(house.errors, []);
  await assert.rejects(task.done, { name: "AbortError" });
  house.client.close();
});

test("a browser that refuses to connect at all is told once, and not asked again", async (t) => {
  const pass = clock(t);
  class Refusing {
    constructor() {
      throw new DOMException("insecure", "SecurityError");
    }
  }
  const house = await connected(t, { WebSocket: Refusing });
  await pass(60_000);
  assert.deepEqual(house.errors.map(({ name }) => name), ["SecurityError"]);
  assert.equal(house.client.state, "closed");
});

test("an error that nobody listens to is shown", async (t) => {
  const shown = t.mock.method(console, "error", () => {});
  FakeSocket.all = [];
  const client = createClient({ url: "http://gateway.test", WebSocket: FakeSocket });
  client.subscribe(null, () => {});
  await turn();
  await FakeSocket.all[0].end(4003, "not_allowed");
  assert.deepEqual(shown.mock.calls.map(({ arguments: [, error] }) => error.message), ["not_allowed"]);
});

test("notices are told by their type", async (t) => {
  const house = await connected(t);
  const told = [];
  const off = house.client.on("stream.conflated", ({ data }) => told.push(data));
  await house.socket.accept();
  await house.socket.say("stream.conflated", { task: "a/1", skipped: 3 });
  off();
  await house.socket.say("stream.conflated", { task: "a/1", skipped: 4 });
  assert.deepEqual(told, [{ task: "a/1", skipped: 3 }]);
});
