/**
 * Asks for a token. It stays in this tab and goes nowhere but to the gateway.
 * @module
 */

import { html, useEffect, useRef, useState } from "./html.js";
import { session } from "./session.js";
import { sentence, visible } from "./text.js";

export function Login({ why, enter }) {
  const field = useRef(null);
  const [wrong, setWrong] = useState("");
  useEffect(() => field.current.focus(), []);
  function submit(event) {
    event.preventDefault();
    const token = field.current.value.trim();
    if (!/^[\x21-\x7e]+$/.test(token)) return setWrong("A token has no spaces and none but plain characters. Was something else copied along?");
    session.token = token;
    enter();
  }
  return html`<main class="alone">
    <form class="login card" onSubmit=${submit}>
      <h1><svg viewBox="0 0 24 24" width="26" height="26" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2.5" stroke-linecap="round"><path d="M3 5c6 0 5 7 11 7h7M3 12h18M3 19c6 0 5-7 11-7" /></svg> Mainstem</h1>
      <p>This gateway asks for a token. What it shows depends on the token's scope.</p>
      ${(wrong || why) && html`<p class="note" data-tone="bad" role="alert">${visible(sentence(wrong || why), 300)}</p>`}
      <label class="field"><span>Token</span>
        <input ref=${field} type="password" autocomplete="off" autocapitalize="off" spellcheck=${false} required aria-describedby="where" /></label>
      <button type="submit" class="primary">Sign in</button>
      <p id="where" class="dim">Mint one with <code>mainstem token</code>. It is kept in this tab until you close it or sign out.</p>
    </form>
  </main>`;
}
