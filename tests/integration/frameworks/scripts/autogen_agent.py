# mypy: ignore-errors
"""AutoGen: an agent that chats, one with a tool, an object."""

import asyncio

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ModelInfo, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


called: list[str] = []


async def get_weather(city: str) -> str:
    """The weather in a city."""
    called.append(city)
    return "sunny"


async def main() -> None:
    able = ModelInfo(
        vision=False, function_calling=True, json_output=True, structured_output=True, family="unknown"
    )
    model = OpenAIChatCompletionClient(model="tiny", model_info=able, temperature=0)
    answer = await AssistantAgent("a", model).run(task="Hello.")
    assert answer.messages[-1].content
    agent = AssistantAgent("a", model, tools=[get_weather], system_message=None)
    answer = await agent.run(task="What is the weather in Paris?")
    assert answer.messages[-1].content
    assert called
    asked = [UserMessage(content="Anna is 30 years old.", source="user")]
    found = await model.create(asked, json_output=Person)
    assert isinstance(Person.model_validate_json(found.content), Person)
    await model.close()


asyncio.run(main())
print("ok")
