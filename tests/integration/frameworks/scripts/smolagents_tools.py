# mypy: ignore-errors
"""smolagents: its model class chats and answers by schema; an agent calls its tool."""

import json
import os

from smolagents import OpenAIServerModel, ToolCallingAgent, tool

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
called: list[str] = []


@tool
def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: its name
    """
    called.append(city)
    return "sunny"


model = OpenAIServerModel(
    model_id="tiny",
    api_base=os.environ["OPENAI_BASE_URL"],
    api_key=os.environ["OPENAI_API_KEY"],
    temperature=0,
    max_tokens=200,
)
asked = [{"role": "user", "content": [{"type": "text", "text": "Anna is 30 years old."}]}]
assert model.generate(asked).content
wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
found = json.loads(model.generate(asked, response_format=wanted).content)
assert isinstance(found["age"], int)
message = model.generate(
    [{"role": "user", "content": [{"type": "text", "text": "What is the weather in Paris?"}]}],
    tools_to_call_from=[get_weather],
)
assert isinstance(json.loads(message.tool_calls[0].function.arguments)["city"], str)
agent = ToolCallingAgent(tools=[get_weather], model=model, max_steps=2, verbosity_level=0)
agent.prompt_templates["system_prompt"] = "You call tools."
assert agent.run("What is the weather in Paris?") is not None
print("ok")
