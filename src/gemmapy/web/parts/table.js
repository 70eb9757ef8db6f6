// The one table: sorted by any column, cards on a phone, exported as it is shown. Rows may lead somewhere.
import { saveCsv, saveJson } from "../core/save.js";
import { html, useMemo, useState } from "../core/view.js";
import { Icon } from "./icons.js";

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1; // what is not known comes last, whichever way it is sorted
  if (b === null || b === undefined) return -1;
  return typeof a === "string" ? a.localeCompare(b) : a - b;
}

function sorted(rows, column, down) {
  if (!column) return rows;
  const empty = (value) => value === null || value === undefined;
  return [...rows].sort((one, other) => {
    const [a, b] = [column.value(one), column.value(other)];
    const order = compare(a, b);
    return down && !empty(a) && !empty(b) ? -order : order;
  });
}

/** Saves what a table shows; `rows()` are objects with the same keys. */
export function Exports({ file, rows }) {
  return html`
    <button type="button" class="btn plain small" onClick=${() => saveCsv(file, rows())} title="Save what is shown as CSV"><${Icon} name="download" size=${15} />CSV</button>
    <button type="button" class="btn plain small" onClick=${() => saveJson(file, rows())} title="Save what is shown as JSON"><${Icon} name="download" size=${15} />JSON</button>`;
}

/**
 * `columns`: [{id, label, value(row), show?(row), exact?(row), num?, out?}]; `value` sorts and is exported (`out`: under
 * another name; false: not at all); `minor` ones give way where there is little room. `kind`: "brief" for a list whose
 * cards on a phone are two lines, laid out by the stylesheet. `row`: {key(row), href?(row), open?(row), fresh?(row)}. `file` names the export.
 */
export function Table({ caption, columns, rows, row, file, sort, fixed = false, foot, cards = true, kind = "", exported }) {
  const [by, setBy] = useState(sort ?? { id: null, down: true });
  const shown = useMemo(
    () => (fixed ? rows : sorted(rows, columns.find((column) => column.id === by.id), by.down)), [rows, by, fixed, columns],
  );
  const press = (column) => setBy(by.id === column.id ? { id: by.id, down: !by.down } : { id: column.id, down: Boolean(column.num) });
  const plain = () => exported?.() ?? shown.map((one) => Object.fromEntries(
    columns.filter((column) => column.out !== false).map((column) => [column.out ?? column.id, column.value(one) ?? null]),
  ));
  const click = (event, one) => {
    if (event.target.closest("a, button, input, select, label") || String(getSelection())) return;
    if (row.open) row.open(one);
    else location.hash = row.href(one);
  };
  const goes = Boolean(row.open || row.href);
  return html`
    <div class="table-box" tabindex="0" role="group" aria-label=${caption}>
      <table class="data ${cards ? "cards" : ""} ${kind}" role="table">
        <caption class="unseen">${caption}</caption>
        <thead role="rowgroup"><tr role="row">${columns.map((column) => html`
          <th key=${column.id} scope="col" role="columnheader" class="${column.num ? "num" : ""} ${column.minor ? "minor" : ""}"
            aria-sort=${by.id === column.id ? (by.down ? "descending" : "ascending") : undefined}>
            ${fixed || column.sort === false
              ? column.label || html`<span class="unseen">${column.hidden ?? "Actions"}</span>`
              : html`<button type="button" onClick=${() => press(column)}>${column.label}${by.id === column.id && html`<span aria-hidden="true">${by.down ? "▾" : "▴"}</span>`}</button>`}
          </th>`)}
        </tr></thead>
        <tbody role="rowgroup">${shown.map((one) => html`
          <tr key=${row.key(one)} role="row" class="${goes ? "goes" : ""} ${row.fresh?.(one) ? "fresh" : ""}" onClick=${goes ? (event) => click(event, one) : undefined}>
            ${columns.map((column) => html`<td key=${column.id} role="cell" class="${column.num ? "num" : ""} ${column.minor ? "minor" : ""} ${column.out === false ? "actions" : ""}" data-col=${column.id} data-label=${column.label}
              title=${column.exact?.(one)}>${column.show ? column.show(one) : (column.value(one) ?? "–")}</td>`)}
          </tr>`)}
        </tbody>
      </table>
    </div>
    ${(file || foot) && html`<div class="table-foot">
      <div>${foot ?? `${rows.length} ${rows.length === 1 ? "row" : "rows"}`}</div>
      ${file && html`<${Exports} file=${file} rows=${plain} />`}
    </div>`}`;
}
