// The price list, for admins: what holds now, what comes, and everything that ever held.
import { useAsk } from "../core/ask.js";
import { remove } from "../core/api.js";
import * as format from "../core/format.js";
import { fixed } from "../core/question.js";
import { html, useMemo, useState } from "../core/view.js";
import { Choice } from "./choice.js";
import { Icon } from "./icons.js";
import { Card } from "./page.js";
import { Answer } from "./states.js";
import { Table } from "./table.js";
import { say } from "./toasts.js";

const ALWAYS = fixed();

function state(price, all, now) {
  if (price.withdrawn_at) return "withdrawn";
  if (Date.parse(price.effective_at) > now) return "to come";
  const later = all.some((other) => other.model === price.model && !other.withdrawn_at && Date.parse(other.effective_at) <= now
    && (Date.parse(other.effective_at) > Date.parse(price.effective_at) || (other.effective_at === price.effective_at && other.id > price.id)));
  return later ? "replaced" : "in force";
}

/** `set(model)` opens the dialog; `version` changes once a price was entered. */
export function PriceList({ zone, set, history }) {
  const [which, setWhich] = useState("now");
  const now = Date.now();
  const rows = useMemo(() => {
    const all = history.data?.prices ?? [];
    const told = all.map((price) => ({ ...price, state: state(price, all, now) }));
    return which === "now" ? told.filter((price) => price.state === "in force" || price.state === "to come") : told;
  }, [history.data, which]);
  const withdraw = async (price) => {
    try {
      say((await remove(`/api/admin/prices/${price.id}`)).message);
      history.again();
    } catch (error) {
      say(`${error.message} ${error.hint}`);
    }
  };
  const per = (id, label, key) => ({
    id, label, num: true, value: (p) => p[key], show: (p) => (p[key] === null ? format.NOTHING : format.exactMoney(p[key] * 1000)), exact: (p) => `${format.exactMoney(p[key])} per 1K tokens`,
  });
  const columns = useMemo(() => [
    { id: "model", label: "Model", value: (p) => p.model, show: (p) => html`<b>${p.model}</b>` },
    { id: "state", label: "State", value: (p) => p.state, show: (p) => html`<span class="badge ${{ "in force": "good", "to come": "accent" }[p.state] ?? ""}">${p.state}</span>` },
    per("input_cost", "Input", "input_cost"), per("output_cost", "Output", "output_cost"), { ...per("cached_input_cost", "Cached", "cached_input_cost"), minor: true },
    { id: "other", label: "Other", minor: true, sort: false, value: (p) => [p.request_cost && `${format.money(p.request_cost)} a request`, p.compute_cost && `${format.money(p.compute_cost)} a second`].filter(Boolean).join(", ") || null },
    { id: "effective_at", label: "From", value: (p) => p.effective_at, show: (p) => format.at(p.effective_at, zone, "date"), exact: (p) => format.at(p.effective_at, zone) },
    { id: "source", label: "Source", minor: true, value: (p) => p.source, show: (p) => html`<span class="cut" title=${p.source}>${p.source || format.NOTHING}</span>` },
    { id: "actions", label: "", sort: false, out: false, value: () => null, show: (p) => p.state === "to come"
        ? html`<button type="button" class="btn small danger" onClick=${() => withdraw(p)}>Withdraw</button>`
        : p.state === "in force" ? html`<button type="button" class="btn small" onClick=${() => set(p.model)}>Change</button>` : "" },
  ], [zone]);
  const actions = html`
    <${Choice} label="Prices" value=${which} options=${[["now", "Now and to come"], ["all", "History"]]} choose=${setWhich} />
    <button type="button" class="btn small primary" onClick=${() => set("")}><${Icon} name="plus" size=${15} />Set a price</button>`;
  return html`<${Card} title="Price list" actions=${actions} pad=${false} note="USD per 1M tokens; the exact value per 1K tokens is in each cell's title. A price is never overwritten: a new one holds from its moment on.">
    <div class="card-gap"></div>
    <${Answer} asking=${history} height=${220}>${() => html`<${Table} caption="Prices" columns=${columns} rows=${rows} row=${{ key: (p) => p.id }} file="prices" sort=${{ id: "model", down: false }} />`}</${Answer}>
  </${Card}>`;
}

export const useHistory = (admin) => useAsk(admin ? "/api/admin/prices/history" : null, ALWAYS);
