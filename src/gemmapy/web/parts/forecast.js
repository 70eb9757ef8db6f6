// What this month will have cost: what was spent so far, and the way to the month's end with its interval.
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { fixed } from "../core/question.js";
import { html, useMemo } from "../core/view.js";
import { Chart } from "./chart.js";
import { Card } from "./page.js";
import { Answer, Skeleton } from "./states.js";

const DAY = 86_400_000;
const EIGHTY = format.exactPercent(0.8);
const MONTHLY = { period: "month" };

/** Days of the month (UTC), the sum so far on each, and straight ways from today to the expected end. */
function course(forecast, buckets, now) {
  const [year, month] = forecast.month.split("-").map(Number);
  const start = Date.UTC(year, month - 1, 1);
  const days = Math.round((Date.UTC(year, month, 1) - start) / DAY);
  const today = Math.min(days - 1, Math.max(0, Math.floor((now - start) / DAY)));
  const spent = new Map(buckets.map((b) => [Date.parse(b.start), b.cost]));
  const times = Array.from({ length: days }, (_, day) => start + day * DAY);
  let sum = 0;
  const actual = times.map((time, day) => {
    sum += spent.get(time) ?? 0;
    return day < today ? sum : day === today ? forecast.spent : null;
  });
  const towards = (end) => times.map((_, day) =>
    day < today ? null : forecast.spent + (end - forecast.spent) * (days - 1 === today ? 1 : (day - today) / (days - 1 - today)));
  return { times, actual, expected: towards(forecast.expected), low: towards(forecast.low), high: towards(forecast.high) };
}

/** `narrowed`: filters are in force that a forecast does not know. */
export function Forecast({ user, narrowed }) {
  const projection = useAsk("/api/costs/projection", fixed({ ...MONTHLY, user_id: user }), { live: true });
  const month = projection.data?.forecast.month;
  const start = month ? `${month}-01T00:00:00Z` : null;
  const series = useAsk(start ? "/api/metrics/timeseries" : null, fixed({ from: start, interval: "day", tz: "UTC", fill: true, user_id: user }), { live: true });
  const forecast = projection.data?.forecast;
  const drawn = useMemo(() => (forecast && series.data ? course(forecast, series.data.data, Date.now()) : null), [forecast, series.data]);
  const name = month ? format.at(`${month}-15T12:00:00Z`, "UTC", "month") : "this month";
  return html`<${Card} title=${`What ${name} will cost`}>
    <${Answer} asking=${projection} height=${330}>${() => !forecast.history_days && !forecast.spent ? html`<p class="quiet">It is told from past use, and there is none yet.</p>` : html`
      <div class="figures three inset">
        <div class="figure short"><span class="figure-label">Spent so far</span><span class="figure-value" title=${format.exactMoney(forecast.spent)}>${format.money(forecast.spent)}</span></div>
        <div class="figure short"><span class="figure-label">Expected</span><span class="figure-value" title=${format.exactMoney(forecast.expected)}>${format.money(forecast.expected)}</span></div>
        <div class="figure short wide-on-phone"><span class="figure-label">${EIGHTY} interval</span><span class="figure-value" title=${`${format.exactMoney(forecast.low)} to ${format.exactMoney(forecast.high)}`}>${format.money(forecast.low)} – ${format.money(forecast.high)}</span></div>
      </div>
      ${drawn ? html`<${Chart} label=${`Cost of ${name}, added up by day`} times=${drawn.times} zone="UTC" interval="day" show=${format.money} exact=${format.exactMoney} height=${210}
          series=${[{ label: "Spent", values: drawn.actual, sparse: true }, { label: "Expected", values: drawn.expected, before: true, sparse: true }]}
          band=${{ label: `${EIGHTY} interval`, low: drawn.low, high: drawn.high }} />` : html`<${Skeleton} height=${240} />`}
      <p class="hint spaced">${forecast.coverage === null
        ? "Too little is known yet to say how often such an interval holds."
        : `In the last two months such an interval held ${format.percent(forecast.coverage)} of the time.`} From ${forecast.history_days} days of use; months here are in UTC.${narrowed ? " It is of all models, endpoints and projects, whatever the filters." : ""}${" "}
        By the average of the last seven days alone, 30 days would cost ${format.money(projection.data.projected_total_cost)}.</p>`}</${Answer}>
  </${Card}>`;
}
