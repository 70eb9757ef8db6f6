// How long requests take: percentiles of each measure, as numbers and on one scale.
import * as format from "../core/format.js";
import { html } from "../core/view.js";
import { Card } from "./page.js";
import { Answer } from "./states.js";
import { Table } from "./table.js";

const ROWS = [
  ["duration", "Duration", format.duration, format.exactDuration],
  ["ttft", "Time to first token", format.duration, format.exactDuration],
  ["time_per_output_token", "Time for each further token", format.duration, format.exactDuration],
  ["tokens_per_sec", "Tokens per second", format.speed, format.exactSpeed],
];

export function Distribution({ dashboard }) {
  const columns = [
    { id: "measure", label: "Measure", value: (r) => r.label },
    ...["p50", "p90", "p95", "p99"].map((q) => ({ id: q, label: q, num: true, value: (r) => r.quantiles[q], show: (r) => r.show(r.quantiles[q]), exact: (r) => r.exact(r.quantiles[q]) })),
  ];
  return html`<${Card} title="Percentiles" pad=${false} note="p95: 95 of 100 requests stayed below it. Within 1 %.">
    <div class="card-gap"></div>
    <${Answer} asking=${dashboard} height=${220}>${(data) => html`<${Table} caption="Percentiles" columns=${columns} fixed=${true} cards=${false} file="percentiles"
      rows=${ROWS.map(([id, label, show, exact]) => ({ id, label, show, exact, quantiles: data.percentiles[id] }))} row=${{ key: (r) => r.id }} />`}</${Answer}>
  </${Card}>`;
}
