// One person, in a drawer: what they used and cost, and what an admin can do about them.
import { patch, remove } from "../core/api.js";
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { MEASURES } from "../core/measures.js";
import { fixed } from "../core/question.js";
import { href } from "../core/route.js";
import { session } from "../core/session.js";
import { useObservable } from "../core/observable.js";
import { html, useState } from "../core/view.js";
import { Bars } from "./bars.js";
import { Chart, underWay } from "./chart.js";
import { Dialog } from "./dialog.js";
import { Figure } from "./figure.js";
import { KeyTable, NewKey } from "./keys.js";
import { PersonLimits } from "./limits.js";
import { Answer, Failure, Skeleton } from "./states.js";
import { say } from "./toasts.js";
import { NewPassword } from "./user_forms.js";

const ALWAYS = fixed();

export function Person({ person, question, close, again }) {
  const mine = { user_id: person.id };
  const { current, previous, compare, interval, zone } = question;
  const dashboard = useAsk("/api/metrics/dashboard", current.with(mine), { live: true });
  const costs = useAsk("/api/costs/summary", current.with(mine), { live: true });
  const before = useAsk(compare ? "/api/metrics/dashboard" : null, previous.with(mine));
  const costsBefore = useAsk(compare ? "/api/costs/summary" : null, previous.with(mine));
  const series = useAsk("/api/metrics/timeseries", current.with({ ...mine, interval, tz: zone, fill: true }), { live: true });
  const times = series.data?.data.map((b) => Date.parse(b.start)) ?? [];
  const figures = ["cost", "requests", "tokens", "errors"].map((id) => ({ id, ...MEASURES[id] }));
  const ready = dashboard.data && costs.data;
  return html`<${Dialog} title=${person.username} kind="drawer" close=${close}>
    <div class="row">${person.is_admin && html`<span class="badge accent">admin</span>`}${person.disabled && html`<span class="badge warn">disabled</span>`}
      <a class="btn small" href=${href("overview", { user: person.id })}>Their overview</a><a class="btn small" href=${href("requests", { user: person.id })}>Their requests</a></div>
    ${dashboard.error && html`<${Failure} error=${dashboard.error} again=${dashboard.again} />`}
    <div class="figures four two-on-drawer">${figures.map((one) => html`<${Figure} key=${one.id} label=${one.label} show=${one.show} exact=${one.exact} better=${one.better}
      value=${ready ? (one.total(dashboard.data, costs.data) ?? null) : undefined} before=${before.data && costsBefore.data ? one.total(before.data, costsBefore.data) : undefined} />`)}</div>
    ${times.length > 0 ? html`<section><h3>${MEASURES.cost.label}</h3><${Chart} label=${`Cost of ${person.username} by ${interval}`} times=${times} zone=${zone} interval=${interval} height=${160}
        series=${[{ label: "Cost", values: series.data.data.map((b) => b.cost) }]} show=${format.money} exact=${format.exactMoney} open=${question.window.open && underWay(times.at(-1), interval)} /></section>`
      : html`<${Skeleton} height=${210} />`}
    <section class="stack"><h3>Models</h3><${Answer} asking=${costs} height=${120}>${(data) => data.breakdown.length
      ? html`<${Bars} limit=${5} show=${format.money} exact=${format.exactMoney} rows=${data.breakdown.map((m) => ({ key: m.model, name: m.model, value: m.total_cost }))} />`
      : html`<p class="quiet">Nothing in this time.</p>`}</${Answer}></section>
    ${html`<${Keys} person=${person} zone=${zone} /><${PersonLimits} person=${person} /><${Actions} person=${person} again=${again} close=${close} />`}
  </${Dialog}>`;
}

function Keys({ person, zone }) {
  const keys = useAsk("/api/admin/keys", ALWAYS);
  const projects = useAsk("/api/admin/projects", ALWAYS);
  const [making, setMaking] = useState(false);
  const allowed = (projects.data?.projects ?? []).filter((one) => person.is_admin || one.members.includes(person.id)).map((one) => one.name);
  return html`<section class="stack"><div class="row between"><h3>API keys</h3><button type="button" class="btn small" onClick=${() => setMaking(true)}>New key</button></div>
    <${Answer} asking=${keys} height=${60}>${(data) => {
      const own = data.keys.filter((key) => key.user_id === person.id);
      return own.length ? html`<div class="framed"><${KeyTable} keys=${own} zone=${zone} path="/api/admin/keys" again=${keys.again} /></div>` : html`<p class="quiet">None.</p>`;
    }}</${Answer}>
    ${making && html`<${NewKey} path=${`/api/admin/users/${person.id}/keys`} projects=${allowed} admin=${true} zone=${zone} made=${keys.again} close=${() => setMaking(false)} />`}
  </section>`;
}

function Actions({ person, again, close }) {
  const me = useObservable(session).user.id === person.id;
  const [asking, setAsking] = useState(null);
  const [error, setError] = useState(null);
  const act = async (what, words) => {
    setError(null);
    try {
      await what();
      say(words);
      again();
      setAsking(null);
    } catch (failure) {
      setError(failure);
    }
  };
  const set = (changes, words) => act(() => patch(`/api/admin/users/${person.id}`, changes), words);
  return html`<section class="stack"><h3>Access</h3>
    ${error && html`<${Failure} error=${error} />`}
    <div class="row">
      <button type="button" class="btn small" onClick=${() => setAsking("password")}>New password</button>
      ${!me && html`<button type="button" class="btn small" onClick=${() => set({ is_admin: !person.is_admin }, person.is_admin ? "No longer an admin." : "An admin now.")}>${person.is_admin ? "Take admin away" : "Make an admin"}</button>
        <button type="button" class="btn small ${person.disabled ? "" : "danger"}" onClick=${() => set({ disabled: !person.disabled }, person.disabled ? "They can sign in again." : "Disabled: keys and sessions are refused.")}>${person.disabled ? "Enable" : "Disable"}</button>
        <button type="button" class="btn small danger" onClick=${() => setAsking("delete")}>Delete</button>`}
    </div>
    ${asking === "password" && html`<${NewPassword} person=${person} close=${() => setAsking(null)} />`}
    ${asking === "delete" && html`<${Dialog} title=${`Delete ${person.username}?`} close=${() => setAsking(null)}>
      <p>The name is forgotten and the keys end at once. What they used stays in the books. This cannot be taken back; to keep them out for a while, disable them.</p>
      ${error && html`<${Failure} error=${error} />`}
      <div class="row end"><button type="button" class="btn" onClick=${() => setAsking(null)}>Keep them</button>
        <button type="button" class="btn danger" onClick=${async () => { await act(() => remove(`/api/admin/users/${person.id}`), "Deleted; the books stay."); close(); }}>Delete the person</button></div>
    </${Dialog}>`}
  </section>`;
}
