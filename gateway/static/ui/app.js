/**
 * The dashboard: who is signed in, which page is shown, and whether the stream is there. Talks to the gateway through its
 * public API and its public client alone.
 * @module
 */

import { ApiError, call, get, onUnauthorized } from "./api.js";
import { Events } from "./events.js";
import { openFeed } from "./feed.js";
import { useNews, useNow, usePolled } from "./hooks.js";
import { html, render, useEffect, useErrorBoundary, useRef, useState } from "./html.js";
import { Login } from "./login.js";
import { openMetrics } from "./metrics.js";
import { Overview } from "./overview.js";
import { Badge, Dialogs, Empty, Trouble } from "./parts.js";
import { here, linkTo } from "./routes.js";
import { claims, session } from "./session.js";
import { CONNECTION, ofEndpoints } from "./status.js";
import { Task } from "./task.js";
import { Tasks } from "./tasks.js";
import { moment, span, visible } from "./text.js";
import { Endpoint, Webhooks } from "./webhooks.js";

const PAGES = [["overview", "Overview"], ["tasks", "Tasks"], ["events", "Events"], ["webhooks", "Webhooks"]];
/** ms between two looks at the webhooks. */
const EVERY = 3000;
/** ms before its end at which a token is warned of. */
const SOON = 120_000;
/** Connections in a row that were not opened, before causes are named. */
const FUTILE = 3;

function App() {
  /** what is known of who looks: null, nothing yet; otherwise why a token is asked for, or "in" */
  const [gate, setGate] = useState(null);
  const [again, setAgain] = useState(0);
  useEffect(() => {
    let current = true;
    const found = (next) => current && setGate(next);
    get("v1/sources").then(
      () => found({ in: true }),
      (error) => found(error.status === 401 ? { why: session.token === null ? "" : error.message } : error.status === 403 && error.code !== "origin_refused" ? { in: true } : { error }),
    );
    return () => void (current = false);
  }, [again]);
  const retry = () => {
    setGate(null);
    setAgain(again + 1);
  };
  const leave = (why) => {
    session.token = null;
    setGate({ why });
  };
  if (gate === null) return html`<main class="alone"><p class="loading">Connecting…</p></main>`;
  if (gate.error) return html`<main class="alone"><h1>Mainstem</h1><${Trouble} error=${gate.error} what="The gateway" /><p><button type="button" onClick=${retry}>Try again</button></p></main>`;
  if (gate.why !== undefined) return html`<${Login} why=${gate.why} enter=${retry} />`;
  return html`<${Signed} leave=${leave} />`;
}

function Signed({ leave }) {
  const [parts, setParts] = useState(null);
  useEffect(() => {
    const refused = (error) => leave(error.message);
    const feed = openFeed({ onStopped: (error) => [4001, 4009].includes(error.code) && refused(new ApiError(401, "token", "This token is not valid, or no longer. Sign in with another one.")) });
    const metrics = openMetrics();
    const stop = onUnauthorized(refused);
    setParts({ feed, metrics });
    return () => {
      stop();
      feed.close();
      metrics.close();
    };
  }, []);
  return parts && html`<${Shell} ...${parts} leave=${leave} />`;
}

function useRoute() {
  const [route, set] = useState(here);
  useEffect(() => {
    const read = () => set(here());
    addEventListener("hashchange", read);
    return () => removeEventListener("hashchange", read);
  }, []);
  return route;
}

function Shell({ feed, metrics, leave }) {
  const { page, names } = useRoute();
  const main = useRef(null);
  const before = useRef(page + names);
  const scope = session.token === null ? null : (claims(session.token)?.scope ?? null);
  useEffect(() => {
    const title = PAGES.find(([id]) => id === page)?.[1] ?? "Mainstem";
    document.title = `${names.length ? visible(names.at(-1), 40) : title} · Mainstem`;
    if (before.current === page + names) return;
    before.current = page + names;
    main.current.focus({ preventScroll: true }); // who reads by ear or keyboard is told that the page is another one
    scrollTo(0, 0);
  }, [page, ...names]);
  const webhooks = usePolled("v1/webhooks", EVERY);
  const props = { feed, metrics, scope, webhooks };
  return html`<a class="skip" href="#content" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to the content</a>
    <header class="top">
      <a class="brand" href=${linkTo("overview")} aria-label="Mainstem, overview"><${Mark} /><span>Mainstem</span></a>
      <nav aria-label="Pages"><ul>
        ${PAGES.map(([id, title]) => html`<li key=${id}><a href=${linkTo(id)} aria-current=${page === id ? "page" : undefined}>${title}${id === "webhooks" && html`<${Stuck} items=${webhooks.data?.items} />`}</a></li>`)}
      </ul></nav>
      <div class="tools"><${Connection} feed=${feed} /><${Theme} /><${Account} scope=${scope} leave=${leave} /></div>
    </header>
    <main id="content" tabindex="-1" ref=${main}>
      <${Complaint} feed=${feed} />
      <${Guard} key=${page + "/" + names.join("/")}><${Page} page=${page} names=${names} ...${props} /><//>
    </main>
    <${Dialogs} />`;
}

/** How many endpoints somebody has to look after. */
function Stuck({ items = [] }) {
  const { tone, stuck } = ofEndpoints(items);
  return stuck > 0 && html`<span class="unseen">, </span><span class="count" data-tone=${tone}>${stuck}</span><span class="unseen"> need attention</span>`;
}

/** A mistake in one page ends neither the others nor the stream. */
function Guard({ children }) {
  const [error, reset] = useErrorBoundary((failure) => console.error(failure));
  if (!error) return children;
  return html`<h1 class="unseen">Error</h1><${Trouble} error=${new Error(`this page cannot draw what the gateway answered (${visible(error.message, 200)}).`)} />
    <p><button type="button" onClick=${reset}>Try again</button></p>`;
}

function Page({ page, names, ...props }) {
  if (page === "overview") return html`<${Overview} ...${props} />`;
  if (page === "tasks") return names.length === 2 ? html`<${Task} source=${names[0]} id=${names[1]} ...${props} />` : html`<${Tasks} ...${props} />`;
  if (page === "events") return html`<${Events} ...${props} />`;
  if (page === "webhooks") return names.length === 1 ? html`<${Endpoint} name=${names[0]} ...${props} />` : html`<${Webhooks} ...${props} />`;
  return html`<h1 class="unseen">Not found</h1><${Empty} title="There is no such page"><a href=${linkTo("overview")}>To the overview</a><//>`;
}

const Mark = () => html`<svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2.5" stroke-linecap="round"><path d="M3 5c6 0 5 7 11 7h7M3 12h18M3 19c6 0 5-7 11-7" /></svg>`;

function Connection({ feed }) {
  useNews(feed);
  const { state } = feed.client;
  if (state === "idle" && feed.error?.status === 403) return null; // nothing to connect for yet
  const [tone, word] = CONNECTION[state] ?? ["idle", state];
  return html`<span role="status" class="connection"><${Badge} tone=${tone}>${word}<//></span>`;
}

/** Why there is no stream at the moment. */
function Complaint({ feed }) {
  useNews(feed);
  const { state } = feed.client;
  if (state === "closed") return html`<p class="note" data-tone="bad" role="alert">The gateway has ended the stream and does not want it back as it is: ${visible(feed.complaint ?? "no reason was given", 300)}. Reload the page to try again.</p>`;
  if (state === "waiting" && feed.futile >= FUTILE) return html`<${Futile} />`;
  if (state === "waiting" || state === "offline") return html`<p class="note" data-tone="warn" role="status">${state === "offline" ? "This machine is offline." : "The stream was cut."} What is shown may be old. It comes back by itself, and goes on where it was.</p>`;
  return feed.complaint && html`<p class="note" data-tone="warn" role="status">The gateway says: ${visible(feed.complaint, 300)}</p>`;
}

/** Why the stream cannot be opened. A browser does not tell a page what a WebSocket was refused for; a request is answered in words. */
function Futile() {
  const [error, set] = useState(null);
  useEffect(() => {
    const closing = new AbortController();
    call("OPTIONS", "v1/stream", { signal: closing.signal }).catch((failure) => closing.signal.aborted || set(failure));
    return () => closing.abort();
  }, []);
  if (error?.code === "origin_refused") return html`<${Trouble} error=${error} />`;
  return html`<p class="note" data-tone="warn" role="status">The stream cannot be opened, although it is tried again and again. Does the gateway run? Do proxies pass on WebSocket upgrades?</p>`;
}

const THEMES = { "": "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };

function Theme() {
  const [theme, set] = useState(localStorage.getItem("mainstem.theme") ?? "");
  function next() {
    const names = Object.keys(THEMES);
    const chosen = names[(names.indexOf(theme) + 1) % names.length];
    set(chosen);
    if (chosen) {
      localStorage.setItem("mainstem.theme", chosen);
      document.documentElement.dataset.theme = chosen;
    } else {
      localStorage.removeItem("mainstem.theme");
      delete document.documentElement.dataset.theme;
    }
  }
  return html`<button type="button" class="icon" aria-label=${THEMES[theme]} title=${THEMES[theme]} onClick=${next}>
    <svg viewBox="0 0 24 24" width="18" height="18" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round">
      ${theme === "dark" ? html`<path d="M20 14.5A8 8 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.5z" />` : theme === "light" ? html`<circle cx="12" cy="12" r="4" /><path d="M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6 19 19M5 19l1.4-1.4M17.6 6.4 19 5" />` : html`<circle cx="12" cy="12" r="8" /><path d="M12 4a8 8 0 0 1 0 16z" fill="currentColor" />`}
    </svg>
  </button>`;
}

/** Whose token it is, for how long, and the way out. Without a token there is none of this. */
function Account({ scope, leave }) {
  const now = useNow();
  const { token } = session;
  if (token === null) return null;
  const { subject = null, expires = null } = claims(token) ?? {};
  const left = expires === null ? null : expires - now;
  return html`<span class="account">
    ${left !== null && html`<span class=${left < SOON ? "expiry soon" : "expiry"} title=${`${subject ? `${visible(subject, 60)}; ` : ""}scope ${visible(scope ?? "not known", 200)}; until ${moment(expires)}`}>
      ${left > 0 ? `token good for ${span(left / 1000)}` : "token has expired"}</span>`}
    <button type="button" onClick=${() => leave("")}>Sign out</button>
  </span>`;
}

render(html`<${App} />`, document.getElementById("app"));
