// Projects, for admins: what each cost, who may charge it, a new one, and taking one out of use.
import { post, put, remove } from "../core/api.js";
import { useAsk } from "../core/ask.js";
import * as format from "../core/format.js";
import { fixed } from "../core/question.js";
import { href } from "../core/route.js";
import { html, useState } from "../core/view.js";
import { Bars } from "./bars.js";
import { Dialog } from "./dialog.js";
import { Card } from "./page.js";
import { useSpenders } from "./spenders.js";
import { Answer, Failure } from "./states.js";
import { say } from "./toasts.js";

const ALWAYS = fixed();

export function Projects({ question, users }) {
  const projects = useAsk("/api/admin/projects", ALWAYS);
  const { asking, rows } = useSpenders("projects", question.current);
  const [managing, setManaging] = useState(false);
  const manage = html`<button type="button" class="btn small" onClick=${() => setManaging(true)}>Manage</button>`;
  return html`<${Card} title="By project" actions=${manage}>
    <${Answer} asking=${asking} height=${300}>${() => rows.some((one) => one.project)
      ? html`<${Bars} show=${format.money} exact=${format.exactMoney} rows=${rows.filter((one) => one.requests > 0).map((one) => ({
          key: one.key, name: one.name, value: one.cost, href: one.project ? href("overview", { project: one.project }) : undefined }))} />`
      : projects.data?.projects.length ? html`<p class="quiet">No request was paid for by a project in this time.</p>` : html`<p class="quiet">There is no project yet. One is who pays: a cost centre, a customer, a team.</p>`}</${Answer}>
    ${managing && html`<${Manage} projects=${projects} users=${users} close=${() => setManaging(false)} />`}
  </${Card}>`;
}

function Manage({ projects, users, close }) {
  const [name, setName] = useState("");
  const [open, setOpen] = useState(null);
  const [error, setError] = useState(null);
  const act = async (what) => {
    setError(null);
    try {
      const answer = await what();
      if (answer.message) say(answer.message);
      projects.again();
      return true;
    } catch (failure) {
      setError(failure);
      return false;
    }
  };
  const add = async (event) => {
    event.preventDefault();
    if (await act(() => post("/api/admin/projects", { name: name.trim() }))) setName("");
  };
  return html`<${Dialog} title="Projects" close=${close}>
    <p class="quiet">A project is who pays. A key can carry one, or a request names it with X-GemmaPy-Project; only members and admins may.</p>
    <form class="row nowrap-row" onSubmit=${add}><input class="input" required maxlength="100" aria-label="Name of the new project" placeholder="Name of a new project" value=${name} onInput=${(e) => setName(e.target.value)} /><button class="btn primary">Add</button></form>
    ${error && html`<${Failure} error=${error} />`}
    <${Answer} asking=${projects} height=${120}>${(data) => data.projects.length === 0 ? html`<p class="quiet">There is none yet.</p>` : html`<div class="menu-list boxed">${data.projects.map((one) => html`<div key=${one.id}>
      <button type="button" aria-expanded=${open === one.id} onClick=${() => setOpen(open === one.id ? null : one.id)}><b class="cut">${one.name}</b><span class="faint nowrap">${one.members.length} ${one.members.length === 1 ? "member" : "members"}</span></button>
      ${open === one.id && html`<div class="members">
        ${users.map((user) => html`<label class="check" key=${user.id}><input type="checkbox" checked=${one.members.includes(user.id)}
          onChange=${(e) => act(() => (e.target.checked ? put : remove)(`/api/admin/projects/${one.id}/members/${user.id}`))} /><span>${user.username}</span></label>`)}
        <button type="button" class="btn small danger" onClick=${() => act(() => remove(`/api/admin/projects/${one.id}`))}>Take out of use</button>
      </div>`}
    </div>`)}</div>`}</${Answer}>
  </${Dialog}>`;
}
