# mypy: ignore-errors
"""LiteLLM: chat, stream, a tool, an object, by both of its providers."""

import json
import os

import litellm
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
where = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"], "temperature": 0}
asked = [{"role": "user", "content": "What is the weather in Paris?"}]
for provider in ("openai", "hosted_vllm"):
    named = {"model": f"{provider}/tiny", **where}
    assert litellm.completion(messages=asked, **named).choices[0].message.content
    stream = litellm.completion(messages=asked, stream=True, **named)
    assert "".join(part.choices[0].delta.content or "" for part in stream)
    for choice in ("auto", "required"):
        answer = litellm.completion(messages=asked, tools=[TOOL], tool_choice=choice, **named)
        call = answer.choices[0].message.tool_calls[0].function
        assert isinstance(json.loads(call.arguments)["city"], str)
    found = litellm.completion(messages=asked, response_format=Person, **named)
    Person.model_validate_json(found.choices[0].message.content)
print("ok")
