// A button that opens a panel beneath it; Esc, a click elsewhere or leaving with the keyboard closes it.
import { html, useEffect, useRef, useState } from "../core/view.js";

/** `children` is a function that gets `close` and draws the panel. */
export function Popover({ label, button, title, end = false, on = false, children }) {
  const [open, setOpen] = useState(false);
  const box = useRef(null);
  const opener = useRef(null);
  const close = () => {
    setOpen(false);
    opener.current?.focus();
  };
  useEffect(() => {
    if (!open) return undefined;
    const panel = box.current.querySelector(".pop-panel");
    (panel.querySelector("[aria-current=true]") ?? panel.querySelector("input, select, button") ?? panel).focus();
    const edge = panel.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    if (edge.right > width - 8) panel.style.translate = `${width - 8 - edge.right}px 0`;
    if (edge.left < 8) panel.style.translate = `${8 - edge.left}px 0`;
    const elsewhere = (event) => !box.current.contains(event.target) && setOpen(false);
    const key = (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      close();
    };
    document.addEventListener("pointerdown", elsewhere);
    box.current.addEventListener("keydown", key);
    const element = box.current;
    return () => {
      document.removeEventListener("pointerdown", elsewhere);
      element.removeEventListener("keydown", key);
    };
  }, [open]);
  const left = (event) => {
    if (open && event.relatedTarget && !box.current.contains(event.relatedTarget)) setOpen(false);
  };
  return html`<div class="pop ${end ? "at-end" : ""}" ref=${box} onfocusout=${left}>
    <button ref=${opener} type="button" class="btn ${on ? "on" : ""}" aria-expanded=${open} aria-haspopup="dialog" title=${title}
      aria-label=${label} onClick=${() => setOpen(!open)}>${button}</button>
    ${open && html`<div class="pop-panel" role="dialog" aria-label=${label ?? title} tabindex="-1">${children(close)}</div>`}
  </div>`;
}
