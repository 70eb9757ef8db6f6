// Where one is: page and filters, all in the address after the `#`, so that an address can be shared.
import { observable, useObservable } from "./observable.js";

/** What stays when one goes from page to page. */
export const SHARED = ["range", "from", "to", "tz", "compare", "model", "user", "project", "endpoint"];

function read() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page = "", ...rest] = path.split("/").map(decodeURIComponent);
  return { page: page || "overview", rest, query: Object.fromEntries(new URLSearchParams(search)) };
}

function safely() {
  try {
    return read();
  } catch {
    return { page: "overview", rest: [], query: {} }; // an address that was cut off while being copied
  }
}

export const route = observable(safely());
addEventListener("hashchange", () => route.set(safely()));

export const useRoute = () => useObservable(route);

/** The address of a page. `changes` to the query; null takes a filter out. `rest`: what comes after the page's name. */
export function href(page, changes = {}, rest = []) {
  const here = route.get();
  const query = {};
  for (const [name, value] of Object.entries(here.query)) {
    if (page === here.page || SHARED.includes(name)) query[name] = value;
  }
  Object.assign(query, changes);
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") search.set(name, value);
  }
  const text = search.toString();
  return `#/${[page, ...rest].map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Goes there; `replace` leaves no step behind for the back button. */
export function go(page, changes, { rest = [], replace = false } = {}) {
  const to = href(page, changes, rest);
  if (!replace) {
    location.hash = to;
    return;
  }
  history.replaceState(null, "", to);
  route.set(safely());
}

/** Changes filters of the page that one is on. */
export function change(changes, options = {}) {
  const here = route.get();
  go(here.page, changes, { rest: here.rest, ...options });
}
