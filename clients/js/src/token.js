/**
 * When a token has to be renewed. Must not know connections.
 * @module
 */

/** Milliseconds before the end at which a token is renewed, at most; and the shortest and longest wait for that. */
const AHEAD = 30_000;
const SHORTEST = 1_000;
const LONGEST = 2 ** 31 - 1; // a longer timeout fires at once

/**
 * Milliseconds until a token is to be renewed; null where it does not say when it ends, or has ended by this clock. The
 * gateway's clock decides (close code 4009): this only spares the reconnect.
 * @param {string} token
 * @param {number} now milliseconds since the epoch
 * @returns {number | null}
 */
export function renewIn(token, now) {
  const left = expiry(token) * 1000 - now;
  return left > 0 ? Math.min(LONGEST, Math.max(SHORTEST, left - Math.min(AHEAD, left / 5))) : null;
}

/**
 * The `exp` claim of a JSON Web Token; NaN where it is none. Nothing is verified: that is the gateway's part.
 * @param {string} token
 */
function expiry(token) {
  try {
    return Number(JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).exp);
  } catch {
    return NaN; // an opaque token
  }
}
