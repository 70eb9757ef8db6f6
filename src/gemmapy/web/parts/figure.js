// One figure: its value, how it moved against the period before, and a small line of its course. A button where it can
// be chosen for the chart below.
import { change } from "../core/format.js";
import { html } from "../core/view.js";
import { Skeleton } from "./states.js";

/** A line without axes; a gap where nothing was measured. */
export function Spark({ values }) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (known.length < 2) return html`<svg class="spark" viewBox="0 0 100 26" aria-hidden="true"></svg>`;
  const high = Math.max(...known, 0) || 1;
  const x = (place) => ((place / (values.length - 1)) * 100).toFixed(2);
  const y = (value) => (24 - (value / high) * 21).toFixed(2);
  let line = "";
  let broken = true;
  values.forEach((value, place) => {
    if (value === null || value === undefined) {
      broken = true;
      return;
    }
    line += `${broken ? "M" : "L"}${x(place)} ${y(value)}`;
    broken = false;
  });
  const first = values.findIndex((value) => value !== null && value !== undefined);
  const area = known.length === values.length ? `${line}L100 26L${x(first)} 26Z` : "";
  return html`<svg class="spark" viewBox="0 0 100 26" preserveAspectRatio="none" aria-hidden="true">
    ${area && html`<path class="spark-area" d=${area} />`}<path d=${line} />
  </svg>`;
}

/** ▲ 12 %, green where that is good news (`better`: "up", "down" or "neither"). */
export function Change({ now, before, better = "neither", exact = String }) {
  const moved = change(now, before);
  if (!moved) return null;
  const good = { up: moved.direction, down: -moved.direction }[better] ?? 0;
  const arrow = moved.direction > 0 ? "▲" : moved.direction < 0 ? "▼" : "";
  return html`<span class="change ${good > 0 ? "good" : good < 0 ? "bad" : ""}" title=${`The period before: ${exact(before)}`}>
    ${arrow && html`<span aria-hidden="true">${arrow} </span>`}${moved.text}<span class="unseen"> ${moved.direction > 0 ? "more than" : moved.direction < 0 ? "less than" : "as"} in the period before, which had ${exact(before)}</span>
  </span>`;
}

/** `value` undefined: still on its way. `choose` makes it a button, `chosen` marks it. */
export function Figure({ label, value, show, exact = show, before, better, sub, course, choose, chosen, wide }) {
  const inner = html`
    <span class="figure-label">${label}</span>
    ${value === undefined
      ? html`<span class="figure-line"><${Skeleton} height=${25} width=${84} /></span>`
      : html`<span class="figure-line">
          <span class="figure-value" title=${exact(value)}>${show(value)}</span>
          <${Change} now=${value} before=${before} better=${better} exact=${exact} />
        </span>`}
    <span class="figure-sub cut" title=${typeof sub === "string" ? sub : undefined}>${sub}</span>
    ${course && html`<${Spark} values=${course} />`}`;
  const kind = `figure ${wide ? "wide-on-phone" : ""}`;
  if (!choose) return html`<div class=${kind}>${inner}</div>`;
  return html`<button type="button" class=${kind} aria-pressed=${chosen} onClick=${choose}>${inner}</button>`;
}
