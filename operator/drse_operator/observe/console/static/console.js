// What a page does beyond showing itself: stay current, keys, local time, copying. All of it is optional:
// without scripts every link, filter and form works, and the page is as old as its last loading.
"use strict";

// -- staying current --------------------------------------------------------------------------------------

const LIVE = {
  topics: new Set((document.body.dataset.topics || "").split(" ").filter(Boolean)),
  token: document.body.dataset.token,
  busy: false,
  again: false,
  lostAt: null,
};
const IDLE_REFRESH = 30000;

async function refresh() {
  if (LIVE.busy) {
    LIVE.again = true;
    return;
  }
  LIVE.busy = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(String(answer.status));
    show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    found();
  } catch {
    lost();
  } finally {
    LIVE.busy = false;
    if (LIVE.again) {
      LIVE.again = false;
      setTimeout(refresh, 1000);
    }
  }
}

function show(fresh) {
  for (const region of document.querySelectorAll("[data-region]")) {
    const wanted = fresh.getElementById(region.id);
    // What the mouse is on does not move; it is brought up to date with the next change or when it is left.
    if (!wanted) continue;
    if (region.matches(":hover") && region.querySelector("tbody, rect")) {
      region.addEventListener("pointerleave", refresh, { once: true });
      continue;
    }
    const row = region.querySelector("tr.at")?.dataset.id;
    Morph.node(region, document.adoptNode(wanted));
    if (row) [...region.querySelectorAll("tr[data-id]")].find((tr) => tr.dataset.id === row)?.classList.add("at");
  }
  clocks();
}

function lost() {
  LIVE.lostAt ??= Date.now();
  document.querySelector(".pulse")?.classList.add("lost");
  let note = document.getElementById("lost");
  if (!note) {
    note = document.createElement("p");
    note.id = "lost";
    note.className = "notice act";
    document.getElementById("notice").after(note);
  }
  const seconds = Math.round((Date.now() - LIVE.lostAt) / 1000);
  const age = seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
  note.textContent = `The console does not answer. This is the last picture; it has not changed for ${age}.`;
}

function found() {
  LIVE.lostAt = null;
  document.getElementById("lost")?.remove();
}

function listen() {
  const source = new EventSource(`/events?after=${encodeURIComponent(LIVE.token)}`);
  source.addEventListener("changed", (event) => {
    const { topics } = JSON.parse(event.data);
    if (LIVE.lostAt || topics.some((topic) => LIVE.topics.has(topic))) refresh();
  });
  source.addEventListener("error", () => {
    lost();
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(listen, 5000);
    }
  });
  source.addEventListener("open", () => LIVE.lostAt && refresh());
}

setInterval(() => (LIVE.lostAt ? lost() : null), 1000);
if (LIVE.topics.size) {
  setInterval(() => document.visibilityState === "visible" && !LIVE.lostAt && refresh(), IDLE_REFRESH);
  listen();
}

// -- time ---------------------------------------------------------------------------------------------------

const zone = document.querySelector(".zone-switch");
const local = () => localStorage.getItem("drse-zone") === "local";

function clocks() {
  const here = local();
  for (const time of document.querySelectorAll("time[data-clock]")) {
    time.dataset.utc ??= time.textContent;
    const moment = new Date(time.dateTime);
    if (!here) {
      time.textContent = time.dataset.utc;
      continue;
    }
    const day = /[A-Za-z]/.test(time.dataset.utc) ? { weekday: "short" } : {};
    const seconds = "seconds" in time.dataset ? { second: "2-digit" } : {};
    time.textContent = moment.toLocaleString([], { hour: "2-digit", minute: "2-digit", hour12: false, ...day, ...seconds });
  }
  if (zone) zone.textContent = here ? "Local time" : "UTC";
}

if (zone) {
  zone.disabled = false;
  zone.addEventListener("click", () => {
    localStorage.setItem("drse-zone", local() ? "utc" : "local");
    clocks();
  });
}
clocks();

// -- copying ------------------------------------------------------------------------------------------------

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}

// -- links that say no more than they must -----------------------------------------------------------------

for (const form of document.querySelectorAll("form[data-unchanged]")) {
  form.addEventListener("submit", () => {
    for (const field of form.elements) {
      if ("unchanged" in field.dataset) field.disabled = field.value === field.dataset.unchanged;
      else if (field.name && !field.value) field.disabled = true;
    }
  });
}
window.addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("form[data-unchanged] :disabled")) field.disabled = false;
});

// -- keys ---------------------------------------------------------------------------------------------------

const keys = document.getElementById("keys");
const help = document.querySelector(".help-link");
if (help) {
  help.hidden = false;
  help.addEventListener("click", (event) => {
    event.preventDefault();
    keys.showModal();
  });
}

let going = false;

function typing(target) {
  return target.matches("input:not([type=checkbox]), textarea, select, [contenteditable]");
}

function step(by) {
  const rows = [...document.querySelectorAll("main .data tbody tr[data-id]:not(.group)")];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.classList.contains("at"));
  const next = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
  rows[at]?.classList.remove("at");
  next.classList.add("at");
  next.scrollIntoView({ block: "nearest" });
  (next.querySelector("a") || next).focus({ preventScroll: true });
}

function toggle(id) {
  const details = document.getElementById(id);
  if (!details) return;
  details.open = !details.open;
  if (details.open) details.querySelector("input, pre")?.focus();
}

const KEYS = {
  "/": () => document.querySelector("input[type=search]")?.focus(),
  "?": () => keys.showModal(),
  j: () => step(1),
  k: () => step(-1),
  y: () => toggle("yaml"),
  ".": () => toggle("columns"),
  "[": () => document.querySelector("a[rel=prev]")?.click(),
  "]": () => document.querySelector("a[rel=next]")?.click(),
  Enter: () => {
    const row = document.querySelector("tr.at[data-href]");
    if (row) location.assign(row.dataset.href);
  },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys?.open) return;
  if (event.key === "Escape") {
    for (const open of document.querySelectorAll("details.menu[open]")) open.open = false;
    if (typing(event.target)) event.target.blur();
    return;
  }
  if (typing(event.target)) return;
  if (going) {
    going = false;
    const entry = document.querySelector(`.side nav a[data-key="${CSS.escape(event.key)}"]`);
    if (entry) {
      event.preventDefault();
      entry.click();
    }
    return;
  }
  if (event.key === "g") {
    going = true;
    setTimeout(() => (going = false), 1500);
    return;
  }
  if (event.key === "Enter" && event.target.matches("a, button, summary")) return;
  if (KEYS[event.key]) {
    event.preventDefault();
    KEYS[event.key]();
  }
});
