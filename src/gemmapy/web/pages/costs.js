// Money: what was spent, by time, model and person; what the month will cost; what has no price; the price list; and what
// hosted models would have asked for the same tokens.
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { spent } from "../core/measures.js";
import { useObservable } from "../core/observable.js";
import { useQuestion } from "../core/question.js";
import { LENGTH } from "../core/range.js";
import { change, href, useRoute } from "../core/route.js";
import { session } from "../core/session.js";
import { html, useMemo, useState } from "../core/view.js";
import { Bars } from "../parts/bars.js";
import { Chart, underWay } from "../parts/chart.js";
import { Choice } from "../parts/choice.js";
import { Figure } from "../parts/figure.js";
import { Forecast } from "../parts/forecast.js";
import { Grain } from "../parts/grain.js";
import { Hardware } from "../parts/hardware.js";
import { Icon } from "../parts/icons.js";
import { Card, Page } from "../parts/page.js";
import { PriceDialog } from "../parts/price.js";
import { PriceList, useHistory } from "../parts/price_list.js";
import { zoomTo } from "../parts/range.js";
import { RepriceDialog } from "../parts/reprice.js";
import { Spenders } from "../parts/spenders.js";
import { Statements } from "../parts/statements.js";
import { Answer, Failure, Skeleton } from "../parts/states.js";
import { Table } from "../parts/table.js";

const perMillion = (cost, tokens) => (tokens ? (cost / tokens) * 1e6 : null);
const tokensOf = (costs) => costs?.breakdown.reduce((all, one) => all + one.prompt_tokens + one.response_tokens, 0);
const pricedTokens = (costs) => (costs ? tokensOf(costs) - costs.unpriced_tokens : undefined);
const requestsOf = (costs) => costs?.breakdown.reduce((all, one) => all + one.request_count, 0);
const each = (costs) => (costs && requestsOf(costs) > costs.unpriced_requests ? costs.total_cost / (requestsOf(costs) - costs.unpriced_requests) : null);

export default function Costs() {
  const question = useQuestion();
  const admin = useObservable(session).user.is_admin;
  const { current, previous, compare } = question;
  const costs = useAsk("/api/costs/summary", current, { live: true });
  const before = useAsk(compare ? "/api/costs/summary" : null, previous);
  const history = useHistory(admin);
  const [pricing, setPricing] = useState(null);
  const [anew, setAnew] = useState(false);
  const data = costs.data;
  const then = requestsOf(before.data) > 0 ? before.data : undefined; // compared with nothing, everything would be new
  const figure = (label, value, show, exact, more) => html`<${Figure} label=${label} value=${data ? (value(data) ?? null) : costs.error ? null : undefined} before=${then && value(then)} show=${show} exact=${exact} ...${more} />`;
  return html`<${Page} title="Costs" question=${question} filters=${true} live=${true}>
    ${costs.error && html`<${Failure} error=${costs.error} again=${costs.again} />`}
    <div class="figures four ${costs.busy && data ? "busy" : ""}">
      ${figure("Spent", spent, format.money, format.exactMoney, { sub: data ? `${format.count(requestsOf(data))} requests` : "" })}
      ${figure("A request, on average", each, format.money, format.exactMoney, { sub: "of those with a price" })}
      ${figure("1M tokens, on average", (c) => perMillion(c.total_cost, pricedTokens(c)), format.money, format.exactMoney, { sub: data ? `${format.count(tokensOf(data))} tokens` : "" })}
      ${figure("Without a price", (c) => c.unpriced_requests, format.count, format.exactCount, { better: "down", sub: data?.unpriced_requests ? `${format.count(data.unpriced_tokens)} tokens` : "every model has one" })}
    </div>
    ${data?.unpriced_requests > 0 && html`<${Unpriced} costs=${data} admin=${admin} set=${setPricing} anew=${() => setAnew(true)} />`}
    <${Course} question=${question} />
    <div class="grid-2 stretch">
      <${Forecast} user=${question.filters.user_id} narrowed=${Boolean(question.filters.model || question.filters.endpoint || question.filters.project)} />
      <${Elsewhere} current=${current} />
    </div>
    <${Breakdown} costs=${costs} question=${question} admin=${admin} />
    ${admin && html`<${PriceList} zone=${question.zone} set=${setPricing} history=${history} />`}
    ${admin && html`<${Hardware} question=${question} />`}
    <${Statements} admin=${admin} zone=${question.zone} />
    ${anew && html`<${RepriceDialog} question=${question} close=${() => setAnew(false)} done=${costs.again} />`}
    ${pricing !== null && html`<${PriceDialog} model=${pricing} zone=${question.zone} close=${() => setPricing(null)} done=${() => { history.again(); costs.again(); }} />`}
  </${Page}>`;
}

/** Called out, since they are in no sum. */
function Unpriced({ costs, admin, set, anew }) {
  const models = costs.breakdown.filter((one) => one.unpriced_requests > 0);
  return html`<div class="notice warn"><${Icon} name="alert" />
    <div><b>${format.exactCount(costs.unpriced_requests)} requests used models without a price.</b> They are in no sum of money here.
      ${admin ? " A price holds from now on; the past can be priced anew after that." : " An admin can set one."}
      <div class="row price-buttons">${models.map((one) => html`<span key=${one.model} class="row">
        ${admin ? html`<button type="button" class="btn small" onClick=${() => set(one.model)}>Set the price of ${one.model}</button>` : html`<b>${one.model}</b>`}
      </span>`)}${admin && html`<button type="button" class="btn small" onClick=${anew}>Price the past anew</button>`}</div></div></div>`;
}

function Course({ question }) {
  const { query } = useRoute();
  const sum = query.sum === "1";
  const { interval, zone, compare, current, previous } = question;
  const grain = { interval, tz: zone, fill: true };
  const series = useAsk("/api/metrics/timeseries", current.with(grain), { live: true });
  const before = useAsk(compare ? "/api/metrics/timeseries" : null, previous.with(grain));
  const data = series.data?.data;
  const then = compare && before.data?.data.some((b) => b.requests) ? before.data.data : null;
  const lines = useMemo(() => {
    if (!data) return null;
    const values = (buckets) => {
      let all = 0;
      return buckets.map((b) => (sum ? (all += b.cost) : b.cost));
    };
    const shown = [{ label: "Cost", values: values(data) }];
    if (then?.length) {
      const old = values(then);
      shown.push({ label: "The period before", before: true, values: data.map((_, place) => old[place] ?? null), times: then.map((b) => Date.parse(b.start)) });
    }
    return shown;
  }, [data, then, sum]);
  const times = data?.map((b) => Date.parse(b.start)) ?? [];
  const actions = html`<${Choice} label="Costs" value=${sum ? "1" : "0"} options=${[["0", `Each ${interval}`], ["1", "Added up"]]} choose=${(id) => change({ sum: id === "1" ? "1" : null }, { replace: true })} /><${Grain} question=${question} />`;
  return html`<${Card} title="Cost over time" actions=${actions}>
    ${!lines ? (series.error ? html`<${Failure} error=${series.error} again=${series.again} />` : html`<${Skeleton} height=${272} />`)
      : html`<div class=${series.busy ? "busy" : ""}><${Chart} label=${`Cost by ${interval}`} times=${times} series=${lines} zone=${zone} interval=${interval}
          show=${format.money} exact=${format.exactMoney} height=${240} open=${question.window.open && underWay(times.at(-1), interval)}
          zoom=${(from, to) => zoomTo(from, Math.max(to, from + LENGTH.hour))} /></div>`}
  </${Card}>`;
}

/** Null where nothing is known but that there was no price: unknown is not zero. */
const priced = (model, value) => (model.unpriced_requests && !value ? null : value);

const BREAKDOWNS = [["models", "Models"], ["people", "People"], ["projects", "Projects"]];

/** The same money by model and, for admins, by who spent it. */
function Breakdown({ costs, question, admin }) {
  const { query } = useRoute();
  const by = admin && BREAKDOWNS.some(([id]) => id === query.split) ? query.split : "models";
  const actions = admin && html`<${Choice} label="Broken down by" value=${by} options=${BREAKDOWNS} choose=${(id) => change({ split: id === "models" ? null : id }, { replace: true })} />`;
  return html`<${Card} title=${{ models: "By model", people: "By person", projects: "By project" }[by]} actions=${actions} pad=${false}>
    <div class="card-gap"></div>
    ${by === "models" ? html`<${ByModel} costs=${costs} />` : html`<${Spenders} key=${by} kind=${by} question=${question} page="costs" />`}
  </${Card}>`;
}

function ByModel({ costs }) {
  const money = (id, label, key, more = { minor: true }) => ({ id, label, num: true, ...more, value: (m) => priced(m, m[key]), show: (m) => format.money(priced(m, m[key])), exact: (m) => format.exactMoney(priced(m, m[key])) });
  const number = (id, label, key) => ({ id, label, num: true, value: (m) => m[key], show: (m) => format.count(m[key]), exact: (m) => format.exactCount(m[key]) });
  const total = costs.data?.total_cost ?? 0;
  const share = (m) => (total && priced(m, m.total_cost) !== null ? m.total_cost / total : null);
  const columns = useMemo(() => [
    { id: "model", label: "Model", value: (m) => m.model, show: (m) => html`<a class="cut plain-link" href=${href("costs", { model: m.model })} title=${m.model}>${m.model}</a>` },
    number("request_count", "Requests", "request_count"), number("prompt_tokens", "Tokens in", "prompt_tokens"), number("response_tokens", "Tokens out", "response_tokens"),
    money("prompt_cost", "Cost in", "prompt_cost"), money("response_cost", "Cost out", "response_cost"),
    { id: "unpriced_requests", label: "Unpriced", num: true, value: (m) => m.unpriced_requests, show: (m) => (m.unpriced_requests ? html`<span class="badge warn">${format.count(m.unpriced_requests)}</span>` : "0") },
    money("total_cost", "In all", "total_cost", {}),
    { id: "share", label: "Share", num: true, value: (m) => share(m), show: (m) => format.percent(share(m)), exact: (m) => format.exactPercent(share(m)) },
  ], [total]);
  return html`<${Answer} asking=${costs} height=${220}>${(data) => data.breakdown.length
      ? html`<${Table} caption="Cost by model" columns=${columns} rows=${data.breakdown} row=${{ key: (m) => m.model }} file="costs-by-model" sort=${{ id: "total_cost", down: true }} />`
      : html`<p class="card-body quiet">No requests in this time.</p>`}</${Answer}>`;
}

/** The same tokens at hosted models. */
function Elsewhere({ current }) {
  const asking = useAsk("/api/costs/elsewhere", current);
  return html`<${Card} title="The same tokens at hosted models">
    <${Answer} asking=${asking} height=${300}>${(data) => {
      const rows = data.elsewhere.filter((one) => one.cost !== null).map((one) => ({ key: `${one.provider}/${one.model}`, name: `${one.provider} / ${one.model}`, value: one.cost }));
      if (!rows.length || !data.requests) return html`<p class="quiet">Nothing to compare in this time.</p>`;
      return html`<${Bars} show=${format.money} exact=${format.exactMoney} total=${0} rows=${data.requests > data.unpriced_requests ? [{ key: "here", name: "Here", own: true, value: data.cost }, ...rows] : rows} />
        <p class="hint spaced">${data.unpriced_requests ? `Without ${format.exactCount(data.unpriced_requests)} requests that have no price here. ` : ""}${data.note}</p>`;
    }}</${Answer}>
  </${Card}>`;
}
