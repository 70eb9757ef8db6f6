// The page's few icons, drawn with the text's colour. They decorate; the words beside them say what is meant.
import { html } from "../core/view.js";

const PATHS = {
  overview: "M3 12h4v8H3zM10 4h4v16h-4zM17 9h4v11h-4z",
  models: "M12 3l8 4.500v9L12 21l-8-4.500v-9zM4 7.500l8 4.500 8-4.500M12 12v9",
  people: "M9 11a4 4 0 100-8 4 4 0 000 8zM2 21c0-4 3-7 7-7s7 3 7 7M16 3.500a4 4 0 010 7M18 14.500c2.500.8 4 3.300 4 6.500",
  costs: "M12 3v18M16.500 7.500C16 6 14.300 5 12 5c-2.700 0-4.500 1.300-4.500 3.400 0 4.800 9.500 2.400 9.500 7.200 0 2.100-2 3.400-5 3.400-2.500 0-4.500-1-5-2.700",
  requests: "M4 6h16M4 12h16M4 18h10",
  patterns: "M4 4h4v4H4zM10 4h4v4h-4zM16 4h4v4h-4zM4 10h4v4H4zM16 10h4v4h-4zM10 16h4v4h-4zM4 16h4v4H4z",
  playground: "M4 5h16v11H9l-5 4z",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.500v5M9 14.500v5",
  cache: "M12 3c4.500 0 8 1.300 8 3s-3.500 3-8 3-8-1.300-8-3 3.500-3 8-3zM4 6v12c0 1.700 3.500 3 8 3s8-1.300 8-3V6M4 12c0 1.700 3.500 3 8 3s8-1.300 8-3",
  documents: "M6 3h8l5 5v13H6zM14 3v5h5M9 13h7M9 17h7",
  upstreams: "M4 4h16v6H4zM4 14h16v6H4zM7.500 7h.01M7.500 17h.01",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  sun: "M12 8a4 4 0 100 8 4 4 0 000-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.500 1.500M17.500 17.500L19 19M5 19l1.500-1.500M17.500 6.500L19 5",
  moon: "M20 14.500A8.500 8.500 0 019.500 4a8.500 8.500 0 1010.500 10.500z",
  system: "M3 5h18v11H3zM9 20h6M12 16v4",
  out: "M14 4h5v16h-5M10 8l-4 4 4 4M6 12h9",
  filter: "M3 5h18l-7 8.500V20l-4-2v-4.500z",
  calendar: "M4 6h16v14H4zM4 10h16M8 3v4M16 3v4",
  check: "M5 12.500l4.500 4.500L19 7.500",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  up: "M7 11v9H4v-9zM7 11l4-8c1.700 0 2.500 1 2.500 2.500L13 9h5.500c1.300 0 2 1 1.700 2.300l-1.500 7c-.2 1-1 1.700-2 1.700H7",
  down: "M7 13V4H4v9zM7 13l4 8c1.700 0 2.500-1 2.500-2.500L13 15h5.500c1.300 0 2-1 1.700-2.300l-1.500-7c-.2-1-1-1.700-2-1.700H7",
  download: "M12 4v11M7.500 11l4.500 4.500 4.500-4.500M5 20h14",
  search: "M10.500 4a6.500 6.500 0 100 13 6.500 6.500 0 000-13zM15.500 15.500L20 20",
  alert: "M12 4l9 16H3zM12 10v4.500M12 17.300v.2",
  next: "M9 5l7 7-7 7",
  plus: "M12 5v14M5 12h14",
  stop: "M6 6h12v12H6z",
  send: "M12 20V5M6 11l6-6 6 6",
  globe: "M12 3a9 9 0 100 18 9 9 0 000-18zM3 12h18M12 3c5 5.500 5 12.500 0 18M12 3c-5 5.500-5 12.500 0 18",
};

export function Icon({ name, size = 18 }) {
  return html`<svg class="icon" width=${size} height=${size} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    <path d=${PATHS[name]} />
  </svg>`;
}

export function Mark({ size = 26 }) {
  return html`<svg width=${size} height=${size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
    <path class="mark-a" d="M16 3 28 11.500 16 29 4 11.500Z" /><path class="mark-b" d="M4 11.500h24L16 29Z" />
    <path class="mark-c" d="M10.500 11.500h11L16 29Z" />
  </svg>`;
}
