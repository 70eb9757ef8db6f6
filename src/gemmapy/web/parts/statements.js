// Monthly statements: one's own to look at, print and save; for admins everybody's, and closing a month.
import { BASE, post } from "../core/api.js";
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { fixed } from "../core/question.js";
import { html, useMemo, useState } from "../core/view.js";
import { Dialog } from "./dialog.js";
import { Card } from "./page.js";
import { Answer, Failure, Skeleton } from "./states.js";
import { Table } from "./table.js";
import { say } from "./toasts.js";

const SOME = fixed({ limit: 200 });
const ALWAYS = fixed();
const month = (text, zone = "UTC") => format.at(`${text}-15T12:00:00Z`, zone, "month");

export function Statements({ admin, zone }) {
  const list = useAsk(admin ? "/api/admin/statements" : "/api/statements", SOME);
  const [closing, setClosing] = useState(false);
  const columns = useMemo(() => [
    { id: "number", label: "Number", value: (s) => s.number, show: (s) => html`<a href=${`${BASE}/api/statements/${s.number}?format=html`} target="_blank" rel="noopener">${s.number}</a>` },
    { id: "month", label: "Month", value: (s) => s.month, show: (s) => month(s.month) },
    { id: "subject", label: "For", value: (s) => s.subject, show: (s) => html`<span class="row nowrap-row"><span class="cut">${s.subject}</span>${s.kind !== "user" && html`<span class="badge">${s.kind}</span>`}</span>` },
    { id: "total_cost", label: "In all", num: true, value: (s) => s.total_cost, show: (s) => format.money(s.total_cost), exact: (s) => format.exactMoney(s.total_cost) },
    { id: "closed_at", label: "Closed", value: (s) => s.closed_at, show: (s) => format.at(s.closed_at, zone, "date"), exact: (s) => format.at(s.closed_at, zone) },
    { id: "save", label: "", hidden: "Save", sort: false, out: false, value: () => null, show: (s) => html`<span class="row nowrap-row">
        <a class="btn small" href=${`${BASE}/api/statements/${s.number}?format=html`} target="_blank" rel="noopener" aria-label=${`Print statement ${s.number}`}>Print</a>
        <a class="btn small" href=${`${BASE}/api/statements/${s.number}?format=csv`} download aria-label=${`Save statement ${s.number} as CSV`}>CSV</a></span>` },
  ], [zone]);
  const actions = admin && html`<button type="button" class="btn small" onClick=${() => setClosing(true)}>Close a month</button>`;
  return html`<${Card} title="Statements" actions=${actions} pad=${false}>
    <div class="card-gap"></div>
    <${Answer} asking=${list} height=${110}>${(data) => data.statements.length
      ? html`<${Table} caption="Statements" columns=${columns} rows=${data.statements} row=${{ key: (s) => s.number }} file="statements" sort=${{ id: "number", down: true }} />`
      : html`<p class="card-body quiet">None yet: a statement is made for each person and project when a month is closed, and never changes after that.</p>`}</${Answer}>
    ${closing && html`<${CloseMonth} close=${() => setClosing(false)} done=${list.again} />`}
  </${Card}>`;
}

/** The month after the last closed one, else the last that is over. */
function next(months) {
  const now = new Date();
  const over = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - 1, 1));
  if (!months.length) return over.toISOString().slice(0, 7);
  const [year, number] = months[0].month.split("-").map(Number);
  return new Date(Date.UTC(year, number, 1)).toISOString().slice(0, 7);
}

function CloseMonth({ close, done }) {
  const closed = useAsk("/api/admin/months", ALWAYS);
  const [chosen, setChosen] = useState(null);
  const [preview, setPreview] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const which = chosen ?? (closed.data ? next(closed.data.months) : "");
  const act = async (dry) => {
    setBusy(true);
    setError(null);
    try {
      const answer = await post("/api/admin/months", { month: which, dry_run: dry });
      if (dry) setPreview(answer);
      else {
        say(`${month(which)} is closed, with ${answer.statements.length} statements.`);
        done();
        close();
      }
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  return html`<${Dialog} title="Close a month" close=${close}>
    <p class="quiet">Closing freezes a month (in UTC): each person and project gets a statement with a number, and later corrections appear in a later month's. It cannot be undone.</p>
    ${!closed.data ? html`<${Skeleton} height=${60} />` : html`<label class="field"><span>Month</span><input class="input" type="month" value=${which} onInput=${(e) => { setChosen(e.target.value); setPreview(null); }} /></label>`}
    ${preview && html`<div class="figures three inset">
      <div class="figure short"><span class="figure-label">Statements</span><span class="figure-value">${format.count(preview.statements.length)}</span></div>
      <div class="figure short"><span class="figure-label">Requests</span><span class="figure-value">${format.count(preview.requests)}</span></div>
      <div class="figure short wide-on-phone"><span class="figure-label">In all</span><span class="figure-value" title=${format.exactMoney(preview.total_cost + preview.corrections)}>${format.money(preview.total_cost + preview.corrections)}</span></div>
    </div>`}
    ${error && html`<${Failure} error=${error} />`}
    <div class="row end"><button type="button" class="btn" onClick=${close}>Cancel</button>
      ${preview ? html`<button type="button" class="btn danger" disabled=${busy} onClick=${() => act(false)}>Close ${month(which)} for good</button>`
        : html`<button type="button" class="btn primary" disabled=${busy || !which} onClick=${() => act(true)}>Show what it would say</button>`}</div>
  </${Dialog}>`;
}
