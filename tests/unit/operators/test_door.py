"""Who is let in to the webhook: so many at a time, and none with more than an AdmissionReview can have."""

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from common.errors import SetupError
from operators.webhook import MAX_BODY_BYTES, Door, Webhook, ask_for_certificates
from tests.fixtures.certificates import make_certificate

REVIEW = {"request": {"uid": "r", "operation": "CREATE"}}


class Judge:
    """Counts who is judged at the same time; answers when let go."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.free = asyncio.Event()

    async def review(self, review: dict[str, Any]) -> dict[str, Any]:
        self.now += 1
        self.most = max(self.most, self.now)
        await self.free.wait()
        self.now -= 1
        return {"response": {"uid": review["request"]["uid"], "allowed": True}}


class Asked:
    def __init__(self, content: Any, length: int | None = None) -> None:
        self.content_length, self._content, self.reads = length, content, 0

    async def json(self) -> Any:
        self.reads += 1
        return json.loads(self._content) if isinstance(self._content, str) else self._content


def door(judge: Judge, most: int = 2, seconds: float = 0.0) -> Door:
    return Door(cast(Webhook, judge), seconds, most)


async def ask(at: Door, asked: Asked) -> web.Response:
    return await at.validate(cast(web.Request, asked))


async def test_so_many_are_judged_at_a_time_and_no_more_are_read() -> None:
    judge = Judge()
    at, asked = door(judge), [Asked(REVIEW) for _ in range(5)]
    tasks = [asyncio.create_task(ask(at, one)) for one in asked]
    while sum(task.done() for task in tasks) < 3:
        await asyncio.sleep(0)
    judge.free.set()
    statuses = sorted([(await task).status for task in tasks])
    assert statuses == [200, 200, 503, 503, 503]
    assert judge.most == 2
    assert sum(one.reads for one in asked) == 2
    assert (await ask(at, Asked(REVIEW))).status == 200


@pytest.mark.parametrize(
    ("content", "length", "want"),
    [
        (REVIEW, MAX_BODY_BYTES, 200),
        (REVIEW, MAX_BODY_BYTES + 1, 413),
        ("{", None, 400),
        ("[" * 100_000, None, 400),
        ([], None, 400),
        ({}, None, 400),
        ({"request": {"uid": "r"}}, None, 400),
    ],
)
async def test_what_is_no_review_is_refused_and_holds_no_place(
    content: Any, length: int | None, want: int
) -> None:
    judge = Judge()
    judge.free.set()
    at = door(judge, most=1, seconds=1.0)
    for _ in range(3):
        assert (await ask(at, Asked(content, length))).status == want


def test_who_asks_needs_a_certificate_where_an_authority_is_named(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(SetupError, match="webhook_client_ca_file"):
        ask_for_certificates(context, str(tmp_path / "missing"))
    assert context.verify_mode == ssl.CERT_NONE
    made = make_certificate(tmp_path)
    ask_for_certificates(context, made["tls_certificate_file"])
    assert context.verify_mode == ssl.CERT_REQUIRED
