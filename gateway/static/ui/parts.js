/**
 * What pages are put together from: states, bars, notes, buttons that ask first, filters, JSON.
 * @module
 */

import { wrongFields } from "./api.js";
import { html, useEffect, useId, useRef, useState } from "./html.js";
import { ago, clock, count, moment, sentence, TEXT, visible } from "./text.js";

/** A word with a dot in the colour of its meaning. */
export const Badge = ({ tone, children }) => html`<span class="badge" data-tone=${tone}>${children}</span>`;

/** A text of somebody else: isolated, cut, harmless. */
export const Data = ({ value, most, class: name = "", title = true }) => {
  const text = visible(value, most);
  return html`<bdi class="data ${name}" title=${title ? visible(value, TEXT) : undefined}>${text}</bdi>`;
};

/** When something was, for people; the exact time on demand. */
export const Time = ({ at, now }) =>
  at ? html`<time datetime=${visible(at, 40)} title=${moment(at)}>${now === undefined ? clock(at) : ago(at, now)}</time>` : html`<span>${now === undefined ? "–" : "never"}</span>`;

/** How far a task is; without a number, nothing. */
export function Progress({ value, tone, label }) {
  if (typeof value !== "number") return html`<span class="progress"></span>`;
  return html`<span class="progress">
    <span class="track" role="progressbar" data-tone=${tone} aria-label=${label} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.floor(value)}>
      <span class="fill" style=${{ transform: `scaleX(${value / 100})` }}></span>
    </span>
    <span class="number">${Math.floor(value)}%</span>
  </span>`;
}

/** Nothing is there, and what would put something there. */
export const Empty = ({ title, children }) => html`<div class="empty"><p><strong>${title}</strong></p>${children && html`<p>${children}</p>`}</div>`;

/** Something went wrong, in words. */
export function Trouble({ error, what, scope = null }) {
  if (!error) return null;
  if (error.code === "origin_refused") {
    return html`<div class="note" data-tone="bad" role="alert">
      <p><strong>The gateway refuses what this page asks for, because of where the page is from.</strong> ${visible(error.message, 500)}</p>
      <p>In its configuration, <code>server.allowed_origins</code> has to include <code>${location.origin}</code>. Where that is not set, a proxy in front has to pass on the <code>Host</code> header as it is.</p>
    </div>`;
  }
  if (error.status === 403) {
    return html`<div class="note" data-tone="idle" role="status">
      <p><strong>${what ?? "This"} is not part of what your token may see.</strong></p>
      <p>
        ${visible(error.message, 500)}
        ${scope !== null && html` Yours has ${scope ? html`<code>${visible(scope)}</code>` : "no scope at all"}.`}
      </p>
    </div>`;
  }
  return html`<div class="note" data-tone="bad" role="alert">
    <p><strong>${what ? `${what} could not be loaded.` : "That did not work."}</strong> ${visible(sentence(error.message), 500)}</p>
  </div>`;
}

/** A section of a page with its heading. */
export function Section({ title, aside, children, class: name = "" }) {
  const id = useId();
  return html`<section aria-labelledby=${id} class=${name}>
    <header class="section-head"><h2 id=${id}>${title}</h2><div class="aside">${aside}</div></header>
    ${children}
  </section>`;
}

/** Opens a dialog; set while there is a place for one. @type {(props: object) => void} */
let ask = () => {};

/** The one place of dialogs. It is outside of all pages, so that what a dialog says stays when its button has gone. */
export function Dialogs() {
  const [props, set] = useState(null);
  useEffect(() => {
    ask = set;
    const leave = () => set(null); // it was about the page that is left
    addEventListener("hashchange", leave);
    return () => {
      ask = () => {};
      removeEventListener("hashchange", leave);
    };
  }, []);
  return props && html`<${Dialog} ...${props} close=${() => set(null)} />`;
}

/**
 * A button that says what it will do, and does it once that is confirmed.
 * @param {{
 *   label: string, title: string, children: any | ((wrong: Record<string, string>) => any),
 *   act: (form: FormData, signal: AbortSignal) => Promise<{title: string, words: string, tone?: string, more?: any, next?: string}>,
 *   done: () => void, verb?: string, small?: boolean, wide?: boolean, judged?: boolean, accessible?: string,
 * }} props
 *   `act` does it and says what came of it, and where to go `next`; it stops where nobody waits for that any more. `children`
 *   are told what is wrong with each field. `verb` is the label of the confirmation, where it is another one; `judged`: fields
 *   are for the API to judge, not for the browser; `accessible` is the button's name where its label needs the rest of the page
 */
export const Ask = ({ small = false, accessible, ...props }) =>
  html`<button type="button" class=${small ? "small" : ""} aria-label=${accessible} aria-haspopup="dialog" onClick=${() => ask(props)}>${props.label}</button>`;

function Dialog({ label, verb = label, title, children, act, done, close, wide = false, judged = false }) {
  const dialog = useRef(null);
  const id = useId();
  const [busy, setBusy] = useState(false);
  const [said, setSaid] = useState(null);
  const [failed, setFailed] = useState({ error: null, wrong: {} });
  const closing = useRef(null);
  useEffect(() => {
    closing.current = new AbortController();
    dialog.current.showModal();
    return () => closing.current.abort();
  }, []);
  useEffect(() => dialog.current.querySelector("[aria-invalid=true]")?.focus(), [failed]);
  async function submit(event) {
    event.preventDefault();
    const form = event.target;
    setBusy(true);
    setFailed({ error: null, wrong: {} });
    const { signal } = closing.current;
    try {
      setSaid(await act(new FormData(form), signal));
      done();
    } catch (failure) {
      if (signal.aborted) return;
      setFailed(blamed(failure, form));
    }
    setBusy(false);
  }
  const leave = () => {
    close();
    if (said?.next) location.hash = said.next;
  };
  return html`<dialog ref=${dialog} aria-labelledby=${id} class=${wide ? "wide" : ""} onClose=${leave}>
    <form onSubmit=${submit} novalidate=${judged}>
      <h3 id=${id}>${said?.title ?? title}</h3>
      ${said ? html`<p role="status" class=${said.tone === "bad" ? "error" : ""}>${said.words}</p>${said.more}` : html`<div class="explained">${typeof children === "function" ? children(failed.wrong) : children}</div>`}
      <footer>
        <${Trouble} error=${failed.error} />
        ${said
          ? html`<button type="button" class="primary" key="done" ref=${(button) => button?.focus()} onClick=${() => dialog.current.close()}>Close</button>`
          : html`<button type="button" key="cancel" onClick=${() => dialog.current.close()}>Cancel</button>
              <button type="submit" key="act" class="primary" disabled=${busy}>${busy ? "One moment…" : verb}</button>`}
      </footer>
    </form>
  </dialog>`;
}

/** What failed, told at the fields of a form that it names; what names none of them is told as a whole. */
function blamed(error, form) {
  const all = wrongFields(error);
  const rest = all.filter(([field]) => !form.elements.namedItem(field));
  if (rest.length === all.length) return { error, wrong: {} };
  const wrong = {};
  for (const [field, detail] of all) wrong[field] = visible(sentence(field in wrong ? `${wrong[field]}; ${detail}` : detail), 300);
  const others = rest.map(([field, detail]) => `${field}: ${detail}`);
  return { error: new Error(["nothing was changed: see what is said at the fields.", ...others].join(" ")), wrong };
}

/** A field with what it wants, and what is wrong with what it has. `lines`: it has as many. */
export function Field({ name, label, value = "", hint, wrong, lines = 0, class: place = "", ...rest }) {
  const id = useId();
  const about = [hint && `${id}-hint`, wrong && `${id}-wrong`].filter(Boolean).join(" ");
  const control = { id, name, defaultValue: value, autocomplete: "off", autocapitalize: "off", spellcheck: false, "aria-describedby": about || undefined, "aria-invalid": wrong ? "true" : undefined, ...rest };
  return html`<div class=${`field ${place}`}><label for=${id}>${label}</label>
    ${lines ? html`<textarea rows=${lines} ...${control} />` : html`<input ...${control} />`}
    ${hint && html`<p id=${`${id}-hint`}>${hint}</p>`}
    ${wrong && html`<p id=${`${id}-wrong`} class="error">${wrong}</p>`}</div>`;
}

/** One of a few. */
export const Choice = ({ label, value, options, change, all = "any" }) => html`<label class="field">
  <span>${label}</span>
  <select value=${value} onChange=${(event) => change(event.target.value)}>
    ${all !== null && html`<option value="">${all}</option>`}
    ${options.map((option) => {
      const [id, words] = Array.isArray(option) ? option : [option, option];
      return html`<option key=${id} value=${id} selected=${id === value}>${visible(words, 60)}</option>`;
    })}
  </select>
</label>`;

/** Words to look for. */
export const Search = ({ label, value, change, placeholder }) => html`<label class="field grow">
  <span>${label}</span>
  <input type="search" value=${value} placeholder=${placeholder} autocomplete="off" spellcheck=${false} onInput=${(event) => change(event.target.value)} />
</label>`;

/** Puts a text into the clipboard. */
export function Copy({ text, label = "Copy", what }) {
  const [said, setSaid] = useState("");
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  async function copy() {
    try {
      await navigator.clipboard.writeText(text());
      setSaid("Copied");
    } catch {
      setSaid("The browser refuses to copy"); // no permission, or the page did not come by https
    }
    timer.current = setTimeout(() => setSaid(""), 2500);
  }
  return html`<button type="button" class="small" aria-label=${said ? undefined : `${label} ${what ?? ""}`} onClick=${copy}><span aria-live="polite">${said || label}</span></button>`;
}

/** A list of what is known under names. Pairs without a value are left out. */
export const Facts = ({ pairs }) => html`<dl class="facts">
  ${pairs.filter(([, value]) => value != null && value !== "" && value !== false).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
</dl>`;

const MEMBERS = 100;
const DEPTH = 3;

/** Any JSON: objects and lists fold; long texts and long lists are cut and say so; the whole can be copied. */
export const Json = ({ value, label, depth = DEPTH }) => html`<div class="json" role="group" aria-label=${label}>
  <${Copy} text=${() => JSON.stringify(value, null, 2)} what=${label} />
  <div class="tree"><${Node} value=${value} open=${depth} /></div>
</div>`;

function Node({ name, value, open }) {
  const label = name !== undefined && html`<bdi class="key">${visible(name)}</bdi>: `;
  if (typeof value !== "object" || value === null) return html`<div class="leaf">${label}<${Leaf} value=${value} /></div>`;
  const list = Array.isArray(value);
  const names = Object.keys(value);
  const size = list ? count(value.length) : count(names.length);
  if (!names.length) return html`<div class="leaf">${label}<span class="dim">${list ? "[ ]" : "{ }"}</span></div>`;
  return html`<${Branch} label=${label} size=${size} list=${list} names=${names} value=${value} open=${open} />`;
}

function Branch({ label, size, list, names, value, open }) {
  const [shown, setShown] = useState(open > 0);
  const [most, setMost] = useState(MEMBERS);
  return html`<details open=${shown} onToggle=${(event) => event.target === event.currentTarget && setShown(event.currentTarget.open)}>
    <summary>${label}<span class="dim">${list ? `[${size}]` : `{${size}}`}</span></summary>
    ${shown &&
    html`<div class="members">
      ${names.slice(0, most).map((one) => html`<${Node} key=${one} name=${list ? undefined : one} value=${value[one]} open=${open - 1} />`)}
      ${names.length > most && html`<button type="button" class="small" onClick=${() => setMost(most + MEMBERS * 5)}>${count(names.length - most)} more</button>`}
    </div>`}
  </details>`;
}

function Leaf({ value }) {
  if (typeof value !== "string") return html`<span class="atom">${String(value)}</span>`;
  const rest = value.length - TEXT;
  return html`<bdi class="text">"${visible(value, TEXT, true)}"</bdi>${rest > 0 && html` <span class="dim">(${count(rest)} more characters, in the copy)</span>`}`;
}
