/**
 * Making and changing an endpoint: its settings as fields, and fields as the API takes them. Owns that an empty field means
 * the default, and that only what was changed is sent. What is valid is for the API to say: fields have no rules of their own.
 * @module
 */

import { ApiError, patch, post } from "./api.js";
import { html } from "./html.js";
import { Ask, Copy, Data, Field } from "./parts.js";
import { encoded, linkTo } from "./routes.js";
import { STATUSES } from "./status.js";
import { listed, many, visible } from "./text.js";

/** What holds where a field is left empty. */
export const DEFAULTS = { timeout: "15", concurrency: "16", disable_after: "5d", retry_schedule: "5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400" };
const PROGRESS = [["every", "every one"], ["latest", "of those that wait, only the newest"], ["none", "none"]];
export const FILTERS = ["type", "source", "kind", "status", "task"];
const SWITCHES = ["enabled", "allow_private", "allow_http"];
const UNITS = [["d", 86_400], ["h", 3600], ["m", 60]];

/** What a new endpoint begins with. */
const NEW = { progress: "every", enabled: true };

/** "5d", "90m", "45": as the API takes it. @param {number} seconds */
export function duration(seconds) {
  const [unit, size] = UNITS.find(([, size]) => seconds > 0 && seconds % size === 0) ?? ["", 1];
  return `${seconds / size}${unit}`;
}

/** An endpoint's settings as the texts of fields. @param {Record<string, any>} endpoint */
export function fieldsOf(endpoint) {
  const lines = (values) => (values ?? []).join("\n");
  const text = (value) => (value == null ? "" : String(value));
  return {
    name: text(endpoint.name),
    url: text(endpoint.url),
    type: lines(endpoint.type),
    source: lines(endpoint.source),
    kind: lines(endpoint.kind),
    task: lines(endpoint.task),
    status: lines([...new Set([...STATUSES, ...(endpoint.status ?? [])])].filter((status) => endpoint.status?.includes(status))),
    progress: text(endpoint.progress),
    concurrency: text(endpoint.concurrency),
    rate_limit: text(endpoint.rate_limit),
    timeout: text(endpoint.timeout),
    retry_schedule: endpoint.retry_schedule?.length === 0 ? "none" : text(endpoint.retry_schedule?.join(", ")),
    disable_after: endpoint.disable_after == null ? "" : duration(endpoint.disable_after),
    ...Object.fromEntries(SWITCHES.map((name) => [name, Boolean(endpoint[name])])),
  };
}

/** What a form says now, as `fieldsOf` does. @param {FormData} form */
function read(form) {
  const said = Object.fromEntries([...form].filter(([name]) => !["headers", "forget"].includes(name)).map(([name, value]) => [name, value.trim()]));
  return { ...said, status: form.getAll("status").join("\n"), ...Object.fromEntries(SWITCHES.map((name) => [name, form.has(name)])) };
}

const orNull = (values) => (values.length ? values : null);
const split = (at) => (text) => orNull(text.split(at).map((one) => one.trim()).filter(Boolean));
/** What is no number goes as it is: the API says what it should have been. @param {string} text */
const number = (text) => (text === "" ? null : Number.isFinite(Number(text)) ? Number(text) : text);
/** Text of a field → value of a setting; null: the default. */
const VALUE = {
  type: split(/[\n,]/),
  source: split(/[\n,]/),
  kind: split("\n"), // these may have commas in them
  task: split("\n"),
  status: split("\n"),
  concurrency: number,
  rate_limit: number,
  timeout: number,
  disable_after: number,
  retry_schedule: (text) => (text === "none" ? [] : (split(/[\s,]+/)(text)?.map(number) ?? null)),
};

/**
 * The settings that a form changes, as a JSON Merge Patch.
 * @param {FormData} form
 * @param {Record<string, any>} endpoint as it was when the form was filled
 * @throws {ApiError} a line of headers is none
 */
export function changes(form, endpoint) {
  const before = fieldsOf(endpoint);
  const changed = {};
  for (const [name, value] of Object.entries(read(form))) if (value !== before[name]) changed[name] = typeof value === "string" ? (VALUE[name]?.(value) ?? (value || null)) : value;
  const headers = headersOf(form);
  if (Object.keys(headers).length) changed.headers = headers;
  return changed;
}

function headersOf(form) {
  const headers = new Map(form.getAll("forget").map((name) => [name, null]));
  for (const [index, line] of (form.get("headers") ?? "").split("\n").entries()) {
    const [, name, value] = /^\s*([^:]*?)\s*:\s*(.*?)\s*$/.exec(line) ?? [];
    if (name) headers.set(name, value);
    else if (line.trim()) throw new ApiError(400, "invalid_body", "", { errors: [{ field: "headers", detail: `line ${index + 1} is no header: write Name: value` }] });
  }
  return Object.fromEntries(headers);
}

/** What of the filter can match nothing, in the words of the API. @param {{doubts: {field: string, detail: string}[]}} answer */
function warning({ doubts }, names = FILTERS) {
  const found = doubts.filter(({ field }) => names.includes(field)).map(({ detail }) => visible(detail, 200));
  return found.length ? ` But ${found.join("; ")}.` : "";
}

/** @param {{done: () => void}} props */
export const Create = ({ done }) => html`<${Ask} label="New endpoint" verb="Create" title="New endpoint" done=${done} wide judged act=${create}>
  ${(wrong) => html`<${Fields} endpoint=${NEW} wrong=${wrong} />`}
<//>`;

async function create(form) {
  const made = await post("v1/webhooks", changes(form, NEW));
  const words = `${visible(made.name)} gets events from the next one on.${warning(made)}`;
  return { title: "The endpoint was created", words, more: made.secret && html`<${Secret} value=${made.secret} />`, next: linkTo("webhooks", made.name) };
}

/** @param {{endpoint: Record<string, any>, done: () => void}} props */
export const Edit = ({ endpoint, done }) => html`<${Ask} label="Edit" verb="Save" title=${`Edit ${visible(endpoint.name)}`} done=${done} small wide judged accessible=${`Edit ${endpoint.name}`} act=${(form) => edit(form, endpoint)}>
  ${(wrong) => html`${endpoint.origin === "file" && html`<p class="note" data-tone="idle">The configuration file defines this endpoint. What is changed here holds until the endpoint is edited in the file.</p>`}
    <${Fields} endpoint=${endpoint} wrong=${wrong} />`}
<//>`;

async function edit(form, endpoint) {
  const changed = changes(form, endpoint);
  const names = Object.keys(changed);
  if (!names.length) return { title: "Nothing was changed", words: "The form said what holds already." };
  const answer = await patch(`v1/webhooks/${encoded(endpoint.name)}`, changed);
  const filter = names.some((name) => FILTERS.includes(name)) ? " The new filter holds from the next event on." : "";
  return { title: "The endpoint was changed", words: `Changed: ${listed(names)}.${filter}${warning(answer, names)}` };
}

function Fields({ endpoint, wrong }) {
  const said = fieldsOf(endpoint);
  const fresh = endpoint === NEW;
  const headers = Object.keys(endpoint.headers ?? {});
  const field = (name, label, rest) => html`<${Field} name=${name} label=${label} value=${said[name]} placeholder=${DEFAULTS[name]} wrong=${wrong[name]} ...${rest} />`;
  const tick = (name, label) => html`<label class="tick"><input type="checkbox" name=${name} defaultChecked=${said[name]} /> <span>${label} <code>${name}</code></span></label>`;
  return html`<div class="fields">
    ${fresh && field("name", "Name", { hint: "A letter or digit, then letters, digits, _ . and -; at most 64. It cannot be changed later." })}
    ${field("url", "URL", { class: fresh ? "" : "all", hint: "Where events are posted to: https, or http as allowed below.", inputmode: "url" })}
    <div class="ticks all">
      ${tick("enabled", "Events are sent to it")}
      ${tick("allow_private", "May connect to addresses that are not public")}
      ${tick("allow_http", "May use http:// to public addresses")}
    </div>
    <fieldset><legend>Which events <span class="dim">(empty: all; one a line)</span></legend>
      ${field("type", "Types", { lines: 2, placeholder: "task.succeeded\ntask.*" })}
      ${field("source", "Sources", { lines: 2, placeholder: "studio" })}
      ${field("kind", "Kinds", { lines: 2 })}
      ${field("task", "Tasks", { lines: 2, placeholder: "studio/92483a80-236c" })}
      <div class="all"><span class="dim" id="statuses">Statuses</span>
        <div class="ticks" role="group" aria-labelledby="statuses">
          ${[...new Set([...STATUSES, ...(endpoint.status ?? [])])].map((status) => html`<label class="tick" key=${status}><input type="checkbox" name="status" value=${status} defaultChecked=${said.status.split("\n").includes(status)} /> <span>${visible(status, 40)}</span></label>`)}
        </div>
        ${wrong.status && html`<p class="error">${wrong.status}</p>`}</div>
      <label class="field all"><span>Progress events</span>
        <select name="progress">${PROGRESS.map(([id, words]) => html`<option key=${id} value=${id} selected=${id === said.progress}>${words}</option>`)}</select></label>
    </fieldset>
    <fieldset><legend>How they are sent <span class="dim">(empty: as the grey text says)</span></legend>
      ${field("concurrency", "In flight at once", { inputmode: "numeric" })}
      ${field("rate_limit", "Requests a second", { inputmode: "decimal", placeholder: "no limit" })}
      ${field("timeout", "Timeout of an attempt, s", { inputmode: "decimal" })}
      ${field("disable_after", "Disable after everything has failed for", { hint: "such as 12h or 5d; 0: never" })}
      ${field("retry_schedule", "Seconds to wait after each failed attempt", { class: "all", hint: "“none”: one attempt only" })}
      ${field("headers", "Headers", { class: "all", lines: 2, value: "", placeholder: "Authorization: Bearer …", hint: headers.length ? "Name: value, one a line. Those below are kept, with values that are not shown; one of the same name replaces its value." : "Name: value, one a line" })}
      ${headers.length > 0 && html`<div class="ticks all">${headers.map((name) => html`<label class="tick" key=${name}><input type="checkbox" name="forget" value=${name} /> <span>Remove <${Data} value=${name} class="mono" /></span></label>`)}</div>`}
    </fieldset>
  </div>`;
}

/** @param {{endpoint: Record<string, any>, done: () => void}} props */
export const Rotate = ({ endpoint, done }) => html`<${Ask} label="Rotate the secret" verb="Rotate" title="Rotate the secret?" done=${done} small accessible=${`Rotate the secret of ${endpoint.name}`} act=${(form) => rotate(form, endpoint)}>
  <p>A new secret signs what is sent to <b><${Data} value=${endpoint.name} /></b> from now on. For a while, the present one signs as well, so that nothing is refused before the receiver has the new one.</p>
  <label class="field"><span>The present one signs on for</span>
    <select name="overlap"><option value="3600">1 hour</option><option value="86400" selected>1 day</option><option value="172800">2 days</option><option value="604800">7 days</option><option value="0">not at all: it has leaked</option></select></label>
<//>`;

async function rotate(form, { name }) {
  const overlap = Number(form.get("overlap"));
  const { secret } = await post(`v1/webhooks/${encoded(name)}/rotate-secret`, { overlap });
  const words = overlap ? `Both sign for the next ${many(overlap / 3600, "hour")}: give the receiver the new one meanwhile.` : "The one before is worth nothing any more: until the receiver has the new one, it refuses what is sent.";
  return { title: "The secret was rotated", words, more: html`<${Secret} value=${secret} />` };
}

/** A secret that is not told again. */
const Secret = ({ value }) => html`<div class="secret"><code>${value}</code><${Copy} text=${() => value} label="Copy the secret" /></div>
  <p class="dim">It is shown this once.${value.startsWith("whsk_") && " It is a private key: receivers need the public key only, which is under Settings."}</p>`;
