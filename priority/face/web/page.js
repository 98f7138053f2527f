// Keeps a page as it is now: each event (server-sent) asks for the same page again and changes what differs.
// Output is followed as a stream. Without this script every page works, as of the moment that it was loaded.
"use strict";

const main = document.getElementById("main");
const live = document.getElementById("live");
const GATHER_MS = 1000, SHARE = 20; // however much happens: at most one look a second, and a twentieth of the time
let last = main.dataset.live, due = null, looking = false, again = false;

function show(word, on) {
  if (live) { live.textContent = word; live.classList.toggle("on", on); }
}

function morph(old, now) {
  if (old.isEqualNode(now)) return;
  if (old.nodeName !== now.nodeName) return old.replaceWith(now);
  if (old.nodeType !== Node.ELEMENT_NODE) { old.data = now.data; return; }
  if (old.hasAttribute("data-keep")) return;
  for (const { name } of [...old.attributes])
    if (!now.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of now.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const before = [...old.childNodes], after = [...now.childNodes];
  after.forEach((child, place) => place < before.length ? morph(before[place], child) : old.append(child));
  before.slice(after.length).forEach((child) => child.remove());
}

async function look() {
  due = null;
  if (document.hidden || looking) { again = true; return; }
  looking = true;
  again = false;
  const began = performance.now();
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.status === 401) return location.reload();
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (answer.ok) morph(main, page.getElementById("main"));
  } catch {
    again = true; // the server is away; its next event, or its return, brings us back
  } finally {
    looking = false;
    due ??= setTimeout(() => { due = null; if (again) soon(); }, Math.max(GATHER_MS, SHARE * (performance.now() - began)));
  }
}

function soon() {
  again = true;
  if (due === null && !looking) look();
}

async function listen() {
  const job = main.dataset.job ? `&job=${encodeURIComponent(main.dataset.job)}` : "";
  for (let lost = false; ; lost = true) {
    await seen();
    if (lost) { soon(); await rest(1000); }
    try {
      const answer = await fetch(`/events?after=${last}${job}`, { signal: gone.signal });
      if (answer.status === 401) return location.reload();
      if (!answer.ok) throw new Error(answer.status);
      show("live", true);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let held = ""; ;) {
        const { done, value } = await reader.read();
        if (done) break;
        const lines = (held + value).split("\n");
        held = lines.pop();
        const ids = lines.filter((line) => line.startsWith("id: "));
        if (ids.length) { last = ids.at(-1).slice(4); soon(); }
      }
    } catch { /* the server is away, or the page is hidden */ }
    show(document.hidden ? "" : "not connected", false);
  }
}

function rest(ms) {
  return new Promise((done) => setTimeout(done, ms));
}

// A browser has six connections to a server: a page that nobody sees holds none.
let gone = new AbortController(), wake = () => {}, shown = Promise.resolve();

function seen() {
  return shown;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    shown = new Promise((done) => { wake = done; });
    gone.abort();
  } else {
    gone = new AbortController();
    wake();
    if (again) soon();
  }
});

// --- times

function span(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60]])
    if (seconds >= 2 * size) return Math.round(seconds / size) + unit;
  return Math.round(Math.max(0, seconds)) + "s";
}

function tick() {
  if (document.hidden) return;
  for (const time of main.querySelectorAll("time"))
    time.textContent = span((Date.now() - Date.parse(time.dateTime)) / 1000);
}

// --- output

const KEPT = 2 ** 21; // characters; the whole of it is behind "download"
const ESCAPES = /\x1b(?:\[[0-?]*[ -\/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -\/]*[0-~]?)/g;
const HIDDEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

function plain(text) {
  return text.replace(ESCAPES, "").replace(/\r\n?/g, "\n")
    .replace(HIDDEN, (found) => found < " " ? String.fromCharCode(0x2400 + found.charCodeAt(0)) : "\ufffd");
}

function put(box, text) {
  const down = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  box.append(plain(text));
  let spare = box.textContent.length - KEPT;
  while (spare > 0 && box.childNodes.length > 1) { spare -= box.firstChild.length; box.firstChild.remove(); }
  if (down) box.scrollTop = box.scrollHeight;
}

async function follow(box) {
  let next = Number(box.dataset.next), held = "", ended = "ended" in box.dataset;
  let decoder = new TextDecoder();
  box.scrollTop = box.scrollHeight;
  while (!ended) {
    await seen();
    try {
      const answer = await fetch(`${box.dataset.output}&follow=true&offset=${next}`, { signal: gone.signal });
      if (!answer.ok) return;
      const from = Number(answer.headers.get("log-offset"));
      if (from !== next) { put(box, `\n... ${from - next} bytes are gone ...\n`); next = from; decoder = new TextDecoder(); }
      for (const reader = answer.body.getReader(); ;) {
        const { done, value } = await reader.read();
        if (done) break;
        next += value.length;
        const text = held + decoder.decode(value, { stream: true });
        const cut = /(?:\x1b[^\x07]{0,80}|\r)$/.exec(text); // an escape, or a line's end, may go on in the next piece
        held = cut ? cut[0] : "";
        put(box, cut ? text.slice(0, cut.index) : text);
      }
      const end = await fetch(`${box.dataset.output}&offset=${next}&limit=1`);
      ended = end.ok && end.headers.get("log-ended") === "true";
      if (!ended) throw new Error("the stream stopped, not the task");
    } catch {
      await rest(1000); // the server is away, or the page hidden: on from where it stopped
    }
  }
  put(box, held + decoder.decode());
}

// --- begin

for (const box of document.querySelectorAll("[data-output]")) follow(box);
if (last !== undefined) {
  setInterval(tick, 5000);
  listen();
}
