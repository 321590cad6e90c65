// Loads this page anew again and again and takes its contents, so that nothing flickers and what one has opened stays open. Without a
// script the page loads itself.
"use strict";
async function refresh() {
  const busy = document.hidden || document.activeElement?.matches("main button, main a");
  if (!busy) {
    const answer = await fetch("/", { cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.title = page.title;
    for (const name of ["main", "nav"]) {
      const old = document.querySelector(name), fresh = page.querySelector(name);
      if (!old || !fresh || old.innerHTML === fresh.innerHTML) continue;
      const open = [...old.querySelectorAll("details")].map((one) => one.open);
      // New messages stand on top: what was open is counted from the end.
      [...fresh.querySelectorAll("details")].reverse().forEach((one, at) => { if (at < open.length) one.open = open[open.length - 1 - at]; });
      old.replaceWith(fresh);
    }
  }
}
setInterval(() => refresh().catch(() => { document.title = "✖ the demo has ended"; }), 2000);
