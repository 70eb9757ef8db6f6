// How a request ended, in a word and a shape, not in colour alone.
import { html } from "../core/view.js";

export function outcome(request) {
  if (request.error) return { kind: "bad", mark: "✕", text: request.error_code ?? `status ${request.status}` };
  if (request.status === 499) return { kind: "warn", mark: "◂", text: "client left" };
  if (request.status >= 400) return { kind: "warn", mark: "!", text: `status ${request.status}` };
  if (request.cached) return { kind: "accent", mark: "↺", text: "cached" };
  return { kind: "good", mark: "✓", text: "ok" };
}

export function Outcome({ request }) {
  const { kind, mark, text } = outcome(request);
  return html`<span class="badge ${kind}" title=${request.error_message ?? undefined}><span aria-hidden="true">${mark}</span>${text.replaceAll("_", " ")}</span>`;
}
