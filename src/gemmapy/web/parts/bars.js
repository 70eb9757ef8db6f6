// A short list, the largest first, each with a bar of its share behind it.
import { exactPercent, percent } from "../core/format.js";
import { html } from "../core/view.js";

/** `rows`: [{key, name, value, href?, title?, own?}]; `show` and `exact` format a value; `total`: what shares are of. */
export function Bars({ head, rows, show, exact = show, total, limit = 8, bad = false }) {
  const sum = total ?? rows.reduce((all, one) => all + (one.value ?? 0), 0);
  const list = [...rows].sort((a, b) => (b.value ?? 0) - (a.value ?? 0));
  const shown = list.length > limit + 1 ? list.slice(0, limit) : list;
  const rest = list.slice(shown.length);
  const others = rest.reduce((all, one) => all + (one.value ?? 0), 0);
  const high = Math.max(...shown.map((one) => one.value ?? 0), 0) || 1;
  // The rest together has no bar: it may be more than the first, which it is no rival of.
  const row = (one) => {
    const inner = html`
      ${!one.together && html`<span class="bar-fill ${bad ? "bad" : one.own ? "own" : ""}" style=${{ width: `${Math.max(0, ((one.value ?? 0) / high) * 100)}%` }}></span>`}
      <span class="bar-name ${one.own ? "strong" : one.together ? "faint" : ""}" title=${one.title ?? one.name}>${one.name}</span>
      <span class="bar-values"><span title=${exact(one.value)}>${show(one.value)}</span>
        ${sum > 0 && html`<span class="faint" title=${exactPercent((one.value ?? 0) / sum)}>${percent((one.value ?? 0) / sum)}</span>`}</span>`;
    return html`<li key=${one.key}>${one.href ? html`<a class="bar-row" href=${one.href}>${inner}</a>` : html`<div class="bar-row">${inner}</div>`}</li>`;
  };
  return html`
    ${head && html`<div class="bars-head"><span>${head[0]}</span><span>${head[1]}</span></div>`}
    <ul class="bars">${shown.map(row)}
      ${rest.length > 0 && row({ key: "…", name: `${rest.length} more`, value: others, together: true })}
    </ul>`;
}
