// What happens now: the requests under way, and the latest that finished, as they come.
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { link, recent, running, runningTotal, skew } from "../core/live.js";
import { useObservable } from "../core/observable.js";
import { html, useEffect, useState } from "../core/view.js";
import { href } from "../core/route.js";
import { startOfDay } from "../core/zone.js";
import { Card } from "./page.js";
import { Outcome } from "./outcome.js";
import { Answer } from "./states.js";
import { Table } from "./table.js";

/** The gateway's time, drawn anew every half second while something runs. */
function useNow(ticking) {
  const [, tick] = useState(0);
  useEffect(() => {
    if (!ticking) return undefined;
    const timer = setInterval(() => tick((n) => n + 1), 500);
    return () => clearInterval(timer);
  }, [ticking]);
  return Date.now() - skew;
}

/** The tenth figure: how many are under way, and the two that have been the longest. */
export function RunningNow() {
  const list = useObservable(running);
  const all = useObservable(runningTotal);
  const state = useObservable(link);
  const now = useNow(list.length > 0);
  const known = state === "live" || state === "polling";
  return html`<a class="figure" href=${href("requests")}>
    <span class="figure-label">Running now</span>
    <span class="figure-line"><span class="figure-value">${known ? format.count(all) : format.NOTHING}</span></span>
    ${list.slice(0, 2).map((one) => html`<span class="figure-sub row between nowrap-row" key=${one.request_id}>
      <span class="cut">${one.username ? `${one.username}, ` : ""}${one.model}</span><span class="nowrap">${format.duration(Math.max(0, now - Date.parse(one.started_at)))}</span></span>`)}
    ${!list.length && html`<span class="figure-sub">${known ? "idle" : ""}</span>`}
    ${all > 2 && html`<span class="figure-sub">and ${format.count(all - 2)} more</span>`}
  </a>`;
}

/** One line over the log: what runs, as far as the filters let it through. Its height does not change with what runs. */
export function RunningLine({ filters }) {
  const all = useObservable(running);
  const total = useObservable(runningTotal);
  const state = useObservable(link);
  const now = useNow(all.length > 0);
  const { model, endpoint, user_id: user, project } = filters;
  const shown = all.filter((one) => (!model || one.model === model) && (!endpoint || one.endpoint === endpoint) && (!user || String(one.user_id) === user));
  if (project) return null; // what runs does not say who pays
  const many = model || endpoint || user ? shown.length : total;
  const known = state === "live" || state === "polling";
  return html`<div class="running-line" role="group" aria-label="Running now">
    <span class="badge ${many ? "accent" : ""}"><span class="dot ${many ? "beats" : ""}" aria-hidden="true"></span>${known ? format.count(many) : format.NOTHING} running</span>
    ${shown.slice(0, 12).map((one) => html`<span class="running-one" key=${one.request_id} title=${one.upstream ? `${one.endpoint}, at ${one.upstream}` : one.endpoint}>
      <b>${one.model}</b>${one.username ? html` <span class="quiet">${one.username}</span>` : ""} <span class="faint">${format.duration(Math.max(0, now - Date.parse(one.started_at)))}</span></span>`)}
  </div>`;
}

/** The columns that a list of requests has everywhere. Of today, the time of day says enough. */
export function requestColumns({ zone, admin }) {
  const today = startOfDay(Date.now(), zone);
  return [
    { id: "created_at", label: "Time", value: (r) => r.created_at, show: (r) => format.at(r.created_at, zone, Date.parse(r.created_at) >= today ? "time" : "log"), exact: (r) => format.at(r.created_at, zone) },
    ...(admin ? [{ id: "username", label: "Person", value: (r) => r.username, show: (r) => html`<span class="cut">${r.username ?? "deleted"}</span>` }] : []),
    { id: "model", label: "Model", value: (r) => r.model, show: (r) => html`<span class="cut" title=${r.model}>${r.model}</span>` },
    { id: "endpoint", label: "Endpoint", minor: true, value: (r) => r.endpoint },
    { id: "status", label: "Outcome", value: (r) => r.error_code ?? r.status, show: (r) => html`<${Outcome} request=${r} />` },
    { id: "total_tokens", label: "Tokens", num: true, value: (r) => r.total_tokens,
      show: (r) => (r.estimated && r.total_tokens !== null ? "≈ " : "") + format.count(r.total_tokens),
      exact: (r) => `${format.exactCount(r.prompt_tokens)} in, ${format.exactCount(r.response_tokens)} out${r.estimated ? ", estimated" : ""}` },
    { id: "duration_ms", label: "Duration", num: true, value: (r) => r.duration_ms, show: (r) => format.duration(r.duration_ms), exact: (r) => format.exactDuration(r.duration_ms) },
    { id: "tokens_per_second", label: "Speed", num: true, minor: true, value: (r) => r.tokens_per_second, show: (r) => format.speed(r.tokens_per_second) },
    { id: "cost", label: "Cost", num: true, value: (r) => r.cost, show: (r) => (r.cost === null && r.total_tokens ? html`<span class="badge warn">unpriced</span>` : format.money(r.cost)), exact: (r) => format.exactMoney(r.cost) },
  ];
}

/** The last ten, and those that come, within the filters. */
export function LatestRequests({ question, admin }) {
  const log = useAsk("/api/metrics/requests", question.current.with({ limit: 10 }), { live: true });
  const seen = useObservable(recent);
  const fresh = new Set(seen.slice(0, 10).filter((r) => Date.now() - Date.parse(r.created_at) - skew < 3000).map((r) => r.id));
  const all = html`<a class="btn small" href=${href("requests")}>All requests</a>`;
  return html`<${Card} title="Latest requests" actions=${all} pad=${false}>
    <div class="card-gap"></div>
    <${Answer} asking=${log} height=${360}>${(data) => data.requests.length
      ? html`<${Table} caption="Latest requests" columns=${requestColumns({ zone: question.zone, admin })} rows=${data.requests} fixed=${true} kind="brief"
          row=${{ key: (r) => r.id, href: (r) => href("requests", {}, [r.request_id]), fresh: (r) => fresh.has(r.id) }} file="latest-requests" />`
      : html`<p class="card-body quiet">No requests in this time.</p>`}</${Answer}>
  </${Card}>`;
}
