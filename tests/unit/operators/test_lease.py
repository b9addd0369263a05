"""The Lease by which one operator leads."""

from typing import Any

import pytest

from common.clock import VirtualClock
from common.errors import Conflict, NotFound
from common.leadership.rules import Candidate, Lease
from operators.kube.lease import KubeLease


class Server:
    """One Lease, with versions as the API server has them."""

    def __init__(self) -> None:
        self.body: dict[str, Any] | None = None
        self.version = 0

    async def get(self, path: str) -> dict[str, Any]:
        if self.body is None:
            raise NotFound(path)
        return self.body

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.body is not None:
            raise Conflict(path)
        return self._keep(body)

    async def replace(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if body["metadata"].get("resourceVersion") != str(self.version):
            raise Conflict(path)
        return self._keep(body)

    def _keep(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        self.body = {**body, "metadata": metadata}
        return self.body


def lease_of(server: Server) -> KubeLease:
    return KubeLease(server, "ns", "operator", 15.0, VirtualClock())  # type: ignore[arg-type]


def me(run: str) -> Candidate:
    return Candidate("host:1", run, "http://host")


async def test_one_takes_it_renews_it_and_gives_it_back() -> None:
    server = Server()
    first = lease_of(server)
    seen = await first.read()
    assert seen == Lease()
    taken = await first.take(seen, me("a"))
    assert taken is not None
    assert (taken.epoch, taken.holder) == (1, "host:1/a")
    renewed = await first.renew(taken)
    assert renewed is not None
    assert renewed.beat == 1
    assert server.body is not None
    assert server.body["spec"]["renewTime"] == "2023-11-14T22:13:20.000000Z"
    assert server.body["spec"]["leaseDurationSeconds"] == 15
    await first.release(renewed)
    assert (await first.read()).holder == ""


@pytest.mark.parametrize("is_new", [True, False])
async def test_of_two_that_saw_the_same_one_takes_it(is_new: bool) -> None:
    server = Server()
    if not is_new:
        await lease_of(server).take(Lease(), me("old"))
    first, second = lease_of(server), lease_of(server)
    seen = [await first.read(), await second.read()]
    assert await first.take(seen[0], me("a")) is not None
    assert await second.take(seen[1], me("b")) is None


async def test_who_lost_it_neither_renews_nor_gives_it_back() -> None:
    server = Server()
    first, second = lease_of(server), lease_of(server)
    held = await first.take(await first.read(), me("a"))
    assert held is not None
    assert await second.take(await second.read(), me("b")) is not None
    assert await first.renew(held) is None
    await first.release(held)
    assert (await second.read()).holder == "host:1/b"


async def test_a_renewal_that_meets_another_write_is_no_loss() -> None:
    server = Server()
    first = lease_of(server)
    held = await first.take(await first.read(), me("a"))
    assert held is not None

    class Late(Server):
        async def replace(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            raise Conflict(path)

    late = Late()
    late.body, late.version = server.body, server.version
    assert await lease_of(late).renew(held) == held
