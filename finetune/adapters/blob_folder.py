"""Content-addressed files in a folder: each appears complete, under the SHA-256 of its bytes.

A blob is *unsettled* while it is being made or removed together with what names it: whoever was killed in
between leaves a mark, by which the next one knows what to look at.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from common.durable import put_in_place
from common.errors import NotFound
from finetune.adapters.incoming import Incoming

_SHA256 = re.compile(r"[0-9a-f]{64}")


class BlobFolder:
    """The layout ``<folder>/<first two digits>/<sha256>``. All methods do blocking file I/O."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = Incoming(folder / "incoming")

    def path(self, sha256: str) -> Path:
        """Where the bytes lie. Raises ``NotFound``."""
        found = self.place(sha256)
        if not found.is_file():
            raise NotFound("the content of the file is gone from storage", code="file_content_missing")
        return found

    def place(self, sha256: str) -> Path:
        """Where the bytes lie or would lie."""
        if not _SHA256.fullmatch(sha256):
            raise NotFound("the file has no stored content", code="file_content_missing")
        return self.folder / sha256[:2] / sha256

    def temporary(self) -> Path:
        """A fresh, empty file in the same file system."""
        return self._incoming.temporary()

    def unsettle(self, sha256: str) -> None:
        """Mark a blob that is about to come or to go."""
        mark = self._mark(sha256)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()

    def settle(self, sha256: str) -> None:
        """Take the mark away: what names the blob, and the blob, are both there or both gone."""
        self._mark(sha256).unlink(missing_ok=True)

    def unsettled(self) -> list[str]:
        """The digests of all marked blobs."""
        return sorted(
            path.name for path in (self.folder / "unsettled").glob("*") if _SHA256.fullmatch(path.name)
        )

    def _mark(self, sha256: str) -> Path:
        return self.folder / "unsettled" / self.place(sha256).name

    def remove_leftovers(self) -> None:
        """Delete temporary files of processes that are gone."""
        self._incoming.remove_leftovers()

    def adopt(self, temporary: Path, sha256: str) -> Path:
        """Move a temporary file to its place, on disk when this returns."""
        place = self.place(sha256)
        put_in_place(temporary, place)
        return place

    def put(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Keep bytes; returns their SHA-256 and count."""
        temporary, state, size = self.temporary(), hashlib.sha256(), 0
        try:
            with temporary.open("wb") as stream:
                for chunk in chunks:
                    stream.write(chunk)
                    state.update(chunk)
                    size += len(chunk)
            self.adopt(temporary, state.hexdigest())
        finally:
            temporary.unlink(missing_ok=True)
        return state.hexdigest(), size
