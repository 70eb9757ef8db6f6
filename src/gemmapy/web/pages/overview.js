// Everything at a glance: ten figures with their course, one chart of the chosen one, and who and what is behind it.
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { courseName, MEASURES } from "../core/measures.js";
import { useObservable } from "../core/observable.js";
import { useQuestion } from "../core/question.js";
import { change, href, useRoute } from "../core/route.js";
import { LENGTH } from "../core/range.js";
import { session } from "../core/session.js";
import { html, useMemo } from "../core/view.js";
import { Bars } from "../parts/bars.js";
import { Chart, underWay } from "../parts/chart.js";
import { Choice } from "../parts/choice.js";
import { FirstRequest } from "../parts/first.js";
import { Figure } from "../parts/figure.js";
import { Grain } from "../parts/grain.js";
import { LatestRequests, RunningNow } from "../parts/now.js";
import { Card, Page } from "../parts/page.js";
import { Answer, Failure, Skeleton } from "../parts/states.js";
import { zoomTo } from "../parts/range.js";

function notes(dashboard, costs) {
  if (!dashboard) return {};
  const quantile = (of) => (of.p95 === null ? "" : `p95 ${format.duration(of.p95)}`);
  const { ratings, percentiles } = dashboard;
  const sum = (key) => costs?.breakdown.reduce((all, one) => all + one[key], 0);
  return {
    requests: dashboard.left ? `${format.count(dashboard.left)} left early` : "",
    cost: dashboard.unpriced_requests ? html`<span class="warn">${format.count(dashboard.unpriced_requests)} unpriced</span>` : "",
    tokens: costs && dashboard.total_tokens ? `${format.count(sum("prompt_tokens"))} in, ${format.count(sum("response_tokens"))} out` : "",
    errors: dashboard.errors ? `${format.count(dashboard.errors)} failed` : "none failed",
    duration: quantile(percentiles.duration),
    ttft: quantile(percentiles.ttft),
    speed: percentiles.tokens_per_sec.p50 === null ? "" : `average ${format.speed(dashboard.avg_tokens_per_sec)}`,
    cache: dashboard.saved > 0
      ? html`<span title=${`${format.exactCount(dashboard.cache_hits)} answers saved ${format.exactMoney(dashboard.saved)}`}>saved ${format.money(dashboard.saved)}</span>`
      : `${format.count(dashboard.cache_hits)} answered from it`,
    ratings: ratings.total_rated ? `of ${format.count(ratings.total_rated)} rated` : "nothing rated",
  };
}

export default function Overview() {
  const question = useQuestion();
  const { query } = useRoute();
  const admin = useObservable(session).user.is_admin;
  const measure = MEASURES[query.show] ? query.show : "requests";
  const live = { live: true };
  const { interval, zone, compare, current, previous } = question;
  const grain = { interval, tz: zone, fill: true };
  const dashboard = useAsk("/api/metrics/dashboard", current, live);
  const costs = useAsk("/api/costs/summary", current, live);
  const series = useAsk("/api/metrics/timeseries", current.with(grain), live);
  const before = useAsk(compare ? "/api/metrics/dashboard" : null, previous);
  const costsBefore = useAsk(compare ? "/api/costs/summary" : null, previous);
  const seriesBefore = useAsk(compare ? "/api/metrics/timeseries" : null, previous.with(grain));
  const ready = (id) => dashboard.data && (id !== "cost" || costs.data);
  const facts = notes(dashboard.data, costs.data);
  const buckets = series.data?.data ?? [];
  // The bucket that is under way would make every line end in a fall.
  const growing = question.window.open && buckets.length > 3 && underWay(Date.parse(buckets.at(-1).start), interval);
  const course = growing ? buckets.slice(0, -1) : buckets;
  // Compared with nothing, everything would be new.
  const compared = before.data?.total_requests > 0;
  const filtered = Object.values(question.filters).some(Boolean);
  const empty = dashboard.data && !dashboard.data.total_requests;
  return html`<${Page} title="Overview" question=${question} filters=${true} live=${true}>
    ${dashboard.error && html`<${Failure} error=${dashboard.error} again=${dashboard.again} />`}
    <div class="figures ${dashboard.busy && dashboard.data ? "busy" : ""}" aria-busy=${dashboard.busy}>
      ${Object.entries(MEASURES).map(([id, one]) => html`<${Figure} key=${id} label=${one.label} show=${one.show} exact=${one.exact}
        value=${ready(id) ? (one.total(dashboard.data, costs.data) ?? null) : (id === "cost" ? costs : dashboard).error ? null : undefined}
        before=${compared ? one.total(before.data, costsBefore.data) : undefined} better=${one.better} sub=${facts[id]}
        course=${course.map(one.bucket)} chosen=${id === measure} choose=${() => change({ show: id === "requests" ? null : id }, { replace: true })} />`)}
      <${RunningNow} />
    </div>
    ${empty && !filtered ? html`<${FirstRequest} />` : html`
      <${Course} ...${{ measure: MEASURES[measure], question, series, before: compare && compared ? seriesBefore.data?.data : null }} />
      <div class="grid-2 stretch">
        <${ByModel} costs=${costs} />
        <${ByEndpoint} current=${current} />
      </div>
      <${LatestRequests} question=${question} admin=${admin} />`}
  </${Page}>`;
}

/** The chart of the chosen measure. */
function Course({ measure, question, series, before }) {
  const { interval, zone } = question;
  const data = series.data?.data;
  const shown = useMemo(() => {
    if (!data) return null;
    const lines = [{ label: courseName(measure, data), values: data.map(measure.bucket) }];
    if (measure.high && data[0]?.percentiles) lines.push({ label: measure.label.replace("p50", "p95"), values: data.map(measure.high) });
    if (before?.length) {
      const values = data.map((_, place) => (before[place] ? measure.bucket(before[place]) : null));
      lines.push({ label: "The period before", before: true, values, times: before.map((b) => Date.parse(b.start)) });
    }
    return { times: data.map((b) => Date.parse(b.start)), lines };
  }, [data, before, measure]);
  const name = courseName(measure, data);
  return html`<${Card} title=${name} actions=${html`<${Grain} question=${question} />`}>
    ${!shown
      ? (series.error ? html`<${Failure} error=${series.error} again=${series.again} />` : html`<${Skeleton} height=${292} />`)
      : html`<div class=${series.busy ? "busy" : ""}><${Chart} label=${`${name} by ${interval}`} times=${shown.times} series=${shown.lines}
          zone=${zone} interval=${interval} show=${measure.show} exact=${measure.exact} height=${260}
          open=${question.window.open && underWay(shown.times.at(-1), interval)}
          zoom=${(from, to) => zoomTo(from, Math.max(to, from + LENGTH.hour))} /></div>`}
  </${Card}>`;
}

function ByModel({ costs }) {
  const { query } = useRoute();
  const by = query.by_model === "cost" ? "cost" : query.by_model === "tokens" ? "tokens" : "requests";
  const value = { requests: (m) => m.request_count, cost: (m) => m.total_cost, tokens: (m) => m.prompt_tokens + m.response_tokens }[by];
  const measure = MEASURES[by];
  const pick = html`<${Choice} label="Models by" value=${by} options=${[["requests", "Requests"], ["tokens", "Tokens"], ["cost", "Cost"]]}
    choose=${(id) => change({ by_model: id === "requests" ? null : id }, { replace: true })} />`;
  return html`<${Card} title="Models" actions=${pick}>
    <${Answer} asking=${costs} height=${240}>${(data) => data.breakdown.length
      ? html`<${Bars} show=${measure.show} exact=${measure.exact}
          rows=${data.breakdown.map((m) => ({ key: m.model, name: m.model, value: value(m), href: href("overview", { model: m.model }) }))} />`
      : html`<p class="quiet">No requests in this time.</p>`}</${Answer}>
  </${Card}>`;
}

function ByEndpoint({ current }) {
  const endpoints = useAsk("/api/metrics/endpoints", current, { live: true });
  return html`<${Card} title="Endpoints">
    <${Answer} asking=${endpoints} height=${240}>${(data) => data.endpoints.length
      ? html`<${Bars} show=${format.count} exact=${format.exactCount}
          rows=${data.endpoints.map((e) => ({ key: e.endpoint, name: e.endpoint, value: e.requests, href: href("overview", { endpoint: e.endpoint }) }))} />`
      : html`<p class="quiet">No requests in this time.</p>`}</${Answer}>
  </${Card}>`;
}
