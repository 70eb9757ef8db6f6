// One of a few, side by side.
import { html } from "../core/view.js";

/** `options`: [[value, label]]. */
export function Choice({ label, options, value, choose }) {
  return html`<div class="choice" role="group" aria-label=${label}>
    ${options.map(([one, name]) => html`<button type="button" key=${one} aria-pressed=${one === value} onClick=${() => choose(one)}>${name}</button>`)}
  </div>`;
}
