// The door: name and password. As an overlay, where a session ended in the middle, it leaves the page as it was.
import { signIn } from "../core/session.js";
import { html, useState } from "../core/view.js";
import { Dialog } from "./dialog.js";
import { Mark } from "./icons.js";
import { Failure } from "./states.js";
import { useSubmit } from "./submit.js";

function Form({ username: known = "" }) {
  const [username, setUsername] = useState(known);
  const [password, setPassword] = useState("");
  const { submit, busy, error } = useSubmit(() => signIn(username, password));
  return html`<form class="form" onSubmit=${submit}>
    <label class="field"><span>Name</span>
      <input class="input" name="username" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus=${!known} value=${username} onInput=${(e) => setUsername(e.target.value)} />
    </label>
    <label class="field"><span>Password</span>
      <input class="input" name="password" type="password" autocomplete="current-password" required autofocus=${Boolean(known)} value=${password} onInput=${(e) => setPassword(e.target.value)} />
    </label>
    ${error && html`<${Failure} error=${error} />`}
    <button class="btn primary" disabled=${busy}>${busy ? "Signing in" : "Sign in"}</button>
  </form>`;
}

export function Door() {
  return html`<main class="door"><div class="card">
    <div class="door-head"><${Mark} size=${30} /><h1>GemmaPy</h1></div>
    <${Form} />
    <p class="hint">The first start of the gateway prints an admin's name and password. Others get theirs from an admin.</p>
  </div></main>`;
}

export function DoorOverPage({ username }) {
  return html`<${Dialog} title="Sign in again" locked=${true} close=${() => {}}>
    <p class="quiet">The session has ended. The page stays where it is.</p>
    <${Form} username=${username} />
  </${Dialog}>`;
}
