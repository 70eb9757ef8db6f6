// The servers that run the models: who answers, who is given a rest, who has what, and how often it was tried again.
import { useAsk } from "../core/ask.js";
import { useEvery } from "../core/every.js";
import * as format from "../core/format.js";
import { fixed } from "../core/question.js";
import { href } from "../core/route.js";
import { html, useMemo } from "../core/view.js";
import { Figure } from "../parts/figure.js";
import { Icon } from "../parts/icons.js";
import { Card, Page } from "../parts/page.js";
import { Answer, Empty, Failure } from "../parts/states.js";
import { Table } from "../parts/table.js";

const ALWAYS = fixed();
const AGAIN_MS = 5000;
const KINDS = { ollama: "Ollama", openai: "OpenAI-compatible", llamacpp: "inside GemmaPy" };
const share = (part, whole) => (whole ? part / whole : null);

/** How an upstream is, in a word: what it answers, and what its breaker does with requests. */
function state(one) {
  if (one.breaker === "open") return { kind: "bad", mark: "✕", text: one.retry_in_s > 0 ? `left alone, tries again in ${Math.ceil(one.retry_in_s)} s` : "left alone", rank: 3 };
  if (one.breaker === "half-open") return { kind: "warn", mark: "?", text: "one request tries it", rank: 2 };
  if (!one.reachable) return { kind: "bad", mark: "✕", text: "does not answer", rank: 3 };
  return { kind: "good", mark: "✓", text: "answers", rank: 0 };
}

export default function Upstreams() {
  const status = useAsk("/api/ollama/status", ALWAYS, { live: true });
  const stats = useAsk("/api/retry/stats", ALWAYS, { live: true });
  useEvery(AGAIN_MS, () => { status.again(); stats.again(); });
  const rows = useMemo(() => {
    const counted = new Map((stats.data?.upstreams ?? []).map((one) => [one.name, one]));
    return (status.data?.upstreams ?? []).map((one) => ({ ...one, ...counted.get(one.name), trouble: one.trouble }));
  }, [status.data, stats.data]);
  const s = stats.data;
  const troubled = rows.filter((one) => one.trouble && !one.reachable);
  return html`<${Page} title="Upstreams" live=${true}>
    ${stats.error && !s ? html`<${Failure} error=${stats.error} again=${stats.again} />` : html`<div class="figures four">
      <${Figure} label="Requests sent on" value=${s?.requests} show=${format.count} exact=${format.exactCount} sub=${s && (s.requests ? `${format.exactCount(s.attempts)} attempts` : "none since the start")} />
      <${Figure} label="Tried again" value=${s?.retries} show=${format.count} exact=${format.exactCount} sub=${s && `${format.percent(share(s.retries, s.attempts) ?? 0)} of the attempts`} />
      <${Figure} label="By another model" value=${s?.fallbacks} show=${format.count} exact=${format.exactCount} sub=${s && (Object.keys(s.chains).length ? "where nobody could serve it" : "no chain is set")} />
      <${Figure} label="Saved by that" value=${s?.recovered} show=${format.count} exact=${format.exactCount} sub=${s && `${format.exactCount(s.exhausted)} failed all the same`} />
    </div>`}
    ${troubled.length > 0 && html`<div class="notice ${rows.some((one) => one.reachable) ? "warn" : "bad"}" role="status"><${Icon} name="alert" />
      <div>${troubled.map((one) => html`<p key=${one.name}><b>${one.name} does not answer.</b> ${one.trouble}</p>`)}
      <p>Start it, or mend its address in the settings. It is asked for its models every few seconds, and takes part again once it answers.</p></div></div>`}
    <${Card} title="Upstreams" pad=${false} note="Since the gateway was started. Failed: no connection, no answer in time, hung up, 502 or 504. An upstream that does so again and again is left alone for a while; then one request tries it.">
      <div class="card-gap"></div>
      <${Answer} asking=${status} height=${180}>${() => html`<${List} rows=${rows} />`}</${Answer}>
    </${Card}>
    <div class="grid-side">
      <${Card} title="Who has which model" pad=${false}>
        <div class="card-gap"></div>
        <${Answer} asking=${status} height=${220}>${() => html`<${Models} rows=${rows} />`}</${Answer}>
      </${Card}>
      <${Card} title="Models that take another's place">
        <${Answer} asking=${stats} height=${120}>${(data) => html`<${Chains} chains=${data.chains} />`}</${Answer}>
      </${Card}>
    </div>
  </${Page}>`;
}

function List({ rows }) {
  const columns = useMemo(() => [
    { id: "name", label: "Upstream", value: (u) => u.name, show: (u) => html`<span class="row nowrap-row"><b class="cut">${u.name}</b><span class="faint">${KINDS[u.kind] ?? u.kind}</span></span>` },
    { id: "state", label: "State", value: (u) => state(u).text, show: (u) => { const { kind, mark, text } = state(u); return html`<span class="badge ${kind}"><span aria-hidden="true">${mark}</span>${text}</span>`; } },
    { id: "models", label: "Models", num: true, value: (u) => u.models, show: (u) => format.count(u.models), exact: (u) => u.model_names.join(", ") },
    { id: "in_flight", label: "Under way", num: true, value: (u) => u.in_flight, show: (u) => html`${format.count(u.in_flight)}${u.places ? html`<span class="faint"> of ${format.count(u.places)}</span>` : ""}`, exact: (u) => (u.places ? `It has ${u.places} places; who finds none waits in line` : "It takes any number at once") },
    { id: "waiting", label: "In line", num: true, value: (u) => u.waiting, show: (u) => format.count(u.waiting) },
    { id: "attempts", label: "Attempts", num: true, value: (u) => u.attempts ?? null, show: (u) => format.count(u.attempts), exact: (u) => format.exactCount(u.attempts) },
    { id: "failures", label: "Failed", num: true, value: (u) => u.failures ?? null, show: (u) => html`${format.count(u.failures)}${u.failures ? html` <span class="faint">${format.percent(share(u.failures, u.attempts))}</span>` : ""}`, exact: (u) => `${format.exactCount(u.failures)} of ${format.exactCount(u.attempts)}` },
    { id: "opened", label: "Left alone", num: true, value: (u) => u.opened ?? null, show: (u) => (u.opened ? `${format.count(u.opened)} ×` : "never"), exact: (u) => "How often its breaker has opened" },
  ], []);
  return html`<${Table} caption="Upstreams" columns=${columns} rows=${rows} row=${{ key: (u) => u.name }} file="upstreams" />`;
}

/** Each model and its upstreams: where there are several, they share its load. */
function Models({ rows }) {
  const models = useMemo(() => {
    const who = new Map();
    for (const upstream of rows) for (const name of upstream.model_names) who.set(name, [...(who.get(name) ?? []), upstream]);
    return [...who].map(([model, upstreams]) => ({ model, upstreams }));
  }, [rows]);
  if (!models.length) {
    return html`<${Empty} title="No model yet" line="ollama pull llama3">No upstream that answers has a model. With Ollama, this fetches one:</${Empty}>`;
  }
  const columns = [
    { id: "model", label: "Model", value: (m) => m.model, show: (m) => html`<a class="cut plain-link" href=${href("overview", { model: m.model })} title=${m.model}>${m.model}</a>` },
    { id: "upstreams", label: "Upstreams", value: (m) => m.upstreams.map((one) => one.name).join(", "), show: (m) => html`<span class="row">${m.upstreams.map((one) => html`<span key=${one.name} class="badge ${state(one).kind === "good" ? "" : state(one).kind}" title=${state(one).text}>${one.name}</span>`)}</span>` },
  ];
  return html`<${Table} caption="Models and their upstreams" columns=${columns} rows=${models} row=${{ key: (m) => m.model }} file="models-of-upstreams" sort=${{ id: "model", down: false }} />`;
}

function Chains({ chains }) {
  const known = Object.entries(chains);
  if (!known.length) {
    return html`<div class="stack"><p class="quiet">None. Where a model's upstreams all fail, another can answer in its place, and the answer says so. In gemmapy.toml:</p>
      <pre class="snippet" tabindex="0"><code>[fallbacks]${"\n"}llama3 = ["mistral"]</code></pre></div>`;
  }
  return html`<ul class="stack">${known.map(([model, others]) => html`<li key=${model}><b>${model}</b> ${others.map((other) => html`<span class="faint" aria-hidden="true"> → </span><span class="unseen"> then </span>${other}`)}</li>`)}</ul>`;
}
