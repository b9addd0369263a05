"""Documents that are applied at the same time go together, and each gets its own answer."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from common.errors import Conflict, InvalidInput, Unavailable
from operators.control.together import MOST, Together, refused_index


class Control:
    """Takes documents all or none; those with a ``wrong`` are refused."""

    def __init__(self, *, says_which: bool = True) -> None:
        self.requests: list[list[str]] = []
        self.stored: set[str] = set()
        self.says_which = says_which
        self.away = False

    async def send(self, documents: Sequence[Mapping[str, Any]], acts_as: str | None) -> list[dict[str, Any]]:
        self.requests.append([document["name"] for document in documents])
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("away")
        for index, document in enumerate(documents):
            if "wrong" in document:
                if not self.says_which:
                    raise Conflict("taken")
                path = f"[{index}].spec" if len(documents) > 1 else "spec"
                raise InvalidInput(f"{path}: wrong", param=path)
        self.stored |= {document["name"] for document in documents}
        return [{"outcome": "created", "resource": document} for document in documents]


def documents(count: int, *wrong: int) -> list[dict[str, Any]]:
    return [{"name": str(i), **({"wrong": True} if i in wrong else {})} for i in range(count)]


async def apply_all(control: Control, given: list[dict[str, Any]]) -> list[Any]:
    together = Together(control.send)
    return await asyncio.gather(*(together.apply(one, "r") for one in given), return_exceptions=True)


async def test_many_go_in_few_requests() -> None:
    control = Control()
    given = documents(MOST + 7)
    answers = await apply_all(control, given)
    assert [answer["resource"] for answer in answers] == given
    assert [len(request) for request in control.requests] == [MOST, 7]


@pytest.mark.parametrize("says_which", [True, False])
@pytest.mark.parametrize("wrong", [(0,), (3, 7), (9,), tuple(range(10))])
async def test_who_is_refused_holds_up_no_other(says_which: bool, wrong: tuple[int, ...]) -> None:
    control = Control(says_which=says_which)
    answers = await apply_all(control, documents(10, *wrong))
    assert {i for i, answer in enumerate(answers) if isinstance(answer, Exception)} == set(wrong)
    assert control.stored == {str(i) for i in range(10) if i not in wrong}
    if says_which:
        assert {str(answers[i]) for i in wrong} == {"spec: wrong"}


async def test_roles_are_not_mixed_and_all_are_told_that_control_is_away() -> None:
    control = Control()
    together = Together(control.send)
    await asyncio.gather(together.apply({"name": "a"}, "x"), together.apply({"name": "b"}, None))
    assert sorted(map(len, control.requests)) == [1, 1]
    control.away, control.requests = True, []
    answers = await apply_all(control, documents(5))
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert len(control.requests) == 1


async def test_who_gives_up_waiting_harms_nobody() -> None:
    control = Control()
    together = Together(control.send)
    first = asyncio.create_task(together.apply({"name": "a"}, None))
    second = asyncio.create_task(together.apply({"name": "b"}, None))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)["resource"]["name"] == "b"
    assert (await together.apply({"name": "c"}, None))["resource"]["name"] == "c"


def test_which_one_it_was() -> None:
    assert refused_index(InvalidInput("x", param="[3].spec"), 5) == 3
    assert refused_index(InvalidInput("x", param="[7].spec"), 5) is None
    assert refused_index(InvalidInput("x", param="spec"), 5) is None
    assert refused_index(Conflict("x", param="[3]"), 5) is None
