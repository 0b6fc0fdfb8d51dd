import assert from "node:assert/strict";
import { test } from "node:test";

import { wait } from "../src/backoff.js";
import { lists, matches } from "../src/filter.js";
import { renewIn } from "../src/token.js";
import { token } from "./fakes.js";

const task = { key: "studio/1", source: "studio", kind: "image", status: "running" };
const event = { id: "e", type: "task.progressed", sequence: "1", partitionkey: "studio/1", data: { task } };
const notice = { id: "e", type: "source.gap", sequence: "1", data: { source: "studio" } };

test("a filter matches as the gateway's does", () => {
  const cases = [
    [null, event, true],
    [{}, notice, true],
    [{ source: "studio" }, event, true],
    [{ source: ["other", "studio"] }, notice, true],
    [{ source: [] }, event, true],
    [{ source: undefined }, event, true],
    [{ task: "studio/1" }, event, true],
    [{ task: "studio/2" }, event, false],
    [{ task: "studio/1" }, notice, false],
    [{ kind: "image", status: ["queued", "running"] }, event, true],
    [{ kind: "image", status: "queued" }, event, false],
    [{ status: "running" }, notice, false],
    [{ type: "task.progressed" }, event, true],
    [{ type: "task.progress" }, event, false],
    [{ type: "task.*" }, event, true],
    [{ type: ["source.*", "*"] }, event, true],
    [{ type: "task.*" }, notice, false],
    [{ type: "task.succeeded" }, { ...event, type: "task.snapshot" }, true],
    [{ kind: "im*" }, event, false],
    [{ colour: "red" }, event, false],
  ];
  for (const [filter, what, wanted] of cases) assert.equal(matches(lists(filter), what), wanted, JSON.stringify(filter));
});

test("a wait is never longer than the limit, nor shorter than what the gateway asks for", () => {
  const limits = { initial: 500, max: 20_000 };
  assert.equal(wait(1006, null, 0, limits, () => 1), 500);
  assert.equal(wait(1006, null, 3, limits, () => 1), 4000);
  assert.equal(wait(1006, undefined, 5000, limits, () => 1), 20_000);
  assert.equal(wait(1006, null, 50, limits, () => 0), 0);
  assert.equal(wait(4129, 700, 0, limits, () => 0), 700);
  assert.equal(wait(1001, 0, 9, limits, () => 1), 0);
  assert.equal(wait(4003, 700, 0, limits, () => 0), null);
});

test("a token is renewed before its end, where it tells it", () => {
  const now = Date.now();
  const near = (value, wanted) => assert(Math.abs(value - wanted) <= 1000, `${value} is not about ${wanted}`);
  near(renewIn(token(3600), now), 3_570_000);
  near(renewIn(token(100), now), 80_000);
  assert.equal(renewIn(token(1), now), 1000);
  assert.equal(renewIn(token(10 ** 9), now), 2 ** 31 - 1);
  for (const text of [token(0), token(-5), "opaque", "a.b.c", "", "e30.e30.e30", "a.bnVsbA.c"]) assert.equal(renewIn(text, now), null);
});
