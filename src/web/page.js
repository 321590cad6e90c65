// Keeps the page fresh: takes the parts that have changed, tells times as people do, and filters while one types. Without it the page
// is whole, and shows what was true when it was loaded.
"use strict";
const status = document.getElementById("live");
const words = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

function tell(seconds) {
  if (Math.abs(seconds) < 1) return "now";
  const [unit, length] = words.find(([, length]) => Math.abs(seconds) >= 2 * length) || words[3];
  const number = `${Math.round(Math.abs(seconds) / length)} ${unit}`;
  return seconds < 0 ? `in ${number}` : `${number} ago`;
}

function tellTimes() {
  for (const time of document.querySelectorAll("time")) {
    if (!time.dateTime) {
      const text = time.textContent;
      const at = new Date(`${text.length > 8 ? text.replace(" ", "T") : new Date().toISOString().slice(0, 11) + text}Z`);
      // A time without a date is the nearest one.
      if (text.length === 8 && at - Date.now() > 432e5) at.setUTCDate(at.getUTCDate() - 1);
      if (text.length === 8 && Date.now() - at > 432e5) at.setUTCDate(at.getUTCDate() + 1);
      if (isNaN(at)) continue;
      time.dateTime = at.toISOString();
      time.title = at.toLocaleString();
    }
    time.textContent = tell((Date.now() - new Date(time.dateTime)) / 1000);
  }
}

function put({ id, html }) {
  const old = document.getElementById(id);
  if (!old) return;
  const holder = document.createElement("template");
  holder.innerHTML = html;
  const fresh = holder.content.firstElementChild;
  if (!fresh) return;
  // What one has opened stays open, and the keyboard stays where it was.
  const open = [...old.querySelectorAll("details")].map((one) => one.open);
  fresh.querySelectorAll("details").forEach((one, at) => { one.open = open[at] || false; });
  const focus = old.contains(document.activeElement) ? [...old.querySelectorAll("a, summary, pre")].indexOf(document.activeElement) : -1;
  const before = old.querySelector(".pill")?.textContent, after = fresh.querySelector(".pill")?.textContent;
  if (old.className !== fresh.className || before !== after) {
    fresh.classList.add("fresh");
    if (id.startsWith("c-")) status.textContent = `${id.slice(2)} is ${after}`;
  }
  old.replaceWith(fresh);
  if (focus >= 0) fresh.querySelectorAll("a, summary, pre")[focus]?.focus();
}

let source;
function listen() {
  source?.close();
  const query = new URLSearchParams(location.search);
  query.set("page", location.pathname);
  source = new EventSource(`/api/v1/live?${query}`);
  source.addEventListener("open", () => { status.textContent = "live"; });
  source.addEventListener("part", (event) => { put(JSON.parse(event.data)); tellTimes(); });
  source.addEventListener("other", () => location.reload());
  source.addEventListener("error", () => {
    status.textContent = "not live: the connection is lost, trying again";
    // The browser tries again by itself, unless it was refused.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 10000);
  });
}

const form = document.querySelector("form[role=search]");
if (form) {
  form.querySelector("button").hidden = true;
  let wait;
  const filter = async () => {
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    const address = query.size ? `/?${query}` : "/";
    const page = new DOMParser().parseFromString(await (await fetch(address)).text(), "text/html");
    const rows = page.querySelector(".checks tbody"), shown = document.querySelector(".checks tbody");
    if (rows && shown) shown.replaceWith(rows);
    history.replaceState(null, "", address);
    status.textContent = `${rows ? rows.rows.length : 0} checks`;
    tellTimes();
    listen();
  };
  form.addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(filter, 200); });
  form.addEventListener("submit", (event) => { event.preventDefault(); filter(); });
}

tellTimes();
setInterval(tellTimes, 1000);
listen();
addEventListener("pagehide", () => source?.close());
