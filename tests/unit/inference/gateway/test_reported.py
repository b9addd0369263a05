"""What a request says for reports: taken as OpenAI's fields say it, refused where they could not be that."""

import json
from typing import Any

import pytest

from common.errors import InvalidInput
from inference.core.body import Task, parse_request

BODIES: dict[Task, dict[str, Any]] = {
    "chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "completions": {"model": "m", "prompt": "hi"},
    "embeddings": {"model": "m", "input": "hi"},
}


def told(task: Task = "chat", **said: Any) -> tuple[str, dict[str, str]]:
    request = parse_request(task, json.dumps({**BODIES[task], **said}).encode())
    return request.user, dict(request.tags)


@pytest.mark.parametrize("task", BODIES)
def test_every_task_takes_a_user_and_tags(task: Task) -> None:
    tags = {"team": "search", "工作": "写作"}
    assert told(task, user="ann", metadata=tags) == ("ann", tags)
    assert told(task) == told(task, user=None, metadata=None) == told(task, metadata={}) == ("", {})


def test_the_newer_name_of_a_user_counts_where_the_older_is_missing() -> None:
    assert told(safety_identifier="h-1")[0] == "h-1"
    assert told(safety_identifier="h-1", user="ann")[0] == "ann"


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"user": 5}, "user"),
        ({"safety_identifier": ["x"]}, "safety_identifier"),
        ({"metadata": "team"}, "metadata"),
        ({"metadata": {"team": 5}}, "metadata.team"),
        ({"metadata": {"team": None}}, "metadata.team"),
        ({"metadata": {"team": {"a": "b"}}}, "metadata.team"),
        ({"metadata": {"team": "x" * 513}}, "metadata.team"),
        ({"metadata": {"x" * 65: "y"}}, "metadata"),
        ({"metadata": {"te\u202eam": "y"}}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
    ],
)
def test_what_are_no_such_fields_is_refused_by_name(said: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        told(**said)
    assert refused.value.param == param
    assert len(refused.value.message) < 200


def test_what_a_report_has_no_room_for_is_served_all_the_same() -> None:
    assert told(metadata={"a": "x" * 512, "b": "y" * 512}) == ("", {"a": "x" * 512})
    assert told(metadata={"a": "x" * 512}, user="y" * 256) == ("y" * 256, {})
    for user in ("\U00020000" * 200, "a\x1b[31m", "x" * 257):
        assert told(user=user)[0].startswith("sha256:")
