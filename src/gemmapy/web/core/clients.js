// What to paste into other programs, with this gateway's own address and one's key: clients' settings, and code for a
// request that was tried here.
import { ORIGIN } from "./api.js";

const HIDDEN = "YOUR_KEY";
const text = (value) => JSON.stringify(value);

/** [{id, label, where, code}] for a key (null: a placeholder stands in its place) and a model. */
export function settings(key, model) {
  const secret = key ?? HIDDEN;
  return [
    { id: "ollama", label: "Ollama", where: "Python, with pip install ollama. The JavaScript package takes the same host and headers.", code:
`from ollama import Client

client = Client(host=${text(ORIGIN)}, headers={"Authorization": "Bearer ${secret}"})
answer = client.chat(${text(model)}, [{"role": "user", "content": "Why is the sky blue?"}])
print(answer.message.content)` },
    { id: "ollama-cli", label: "Ollama, command line", where: "The key is part of the address, since the command line sends no headers.", code:
`export OLLAMA_HOST=${ORIGIN}/k/${secret}
ollama run ${model}` },
    { id: "openai", label: "OpenAI, Python", where: "pip install openai", code:
`from openai import OpenAI

client = OpenAI(base_url="${ORIGIN}/v1", api_key=${text(secret)})
answer = client.chat.completions.create(
    model=${text(model)}, messages=[{"role": "user", "content": "Why is the sky blue?"}]
)
print(answer.choices[0].message.content)` },
    { id: "openai-js", label: "OpenAI, JavaScript", where: "npm install openai", code:
`import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${ORIGIN}/v1", apiKey: ${text(secret)} });
const answer = await client.chat.completions.create({
  model: ${text(model)},
  messages: [{ role: "user", content: "Why is the sky blue?" }],
});
console.log(answer.choices[0].message.content);` },
    { id: "openwebui", label: "Open WebUI", where: "Environment of its container. With a trusted key, each of its users is named in the log.", code:
`OPENAI_API_BASE_URL=${ORIGIN}/v1
OPENAI_API_KEY=${secret}
ENABLE_FORWARD_USER_INFO_HEADERS=true` },
    { id: "continue", label: "Continue", where: "~/.continue/config.yaml", code:
`name: GemmaPy
version: 1.0.0
schema: v1
models:
  - name: ${model}
    provider: ollama
    model: ${model}
    apiBase: ${ORIGIN}
    requestOptions:
      headers:
        Authorization: Bearer ${secret}` },
    { id: "langchain", label: "LangChain", where: "pip install langchain-openai", code:
`from langchain_openai import ChatOpenAI

llm = ChatOpenAI(base_url="${ORIGIN}/v1", api_key=${text(secret)}, model=${text(model)})
print(llm.invoke("Why is the sky blue?").content)` },
    { id: "curl", label: "curl", where: "", code: code("curl", { model, messages: [{ role: "user", content: "Why is the sky blue?" }] }, secret) },
  ];
}

const shell = (value) => `'${value.replaceAll("'", "'\\''")}'`;
const indent = (value, spaces) => JSON.stringify(value, null, 2).replaceAll("\n", `\n${" ".repeat(spaces)}`);
/** JSON as Python writes it. */
const python = (value, spaces) => indent(value, spaces).replace(/\b(true|false|null)\b(?=[,\n]|$)/g, (word) => ({ true: "True", false: "False", null: "None" })[word]);

/** A chat with Ollama's API as "curl", "python" or "javascript". */
export function code(language, body, key = HIDDEN) {
  if (language === "curl") {
    return `curl ${ORIGIN}/api/chat \\\n  -H "Authorization: Bearer ${key}" \\\n  -d ${shell(indent({ ...body, stream: false }, 2))}`;
  }
  const options = body.options ? `,\n    options=${python(body.options, 4)}` : "";
  if (language === "python") {
    return `from ollama import Client

client = Client(host=${text(ORIGIN)}, headers={"Authorization": "Bearer ${key}"})
messages = ${python(body.messages, 0)}
for part in client.chat(${text(body.model)}, messages, stream=True${options}):
    print(part.message.content, end="", flush=True)`;
  }
  return `import { Ollama } from "ollama";

const client = new Ollama({ host: ${text(ORIGIN)}, headers: { Authorization: "Bearer ${key}" } });
const parts = await client.chat({
  model: ${text(body.model)},
  messages: ${indent(body.messages, 2)},${body.options ? `\n  options: ${indent(body.options, 2)},` : ""}
  stream: true,
});
for await (const part of parts) process.stdout.write(part.message.content);`;
}
