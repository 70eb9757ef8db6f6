// Documents: put some in, see what became of them, try a search, and ask a model that answers with sources.
import { get, remove } from "../core/api.js";
import { useAsk } from "../core/ask.js";
import { useEvery } from "../core/every.js";
import * as format from "../core/format.js";
import { fixed, zoneOf } from "../core/question.js";
import { useObservable } from "../core/observable.js";
import { change, go, href, useRoute } from "../core/route.js";
import { session } from "../core/session.js";
import { html, useEffect, useMemo, useRef, useState } from "../core/view.js";
import { Collections } from "../parts/collections.js";
import { Confirm } from "../parts/confirm.js";
import { AddDocument, sendFiles } from "../parts/document_add.js";
import { ShownDocument } from "../parts/document_shown.js";
import { TryDocuments } from "../parts/document_try.js";
import { Figure } from "../parts/figure.js";
import { Icon } from "../parts/icons.js";
import { Card, Page } from "../parts/page.js";
import { Answer, Failure } from "../parts/states.js";
import { Table } from "../parts/table.js";
import { say } from "../parts/toasts.js";

const ALWAYS = fixed();
const PAGE = 50;
const AGAIN_MS = 4000;

/** The documents so far: the first page, and the older ones that were asked for. */
function useDocuments(collection) {
  const question = useMemo(() => fixed({ collection, limit: PAGE }), [collection]);
  const first = useAsk("/api/rag/documents", question);
  const [older, setOlder] = useState({ of: null, rows: [], next: null, error: null, busy: false });
  useEffect(() => setOlder({ of: first.data, rows: [], next: first.data?.next ?? null, error: null, busy: false }), [first.data]);
  const more = async () => {
    setOlder((before) => ({ ...before, busy: true, error: null }));
    try {
      const page = await get("/api/rag/documents", { ...question.params(), before: older.next });
      setOlder((before) => ({ ...before, rows: [...before.rows, ...page.documents], next: page.next, busy: false }));
    } catch (error) {
      setOlder((before) => ({ ...before, error, busy: false }));
    }
  };
  const rows = useMemo(() => [...(first.data?.documents ?? []), ...older.rows], [first.data, older.rows]);
  return { first, rows, older, more };
}

export default function Documents({ rest }) {
  const { query } = useRoute();
  const zone = zoneOf(query);
  const me = useObservable(session).user;
  const collections = useAsk("/api/rag/collections", ALWAYS);
  const known = collections.data?.collections ?? [];
  const chosen = known.find((one) => String(one.id) === query.collection);
  const listed = useDocuments(chosen?.id);
  const stats = useAsk("/api/rag/stats", ALWAYS);
  const [adding, setAdding] = useState(null);
  const [managing, setManaging] = useState(false);
  const again = () => { listed.first.again(); collections.again(); stats.again(); };
  useEvery(AGAIN_MS, () => stats.data?.pending > 0 && stats.again());
  const mine = known.filter((one) => one.owner_id === me.id);
  const into = chosen && chosen.owner_id === me.id ? chosen.id : undefined;
  const drop = useDrop(async (files) => {
    const { added, failed } = await sendFiles(files, { collection: into });
    if (added) again();
    if (failed.length) setAdding({ failed });
  });
  const add = html`<button type="button" class="btn primary" onClick=${() => setAdding({})}><${Icon} name="plus" size=${15} />Add documents</button>`;
  const s = stats.data;
  const none = listed.first.data && !listed.rows.length && !chosen;
  return html`<${Page} title="Documents" actions=${html`
      ${known.length > 0 && html`<label class="inline-field"><span class="unseen">Collection</span><select class="input" onChange=${(e) => change({ collection: e.target.value || null })}>
        <option value="" selected=${!chosen}>All collections</option>${known.map((one) => html`<option key=${one.id} value=${one.id} selected=${one === chosen}>${nameOf(one, me)}</option>`)}</select></label>`}
      <button type="button" class="btn" onClick=${() => setManaging(true)}>Collections</button>${add}`}>
    ${stats.error && !s ? html`<${Failure} error=${stats.error} again=${stats.again} />` : html`<div class="figures four">
      <${Figure} label="Documents" value=${s?.documents} show=${format.count} exact=${format.exactCount} sub=${s && `in ${s.collections} ${s.collections === 1 ? "collection" : "collections"}, ${format.bytes(s.bytes)}`} />
      <${Figure} label="Chunks" value=${s?.chunks} show=${format.count} exact=${format.exactCount} sub="found by their words" />
      <${Figure} label="Embedded" value=${s && s.embedded.reduce((all, one) => all + one.chunks, 0)} show=${format.count} exact=${format.exactCount} sub=${s && embedding(s)} />
      <${Figure} label="Still to embed" value=${s?.pending} show=${format.count} exact=${format.exactCount} sub=${s && (s.not_embeddable ? `${format.exactCount(s.not_embeddable)} cannot be` : s.pending ? "on their way" : "nothing waits")} />
    </div>`}
    ${s?.trouble && html`<div class="notice warn" role="status"><${Icon} name="alert" /><div><b>Embedding gets nowhere at this moment:</b> ${s.trouble}. It is tried again; until then, search finds words only.</div></div>`}
    <div class="grid-docs">
      <section class="card drop ${drop.over ? "is-over" : ""}" aria-label="Documents" ...${drop.on}>
        <div class="card-head"><h2>${chosen ? `In ${nameOf(chosen, me)}` : "All that you see"}</h2></div>
        <div class="card-gap"></div>
        <${Answer} asking=${listed.first} height=${320}>${() => listed.rows.length
          ? html`<${List} rows=${listed.rows} zone=${zone} me=${me} several=${!chosen && known.length > 1} collections=${known} again=${again} />`
          : html`<div class="empty"><h2>${chosen ? "This collection is empty" : "No document yet"}</h2>
              <p>Drop text, Markdown, HTML or PDF files here, or paste a text. Search finds its words at once, and models answer from it with numbered sources. Only you see it, unless you share its collection.</p>
              <button type="button" class="btn primary" onClick=${() => setAdding({})}>Add the first document</button></div>`}</${Answer}>
        ${listed.older.error && html`<div class="card-body"><${Failure} error=${listed.older.error} again=${listed.more} /></div>`}
        ${listed.older.next && html`<div class="card-body centre"><button type="button" class="btn" disabled=${listed.older.busy} onClick=${listed.more}>Older ones</button></div>`}
        <div class="drop-words" aria-hidden="true"><${Icon} name="documents" size=${28} />Drop files to add them${into ? ` to ${chosen.name}` : ""}</div>
      </section>
      <${TryDocuments} collection=${chosen} none=${none} vectors=${s?.embedding_model !== null && s?.index.vectors !== "not installed"} />
    </div>
    ${adding && html`<${AddDocument} failed=${adding.failed} collections=${mine} chosen=${into} close=${() => setAdding(null)} done=${again} />`}
    ${managing && html`<${Collections} asking=${collections} me=${me} close=${() => setManaging(false)} done=${again} />`}
    ${/^\d{1,18}$/.test(rest[0] ?? "") && html`<${ShownDocument} key=${rest[0]} id=${rest[0]} chunk=${query.chunk} zone=${zone} me=${me} collections=${known} again=${again} close=${() => go("documents", { chunk: null })} />`}
  </${Page}>`;
}

export const nameOf = (collection, me) => (collection.owner_id === me.id ? collection.name : `${collection.name} (${collection.owner ?? "a former user"})`);

function embedding(s) {
  if (s.index.vectors === "not installed") return "needs gemmapy[rag]";
  const names = [...new Set(s.embedded.map((one) => one.model))];
  if (!s.embedding_model && !names.length) return "no embedding model is set";
  return names.length > 1 ? `by ${names.length} models` : `by ${names[0] ?? s.embedding_model}`;
}

/** Files dragged over an element: {over, on}; `take(files)` gets them. */
function useDrop(take) {
  const [over, setOver] = useState(false);
  const depth = useRef(0);
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const end = () => { depth.current = 0; setOver(false); };
  const on = {
    onDragEnter: (event) => { if (carries(event)) { event.preventDefault(); depth.current += 1; setOver(true); } },
    onDragOver: (event) => carries(event) && event.preventDefault(),
    onDragLeave: () => { depth.current -= 1; if (depth.current <= 0) end(); },
    onDrop: (event) => { if (carries(event)) { event.preventDefault(); end(); take([...event.dataTransfer.files]); } },
  };
  return { over, on };
}

function List({ rows, zone, me, several, collections, again }) {
  const [doomed, setDoomed] = useState(null);
  const own = (d) => me.is_admin || collections.find((one) => one.id === d.collection_id)?.owner_id === me.id;
  const columns = useMemo(() => [
    { id: "title", label: "Title", value: (d) => d.title, show: (d) => html`<span class="two-lines"><a class="cut plain-link" href=${href("documents", {}, [String(d.id)])} title=${d.title}><b>${d.title}</b></a>
      ${d.source && d.source !== d.title && html`<span class="faint cut" title=${d.source}>${d.source}</span>`}</span>` },
    ...(several ? [{ id: "collection", label: "Collection", value: (d) => d.collection, show: (d) => html`<span class="cut" title=${d.collection}>${d.collection}</span>` }] : []),
    { id: "chunks", label: "Chunks", num: true, value: (d) => d.chunks, show: (d) => format.count(d.chunks), exact: (d) => format.exactCount(d.chunks) },
    { id: "size_bytes", label: "Size", num: true, value: (d) => d.size_bytes, show: (d) => format.bytes(d.size_bytes), exact: (d) => `${format.exactCount(d.size_bytes)} bytes` },
    { id: "created_at", label: "Added", value: (d) => d.created_at, show: (d) => format.at(d.created_at, zone, "date"), exact: (d) => format.at(d.created_at, zone) },
    { id: "actions", label: "", sort: false, out: false, value: () => null, show: (d) => own(d) && html`<button type="button" class="btn small danger" onClick=${() => setDoomed(d)} aria-label=${`Delete ${d.title}`}>Delete</button>` },
  ], [zone, several, collections]);
  return html`<${Table} caption="Documents" columns=${columns} rows=${rows} file="documents" exported=${() => rows.map(plain)} row=${{ key: (d) => d.id, href: (d) => href("documents", {}, [String(d.id)]) }} />
    ${doomed && html`<${DeleteDocument} document=${doomed} close=${() => setDoomed(null)} done=${again} />`}`;
}

const plain = ({ id, title, source, collection, media_type, chunks, size_bytes, created_at, metadata }) => ({ id, title, source, collection, media_type, chunks, size_bytes, created_at, metadata });

function DeleteDocument({ document: doomed, close, done }) {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const act = async () => {
    setBusy(true);
    try {
      say((await remove(`/api/rag/documents/${doomed.id}`)).message);
      done();
      close();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return html`<${Confirm} title=${`Delete ${doomed.title}?`} close=${close} act=${act} busy=${busy} error=${error} keep="Keep it" go="Delete the document">Its text, its chunks and its vectors are deleted and overwritten. This cannot be taken back.</${Confirm}>`;
}
