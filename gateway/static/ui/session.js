/**
 * The token that a person signed in with. Owns that it is in this tab's `sessionStorage` and in no URL, log or other tab.
 * @module
 */

const KEY = "mainstem.token";

export const session = {
  /** @returns {string | null} */
  get token() {
    return sessionStorage.getItem(KEY);
  },
  /** @param {string | null} token */
  set token(token) {
    if (token === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, token);
  },
};

/**
 * What a JSON Web Token says of itself; null where it is another kind of token. Nothing is verified: that is the gateway's part.
 * @param {string | null} token
 * @returns {{subject: string | null, scope: string | null, expires: number | null} | null} `expires` in ms
 */
export function claims(token) {
  try {
    const part = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(part), (char) => char.charCodeAt(0));
    const { sub, scope, exp } = JSON.parse(new TextDecoder().decode(bytes));
    return {
      subject: typeof sub === "string" ? sub : null,
      scope: typeof scope === "string" ? scope : null,
      expires: Number.isFinite(exp) ? exp * 1000 : null,
    };
  } catch {
    return null; // an opaque token
  }
}
