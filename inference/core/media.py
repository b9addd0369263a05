"""Where an engine may fetch the images, sounds and videos of a request from.

An engine stands in the platform's own network, so a URL of a tenant would reach what the tenant cannot. The
engine is told the same hosts and follows no redirects; here a request is refused before, by its part's name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NoReturn

from common.errors import InvalidInput
from common.vocabulary import quoted

FETCHED = ("image_url", "audio_url", "video_url", "file_url")
_HOST = re.compile(r"https?://([A-Za-z0-9.-]+)(?::\d{1,5})?(?:[/?#][^\\]*)?", re.IGNORECASE)
"""A URL without a user, a backslash or anything else that one reader takes for another host than the next."""


def check_media(content: Mapping[str, Any], hosts: Collection[str]) -> None:
    """Raise ``InvalidInput`` for a URL that is neither ``data:`` nor on one of ``hosts``."""
    messages = content.get("messages")
    for position, message in enumerate(messages if isinstance(messages, list) else ()):
        parts = message.get("content") if isinstance(message, dict) else None
        for number, part in enumerate(parts if isinstance(parts, list) else ()):
            for name, url in _urls(part):
                if not _is_allowed(url, hosts):
                    _refuse(url, hosts, f"messages[{position}].content[{number}].{name}")


def check_url(url: str, hosts: Collection[str], path: str) -> None:
    """Raise ``InvalidInput`` for a URL that is neither ``data:`` nor on one of ``hosts``."""
    if not _is_allowed(url, hosts):
        _refuse(url, hosts, path)


def check_urls(value: object, path: str, hosts: Collection[str]) -> None:
    """Raise ``InvalidInput`` for such a URL anywhere within a value, however deep it lies."""
    if isinstance(value, dict):
        for name, url in _urls(value):
            check_url(url, hosts, f"{path}.{name}")
        for name, inner in value.items():
            if isinstance(inner, dict | list):
                check_urls(inner, f"{path}.{name}", hosts)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            if isinstance(inner, dict | list):
                check_urls(inner, f"{path}[{position}]", hosts)


def _refuse(url: str, hosts: Collection[str], path: str) -> NoReturn:
    raise InvalidInput(f"{path} is {quoted(url)}; {_advice(hosts)}", "invalid_url", path)


def _urls(part: object) -> Iterator[tuple[str, str]]:
    if isinstance(part, dict):
        for name in FETCHED:
            value = part.get(name)
            url = value.get("url") if isinstance(value, dict) else value
            if isinstance(url, str) and url:
                yield name, url


def _is_allowed(url: str, hosts: Collection[str]) -> bool:
    if url[:5].lower() == "data:":
        return True
    found = _HOST.fullmatch(url)
    return found is not None and found[1].lower() in hosts


def _advice(hosts: Collection[str]) -> str:
    if not hosts:
        return "send the content itself, as a data: URL; nothing is fetched here"
    return f"send the content itself, as a data: URL, or a URL on {', '.join(sorted(hosts)[:10])}"
