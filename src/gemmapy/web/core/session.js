// Who is signed in. When a session ends in the middle, the page stays where it is and asks for the password over it.
import { get, post, remove, useDoors } from "./api.js";
import { observable } from "./observable.js";

/** undefined: not known yet; null: nobody; else {user, csrf, expires_at}. */
export const session = observable(undefined);
/** True where somebody was signed in and the session ended: the sign-in lies over the page. */
export const expired = observable(false);
/** Counts sign-ins, so that what failed meanwhile is asked again. */
export const entries = observable(0);

useDoors({
  expired() {
    if (session.get()) expired.set(true);
  },
});

function enter(answer) {
  const again = expired.get() || !session.get();
  useDoors({ csrf: answer.csrf });
  localStorage.setItem(KNOWN, "1");
  session.set(answer);
  expired.set(false);
  if (again) entries.set(entries.get() + 1);
}

// The cookie cannot be seen from here; this says whether there may be one, so that a stranger's page asks nothing.
const KNOWN = "gemmapy.signed-in";

/** Asks whether the browser's cookie still holds. */
export async function resume() {
  if (!localStorage.getItem(KNOWN)) {
    session.set(null);
    return;
  }
  try {
    enter(await get("/api/session"));
  } catch (error) {
    if (error.status !== 401) throw error;
    localStorage.removeItem(KNOWN);
    session.set(null);
  }
}

/** Raises ApiError where name and password do not fit. */
export async function signIn(username, password) {
  const before = session.get();
  const answer = await post("/api/session", { username, password });
  if (before && before.user.id !== answer.user.id) {
    location.reload(); // somebody else: nothing of the other's may stay on the page
    return;
  }
  enter(answer);
}

/** Goes on with the session, as the gateway wants it asked for now and then; a new password gives another one, too. */
export async function renew() {
  enter(await get("/api/session"));
}

setInterval(() => session.get() && !expired.get() && renew().catch(() => {}), 30 * 60_000); // what asks next says why not

/** Ends this session, or every one of this user. */
export async function signOut(everywhere = false) {
  await remove(everywhere ? "/api/sessions" : "/api/session");
  localStorage.removeItem(KNOWN);
  location.hash = "#/";
  location.reload();
}
