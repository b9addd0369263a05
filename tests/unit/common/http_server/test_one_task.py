"""Direct answers of a connection have one task, which keeps nothing and holds nobody up."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable

from common.http_server.request import Request
from tests.fixtures.talk import Talk

ASK = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


class Handler:
    """Answers one request; ``lingers``: goes on after the answer until it is set."""

    def __init__(self, tasks: list[object], lingers: asyncio.Event | None) -> None:
        self._tasks, self._lingers = tasks, lingers

    async def __call__(self, request: Request) -> None:
        self._tasks.append(asyncio.current_task())
        request.answer(200, b"", b"ok")
        if self._lingers is not None:
            await self._lingers.wait()


def directly(
    tasks: list[object], made: list["weakref.ref[Handler]"], lingers: asyncio.Event | None = None
) -> Callable[[Request], Callable[[Request], Awaitable[None]]]:
    def handler(_: Request) -> Handler:
        one = Handler(tasks, lingers)
        made.append(weakref.ref(one))
        return one

    return handler


async def test_requests_that_come_one_after_the_other_have_one_task_which_keeps_none() -> None:
    tasks, made = list[object](), list["weakref.ref[Handler]"]()
    talk = Talk(direct=directly(tasks, made))
    for _ in range(3):
        await talk.say(ASK)
    assert talk.statuses == [200, 200, 200]
    assert len(tasks) == 3
    assert len(set(tasks)) == 1
    assert [one() for one in made] == [None, None, None]
    await talk.leave()


async def test_what_goes_on_after_its_answer_holds_up_no_other_request() -> None:
    tasks, lingers = list[object](), asyncio.Event()
    talk = Talk(direct=directly(tasks, [], lingers))
    await talk.say(ASK + ASK, ASK)
    assert talk.statuses == [200, 200, 200]
    assert len(set(tasks)) == 3
    lingers.set()
    await talk.say(ASK)
    assert talk.statuses == [200] * 4
    await talk.leave()


async def test_requests_that_come_together_are_answered_in_order() -> None:
    tasks = list[object]()
    talk = Talk(direct=directly(tasks, []))
    await talk.say(ASK * 5)
    assert talk.statuses == [200] * 5
    await talk.leave()
