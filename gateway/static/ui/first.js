// Runs before anything is drawn and is no module: modules alone are refused where the page's origin is.
{
  const chosen = localStorage.getItem("mainstem.theme"); // so that a chosen theme does not flash
  if (chosen) document.documentElement.dataset.theme = chosen;

  const say = (...paragraphs) => {
    const note = document.createElement("div");
    note.className = "note";
    note.dataset.tone = "bad";
    note.setAttribute("role", "alert");
    for (const words of paragraphs) note.appendChild(document.createElement("p")).textContent = words;
    document.getElementById("app").replaceChildren(note);
  };

  // Whose origin is refused may still read why: OPTIONS names the origin, as modules do, and needs no token.
  const tell = async () => {
    const answer = await fetch("../v1/stream", { method: "OPTIONS", cache: "no-store" }).catch(() => null);
    const problem = answer?.status === 403 ? await answer.json().catch(() => null) : null;
    if (problem?.code === "origin_refused") {
      say(
        `The gateway refuses this page, because of where it is from. ${problem.detail}`,
        `Whoever runs the gateway can let it in: in its configuration, server.allowed_origins has to include ${location.origin}. ` +
          "Where that is not set, a proxy in front has to pass on the Host header as it is.",
      );
    } else say("The dashboard could not be loaded.", "The gateway may have gone, or something in between cuts its answers off: reload the page to try again.");
  };

  addEventListener(
    "error",
    ({ target }) => {
      if (!(target instanceof HTMLScriptElement)) return;
      if (document.readyState === "loading") addEventListener("DOMContentLoaded", tell, { once: true });
      else tell();
    },
    true,
  );
}
