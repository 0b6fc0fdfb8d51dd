/**
 * Milliseconds until a token is to be renewed; null where it does not say when it ends, or has ended by this clock. The
 * gateway's clock decides (close code 4009): this only spares the reconnect.
 * @param {string} token
 * @param {number} now milliseconds since the epoch
 * @returns {number | null}
 */
export function renewIn(token: string, now: number): number | null;
