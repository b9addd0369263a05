# mypy: ignore-errors
"""Instructor: objects by its usual mode, and by those that name tools and schemas."""

import instructor
from openai import OpenAI
from pydantic import BaseModel


class Person(BaseModel):
    """Who somebody is."""

    name: str
    age: int


asked = [{"role": "user", "content": "Anna is 30 years old."}]
for mode in (None, instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA):
    client = instructor.from_openai(OpenAI(), **({"mode": mode} if mode else {}))
    found = client.create(model="tiny", messages=asked, response_model=Person, max_retries=1, temperature=0)
    assert isinstance(found, Person), (mode, found)
answer = OpenAI().chat.completions.create(model="tiny", messages=asked)
assert answer.choices[0].message.content
print("ok")
