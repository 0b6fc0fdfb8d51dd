/**
 * Listeners by name. Owns that one listener's mistake stops no other and is never swallowed.
 * @module
 */
/**
 * Calls a function of the application. What it throws is reported like any uncaught error, outside of this call.
 * @param {(...args: any[]) => unknown} fn
 * @param {...unknown} args
 */
export function call(fn: (...args: any[]) => unknown, ...args: unknown[]): void;
export function emitter(): {
    /**
     * @param {string} name
     * @param {(...args: any[]) => unknown} fn
     * @returns {() => void} takes the listener away
     */
    on(name: string, fn: (...args: any[]) => unknown): () => void;
    /**
     * @param {string} name
     * @param {...unknown} args
     * @returns {boolean} whether anybody listened
     */
    emit(name: string, ...args: unknown[]): boolean;
};
