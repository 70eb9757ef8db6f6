// Asks the gateway what test_clients.py wants to know, with the unmodified JavaScript client, and prints it as JSON.
import { Ollama } from 'ollama'

const { HOST, KEY, MODEL } = process.env
const client = new Ollama({ host: HOST, headers: { Authorization: `Bearer ${KEY}` } })
const messages = [{ role: 'user', content: 'Say hello.' }]
const options = { num_predict: 8, temperature: 0 }

const whole = await client.chat({ model: MODEL, messages, options })
let streamed = ''
for await (const part of await client.chat({ model: MODEL, messages, options, stream: true })) {
  streamed += part.message.content
}
const { embeddings } = await client.embed({ model: MODEL, input: 'one' })
const { models } = await client.list()

let error = ''
try {
  await client.generate({ model: 'nope', prompt: 'x' })
} catch (refusal) {
  error = refusal.message
}

let aborted = false
try {
  for await (const _ of await client.generate({ model: MODEL, prompt: 'Count to a thousand.', stream: true })) {
    client.abort()
  }
} catch (stop) {
  aborted = stop.name === 'AbortError'
}

console.log(JSON.stringify({
  whole: whole.message.content,
  streamed,
  embedding: embeddings[0].length,
  models: models.map((model) => model.name),
  error,
  aborted,
}))
