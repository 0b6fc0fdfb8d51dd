/**
 * Webhook endpoints: how each is doing, its deliveries with every attempt, and what can be done about them.
 * @module
 */

import { get, patch, post, query, remove } from "./api.js";
import { Create, duration, Edit, FILTERS, Rotate } from "./editor.js";
import { follow, useNews, useNow, usePolled, useQuery } from "./hooks.js";
import { html, useEffect, useState } from "./html.js";
import { Ask, Badge, Choice, Data, Empty, Facts, Field, Section, Time, Trouble } from "./parts.js";
import { encoded, linkTo } from "./routes.js";
import { DELIVERY, ofEndpoint, ofEndpoints } from "./status.js";
import { ago, count, latency, many, moment, position, visible } from "./text.js";

const EVERY = 3000;
const PAGE = 50;
/** ms between two looks at a test on its way, and how many there are. */
const FOLLOW = { every: 250, times: 60 };

export function Webhooks({ metrics, scope, webhooks: { data, error, refresh } }) {
  useNews(metrics);
  const now = useNow();
  const items = data?.items ?? [];
  const { word, more } = ofEndpoints(items);
  return html`<h1 class="unseen">Webhooks</h1>
    <${Section} title="Webhooks" aside=${data && html`${items.length > 0 && html`<span class="dim">${many(items.length, "endpoint")}: ${word}, ${more}</span>`}<${Create} done=${refresh} />`}>
      <${Trouble} error=${error} what="The list of webhooks" scope=${scope} />
      ${!data && !error && html`<p class="loading">Loading…</p>`}
      ${data && !items.length && html`<${Empty} title="No webhooks configured">
        Make one here, under <code>webhooks:</code> in the configuration file, or with <code>mainstem webhooks create</code>.
      <//>`}
      <ul class="cards wide">
        ${items.map((endpoint) => html`<li class="card" key=${endpoint.name}><${Summary} endpoint=${endpoint} metrics=${metrics} now=${now} refresh=${refresh} link /></li>`)}
      </ul>
    <//>`;
}

/** State of an endpoint in words and figures, with what can be done. */
function Summary({ endpoint, metrics, now, refresh, link = false }) {
  const { health, name } = endpoint;
  const { tone, word } = ofEndpoint(health);
  return html`<div class="card-head">
      ${link ? html`<h3><a href=${linkTo("webhooks", name)}><${Data} value=${name} /></a></h3>` : html`<h2><${Data} value=${name} /></h2>`}
      <${Badge} tone=${tone}>${word}<//>
    </div>
    <p class="mono dim"><${Data} value=${endpoint.url} most=${160} /></p>
    <p class="sentence">${sentences(health, now).join(" ")}</p>
    ${health.last_error && html`<p class="error">Last error, ${ago(health.last_error_at, now)}: <${Data} value=${health.last_error} most=${300} /></p>`}
    <${Facts} pairs=${[
      ["Backlog", `${count(health.pending)}${health.in_flight ? `, ${count(health.in_flight)} in flight` : ""}`],
      ["Dead letters", health.dead > 0 ? html`<a href=${`${linkTo("webhooks", name)}?state=dead`}>${count(health.dead)}</a>` : "0"],
      ["Success rate", success(metrics.attempts(name))],
      ["Last delivered", html`<${Time} at=${health.last_delivered_at} now=${now} />`],
    ]} />
    <${Actions} endpoint=${endpoint} refresh=${refresh} settings=${!link} />`;
}

function success(attempts) {
  if (attempts === null) return "not known";
  if (attempts.total === 0) return "nothing sent yet";
  const share = (attempts.delivered / attempts.total) * 100;
  return html`<span title="of all attempts since the gateway started">${Number(share.toFixed(1))}% of ${many(attempts.total, "attempt")}</span>`;
}

function sentences(health, now) {
  const said = [];
  if (health.disabled) said.push(`Nothing is sent: ${visible(health.disabled, 200)}. What happens meanwhile can be fetched back by a replay.`);
  if (health.failing_since) said.push(`Every attempt has failed for ${ago(health.failing_since, now).replace(/ ago$/, "")}.`);
  if (health.paused_until && Date.parse(health.paused_until) > now) said.push(`Paused: nothing new is sent for ${ago(health.paused_until, now).replace(/^in /, "")}.`);
  if (health.breaker === "open") said.push("Only probes are sent until one succeeds.");
  if (health.replay_upto) said.push(`Replaying up to position ${position(health.replay_upto)}.`);
  return said;
}

function Actions({ endpoint, refresh, settings }) {
  const { name, health } = endpoint;
  const path = `v1/webhooks/${encoded(name)}`;
  const shown = html`<b><${Data} value=${name} /></b>`;
  return html`<div class="actions">
    <${Ask} label="Send a test" title="Send a test event?" done=${refresh} small accessible=${`Send a test to ${name}`}
      act=${(_, signal) => test(path, signal)}>
      <p>An event of type <code>webhook.test</code> goes to ${shown} alone, signed like any other, whatever its filter is.</p>
    <//>
    ${health.disabled && html`<${Ask} label="Enable" title="Enable this endpoint?" done=${refresh} small accessible=${`Enable ${name}`}
      act=${async () => ({ title: "The endpoint is enabled", words: `It is ${ofEndpoint((await post(`${path}/enable`)).health).word.toLowerCase()}.` })}>
      <p>${shown} gets events again, from the next one on. What happened meanwhile is not sent by itself: a replay does that.</p>
    <//>`}
    ${health.dead > 0 && html`<${Ask} label="Retry dead letters" title="Retry all dead letters?" done=${refresh} small accessible=${`Retry dead letters of ${name}`}
      act=${async () => ({ title: "Dead letters are retried", words: `${many((await post(`${path}/retry`)).retried, "dead letter")} will be sent again.` })}>
      <p>${many(health.dead, "dead letter")} of ${shown} will be sent again, with the ids they had. A receiver that got one already sees a repeat.</p>
    <//>`}
    <${Ask} label="Replay" title="Replay events?" done=${refresh} small accessible=${`Replay events to ${name}`} act=${(form) => replay(path, form)}>
      <p>Events of the log that match the filter of ${shown} are sent again, with the ids they had, also those that were delivered.</p>
      <label class="field"><span>Beginning with</span>
        <select name="since">
          <option value="15m">the last 15 minutes</option><option value="1h">the last hour</option>
          <option value="24h" selected>the last 24 hours</option><option value="7d">the last 7 days</option>
        </select></label>
    <//>
    ${settings && html`<${Settings} endpoint=${endpoint} path=${path} refresh=${refresh} />`}
  </div>`;
}

/** What changes an endpoint itself. */
function Settings({ endpoint, path, refresh }) {
  const { name, health, origin } = endpoint;
  const shown = html`<b><${Data} value=${name} /></b>`;
  return html`<${Edit} endpoint=${endpoint} done=${refresh} />
    <${Rotate} endpoint=${endpoint} done=${refresh} />
    ${!health.disabled && html`<${Ask} label="Disable" title="Disable this endpoint?" done=${refresh} small accessible=${`Disable ${name}`}
      act=${async () => {
        await patch(path, { enabled: false });
        return { title: "The endpoint is disabled", words: "Nothing is sent to it until it is enabled." };
      }}>
      <p>Nothing is queued for ${shown} any more${health.pending > 0 ? `, and what waits (${many(health.pending, "event")}) becomes dead letters` : ""}. Once it is enabled again, a replay fetches what happened meanwhile.</p>
    <//>`}
    ${origin !== "file" && html`<${Ask} label="Delete" title="Delete this endpoint?" done=${refresh} small accessible=${`Delete ${name}`}
      act=${async () => {
        await remove(path);
        return { title: "The endpoint was deleted", words: "Nothing is sent to it any more.", next: linkTo("webhooks") };
      }}>
      <p>${shown}, its secret and its deliveries are forgotten${health.pending + health.dead > 0 && `: ${count(health.pending)} that wait, ${many(health.dead, "dead letter")}`}. That cannot be undone.</p>
      <${Field} name="typed" label=${`Its name, to confirm: ${visible(name)}`} required onInput=${({ target }) => target.setCustomValidity(target.value === name ? "" : "This is not the name of the endpoint.")} />
    <//>`}`;
}

/** Sends a test and waits, within reason, for what comes of its first attempt. */
async function test(path, signal) {
  const { id } = await post(`${path}/test`);
  const tried = ({ state, attempts }) => state !== "pending" || attempts.length > 0;
  const { state, attempts, next_attempt_at: next } = await follow(() => get(`v1/deliveries/${encoded(id)}`, { signal }), tried, { ...FOLLOW, signal });
  const last = attempts.at(-1);
  if (state === "delivered") return { title: "The test was delivered", words: `Delivered${took(last)}${last?.status ? `: the receiver answered HTTP ${last.status}` : ""}.` };
  if (!last) return { title: "The test is still waiting", tone: "bad", words: `Delivery ${visible(id)} has not been tried yet. Is the endpoint paused, or its backlog long? It stays in the list of deliveries.` };
  const again = state === "pending" && next ? ` It is tried again ${Date.parse(next) > Date.now() ? ago(next, Date.now()) : "now"}.` : "";
  return { title: "The test has failed", tone: "bad", words: `The first attempt failed${took(last)}: ${visible(last.error ?? `HTTP ${last.status}`, 300)}.${again}` };
}

/** How long an attempt took, where that is known. */
const took = (attempt) => (attempt?.duration_ms == null ? "" : ` in ${latency(attempt.duration_ms / 1000)}`);

async function replay(path, form) {
  const { after, complete } = await post(`${path}/replay`, { since: form.get("since") });
  const words = `Events after position ${position(after)} are sent again.`;
  return { title: "Replay has begun", words: complete ? words : `${words} The log does not reach back further: what is older is gone.` };
}

/** One endpoint with its deliveries. */
export function Endpoint({ name, metrics, scope, webhooks }) {
  useNews(metrics);
  const path = `v1/webhooks/${encoded(name)}`;
  const { data, error, refresh: again } = usePolled(path, EVERY);
  const now = useNow();
  const refresh = () => {
    again();
    webhooks.refresh();
  };
  return html`<p class="crumbs"><a href=${linkTo("webhooks")}>Webhooks</a> / <${Data} value=${name} class="mono" /></p>
    <h1 class="unseen">Webhook <${Data} value=${name} /></h1>
    <${Trouble} error=${error} what="The endpoint" scope=${scope} />
    ${!data && !error && html`<p class="loading">Loading…</p>`}
    ${data && error?.status !== 404 && html`<div class="card"><${Summary} endpoint=${data} metrics=${metrics} now=${now} refresh=${refresh} /></div>
      <details class="settings"><summary>Settings</summary>
        <${Facts} pairs=${[
          ["Defined by", data.origin === "file" ? "the configuration file" : "the API"],
          ...FILTERS.filter((field) => data[field]?.length).map((field) => [`Filter: ${field}`, html`<${Data} value=${data[field].join(", ")} most=${300} />`]),
          ["Progress", visible(data.progress, 20)],
          ["Timeout", `${data.timeout} s`],
          ["In flight at once", data.concurrency],
          ["Requests a second", data.rate_limit ?? "no limit"],
          ["Seconds between attempts", data.retry_schedule.join(", ") || "none: one attempt only"],
          ["Disabled after", data.disable_after ? `${duration(data.disable_after)} of failures` : "never"],
          ["May use", [data.allow_private && "addresses that are not public", data.allow_http && "http:// to public addresses"].filter(Boolean).join(", ")],
          ["Headers", data.headers && Object.keys(data.headers).length > 0 && html`<${Data} value=${Object.keys(data.headers).join(", ")} />`],
          ["Secrets that sign", data.secrets.active > 1 ? html`${data.secrets.active}, until ${moment(data.secrets.overlap_until)}` : "1"],
          ["Public key", data.secrets.public_key && html`<code>${data.secrets.public_key}</code>`],
        ]} />
        ${data.origin === "file" && html`<p class="dim">It can be changed here as well. That holds until the endpoint is edited in the file; a rotated secret, until the secret is. To delete it, take it out of the file.</p>`}
      </details>
      <${Deliveries} path=${path} now=${now} refresh=${refresh} scope=${scope} />`}`;
}

function Deliveries({ path, now, refresh, scope }) {
  const [field, change] = useQuery();
  const state = field("state");
  const first = usePolled(`${path}/deliveries${query({ state, limit: PAGE })}`, EVERY);
  const [older, setOlder] = useState({ state, items: [], next: undefined, error: null, busy: false });
  useEffect(() => setOlder({ state, items: [], next: undefined, error: null, busy: false }), [state, path]);
  const next = older.next === undefined ? first.data?.next : older.next;
  const newest = first.data?.items ?? [];
  const known = new Set(newest.map(({ id }) => id));
  const items = [...newest, ...older.items.filter(({ id }) => !known.has(id))];
  async function more() {
    setOlder({ ...older, busy: true, error: null });
    try {
      const page = await get(`${path}/deliveries${query({ state, limit: PAGE, cursor: next })}`);
      setOlder({ state, items: [...older.items, ...page.items], next: page.next, error: null, busy: false });
    } catch (error) {
      setOlder({ ...older, busy: false, error });
    }
  }
  const again = () => {
    first.refresh();
    refresh();
  };
  return html`<${Section} title="Deliveries" aside=${html`<${Choice} label="State" value=${state} options=${Object.entries(DELIVERY).map(([id, [, words]]) => [id, words])} change=${(value) => change("state", value)} />`}>
    <${Trouble} error=${first.error ?? older.error} what="The list of deliveries" scope=${scope} />
    ${!first.data && !first.error && html`<p class="loading">Loading…</p>`}
    ${first.data && !items.length && html`<${Empty} title=${state === "dead" ? "No dead letters" : "No deliveries"}>${state === "dead" ? "Every event that was due has been delivered, or is still being tried." : "Deliveries are listed once an event matches the filter of this endpoint."}<//>`}
    <ol class="rows deliveries">${items.map((delivery) => html`<${Delivery} key=${delivery.id} delivery=${delivery} now=${now} done=${again} />`)}</ol>
    ${next && html`<button type="button" disabled=${older.busy} onClick=${more}>Older deliveries</button>`}
  <//>`;
}

function Delivery({ delivery, now, done }) {
  const [open, setOpen] = useState(false);
  const [tone, word] = DELIVERY[delivery.state] ?? ["idle", delivery.state];
  const last = delivery.attempts.at(-1);
  const tried = delivery.attempts.length ? many(delivery.attempts.length, "attempt") : "not tried yet";
  const retry = html`<${Ask} label="Retry" small title="Send this event again?" done=${done} accessible=${`Retry delivery ${delivery.id}`} act=${() => sendAgain(delivery)}>
    <p>Event <code><${Data} value=${delivery.event_id} /></code> is sent again with the id it had.${delivery.state === "delivered" && " It was delivered already: the receiver sees a repeat."}</p>
  <//>`;
  return html`<li class="event" data-tone=${tone}>
    <div class="split">
      <button type="button" class="line" aria-expanded=${open} onClick=${() => setOpen(!open)}>
        <${Badge} tone=${tone}>${word}<//>
        <b><${Data} value=${delivery.type ?? "event no longer in the log"} title=${false} /></b>
        <span class="about"><${Data} value=${delivery.task ?? delivery.id} class="mono" most=${60} /></span>
        <span class="gist dim">${delivery.next_attempt_at && delivery.state === "pending" ? `next attempt ${Date.parse(delivery.next_attempt_at) > now ? ago(delivery.next_attempt_at, now) : "is due"}` : last && (last.error ? visible(last.error, 160) : `HTTP ${last.status}`)}</span>
        <span class="when dim">${tried}${last && html`, <${Time} at=${last.at} now=${now} />`}</span>
      </button>
      ${delivery.state === "dead" && retry}
    </div>
    ${open && html`<div class="opened"><${Facts} pairs=${[["Delivery", html`<${Data} value=${delivery.id} class="mono" />`], ["Event", html`<${Data} value=${delivery.event_id} class="mono" />`], ["Position", position(delivery.sequence)]]} />
      <${Attempts} attempts=${delivery.attempts} />
      ${["delivered", "skipped"].includes(delivery.state) && html`<div class="actions">${retry}</div>`}</div>`}
  </li>`;
}

async function sendAgain({ id }) {
  const { state } = await post(`v1/deliveries/${encoded(id)}/retry`);
  return { title: "The event is sent again", words: `It is ${(DELIVERY[state] ?? ["", "under way"])[1].toLowerCase()} now.` };
}

function Attempts({ attempts }) {
  if (!attempts.length) return html`<p class="dim">It has not been tried yet.</p>`;
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Attempts"><table>
    <thead><tr><th scope="col">#</th><th scope="col">At</th><th scope="col">Answer</th><th scope="col">Took</th><th scope="col">What it said</th></tr></thead>
    <tbody>${attempts.map((attempt, index) => html`<tr key=${index}>
      <td>${index + 1}</td><td>${moment(attempt.at)}</td><td>${attempt.status === null ? "none" : `HTTP ${attempt.status}`}</td>
      <td>${attempt.duration_ms === null ? "–" : `${count(attempt.duration_ms)} ms`}</td>
      <td>${attempt.error && html`<span class="error"><${Data} value=${attempt.error} most=${400} /></span> `}${attempt.response && html`<code><${Data} value=${attempt.response} most=${400} /></code>`}${!attempt.error && !attempt.response && "–"}</td>
    </tr>`)}</tbody>
  </table></div>`;
}
