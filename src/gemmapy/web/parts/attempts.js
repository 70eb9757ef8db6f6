// The attempts of one request, one under the other on one scale: who was asked, what came of it, what was waited for.
import * as format from "../core/format.js";
import { html } from "../core/view.js";

/** In words: what an attempt ended with. */
function ending(attempt) {
  if (attempt.status >= 400) return { kind: "bad", mark: "✕", text: `status ${attempt.status}` };
  if (attempt.error_code) return { kind: "bad", mark: "✕", text: attempt.error_code.replaceAll("_", " ") };
  if (attempt.status === null) return { kind: "warn", mark: "◂", text: "given up" };
  return { kind: "good", mark: "✓", text: "answered" };
}

export function Attempts({ request }) {
  const log = request.attempt_log;
  const whole = Math.max(1, request.duration_ms ?? 0, ...log.map((one) => one.started_ms + one.duration_ms));
  const share = (ms) => `${Math.min(100, (ms / whole) * 100)}%`;
  const several = new Set(log.map((one) => one.model)).size > 1;
  const row = (one, place) => {
    const { kind, mark, text } = ending(one);
    const last = place === log.length - 1;
    // An answer's attempt is over with its head; what follows is its stages, above.
    const until = last && kind === "good" ? whole - one.started_ms : one.duration_ms;
    const pause = one.wait_ms ? html`<span class="lane-bar pause" style=${{ left: share(one.started_ms - one.wait_ms), width: share(one.wait_ms) }}></span>` : "";
    return html`<tr key=${place}>
      <th scope="row"><b class="cut" title=${one.upstream}>${one.upstream}</b>${several ? html`<span class="faint cut" title=${one.model}>${one.model}</span>` : ""}</th>
      <td class="waterfall-lane"><div class="lane">${pause}<span class="lane-bar ${kind === "good" ? "generation" : "failed"}" style=${{ left: share(one.started_ms), width: share(until) }}></span></div></td>
      <td class="num"><span title=${format.exactDuration(until)}>${format.duration(until)}</span>${one.wait_ms ? html`<span class="faint lane-wait" title="Waited before it">after ${format.duration(one.wait_ms)}</span>` : ""}</td>
      <td class="num"><span class="badge ${kind}"><span aria-hidden="true">${mark}</span>${text}</span></td>
    </tr>`;
  };
  return html`<div class="waterfall">
    <table class="waterfall-table attempts">
      <caption class="unseen">Attempts, in their order</caption>
      <thead class="unseen"><tr><th scope="col">Upstream</th><th scope="col">When</th><th scope="col">How long</th><th scope="col">What came of it</th></tr></thead>
      <tbody>${log.map(row)}</tbody>
    </table>
    ${request.requested_model && html`<p class="hint">${request.requested_model} was asked for; ${request.model} took its place, at its own price.</p>`}
  </div>`;
}
