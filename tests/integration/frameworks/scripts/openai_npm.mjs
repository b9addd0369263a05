// The official client of npm: chat, stream, a tool that it runs itself, an object, errors.
import assert from "node:assert";
import OpenAI from "openai";

const client = new OpenAI();
const asked = [{ role: "user", content: "What is the weather in Paris?" }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const chat = await client.chat.completions.create({ model: "tiny", messages: asked, max_tokens: 20, temperature: 0 });
assert(chat.choices[0].message.content);
let said = "";
const stream = await client.chat.completions.create({ model: "tiny", messages: asked, stream: true, temperature: 0 });
for await (const chunk of stream) said += chunk.choices[0]?.delta.content ?? "";
assert(said);
let called;
const runner = client.chat.completions.runTools({
  model: "tiny",
  messages: asked,
  temperature: 0,
  tools: [
    {
      type: "function",
      function: { name: "get_weather", parameters, parse: JSON.parse, function: (given) => ((called = given), "sunny") },
    },
  ],
});
assert(await runner.finalContent());
assert.equal(typeof called.city, "string");
const schema = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
};
const object = await client.chat.completions.parse({
  model: "tiny",
  messages: [{ role: "user", content: "Anna is 30 years old." }],
  response_format: { type: "json_schema", json_schema: { name: "person", strict: true, schema } },
});
assert.equal(typeof object.choices[0].message.parsed.age, "number");
const wrong = client.chat.completions.create({ model: "tiny", messages: asked, top_p: 7 });
await assert.rejects(wrong, (error) => error instanceof OpenAI.BadRequestError && error.param === "top_p");
const unknown = client.chat.completions.create({ model: "nothing", messages: asked });
await assert.rejects(unknown, OpenAI.NotFoundError);
console.log("ok");
