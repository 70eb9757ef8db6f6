// The public API over fetch: JSON (or a form with a file) in, JSON out, the CSRF header, and errors that say what to do.
// The page lives at the gateway's base path, so the API is found from the page's own address.
import { observable } from "./observable.js";

export const BASE = location.pathname.replace(/\/+$/, "");
/** The address that clients are pointed at. */
export const ORIGIN = location.origin + BASE;

/** False while the gateway cannot be reached. */
export const reachable = observable(true);

/** Where a 401 speaks of the password that was typed, not of the session. */
const OWN_401 = ["/api/session", "/api/profile/password"];
const doors = { csrf: null, expired: () => {} };

/** The session tells what to send along, and what to do when it has ended. */
export function useDoors(changes) {
  Object.assign(doors, changes);
}

export class ApiError extends Error {
  /** `status` 0: no answer at all. */
  constructor(status, message, hint = "", code = "") {
    super(message);
    this.status = status;
    this.hint = hint;
    this.code = code;
  }
}

function address(path, query) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") search.set(name, value);
  }
  const text = search.toString();
  return BASE + path + (text ? `?${text}` : "");
}

/** The answer as a Response, once it is known to be a good one. Raises ApiError. */
export async function send(method, path, { query, body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET" && doors.csrf) headers["X-CSRF-Token"] = doors.csrf;
  const isForm = body instanceof FormData; // the browser names its kind, with the boundary
  if (body !== undefined && !isForm) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(address(path, query), {
      method, headers, signal, credentials: "same-origin", cache: "no-store",
      body: body === undefined || isForm ? body : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    lost();
    throw new ApiError(0, "The gateway cannot be reached.", "The page goes on by itself once it answers again.");
  }
  reachable.set(true);
  if (response.ok) return response;
  const error = await failure(response);
  if (response.status === 401 && !OWN_401.includes(path)) doors.expired();
  throw error;
}

const PROBE_MS = 1500;
let probing = null;

/** Nothing came back: looks by itself when it does again, since perhaps nobody asks anything meanwhile. */
function lost() {
  reachable.set(false);
  probing ??= setInterval(async () => {
    try {
      await fetch(`${BASE}/api/health`, { cache: "no-store" });
    } catch {
      return;
    }
    clearInterval(probing);
    probing = null;
    reachable.set(true);
  }, PROBE_MS);
}

async function failure(response) {
  let said = {};
  try {
    said = await response.json();
  } catch {
    // A proxy's page of HTML, say: the status alone must do.
  }
  const inner = typeof said.error === "object" && said.error !== null ? said.error : { message: said.error };
  const text = inner.message || `The gateway answered with status ${response.status}.`;
  const fallback = response.status >= 500 ? "Try again. If it stays so, the gateway's log says more." : "";
  return new ApiError(response.status, text, said.hint || fallback, said.code || inner.code || "");
}

const json = async (answer) => (await answer).json();
export const get = (path, query, signal) => json(send("GET", path, { query, signal }));
export const post = (path, body, query) => json(send("POST", path, { body, query }));
export const put = (path, body) => json(send("PUT", path, { body }));
export const patch = (path, body) => json(send("PATCH", path, { body }));
export const remove = (path) => json(send("DELETE", path));

/** The lines of a streamed answer as objects, one after the other. */
export async function* lines(path, body, signal) {
  const response = await send("POST", path, { body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const pieces = (rest + value).split("\n");
    rest = pieces.pop();
    for (const piece of pieces) if (piece.trim()) yield JSON.parse(piece);
  }
  if (rest.trim()) yield JSON.parse(rest);
}
