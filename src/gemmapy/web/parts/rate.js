// Thumbs up, thumbs down, or neither: a request's rating.
import { post } from "../core/api.js";
import { html, useEffect, useState } from "../core/view.js";
import { Icon } from "./icons.js";
import { say } from "./toasts.js";

/** `id`: the request's; `rating`: what is known of it. */
export function Rate({ id, rating, rated }) {
  const [value, setValue] = useState(rating ?? 0);
  const [busy, setBusy] = useState(false);
  useEffect(() => setValue(rating ?? 0), [id, rating]);
  const press = async (wanted) => {
    const next = wanted === value ? 0 : wanted;
    setBusy(true);
    try {
      await post(`/api/metrics/${id}/rate`, { rating: next });
      setValue(next);
      say(next === 0 ? "The rating is taken back." : "Thank you: the rating is recorded.");
      rated?.(next);
    } catch (error) {
      say(`${error.message} ${error.hint}`);
    }
    setBusy(false);
  };
  const thumb = (which, icon, label) => html`<button type="button" class="btn only small" aria-pressed=${value === which} disabled=${busy}
    onClick=${() => press(which)} aria-label=${label} title=${label}><${Icon} name=${icon} size=${16} /></button>`;
  return html`<span class="row" role="group" aria-label="Rate the answer">${thumb(1, "up", "Good answer")}${thumb(-1, "down", "Bad answer")}</span>`;
}
