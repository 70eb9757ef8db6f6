// Up to four subjects (models, people) over time in one chart, each a line with a dash and a colour of its own.
import { useAsk } from "../core/ask.js";
import { courseName, MEASURES } from "../core/measures.js";
import { LENGTH } from "../core/range.js";
import { change, useRoute } from "../core/route.js";
import { html, useMemo } from "../core/view.js";
import { Chart, underWay } from "./chart.js";
import { Choice } from "./choice.js";
import { Grain } from "./grain.js";
import { Card } from "./page.js";
import { zoomTo } from "./range.js";
import { Failure, Skeleton } from "./states.js";

const COURSES = ["requests", "tokens", "cost", "duration", "ttft", "speed", "errors"];

/** `subjects`: at most four of {label, params}, the filters that make the series theirs. */
export function Courses({ question, subjects, live = false, measures = COURSES, whose = "", height = 280 }) {
  const { query } = useRoute();
  const chosen = measures.includes(query.show) ? query.show : measures[0];
  const measure = MEASURES[chosen];
  const { interval, zone, current } = question;
  const ask = (place) => useAsk(subjects[place] ? "/api/metrics/timeseries" : null,
    current.with({ interval, tz: zone, fill: true, ...subjects[place]?.params }), { live });
  const asked = [ask(0), ask(1), ask(2), ask(3)].slice(0, subjects.length); // always four, as hooks must be
  const all = asked.length > 0 && asked.every((one) => one.data);
  const failed = asked.find((one) => one.error && !one.data);
  const times = all ? asked[0].data.data.map((b) => Date.parse(b.start)) : [];
  const series = useMemo(() => {
    if (!all) return [];
    const place = new Map(times.map((time, index) => [time, index]));
    return asked.map((one, index) => {
      const values = times.map(() => null);
      for (const b of one.data.data) if (place.has(Date.parse(b.start))) values[place.get(Date.parse(b.start))] = measure.bucket(b);
      return { label: subjects[index].label, values };
    });
  }, [all, measure, subjects.map((one) => one.label).join("|"), ...[0, 1, 2, 3].map((place) => asked[place]?.data)]);
  const actions = html`
    <${Choice} label="Show" value=${chosen} options=${measures.map((id) => [id, MEASURES[id].label.replace(", p50", "")])} choose=${(id) => change({ show: id === measures[0] ? null : id }, { replace: true })} />
    <${Grain} question=${question} />`;
  const name = courseName(measure, asked[0]?.data?.data);
  return html`<${Card} title=${`${name} ${whose}`.trim()} actions=${actions}>
    ${failed ? html`<${Failure} error=${failed.error} again=${failed.again} />` : !all ? html`<${Skeleton} height=${height + 32} />` : html`<div class=${asked.some((one) => one.busy) ? "busy" : ""}>
      <${Chart} label=${`${name} of ${subjects.map((one) => one.label).join(", ")} by ${interval}`} times=${times} series=${series} zone=${zone} interval=${interval}
        show=${measure.show} exact=${measure.exact} height=${height} open=${question.window.open && underWay(times.at(-1), interval)}
        zoom=${(from, to) => zoomTo(from, Math.max(to, from + LENGTH.hour))} /></div>`}
  </${Card}>`;
}
