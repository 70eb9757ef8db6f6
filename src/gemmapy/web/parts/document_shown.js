// One document in a drawer over the page: what is known of it, and its chunks as search and models see them.
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { fixed } from "../core/question.js";
import { html, useEffect, useRef, useState } from "../core/view.js";
import { Dialog } from "./dialog.js";
import { Failure, Skeleton } from "./states.js";

const ONCE = fixed();
const SHOWN = 40;
const KINDS = { "text/plain": "Text", "text/markdown": "Markdown", "text/html": "HTML", "application/pdf": "PDF" };

export function ShownDocument({ id, chunk, zone, close }) {
  const asking = useAsk(`/api/rag/documents/${id}`, ONCE);
  return html`<${Dialog} title=${asking.data?.title ?? "Document"} kind="drawer" close=${close}>
    ${asking.error && html`<${Failure} error=${asking.error} again=${asking.again} />`}
    ${asking.data ? html`<${Shown} document=${asking.data} chunk=${Number(chunk) || null} zone=${zone} />` : !asking.error && html`<${Skeleton} height=${480} />`}
  </${Dialog}>`;
}

function Shown({ document: d, chunk, zone }) {
  const place = d.chunks.findIndex((one) => one.chunk_id === chunk);
  const [shown, setShown] = useState(Math.max(SHOWN, place + 5));
  const embedded = d.chunks.filter((one) => one.embedding_model).length;
  const mark = useRef(null);
  useEffect(() => mark.current?.scrollIntoView({ block: "center" }), []);
  return html`
    <dl class="facts">
      <dt>Collection</dt><dd>${d.collection}</dd>
      ${d.source && html`<dt>Source</dt><dd>${d.source}</dd>`}
      <dt>Kind</dt><dd>${KINDS[d.media_type] ?? d.media_type}, ${format.bytes(d.size_bytes)}</dd>
      <dt>Added</dt><dd>${format.at(d.created_at, zone)}</dd>
      ${Object.keys(d.metadata).length > 0 && html`<dt>Metadata</dt><dd class="mono">${JSON.stringify(d.metadata)}</dd>`}
      <dt>Embedded</dt><dd>${embedded === d.chunks.length && embedded ? `all, by ${d.chunks[0].embedding_model}` : embedded ? `${embedded} of ${d.chunks.length}` : "no; found by its words"}</dd>
    </dl>
    <section class="stack"><h3>${d.chunks.length} ${d.chunks.length === 1 ? "chunk" : "chunks"}</h3>
      <ol class="chunks">${d.chunks.slice(0, shown).map((one, index) => html`<li key=${one.chunk_id} ref=${one.chunk_id === chunk ? mark : undefined} class="chunk ${one.chunk_id === chunk ? "is-found" : ""}" aria-current=${one.chunk_id === chunk ? "true" : undefined}>
        <div class="row between faint"><span class="cut">${index + 1}${one.heading ? `, ${one.heading}` : ""}</span>
          <span class="row nowrap-row"><span class="nowrap" title="Characters of the document's text">${format.exactCount(one.start)}–${format.exactCount(one.end)}</span>${one.embedding_model && html`<span class="badge" title=${`Its vector is of ${one.embedding_model}`}>embedded</span>`}</span></div>
        <div class="chunk-text">${one.text}</div></li>`)}</ol>
      ${shown < d.chunks.length && html`<div class="centre"><button type="button" class="btn" onClick=${() => setShown(shown + 4 * SHOWN)}>${format.exactCount(d.chunks.length - shown)} more</button></div>`}
    </section>`;
}
