"""Where control is asked: at one of its addresses for as long as that answers, else at the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from common.settings import Settings


class ControlAddresses:
    """Any control process will do: one that does not lead passes on what is not its to answer."""

    def __init__(self, settings: Settings) -> None:
        self._urls = settings.control_urls
        self._at = 0

    def __len__(self) -> int:
        return len(self._urls)

    @property
    def url(self) -> str:
        """The address to ask now."""
        return self._urls[self._at]

    @contextmanager
    def asking(self, path: str) -> Iterator[str]:
        """The URL of a path; where what is asked there fails in aiohttp's way, the next address is tried the
        next time."""
        url = self.url
        try:
            yield f"{url}{path}"
        except (aiohttp.ClientError, OSError):
            self.pass_over(url)
            raise

    def pass_over(self, url: str) -> None:
        """This one did not answer; another may have moved on from it already."""
        if url == self.url:
            self._at = (self._at + 1) % len(self._urls)


def trusted_url(settings: Settings) -> str:
    """The address that says whom to trust: one of another machine, where there is one, so that the
    authorities count and not only this machine's own certificate."""
    return next((url for url in settings.control_urls if url != settings.control_url), settings.control_url)
