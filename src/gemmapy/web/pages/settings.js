// One's own: API keys, what to paste into other programs, the password, and the sessions.
import { post } from "../core/api.js";
import { useAsk } from "../core/ask.js";
import { settings } from "../core/clients.js";
import { fixed, zoneOf } from "../core/question.js";
import { useObservable } from "../core/observable.js";
import { change, useRoute } from "../core/route.js";
import { renew, session, signOut } from "../core/session.js";
import { html, useState } from "../core/view.js";
import { Choice } from "../parts/choice.js";
import { Code } from "../parts/code.js";
import { Icon } from "../parts/icons.js";
import { KeyTable, NewKey } from "../parts/keys.js";
import { Card, Page } from "../parts/page.js";
import { Answer, Failure } from "../parts/states.js";
import { say } from "../parts/toasts.js";

const ALWAYS = fixed();

export default function Settings() {
  const { query } = useRoute();
  const zone = zoneOf(query);
  const { user } = useObservable(session);
  const keys = useAsk("/api/keys", ALWAYS);
  const profile = useAsk("/api/profile", ALWAYS);
  const [making, setMaking] = useState(false);
  const [fresh, setFresh] = useState(null);
  const add = html`<button type="button" class="btn small primary" onClick=${() => setMaking(true)}><${Icon} name="plus" size=${15} />New key</button>`;
  return html`<${Page} title="Settings">
    <${Card} title="API keys" actions=${add} pad=${false}>
      <div class="card-gap"></div>
      <${Answer} asking=${keys} height=${150}>${(data) => data.keys.length
        ? html`<${KeyTable} keys=${data.keys} zone=${zone} again=${keys.again} />`
        : html`<div class="empty"><h2>No key yet</h2><p>Programs sign in with a key. It is shown once, when it is made.</p>
            <button type="button" class="btn primary" onClick=${() => setMaking(true)}>Make the first key</button></div>`}</${Answer}>
    </${Card}>
    <${Clients} fresh=${fresh} chosen=${query.client} />
    <div class="grid-2">
      <${Password} username=${user.username} />
      <${Card} title="Sessions">
        <div class="stack"><p class="quiet">Signed in as <b>${user.username}</b>${profile.data?.projects.length ? `, of ${profile.data.projects.join(", ")}` : ""}. A lost laptop, a shared computer: end every session of yours at once. API keys go on working.</p>
        <div class="row"><button type="button" class="btn" onClick=${() => signOut()}>Sign out here</button><button type="button" class="btn danger" onClick=${() => signOut(true)}>Sign out everywhere</button></div></div>
      </${Card}>
    </div>
    ${making && html`<${NewKey} projects=${profile.data?.projects ?? []} admin=${user.is_admin} zone=${zone} made=${(key) => { setFresh(key); keys.again(); }} close=${() => setMaking(false)} />`}
  </${Page}>`;
}

function Clients({ fresh, chosen }) {
  const tags = useAsk("/api/tags", ALWAYS);
  const model = tags.data?.models[0]?.name ?? "llama3";
  const all = settings(fresh, model);
  const shown = all.find((one) => one.id === chosen) ?? all[0];
  return html`<${Card} title="Settings to paste" actions=${html`<${Choice} label="Program" value=${shown.id} options=${all.map((one) => [one.id, one.label])} choose=${(id) => change({ client: id }, { replace: true })} />`}>
    <div class="stack">
      ${shown.where && html`<p class="quiet">${shown.where}</p>`}
      <${Code} text=${shown.code} label="Copy these settings" />
      <p class="hint">${fresh ? "With the key that you have just made: it stands here until the page is left." : "Put a key in the place of YOUR_KEY; one that you make now is filled in."}</p>
    </div>
  </${Card}>`;
}

function Password({ username }) {
  const empty = { current: "", next: "", again: "" };
  const [form, setForm] = useState(empty);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const field = (name, label, complete) => html`<label class="field"><span>${label}</span>
    <input class="input" type="password" required autocomplete=${complete} value=${form[name]} onInput=${(e) => setForm({ ...form, [name]: e.target.value })} /></label>`;
  const submit = async (event) => {
    event.preventDefault();
    if (form.next !== form.again) {
      setError({ message: "The two new passwords differ.", hint: "Type the same one twice." });
      return;
    }
    setBusy(true);
    setError(null);
    try {
      await post("/api/profile/password", { current_password: form.current, new_password: form.next });
      await renew();
      setForm(empty);
      say("The password is changed. Other sessions have ended.");
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  return html`<${Card} title="Password"><form class="form" onSubmit=${submit}>
    <input class="unseen" type="text" name="username" autocomplete="username" value=${username} readonly tabindex="-1" aria-hidden="true" />
    ${field("current", "Current password", "current-password")}${field("next", "New password", "new-password")}${field("again", "New password, again", "new-password")}
    ${error && html`<${Failure} error=${error} />`}
    <div class="row"><button class="btn primary" disabled=${busy}>Change the password</button></div>
  </form></${Card}>`;
}
