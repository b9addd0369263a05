# mypy: ignore-errors
"""Pydantic AI: an agent that chats, one with a tool, objects by tool and by schema."""

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel


class Person(BaseModel):
    """Who somebody is."""

    name: str
    age: int


called: list[str] = []
model = OpenAIChatModel("tiny", settings={"temperature": 0})
assert Agent(model).run_sync("Hello.").output
agent = Agent(model)


@agent.tool_plain
def get_weather(city: str) -> str:
    """The weather in a city."""
    called.append(city)
    return "sunny"


assert agent.run_sync("What is the weather in Paris?").output
assert called
for wanted in (Person, NativeOutput(Person)):
    found = Agent(model, output_type=wanted).run_sync("Anna is 30 years old.").output
    assert isinstance(found, Person), found
print("ok")
