/**
 * The first page: how everything is doing at a glance, each source in words, the last minutes as lines.
 * @module
 */

import { Chart } from "./charts.js";
import { useNews, useNow, usePolled } from "./hooks.js";
import { html, useEffect, useMemo } from "./html.js";
import { Badge, Data, Empty, Facts, Section, Time, Trouble } from "./parts.js";
import { FINISHED, ofSource } from "./status.js";
import { ago, compact, count, latency, many, rate, span, visible } from "./text.js";

const EVERY = 3000;
/** Seconds of history that are drawn. */
const HISTORY = 180;

export function Overview({ feed, metrics, scope }) {
  return html`<h1 class="unseen">Overview</h1>
    <${Tiles} feed=${feed} metrics=${metrics} />
    <${Sources} feed=${feed} scope=${scope} />
    <${Charts} feed=${feed} metrics=${metrics} />`;
}

function Tiles({ feed, metrics }) {
  useNews(feed);
  useNews(metrics);
  useNow();
  const running = [...feed.tasks.values()].filter(({ task }) => task.status === "running").length;
  const open = [...feed.tasks.values()].filter(({ task }) => !FINISHED.includes(task.status)).length;
  const point = metrics.points.at(-1);
  const tiles = [
    ["Events a second", feed.ready ? rate(feed.pace()) : "–", feed.ready ? `${count(feed.arrived)} since this page was opened` : "not known"],
    ["Tasks running", feed.ready ? count(running) : "–", feed.ready ? `${count(open)} not finished${feed.crowded ? ", or more" : ""}` : "not known"],
    ["Relay latency p99", latency(point?.relay[1] ?? null), point?.relay[1] == null ? "nothing measured lately" : `p50 ${latency(point.relay[0])}`],
    ["Stream connections", point?.connections == null ? "–" : compact(point.connections), point ? (feed.client.state === "open" ? "this page is one of them" : "without this page") : "not known"],
  ];
  return html`<ul class="tiles">
    ${tiles.map(([name, value, more]) => html`<li key=${name}><span class="name">${name}</span><strong>${value}</strong><span class="more">${more}</span></li>`)}
  </ul>`;
}

function Sources({ feed, scope }) {
  const { data, error, refresh } = usePolled("v1/sources", EVERY);
  const now = useNow();
  useSourceNews(feed, refresh);
  const items = data?.items ?? [];
  return html`<${Section} title="Sources" aside=${items.length > 0 && html`<span class="dim">${summary(items)}</span>`}>
    <${Trouble} error=${error} what="The list of sources" scope=${scope} />
    ${data && !items.length && html`<${Empty} title="No sources configured">
      Add one under <code>sources:</code> in the configuration file, or try <code>mainstem demo</code>. Where your token is bound to sources, only those are listed.
    <//>`}
    ${!data && !error && html`<p class="loading">Loading…</p>`}
    <ul class="cards">
      ${items.map((source) => html`<${Source} key=${source.name} source=${source} now=${now} pace=${feed.pace(source.name)} />`)}
    </ul>
  <//>`;
}

function summary(items) {
  const live = items.filter(({ state }) => state === "live").length;
  return live === items.length ? `all ${live} live` : `${live} of ${items.length} live`;
}

/** Asks again once the stream says something about a source. */
function useSourceNews(feed, refresh) {
  useEffect(() => feed.watch(({ type }) => type.startsWith("source.") && refresh()), [feed]);
}

function Source({ source, now, pace }) {
  const { tone, word, sentence } = ofSource(source);
  const streams = source.streams ?? [];
  return html`<li class="card">
    <div class="card-head"><h3><${Data} value=${source.name} /></h3><span class="dim"><${Data} value=${source.adapter} title=${false} /></span><${Badge} tone=${tone}>${word}<//></div>
    ${source.state !== "live" && html`<p class="sentence">${sentence}</p>`}
    ${source.error && html`<p class="error"><span class="unseen">Last error: </span><${Data} value=${source.error} most=${400} /></p>`}
    <${Facts} pairs=${[
      ["Last frame", html`<${Time} at=${source.last_frame_at} now=${now} />`],
      ["Events/s", rate(pace)],
      ["Reconnects", count(source.reconnects)],
      ["Gaps", count(source.gaps)],
    ]} />
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

function Charts({ feed, metrics }) {
  useNews(metrics);
  const now = useNow(2000);
  const drawn = useMemo(() => {
    const known = Math.max(2, Math.min(HISTORY, Math.floor(now / 1000) - feed.began));
    const names = [...feed.rates.keys()].sort();
    const until = Math.floor(now / 1000);
    return { names, times: Array.from({ length: known }, (_, index) => until - known + index), series: names.map((name) => feed.history(name, known)) };
  }, [now]);
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
      <${Chart} title="Events a second, by source" names=${drawn.names} times=${drawn.times} series=${drawn.series} none="Nothing has happened yet." show=${(value) => (value === null ? "–" : compact(value))} whole />
      <${Chart} title="Relay latency, frame to subscriber" names=${["p50", "p99"]} times=${measured.times} series=${measured.relay} none=${none} show=${latency} />
      <${Chart} title="Log append, batch to commit" names=${["p50", "p99"]} times=${measured.times} series=${measured.append} none=${none} show=${latency} />
      <${Chart} title="Stream connections" names=${["open"]} times=${measured.times} series=${measured.connections} none=${none} show=${(value) => (value === null ? "–" : compact(value))} whole />
    </div>
  <//>`;
}
