"""What a job prints, from start to start, until it has ended; and what it left."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import Conflict, InvalidInput, NotFound, TooLarge, Unavailable
from common.folder_archive import Bounds, unpack
from common.units import format_bytes

if TYPE_CHECKING:
    from common.client import Client

Document = dict[str, Any]
ENDED = ("Succeeded", "Failed", "Cancelled")
DEADLINE_CODE, CANCELLED_CODE = 124, 130
"""As timeout(1) and a shell after Ctrl-C have them."""
TRIES = 5
LOOK_AGAIN_SECONDS = 1.0
AWAY_SECONDS = 120.0
"""So long control may be away; the job goes on meanwhile."""
OUTPUT_FOLDER = "output"
MAX_ENTRIES = 1_000_000
_SHOWN = 64


class Following:
    """Follows one job. ``say`` is for what happens, ``show`` for what a rank prints."""

    def __init__(
        self,
        client: Client,
        name: str,
        project: str,
        *,
        rank: int = 0,
        say: Callable[[str], None],
        show: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self._name, self._project, self._rank = client, name, project, rank
        self._say, self._show, self._sleep = say, show, sleep
        self._attempt, self._lines, self._said, self._away_seconds = 1, 0, "", 0.0

    def until_end(self) -> Document:
        """The job when it has ended. Raises ``Unavailable`` where control is away for long."""
        while True:
            try:
                job = self._client.get("jobs", self._name, self._project)
                self._tell(job)
                if not self._stream(job):
                    if (job.get("status") or {}).get("phase") in ENDED:
                        return job
                    self._sleep(LOOK_AGAIN_SECONDS)
                self._away_seconds = 0.0
            except Unavailable:
                self._away_seconds += LOOK_AGAIN_SECONDS
                if self._away_seconds > AWAY_SECONDS:
                    raise
                self._sleep(LOOK_AGAIN_SECONDS)

    def _tell(self, job: Document) -> None:
        status = job.get("status") or {}
        phase, message = status.get("phase", "Pending"), status.get("message", "")
        text = f"{phase}: {message}" if message else str(phase)
        if text != self._said:
            self._say(f"job/{self._name} {text}")
            if phase == "Running" and status.get("confined") is False:
                self._say(
                    "the platform runs jobs without a cell where a node has none (jobs.allow_unconfined)"
                )
        self._said = text

    def _stream(self, job: Document) -> bool:
        """Show what the next attempt prints until its rank ends; False where it has not begun."""
        status = job.get("status") or {}
        if status.get("attempts", 0) < self._attempt:
            return False
        try:
            printed = self._client.logs(self._name, self._project, self._rank, True, attempt=self._attempt)
            for number, line in enumerate(printed):
                if number >= self._lines:  # what was shown before control was away is not shown again
                    self._show(line)
                    self._lines = number + 1
        except NotFound:
            if status["attempts"] == self._attempt:
                return False
            self._say(f"what attempt {self._attempt} printed is not there any more")
        self._attempt, self._lines = self._attempt + 1, 0
        return True


def exit_code_of(job: Document) -> int:
    """What the command line ends with for a job that has ended."""
    status = job.get("status") or {}
    if status.get("phase") == "Succeeded":
        return 0
    if status.get("phase") == "Cancelled":
        return CANCELLED_CODE
    if status.get("reason") == "DeadlineExceeded":
        return DEADLINE_CODE
    return int(status.get("exitCode") or 1)


def cancel(client: Client, name: str, project: str) -> str:
    """Have the job's processes ended; returns its phase as it was. Nothing is done to one that has ended."""
    kept = ("name", "project", "labels", "annotations", "resourceVersion")
    tries = TRIES
    while True:
        job = client.get("jobs", name, project)
        phase = str((job.get("status") or {}).get("phase", "Pending"))
        if phase in ENDED or job["spec"].get("cancelled"):
            return phase
        metadata = {key: job["metadata"][key] for key in kept if key in job["metadata"]}
        spec = {**job["spec"], "cancelled": True}
        try:
            client.apply({"apiVersion": job["apiVersion"], "kind": "Job", "metadata": metadata, "spec": spec})
        except Conflict:  # its status went on meanwhile
            tries -= 1
            if not tries:
                raise
        else:
            return phase


def check_target(target: Path) -> None:
    """Raise ``InvalidInput`` where no new folder can be made of it."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InvalidInput(f"{target} is there already; name a new or an empty folder", param="--output")


def bring(client: Client, job: Document, target: Path) -> bool:
    """Bring what the job left into the new folder ``target``; False where it left nothing.

    Whoever made the archive is not trusted: nothing of it gets outside of the folder, and it leaves a tenth
    of the disk's room. Raises ``InvalidInput`` or ``TooLarge``.
    """
    file = (job.get("status") or {}).get("artefacts")
    if not file:
        return False
    check_target(target)
    target = target.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name[:_SHOWN]}.") as work:
            archive, found = Path(work) / "archive", Path(work) / "files"
            _fetch(client.file_content(file, job["metadata"]["project"]), archive, _room_bytes(work))
            unpack(archive, found, Bounds(_room_bytes(work), MAX_ENTRIES))
            names = [path.name for path in found.iterdir()]
            if target.exists():
                target.rmdir()
            os.rename(found / OUTPUT_FOLDER if names == [OUTPUT_FOLDER] else found, target)
    except OSError as error:
        raise InvalidInput(
            f"{target}: what the job left cannot be written: {error.strerror}", param="--output"
        ) from error
    return True


def _room_bytes(folder: str) -> int:
    return shutil.disk_usage(folder).free * 9 // 10


def _fetch(pieces: Iterable[bytes], archive: Path, room_bytes: int) -> None:
    size = 0
    with archive.open("wb") as out:
        for piece in pieces:
            size += len(piece)
            if size > room_bytes:
                raise TooLarge(f"what the job left is larger than {format_bytes(room_bytes)}, the room here")
            out.write(piece)
