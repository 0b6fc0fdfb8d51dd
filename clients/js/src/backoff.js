/**
 * Whether and when to come back. Pure; must not know sockets or timers.
 * @module
 */

/** Quick deaths in a row after which even "at once" waits. */
const QUICK = 3;

/**
 * Close codes carry the verdict: 40xx (and 1008, 1009) do not come back, 42xx at once, 1001 when the gateway says so,
 * everything else after a wait with full jitter.
 * @param {number} code close code
 * @param {number | null | undefined} hint milliseconds, from the gateway's farewell
 * @param {number} tries connections in a row that did not last
 * @param {{initial: number, max: number}} limits milliseconds
 * @param {() => number} random
 * @returns {number | null} milliseconds; null: never
 */
export function wait(code, hint, tries, limits, random) {
  const kind = (code / 100) | 0;
  if (code === 1008 || code === 1009 || kind === 40) return null;
  if (code === 1001 && hint != null) return hint;
  if (kind === 42 && tries < QUICK) return 0;
  return Math.max(hint ?? 0, random() * Math.min(limits.max, limits.initial * 2 ** tries));
}
