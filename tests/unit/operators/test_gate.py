"""Whoever leads no longer writes nothing, neither here nor there."""

from typing import Any

import httpx
import kopf
import pytest

from common.errors import Unavailable
from operators.control.link import ControlLink
from operators.kube.client import Kube


def key() -> str:
    return "k"


KUBE = {
    "create": ("/x", {}),
    "replace": ("/x", {}),
    "delete": ("/x",),
    "merge": ("/x", {}),
    "apply_status": ({"kind": "Model", "metadata": {"name": "m", "namespace": "n", "uid": "u"}}, {}),
}
LINK: dict[str, tuple[Any, ...]] = {
    "apply": ({},),
    "delete": ("models", "m"),
    "make_key": ({}, "member/p"),
    "revoke_key": ("k",),
    "upload": ("f", b"", "p", None, "once"),
    "delete_file": ("f", "p", None),
    "create_job": ({}, "p", None, "once"),
    "cancel_job": ("j", "p", None),
}


@pytest.mark.parametrize("method", KUBE)
async def test_kubernetes_is_not_written_to(method: str) -> None:
    kube = Kube(lambda: kopf.ConnectionInfo(server="http://127.0.0.1:9"), lambda: False)
    with pytest.raises(Unavailable, match="leads no longer"):
        await getattr(kube, method)(*KUBE[method])


@pytest.mark.parametrize("method", LINK)
async def test_control_is_not_written_to(method: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        return httpx.Response(200, json={"items": [], "revision": 1})

    link = ControlLink(["http://c"], key, transport=httpx.MockTransport(answer), may_write=lambda: False)
    with pytest.raises(Unavailable, match="leads no longer"):
        await getattr(link, method)(*LINK[method])
    await link.list_all("models")
    await link.close()
    assert asked == ["GET"]
