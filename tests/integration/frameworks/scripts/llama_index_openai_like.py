# mypy: ignore-errors
"""LlamaIndex: chat, stream, a tool, an object."""

import os

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class Person(BaseModel):
    """Who somebody is."""

    name: str
    age: int


def get_weather(city: str) -> str:
    """The weather in a city."""
    return "sunny"


model = OpenAILike(
    model="tiny",
    api_base=os.environ["OPENAI_BASE_URL"],
    api_key=os.environ["OPENAI_API_KEY"],
    is_chat_model=True,
    is_function_calling_model=True,
    should_use_structured_outputs=True,
    context_window=2048,
    temperature=0,
)
assert model.chat([ChatMessage(role="user", content="Hello.")]).message.content
assert [part.delta for part in model.stream_chat([ChatMessage(role="user", content="Hello.")])]
answer = model.predict_and_call(
    [FunctionTool.from_defaults(fn=get_weather)], user_msg="What is the weather in Paris?"
)
assert "sunny" in str(answer)
found = model.as_structured_llm(Person).chat([ChatMessage(role="user", content="Anna is 30 years old.")])
assert isinstance(found.raw, Person), found
print("ok")
