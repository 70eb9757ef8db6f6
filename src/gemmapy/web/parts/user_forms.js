// The admin's forms about a person: a new one, and a new password for one.
import { patch, post } from "../core/api.js";
import { html, useState } from "../core/view.js";
import { copy } from "./code.js";
import { Dialog } from "./dialog.js";
import { Failure } from "./states.js";
import { useSubmit } from "./submit.js";
import { say } from "./toasts.js";

/** A password that nobody thinks up: 100 bits in letters that are not mistaken for each other. */
function generated() {
  const letters = "abcdefghjkmnpqrstuvwxyz23456789";
  const drawn = [];
  while (drawn.length < 20) {
    const [byte] = crypto.getRandomValues(new Uint8Array(1));
    if (byte < 248) drawn.push(letters[byte % 31]); // 248 is eight times 31: no letter more likely than another
  }
  return drawn.join("").replace(/(.{5})(?=.)/g, "$1-");
}

function PasswordField({ value, set }) {
  const make = async () => {
    const made = generated();
    set(made);
    await copy(made);
    say("A password is made and copied.");
  };
  return html`<div class="field"><label class="field"><span>Password</span>
      <input class="input mono" required autocomplete="new-password" spellcheck="false" value=${value} onInput=${(e) => set(e.target.value)} /></label>
    <div class="row between"><small>Hand it over in private; they change it in Settings.</small><button type="button" class="btn small" onClick=${make}>Make one and copy it</button></div></div>`;
}

export function NewUser({ close, done }) {
  const [form, setForm] = useState({ username: "", password: "", is_admin: false });
  const { submit, busy, error } = useSubmit(async () => (await post("/api/admin/users", form)).message, () => {
    done();
    close();
  });
  return html`<${Dialog} title="Add a person" close=${close}><form class="form" onSubmit=${submit}>
    <label class="field"><span>Name</span><input class="input" required autocomplete="off" autocapitalize="none" spellcheck="false" value=${form.username} onInput=${(e) => setForm({ ...form, username: e.target.value })} /></label>
    <${PasswordField} value=${form.password} set=${(password) => setForm((before) => ({ ...before, password }))} />
    <label class="check"><input type="checkbox" checked=${form.is_admin} onChange=${(e) => setForm({ ...form, is_admin: e.target.checked })} /><span>Admin: sees everybody's figures, sets prices, manages people</span></label>
    ${error && html`<${Failure} error=${error} />`}
    <div class="row end"><button type="button" class="btn" onClick=${close}>Cancel</button><button class="btn primary" disabled=${busy}>Add</button></div>
  </form></${Dialog}>`;
}

export function NewPassword({ person, close }) {
  const [password, setPassword] = useState("");
  const act = async () => {
    await patch(`/api/admin/users/${person.id}`, { password });
    return `${person.username} has a new password; earlier sessions have ended.`;
  };
  const { submit, busy, error } = useSubmit(act, close);
  return html`<${Dialog} title=${`New password for ${person.username}`} close=${close}><form class="form" onSubmit=${submit}>
    <${PasswordField} value=${password} set=${setPassword} />
    ${error && html`<${Failure} error=${error} />`}
    <div class="row end"><button type="button" class="btn" onClick=${close}>Cancel</button><button class="btn primary" disabled=${busy}>Set the password</button></div>
  </form></${Dialog}>`;
}
