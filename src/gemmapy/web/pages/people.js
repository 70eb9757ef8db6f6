// People, for admins: who uses and costs what, by person and by project; one of them in detail; users, projects and keys.
import { useAsk } from "../core/ask.js";
import { useEach } from "../core/each.js";
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
import { Answer } from "../parts/states.js";
import { Table } from "../parts/table.js";
import { NewUser } from "../parts/user_forms.js";

const ALWAYS = fixed();
const MOST = 4;
const BARS = { cost: [format.money, format.exactMoney], requests: [format.count, format.exactCount], tokens: [format.count, format.exactCount] };

const sum = (costs, key) => costs.breakdown.reduce((all, one) => all + one[key], 0);

/** Everybody, with what they used in the window; what is not known yet is null, not zero. */
function join(users, usage) {
  return users.map((user) => {
    const costs = usage?.get(user.id);
    if (!costs) return { ...user, cost: null, requests: null, tokens: null };
    return { ...user, cost: costs.total_cost, requests: sum(costs, "request_count"), tokens: sum(costs, "prompt_tokens") + sum(costs, "response_tokens") };
  });
}

export default function People({ rest }) {
  const question = useQuestion();
  const { query } = useRoute();
  const users = useAsk("/api/admin/users", ALWAYS);
  const usage = useEach("/api/costs/summary", question.current, users.data?.users.map((user) => ({ key: user.id, params: { user_id: user.id } })));
  const keys = useAsk("/api/admin/keys", ALWAYS);
  const [adding, setAdding] = useState(false);
  const people = useMemo(() => (users.data ? join(users.data.users, usage.data) : []), [users.data, usage.data]);
  const by = BARS[query.people_by] ? query.people_by : "cost";
  const top = useMemo(() => [...people].sort((a, b) => b.cost - a.cost || b.requests - a.requests).filter((one) => one.requests > 0), [people]);
  const person = rest[0] && people.find((one) => String(one.id) === rest[0]);
  const again = () => { users.again(); usage.again(); keys.again(); };
  const add = html`<button type="button" class="btn small primary" onClick=${() => setAdding(true)}><${Icon} name="plus" size=${15} />Add a person</button>`;
  return html`<${Page} title="People" question=${question} filters=${["model", "project", "endpoint"]} live=${true}>
    ${top.length > 0 && html`<${Courses} question=${question} live=${true} height=${220} measures=${["cost", "requests", "tokens", "errors"]}
      subjects=${top.slice(0, MOST).map((one) => ({ label: one.username, params: { user_id: one.id } }))} />`}
    <div class="grid-2 stretch">
      <${Card} title="By person" actions=${html`<${Choice} label="People by" value=${by} options=${[["cost", "Cost"], ["requests", "Requests"], ["tokens", "Tokens"]]} choose=${(id) => change({ people_by: id === "cost" ? null : id }, { replace: true })} />`}>
        <${Answer} asking=${usage} height=${260}>${() => top.length
          ? html`<${Bars} show=${BARS[by][0]} exact=${BARS[by][1]} rows=${top.map((one) => ({ key: one.id, name: one.username, value: one[by], href: href("people", {}, [String(one.id)]) }))} />`
          : html`<p class="quiet">Nobody asked anything in this time.</p>`}</${Answer}>
      </${Card}>
      <${Projects} question=${question} users=${users.data?.users ?? []} />
    </div>
    <${Card} title="Everybody" actions=${add} pad=${false}>
      <div class="card-gap"></div>
      <${Answer} asking=${users} height=${320}>${() => html`<${List} people=${people} zone=${question.zone} />`}</${Answer}>
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

function List({ people, zone }) {
  const total = people.reduce((all, one) => all + one.cost, 0);
  const columns = useMemo(() => [
    { id: "username", label: "Person", value: (p) => p.username, show: (p) => html`<span class="row nowrap-row"><b class="cut">${p.username}</b>
      ${p.is_admin && html`<span class="badge accent">admin</span>`}${p.disabled && html`<span class="badge warn">disabled</span>`}</span>` },
    { id: "requests", label: "Requests", num: true, value: (p) => p.requests, show: (p) => format.count(p.requests), exact: (p) => format.exactCount(p.requests) },
    { id: "tokens", label: "Tokens", num: true, value: (p) => p.tokens, show: (p) => format.count(p.tokens), exact: (p) => format.exactCount(p.tokens) },
    { id: "cost", label: "Cost", num: true, value: (p) => p.cost, show: (p) => format.money(p.cost), exact: (p) => format.exactMoney(p.cost) },
    { id: "share", label: "Share", num: true, value: (p) => (total ? p.cost / total : null), show: (p) => format.percent(total ? p.cost / total : null), exact: (p) => format.exactPercent(total ? p.cost / total : null) },
    { id: "created_at", label: "Since", value: (p) => p.created_at ?? null, show: (p) => format.at(p.created_at, zone, "date") },
  ], [total, zone]);
  return html`<${Table} caption="Everybody" columns=${columns} rows=${people} file="people" sort=${{ id: "cost", down: true }}
    row=${{ key: (p) => p.id, href: (p) => href("people", {}, [String(p.id)]) }} />`;
}
