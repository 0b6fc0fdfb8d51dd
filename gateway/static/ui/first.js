// Runs before anything is drawn and is no module: modules alone are refused where the page's origin is.
{
  const chosen = localStorage.getItem("mainstem.theme"); // so that a chosen theme does not flash
  if (chosen) document.documentElement.dataset.theme = chosen;

  const tell = () => {
    const note = document.createElement("p");
    note.className = "note";
    note.dataset.tone = "bad";
    note.setAttribute("role", "alert");
    note.textContent =
      `The dashboard could not be loaded. If server.allowed_origins is set, it has to include ${location.origin}, ` +
      "which is where this page is from. Otherwise the gateway may have gone: reload the page to try again.";
    document.getElementById("app").replaceChildren(note);
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
