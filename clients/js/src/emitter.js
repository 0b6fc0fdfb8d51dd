/**
 * Listeners by name. Owns that one listener's mistake stops no other and is never swallowed.
 * @module
 */

/**
 * Calls a function of the application. What it throws is reported like any uncaught error, outside of this call.
 * @param {(...args: any[]) => unknown} fn
 * @param {...unknown} args
 */
export function call(fn, ...args) {
  try {
    fn(...args);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

export function emitter() {
  /** @type {Map<string, Set<{fn: (...args: any[]) => unknown}>>} */
  const listeners = new Map();
  return {
    /**
     * @param {string} name
     * @param {(...args: any[]) => unknown} fn
     * @returns {() => void} takes the listener away
     */
    on(name, fn) {
      let set = listeners.get(name);
      if (!set) listeners.set(name, (set = new Set()));
      const own = { fn }; // one function may be added twice
      set.add(own);
      return () => void set.delete(own);
    },
    /**
     * @param {string} name
     * @param {...unknown} args
     * @returns {boolean} whether anybody listened
     */
    emit(name, ...args) {
      const set = listeners.get(name);
      for (const { fn } of [...(set ?? [])]) call(fn, ...args);
      return !!set?.size;
    },
  };
}
