/**
 * Values as people read them. Owns that no text of an upstream can do anything but be read: control characters, invisible
 * ones and those that turn the direction of writing become visible escapes, unless a script or a picture needs them where they
 * are, and long texts are cut.
 * @module
 */

/** Characters of a name, of an excerpt, and of one text in a payload that are shown. */
export const NAME = 120;
export const EXCERPT = 400;
export const TEXT = 4000;

// C0 and C1 but tab and line feed, soft hyphen, marks and overrides of direction, zero-width and tag characters, separators.
const UNSEEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e0fff}]/gu;
const LINES = /[\t\n]/g;

const PICTURE = /\p{Extended_Pictographic}$/u;
const DRESSED = /\p{Extended_Pictographic}(?:\ufe0f|\p{Emoji_Modifier})?$/u; // in a colour of skin, or told to be a picture
const KEYCAP = /[0-9#*]$/;
const JOINED = "[\\p{sc=Arab}\\p{sc=Deva}\\p{sc=Beng}\\p{sc=Gujr}\\p{sc=Guru}\\p{sc=Knda}\\p{sc=Mlym}\\p{sc=Orya}\\p{sc=Sinh}\\p{sc=Taml}\\p{sc=Telu}]";
const [BEFORE, AFTER] = [new RegExp(`${JOINED}$`, "u"), new RegExp(`^${JOINED}`, "u")];

/** Whether an unseen character is a part of writing: it makes one picture of several, or shapes the letters beside it. */
function belongs(char, before, after) {
  if (char === "\ufe0f") return PICTURE.test(before) || (KEYCAP.test(before) && after.startsWith("\u20e3"));
  if (char === "\u200d" && DRESSED.test(before) && /^\p{Extended_Pictographic}/u.test(after)) return true;
  return (char === "\u200c" || char === "\u200d") && BEFORE.test(before) && AFTER.test(after);
}

/** @param {string} char @param {number} at @param {string} text */
const escape = (char, at, text) =>
  belongs(char, text.slice(Math.max(0, at - 4), at), text.slice(at + 1, at + 3)) ? char : `\\u${char.codePointAt(0).toString(16).padStart(4, "0")}`;

/**
 * A text of somebody else, harmless and no longer than `most` characters.
 * @param {unknown} value
 * @param {number} [most]
 * @param {boolean} [lines] line breaks stay
 */
export function visible(value, most = NAME, lines = false) {
  const text = String(value ?? "");
  const cut = text.length > most ? `${text.slice(0, most)}…` : text;
  const seen = cut.replace(UNSEEN, escape);
  return lines ? seen : seen.replace(LINES, " ");
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** 1,234 @param {number} value */
export const count = (value) => whole.format(value);
/** 1.2K @param {number} value */
export const compact = (value) => (value < 10_000 ? whole.format(value) : short.format(value));
/** "1 task", "2 tasks" @param {number} value @param {string} word */
export const many = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

/** events a second: 0, 0.4, 12 @param {number} value */
export const rate = (value) => (value === 0 || value >= 10 ? whole.format(value) : value.toFixed(1));

/** 850 µs, 3.2 ms, 1.4 s @param {number | null} seconds */
export function latency(seconds) {
  if (seconds === null) return "–";
  if (seconds === 0) return "0";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${seconds < 0.01 ? (seconds * 1000).toFixed(1).replace(".0", "") : Math.round(seconds * 1000)} ms`;
  return `${seconds.toFixed(1)} s`;
}

/** 4 s, 12 min, 3 h, 2 days @param {number} seconds */
export function span(seconds) {
  if (seconds < 1) return "less than 1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** "a", "a and b", "a, b and c" @param {string[]} words */
export const listed = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);

/** How long ago a time of the gateway was, or how far ahead it is. @param {string | null | undefined} time @param {number} now ms */
export function ago(time, now) {
  if (!time) return "never";
  const seconds = (now - Date.parse(time)) / 1000;
  if (Number.isNaN(seconds)) return visible(time, 40);
  if (seconds < -1) return `in ${span(-seconds)}`;
  return seconds < 1 ? "just now" : `${span(seconds)} ago`;
}

const clockTime = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const fullTime = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** 14:03:09 in the reader's own zone @param {string | number} time */
export function clock(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? visible(time, 40) : clockTime.format(date);
}

/** 21 Nov 2026, 14:03:09 @param {string | number} time */
export function moment(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? visible(time, 40) : fullTime.format(date);
}

/** A position without its leading noughts. @param {string} sequence */
export const position = (sequence) => visible(sequence, 40).replace(/^0+(?=\d)/, "");

/** The first letter large. @param {string} text */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
