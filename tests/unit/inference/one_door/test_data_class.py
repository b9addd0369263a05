"""The class of a request's data, however it is told."""

from pathlib import Path
from typing import Any

import pytest

from inference.gateway.one_door.explaining import explain_route
from tests.fixtures.doors import PROJECT, door, doors, external
from tests.unit.inference.gateway.front_scene import ASK, front_scene
from tests.unit.inference.gateway.test_messages_api import ASK as MESSAGE

LONG = {"a": "x" * 500, "b": "y" * 500}
"""More than a report has room for."""
AWAY = external("away", "https://127.0.0.1/v1")


@pytest.mark.parametrize("model", ["away", "smart"])
@pytest.mark.parametrize(
    ("members", "headers"),
    [
        ({"metadata": {**LONG, "data_class": "regulated"}}, {}),
        ({"metadata": {"data_class": "regulated"}, "user": "ü" * 256}, {}),
        ({}, {"X_Computility_Data_Class": "regulated", "x_computility_data_class": "public"}),
        ({}, {"x_computility_data_class": "public, regulated"}),
        ({"metadata": {"data_class": "public"}}, {"x_computility_data_class": "Regulated"}),
    ],
)
async def test_the_highest_class_counts_wherever_it_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    members: dict[str, Any],
    headers: dict[str, Any],
) -> None:
    async with front_scene(tmp_path, monkeypatch) as front:
        front.tell(doors(AWAY, door("smart", "away")))
        answer = await front.ask({**ASK, **members, "model": model}, **headers)
    assert (answer.status, answer.json["error"]["code"]) == (403, "data_class_not_allowed")


async def test_the_metadata_of_a_message_tell_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"user_id": "u", **LONG, "data_class": "regulated"}
    async with front_scene(tmp_path, monkeypatch) as front:
        front.tell(doors(external("away", "https://127.0.0.1/v1", protocol="anthropic")))
        answer = await front.ask({**MESSAGE, "metadata": told, "model": "away"}, "/v1/messages")
    assert (answer.status, answer.json["error"]["code"]) == (403, "data_class_not_allowed")


def test_it_is_explained_as_gateways_see_it() -> None:
    asked = {"messages": ASK["messages"], "metadata": {**LONG, "data_class": "regulated"}}
    told = explain_route(doors(AWAY, door("smart", "away")), PROJECT, "smart", asked, None, 0)
    assert (told.data_class, told.asked, told.refused[0].reason) == ("regulated", [], "data_class")
