// People, for admins: who uses and costs what, by person and by project; one of them in detail; users, projects and keys.
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { fixed, useQuestion } from "../core/question.js";
import { change, go, href, useRoute } from "../core/route.js";
import { html, useMemo, useState } from "../core/view.js";
import { Bars } from "../parts/bars.js";
import { Choice } from "../parts/choice.js";
import { Courses } from "../parts/courses.js";
import { Icon } from "../parts/icons.js";
import { KeyTable } from "../parts/keys.js";
import { Card, Page } from "../parts/page.js";
import { Person } from "../parts/person.js";
import { Projects } from "../parts/projects.js";
import { spendingColumns, useSpenders } from "../parts/spenders.js";
import { Answer } from "../parts/states.js";
import { Table } from "../parts/table.js";
import { NewUser } from "../parts/user_forms.js";

const ALWAYS = fixed();
const MOST = 4;
const BARS = {
  cost: ["Cost", "cost", format.money, format.exactMoney],
  requests: ["Requests", "requests", format.count, format.exactCount],
  tokens: ["Tokens", "total_tokens", format.count, format.exactCount],
};
const NOTHING_USED = { requests: 0, total_tokens: 0, error_rate: 0, unpriced_requests: 0, cost: 0, share: 0, previous: null, last_request_at: null };
const UNKNOWN = { requests: null, total_tokens: null, error_rate: null, unpriced_requests: null, cost: null, share: null, previous: null };

/** Everybody, with what they used in the window; what is not known yet is null, not zero. The deleted come last. */
function join(users, usage) {
  const used = new Map((usage ?? []).map((one) => [one.user_id, one]));
  const here = users.map((user) => ({ ...(usage ? NOTHING_USED : UNKNOWN), ...used.get(user.id), ...user, name: user.username }));
  const known = new Set(users.map((user) => user.id));
  const gone = (usage ?? []).filter((one) => !known.has(one.user_id)).map((one) => ({ ...one, id: one.user_id, gone: true }));
  return [...here, ...gone];
}

export default function People({ rest }) {
  const question = useQuestion();
  const { query } = useRoute();
  const users = useAsk("/api/admin/users", ALWAYS);
  const { asking: usage, rows } = useSpenders("people", question.current);
  const keys = useAsk("/api/admin/keys", ALWAYS);
  const [adding, setAdding] = useState(false);
  const people = useMemo(() => (users.data ? join(users.data.users, rows) : []), [users.data, rows]);
  const by = BARS[query.people_by] ? query.people_by : "cost";
  const [, key, show, exact] = BARS[by];
  const top = useMemo(() => [...people].sort((a, b) => b.cost - a.cost || b.requests - a.requests).filter((one) => one.requests > 0), [people]);
  const person = rest[0] && people.find((one) => String(one.id) === rest[0] && !one.gone);
  const again = () => { users.again(); usage.again(); keys.again(); };
  const add = html`<button type="button" class="btn small primary" onClick=${() => setAdding(true)}><${Icon} name="plus" size=${15} />Add a person</button>`;
  const leading = top.slice(0, MOST).filter((one) => !one.gone);
  return html`<${Page} title="People" question=${question} filters=${["model", "project", "endpoint"]} live=${true}>
    ${leading.length > 0 && html`<${Courses} question=${question} live=${true} height=${220} measures=${["cost", "requests", "tokens", "errors"]}
      whose=${top.length > MOST ? "of the four dearest" : ""} subjects=${leading.map((one) => ({ label: one.username, params: { user_id: one.id } }))} />`}
    <div class="grid-2 stretch">
      <${Card} title="By person" actions=${html`<${Choice} label="People by" value=${by} options=${Object.entries(BARS).map(([id, [label]]) => [id, label])} choose=${(id) => change({ people_by: id === "cost" ? null : id }, { replace: true })} />`}>
        <${Answer} asking=${usage} height=${300}>${() => top.length
          ? html`<${Bars} show=${show} exact=${exact} rows=${top.map((one) => ({ key: one.id, name: one.name, value: one[key], href: one.gone ? undefined : href("people", {}, [String(one.id)]) }))} />`
          : html`<p class="quiet">Nobody asked anything in this time.</p>`}</${Answer}>
      </${Card}>
      <${Projects} question=${question} users=${users.data?.users ?? []} />
    </div>
    <${Card} title="Everybody" actions=${add} pad=${false}>
      <div class="card-gap"></div>
      <${Answer} asking=${users} height=${320}>${() => html`<${List} people=${people} question=${question} />`}</${Answer}>
    </${Card}>
    <${Card} title="Everybody's API keys" pad=${false}>
      <div class="card-gap"></div>
      <${Answer} asking=${keys} height=${160}>${(data) => data.keys.length
        ? html`<${KeyTable} keys=${data.keys} zone=${question.zone} path="/api/admin/keys" owner=${true} again=${keys.again} />`
        : html`<p class="card-body quiet">There are no keys.</p>`}</${Answer}>
    </${Card}>
    ${adding && html`<${NewUser} close=${() => setAdding(false)} done=${again} />`}
    ${person && html`<${Person} key=${person.id} person=${person} question=${question} again=${again} close=${() => go("people", {}, { rest: [] })} />`}
  </${Page}>`;
}

function List({ people, question }) {
  const { zone, compare } = question;
  const columns = useMemo(() => [
    { id: "username", label: "Person", value: (p) => p.name, show: (p) => html`<span class="row nowrap-row"><b class="cut ${p.gone ? "quiet" : ""}">${p.name}</b>
      ${p.is_admin && html`<span class="badge accent">admin</span>`}${p.disabled && html`<span class="badge warn">disabled</span>`}</span>` },
    ...spendingColumns({ compare }),
    { id: "last_request_at", label: "Last request", num: true, value: (p) => p.last_request_at ?? null, show: (p) => (p.last_request_at ? format.ago(p.last_request_at) : format.NOTHING), exact: (p) => p.last_request_at && format.at(p.last_request_at, zone) },
    { id: "created_at", label: "Since", num: true, minor: true, value: (p) => p.created_at ?? null, show: (p) => format.at(p.created_at, zone, "date") },
  ], [zone, compare]);
  return html`<${Table} caption="Everybody" columns=${columns} rows=${people} file="people" sort=${{ id: "cost", down: true }}
    row=${{ key: (p) => p.id, href: (p) => (p.gone ? href("people") : href("people", {}, [String(p.id)])) }} />`;
}
