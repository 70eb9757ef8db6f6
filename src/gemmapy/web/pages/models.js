// Models: every figure in one table, the course of up to four over time, and two to four of them side by side.
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { MEASURES } from "../core/measures.js";
import { useQuestion } from "../core/question.js";
import { change, href, useRoute } from "../core/route.js";
import { html, useMemo } from "../core/view.js";
import { Courses } from "../parts/courses.js";
import { FirstRequest } from "../parts/first.js";
import { Card, Page } from "../parts/page.js";
import { Answer } from "../parts/states.js";
import { Table } from "../parts/table.js";

const MOST = 4;

/** The dashboard's models with their costs, the busiest first. */
function join(dashboard, costs) {
  const priced = new Map((costs?.breakdown ?? []).map((one) => [one.model, one]));
  return dashboard.by_model
    .map((model) => ({ ...model, costs: priced.get(model.model) }))
    .sort((a, b) => b.requests - a.requests);
}

export default function Models() {
  const question = useQuestion();
  const { query } = useRoute();
  const { current } = question;
  const dashboard = useAsk("/api/metrics/dashboard", current, { live: true });
  const costs = useAsk("/api/costs/summary", current, { live: true });
  const models = useMemo(() => (dashboard.data ? join(dashboard.data, costs.data) : []), [dashboard.data, costs.data]);
  const names = models.map((one) => one.model);
  const marked = (query.models ?? "").split("|").filter((name) => names.includes(name)).slice(0, MOST);
  const shown = marked.length ? marked : names.slice(0, Math.min(MOST, names.length));
  const mark = (name) => {
    const next = marked.includes(name) ? marked.filter((one) => one !== name) : [...marked, name];
    change({ models: next.join("|") || null }, { replace: true });
  };
  return html`<${Page} title="Models" question=${question} filters=${true} live=${true}>
    ${dashboard.data && !models.length && html`<${FirstRequest} />`}
    ${(!dashboard.data || models.length > 0) && html`
      <${Courses} question=${question} live=${true} subjects=${shown.map((name) => ({ label: name, params: { model: name } }))} />
      ${marked.length > 1 && html`<${SideBySide} models=${models.filter((one) => marked.includes(one.model))} />`}
      <${Card} title="All models" pad=${false} note=${models.length > 1 ? "Speed, first token and duration are medians; p95: 95 of 100 requests took less. Mark two to four models to see them side by side; a name leads to its figures." : ""}>
        <div class="card-gap"></div>
        <${Answer} asking=${dashboard} height=${280}>${() => html`<${List} models=${models} marked=${marked} mark=${mark} />`}</${Answer}>
      </${Card}>`}
  </${Page}>`;
}

function List({ models, marked, mark }) {
  const columns = useMemo(() => {
    const figure = (id, label, more = {}) => {
      const measure = MEASURES[id];
      const value = (m) => measure.model(m, m.costs) ?? null;
      return { id, label: label ?? measure.label, num: true, value, show: (m) => measure.show(value(m)), exact: (m) => measure.exact(value(m)), ...more };
    };
    return [
      { id: "model", label: "Model", value: (m) => m.model, show: (m) => html`<span class="row nowrap-row">
          ${models.length > 1 && html`<input type="checkbox" class="mark" checked=${marked.includes(m.model)} disabled=${!marked.includes(m.model) && marked.length >= MOST}
            onChange=${() => mark(m.model)} aria-label=${`Compare ${m.model}`} />`}
          <a class="cut plain-link" href=${href("overview", { model: m.model })} title=${m.model}>${m.model}</a></span>` },
      figure("requests"), figure("tokens", "Tokens", { minor: true }), figure("speed", "Speed"), figure("ttft", "First token"),
      figure("duration", "Duration"),
      { id: "p95", label: "p95", minor: true, num: true, value: (m) => m.percentiles.duration.p95, show: (m) => format.duration(m.percentiles.duration.p95), exact: (m) => format.exactDuration(m.percentiles.duration.p95) },
      figure("errors", "Errors"), figure("cache", "Cached", { minor: true }), figure("ratings", "Satisfied"),
      figure("cost", "Cost", { show: (m) => m.costs?.unpriced_requests
        ? html`<span class="row end">${m.costs.total_cost ? html`<span>${format.money(m.costs.total_cost)}</span>` : ""}<span class="badge warn" title=${`${format.exactCount(m.costs.unpriced_requests)} requests without a price`}>unpriced</span></span>`
        : format.money(m.costs?.total_cost) }),
    ];
  }, [models, marked.join()]);
  return html`<${Table} caption="All models" columns=${columns} rows=${models} row=${{ key: (m) => m.model }} file="models" sort=${{ id: "requests", down: true }} />`;
}

const ROWS = [
  ["requests", "Requests"], ["tokens", "Tokens"], ["cost", "Cost"],
  ["per", "Cost per 1M tokens", { show: format.money, exact: format.exactMoney, better: "down",
    model: (m, c) => (c?.total_cost && m.total_tokens ? (c.total_cost / m.total_tokens) * 1e6 : null) }],
  ["speed", "Tokens per second, p50"], ["ttft", "First token, p50"],
  ["ttft95", "First token, p95", { show: format.duration, exact: format.exactDuration, better: "down", model: (m) => m.percentiles.ttft.p95 }],
  ["duration", "Duration, p50"],
  ["duration95", "Duration, p95", { show: format.duration, exact: format.exactDuration, better: "down", model: (m) => m.percentiles.duration.p95 }],
  ["errors", "Error rate"], ["cache", "Cache hits"], ["ratings", "Satisfaction"],
].map(([id, label, measure]) => ({ id, label, measure: measure ?? MEASURES[id] }));

/** A column a model; the best of each row is marked, where better means something. */
function SideBySide({ models }) {
  const best = ({ better, model }) => {
    const values = models.map((m) => model(m, m.costs)).filter((value) => value !== null && value !== undefined);
    if (!better || values.length < 2) return null;
    return better === "up" ? Math.max(...values) : Math.min(...values);
  };
  const columns = [
    { id: "measure", label: "Measure", value: (r) => r.label, show: (r) => html`<span class="quiet">${r.label}</span>` },
    ...models.map((m) => ({
      id: m.model, label: m.model, num: true, value: (r) => r.measure.model(m, m.costs) ?? null, exact: (r) => r.measure.exact(r.measure.model(m, m.costs)),
      show: (r) => {
        const value = r.measure.model(m, m.costs) ?? null;
        return value !== null && value === best(r.measure)
          ? html`<b class="good"><span aria-hidden="true">★ </span>${r.measure.show(value)}<span class="unseen"> (best)</span></b>` : r.measure.show(value);
      },
    })),
  ];
  return html`<${Card} title="Side by side" pad=${false} note="★ marks the best of a row." actions=${html`<button type="button" class="btn small" onClick=${() => change({ models: null }, { replace: true })}>End comparison</button>`}>
    <div class="card-gap"></div>
    <${Table} caption="Models side by side" columns=${columns} rows=${ROWS} row=${{ key: (r) => r.id }} fixed=${true} cards=${false} kind="leading" file="models-compared" />
  </${Card}>`;
}
