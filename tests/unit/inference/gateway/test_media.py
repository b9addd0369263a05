"""A request leads no engine to an address of the platform's own network, and says which part would."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput
from inference.core.body import BodyLimits, Task, parse_request

HOSTS = ("images.example.com",)
PICTURE = "data:image/png;base64,AAAA"


def ask(part: object, hosts: tuple[str, ...] = HOSTS, task: Task = "chat") -> None:
    messages = [
        {"role": "system", "content": "look"},
        {"role": "user", "content": [{"type": "text", "text": "at"}, part]},
    ]
    body = {"model": "m", "messages": messages, "input": "text", "prompt": "text"}
    parse_request(task, json.dumps(body).encode(), BodyLimits(media_hosts=hosts))


def image(url: object) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8001/internal/v1/routes",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "file:///etc/passwd",
        "ftp://images.example.com/a.png",
        "http://images.example.com.evil.net/a.png",
        "http://images.example.com@127.0.0.1/a.png",
        "http://127.0.0.1\\@images.example.com/a.png",
        "http://images.example.com\\@127.0.0.1/a.png",
        "http://images.example.com/\\..\\@127.0.0.1/",
        "http:/images.example.com/a.png",
        "//images.example.com/a.png",
        " http://images.example.com/a.png",
        "http://images.example.com\n/a.png",
        "http://imagesXexample.com/a.png",
        "/etc/passwd",
    ],
)
@pytest.mark.parametrize("task", ["chat", "completions", "embeddings"])
def test_a_url_elsewhere_is_refused_by_the_parts_name(url: str, task: Task) -> None:
    with pytest.raises(InvalidInput) as raised:
        ask(image(url), task=task)
    assert raised.value.param == "messages[1].content[1].image_url"
    assert "data: URL" in raised.value.message


@pytest.mark.parametrize("part", ["image_url", "audio_url", "video_url"])
@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("short", [True, False])
def test_each_kind_of_media_is_looked_at(part: str, typed: bool, short: bool) -> None:
    url = "http://10.0.0.1/x"
    value = {part: url if short else {"url": url}, **({"type": part} if typed else {})}
    with pytest.raises(InvalidInput) as raised:
        ask(value)
    assert raised.value.param == f"messages[1].content[1].{part}"


@pytest.mark.parametrize(
    "url",
    [
        PICTURE,
        "DATA:image/png;base64,AAAA",
        "https://images.example.com/a.png?x=1#y",
        "http://IMAGES.example.com:8080",
    ],
)
def test_what_is_allowed_passes(url: str) -> None:
    ask(image(url))


def test_nothing_is_fetched_unless_told() -> None:
    ask(image(PICTURE), ())
    with pytest.raises(InvalidInput, match="nothing is fetched"):
        ask(image("https://images.example.com/a.png"), ())


@given(st.text(max_size=40), st.text(max_size=20))
def test_no_text_around_an_allowed_host_leads_elsewhere(before: str, after: str) -> None:
    url = f"http://{before}127.0.0.1{after}"
    if not before and not after:
        return
    with pytest.raises(InvalidInput):
        ask(image(url))
