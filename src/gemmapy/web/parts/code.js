// Text to paste somewhere else, with a button that copies it.
import { html, useState } from "../core/view.js";
import { say } from "./toasts.js";
import { Icon } from "./icons.js";

/** Copies, also where the page came over plain HTTP and the clipboard's own interface is closed. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const box = Object.assign(document.createElement("textarea"), { value: text });
    (document.querySelector("dialog[open]") ?? document.body).append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  }
}

export function CopyButton({ text, label = "Copy", words = false }) {
  const [done, setDone] = useState(false);
  const press = async () => {
    await copy(text);
    setDone(true);
    say("Copied.");
    setTimeout(() => setDone(false), 2000);
  };
  return html`<button type="button" class="btn small ${words ? "" : "only plain"}" onClick=${press} aria-label=${words ? undefined : label} title=${label}>
    <${Icon} name=${done ? "check" : "copy"} size=${16} />${words && html`<span>${label}</span>`}
  </button>`;
}

export function Code({ text, label }) {
  return html`<div class="code-box">
    <pre tabindex="0"><code>${text}</code></pre>
    <${CopyButton} text=${text} label=${label ?? "Copy"} />
  </div>`;
}
