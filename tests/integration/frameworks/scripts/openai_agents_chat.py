# mypy: ignore-errors
"""OpenAI Agents, with its model class for chat completions: chat, a tool, an object."""

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


called: list[str] = []


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    called.append(city)
    return "sunny"


set_tracing_disabled(True)
model = OpenAIChatCompletionsModel(model="tiny", openai_client=AsyncOpenAI())
usual = {"name": "a", "model": model, "model_settings": ModelSettings(temperature=0)}
assert Runner.run_sync(Agent(**usual), "Hello.").final_output
assert Runner.run_sync(Agent(tools=[get_weather], **usual), "What is the weather in Paris?").final_output
assert called
found = Runner.run_sync(Agent(output_type=Person, **usual), "Anna is 30 years old.").final_output
assert isinstance(found, Person), found
print("ok")
