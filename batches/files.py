"""The files that a batch leaves: answers, and what failed. Each line is in one of them, once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from batches.core.answer import failed, result_line
from batches.core.line import read_request
from batches.requests import lines_of, result_id
from common.errors import NotFound
from common.ids import derived_id
from common.resources import Batch, File
from common.resources.batches import OUTPUT_PURPOSE
from common.settings.batches import BatchSettings
from common.store.batch_lines import BatchLines
from finetune.files.file_service import FileService

PIECE_BYTES = 256 * 1024
_WHY_UNDONE: Mapping[str, tuple[str, str]] = {
    "expired": ("batch_expired", "the batch's completion_window was over before this line was done"),
    "cancelled": ("batch_cancelled", "the batch was cancelled before this line was done"),
    "completed": ("line_not_done", "this line was not done"),
}


class ResultFiles:
    """Writes the files of batches that are about to end. Doing it again makes the same files, no others."""

    def __init__(self, files: FileService, lines: BatchLines, settings: BatchSettings) -> None:
        self._files, self._lines, self._settings = files, lines, settings

    async def write(self, batch: Batch) -> tuple[str, str]:
        """The names of the files of answers and of errors; empty where there is none."""
        answers = await self._made(batch, "output", self._kept(batch, is_good=True))
        return answers, await self._made(batch, "errors", self._failed(batch))

    async def undone(self, batch: Batch) -> int:
        """How many lines have no outcome, and will have none."""
        return max(0, batch.status.total - (await self._lines.totals(batch.metadata.uid)).lines)

    async def _made(self, batch: Batch, what: str, lines: AsyncIterator[str]) -> str:
        name = derived_id("file", batch.metadata.uid, what)
        file: File | None = await self._files.make(
            batch.project or "",
            name,
            f"{batch.name}_{what}.jsonl",
            OUTPUT_PURPOSE,
            _pieces(lines),
            batch.spec.output_expires_seconds,
        )
        return file.name if file is not None else ""

    async def _kept(self, batch: Batch, *, is_good: bool) -> AsyncIterator[str]:
        async for outcome in self._lines.all_of(batch.metadata.uid):
            if outcome.is_good == is_good:
                yield outcome.content

    async def _failed(self, batch: Batch) -> AsyncIterator[str]:
        """What failed, then the lines that nobody asked for any more."""
        async for content in self._kept(batch, is_good=False):
            yield content
        if not await self.undone(batch):
            return
        uid, end = batch.metadata.uid, failed(*_WHY_UNDONE[batch.status.ending or "completed"])
        done = await self._lines.done(uid)
        try:
            file = await self._files.get(batch.project or "", batch.spec.input_file)
            path = self._files.content_path(file)
        except NotFound:
            return
        for line in lines_of(path, self._settings.max_line_bytes):
            if line.number not in done and line.content is not None:
                yield result_line(result_id(uid, line.number), read_request(line.content).custom_id, end)


async def _pieces(lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """The lines, many at a time."""
    held = bytearray()
    async for line in lines:
        held += line.encode()
        held += b"\n"
        if len(held) >= PIECE_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
