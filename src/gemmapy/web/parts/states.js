// Loading, nothing there yet, and failure: places are held while loading, and words say what to do.
import { html, useState } from "../core/view.js";
import { Code } from "./code.js";
import { Icon } from "./icons.js";

/** Holds a place of this height (a number of pixels) while its content is on the way. */
export function Skeleton({ height = 20, width = "100%" }) {
  const size = { height: `${height}px`, width: typeof width === "number" ? `${width}px` : width };
  return html`<div class="skeleton" style=${size} aria-hidden="true"></div>`;
}

/** What went wrong, in the API's words, and what to do. */
export function Failure({ error, again }) {
  const [trying, setTrying] = useState(false);
  const retry = async () => {
    setTrying(true);
    await again();
    setTrying(false);
  };
  return html`<div class="notice bad" role="alert">
    <${Icon} name="alert" />
    <div><b>${error.message}</b> ${error.hint}</div>
    ${again && html`<button class="btn small" onClick=${retry} disabled=${trying}>Try again</button>`}
  </div>`;
}

/** A card's content by the state of what it asked: skeleton, failure, or `children` as a function of the data. */
export function Answer({ asking, height = 160, children }) {
  if (asking.data === undefined) {
    if (asking.error) return html`<${Failure} error=${asking.error} again=${asking.again} />`;
    return html`<${Skeleton} height=${height} />`;
  }
  return html`<div class=${asking.busy ? "busy" : ""} aria-busy=${asking.busy}>
    ${asking.error && html`<${Failure} error=${asking.error} again=${asking.again} />`}
    ${children(asking.data)}
  </div>`;
}

/** Nothing to show: says why, and where `line` is given, what to paste. */
export function Empty({ title, children, line }) {
  return html`<div class="empty">
    <h2>${title}</h2>
    ${children && html`<p>${children}</p>`}
    ${line && html`<${Code} text=${line} label="Copy the command" />`}
  </div>`;
}
