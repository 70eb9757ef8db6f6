// The start: who is signed in, then the shell and the page that the address names. Pages are loaded when they are opened.
import { reachable } from "./core/api.js";
import { follow } from "./core/live.js";
import { useObservable } from "./core/observable.js";
import { useRoute } from "./core/route.js";
import { expired, resume, session } from "./core/session.js";
import { html, render, useEffect, useErrorBoundary, useState } from "./core/view.js";
import { Door, DoorOverPage } from "./parts/signin.js";
import { Shell } from "./parts/shell.js";
import { Failure, Skeleton } from "./parts/states.js";

const PAGES = [
  { id: "overview", title: "Overview", load: () => import("./pages/overview.js") },
  { id: "models", title: "Models", load: () => import("./pages/models.js") },
  { id: "people", title: "People", admin: true, load: () => import("./pages/people.js") },
  { id: "costs", title: "Costs", load: () => import("./pages/costs.js") },
  { id: "requests", title: "Requests", load: () => import("./pages/requests.js") },
  { id: "documents", title: "Documents", load: () => import("./pages/documents.js") },
  { id: "cache", title: "Cache", load: () => import("./pages/cache.js") },
  { id: "upstreams", title: "Upstreams", load: () => import("./pages/upstreams.js") },
  { id: "patterns", title: "Patterns", load: () => import("./pages/patterns.js") },
  { id: "playground", title: "Playground", load: () => import("./pages/playground.js") },
  { id: "settings", title: "Settings", load: () => import("./pages/settings.js") },
];

function Loaded({ page, rest }) {
  const [found, setFound] = useState({});
  const [error, retry] = useErrorBoundary((failure) => console.error(failure));
  useEffect(() => {
    let wanted = true;
    page.load().then(
      (module) => wanted && setFound({ id: page.id, module }),
      () => wanted && setFound({ id: page.id, failed: true }),
    );
    document.title = `${page.title} · GemmaPy`;
    return () => {
      wanted = false;
    };
  }, [page.id]);
  if (error) {
    const shown = { message: "This page has failed.", hint: `${error.message}. The other pages work; please report it.` };
    return html`<div class="content"><${Failure} error=${shown} again=${retry} /></div>`;
  }
  if (found.id !== page.id) return html`<div class="content" aria-busy="true"><${Skeleton} height=${56} /><${Skeleton} height=${240} /><${Skeleton} height=${300} /></div>`;
  if (found.failed) {
    const shown = { message: "The page could not be loaded.", hint: "The gateway may have been updated: load it again." };
    return html`<div class="content"><${Failure} error=${shown} again=${() => location.reload()} /></div>`;
  }
  return html`<${found.module.default} rest=${rest} />`;
}

function App() {
  const signedIn = useObservable(session);
  const over = useObservable(expired);
  const { page, rest } = useRoute();
  if (signedIn === undefined) return html`<${Waiting} />`;
  if (signedIn === null) return html`<${Door} />`;
  const pages = PAGES.filter((one) => !one.admin || signedIn.user.is_admin);
  const current = pages.find((one) => one.id === page) ?? pages[0];
  return html`
    <${Shell} pages=${pages.filter((one) => !one.unlisted)} user=${signedIn.user}>
      <${Loaded} key=${current.id} page=${current} rest=${rest} />
    </${Shell}>
    ${over && html`<${DoorOverPage} username=${signedIn.user.username} />`}`;
}

/** Before it is known who is there: nothing to see, unless the gateway does not answer. */
function Waiting() {
  const online = useObservable(reachable);
  if (online) return html`<main class="door" aria-busy="true"></main>`;
  const error = { message: "The gateway cannot be reached.", hint: "This page goes on by itself once it answers." };
  return html`<main class="door"><div class="card"><${Failure} error=${error} /></div></main>`;
}

async function begin() {
  for (;;) {
    try {
      await resume();
      return;
    } catch {
      await new Promise((after) => setTimeout(after, 2000));
    }
  }
}

render(html`<${App} />`, document.getElementById("page"));
follow();
begin();
