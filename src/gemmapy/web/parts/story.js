// One request's whole story, in a drawer over the page: how it ended, where its time went, what it used and cost.
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { useObservable } from "../core/observable.js";
import { fixed } from "../core/question.js";
import { href } from "../core/route.js";
import { session } from "../core/session.js";
import { html } from "../core/view.js";
import { Attempts } from "./attempts.js";
import { Bars } from "./bars.js";
import { Code, CopyButton } from "./code.js";
import { Dialog } from "./dialog.js";
import { Outcome } from "./outcome.js";
import { Rate } from "./rate.js";
import { Failure, Skeleton } from "./states.js";
import { Waterfall } from "./waterfall.js";

const ONCE = fixed();

export function Story({ id, zone, close }) {
  const asking = useAsk(`/api/metrics/requests/${encodeURIComponent(id)}`, ONCE);
  return html`<${Dialog} title="One request" kind="drawer" close=${close}>
    ${asking.error && html`<${Failure} error=${asking.error} again=${asking.again} />`}
    ${asking.data ? html`<${Told} request=${asking.data} zone=${zone} again=${asking.again} />` : !asking.error && html`<${Skeleton} height=${560} />`}
  </${Dialog}>`;
}

function Told({ request: r, zone, again }) {
  const me = useObservable(session).user.id;
  return html`
    <div class="stack">
      <div class="row"><${Outcome} request=${r} /><b class="story-model">${r.model}</b></div>
      <p class="quiet">${format.at(r.started_at, zone)}${r.username ? html`, <a href=${href("requests", { user: r.user_id })}>${r.username}</a>` : ""}${r.project ? `, for ${r.project}` : ""}${r.end_user ? `, on behalf of ${r.end_user}` : ""}</p>
    </div>
    ${r.error_message && html`<div class="notice ${r.error ? "bad" : "warn"}"><div><b>${r.error_code?.replaceAll("_", " ") ?? `Status ${r.status}`}</b> ${r.error_message}</div></div>`}
    <section class="stack"><h3>Time</h3><${Waterfall} request=${r} /></section>
    ${r.attempt_log?.length > 0 && html`<section class="stack"><h3>Attempts</h3><${Attempts} request=${r} /></section>`}
    <div class="pair">
      <section class="stack"><h3>Tokens${r.estimated && r.total_tokens !== null ? html` <span class="badge warn">estimated</span>` : ""}</h3>
        <dl class="facts">
          <dt>Prompt</dt><dd>${format.exactCount(r.prompt_tokens)}</dd>
          ${r.cached_prompt_tokens > 0 && html`<dt class="sub">of them cached</dt><dd>${format.exactCount(r.cached_prompt_tokens)}</dd>`}
          <dt>Response</dt><dd>${format.exactCount(r.response_tokens)}</dd>
          <dt>Speed</dt><dd title=${format.exactSpeed(r.tokens_per_second)}>${format.speed(r.tokens_per_second)}</dd>
          ${r.finish_reason && html`<dt>Ended by</dt><dd>${r.finish_reason}</dd>`}
        </dl>
      </section>
      <section class="stack"><h3>Cost</h3><${Cost} request=${r} zone=${zone} /></section>
    </div>
    ${r.elsewhere?.length > 0 && html`<section class="stack"><h3>The same at hosted models</h3>
      <${Bars} show=${format.money} exact=${format.exactMoney} total=${0}
        rows=${[...(r.cost === null ? [] : [{ key: "here", name: "Here", own: true, value: r.cost }]), ...r.elsewhere.filter((e) => e.cost !== null).map((e) => ({ key: `${e.provider}/${e.model}`, name: `${e.provider} / ${e.model}`, value: e.cost }))]} />
    </section>`}
    <section class="stack"><h3>Way</h3>
      <dl class="facts">
        <dt>Endpoint</dt><dd class="mono">${r.endpoint}</dd>
        <dt>Upstream</dt><dd>${r.upstream ?? "none was asked"}</dd>
        ${r.attempts > 1 && html`<dt>Attempts</dt><dd>${r.attempts}</dd>`}
        <dt>Status sent</dt><dd>${r.status}${r.stream ? ", streamed" : ""}</dd>
        <dt>Request id</dt><dd class="row end"><span class="mono cut">${r.request_id}</span><${CopyButton} text=${r.request_id} label="Copy the request id" /></dd>
        ${r.client_request_id && html`<dt>The client's id</dt><dd class="mono">${r.client_request_id}</dd>`}
        <dt>Metric id</dt><dd>${r.id}</dd>
      </dl>
    </section>
    <section class="row between"><h3>Rating</h3>
      ${r.user_id === me ? html`<${Rate} id=${r.id} rating=${r.user_rating} rated=${again} />`
        : html`<span class="quiet">${{ 1: "good", [-1]: "bad" }[r.user_rating] ?? "not rated"}; only its owner can rate it</span>`}
    </section>
    <details><summary class="label">Everything, as JSON</summary><div class="card-gap"></div><${Code} text=${JSON.stringify(r, null, 2)} label="Copy the JSON" /></details>`;
}

function Cost({ request: r, zone }) {
  if (r.cost === null) {
    return html`<p class="quiet">${r.total_tokens ? html`<span class="badge warn">unpriced</span> No price was in force for ${r.model}.` : "Nothing was used, as far as is known."}</p>`;
  }
  const part = (label, value) => value ? html`<dt>${label}</dt><dd title=${format.exactMoney(value)}>${format.money(value)}</dd>` : null;
  return html`<dl class="facts">
      ${part("Prompt", r.prompt_cost)}${part("Response", r.response_cost)}${part("Request, compute", r.other_cost)}
      ${part("Saved by the cache", r.saved)}
      <dt><b>In all</b></dt><dd><b>${format.exactMoney(r.cost)}</b></dd>
    </dl>
    ${r.adjustments?.length > 0 && html`<p class="hint">Recorded as ${format.exactMoney(r.recorded_cost)}${r.adjustments.map((one) => html`; priced anew on ${format.at(one.created_at, zone, "date")}: ${one.reason}`)}.</p>`}
    ${r.price && html`<p class="hint">Price of ${r.price.model}: ${format.exactMoney(r.price.input_cost)} in, ${format.exactMoney(r.price.output_cost)} out, per 1K tokens, since ${format.at(r.price.effective_at, zone, "date")}${r.price.source ? `. ${r.price.source}` : ""}</p>`}`;
}
