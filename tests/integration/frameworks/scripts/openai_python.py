# mypy: ignore-errors
"""The official client: chat, stream, a tool by choice and by demand, an object."""

import json

from openai import OpenAI
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
client = OpenAI()
asked = [{"role": "user", "content": "What is the weather in Paris?"}]
chat = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hello."}])
assert chat.choices[0].message.content
stream = client.chat.completions.create(model="tiny", messages=asked, max_tokens=20, stream=True)
assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
    answer = client.chat.completions.create(
        model="tiny", messages=asked, tools=[TOOL], tool_choice=choice, parallel_tool_calls=False
    )
    [call] = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments)["city"], str)
answer = client.chat.completions.create(model="tiny", messages=asked, tools=[TOOL], temperature=0)
call = answer.choices[0].message.tool_calls[0]
assert answer.choices[0].finish_reason == "tool_calls"
assert isinstance(json.loads(call.function.arguments)["city"], str)
last = client.chat.completions.create(
    model="tiny",
    messages=[
        *asked,
        answer.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ],
    tools=[TOOL],
    tool_choice="none",
)
assert last.choices[0].message.content

parsed = client.chat.completions.parse(
    model="tiny", messages=[{"role": "user", "content": "Anna is 30 years old."}], response_format=Person
)
assert isinstance(parsed.choices[0].message.parsed, Person)
plain = client.chat.completions.create(
    model="tiny", messages=asked, response_format={"type": "json_object"}, max_tokens=200
)
assert isinstance(json.loads(plain.choices[0].message.content), dict)
print("ok")
