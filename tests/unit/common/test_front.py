"""One rule for paths, HEAD and other origins, whatever a client makes up."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from common.http_server.front import Front

PATHS = st.lists(st.sampled_from(["/", "a", "b%2F", "/v1", "//", "%2f", "."]), max_size=8).map(
    lambda parts: "/" + "".join(parts)
)


async def asked(front_of: list[str], **scope: Any) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """What the application behind saw (None: it was not asked), and what was answered."""
    seen: list[dict[str, Any]] = []
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    whole = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "headers": [], **scope}
    await Front(app, front_of)(whole, receive, send)
    return (seen[0] if seen else None), sent


def decode(path: str) -> str:
    return path.replace("%2F", "/").replace("%2f", "/")


@given(PATHS)
async def test_slashes_at_the_end_change_nothing_but_encoded_ones_are_part_of_a_name(path: str) -> None:
    seen, _ = await asked([], path=decode(path), raw_path=path.encode())
    assert seen is not None
    bare = path.rstrip("/") or "/"
    assert seen["raw_path"] == bare.encode()
    assert seen["path"] == decode(bare)


async def test_head_ends_with_the_headers() -> None:
    seen, sent = await asked([], method="HEAD")
    assert seen is not None
    assert seen["method"] == "GET"
    assert [message.get("body") for message in sent] == [None, b""]


@given(st.binary(max_size=60), st.binary(max_size=60), st.sampled_from([["*"], ["https://a.example"], []]))
async def test_only_named_pages_are_allowed_and_nothing_is_added_to_an_answer(
    origin: bytes, wanted: bytes, allowed: list[str]
) -> None:
    headers = [
        (b"origin", origin),
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", wanted),
    ]
    seen, sent = await asked(allowed, method="OPTIONS", headers=headers)
    told = dict(sent[0]["headers"])
    named = bool(origin) and ("*" in allowed or origin.decode("latin-1") in allowed)
    assert (b"access-control-allow-origin" in told) == named
    assert (seen is None) == (bool(allowed) and bool(origin))
    assert b"access-control-allow-credentials" not in told
    assert not any(byte in value for value in told.values() for byte in b"\r\n\0")
