// The frame of a page: its title, whether it is live, and the controls for time and filters.
import { reachable } from "../core/api.js";
import { link } from "../core/live.js";
import { useObservable } from "../core/observable.js";
import { html, useEffect, useRef, useState } from "../core/view.js";
import { Chips, FilterButton } from "./filters.js";
import { RangePicker } from "./range.js";

const LINKS = {
  live: ["Live", "Figures move as requests happen."],
  polling: ["Polling", "The live stream does not get through here, so the page asks every two seconds."],
  connecting: ["Connecting", "Nothing moves until the live stream is open."],
};

export function LiveMark() {
  const online = useObservable(reachable);
  const known = useObservable(link);
  const state = online ? known : "connecting";
  if (!LINKS[state]) return null;
  const [word, why] = LINKS[state];
  return html`<span class="live ${state === "live" ? "on" : ""}" title=${why}><span class="dot" aria-hidden="true"></span>${word}</span>`;
}

function useStuck() {
  const mark = useRef(null);
  const [stuck, setStuck] = useState(false);
  useEffect(() => {
    const watcher = new IntersectionObserver(([entry]) => setStuck(!entry.isIntersecting));
    watcher.observe(mark.current);
    return () => watcher.disconnect();
  }, []);
  return [mark, stuck];
}

/** `question` shows the time range; `filters`: true, or the names of those that the page understands. */
export function Page({ title, question, filters = false, live = false, chips = [], actions, children }) {
  const [mark, stuck] = useStuck();
  const only = Array.isArray(filters) ? filters : null;
  return html`
    <div ref=${mark} aria-hidden="true"></div>
    <div class="top ${stuck ? "is-stuck" : ""}">
      <div class="top-in">
        <div class="top-title"><h1>${title}</h1>${live && html`<${LiveMark} />`}</div>
        ${actions}
        ${filters && html`<${FilterButton} only=${only} />`}
        ${question && html`<${RangePicker} question=${question} />`}
      </div>
      ${filters && html`<${Chips} only=${only} more=${chips} />`}
    </div>
    <div class="content">${children}</div>`;
}

export function Card({ title, actions, note, children, pad = true, label }) {
  return html`<section class="card" aria-label=${label ?? title}>
    ${(title || actions) && html`<div class="card-head">${title && html`<h2>${title}</h2>`}${actions}</div>`}
    ${pad ? html`<div class="card-body">${children}</div>` : children}
    ${note && html`<p class="card-note">${note}</p>`}
  </section>`;
}
