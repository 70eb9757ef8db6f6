// When it is used: a table of the week, a dot an hour; the dot's size says how much, so colour is not needed to read it.
import * as format from "../core/format.js";
import { html } from "../core/view.js";
import { Exports } from "./table.js";

const HOURS = Array.from({ length: 24 }, (_, hour) => hour);

/** `hours`: [{weekday, hour, ...}]; `value(hour)` is drawn, `exact` formats it; `name`: what is counted. */
export function Heat({ hours, value, exact, name, note }) {
  const cells = new Map(hours.map((one) => [`${one.weekday} ${one.hour}`, one]));
  const high = Math.max(1e-12, ...hours.map((one) => value(one) ?? 0));
  return html`<div class="table-box" tabindex="0" role="group" aria-label=${`${name} by hour of the week`}><table class="heat">
    <caption class="unseen">${name} by hour of the week</caption>
    <thead><tr><th scope="col"><span class="unseen">Day</span></th>${HOURS.map((hour) => html`<th scope="col" key=${hour}><span class=${hour % 3 ? "unseen" : ""}>${String(hour).padStart(2, "0")}</span></th>`)}</tr></thead>
    <tbody>${[0, 1, 2, 3, 4, 5, 6].map((day) => html`<tr key=${day}>
      <th scope="row">${format.weekday(day)}</th>
      ${HOURS.map((hour) => {
        const found = cells.get(`${day} ${hour}`);
        const amount = found ? value(found) : null;
        const size = amount ? Math.max(14, 100 * Math.sqrt(amount / high)) : 0; // percent of a cell: the dot's area says how much
        const text = `${format.weekday(day, "long")}, ${String(hour).padStart(2, "0")}:00: ${exact(amount)}`;
        return html`<td key=${hour} title=${text}>
          <span class="heat-place">${size > 0 && html`<span class="heat-dot" style=${{ width: `${size}%` }}></span>`}</span><span class="unseen">${exact(amount)}</span></td>`;
      })}
    </tr>`)}</tbody>
  </table></div>
  <div class="table-foot plain-foot"><div>${note}</div><${Exports} file="hours-of-the-week" rows=${() => hours} /></div>`;
}
