// Pricing the past anew: what it would change is shown first; applying it needs a reason, which stays in the trail.
import { post } from "../core/api.js";
import * as format from "../core/format.js";
import { html, useEffect, useState } from "../core/view.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icons.js";
import { Failure, Skeleton } from "./states.js";
import { say } from "./toasts.js";

/** `question`: whose window and filters are priced anew. */
export function RepriceDialog({ question, close, done }) {
  const [unpriced, setUnpriced] = useState(true);
  const [reason, setReason] = useState("");
  const [preview, setPreview] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const body = () => {
    const { from, to, model, user_id: user, project } = question.current.params();
    return { from, to, model, project, user_id: user ? Number(user) : undefined, unpriced_only: unpriced };
  };
  useEffect(() => {
    let wanted = true;
    setPreview(null);
    setError(null);
    post("/api/admin/costs/reprice", body()).then((answer) => wanted && setPreview(answer), (failure) => wanted && setError(failure));
    return () => {
      wanted = false;
    };
  }, [unpriced]);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const answer = await post("/api/admin/costs/reprice", { ...body(), reason: reason.trim(), apply: true });
      say(`${format.exactCount(answer.changed)} requests are priced anew: ${format.money(answer.difference)} more than before.`);
      done();
      close();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  const { from, to } = question.window;
  return html`<${Dialog} title="Price the past anew" close=${close}><form class="form" onSubmit=${submit}>
    <p class="quiet">Requests of ${format.at(from, question.zone, "short")} to ${format.at(to, question.zone, "short")}, by today's price list${question.filters.model ? `, of ${question.filters.model} only` : ""}. What was recorded stays in the ledger; the difference is added to it, with your reason.</p>
    <label class="check"><input type="checkbox" checked=${unpriced} onChange=${(e) => setUnpriced(e.target.checked)} /><span>Only requests that have no price</span></label>
    ${!preview && !error && html`<${Skeleton} height=${108} />`}
    ${preview && html`<div class="figures three inset">
      <div class="figure short"><span class="figure-label">Would change</span><span class="figure-value">${format.count(preview.changed)}</span><span class="figure-sub">of ${format.count(preview.requests)} requests</span></div>
      <div class="figure short"><span class="figure-label">Cost before</span><span class="figure-value" title=${format.exactMoney(preview.cost_before)}>${format.money(preview.cost_before)}</span></div>
      <div class="figure short wide-on-phone"><span class="figure-label">Cost after</span><span class="figure-value" title=${format.exactMoney(preview.cost_after)}>${format.money(preview.cost_after)}</span></div>
    </div>`}
    ${preview?.without_price > 0 && html`<div class="notice"><${Icon} name="alert" /><div>${format.exactCount(preview.without_price)} requests stay as they are: their model has no price. Set it first.</div></div>`}
    ${preview?.changed > 0 && html`<label class="field"><span>Reason</span><input class="input" required maxlength="500" value=${reason} onInput=${(e) => setReason(e.target.value)} placeholder="Why the past is priced anew" /></label>`}
    ${error && html`<${Failure} error=${error} />`}
    <div class="row end"><button type="button" class="btn" onClick=${close}>Cancel</button><button class="btn primary" disabled=${busy || !preview?.changed}>Price anew</button></div>
  </form></${Dialog}>`;
}
