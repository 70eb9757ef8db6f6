// What happens now: one stream of server-sent events for the whole page, and polling where that does not get through.
import { BASE, get, reachable } from "./api.js";
import { observable } from "./observable.js";
import { expired, session } from "./session.js";

const POLL_MS = 2000;
const RETRY_MS = 30_000;
const KEPT = 100;

/** The requests that are under way, the oldest first. */
export const running = observable([]);
/** How many those are in all; a long list is cut. */
export const runningTotal = observable(0);
/** Finished since the page was opened, the newest first. */
export const recent = observable([]);
/** Moves whenever something finished: figures are asked again. */
export const pulse = observable(0);
/** "connecting", "live", "polling" or "off". */
export const link = observable("off");
/** Milliseconds that this browser's clock is ahead of the gateway's. */
export let skew = 0;

let source = null;
let timer = null;
let lastId = null;

function took(state) {
  skew = Date.now() - Date.parse(state.now);
  running.set(state.running);
  runningTotal.set(state.running_total ?? state.running.length);
}

function finished(entries, skipped = 0) {
  if (!entries.length && !skipped) return;
  const known = new Set(recent.get().map((entry) => entry.id));
  const fresh = entries.filter((entry) => !known.has(entry.id)).sort((a, b) => b.id - a.id);
  recent.set([...fresh, ...recent.get()].slice(0, KEPT));
  pulse.set(pulse.get() + 1);
}

function listen() {
  source = new EventSource(`${BASE}/api/live`);
  source.addEventListener("open", () => {
    clearTimeout(timer);
    link.set("live");
    reachable.set(true);
    pulse.set(pulse.get() + 1); // whatever was missed while there was no stream
  });
  source.addEventListener("state", (event) => took(JSON.parse(event.data)));
  source.addEventListener("requests", (event) => {
    const { requests, skipped } = JSON.parse(event.data);
    finished(requests, skipped);
  });
  source.addEventListener("error", () => {
    if (source?.readyState !== EventSource.CLOSED) {
      link.set("connecting");
      clearTimeout(timer);
      timer = setTimeout(poll, POLL_MS);
      return;
    }
    source = null;
    clearTimeout(timer);
    poll();
    setTimeout(() => !source && session.get() && !expired.get() && listen(), RETRY_MS);
  });
}

async function poll() {
  if (!session.get() || link.get() === "live" || link.get() === "off") return;
  try {
    if (!document.hidden) {
      took(await get("/api/running"));
      const { requests } = await get("/api/metrics/requests", { limit: 50 });
      const newest = requests[0]?.id ?? 0;
      if (lastId !== null && newest > lastId) finished(requests.filter((entry) => entry.id > lastId));
      lastId = newest;
      if (link.get() !== "live") link.set("polling");
    }
  } catch {
    link.set("connecting"); // the banner and the sign-in say why
  }
  clearTimeout(timer);
  timer = setTimeout(poll, POLL_MS);
}

/** Opens the stream while somebody is signed in. */
export function follow() {
  const arrange = () => {
    const wanted = Boolean(session.get()) && !expired.get();
    if (wanted && !source) {
      link.set("connecting");
      listen();
    } else if (!wanted) {
      source?.close();
      source = null;
      clearTimeout(timer);
      link.set("off");
    }
  };
  session.on(arrange);
  expired.on(arrange);
  arrange();
}
