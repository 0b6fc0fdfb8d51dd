/**
 * The HTTP API. Owns the base address, the token on each request, and what a refusal says in words.
 * @module
 */

import { session } from "./session.js";

/** Where the gateway is: the dashboard is at `ui/` below it, whatever a proxy has put in front. */
export const BASE = new URL("../", import.meta.url).href;

const PATIENCE = 20_000;

/** A refusal, or no answer at all (`status` 0). */
export class ApiError extends Error {
  name = "ApiError";

  /**
   * @param {number} status
   * @param {string} code
   * @param {string} message
   * @param {Record<string, unknown>} [problem]
   */
  constructor(status, code, message, problem = {}) {
    super(message);
    Object.assign(this, { status, code, problem });
  }
}

/** @type {Set<(error: ApiError) => void>} */
const refused = new Set();

/** Calls back whenever a request was refused for its token. @param {(error: ApiError) => void} fn */
export function onUnauthorized(fn) {
  refused.add(fn);
  return () => refused.delete(fn);
}

/**
 * @param {string} method
 * @param {string} path below the gateway, such as `v1/sources`
 * @param {{body?: object, signal?: AbortSignal, text?: boolean}} [options] `text`: the answer is none of JSON
 * @throws {ApiError} refused, or no answer; the signal's reason where it was aborted
 */
export async function call(method, path, { body, signal, text = false } = {}) {
  const { token } = session;
  const headers = new Headers();
  if (token !== null) headers.set("Authorization", `Bearer ${token}`);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const limit = AbortSignal.timeout(PATIENCE);
  let answer;
  let content;
  try {
    answer = await fetch(BASE + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      credentials: "same-origin",
      cache: "no-store",
    });
    content = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw new ApiError(0, "unreachable", limit.aborted ? "The gateway did not answer in time." : "The gateway cannot be reached.");
  }
  if (!answer.ok) throw refusal(answer, content);
  if (text) return content;
  return content === "" ? null : parsed(content);
}

/** @param {string} path @param {{signal?: AbortSignal, text?: boolean}} [options] */
export const get = (path, options) => call("GET", path, options);
/** @param {string} path @param {object} [body] */
export const post = (path, body) => call("POST", path, { body });
/** @param {string} path @param {object} body a JSON Merge Patch */
export const patch = (path, body) => call("PATCH", path, { body });
/** @param {string} path */
export const remove = (path) => call("DELETE", path);

/**
 * What is wrong with each field of a body, in the API's words: `retry_schedule[1]` is told at `retry_schedule`.
 * @param {Error & {problem?: Record<string, unknown>}} error
 * @returns {[field: string, detail: string][]}
 */
export function wrongFields({ problem }) {
  const errors = Array.isArray(problem?.errors) ? problem.errors : [];
  return errors.map(({ field, detail }) => {
    const [, root, index, rest] = /^([^.[]*)(?:\[(\d+)\])?\.?(.*)$/s.exec(String(field));
    const where = index !== undefined ? `value ${Number(index) + 1} ` : rest ? `${rest}: ` : "";
    return [root, `${where}${detail}`];
  });
}

/**
 * A query of lists, single values and nothing.
 * @param {Record<string, string | number | string[] | null | undefined>} fields
 */
export function query(fields) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(fields))
    for (const item of [value].flat()) if (item != null && item !== "") search.append(name, String(item));
  const text = search.toString();
  return text && `?${text}`;
}

function parsed(content) {
  try {
    return JSON.parse(content);
  } catch {
    throw new ApiError(0, "not_json", "Something other than the gateway answered: its answer is not JSON.");
  }
}

/** @param {Response} answer @param {string} content */
function refusal(answer, content) {
  const { status } = answer;
  let problem = {};
  try {
    problem = JSON.parse(content) ?? {};
  } catch {
    // a proxy's page; its status is all there is to say
  }
  const detail = typeof problem.detail === "string" ? problem.detail : `HTTP ${status}, and no reason was given.`;
  const error = new ApiError(status, String(problem.code ?? status), detail, problem);
  if (status === 401) for (const fn of [...refused]) fn(error);
  return error;
}
