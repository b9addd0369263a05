"""The first bytes of a stream, kept until something of the answer is among them."""

from __future__ import annotations

from collections.abc import Callable

from inference.core.sse import without_comments

_LONGEST_NAME_BYTES = 256
"""No line with an event's name is longer."""


class Beginning:
    """Takes time linear in what comes. ``has_only_begun``: see ``Wire``. ``is_over`` is True once something
    was made."""

    def __init__(self, has_only_begun: Callable[[bytes], bool]) -> None:
        self._has_only_begun = has_only_begun
        self._held = bytearray()
        self._seen_bytes = 0
        self.is_over = False

    @property
    def content(self) -> bytes:
        """All that came but the comments at its beginning."""
        return bytes(self._held)

    @property
    def size_bytes(self) -> int:
        """How much that is."""
        return len(self._held)

    def add(self, data: bytes) -> bytes:
        """More has come. Returns the comments that end in it and are all that came before."""
        self._held += data
        comments = b""
        if self._held.startswith((b":", b"\n")):
            comments, rest = without_comments(self.content)
            self._held, self._seen_bytes = bytearray(rest), 0
        news = bytes(self._held[self._seen_bytes :])
        self.is_over = not (self._held.startswith(b":") or self._has_only_begun(news))
        self._seen_bytes = max(0, len(self._held) - _LONGEST_NAME_BYTES)
        return comments
