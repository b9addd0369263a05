"""Keys of providers: files of a folder that gateways read, and nobody else has to.

A key has no other way in: it is in no resource, no answer and no log.
"""

from __future__ import annotations

from pathlib import Path

from common.errors import Unavailable
from common.telemetry import get_logger

_KEY_BYTES = 4096
_log = get_logger("gateway.provider_keys")


class ProviderKeys:
    """``folder`` has a file for each, of that name. One that is written anew counts from then on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int], str]] = {}

    def key_of(self, name: str) -> str:
        """The key of that name; empty where there is no name. Raises ``Unavailable`` where there is none."""
        if not name:
            return ""
        path = self._folder / name
        try:
            status = path.stat()
            stamp = status.st_mtime_ns, status.st_size
            known = self._known.get(name)
            if known is None or known[0] != stamp:
                known = self._known[name] = stamp, _read(path)
        except (OSError, ValueError) as error:
            _log.error("a provider's key cannot be read", secret=name, error=type(error).__name__)
            message = f"the gateway has no key of the name {name}; an administrator has to look"
            raise Unavailable(message) from None
        return known[1]


def _read(path: Path) -> str:
    with path.open("rb") as file:
        key = file.read(_KEY_BYTES + 1).strip().decode("ascii")
    if not key or len(key) > _KEY_BYTES or not key.isprintable():
        raise ValueError("no key")
    return key
