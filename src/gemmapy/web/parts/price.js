// The dialog that sets a model's price: from now on or from a moment on, typed in or copied from a hosted model.
import { get, post } from "../core/api.js";
import { plain, shift } from "../core/decimal.js";
import { moment } from "../core/zone.js";
import { html, useEffect, useState } from "../core/view.js";
import { Dialog } from "./dialog.js";
import { Failure } from "./states.js";
import { say } from "./toasts.js";

const PER = { million: 3, thousand: 0 };

/** `model` may be "" for any; `done` is called once the price is entered. */
export function PriceDialog({ model: known, zone, close, done }) {
  const [form, setForm] = useState({ model: known, input: "", output: "", cached: "", request: "", compute: "", since: "", source: "", per: "million" });
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const set = (changes) => setForm((before) => ({ ...before, ...changes }));
  const field = (name, label, more = {}) => html`<label class="field"><span>${label}</span>
    <input class="input" inputmode="decimal" value=${form[name]} onInput=${(e) => set({ [name]: e.target.value })} ...${more} /></label>`;
  const submit = async (event) => {
    event.preventDefault();
    const places = PER[form.per];
    const tokens = (text) => (text.trim() === "" ? undefined : shift(text, places));
    const body = {
      model: form.model.trim(), input_cost: tokens(form.input), output_cost: tokens(form.output), cached_input_cost: tokens(form.cached),
      request_cost: form.request.trim() === "" ? undefined : shift(form.request, 0),
      compute_cost: form.compute.trim() === "" ? undefined : shift(form.compute, 0),
      source: form.source.trim() || undefined,
    };
    if (Object.values(body).includes(null)) {
      setError({ message: "A price is a number such as 0.15.", hint: "" });
      return;
    }
    if (form.since) {
      const [date, time] = form.since.split("T");
      body.effective_at = new Date(moment(zone, ...date.split("-").map(Number), ...time.split(":").map(Number))).toISOString();
    }
    setBusy(true);
    setError(null);
    try {
      say((await post("/api/admin/prices", body)).message);
      done();
      close();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${known ? `Price of ${known}` : "A model's price"} close=${close}>
    <form class="form" onSubmit=${submit}>
      ${!known && html`<label class="field"><span>Model</span><input class="input mono" required value=${form.model} onInput=${(e) => set({ model: e.target.value })} placeholder="llama3, or a prefix that ends in *" autocomplete="off" spellcheck="false" />
        <small>A price for llama3 is one for all its tags, such as llama3:8b.</small></label>`}
      <${FromCatalogue} take=${(found) => set({ ...found, per: "million" })} />
      <label class="field"><span>USD per</span><select class="input" value=${form.per} onChange=${(e) => set({ per: e.target.value })}>
        <option value="million">1M tokens</option><option value="thousand">1K tokens</option></select></label>
      <div class="form-row">${field("input", "Input", { required: true, placeholder: "0.15" })}${field("output", "Output", { required: true, placeholder: "0.60" })}${field("cached", "Cached input", { placeholder: "as input" })}</div>
      <details><summary class="label">More: per request, compute time, start, source</summary>
        <div class="form details-in">
          <div class="form-row">${field("request", "USD per request", { placeholder: "0" })}${field("compute", "USD per second of compute", { placeholder: "0" })}</div>
          <label class="field"><span>Holds from (${zone})</span><input class="input" type="datetime-local" value=${form.since} onInput=${(e) => set({ since: e.target.value })} /><small>Left empty: from now on. What was recorded before keeps its cost.</small></label>
          <label class="field"><span>Where it comes from</span><input class="input" maxlength="500" value=${form.source} onInput=${(e) => set({ source: e.target.value })} placeholder="A price list, a decision, a calculation" /></label>
        </div>
      </details>
      ${error && html`<${Failure} error=${error} />`}
      <div class="row end"><button type="button" class="btn" onClick=${close}>Cancel</button><button class="btn primary" disabled=${busy}>Set the price</button></div>
    </form>
  </${Dialog}>`;
}

/** A search among hosted models; choosing one fills in its prices and where they come from. */
function FromCatalogue({ take }) {
  const [text, setText] = useState("");
  const [found, setFound] = useState([]);
  const [source, setSource] = useState("");
  useEffect(() => {
    if (text.trim().length < 2) {
      setFound([]);
      return undefined;
    }
    const leave = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const answer = await get("/api/prices/catalogue", { search: text.trim(), limit: 6 }, leave.signal);
        setFound(answer.models);
        setSource(answer.source);
      } catch {
        setFound([]); // a convenience: the price can be typed in as well
      }
    }, 200);
    return () => {
      clearTimeout(timer);
      leave.abort();
    };
  }, [text]);
  const million = (value) => (value === null ? "0" : shift(plain(value), -3));
  const choose = (one) => {
    take({
      input: million(one.input_cost), output: million(one.output_cost), cached: one.cached_input_cost === null ? "" : million(one.cached_input_cost),
      source: `${one.provider}/${one.model}, ${source}`,
    });
    setText("");
  };
  return html`<div class="field"><label class="field"><span>As a hosted model <span class="faint">(optional)</span></span>
      <input class="input" type="search" value=${text} onInput=${(e) => setText(e.target.value)} placeholder="Search, for example: groq llama" autocomplete="off" /></label>
    ${found.length > 0 && html`<div class="menu-list boxed" role="group" aria-label="Hosted models">${found.map((one) => html`
      <button type="button" key=${`${one.provider}/${one.model}`} onClick=${() => choose(one)}><span class="cut">${one.provider_name}: ${one.name}</span>
        <span class="faint nowrap">$${million(one.input_cost)} in, $${million(one.output_cost)} out</span></button>`)}</div>`}
  </div>`;
}
