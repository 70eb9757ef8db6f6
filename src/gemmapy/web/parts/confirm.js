// Asks before something that cannot be taken back.
import { html } from "../core/view.js";
import { Dialog } from "./dialog.js";
import { Failure } from "./states.js";

export function Confirm({ title, children, keep, go, act, busy, error, close }) {
  return html`<${Dialog} title=${title} close=${close}>
    <p>${children}</p>
    ${error && html`<${Failure} error=${error} />`}
    <div class="row end"><button type="button" class="btn" onClick=${close}>${keep}</button><button type="button" class="btn danger" disabled=${busy} onClick=${act}>${go}</button></div>
  </${Dialog}>`;
}
