// The AI SDK of npm: chat, stream, a tool that it runs itself, an object, errors.
import assert from "node:assert";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const provider = createOpenAICompatible({
  name: "computility",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const model = provider("tiny");
const prompt = "What is the weather in Paris?";

const chat = await generateText({ model, prompt, maxOutputTokens: 20, temperature: 0 });
assert(chat.text);
assert(chat.usage.outputTokens > 0);

const stream = streamText({ model, prompt, maxOutputTokens: 20, temperature: 0 });
let said = "";
for await (const part of stream.textStream) said += part;
assert(said);
assert((await stream.usage).outputTokens > 0);

let called;
const weather = tool({
  description: "The weather in a city",
  inputSchema: z.object({ city: z.string() }),
  execute: async (given) => ((called = given), "sunny"),
});
const agent = await generateText({
  model,
  prompt,
  tools: { weather },
  toolChoice: "required",
  stopWhen: stepCountIs(1),
  temperature: 0,
});
assert.equal(typeof called.city, "string");
assert.equal(agent.toolResults[0].output, "sunny");

const person = z.object({ name: z.string(), age: z.number().int() });
const found = await generateText({ model, prompt: "Anna is 30 years old.", output: Output.object({ schema: person }) });
assert.equal(typeof found.output.age, "number");

const unknown = generateText({ model: provider("nothing"), prompt, maxRetries: 0 });
await assert.rejects(unknown, (error) => APICallError.isInstance(error) && error.statusCode === 404);
const wrong = generateText({ model, prompt, maxRetries: 0, providerOptions: { computility: { top_p: 7 } } });
await assert.rejects(wrong, (error) => error.statusCode === 400 && /top_p/.test(error.message));
console.log("ok");
