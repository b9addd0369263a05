"""The client of the API server: credentials that are renewed, and errors that are always of one kind."""

import asyncio
from typing import Any

import httpx
import kopf
import pytest

from common.errors import Unavailable
from operators.kube import client
from operators.kube.client import Kube


class Server:
    """Takes the token of now alone; ``raises``: what the connection raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.token, self.logins = "0", 0
        self.raises: Exception | None = None
        self.text: str | None = None
        monkeypatch.setattr(client, "client_of", self.client_of)

    def login(self) -> kopf.ConnectionInfo:
        self.logins += 1
        return kopf.ConnectionInfo(server="http://kube", token=self.token)

    def client_of(self, info: kopf.ConnectionInfo) -> httpx.AsyncClient:
        async def answer(request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0)
            if self.raises is not None:
                raise self.raises
            await asyncio.sleep(0)
            if info.token != self.token:
                return httpx.Response(401, json={"message": "expired"})
            return httpx.Response(200, text=self.text or '{"kind": "x"}')

        return httpx.AsyncClient(base_url=info.server, transport=httpx.MockTransport(answer))


async def test_a_token_is_renewed_once_for_all_who_were_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch)
    kube = Kube(server.login)
    await kube.get("/x")
    monkeypatch.setattr(client, "RENEW_SECONDS", 0.0)
    for token in ("1", "2", "3"):
        server.token = token
        found = await asyncio.gather(*(kube.get(f"/{i}") for i in range(32)), return_exceptions=True)
        assert found == [{"kind": "x"}] * 32
    assert server.logins == 4
    await kube.close()


async def test_credentials_that_are_refused_are_not_read_for_each_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(monkeypatch)
    kube = Kube(server.login)
    await kube.get("/x")
    login, server.token = server.login, "other"

    def stale() -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server="http://kube", token=f"stale-{login().token}")

    kube._login = stale
    for _ in range(20):
        with pytest.raises(Unavailable, match="expired"):
            await kube.get("/x")
    assert server.logins <= 2


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("away"), httpx.InvalidURL("no"), RuntimeError("the client has been closed"), None],
)
async def test_whatever_breaks_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    server: Any = Server(monkeypatch)
    server.raises, server.text = error, "<html>"
    with pytest.raises(Unavailable, match="Kubernetes: "):
        await Kube(server.login).get("/x")
