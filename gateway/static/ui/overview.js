/**
 * The first page: how everything is doing at a glance, each source in words, the last minutes as lines.
 * @module
 */

import { Chart, lineOf } from "./charts.js";
import { useNews, useNow, usePolled } from "./hooks.js";
import { html, useEffect, useMemo } from "./html.js";
import { Badge, Data, Empty, Facts, Section, Time, Trouble } from "./parts.js";
import { useGaps } from "./past.js";
import { linkTo } from "./routes.js";
import { FINISHED, ofEndpoints, ofSource, silentFor } from "./status.js";
import { ago, compact, count, latency, many, moment, rate, span, visible } from "./text.js";

const EVERY = 3000;
/** Seconds of history that are drawn. */
const HISTORY = 180;
/** Unverified tasks of a gap that are named. */
const NAMED = 3;
/** Sources that are drawn. */
const MOST = 24;

export function Overview({ feed, metrics, scope, webhooks }) {
  const sources = usePolled("v1/sources", EVERY);
  // One clock and one reckoning for the whole page, so that its figures agree.
  const now = useNow();
  const paces = useMemo(() => ({ all: feed.pace(), of: new Map([...feed.rates.keys()].map((name) => [name, feed.pace(name)])) }), [now]);
  return html`<h1 class="unseen">Overview</h1>
    <${Tiles} now=${now} paces=${paces} feed=${feed} metrics=${metrics} webhooks=${webhooks} />
    <${Sources} now=${now} paces=${paces} feed=${feed} scope=${scope} sources=${sources} />
    <${Charts} now=${now} paces=${paces} feed=${feed} metrics=${metrics} sources=${sources} />`;
}

function Tiles({ now, paces, feed, metrics, webhooks }) {
  useNews(feed);
  useNews(metrics);
  const running = [...feed.tasks.values()].filter(({ task }) => task.status === "running").length;
  const open = [...feed.tasks.values()].filter(({ task }) => !FINISHED.includes(task.status)).length;
  const silent = [...feed.tasks.values()].filter((known) => silentFor(known, now) > 0).length;
  const point = metrics.points.at(-1);
  const endpoints = webhooks.data?.items ?? [];
  const { tone, word, more, stuck } = ofEndpoints(endpoints);
  const tiles = [
    ["Events a second", feed.ready ? rate(paces.all) : "–", feed.ready ? `average of 10 s; ${count(feed.arrived)} since this page was opened` : "not known"],
    ["Tasks running", feed.ready ? count(running) : "–", feed.ready ? html`${count(open)} not finished${feed.crowded ? ", or more" : ""}${silent > 0 && html`, <a class="tone" data-tone="warn" href=${`${linkTo("tasks")}?heard=silent`}>${count(silent)} silent</a>`}` : "not known"],
    ["Relay latency p99", latency(point?.relay[1] ?? null), metrics.points.length < 2 ? "" : point.relay[1] === null ? "nothing measured in 30 s" : `p50 ${latency(point.relay[0])}; both over 30 s`],
    ["Stream connections", !point?.connections && (feed.client.state === "open" || point?.connections !== 0) ? "–" : compact(point.connections), point?.connections ? (feed.client.state === "open" ? "this page is one of them" : "without this page") : ""],
    endpoints.length > 0 && [html`<a href=${linkTo("webhooks")}>Webhooks</a>`, word, more, stuck > 0 ? tone : undefined],
  ].filter(Boolean);
  return html`<ul class="tiles">
    ${tiles.map(([name, value, more, tone], index) => html`<li key=${index}><span class="name">${name}</span><strong class=${tone && "tone"} data-tone=${tone}>${value}</strong><span class=${tone ? "more tone" : "more"} data-tone=${tone}>${more}</span></li>`)}
  </ul>`;
}

function Sources({ now, paces, feed, scope, sources: { data, error, refresh } }) {
  useSourceNews(feed, refresh);
  const { gaps, error: unread } = useGaps(feed);
  const items = data?.items ?? [];
  return html`<${Section} title="Sources" aside=${items.length > 0 && html`<span class="dim">${summary(items)}</span>`}>
    <${Trouble} error=${error} what="The list of sources" scope=${scope} />
    <${Trouble} error=${unread} what="What the log has of gaps" scope=${scope} />
    ${data && !items.length && html`<${Empty} title="No sources configured">
      Add one under <code>sources:</code> in the configuration file, or try <code>mainstem demo</code>. Where your token is bound to sources, only those are listed.
    <//>`}
    ${!data && !error && html`<p class="loading">Loading…</p>`}
    <ul class="cards">
      ${items.map((source) => html`<${Source} key=${source.name} source=${source} now=${now} pace=${paces.of.get(source.name) ?? 0} gap=${gaps.get(source.name)} />`)}
    </ul>
  <//>`;
}

function summary(items) {
  const live = items.filter(({ state }) => state === "live").length;
  if (items.length === 1) return live ? "1 source, live" : "1 source, not live";
  return live === items.length ? `all ${live} live` : `${live} of ${items.length} live`;
}

/** Asks again once the stream says something about a source. */
function useSourceNews(feed, refresh) {
  useEffect(() => feed.watch(({ type }) => type.startsWith("source.") && refresh()), [feed]);
}

/** What the last gap was, in words. @param {{data: any}} event */
function GapTold({ event: { data } }) {
  const { source, from, to, recovered, missed } = data;
  const unverified = data.unverified ?? [];
  const total = data.unverified_total ?? unverified.length;
  const length = span((Date.parse(to) - Date.parse(from)) / 1000);
  const tasks = unverified.slice(0, NAMED).map((id) => html`<a class="mono" href=${linkTo("tasks", source, id)}><${Data} value=${id} most=${40} /></a> `);
  return html`<p class=${recovered ? "sentence" : "tone"} data-tone=${recovered ? "idle" : "warn"}>
    Last gap: <time datetime=${visible(from, 40)} title=${`${moment(from)} to ${moment(to)}`}>${moment(from)}</time>, for ${length}. ${" "}
    ${recovered ? "The state of every known task was repaired. " : total ? `Not recovered: ${total === 1 ? "1 task is" : `${count(total)} tasks are`} unverified: ` : "Not recovered: what happened meanwhile may be missing. "}
    ${!recovered && tasks}${!recovered && total > tasks.length && tasks.length > 0 && `and ${count(total - tasks.length)} more. `}
    ${missed > 0 && `${many(missed, "event")} missed. `}
    <a href=${`${linkTo("events")}?${new URLSearchParams({ type: "source.gap", source, log: "all" })}`}>All gaps</a>
  </p>`;
}

function Source({ source, now, pace, gap }) {
  const { tone, word, sentence } = ofSource(source);
  const streams = source.streams ?? [];
  return html`<li class="card">
    <div class="card-head"><h3><${Data} value=${source.name} /></h3><span class="dim"><${Data} value=${source.adapter} title=${false} /></span><${Badge} tone=${tone}>${word}<//></div>
    ${source.state !== "live" && html`<p class="sentence">${sentence}</p>`}
    ${source.error && html`<p class="error"><span class="unseen">Last error: </span><${Data} value=${source.error} most=${400} /></p>`}
    <${Facts} pairs=${[
      ["Last frame", html`<${Time} at=${source.last_frame_at} now=${now} />`],
      ["Events/s, over 10 s", rate(pace)],
      ["Reconnects", count(source.reconnects)],
      ["Gaps", html`<span title="since the gateway started">${count(source.gaps)}</span>`],
    ]} />
    ${gap && html`<${GapTold} event=${gap} />`}
    ${streams.length > 0 &&
    html`<details class="streams">
      <summary>${many(streams.length, "connection")}</summary>
      <ul>
        ${streams.map((stream) => html`<li key=${stream.endpoint}>
          <${Badge} tone=${ofSource(stream).tone}>${ofSource(stream).word}<//> <${Data} value=${stream.endpoint} class="mono" />
          <span class="dim">since ${ago(stream.since, now).replace(/ ago$/, "")}${stream.reconnects > 0 && `, ${many(stream.reconnects, "reconnect")}`}</span>
          ${stream.error && html`<p class="error"><${Data} value=${stream.error} most=${400} /></p>`}
        </li>`)}
      </ul>
    </details>`}
  </li>`;
}

function Charts({ now, paces, feed, metrics, sources }) {
  useNews(metrics);
  const drawn = useMemo(() => {
    const known = Math.max(2, Math.min(HISTORY, Math.floor(now / 1000) - feed.began));
    // Configured sources come first, so that a colour does not depend on who speaks first; without their list, who spoke.
    const configured = (sources.data?.items ?? []).map(({ name }) => name).sort().slice(0, MOST);
    const names = sources.data || sources.error ? [...new Set([...configured, ...[...feed.rates.keys()].sort()])] : [];
    const until = Math.floor(now / 1000);
    return { names, lines: names.map(lineOf), times: Array.from({ length: known }, (_, index) => until - known + index), series: names.map((name) => feed.history(name, known)) };
  }, [Math.floor(now / 2000), sources.data === null && sources.error === null]);
  const { points, error } = metrics;
  const measured = useMemo(
    () => ({
      times: points.map(({ at }) => at),
      relay: [0, 1].map((index) => points.map(({ relay }) => relay[index])),
      append: [0, 1].map((index) => points.map(({ append }) => append[index])),
      connections: [points.map(({ connections }) => connections)],
    }),
    [points.at(-1)],
  );
  const missing = error && html`<p class="note" data-tone="warn" role="status">
    ${points.length ? "No newer readings: " : "Latency, log and connections cannot be drawn: "}<code>/metrics</code> is not reachable from here. ${visible(error.message, 300)}
  </p>`;
  const none = error ? "There are no readings." : undefined;
  return html`<${Section} title="Last minutes" aside=${html`<span class="dim">since this page was opened, ${span((now - feed.began * 1000) / 1000)}</span>`}>
    ${missing}
    <div class="charts">
      <${Chart} title="Events in each second; figures over 10 s" names=${drawn.names} lines=${drawn.lines} latest=${drawn.names.map((name) => paces.of.get(name) ?? 0)} times=${drawn.times} series=${drawn.series} none="Nothing has happened yet." show=${(value) => (value === null ? "–" : value < 10 ? rate(value) : compact(value))} whole />
      <${Chart} title="Relay latency, frame to subscriber, over 30 s" names=${["p50", "p99"]} times=${measured.times} series=${measured.relay} none=${none} show=${latency} />
      <${Chart} title="Log append, batch to commit, over 30 s" names=${["p50", "p99"]} times=${measured.times} series=${measured.append} none=${none} show=${latency} />
      <${Chart} title="Stream connections" names=${["open"]} times=${measured.times} series=${measured.connections} none=${none} show=${(value) => (value === null ? "–" : compact(value))} whole />
    </div>
  <//>`;
}
