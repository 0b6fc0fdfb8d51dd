/**
 * What pages share: the current time, what is asked for again and again, and redrawing at a bounded pace.
 * @module
 */

import { get } from "./api.js";
import { useEffect, useReducer, useRef, useState } from "./html.js";

/**
 * Draws anew once something that can be listened to says so.
 * @param {{listen: (fn: () => void) => () => void}} subject
 * @param {number} [pause] ms at least between two drawings, for what is costly to draw
 */
export function useNews(subject, pause = 0) {
  const [, redraw] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    let timer;
    const draw = () => {
      timer = undefined;
      redraw();
    };
    const stop = subject.listen(pause ? () => (timer ??= setTimeout(draw, pause)) : redraw);
    return () => {
      clearTimeout(timer);
      stop();
    };
  }, [subject, pause]);
}

/** The time in ms, anew every so often, for what is told as "4 s ago". @param {number} [every] ms */
export function useNow(every = 1000) {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => set(Date.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

/**
 * A resource, asked for at once and then again and again while somebody looks. What was there stays while a newer answer
 * fails.
 * @param {string} path
 * @param {number} every ms
 * @returns {{data: any, error: any, refresh: () => void}}
 */
export function usePolled(path, every) {
  const [answer, set] = useState({ path, data: null, error: null });
  const again = useRef(() => {});
  useEffect(() => {
    const closing = new AbortController();
    let timer;
    let asking = false;
    let wanted = false;
    async function ask() {
      if (asking) return void (wanted = true);
      asking = true;
      clearTimeout(timer);
      let error = null;
      try {
        const data = await get(path, { signal: closing.signal });
        set({ path, data, error });
      } catch (failure) {
        if (closing.signal.aborted) return;
        error = failure;
        set((last) => ({ path, data: last.path === path ? last.data : null, error }));
      }
      asking = false;
      if (wanted) {
        wanted = false;
        return ask();
      }
      // Without the scope nothing changes by asking again.
      if (error?.status !== 403 && error?.status !== 401) timer = setTimeout(look, every);
    }
    const look = () => {
      if (document.visibilityState !== "hidden") ask();
    };
    again.current = ask;
    document.addEventListener("visibilitychange", look);
    ask();
    return () => {
      closing.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [path, every]);
  const current = answer.path === path ? answer : { data: null, error: null };
  return { data: current.data, error: current.error, refresh: () => again.current() };
}

/**
 * Asks until the answer is the one that is waited for, or for so long that there is none to wait for.
 * @template T
 * @param {() => Promise<T>} ask
 * @param {(answer: T) => boolean} enough
 * @param {{every: number, times: number, signal: AbortSignal}} options `every`: ms between two questions
 * @returns {Promise<T>} the last answer
 */
export async function follow(ask, enough, { every, times, signal }) {
  for (let left = times; ; left--) {
    const answer = await ask();
    if (left <= 1 || enough(answer)) return answer;
    await new Promise((resolve) => setTimeout(resolve, every));
    signal.throwIfAborted();
  }
}

/** A value that is kept in the address, so that a filtered page can be passed on and the way back works. */
export function useQuery() {
  const parse = () => new URLSearchParams(location.hash.split("?")[1] ?? "");
  const [fields, set] = useState(parse);
  useEffect(() => {
    const read = () => set(parse());
    addEventListener("hashchange", read);
    return () => removeEventListener("hashchange", read);
  }, []);
  /** @param {string} name @param {string} value */
  const change = (name, value) => {
    const next = new URLSearchParams(fields);
    if (value) next.set(name, value);
    else next.delete(name);
    const text = next.toString();
    history.replaceState(null, "", location.hash.split("?")[0] + (text && `?${text}`));
    set(next);
  };
  return [(name) => fields.get(name) ?? "", change];
}
