// Short words about what has just been done, also for screen readers; they leave by themselves.
import { observable, useObservable } from "../core/observable.js";
import { html } from "../core/view.js";

const shown = observable([]);
let number = 0;

export function say(text) {
  const toast = { id: (number += 1), text };
  shown.set([...shown.get().slice(-2), toast]);
  setTimeout(() => shown.set(shown.get().filter((one) => one.id !== toast.id)), 4000);
}

const hushed = observable("");
/** The same for screen readers only: what one moves over in a chart. */
say.quietly = (text) => hushed.set(text);

export function Toasts() {
  return html`<div class="unseen" aria-live="polite">${useObservable(hushed)}</div>
  <div class="toasts" role="status" aria-live="polite">
    ${useObservable(shown).map((toast) => html`<div class="toast" key=${toast.id}>${toast.text}</div>`)}
  </div>`;
}
