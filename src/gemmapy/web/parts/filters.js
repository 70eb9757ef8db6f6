// Which requests: by model, person, project and endpoint. What is chosen stands in the address and as chips that take it out.
import { get } from "../core/api.js";
import { change, useRoute } from "../core/route.js";
import { session } from "../core/session.js";
import { observable, useObservable } from "../core/observable.js";
import { html, useEffect } from "../core/view.js";
import { Icon } from "./icons.js";
import { Popover } from "./popover.js";
import { Skeleton } from "./states.js";

const QUARTER = { days: 90 };
const FRESH_MS = 60_000;
const NONE = { models: [], endpoints: [], users: [], projects: [] };
const known = observable(NONE);
let asked = { by: null, at: 0 };

/** Asks for what can be chosen, once a minute at most, whatever the number of those who want it. */
async function learn(signedIn) {
  if (!signedIn || (asked.by === signedIn.user.id && Date.now() - asked.at < FRESH_MS)) return;
  asked = { by: signedIn.user.id, at: Date.now() };
  const admin = signedIn.user.is_admin;
  try {
    const [dashboard, endpoints, users, own] = await Promise.all([
      get("/api/metrics/dashboard", QUARTER),
      get("/api/metrics/endpoints", QUARTER),
      admin ? get("/api/admin/users") : { users: [] },
      get(admin ? "/api/admin/projects" : "/api/profile"),
    ]);
    known.set({
      models: dashboard.by_model.map((one) => one.model),
      endpoints: endpoints.endpoints.map((one) => one.endpoint),
      users: users.users.map((one) => [String(one.id), one.username]),
      projects: own.projects.map((one) => (admin ? one.name : one)),
    });
  } catch {
    asked.at = 0; // the page's own questions say what is wrong; the next who wants it asks again
  }
}

/** What can be chosen: {models, endpoints, users, projects}, as far as it is known. `wanted`: there is use for it now. */
export function useChoices(wanted) {
  const signedIn = useObservable(session);
  useEffect(() => {
    if (wanted) learn(signedIn);
  }, [wanted, signedIn]);
  return useObservable(known);
}

const asPairs = (values) => values.map((value) => (Array.isArray(value) ? value : [value, value]));

function Pick({ label, name, value, options }) {
  const listed = asPairs(options);
  if (value && !listed.some(([id]) => id === value)) listed.unshift([value, value]);
  if (!listed.length) return null;
  return html`<label class="field"><span>${label}</span>
    <select class="input" value=${value ?? ""} onChange=${(event) => change({ [name]: event.target.value || null })}>
      <option value="">All</option>
      ${listed.map(([id, text]) => html`<option key=${id} value=${id} selected=${id === value}>${text}</option>`)}
    </select>
  </label>`;
}

const KINDS = [["model", "Model", "models"], ["user", "Person", "users"], ["project", "Project", "projects"], ["endpoint", "Endpoint", "endpoints"]];

function Picks({ kinds, query }) {
  const choices = useChoices(true);
  if (choices === NONE) return html`<${Skeleton} height=${kinds.length * 76} />`;
  return html`<div class="form">
    ${kinds.map(([name, label, list]) => html`<${Pick} key=${name} ...${{ label, name, value: query[name], options: choices[list] }} />`)}
  </div>`;
}

export function FilterButton({ only }) {
  const { query } = useRoute();
  const kinds = KINDS.filter(([name]) => !only || only.includes(name));
  const active = kinds.filter(([name]) => query[name]).length;
  return html`<${Popover} title="Filter" end=${true} label=${active ? `Filter: ${active} in force` : "Filter"} on=${active > 0}
      button=${html`<${Icon} name="filter" size=${16} /><span>Filter${active ? ` (${active})` : ""}</span>`}>
    ${() => html`<${Picks} kinds=${kinds} query=${query} />`}
  </${Popover}>`;
}

/** `more`: a page's own filters, [{name, label, text}]. */
export function Chips({ only, more = [] }) {
  const { query } = useRoute();
  const choices = useChoices(Boolean(query.user)); // the others' names are the values themselves
  const chosen = KINDS.filter(([name]) => query[name] && (!only || only.includes(name))).map(([name, label, list]) => {
    const found = asPairs(choices[list]).find(([id]) => id === query[name]);
    return { name, label, text: found?.[1] ?? query[name] };
  });
  const all = [...chosen, ...more];
  if (!all.length) return null;
  const nothing = Object.fromEntries(all.map(({ name }) => [name, null]));
  return html`<div class="chips" role="group" aria-label="Filters in force">
    ${all.map(({ name, label, text }) => html`<span class="chip" key=${name}>
      <span class="cut">${label}: <b>${text}</b></span>
      <button type="button" aria-label=${`Take out the filter ${label} ${text}`} onClick=${() => change({ [name]: null })}><${Icon} name="close" size=${14} /></button>
    </span>`)}
    ${all.length > 1 && html`<button type="button" class="btn plain small" onClick=${() => change(nothing)}>Clear filters</button>`}
  </div>`;
}
