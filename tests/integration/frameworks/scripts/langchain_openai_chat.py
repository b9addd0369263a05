# mypy: ignore-errors
"""LangChain: chat, stream, bound tools, an agent, objects by both methods."""

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Person(BaseModel):
    """Who somebody is."""

    name: str
    age: int


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    called.append(city)
    return "sunny"


called: list[str] = []
model = ChatOpenAI(model="tiny", temperature=0)
assert model.invoke("Hello.").content
assert "".join(part.content for part in model.stream("Hello."))
bound = model.bind_tools([get_weather], tool_choice="get_weather")
assert isinstance(bound.invoke("What is the weather in Paris?").tool_calls[0]["args"]["city"], str)
agent = create_agent(model, [get_weather])
answer = agent.invoke({"messages": [("user", "What is the weather in Paris?")]})
assert called
assert answer["messages"][-1].content
for method in ("json_schema", "function_calling"):
    found = model.with_structured_output(Person, method=method).invoke("Anna is 30 years old.")
    assert isinstance(found, Person), found
print("ok")
