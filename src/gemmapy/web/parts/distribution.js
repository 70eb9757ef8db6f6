// How long requests take: a bar for each span of a logarithmic scale, marks at the percentiles, and the same as a table.
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { change, useRoute } from "../core/route.js";
import { html, useState } from "../core/view.js";
import { Choice } from "./choice.js";
import { Card } from "./page.js";
import { Answer } from "./states.js";
import { Table } from "./table.js";

const MEASURES = [
  ["duration", "Duration", format.duration, format.exactDuration, "How long requests take"],
  ["ttft", "First token", format.duration, format.exactDuration, "How long the first token takes"],
  ["time_per_output_token", "Each further token", format.duration, format.exactDuration, "How long each further token takes"],
  ["tokens_per_sec", "Speed", format.speed, format.exactSpeed, "How fast answers are written"],
];
const MARKS = ["p50", "p95", "p99"];
const QUANTILES = ["p50", "p90", "p95", "p99"];

/** Where a value lies on the scale of the bars, 0 to 1: each is as wide as the next, and within one it is by ratio. */
function place(value, bars) {
  const found = bars.findIndex((bar) => value <= bar.to);
  if (found < 0) return 1;
  const { from, to } = bars[found];
  const inside = from > 0 ? Math.log(Math.max(value, from) / from) / Math.log(to / from) : value / to;
  return (found + inside) / bars.length;
}

/** The edges that are told: those at powers of ten and, where these are few, also between. */
function ticks(bars) {
  const edges = [...bars.map((bar) => bar.from), bars.at(-1).to].map((value, index) => ({ value, at: index / bars.length })).filter((one) => one.value > 0);
  const whole = (value, step) => Math.abs(value / 10 ** Math.floor(Math.log10(value) + 1e-9) - step) < 0.01;
  const tens = edges.filter(({ value }) => whole(value, 1));
  if (tens.length >= 3) return tens;
  const some = edges.filter(({ value }) => [1, 2.5, 5].some((step) => whole(value, step)));
  return some.length >= 2 ? some : [edges[0], edges.at(-1)];
}

export function Distribution({ question }) {
  const { query } = useRoute();
  const [id, label, show, exact, title] = MEASURES.find(([one]) => one === query.spread) ?? MEASURES[0];
  const asking = useAsk("/api/metrics/distribution", question.current.with({ measure: id }), { live: true });
  const pick = html`<${Choice} label="Spread of" value=${id} options=${MEASURES.map(([one, name]) => [one, name])} choose=${(one) => change({ spread: one === MEASURES[0][0] ? null : one }, { replace: true })} />`;
  return html`<${Card} title=${title} actions=${pick}>
    <${Answer} asking=${asking} height=${306}>${(data) => {
      if (data.bars === null) return html`<p class="quiet">With these filters every request would have to be read, and they are too many. Take a filter out, or choose a shorter time.</p>`;
      if (!data.bars.length) return html`<p class="quiet">${data.requests ? "None of these requests has been measured: what comes from the cache, and what failed before its first token, is not." : "No requests in this time."}</p>`;
      return html`<${Spread} data=${data} label=${label} show=${show} exact=${exact} />`;
    }}</${Answer}>
  </${Card}>`;
}

function Spread({ data, label, show, exact }) {
  const { bars, measured, percentiles } = data;
  const high = Math.max(...bars.map((bar) => bar.requests));
  const span = (bar) => `${show.tick?.(bar.from) ?? show(bar.from)} – ${show.tick?.(bar.to) ?? show(bar.to)}`;
  const summary = MARKS.map((mark) => `${mark} ${show(percentiles[mark])}`).join(", ");
  const marks = MARKS.map((mark) => ({ mark, value: percentiles[mark], at: place(percentiles[mark], bars) }));
  return html`
    <div class="spread" role="img" aria-label=${`${label} of ${format.exactCount(measured)} requests: ${summary}. A table follows.`}>
      <div class="spread-bars">
        ${bars.map((bar) => html`<div class="spread-slot" key=${bar.from} title=${`${span(bar)}: ${format.exactCount(bar.requests)} requests, ${format.percent(bar.requests / measured)}`}>
          <div class="spread-bar" style=${{ height: `${(bar.requests / high) * 100}%` }}></div></div>`)}
        ${marks.map(({ mark, at }) => html`<span class="spread-mark ${mark}" key=${mark} style=${{ left: `${at * 100}%` }}></span>`)}
      </div>
      <div class="spread-axis">${ticks(bars).map(({ value, at }) => html`<span key=${value} style=${{ left: `${at * 100}%` }}>${(show.tick ?? show)(value)}</span>`)}</div>
    </div>
    <div class="chart-foot">
      <ul class="legend">${QUANTILES.map((one) => html`<li key=${one} title=${exact(percentiles[one])}>
        ${MARKS.includes(one) && html`<span class="spread-key ${one}" aria-hidden="true"></span>`}${one} <b>${show(percentiles[one])}</b></li>`)}
        <li class="faint">${format.exactCount(measured)} measured</li></ul>
      <${AsTable} label=${label} bars=${bars} measured=${measured} span=${span} />
    </div>`;
}

function AsTable({ label, bars, measured, span }) {
  const [open, setOpen] = useState(false);
  const columns = [
    { id: "from", label: "Span", value: (bar) => bar.from, show: span },
    { id: "requests", label: "Requests", num: true, value: (bar) => bar.requests, show: (bar) => format.exactCount(bar.requests) },
    { id: "share", label: "Share", num: true, value: (bar) => bar.requests / measured, show: (bar) => format.percent(bar.requests / measured), exact: (bar) => format.exactPercent(bar.requests / measured) },
  ];
  return html`<details class="behind" onToggle=${(event) => setOpen(event.target.open)}><summary>As a table</summary>
    ${open && html`<${Table} caption=${`${label}, spread`} columns=${columns} rows=${bars} row=${{ key: (bar) => bar.from }} fixed=${true} cards=${false} file="distribution" exported=${() => bars} />`}
  </details>`;
}

/** Every measure's percentiles, one beside the other. */
export function PercentileTable({ dashboard }) {
  const columns = [
    { id: "measure", label: "Measure", value: (r) => r.label },
    ...QUANTILES.map((q) => ({ id: q, label: q, num: true, value: (r) => r.quantiles[q], show: (r) => r.show(r.quantiles[q]), exact: (r) => r.exact(r.quantiles[q]) })),
  ];
  return html`<${Card} title="Percentiles" pad=${false} note="p95: 95 of 100 requests stayed below it. Within 1 %. What came from the cache is left out.">
    <div class="card-gap"></div>
    <${Answer} asking=${dashboard} height=${220}>${(data) => html`<${Table} caption="Percentiles" columns=${columns} fixed=${true} cards=${false} kind="leading" file="percentiles"
      rows=${MEASURES.map(([id, label, show, exact]) => ({ id, label, show, exact, quantiles: data.percentiles[id] }))} row=${{ key: (r) => r.id }} />`}</${Answer}>
  </${Card}>`;
}
