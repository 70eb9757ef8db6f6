// Who spent it: each person's or project's requests, tokens and cost, their share, and how it moved. For admins.
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { href } from "../core/route.js";
import { html, useMemo } from "../core/view.js";
import { Change } from "./figure.js";
import { Answer } from "./states.js";
import { Table } from "./table.js";

const PATHS = { people: ["/api/metrics/users", "users"], projects: ["/api/metrics/projects", "projects"] };

/** {data: [row], ...} of "people" or "projects" in the window: what the API says of each, with `key` and `name`. */
export function useSpenders(kind, question) {
  const [path, list] = PATHS[kind];
  const asking = useAsk(path, question, { live: true });
  const rows = useMemo(() => asking.data?.[list].map((one) => (kind === "people"
    ? { ...one, key: one.user_id, name: one.username ?? "deleted" }
    : { ...one, key: one.project_id ?? 0, name: one.project ?? "No project" })), [asking.data]);
  return { asking, rows };
}

/** The figures that a table has of people and of projects; `compare`: also how the cost moved. */
export function spendingColumns({ compare }) {
  const number = (id, label, key, more = {}) => ({ id, label, num: true, value: (r) => r[key], show: (r) => format.count(r[key]), exact: (r) => format.exactCount(r[key]), ...more });
  return [
    number("requests", "Requests", "requests"), number("total_tokens", "Tokens", "total_tokens"),
    { id: "error_rate", label: "Errors", num: true, minor: true, value: (r) => (r.requests ? r.error_rate : null), show: (r) => format.percent(r.requests ? r.error_rate : null), exact: (r) => format.exactPercent(r.error_rate) },
    number("unpriced_requests", "Unpriced", "unpriced_requests", { minor: true, show: (r) => (r.unpriced_requests ? html`<span class="badge warn">${format.count(r.unpriced_requests)}</span>` : html`<span class="faint">${format.count(r.unpriced_requests)}</span>`) }),
    { id: "cost", label: "Cost", num: true, value: (r) => r.cost, show: (r) => format.money(r.cost), exact: (r) => format.exactMoney(r.cost) },
    { id: "share", label: "Share", num: true, value: (r) => r.share, show: (r) => format.percent(r.share), exact: (r) => format.exactPercent(r.share) },
    ...(compare ? [{ id: "cost_before", label: "Change", num: true, value: (r) => (r.previous ? r.cost - r.previous.cost : null), out: "cost_change",
      show: (r) => (r.previous ? html`<${Change} now=${r.cost} before=${r.previous.cost} exact=${format.exactMoney} />` : format.NOTHING) }] : []),
  ];
}

/** A table of them for the page of costs. */
export function Spenders({ kind, question, page }) {
  const { asking, rows } = useSpenders(kind, question.current);
  const to = (r) => (kind === "people" ? { user: r.user_id } : { project: r.project });
  const columns = useMemo(() => [
    { id: "name", label: kind === "people" ? "Person" : "Project", value: (r) => r.name, show: (r) => ((kind === "people" ? r.username : r.project)
      ? html`<a class="cut plain-link" href=${href(page, to(r))}>${r.name}</a>` : html`<span class="quiet">${r.name}</span>`) },
    ...spendingColumns({ compare: question.compare }),
  ], [kind, question.compare, page, JSON.stringify(question.filters)]);
  return html`<${Answer} asking=${asking} height=${260}>${() => rows.length
    ? html`<${Table} caption=${`Cost by ${kind === "people" ? "person" : "project"}`} columns=${columns} rows=${rows} row=${{ key: (r) => r.key }} file=${`costs-by-${kind}`} sort=${{ id: "cost", down: true }} />`
    : html`<p class="card-body quiet">No requests in this time.</p>`}</${Answer}>`;
}
