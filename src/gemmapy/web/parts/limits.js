// A person's limits in their drawer, and the form that sets them.
import { patch } from "../core/api.js";
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { fixed } from "../core/question.js";
import { html, useState } from "../core/view.js";
import { Dialog } from "./dialog.js";
import { Answer, Failure } from "./states.js";
import { useSubmit } from "./submit.js";

const NOTHING = fixed();
const LIMITS = [
  { id: "concurrent", label: "Requests at once" },
  { id: "concurrent_per_model", label: "At once with one model" },
  { id: "requests_per_minute", label: "Requests a minute" },
  { id: "tokens_per_minute", label: "Tokens a minute" },
  { id: "weight", label: "Share where requests wait" },
];

const shown = (value) => (value === null ? "as everybody" : value === 0 ? "none" : format.exactCount(value));

export function PersonLimits({ person }) {
  const user = useAsk(`/api/admin/users/${person.id}`, NOTHING);
  const [editing, setEditing] = useState(false);
  return html`<section class="stack"><div class="row between"><h3>Limits</h3><button type="button" class="btn small" onClick=${() => setEditing(true)}>Set limits</button></div>
    <${Answer} asking=${user} height=${40}>${({ limits }) => {
      const own = LIMITS.filter((one) => limits[one.id] !== null);
      return own.length
        ? own.map((one) => html`<div class="row between" key=${one.id}><span>${one.label}</span><b>${one.id === "weight" ? `${limits.weight} beside others' 1` : shown(limits[one.id])}</b></div>`)
        : html`<p class="quiet">None of their own: what the settings say of everybody.</p>`;
    }}</${Answer}>
    ${editing && user.data && html`<${Form} person=${person} limits=${user.data.limits} close=${() => setEditing(false)} done=${user.again} />`}
  </section>`;
}

function Form({ person, limits, close, done }) {
  const [form, setForm] = useState(() => Object.fromEntries(LIMITS.map(({ id }) => [id, limits[id] === null ? "" : String(limits[id])])));
  const { submit, busy, error } = useSubmit(async () => {
    await patch(`/api/admin/users/${person.id}`, { limits: Object.fromEntries(LIMITS.map(({ id }) => [id, form[id] === "" ? null : Number(form[id])])) });
    return `${person.username} has these limits from now on.`;
  }, () => {
    done();
    close();
  });
  return html`<${Dialog} title=${`Limits of ${person.username}`} close=${close}><form class="form" onSubmit=${submit}>
    <p class="hint">Empty: what the settings say of everybody. 0: no limit.</p>
    <div class="form-row tight">${LIMITS.map(({ id, label }) => html`<label class="field" key=${id}><span>${label}</span>
      <input class="input" type="number" inputmode="decimal" min=${id === "weight" ? 0.01 : 0} max=${id === "weight" ? 1000 : 1e12} step=${id === "weight" ? 0.01 : 1}
        value=${form[id]} onInput=${(e) => setForm({ ...form, [id]: e.target.value })} /></label>`)}</div>
    ${error && html`<${Failure} error=${error} />`}
    <div class="row end"><button type="button" class="btn" onClick=${close}>Cancel</button><button class="btn primary" disabled=${busy}>Set the limits</button></div>
  </form></${Dialog}>`;
}
