// One's own machines, for admins: what they cost in the window, busy and idle, and what a million tokens cost on them.
import { useAsk } from "../core/ask.js";
import { post } from "../core/api.js";
import * as format from "../core/format.js";
import { fixed } from "../core/question.js";
import { html, useState } from "../core/view.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icons.js";
import { Card } from "./page.js";
import { Answer, Failure, Skeleton } from "./states.js";
import { Table } from "./table.js";
import { say } from "./toasts.js";

const ALWAYS = fixed();

export function Hardware({ question }) {
  const list = useAsk("/api/admin/machines", ALWAYS);
  const [adding, setAdding] = useState(false);
  const add = html`<button type="button" class="btn small" onClick=${() => setAdding(true)}><${Icon} name="plus" size=${15} />Add a machine</button>`;
  return html`<${Card} title="Your own hardware" actions=${add} pad=${false}>
    <div class="card-gap"></div>
    <${Answer} asking=${list} height=${110}>${(data) => {
      const known = data.machines.filter((one) => one.in_force);
      if (!known.length) return html`<p class="card-body quiet">Say what your box draws, what power costs and what it was bought for, and this says what a million tokens really cost on it.</p>`;
      return known.map((machine) => html`<${Machine} key=${machine.id} machine=${machine} question=${question} />`);
    }}</${Answer}>
    ${adding && html`<${AddMachine} close=${() => setAdding(false)} done=${list.again} />`}
  </${Card}>`;
}

function Machine({ machine, question }) {
  const { from, to } = question.current.params();
  const cost = useAsk(`/api/admin/machines/${machine.id}/cost`, { key: question.current.key, params: () => ({ from, to }) });
  const [pricing, setPricing] = useState(null);
  const price = async (model) => {
    setPricing(model);
    try {
      say((await post(`/api/admin/machines/${machine.id}/price`, { model })).message);
    } catch (error) {
      say(`${error.message} ${error.hint}`);
    }
    setPricing(null);
  };
  const seconds = (value) => format.duration(value * 1000);
  const columns = [
    { id: "model", label: "Model", value: (m) => m.model, show: (m) => html`<span class="cut">${m.model}</span>` },
    { id: "requests", label: "Requests", num: true, value: (m) => m.requests, show: (m) => format.count(m.requests) },
    { id: "compute_seconds", label: "Busy", num: true, value: (m) => m.compute_seconds, show: (m) => seconds(m.compute_seconds) },
    { id: "busy_cost", label: "It cost", num: true, value: (m) => m.busy_cost, show: (m) => format.money(m.busy_cost), exact: (m) => format.exactMoney(m.busy_cost) },
    { id: "stamped_cost", label: "It was charged", num: true, value: (m) => m.stamped_cost, show: (m) => format.money(m.stamped_cost), exact: (m) => format.exactMoney(m.stamped_cost) },
    { id: "input_cost_per_million", label: "1M tokens in", num: true, value: (m) => m.input_cost_per_million, show: (m) => format.money(m.input_cost_per_million) },
    { id: "output_cost_per_million", label: "1M tokens out", num: true, value: (m) => m.output_cost_per_million, show: (m) => format.money(m.output_cost_per_million) },
    { id: "actions", label: "", sort: false, out: false, value: () => null, show: (m) => html`<button type="button" class="btn small" disabled=${pricing === m.model} onClick=${() => price(m.model)}>Price it by its seconds</button>` },
  ];
  return html`<div class="card-body machine-head"><b>${machine.name}</b> <span class="quiet">${machine.upstreams.join(", ")}; ${format.money(machine.busy_cost_per_hour)} an hour busy, ${format.money(machine.idle_cost_per_hour)} idle</span></div>
    ${cost.error ? html`<div class="card-body"><${Failure} error=${cost.error} again=${cost.again} /></div>` : !cost.data ? html`<${Skeleton} height=${100} />`
      : html`<${Table} caption=${`Models on ${machine.name}`} columns=${columns} rows=${cost.data.models} row=${{ key: (m) => m.model }} file=${`machine-${machine.name}`} sort=${{ id: "busy_cost", down: true }} />`}`;
}

const FIELDS = [
  ["watts_busy", "Watts when busy", "350"], ["watts_idle", "Watts when idle", "60"], ["kwh_cost", "USD per kWh", "0.30"],
  ["purchase_cost", "USD it was bought for", "2400"], ["lifetime_years", "Years it will serve", "4"], ["parallel", "Requests at once", "1"],
];
const AS_TEXT = new Set(["kwh_cost", "purchase_cost"]); // money stays text, so that no digit is lost on the way

function AddMachine({ close, done }) {
  const status = useAsk("/api/ollama/status", ALWAYS);
  const [form, setForm] = useState({ name: "", parallel: "1" });
  const [chosen, setChosen] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const names = (status.data?.upstreams ?? []).map((one) => one.name);
  const upstreams = chosen ?? names.slice(0, 1);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    const figures = Object.fromEntries(FIELDS.map(([id]) => [id, AS_TEXT.has(id) ? form[id] : Number(form[id])]));
    try {
      say((await post("/api/admin/machines", { name: form.name.trim(), upstreams, ...figures })).message);
      done();
      close();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  const set = (id) => (event) => setForm((before) => ({ ...before, [id]: event.target.value }));
  return html`<${Dialog} title="Add a machine" close=${close}><form class="form" onSubmit=${submit}>
    <label class="field"><span>Name</span><input class="input" required value=${form.name} onInput=${set("name")} placeholder="gpu-box" /></label>
    <div class="form-row">${FIELDS.map(([id, label, example]) => html`<label class="field" key=${id}><span>${label}</span><input class="input" inputmode="decimal" required value=${form[id] ?? ""} placeholder=${example} onInput=${set(id)} /></label>`)}</div>
    ${names.length > 0 && html`<fieldset class="plain-set"><legend class="label">Upstreams that run on it</legend>${names.map((name) => html`<label class="check" key=${name}><input type="checkbox" checked=${upstreams.includes(name)}
      onChange=${(e) => setChosen(e.target.checked ? [...upstreams, name] : upstreams.filter((one) => one !== name))} /><span>${name}</span></label>`)}</fieldset>`}
    ${error && html`<${Failure} error=${error} />`}
    <div class="row end"><button type="button" class="btn" onClick=${close}>Cancel</button><button class="btn primary" disabled=${busy}>Add</button></div>
  </form></${Dialog}>`;
}
