/**
 * Addresses of pages. They are in the fragment, so that no server and no proxy has to know them; a token never is.
 * @module
 */

/** A name as a part of an address; what is no text at all (half of a character) cannot be in one. @param {string} name */
export const encoded = (name) => encodeURIComponent(name.toWellFormed());

/** @param {string} page @param {...string} names */
export const linkTo = (page, ...names) => `#/${[page, ...names.map(encoded)].join("/")}`;

/** @returns {{page: string, names: string[]}} */
export function here() {
  const [path] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, ...names] = path.split("/");
  try {
    return { page: page || "overview", names: names.map(decodeURIComponent) };
  } catch {
    return { page: "nowhere", names: [] }; // a stray per cent sign
  }
}
