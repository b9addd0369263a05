"""No engine is told to fetch from anywhere but the hosts that are allowed, by whatever API and part."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput
from inference.core.apis.parsing import parse_body
from inference.core.body import Api, BodyLimits

LIMITS = BodyLimits(media_hosts=("img.example",))
FIELDS = ("image_url", "audio_url", "video_url", "file_url")


def part(field: str, url: str, plain: bool) -> dict[str, Any]:
    return {"type": field, field: url if plain else {"url": url}}


def user(content: Any) -> list[Any]:
    return [{"role": "user", "content": content}]


def _message(field: str, url: str, inside: bool) -> dict[str, Any]:
    image = {"type": "image", "source": {"type": "url", "url": url}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image]}
    return {"messages": user([result if inside else image]), "max_tokens": 1}


def _response(field: str, url: str, plain: bool) -> dict[str, Any]:
    told = {**part(field, url, plain), "type": "input_image"}
    output = {"type": "function_call_output", "call_id": "c", "output": [told]}
    return {"input": [output] if plain else user([told])}


MAKE: dict[Api, Callable[[str, str, bool], dict[str, Any]]] = {
    "chat": lambda *told: {"messages": user([{**part(*told), "type": "image_url"}])},
    "embeddings": lambda *told: {"messages": user([part(*told)]), "input": "x"},
    "messages": _message,
    "count_tokens": _message,
    "responses": _response,
    "tokenize": lambda *told: {"messages": user([{**part(*told), "type": "image_url"}])},
    "rerank": lambda *told: {"query": "q", "documents": [{"content": [part(*told)]}]},
    "score": lambda *told: {"text_1": {"content": [part(*told)]}, "text_2": "x"},
}
_scheme = st.sampled_from(["http://", "https://", "HTTP://", "file://", "ftp://", "//", "", "data"])
_host = st.sampled_from(
    [
        "127.0.0.1",
        "[::1]",
        "localhost",
        "169.254.169.254",
        "2130706433",
        "img.example.evil",
        "evil-img.example",
    ]
)
_odd = st.sampled_from(["", "img.example@", "img.example:80@", "img.example\\@", "img.example%2f@"])
_tail = st.sampled_from(["", "/", "/a.png", ":80/", "?img.example", "#img.example", "\\img.example"])
_urls = st.builds(lambda *parts: "".join(parts), _scheme, _odd, _host, _tail)


@pytest.mark.parametrize("api", MAKE)
@given(_urls, st.sampled_from(FIELDS), st.booleans())
def test_a_url_elsewhere_is_refused(api: Api, url: str, field: str, plain: bool) -> None:
    body = {"model": "m", **MAKE[api](field, url, plain)}
    with pytest.raises(InvalidInput) as refused:
        parse_body(api, json.dumps(body).encode(), LIMITS)
    assert refused.value.code == "invalid_url", refused.value.message


@pytest.mark.parametrize("api", MAKE)
@pytest.mark.parametrize("url", ["https://img.example/a.png", "data:image/png;base64,AAAA"])
def test_what_is_allowed_passes(api: Api, url: str) -> None:
    parse_body(api, json.dumps({"model": "m", **MAKE[api]("image_url", url, True)}).encode(), LIMITS)
