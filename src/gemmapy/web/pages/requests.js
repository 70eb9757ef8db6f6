// The log: newest first, page by page, with those that come in at the top; and one request's story over it.
import { useAsk } from "../core/ask.js";
import { get } from "../core/api.js";
import * as format from "../core/format.js";
import { recent, skew } from "../core/live.js";
import { useObservable } from "../core/observable.js";
import { useQuestion } from "../core/question.js";
import { change, go, href, useRoute } from "../core/route.js";
import { session } from "../core/session.js";
import { html, useEffect, useMemo, useRef, useState } from "../core/view.js";
import { Choice } from "../parts/choice.js";
import { useChoices } from "../parts/filters.js";
import { FirstRequest } from "../parts/first.js";
import { Icon } from "../parts/icons.js";
import { RunningLine, requestColumns } from "../parts/now.js";
import { Card, Page } from "../parts/page.js";
import { Failure, Skeleton } from "../parts/states.js";
import { Story } from "../parts/story.js";
import { Table } from "../parts/table.js";

const PAGE = 50;
const ID = /^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d{1,18})$/i;

/** The rows known so far: the first page as it moves, and the older ones that were asked for. */
function useLog(question, live) {
  const first = useAsk("/api/metrics/requests", question, { live });
  const [log, setLog] = useState({ key: null, rows: [], next: null });
  const [older, setOlder] = useState({ busy: false, error: null });
  useEffect(() => {
    if (!first.data || first.busy) return;
    setLog((before) => {
      const fresh = first.data.requests;
      const known = new Set(fresh.map((row) => row.id));
      const meets = before.rows.some((row) => known.has(row.id));
      if (before.key !== question.key || !meets) return { key: question.key, rows: fresh, next: first.data.next };
      // What was answered last is believed where both know a row: a rating may have changed.
      return { ...before, rows: [...fresh, ...before.rows.filter((row) => !known.has(row.id))].sort((a, b) => b.id - a.id) };
    });
  }, [first.data, first.busy, question.key]);
  const more = async () => {
    setOlder({ busy: true, error: null });
    try {
      const page = await get("/api/metrics/requests", { ...question.params(), before: log.next });
      setLog((before) => before.key === question.key
        ? { ...before, rows: [...before.rows, ...page.requests], next: page.next } : before);
      setOlder({ busy: false, error: null });
    } catch (error) {
      setOlder({ busy: false, error });
    }
  };
  return { first, log, more, older, ready: log.key === question.key };
}

export default function Requests({ rest }) {
  const question = useQuestion();
  const { query } = useRoute();
  const admin = useObservable(session).user.is_admin;
  const [tail, setTail] = useState(true);
  const asked = question.current.with({ limit: PAGE, errors: query.errors, key: query.key, status: query.status, search: query.q });
  const { first, log, more, older, ready } = useLog(asked, tail);
  const seen = useObservable(recent);
  const fresh = new Set(seen.slice(0, 20).filter((r) => Date.now() - Date.parse(r.created_at) - skew < 3000).map((r) => r.id));
  const columns = useMemo(() => requestColumns({ zone: question.zone, admin }), [question.zone, admin]);
  const chips = [
    ...(query.q ? [{ name: "q", label: "Search", text: query.q }] : []),
    ...(query.key ? [{ name: "key", label: "API key", text: query.key }] : []),
    ...(query.status ? [{ name: "status", label: "Status", text: query.status }] : []),
  ];
  const shut = () => go("requests", {}, { rest: [] });
  return html`<${Page} title="Requests" question=${question} filters=${true} chips=${chips} actions=${html`<${Search} />`}>
    <${Card} label="Log" pad=${false}>
      <div class="card-head">
        <${Choice} label="Outcome" value=${query.errors ? "errors" : "all"} options=${[["all", "All"], ["errors", "Failed"]]}
          choose=${(id) => change({ errors: id === "errors" ? "true" : null })} />
        <span class="push"></span>
        <button type="button" class="btn small" aria-pressed=${tail} onClick=${() => setTail(!tail)}
          title=${tail ? "New requests come in at the top" : "The list stands still"}><span class="dot ${tail ? "beats" : ""}" aria-hidden="true"></span>${tail ? "Live tail" : "Paused"}</button>
      </div>
      <${RunningLine} filters=${question.filters} />
      ${first.error && html`<div class="card-body"><${Failure} error=${first.error} again=${first.again} /></div>`}
      ${!ready && !first.error && log.rows.length === 0 && html`<div class="card-body"><${Skeleton} height=${620} /></div>`}
      ${(ready || log.rows.length > 0) && html`<div class=${ready ? "" : "busy"}>
        ${log.rows.length > 0
          ? html`<${Table} caption="Requests, the newest first" columns=${columns} rows=${log.rows} fixed=${true} kind="brief" file="requests" exported=${() => log.rows}
              row=${{ key: (r) => r.id, href: (r) => href("requests", {}, [r.request_id]), fresh: (r) => fresh.has(r.id) }}
              foot=${html`<span>${format.exactCount(log.rows.length)} shown${log.next ? "" : ", which is all"}</span>`} />`
          : html`<${Nothing} more=${log.next} narrowed=${chips.length > 0 || query.errors || Object.values(question.filters).some(Boolean)} />`}
        ${older.error && html`<div class="card-body"><${Failure} error=${older.error} again=${more} /></div>`}
        ${log.next && html`<div class="card-body centre"><button type="button" class="btn" onClick=${more} disabled=${older.busy}>${older.busy ? "Loading" : query.q ? "Look further back" : "Older requests"}</button></div>`}
      </div>`}
    </${Card}>
    ${rest[0] && html`<${Story} key=${rest[0]} id=${rest[0]} zone=${question.zone} close=${shut} />`}
  </${Page}>`;
}

/** `more`: a search looks at so many requests at a time, and there are older ones. */
function Nothing({ narrowed, more }) {
  if (more) return html`<p class="card-body quiet">Nothing so far. There are older requests to look at.</p>`;
  if (narrowed) return html`<p class="card-body quiet">No request fits. Take out a filter, or choose a longer time.</p>`;
  return html`<${FirstRequest} bare=${true} />`;
}

/** The filter that a text names in full: [name, value] of a model, person, project or endpoint. */
function named(text, choices) {
  const pairs = (name, values) => values.map((value) => (Array.isArray(value) ? [name, ...value] : [name, value, value]));
  const all = [...pairs("model", choices.models), ...pairs("user", choices.users), ...pairs("project", choices.projects), ...pairs("endpoint", choices.endpoints)];
  return all.find(([, , label]) => label.toLowerCase() === text.toLowerCase());
}

/** An id opens that request; a name sets its filter; any other text is looked for in the log. `/` brings the cursor here. */
function Search() {
  const [used, setUsed] = useState(false);
  const choices = useChoices(used);
  const [value, setValue] = useState("");
  const box = useRef(null);
  useEffect(() => {
    const key = (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select, dialog")) return;
      event.preventDefault();
      box.current.focus();
    };
    document.addEventListener("keydown", key);
    return () => document.removeEventListener("keydown", key);
  }, []);
  const submit = (event) => {
    event.preventDefault();
    const wanted = value.trim();
    if (!wanted) return;
    const found = named(wanted, choices);
    if (ID.test(wanted)) go("requests", {}, { rest: [wanted] });
    else if (found) change({ [found[0]]: found[1] });
    else change({ q: wanted });
    setValue("");
  };
  const labels = [...choices.models, ...choices.users.map(([, name]) => name), ...choices.projects, ...choices.endpoints];
  return html`<form class="search" role="search" onSubmit=${submit}>
    <${Icon} name="search" size=${16} />
    <input ref=${box} class="input" type="search" list="known-names" value=${value} aria-label="Search requests" placeholder="Search requests" maxlength="200" onFocus=${() => setUsed(true)}
      title="An id opens that request. Any other text is looked for in models, people, endpoints, errors, upstreams, end users and clients' ids." autocomplete="off" spellcheck="false" onInput=${(e) => setValue(e.target.value)} />
    <kbd aria-hidden="true">/</kbd>
    <datalist id="known-names">${labels.map((label) => html`<option key=${label} value=${label} />`)}</datalist>
  </form>`;
}
