// API keys: the list, a new one that is shown this once, and taking one back.
import { post, remove } from "../core/api.js";
import * as format from "../core/format.js";
import { moment } from "../core/zone.js";
import { html, useMemo, useState } from "../core/view.js";
import { Code } from "./code.js";
import { Dialog } from "./dialog.js";
import { Failure } from "./states.js";
import { Table } from "./table.js";
import { say } from "./toasts.js";

/** `path`: where keys are revoked, one's own or anybody's. */
export function KeyTable({ keys, zone, path = "/api/keys", again, owner = false }) {
  const [doomed, setDoomed] = useState(null);
  const [error, setError] = useState(null);
  const revoke = async () => {
    try {
      say((await remove(`${path}/${doomed.id}`)).message);
      setDoomed(null);
      again();
    } catch (failure) {
      setError(failure);
    }
  };
  const day = (id, label, none) => ({ id, label, value: (k) => k[id], show: (k) => (k[id] ? format.at(k[id], zone, "date") : html`<span class="faint">${none}</span>`), exact: (k) => k[id] && format.at(k[id], zone) });
  const limits = (k) => [k.models && `models: ${k.models.join(", ")}`, k.routes && `routes: ${k.routes.join(", ")}`].filter(Boolean).join("; ");
  const columns = useMemo(() => [
    { id: "name", label: "Name", value: (k) => k.name, show: (k) => html`<span class="cut">${k.name}</span>${k.is_trusted && html` <span class="badge accent" title="Its requests may name their end user">trusted</span>`}` },
    ...(owner ? [{ id: "username", label: "Owner", value: (k) => k.username }] : []),
    { id: "prefix", label: "Begins with", minor: true, value: (k) => k.prefix, show: (k) => html`<code>${k.prefix}…</code>` },
    { id: "project", label: "Project", value: (k) => k.project, show: (k) => k.project ?? html`<span class="faint">none</span>` },
    { id: "limits", label: "Limited to", minor: true, value: (k) => limits(k) || null, show: (k) => html`<span class="cut" title=${limits(k)}>${limits(k) || html`<span class="faint">nothing</span>`}</span>` },
    day("last_used_at", "Last used", "never"), day("expires_at", "Expires", "never"), { ...day("created_at", "Made", ""), minor: true },
    { id: "actions", label: "", sort: false, out: false, value: () => null, show: (k) => html`<button type="button" class="btn small plain danger" onClick=${() => { setError(null); setDoomed(k); }}>Revoke</button>` },
  ], [zone, owner]);
  return html`<${Table} caption="API keys" columns=${columns} rows=${keys} row=${{ key: (k) => k.id }} file="api-keys" sort=${{ id: "created_at", down: true }} />
    ${doomed && html`<${Dialog} title=${`Revoke ${doomed.name}?`} close=${() => setDoomed(null)}>
      <p>Whatever uses it is refused at once. This cannot be taken back.</p>
      ${error && html`<${Failure} error=${error} />`}
      <div class="row end"><button type="button" class="btn" onClick=${() => setDoomed(null)}>Keep it</button><button type="button" class="btn danger" onClick=${revoke}>Revoke the key</button></div>
    </${Dialog}>`}`;
}

/** `path`: where keys are made, for oneself or for somebody. `made(key)` gets the whole key. */
export function NewKey({ path = "/api/keys", projects = [], admin, zone, close, made }) {
  const [form, setForm] = useState({ name: "", expires: "", models: "", routes: "", project: "", trusted: false });
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const [key, setKey] = useState(null);
  const set = (changes) => setForm((before) => ({ ...before, ...changes }));
  const list = (text) => { const found = text.split(/[\s,]+/).filter(Boolean); return found.length ? found : undefined; };
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    const [year, month, day] = form.expires.split("-").map(Number);
    try {
      const answer = await post(path, {
        name: form.name.trim(), models: list(form.models), routes: list(form.routes), project: form.project || undefined,
        is_trusted: form.trusted || undefined, expires_at: form.expires ? new Date(moment(zone, year, month, day + 1)).toISOString() : undefined,
      });
      setKey(answer.key);
      made?.(answer.key);
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  if (key) {
    return html`<${Dialog} title="The new key" close=${close}>
      <div class="notice warn"><div><b>Copy it now.</b> It is shown this once: the gateway keeps only its hash.</div></div>
      <${Code} text=${key} label="Copy the key" />
      <div class="row end"><button type="button" class="btn primary" onClick=${close}>I have it</button></div>
    </${Dialog}>`;
  }
  return html`<${Dialog} title="New API key" close=${close}>
    <form class="form" onSubmit=${submit}>
      <label class="field"><span>Name</span><input class="input" required maxlength="100" value=${form.name} onInput=${(e) => set({ name: e.target.value })} placeholder="What uses it: laptop, chatbot, CI" /></label>
      <div class="form-row">
        <label class="field"><span>Expires after</span><input class="input" type="date" value=${form.expires} onInput=${(e) => set({ expires: e.target.value })} /><small>Left empty: never</small></label>
        ${projects.length > 0 && html`<label class="field"><span>Project that pays</span><select class="input" value=${form.project} onChange=${(e) => set({ project: e.target.value })}>
          <option value="">None</option>${projects.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>`}
      </div>
      <details><summary class="label">Limits</summary><div class="form details-in">
        <label class="field"><span>Models</span><input class="input" value=${form.models} onInput=${(e) => set({ models: e.target.value })} placeholder="all; or llama3:8b, qwen*" spellcheck="false" /></label>
        <label class="field"><span>Routes</span><input class="input" value=${form.routes} onInput=${(e) => set({ routes: e.target.value })} placeholder="all; or /v1, /api/chat" spellcheck="false" /></label>
        ${admin && html`<label class="check"><input type="checkbox" checked=${form.trusted} onChange=${(e) => set({ trusted: e.target.checked })} /><span>Trusted: its requests may name their end user, as Open WebUI's do</span></label>`}
      </div></details>
      ${error && html`<${Failure} error=${error} />`}
      <div class="row end"><button type="button" class="btn" onClick=${close}>Cancel</button><button class="btn primary" disabled=${busy}>Make the key</button></div>
    </form>
  </${Dialog}>`;
}
