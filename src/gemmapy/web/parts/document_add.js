// Putting documents in: files that are chosen or dropped, or a text that is pasted.
import { post } from "../core/api.js";
import { html, useRef, useState } from "../core/view.js";
import { Choice } from "./choice.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icons.js";
import { Failure } from "./states.js";
import { say } from "./toasts.js";

const KINDS = ".txt,.text,.log,.csv,.md,.markdown,.html,.htm,.xhtml,.pdf,text/*,application/pdf";

/** Sends files one after the other: {added, failed: [{name, error}]}. `told(name)` says which is on its way. */
export async function sendFiles(files, { collection, told = () => {} }) {
  let added = 0;
  let known = 0;
  const failed = [];
  for (const file of files) {
    told(file.name);
    const form = new FormData();
    form.append("file", file);
    if (collection) form.append("collection", String(collection));
    try {
      const answer = await post("/api/rag/documents", form);
      if (answer.duplicate) known += 1;
      else added += 1;
    } catch (error) {
      failed.push({ name: file.name, error });
    }
  }
  const words = [added && `${added} ${added === 1 ? "document is" : "documents are"} in.`, known && `${known} ${known === 1 ? "was" : "were"} there already.`].filter(Boolean);
  if (words.length) say(words.join(" "));
  return { added, failed };
}

export function AddDocument({ failed: before = [], collections, chosen, close, done }) {
  const [way, setWay] = useState("file");
  const [into, setInto] = useState(chosen ? String(chosen) : "");
  const [form, setForm] = useState({ title: "", source: "", content: "" });
  const [failed, setFailed] = useState(before);
  const [busy, setBusy] = useState("");
  const picker = useRef(null);
  const set = (id) => (event) => setForm((was) => ({ ...was, [id]: event.target.value }));
  const collection = into ? Number(into) : undefined;
  const take = async (files) => {
    if (!files.length) return;
    setFailed([]);
    const result = await sendFiles(files, { collection, told: setBusy });
    setBusy("");
    if (result.added) done();
    setFailed(result.failed);
    if (!result.failed.length) close();
  };
  const submit = async (event) => {
    event.preventDefault();
    setBusy("the text");
    setFailed([]);
    try {
      const answer = await post("/api/rag/documents", { title: form.title.trim(), source: form.source.trim(), content: form.content, collection });
      say(answer.duplicate ? "This text was there already." : `${answer.title} is in: ${answer.chunks} ${answer.chunks === 1 ? "chunk" : "chunks"}.`);
      done();
      close();
    } catch (error) {
      setFailed([{ name: "", error }]);
      setBusy("");
    }
  };
  const where = html`<label class="field"><span>Collection</span><select class="input" onChange=${(e) => setInto(e.target.value)}>
      <option value="" selected=${!into}>Your own, default</option>${collections.filter((one) => one.name !== "default").map((one) => html`<option key=${one.id} value=${one.id} selected=${into === String(one.id)}>${one.name}${one.shared_with_all ? " (shared with everybody)" : one.project ? ` (shared with ${one.project})` : ""}</option>`)}</select></label>`;
  const trouble = failed.map(({ name, error }) => html`<${Failure} key=${name} error=${{ message: name ? `${name}: ${error.message}` : error.message, hint: error.hint }} />`);
  return html`<${Dialog} title="Add documents" close=${close}>
    <${Choice} label="How" value=${way} options=${[["file", "Files"], ["text", "Paste a text"]]} choose=${setWay} />
    ${way === "file" ? html`<div class="form">
      ${where}
      <div class="drop-box" onDragOver=${(e) => e.preventDefault()} onDrop=${(e) => { e.preventDefault(); take([...e.dataTransfer.files]); }}>
        <${Icon} name="documents" size=${28} />
        <p>Drop text, Markdown, HTML or PDF files here, or</p>
        <input ref=${picker} class="unseen" type="file" multiple accept=${KINDS} aria-label="Files" tabindex="-1" onChange=${(e) => take([...e.target.files])} />
        <button type="button" class="btn primary" disabled=${Boolean(busy)} onClick=${() => picker.current.click()}>Choose files</button>
        <p class="hint" role="status">${busy ? `Taking in ${busy} …` : "Up to 64 MB each, unless the operator set another limit."}</p>
      </div>
      ${trouble}
    </div>` : html`<form class="form" onSubmit=${submit}>
      ${where}
      <div class="form-row"><label class="field"><span>Title</span><input class="input" maxlength="1000" placeholder="How it begins, if you give none" value=${form.title} onInput=${set("title")} /></label>
      <label class="field"><span>Source</span><input class="input" maxlength="2000" placeholder="Where it is from" value=${form.source} onInput=${set("source")} /></label></div>
      <label class="field"><span>Text</span><textarea class="input" rows="9" required value=${form.content} onInput=${set("content")} placeholder="Markdown headings become its structure."></textarea></label>
      ${trouble}
      <div class="row end"><button type="button" class="btn" onClick=${close}>Cancel</button><button class="btn primary" disabled=${Boolean(busy) || !form.content.trim()}>Add the text</button></div>
    </form>`}
  </${Dialog}>`;
}
