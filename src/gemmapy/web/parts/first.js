// Where there is nothing yet: how to make the first request.
import { ORIGIN } from "../core/api.js";
import { useAsk } from "../core/ask.js";
import { fixed } from "../core/question.js";
import { href } from "../core/route.js";
import { html } from "../core/view.js";
import { Card } from "./page.js";
import { Empty } from "./states.js";

const ALWAYS = fixed();

export const curlLine = (key, model = "llama3") =>
  `curl ${ORIGIN}/api/chat \\\n  -H "Authorization: Bearer ${key}" \\\n  -d '{"model": "${model}", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}'`;

export function FirstRequest({ bare = false }) {
  const tags = useAsk("/api/tags", ALWAYS);
  const inner = html`<${Empty} title="No requests in this time yet" line=${curlLine("$KEY", tags.data?.models[0]?.name)}>
    Paste this, with an API key from <a href=${href("settings")}>Settings</a> and a model that you have, and watch it
    arrive here. Or try the <a href=${href("playground")}>Playground</a>.
  </${Empty}>`;
  return bare ? inner : html`<${Card} label="The first request">${inner}</${Card}>`;
}
