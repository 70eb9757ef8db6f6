// Which requests: by model, person, project and endpoint. What is chosen stands in the address and as chips that take it out.
import { useAsk } from "../core/ask.js";
import { fixed } from "../core/question.js";
import { change, useRoute } from "../core/route.js";
import { session } from "../core/session.js";
import { useObservable } from "../core/observable.js";
import { html } from "../core/view.js";
import { Icon } from "./icons.js";
import { Popover } from "./popover.js";

const QUARTER = fixed({ days: 90 });
const ALWAYS = fixed();

/** What can be chosen: {models, endpoints, users, projects}, as far as it is known. */
export function useChoices() {
  const signedIn = useObservable(session);
  const admin = signedIn?.user.is_admin;
  const dashboard = useAsk("/api/metrics/dashboard", QUARTER);
  const endpoints = useAsk("/api/metrics/endpoints", QUARTER);
  const users = useAsk(admin ? "/api/admin/users" : null, ALWAYS);
  const projects = useAsk(admin ? "/api/admin/projects" : null, ALWAYS);
  const profile = useAsk(admin ? null : "/api/profile", ALWAYS);
  return {
    models: (dashboard.data?.by_model ?? []).map((one) => one.model),
    endpoints: (endpoints.data?.endpoints ?? []).map((one) => one.endpoint),
    users: (users.data?.users ?? []).map((one) => [String(one.id), one.username]),
    projects: projects.data ? projects.data.projects.map((one) => one.name) : (profile.data?.projects ?? []),
  };
}

const asPairs = (values) => values.map((value) => (Array.isArray(value) ? value : [value, value]));

function Pick({ label, name, value, options }) {
  const known = asPairs(options);
  if (value && !known.some(([id]) => id === value)) known.unshift([value, value]);
  if (!known.length) return null;
  return html`<label class="field"><span>${label}</span>
    <select class="input" value=${value ?? ""} onChange=${(event) => change({ [name]: event.target.value || null })}>
      <option value="">All</option>
      ${known.map(([id, text]) => html`<option key=${id} value=${id} selected=${id === value}>${text}</option>`)}
    </select>
  </label>`;
}

const KINDS = [["model", "Model", "models"], ["user", "Person", "users"], ["project", "Project", "projects"], ["endpoint", "Endpoint", "endpoints"]];

export function FilterButton({ choices, only }) {
  const { query } = useRoute();
  const kinds = KINDS.filter(([name]) => !only || only.includes(name));
  const active = kinds.filter(([name]) => query[name]).length;
  return html`<${Popover} title="Filter" end=${true} label=${active ? `Filter: ${active} in force` : "Filter"} on=${active > 0}
      button=${html`<${Icon} name="filter" size=${16} /><span>Filter${active ? ` (${active})` : ""}</span>`}>
    ${() => html`<div class="form">
      ${kinds.map(([name, label, list]) => html`<${Pick} key=${name} ...${{ label, name, value: query[name], options: choices[list] }} />`)}
    </div>`}
  </${Popover}>`;
}

/** `more`: a page's own filters, [{name, label, text}]. */
export function Chips({ choices, only, more = [] }) {
  const { query } = useRoute();
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
    ${all.length > 1 && html`<button type="button" class="btn plain small" onClick=${() => change(nothing)}>Take out all</button>`}
  </div>`;
}
