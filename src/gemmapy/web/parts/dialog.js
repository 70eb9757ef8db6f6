// The browser's own <dialog>: it keeps the focus inside, closes on Esc and gives the focus back.
import { html, useEffect, useLayoutEffect, useRef } from "../core/view.js";
import { Icon } from "./icons.js";

/** `close` is called however it is closed. `kind`: "", "wide", "drawer" or "nav". `locked`: Esc does not close it. */
export function Dialog({ title, close, kind = "", locked = false, bare = false, children }) {
  const box = useRef(null);
  useLayoutEffect(() => {
    const element = box.current;
    const before = document.activeElement;
    if (!element.open) element.showModal();
    return () => {
      element.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  useEffect(() => {
    const element = box.current;
    const cancel = (event) => {
      if (event.target !== element) return;
      event.preventDefault();
      if (!locked) close();
    };
    // A browser may close it without asking, as on a second Esc: a locked one comes back.
    const shut = (event) => {
      if (event.target !== element) return;
      if (locked) element.showModal();
      else close();
    };
    element.addEventListener("cancel", cancel);
    element.addEventListener("close", shut);
    return () => {
      element.removeEventListener("cancel", cancel);
      element.removeEventListener("close", shut);
    };
  }, [close, locked]);
  const outside = (event) => event.target === box.current && !locked && close();
  return html`<dialog ref=${box} class=${kind} aria-label=${title} onMouseDown=${outside}>
    ${bare ? children : html`<div class="dialog-in">
      <div class="dialog-head">
        <h2>${title}</h2>
        ${!locked && html`<button class="btn plain only small" onClick=${close} aria-label="Close"><${Icon} name="close" /></button>`}
      </div>
      ${children}
    </div>`}
  </dialog>`;
}
