// Kept answers: how often they served, what that saved, how much there is of them; and, for admins, forgetting them.
import { post } from "../core/api.js";
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { ORIGIN } from "../core/api.js";
import { useObservable } from "../core/observable.js";
import { fixed, useQuestion } from "../core/question.js";
import { session } from "../core/session.js";
import { html, useMemo, useState } from "../core/view.js";
import { Courses } from "../parts/courses.js";
import { Dialog } from "../parts/dialog.js";
import { Figure } from "../parts/figure.js";
import { Icon } from "../parts/icons.js";
import { Card, Page } from "../parts/page.js";
import { Answer, Empty, Failure } from "../parts/states.js";
import { useSubmit } from "../parts/submit.js";
import { Table } from "../parts/table.js";
import { say } from "../parts/toasts.js";

const ALWAYS = fixed();
const ALL = [{ label: "All models", params: {} }];
const ASK = `curl ${ORIGIN}/api/ollama/generate \\\n  -H "Authorization: Bearer $KEY" \\\n  -d '{"model": "llama3", "prompt": "Why is the sky blue?", "temperature": 0}'`;
const POLICIES = {
  off: "Off: the operator has turned it off.",
  auto: "Answers of /api/ollama/* that are the same each time are kept, and whatever asks for it.",
  on: "Answers that are the same each time are kept, of every path, and whatever asks for it.",
};

export default function Cache() {
  const question = useQuestion();
  const admin = useObservable(session).user.is_admin;
  const stats = useAsk("/api/cache/stats", ALWAYS, { live: true });
  const dashboard = useAsk("/api/metrics/dashboard", question.current, { live: true });
  const [doomed, setDoomed] = useState(null);
  const s = stats.data;
  const used = dashboard.data;
  const expire = async () => {
    try {
      say((await post("/api/cache/clear-expired")).message);
      stats.again();
    } catch (error) {
      say(`${error.message} ${error.hint}`);
    }
  };
  const actions = admin && s && html`
    <button type="button" class="btn small" onClick=${expire}>Clear what is too old</button>
    <button type="button" class="btn small" onClick=${() => setDoomed({ pattern: "" })}>Clear by pattern</button>
    <button type="button" class="btn small danger" onClick=${() => setDoomed({})}>Clear all</button>`;
  const nothing = s && !s.entries && !s.hits && !s.misses && !s.stored?.entries;
  return html`<${Page} title="Cache" question=${question} live=${true}>
    ${stats.error && !s ? html`<${Failure} error=${stats.error} again=${stats.again} />` : html`<div class="figures four">
      <${Figure} label="Hits" value=${used === undefined ? undefined : used.cache_hits} show=${format.count} exact=${format.exactCount} sub=${used && `${format.percent(used.cache_hit_rate)} of the requests in this time`} />
      <${Figure} label="Saved since the start" value=${s?.saved_cost} show=${format.money} exact=${format.exactMoney} sub=${s && `${format.exactCount(s.hits)} hits, ${format.exactCount(s.misses)} misses`} />
      <${Figure} label="Answers in memory" value=${s?.entries} show=${format.count} exact=${format.exactCount} sub=${s && `${format.bytes(s.bytes)} of ${format.bytes(s.max_bytes)}`} />
      ${s && !s.stored ? html`<${Figure} label="On disk" value=${null} show=${() => "none"} exact=${() => "A restart forgets all answers"} sub="a restart forgets them" />`
        : html`<${Figure} label="Answers on disk" value=${s?.stored.entries} show=${format.count} exact=${format.exactCount} sub=${s && `${format.bytes(s.stored.bytes)} of ${format.bytes(s.stored.max_bytes)}`} />`}
    </div>`}
    ${s?.stored?.trouble && html`<div class="notice warn" role="status"><${Icon} name="alert" /><div><b>Answers on disk are of no use at this moment.</b> ${s.stored.trouble}. Requests go to the models as without them.</div></div>`}
    <${Courses} question=${question} live=${true} height=${200} measures=${["cache", "requests"]} subjects=${ALL} />
    <${Card} title="Since the start" actions=${nothing ? null : actions} pad=${false} note=${s && note(s)}>
      <div class="card-gap"></div>
      <${Answer} asking=${stats} height=${200}>${(data) => nothing ? html`<${Nothing} policy=${data.policy} />`
        : admin ? html`<${Models} stats=${data} clear=${(model) => setDoomed({ model })} />`
        : html`<div class="card-body"><dl class="facts"><dt>Hits</dt><dd>${format.exactCount(data.hits)}</dd><dt>Misses</dt><dd>${format.exactCount(data.misses)}</dd>
            <dt>Joined an answer that was being made</dt><dd>${format.exactCount(data.joined)}</dd><dt>Saved, everybody's</dt><dd>${format.exactMoney(data.saved_cost)}</dd></dl></div>`}</${Answer}>
    </${Card}>
    ${doomed && html`<${Clear} which=${doomed} stats=${s} close=${() => setDoomed(null)} done=${stats.again} />`}
  </${Page}>`;
}

function note(s) {
  const age = s.ttl_s % 3600 ? format.duration(s.ttl_s * 1000) : s.ttl_s === 3600 ? "an hour" : `${format.exactCount(s.ttl_s / 3600)} hours`;
  const made = s.joined ? ` ${format.exactCount(s.joined)} of the hits joined an answer that was still being made.` : "";
  return `${POLICIES[s.policy]} ${s.shared ? "Answers are given to everybody who may use the model." : "Everybody has their own."} No answer gets older than ${age}.${made}`;
}

function Nothing({ policy }) {
  if (policy === "off") {
    return html`<${Empty} title="The cache is off" line='cache = "auto"'>No answer is kept. To keep those that are the same each time, say this in gemmapy.toml and start the gateway again:</${Empty}>`;
  }
  return html`<${Empty} title="No answer is kept yet" line=${ASK}>Ask the same twice at temperature 0: the second answer comes from here, at no cost. Or say "use_cache": true, or the header X-GemmaPy-Cache: on, at any temperature.</${Empty}>`;
}

function Models({ stats, clear }) {
  const columns = useMemo(() => {
    const count = (id, label) => ({ id, label, num: true, value: (m) => m[id], show: (m) => format.count(m[id]), exact: (m) => format.exactCount(m[id]) });
    const bytes = (id, label) => ({ id, label, num: true, value: (m) => m[id], show: (m) => format.bytes(m[id]), exact: (m) => `${format.exactCount(m[id])} bytes` });
    return [
      { id: "model", label: "Model", value: (m) => m.model, show: (m) => html`<span class="cut" title=${m.model}>${m.model}</span>` },
      count("hits", "Hits"), count("misses", "Misses"),
      { id: "hit_rate", label: "Hit rate", num: true, value: (m) => m.hit_rate, show: (m) => format.percent(m.hit_rate), exact: (m) => format.exactPercent(m.hit_rate) },
      { id: "saved_cost", label: "Saved", num: true, value: (m) => m.saved_cost, show: (m) => format.money(m.saved_cost), exact: (m) => format.exactMoney(m.saved_cost) },
      count("entries", "Answers"), bytes("bytes", "Memory"),
      ...(stats.stored ? [count("stored_entries", "On disk"), bytes("stored_bytes", "Disk")] : []),
      { id: "actions", label: "", sort: false, out: false, value: () => null, show: (m) => html`<button type="button" class="btn small" disabled=${!m.entries && !m.stored_entries} onClick=${() => clear(m.model)} aria-label=${`Clear the answers of ${m.model}`}>Clear</button>` },
    ];
  }, [Boolean(stats.stored)]);
  return html`<${Table} caption="The cache by model" columns=${columns} rows=${stats.by_model} row=${{ key: (m) => m.model }} file="cache" sort=${{ id: "hits", down: true }} />`;
}

/** `which`: {model}, {pattern} to be typed, or {} for all. */
function Clear({ which, stats, close, done }) {
  const byPattern = which.pattern !== undefined;
  const [pattern, setPattern] = useState("");
  const { submit, busy, error } = useSubmit(async () => (await post("/api/cache/clear", byPattern ? { pattern: pattern.trim() } : which)).message, () => {
    done();
    close();
  });
  const title = which.model ? `Clear the answers of ${which.model}?` : byPattern ? "Clear by pattern" : "Clear all answers?";
  return html`<${Dialog} title=${title} close=${close}><form class="form" onSubmit=${submit}>
    <p class="quiet">${stats?.stored ? "They are forgotten in memory and deleted on disk." : "They are forgotten."} The next request that asks the same goes to the model, and costs what that costs.</p>
    ${byPattern && html`<label class="field"><span>Names of models, with * for anything</span><input class="input" required maxlength="200" placeholder="llama3*" value=${pattern} onInput=${(e) => setPattern(e.target.value)} /></label>`}
    ${error && html`<${Failure} error=${error} />`}
    <div class="row end"><button type="button" class="btn" onClick=${close}>Keep them</button><button class="btn danger" disabled=${busy}>${which.model || byPattern ? "Clear them" : "Clear all"}</button></div>
  </form></${Dialog}>`;
}
