// Trying the documents: which passages a question finds and why, or a model's answer from them, with its sources.
import { lines, post } from "../core/api.js";
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { fixed } from "../core/question.js";
import { href } from "../core/route.js";
import { html, useEffect, useState } from "../core/view.js";
import { Choice } from "./choice.js";
import { Icon } from "./icons.js";
import { Card } from "./page.js";
import { Failure } from "./states.js";

const ALWAYS = fixed();
const MODES = [["hybrid", "Both"], ["text", "Words"], ["vector", "Meaning"]];
const FOUND_BY = { hybrid: "by words and meaning", text: "by words", vector: "by meaning" };

export function TryDocuments({ collection, none, vectors }) {
  const models = useAsk("/api/tags", ALWAYS);
  const names = (models.data?.models ?? []).map((one) => one.name);
  const [form, setForm] = useState({ query: "", mode: "hybrid", top: "5", model: "" });
  const [found, setFound] = useState(null);
  const [answer, setAnswer] = useState(null);
  const [running, setRunning] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => () => running?.abort(), [running]);
  const set = (changes) => setForm((before) => ({ ...before, ...changes }));
  const model = names.includes(form.model) ? form.model : names[0];
  const body = { query: form.query.trim(), top_k: Number(form.top), mode: form.mode, ...(collection ? { collection: collection.id } : {}) };
  const begin = () => {
    setError(null);
    setFound(null);
    setAnswer(null);
    const leave = new AbortController();
    setRunning(leave);
    return leave;
  };
  const search = async () => {
    begin();
    try {
      setFound(await post("/api/rag/search", body));
    } catch (failure) {
      setError(failure);
    }
    setRunning(null);
  };
  const ask = async () => {
    const leave = begin();
    setAnswer({ text: "" });
    try {
      for await (const part of lines("/api/rag/generate", { ...body, model, stream: true }, leave.signal)) {
        if (part.error) throw Object.assign(new Error(part.error), { hint: part.hint ?? "" });
        setAnswer((before) => ({ text: before.text + (part.response ?? ""), done: part.done ? part : undefined }));
      }
    } catch (failure) {
      if (failure.name !== "AbortError") setError(failure);
      setAnswer((before) => (before?.text ? { ...before, cut: true } : null));
    }
    setRunning(null);
  };
  const submit = (event) => { event.preventDefault(); search(); };
  const ready = form.query.trim() && !running;
  return html`<${Card} title="Try it">
    <form class="form" onSubmit=${submit}>
      <label class="field"><span>Question</span><input class="input" maxlength="4000" value=${form.query} onInput=${(e) => set({ query: e.target.value })} placeholder=${none ? "Once there is a document, ask for it here" : "What would you ask these documents?"} /></label>
      <div class="row"><${Choice} label="Found by" value=${form.mode} options=${vectors ? MODES : MODES.slice(0, 2)} choose=${(mode) => set({ mode })} />
        <label class="inline-field"><span>at most</span><select class="input small-input" onChange=${(e) => set({ top: e.target.value })}>${["3", "5", "10", "20"].map((one) => html`<option key=${one} value=${one} selected=${form.top === one}>${one}</option>`)}</select></label></div>
      <div class="row"><button class="btn" disabled=${!ready}><${Icon} name="search" size=${15} />Search</button>
        ${names.length > 0 && html`<span class="row push nowrap-row ask-row"><label class="inline-field"><span class="unseen">Model</span><select class="input" onChange=${(e) => set({ model: e.target.value })}>${names.map((one) => html`<option key=${one} value=${one} selected=${one === model}>${one}</option>`)}</select></label>
        ${running && answer ? html`<button type="button" class="btn" onClick=${() => running.abort()}><${Icon} name="stop" size=${15} />Stop</button>`
          : html`<button type="button" class="btn primary" disabled=${!ready} onClick=${ask}><${Icon} name="send" size=${15} />Ask</button>`}</span>`}</div>
    </form>
    <div class="stack try-result" aria-live="polite">
      ${error && html`<${Failure} error=${error} />`}
      ${found && html`<${Found} found=${found} />`}
      ${answer && html`<${Said} answer=${answer} model=${model} busy=${Boolean(running)} />`}
      ${!found && !answer && !error && html`<p class="hint">Search shows passages with their scores. Ask lets a model answer from them, metered and priced like any request.</p>`}
    </div>
  </${Card}>`;
}

function Note({ result }) {
  return html`<p class="hint">${FOUND_BY[result.mode] ? `Found ${FOUND_BY[result.mode]}.` : ""} ${result.note ?? ""}</p>`;
}

function Found({ found }) {
  if (!found.results.length) return html`<p class="quiet">Nothing was found. ${found.mode === "text" ? "Other words may do; with an embedding model, search finds meanings too." : "Perhaps other words?"}</p>`;
  return html`<ol class="chunks">${found.results.map((one) => html`<li key=${one.chunk_id} class="chunk">
      <div class="row between"><a class="cut strong" href=${href("documents", { chunk: one.chunk_id }, [String(one.document_id)])}>${one.title}</a><span class="faint nowrap" title=${ranks(one)}>${score(one.score)}</span></div>
      ${one.heading && html`<div class="faint cut">${one.heading}</div>`}
      <div class="chunk-text clamp">${one.text}</div>
      <div class="faint">${ranks(one)}</div></li>`)}</ol><${Note} result=${found} />`;
}

const score = (value) => value.toLocaleString(undefined, { maximumSignificantDigits: 3 });
const ranks = (one) => [one.text_rank && `words: place ${one.text_rank}`, one.vector_rank && `meaning: place ${one.vector_rank}`].filter(Boolean).join(", ");

function Said({ answer, model, busy }) {
  const { done } = answer;
  return html`<article class="stack" aria-label=${`Answer of ${model}`} aria-busy=${busy}>
    <div class="turn-text">${answer.text}${busy && html`<span class="caret" aria-hidden="true"></span>`}</div>
    ${answer.cut && html`<span><span class="badge warn">stopped</span></span>`}
    ${done && html`
      <h3>Sources</h3>
      ${done.sources.length ? html`<ol class="sources">${done.sources.map((one, place) => html`<li key=${one.chunk_id}><span class="faint">[${place + 1}]</span>
        <a class="cut" href=${href("documents", { chunk: one.chunk_id }, [String(one.document_id)])}>${one.title}${one.heading ? `, ${one.heading}` : ""}</a>
        ${one.cited ? html`<span class="badge good">cited</span>` : html`<span class="badge">not cited</span>`}<span class="faint push nowrap" title="Its score">${score(one.score)}</span></li>`)}</ol>` : html`<p class="quiet">No passage was found, and the model was told so.</p>`}
      <div class="turn-facts"><span>${format.exactCount(done.prompt_eval_count ?? null)} in, ${format.exactCount(done.eval_count ?? null)} out</span>
        <span title=${done.cost === null ? "This model has no price" : format.exactMoney(done.cost)}>${done.cost === null ? "unpriced" : format.money(done.cost)}</span>
        ${done.cached && html`<span>from the cache</span>`}
        <a class="btn small push" href=${href("requests", {}, [done.request_id])}>Its story</a></div>
      <${Note} result=${done} />`}
  </article>`;
}
