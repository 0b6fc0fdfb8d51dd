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
export function wait(code: number, hint: number | null | undefined, tries: number, limits: {
    initial: number;
    max: number;
}, random: () => number): number | null;
