// Collections: which there are, who sees each, a new one, sharing, and deleting one with all that is in it.
import { patch, post, remove } from "../core/api.js";
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { fixed } from "../core/question.js";
import { html, useState } from "../core/view.js";
import { Confirm } from "./confirm.js";
import { Dialog } from "./dialog.js";
import { Answer, Failure } from "./states.js";
import { say } from "./toasts.js";

const ALWAYS = fixed();
const EVERYONES = fixed({ all: true });

const audience = (one) => (one.shared_with_all ? "everybody" : one.project ? `project ${one.project}` : "its owner alone");

export function Collections({ asking, me, close, done }) {
  const profile = useAsk("/api/profile", ALWAYS);
  const all = useAsk(me.is_admin ? "/api/rag/collections" : null, EVERYONES);
  const shown = me.is_admin ? all : asking;
  const [name, setName] = useState("");
  const [open, setOpen] = useState(null);
  const [doomed, setDoomed] = useState(null);
  const [error, setError] = useState(null);
  const act = async (what, word) => {
    setError(null);
    try {
      await what();
      say(word);
      shown.again();
      done();
      return true;
    } catch (failure) {
      setError(failure);
      return false;
    }
  };
  const add = async (event) => {
    event.preventDefault();
    if (await act(() => post("/api/rag/collections", { name: name.trim() }), "The collection is made; you alone see it until you share it.")) setName("");
  };
  const share = (one, value) => act(() => patch(`/api/rag/collections/${one.id}`,
    { shared_with_all: value === "all", project: value.startsWith("p:") ? value.slice(2) : null }), "Who sees it is changed.");
  const projects = profile.data?.projects ?? [];
  const sharing = (one) => html`<label class="field"><span>Who sees it</span><select class="input" onChange=${(e) => share(one, e.target.value)}>
      <option value="own" selected=${!one.shared_with_all && !one.project}>Its owner alone</option><option value="all" selected=${one.shared_with_all}>Everybody</option>
      ${[...new Set([...projects, ...(one.project ? [one.project] : [])])].map((project) => html`<option key=${project} value=${`p:${project}`} selected=${!one.shared_with_all && one.project === project}>Members of ${project}</option>`)}</select></label>`;
  return html`<${Dialog} title="Collections" close=${close}>
    <p class="quiet">Documents are in collections. Those with whom one is shared read it, and search in it; only its owner adds.${me.is_admin ? " As an admin you see that there are others', not what is in them." : ""}</p>
    <form class="row nowrap-row" onSubmit=${add}><input class="input" required maxlength="100" aria-label="Name of the new collection" placeholder="Name of a new collection" value=${name} onInput=${(e) => setName(e.target.value)} /><button class="btn primary">Add</button></form>
    ${error && html`<${Failure} error=${error} />`}
    <${Answer} asking=${shown} height=${140}>${(data) => data.collections.length === 0 ? html`<p class="quiet">There is none yet. The first document makes one of your own, called default.</p>` : html`<div class="menu-list boxed">${data.collections.map((one) => {
      const manages = me.is_admin || one.owner_id === me.id;
      return html`<div key=${one.id}>
        <button type="button" aria-expanded=${open === one.id} onClick=${() => setOpen(open === one.id ? null : one.id)}><span class="cut"><b>${one.name}</b>${one.owner_id === me.id ? "" : html`<span class="faint"> of ${one.owner ?? "a former user"}</span>`}</span>
          <span class="faint nowrap">${one.documents} ${one.documents === 1 ? "document" : "documents"}, ${audience(one)}</span></button>
        ${open === one.id && html`<div class="form inset-form">
          <p class="hint">${format.bytes(one.size_bytes)}, embedded by ${one.embedding_model ?? "the operator's model"}.</p>
          ${manages ? html`${sharing(one)}<div class="row"><button type="button" class="btn small danger" onClick=${() => setDoomed(one)}>Delete with all documents</button></div>` : html`<p class="quiet">It is ${one.owner ?? "a former user"}'s. You can read it.</p>`}
        </div>`}
      </div>`;
    })}</div>`}</${Answer}>
    ${doomed && html`<${Confirm} title=${`Delete ${doomed.name}?`} close=${() => setDoomed(null)} keep="Keep it" go="Delete the collection"
      act=${async () => { if (await act(() => remove(`/api/rag/collections/${doomed.id}`), "The collection is deleted, with its documents.")) setDoomed(null); }} error=${error}>
      ${doomed.documents} ${doomed.documents === 1 ? "document" : "documents"}, with chunks and vectors, of ${doomed.owner_id === me.id ? "yours" : (doomed.owner ?? "a former user")}. This cannot be taken back.</${Confirm}>`}
  </${Dialog}>`;
}
