// Anthropic's client of npm: a message, a stream, a tool, a count, errors.
import assert from "node:assert";
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({
  baseURL: process.env.OPENAI_BASE_URL.replace(/\/v1$/, ""),
  apiKey: process.env.OPENAI_API_KEY,
  maxRetries: 0,
});
const hello = [{ role: "user", content: "Hello." }];
const messages = [{ role: "user", content: "What is the weather in Paris?" }];

const message = await client.messages.create({ model: "tiny", max_tokens: 20, temperature: 0, messages: hello });
assert.equal(message.content[0].type, "text");
assert(message.usage.output_tokens > 0);

let said = "";
const stream = client.messages.stream({ model: "tiny", max_tokens: 20, temperature: 0, messages: hello }).on("text", (part) => (said += part));
const final = await stream.finalMessage();
assert.equal(final.content[0].text, said);

const called = await client.messages.create({
  model: "tiny",
  max_tokens: 60,
  temperature: 0,
  messages,
  tools: [
    {
      name: "get_weather",
      input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  ],
  tool_choice: { type: "tool", name: "get_weather" },
});
const use = called.content.find((block) => block.type === "tool_use");
assert.equal(typeof use.input.city, "string");

const counted = await client.messages.countTokens({ model: "tiny", messages });
assert(counted.input_tokens > 0);

const unknown = client.messages.create({ model: "nothing", max_tokens: 5, messages });
await assert.rejects(unknown, Anthropic.NotFoundError);
const wrong = client.messages.create({ model: "tiny", max_tokens: 5, messages: [{ role: "nobody", content: "x" }] });
await assert.rejects(wrong, (error) => error instanceof Anthropic.BadRequestError && /messages\[0\]/.test(error.message));
console.log("ok");
