// The time range: presets, a span of one's own, the zone, and whether the period before is shown beside it.
import { PRESETS } from "../core/range.js";
import { at } from "../core/format.js";
import { rememberZone } from "../core/question.js";
import { change } from "../core/route.js";
import { clock, HERE, isZone, moment, zones } from "../core/zone.js";
import { html, useState } from "../core/view.js";
import { Icon } from "./icons.js";
import { Popover } from "./popover.js";

const two = (number) => String(number).padStart(2, "0");

/** For <input type="datetime-local">: what clocks in the zone show. */
function local(ms, zone) {
  const { year, month, day, hour, minute } = clock(ms, zone);
  return `${String(year).padStart(4, "0")}-${two(month)}-${two(day)}T${two(hour)}:${two(minute)}`;
}

function fromLocal(text, zone) {
  const found = /^(\d+)-(\d+)-(\d+)T(\d+):(\d+)/.exec(text);
  return found ? moment(zone, ...found.slice(1).map(Number)) : NaN;
}

/** Sets the address to a span; what a drag over a chart calls, too. */
export function zoomTo(from, to) {
  const minute = (ms) => new Date(Math.round(ms / 60_000) * 60_000).toISOString();
  change({ range: "custom", from: minute(from), to: minute(to) });
}

function name(question) {
  const preset = PRESETS.find(([id]) => id === question.asked.range);
  if (preset) return preset[1];
  const { from, to } = question.window;
  return `${at(from, question.zone, "short")} – ${at(to, question.zone, "short")}`;
}

function Custom({ question, close }) {
  const [from, setFrom] = useState(local(question.window.from, question.zone));
  const [to, setTo] = useState(local(question.window.to, question.zone));
  const [wrong, setWrong] = useState("");
  const submit = (event) => {
    event.preventDefault();
    const [start, end] = [fromLocal(from, question.zone), fromLocal(to, question.zone)];
    if (!(start < end)) {
      setWrong("The end must come after the beginning.");
      return;
    }
    close();
    zoomTo(start, end);
  };
  return html`<form class="form" onSubmit=${submit}>
    <label class="field"><span>From</span><input class="input" type="datetime-local" value=${from} required onInput=${(e) => setFrom(e.target.value)} /></label>
    <label class="field"><span>To</span><input class="input" type="datetime-local" value=${to} required onInput=${(e) => setTo(e.target.value)} /></label>
    ${wrong && html`<p class="bad" role="alert">${wrong}</p>`}
    <button class="btn primary">Show this span</button>
  </form>`;
}

function Zone({ question, close }) {
  const [text, setText] = useState(question.zone);
  const [wrong, setWrong] = useState("");
  const set = (zone) => {
    rememberZone(zone);
    close();
    change({ tz: zone === HERE ? null : zone });
  };
  const submit = (event) => {
    event.preventDefault();
    if (isZone(text)) set(text);
    else setWrong("This browser knows no such zone. One looks like Europe/Berlin.");
  };
  return html`<form class="form" onSubmit=${submit}>
    <label class="field"><span>Time zone</span>
      <input class="input" list="zones" value=${text} onInput=${(e) => setText(e.target.value)} autocomplete="off" spellcheck="false" />
    </label>
    <datalist id="zones">${zones().map((zone) => html`<option key=${zone} value=${zone} />`)}</datalist>
    ${wrong && html`<p class="bad" role="alert">${wrong}</p>`}
    <div class="row"><button class="btn primary">Use this zone</button>
      ${question.zone !== HERE && html`<button type="button" class="btn" onClick=${() => set(HERE)}>Back to ${HERE}</button>`}
      ${question.zone !== "UTC" && html`<button type="button" class="btn" onClick=${() => set("UTC")}>UTC</button>`}</div>
  </form>`;
}

export function RangePicker({ question }) {
  const shown = name(question);
  return html`<${Popover} title="Time range" end=${true} label=${`Time range: ${shown}`} button=${html`<${Icon} name="calendar" size=${16} /><span>${shown}</span>`}>
    ${(close) => html`<div class="stack">
      <div class="menu-list">${PRESETS.map(([id, label]) => html`
        <button type="button" key=${id} aria-current=${id === question.asked.range ? "true" : undefined}
          onClick=${() => { close(); change({ range: id, from: null, to: null }); }}>${label}</button>`)}</div>
      <details open=${question.asked.range === "custom"}><summary class="label">Custom span</summary><div class="stack"><${Custom} question=${question} close=${close} /></div></details>
      <label class="check"><input type="checkbox" checked=${question.compare} onChange=${(e) => change({ compare: e.target.checked ? null : "0" })} />
        Compare with the period before</label>
    </div>`}
  </${Popover}>
  <${Popover} title="Time zone" end=${true} label=${`Time zone: ${question.zone}`} button=${html`<${Icon} name="globe" size=${16} /><span class="zone-name">${question.zone.split("/").pop().replaceAll("_", " ")}</span>`}>
    ${(close) => html`<${Zone} question=${question} close=${close} />`}
  </${Popover}>`;
}
