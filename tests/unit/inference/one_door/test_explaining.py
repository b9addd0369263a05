"""Whom a Route would ask, without asking anybody."""

import pytest

from common.errors import InvalidInput, NotFound
from common.wire import RouteData
from inference.gateway.one_door.explaining import explain_route
from tests.fixtures.doors import PROJECT, door, doors, external, own

TABLE = doors(
    own("small", "http://a"),
    external("away", "https://b/v1"),
    door("smart", "small", "away", "gone"),
    data={PROJECT: RouteData(regions=("eu",))},
)


def test_it_says_who_is_asked_and_why_the_others_are_not() -> None:
    told = explain_route(TABLE, PROJECT, "smart", None, None, 0)
    assert [(one.model, one.engines) for one in told.asked] == [("small", 1), ("away", None)]
    assert [(one.model, one.reason) for one in told.refused] == [("gone", "unknown")]
    assert (told.data_class, told.regions) == ("internal", ["eu"])
    told = explain_route(TABLE, PROJECT, "smart", {"prompt": "x"}, "regulated", 0)
    assert [(one.model, one.reason) for one in told.refused] == [("away", "data_class"), ("gone", "unknown")]


def test_what_cannot_be_explained() -> None:
    with pytest.raises(NotFound):
        explain_route(TABLE, PROJECT, "small", None, None, 0)
    with pytest.raises(InvalidInput):
        explain_route(TABLE, PROJECT, "smart", {}, None, 0)
