// What is around every page: navigation, theme, who is signed in, and the banner while the gateway cannot be reached.
import { reachable } from "../core/api.js";
import { useObservable } from "../core/observable.js";
import { href, useRoute } from "../core/route.js";
import { signOut } from "../core/session.js";
import { choice, choose } from "../core/theme.js";
import { html, useState } from "../core/view.js";
import { Dialog } from "./dialog.js";
import { Icon, Mark } from "./icons.js";
import { Toasts } from "./toasts.js";

function Themes() {
  const chosen = useObservable(choice);
  const options = [["light", "sun", "Light"], ["system", "system", "As the system"], ["dark", "moon", "Dark"]];
  return html`<div class="themes" role="radiogroup" aria-label="Theme">
    ${options.map(([id, icon, label]) => html`<label key=${id} title=${label}>
      <input class="unseen" type="radio" name="theme" checked=${chosen === id} onChange=${() => choose(id)} aria-label=${label} />
      <${Icon} name=${icon} size=${16} />
    </label>`)}
  </div>`;
}

function Side({ pages, user, went }) {
  const { page } = useRoute();
  return html`<aside class="side">
    <a class="brand" href=${href("overview")} onClick=${went}><${Mark} />GemmaPy</a>
    <nav aria-label="Pages">${pages.map(({ id, title }) => html`
      <a key=${id} href=${href(id)} aria-current=${id === page ? "page" : undefined} onClick=${went}><${Icon} name=${id} />${title}</a>`)}
    </nav>
    <div class="side-foot">
      <${Themes} />
      <div class="who">
        <div><div class="cut"><b>${user.username}</b></div><div class="faint">${user.is_admin ? "Admin" : "User"}</div></div>
        <button class="btn plain only small" onClick=${() => signOut()} aria-label="Sign out" title="Sign out"><${Icon} name="out" /></button>
      </div>
    </div>
  </aside>`;
}

export function Shell({ pages, user, children }) {
  const [menu, setMenu] = useState(false);
  const online = useObservable(reachable);
  return html`
    <a class="btn skip" href="#content" onClick=${(event) => { event.preventDefault(); document.getElementById("content").focus(); }}>To the content</a>
    ${!online && html`<div class="banner" role="alert"><${Icon} name="alert" size=${16} />The gateway cannot be reached. What you see is as it was last; the page goes on by itself.</div>`}
    <div class="shell">
      <${Side} pages=${pages} user=${user} />
      <div class="phone-bar">
        <button class="btn plain only" onClick=${() => setMenu(true)} aria-label="Menu" aria-haspopup="dialog"><${Icon} name="menu" size=${22} /></button>
        <a class="brand" href=${href("overview")}><${Mark} />GemmaPy</a>
      </div>
      <main class="main" id="content" tabindex="-1">${children}</main>
    </div>
    ${menu && html`<${Dialog} title="Menu" kind="nav" bare=${true} close=${() => setMenu(false)}><${Side} pages=${pages} user=${user} went=${() => setMenu(false)} /></${Dialog}>`}
    <${Toasts} />`;
}
