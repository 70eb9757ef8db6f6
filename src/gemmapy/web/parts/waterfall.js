// Where one request's time went: its stages one under the other, each where it was, on one scale.
import * as format from "../core/format.js";
import { html } from "../core/view.js";

const STAGES = [
  ["queue", "Waiting", "queue_ms", "until it was sent to the upstream"],
  ["load", "Model load", "load_ms", "the engine read the model into memory"],
  ["prompt", "Prompt", "prompt_ms", "the engine read the prompt"],
  ["generation", "Generation", "generation_ms", "the answer was written"],
];

/** [{kind, label, why, from, ms}], in milliseconds from the beginning. What no stage explains is the rest. */
export function stages(request) {
  const known = STAGES.filter(([, , key]) => request[key] !== null && request[key] !== undefined);
  const shown = [];
  let at = 0;
  const explained = known.reduce((all, [, , key]) => all + request[key], 0);
  const rest = Math.max(0, (request.duration_ms ?? explained) - explained);
  for (const [kind, label, key, why] of known) {
    if (kind === "generation" && rest > 0) {
      shown.push({ kind: "other", label: "Between", why: "network, gateway, and what the engine does not report", from: at, ms: rest });
      at += rest;
    }
    if (request[key] > 0 || kind !== "load") shown.push({ kind, label, why, from: at, ms: request[key] });
    at += request[key];
  }
  if (!known.some(([kind]) => kind === "generation") && rest > 0) {
    shown.push({ kind: "other", label: "The rest", why: "nothing more is known of it", from: at, ms: rest });
  }
  return shown;
}

export function Waterfall({ request }) {
  const shown = stages(request);
  const whole = Math.max(1, request.duration_ms ?? 0, ...shown.map((stage) => stage.from + stage.ms));
  const share = (ms) => `${(ms / whole) * 100}%`;
  const first = request.ttft_ms;
  return html`<div class="waterfall">
    <table class="waterfall-table">
      <caption class="unseen">Where the time went</caption>
      <thead class="unseen"><tr><th scope="col">Stage</th><th scope="col">When</th><th scope="col">How long</th></tr></thead>
      <tbody>${shown.map((stage) => html`<tr key=${stage.label}>
        <th scope="row" title=${stage.why}>${stage.label}</th>
        <td class="waterfall-lane"><div class="lane">
          ${first !== null && html`<span class="lane-first" style=${{ left: share(first) }}></span>`}
          <span class=${`lane-bar ${stage.kind}`} style=${{ left: share(stage.from), width: share(stage.ms) }}></span></div></td>
        <td class="num" title=${format.exactDuration(stage.ms)}>${format.duration(stage.ms)}</td>
      </tr>`)}</tbody>
    </table>
    <div class="row between faint"><span>${first !== null ? html`<span class="first-mark" aria-hidden="true"></span>First token after ${format.duration(first)}` : ""}</span>
      <span title=${format.exactDuration(request.duration_ms)}>In all ${format.duration(request.duration_ms)}</span></div>
  </div>`;
}
