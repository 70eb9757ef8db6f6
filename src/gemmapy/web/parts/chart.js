// One chart over time: crosshair and tooltip, drag to zoom, arrow keys, cursors in step with the other charts, and the
// same numbers as a table behind it. Lines differ in dashes as well as in colour.
import uPlot from "../vendor/uplot/uPlot.esm.js";
import { bucket, count } from "../core/format.js";
import { LENGTH } from "../core/range.js";
import { color, dark } from "../core/theme.js";
import { useObservable } from "../core/observable.js";
import { html, useEffect, useMemo, useRef, useState } from "../core/view.js";
import { Table } from "./table.js";
import { say } from "./toasts.js";

const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];
const STRONG = ["--series-1", "--series-2", "--series-3", "--series-4"];
/** Steps of an axis that counts: there is no fifth of a request. */
const WHOLE = Array.from({ length: 14 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();
const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';

const style = (series, index) =>
  series.before
    ? { stroke: color("--before"), dash: [4, 4], width: 1.5 }
    : { stroke: color(STRONG[index % 4]), dash: DASHES[index % 4], width: 2 };

/** The class and the dashes of a series' mark in legend and tooltip. */
const look = (series, index) =>
  series.before ? ["s-before", [4, 4]] : [`s${(index % 4) + 1}`, DASHES[index % 4]];

const known = (value) => value !== null && value !== undefined;

function Swatch({ kind, dash }) {
  return html`<svg class="swatch" viewBox="0 0 18 10" aria-hidden="true"><line class=${kind} x1="0" y1="5" x2="18" y2="5" stroke-dasharray=${dash.join(" ")} /></svg>`;
}

/** Values of a bucket that is not over are drawn apart, dotted: it will still grow. */
function split(values, open) {
  if (!open || values.length < 2) return [values, null];
  const done = [...values];
  done[done.length - 1] = null;
  const rest = values.map((value, place) => (place >= values.length - 2 ? value : null));
  return [done, rest];
}

function plotData({ times, series, open, band }) {
  const data = [times.map((ms) => ms / 1000)];
  for (const one of series) {
    const [done, rest] = one.before ? [one.values, null] : split(one.values, open);
    data.push(done);
    if (!one.before && open) data.push(rest ?? one.values.map(() => null));
  }
  if (band) data.push(band.high, band.low);
  return data;
}

function axes(zone, interval, show, width) {
  const common = { stroke: color("--text-3"), font: FONT, grid: { stroke: color("--grid"), width: 1 }, ticks: { show: false } };
  const time = new Intl.DateTimeFormat(navigator.language, { timeZone: zone, hour: "2-digit", minute: "2-digit" });
  const day = new Intl.DateTimeFormat(navigator.language, { timeZone: zone, month: "short", day: "numeric" });
  const hourOf = new Intl.DateTimeFormat("en-US", { timeZone: zone, hour: "numeric", hourCycle: "h23" });
  const label = (seconds) => {
    const ms = seconds * 1000;
    return interval === "hour" && Number(hourOf.format(ms)) % 24 !== 0 ? time.format(ms) : day.format(ms);
  };
  return [
    {
      ...common, space: width < 500 ? 60 : 76, size: 28, gap: 6, grid: { show: false },
      // Ticks stand on the buckets themselves, as many as there is room for.
      splits: (plot) => {
        const all = plot.data[0];
        const room = Math.max(2, Math.floor(plot.bbox.width / devicePixelRatio / (width < 500 ? 60 : 76)));
        const step = [1, 2, 3, 4, 6, 7, 12, 14, 24, 28, 48, 72, 168].find((n) => all.length / n <= room) ?? Math.ceil(all.length / room);
        return all.filter((_, place) => place % step === 0);
      },
      values: (_plot, splits) => splits.map(label),
    },
    {
      ...common, size: (_plot, values) => 14 + Math.max(26, ...(values ?? []).map((text) => String(text ?? "").length * 7)),
      gap: 6, space: 44, incrs: show === count ? WHOLE : undefined, values: (_plot, splits) => splits.map((value) => (value === null ? "" : (show.tick ?? show)(value))),
    },
  ];
}

function tooltip(state) {
  const box = document.createElement("div");
  box.className = "chart-tip";
  box.hidden = true;
  const line = (name, text, kind, dash) => {
    const row = document.createElement("div");
    row.className = "chart-tip-row";
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    mark.setAttribute("class", "swatch");
    mark.setAttribute("viewBox", "0 0 18 10");
    const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [key, value] of Object.entries({ x1: 0, y1: 5, x2: 18, y2: 5 })) stroke.setAttribute(key, value);
    stroke.setAttribute("class", kind);
    stroke.setAttribute("stroke-dasharray", dash.join(" "));
    mark.append(stroke);
    const label = document.createElement("span");
    label.textContent = name;
    const value = document.createElement("b");
    value.textContent = text;
    row.append(mark, label, value);
    return row;
  };
  return {
    hooks: {
      init: (plot) => plot.over.append(box),
      setCursor: (plot) => {
        const { idx, left } = plot.cursor;
        const { times, series, zone, interval, exact, open, band } = state.current;
        if (idx === null || idx === undefined || left < 0 || !(idx in times)) {
          box.hidden = true;
          return;
        }
        const title = document.createElement("div");
        title.className = "chart-tip-title";
        const unfinished = open && idx === times.length - 1;
        title.textContent = bucket(times[idx], zone, interval) + (unfinished ? ", so far" : "");
        const rows = series.filter((one) => !one.sparse || known(one.values[idx])).map((one) => {
          const index = series.indexOf(one);
          const name = one.before && one.times?.[idx] !== undefined ? bucket(one.times[idx], zone, interval) : one.label;
          return line(name, exact(one.values[idx]), ...look(one, index));
        });
        if (band && known(band.low[idx])) rows.push(line(band.label, `${exact(band.low[idx])} – ${exact(band.high[idx])}`, "s-band", []));
        box.replaceChildren(title, ...rows);
        box.hidden = false;
        const width = plot.over.clientWidth;
        const x = left + 14 + box.offsetWidth > width ? left - 14 - box.offsetWidth : left + 14;
        box.style.transform = `translate(${Math.max(0, Math.min(x, width - box.offsetWidth))}px, 6px)`;
      },
    },
  };
}

function build(element, state, height, zoom) {
  const { series, zone, interval, show, open, top, sync, band } = state.current;
  const width = element.clientWidth;
  const lines = [{}];
  series.forEach((one, index) => {
    const drawn = style(one, index);
    const area = !band && !one.before && index === 0 && series.filter((other) => !other.before).length === 1;
    const points = { show: (plot) => plot.data[0].length <= 2, size: 6 };
    const fill = area ? color("--accent-soft") : undefined;
    lines.push({ label: one.label, ...drawn, fill, points, spanGaps: false });
    if (!one.before && open) lines.push({ label: one.label, ...drawn, fill, dash: [2, 3], points: { show: false } });
  });
  const edge = { stroke: color("--before"), width: 1, dash: [2, 3], points: { show: false } };
  if (band) lines.push(edge, edge);
  const bands = band ? [{ series: [lines.length - 2, lines.length - 1], fill: color("--accent-soft") }] : undefined;
  return new uPlot({
    width, height, bands, series: lines, plugins: [tooltip(state)], legend: { show: false },
    padding: [10, 26, 0, 0],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), zone),
    axes: axes(zone, interval, show, width),
    scales: { y: { range: (_plot, low, high) => [Math.min(0, low ?? 0), Math.max(high ?? 0, top ?? 0) * 1.08 || 1] } },
    cursor: {
      y: false, drag: { x: Boolean(zoom), y: false, uni: 12 }, points: { size: 8 },
      sync: sync ? { key: sync, setSeries: false } : undefined,
    },
    hooks: {
      setSelect: [(plot) => {
        if (!zoom || plot.select.width < 12) return;
        const from = plot.posToVal(plot.select.left, "x") * 1000;
        const to = plot.posToVal(plot.select.left + plot.select.width, "x") * 1000;
        plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        zoom(from, to);
      }],
    },
  }, plotData(state.current), element);
}

/**
 * `times` (ms) are the buckets' beginnings, `series` [{label, values, before?, times?}], `show` and `exact` format a
 * value, `band` {label, low, high} is filled between, `open` says whether the last bucket is not over, `zoom(from, to)` is called after a drag, `sync` ties cursors.
 */
export function Chart({ label, times, series, band, zone, interval, show, exact = show, open = false, height = 260, zoom, sync, top, summary }) {
  const box = useRef(null);
  const plot = useRef(null);
  const state = useRef(null);
  state.current = { times, series, band, zone, interval, show, exact, open, top, sync };
  const isDark = useObservable(dark);
  const shape = [series.length, series.map((one) => one.label).join("|"), zone, interval, open, isDark, show, top, height].join();
  useEffect(() => {
    plot.current = build(box.current, state, height, zoom && ((from, to) => state.zoom?.(from, to)));
    const watcher = new ResizeObserver(() => {
      const width = box.current?.clientWidth;
      if (width && plot.current.width !== width) plot.current.setSize({ width, height });
    });
    watcher.observe(box.current);
    return () => {
      watcher.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [shape]);
  state.zoom = zoom;
  const content = useMemo(() => JSON.stringify([times, series.map((one) => one.values), band]), [times, series, band]);
  useEffect(() => plot.current?.setData(plotData(state.current)), [content]);
  const key = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step && event.key !== "Escape") return;
    event.preventDefault();
    const shown = plot.current;
    if (!step) {
      shown.setCursor({ left: -10, top: -10 });
      return;
    }
    const now = shown.cursor.idx ?? (step > 0 ? -1 : times.length);
    const next = Math.max(0, Math.min(times.length - 1, now + step));
    shown.setCursor({ left: shown.valToPos(times[next] / 1000, "x"), top: 10 });
    const values = series.map((one) => `${one.label} ${exact(one.values[next])}`);
    say.quietly(`${bucket(times[next], zone, interval)}: ${values.join(", ")}`);
  };
  return html`<figure class="chart">
    <div class="chart-box" ref=${box} role="img" tabindex="0" aria-label=${`${label}. ${summary ?? ""} Arrow keys move along it; a table follows.`}
      onKeyDown=${key} style=${{ height: `${height}px` }}></div>
    <figcaption class="chart-foot">
      <ul class="legend" aria-hidden="true">
        ${series.map((one, index) => html`<li key=${one.label}><${Swatch} kind=${look(one, index)[0]} dash=${look(one, index)[1]} />${one.label}</li>`)}
        ${band && html`<li><${Swatch} kind="s-band" dash=${[]} />${band.label}</li>`}
      </ul>
      <${Behind} label=${label} ...${{ times, zone, interval, exact }}
        series=${band ? [...series, { label: `${band.label}: from`, values: band.low }, { label: `${band.label}: to`, values: band.high }] : series} />
    </figcaption>
  </figure>`;
}

/** The chart's numbers as a table, drawn once it is opened. */
function Behind({ label, times, series, zone, interval, exact }) {
  const [open, setOpen] = useState(false);
  const columns = [
    { id: interval, label: interval[0].toUpperCase() + interval.slice(1), value: (row) => row.start, show: (row) => bucket(row.time, zone, interval) },
    ...series.map((one, place) => ({ id: one.label, label: one.label, num: true, value: (row) => row.values[place], show: (row) => exact(row.values[place]) })),
  ];
  const rows = () => times.map((time, place) => ({ time, start: new Date(time).toISOString(), values: series.map((one) => one.values[place] ?? null) }));
  return html`<details class="behind" onToggle=${(event) => setOpen(event.target.open)}>
    <summary>As a table</summary>
    ${open && html`<${Table} caption=${label} columns=${columns} rows=${rows()} row=${{ key: (row) => row.time }} fixed=${true} cards=${false} kind="leading"
      file=${label.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").slice(0, 60)} />`}
  </details>`;
}

/** Whether the last bucket that begins at `last` (ms) is still under way. */
export const underWay = (last, interval) => last !== undefined && last + LENGTH[interval] > Date.now();
