// Try a model: a chat whose answers stream in, with tokens, speed and cost beside each, and the same as code to take away.
import { lines } from "../core/api.js";
import { useAsk } from "../core/ask.js";
import { code } from "../core/clients.js";
import * as format from "../core/format.js";
import { fixed } from "../core/question.js";
import { change, href, useRoute } from "../core/route.js";
import { html, useEffect, useMemo, useRef, useState } from "../core/view.js";
import { Choice } from "../parts/choice.js";
import { Code } from "../parts/code.js";
import { Icon } from "../parts/icons.js";
import { Card, Page } from "../parts/page.js";
import { Rate } from "../parts/rate.js";
import { Empty, Failure, Skeleton } from "../parts/states.js";
import { say } from "../parts/toasts.js";

const ALWAYS = fixed();
const IDEAS = ["Why is the sky blue?", "Explain recursion to a ten-year-old.", "Write a haiku about waiting."];
const DEFAULTS = { system: "", temperature: "", most: "" };

function bodyOf(model, messages, form) {
  const options = {
    ...(form.temperature.trim() ? { temperature: Number(form.temperature) } : {}),
    ...(form.most.trim() ? { num_predict: Number(form.most) } : {}),
  };
  const system = form.system.trim() ? [{ role: "system", content: form.system.trim() }] : [];
  return { model, messages: [...system, ...messages], ...(Object.keys(options).length ? { options } : {}) };
}

export default function Playground() {
  const { query } = useRoute();
  const models = useAsk("/api/tags", ALWAYS);
  const names = (models.data?.models ?? []).map((one) => one.name);
  const model = names.includes(query.chat) ? query.chat : names[0];
  const price = useAsk(model ? "/api/prices/in-force" : null, useMemo(() => fixed({ model }), [model])).data?.price;
  const [turns, setTurns] = useState([]);
  const [text, setText] = useState("");
  const [form, setForm] = useState(DEFAULTS);
  const [running, setRunning] = useState(null);
  const end = useRef(null);
  useEffect(() => () => running?.abort(), [running]);
  const last = turns.at(-1);
  useEffect(() => end.current?.scrollIntoView({ block: "nearest" }), [last?.content]);

  const ask = async (prompt) => {
    const spoken = [...turns.filter((turn) => !turn.error).map(({ role, content }) => ({ role, content })), { role: "user", content: prompt }];
    const leave = new AbortController();
    const began = performance.now();
    setRunning(leave);
    setText("");
    setTurns((before) => [...before, { role: "user", content: prompt }, { role: "assistant", content: "", model, price, busy: true }]);
    const amend = (changes) => setTurns((before) => [...before.slice(0, -1), { ...before.at(-1), ...(typeof changes === "function" ? changes(before.at(-1)) : changes) }]);
    try {
      for await (const part of lines("/api/ollama/chat/stream", bodyOf(model, spoken, form), leave.signal)) {
        if (part.error) throw Object.assign(new Error(part.error), { hint: part.hint ?? "" });
        const piece = part.message?.content ?? "";
        const thought = part.message?.thinking ?? "";
        const now = performance.now();
        if (piece || thought) {
          amend((turn) => ({
            content: turn.content + piece, thinking: (turn.thinking ?? "") + thought, pieces: (turn.pieces ?? 0) + 1,
            first: turn.first ?? now - began, since: turn.since ?? now, until: now,
          }));
        }
        if (part.done) amend({ done: part, busy: false, whole: now - began });
      }
      amend((turn) => ({ busy: false, cut: !turn.done }));
    } catch (error) {
      amend(error.name === "AbortError" ? { busy: false, cut: true } : { busy: false, error });
    }
    setRunning(null);
  };
  const submit = (event) => {
    event?.preventDefault();
    if (text.trim() && model && !running) ask(text.trim());
  };
  const key = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && submit(event);

  if (models.data && !names.length) {
    return html`<${Page} title="Playground"><${Card}><${Empty} title="No model to talk to" line="ollama pull llama3">
      No upstream of this gateway has a model. With Ollama, this fetches one:</${Empty}></${Card}></${Page}>`;
  }
  const shown = turns.filter((turn) => !turn.error && !turn.busy).map(({ role, content }) => ({ role, content }));
  const taken = bodyOf(model ?? "llama3", shown.length ? shown.slice(0, shown.at(-1).role === "assistant" ? -1 : undefined) : [{ role: "user", content: text || "Why is the sky blue?" }], form);
  return html`<${Page} title="Playground" actions=${turns.length > 0 && html`<button type="button" class="btn" disabled=${Boolean(running)} onClick=${() => setTurns([])}>New chat</button>`}>
    ${models.error && html`<${Failure} error=${models.error} again=${models.again} />`}
    <div class="grid-side">
      <section class="card chat" aria-label="Chat">
        <div class="chat-log" aria-live="off">
          ${!turns.length && html`<div class="empty middle"><h2>Ask something</h2><p>It goes through the gateway like any other request: it is metered, it costs what it costs, and it appears in the log.</p>
            <div class="ideas">${IDEAS.map((one) => html`<button type="button" class="btn small" key=${one} disabled=${!model} onClick=${() => ask(one)}>${one}</button>`)}</div></div>`}
          ${turns.map((turn, place) => html`<${Turn} key=${place} turn=${turn} amend=${(changes) => setTurns((before) => before.map((one, index) => (index === place ? { ...one, ...changes } : one)))} />`)}
          <div ref=${end}></div>
        </div>
        <form class="chat-form" onSubmit=${submit}>
          <textarea class="input" rows="2" value=${text} aria-label="Message" placeholder="Message  (Enter sends, Shift+Enter is a new line)" onInput=${(e) => setText(e.target.value)} onKeyDown=${key}></textarea>
          ${running
            ? html`<button type="button" class="btn" onClick=${() => { running.abort(); say("Stopped. What was delivered is billed."); }}><${Icon} name="stop" size=${16} />Stop</button>`
            : html`<button class="btn primary" disabled=${!text.trim() || !model}><${Icon} name="send" size=${16} />Send</button>`}
        </form>
      </section>
      <div class="stack wide-gap">
        <${Card} title="Model">
          ${!models.data && !models.error ? html`<${Skeleton} height=${220} />` : html`<div class="form">
            <label class="field"><span class="unseen">Model</span><select class="input" value=${model} onChange=${(e) => change({ chat: e.target.value }, { replace: true })}>
              ${names.map((name) => html`<option key=${name} value=${name} selected=${name === model}>${name}</option>`)}</select></label>
            <label class="field"><span>System prompt</span><textarea class="input" rows="3" value=${form.system} onInput=${(e) => setForm({ ...form, system: e.target.value })} placeholder="Optional"></textarea></label>
            <div class="form-row tight">
              <label class="field"><span>Temperature</span><input class="input" type="number" min="0" max="2" step="0.1" value=${form.temperature} placeholder="model's" onInput=${(e) => setForm({ ...form, temperature: e.target.value })} /></label>
              <label class="field"><span>Max tokens</span><input class="input" type="number" min="1" step="1" value=${form.most} placeholder="no limit" onInput=${(e) => setForm({ ...form, most: e.target.value })} /></label>
            </div>
            ${price !== undefined && html`<p class="hint">${price ? `${format.exactMoney(price.input_cost * 1000)} per 1M tokens in, ${format.exactMoney(price.output_cost * 1000)} out` : "This model has no price."}</p>`}</div>`}
        </${Card}>
        <${AsCode} body=${taken} />
      </div>
    </div>
  </${Page}>`;
}

/** What is known while it streams, and exactly once it is done. */
function facts(turn) {
  const { done } = turn;
  if (done) {
    return [
      [`${format.exactCount(done.prompt_eval_count ?? null)} in, ${format.exactCount(done.eval_count ?? null)} out`, "Tokens"],
      [format.speed(done.eval_count && done.eval_duration ? done.eval_count / (done.eval_duration / 1e9) : null), "Speed of generation"],
      [`first after ${format.duration(turn.first)}`, "Time to the first token, as this browser saw it"],
      [format.duration(turn.whole), "Duration, as this browser saw it"],
      [done.cost === null ? "unpriced" : format.money(done.cost), done.cost === null ? "This model has no price" : format.exactMoney(done.cost)],
      ...(done.cached ? [["from the cache", "Answered without asking the model"]] : []),
    ];
  }
  if (!turn.pieces) return turn.busy ? [["waiting for the first token", ""]] : [];
  const seconds = (turn.until - turn.since) / 1000;
  return [
    [`≈ ${format.count(turn.pieces)} tokens`, "Pieces received so far; the engine's own count comes at the end"],
    ...(turn.price ? [[`≈ ${format.money(turn.price.request_cost + (turn.pieces / 1000) * turn.price.output_cost)}`, "What the response costs so far; the prompt is added at the end, by the engine's own count"]] : []),
    ...(turn.pieces > 1 && seconds > 0 ? [[`≈ ${format.speed((turn.pieces - 1) / seconds)}`, "Speed so far"]] : []),
    [`first after ${format.duration(turn.first)}`, "Time to the first token"],
  ];
}

function Turn({ turn, amend }) {
  const mine = turn.role === "user";
  return html`<article class="turn ${mine ? "mine" : ""}" aria-label=${mine ? "You" : turn.model} aria-busy=${turn.busy}>
    <div class="turn-who">${mine ? "You" : turn.model}</div>
    ${turn.thinking && html`<details class="turn-thought"><summary>Thoughts</summary><div class="turn-text">${turn.thinking}</div></details>`}
    <div class="turn-text">${turn.content}${turn.busy && html`<span class="caret" aria-hidden="true"></span>`}</div>
    ${turn.error && html`<${Failure} error=${turn.error} />`}
    ${!mine && !turn.error && html`<div class="turn-facts">
      ${facts(turn).map(([word, why]) => html`<span key=${why} title=${why}>${word}</span>`)}
      ${turn.cut && html`<span class="badge warn">stopped</span>`}
      ${turn.done?.metric_id && html`<span class="push row"><${Rate} id=${turn.done.metric_id} rating=${turn.rating} rated=${(rating) => amend({ rating })} />
        <a class="btn small" href=${href("requests", {}, [turn.done.request_id])}>Its story</a></span>`}
    </div>`}
  </article>`;
}

function AsCode({ body }) {
  const [language, setLanguage] = useState("curl");
  return html`<${Card} title="As code" actions=${html`<${Choice} label="Language" value=${language} options=${[["curl", "curl"], ["python", "Python"], ["javascript", "JavaScript"]]} choose=${setLanguage} />`}>
    <${Code} text=${code(language, body)} label="Copy the code" />
    <p class="hint spaced">Put an API key from <a href=${href("settings")}>Settings</a> in the place of YOUR_KEY.</p>
  </${Card}>`;
}
