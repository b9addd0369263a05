"""The folder that a job shares with its worker."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path

from common.durable import put_in_place
from common.errors import ComputilityError
from common.resources import FineTune
from finetune.core.job import CHECKPOINTS_FOLDER, EVENTS_FILE, JOB_FILE, TrainJob
from finetune.core.worker_events import WorkerEvent, whole_lines
from finetune.jobs.left_files import copy_left, open_left

ADAPTER_FOLDER = "adapter"
WEIGHTS_FILE = "adapter_model.safetensors"
MAX_EVENTS_BYTES = 64 * 1024**2
"""Of one job: a line has some 300 bytes, and a step one or two lines."""
_MAX_READ_BYTES = 4 * 1024**2


class JobFolder:
    """``<jobs>/<name>.<end of uid>``: a job made anew under an old name begins with an empty folder."""

    def __init__(self, jobs: Path, job: FineTune) -> None:
        self.path = jobs / f"{job.name}.{job.metadata.uid[-8:]}"

    @property
    def adapter(self) -> Path:
        """Where the worker leaves the finished adapter."""
        return self.path / ADAPTER_FOLDER

    def checkpoint(self, step: int) -> Path:
        """Where the worker leaves the adapter as it is after a step."""
        return self.path / CHECKPOINTS_FOLDER / f"step-{step}"

    def write_job(self, job: TrainJob) -> None:
        """Leave ``job.json`` for the worker, whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f".{JOB_FILE}"
        temporary.unlink(missing_ok=True)  # a worker of before may have left anything there
        with temporary.open("x", encoding="utf-8") as stream:
            stream.write(json.dumps(job.to_dict(), indent=2) + "\n")
        put_in_place(temporary, self.path / JOB_FILE)

    def new_events(self, offset_bytes: int) -> tuple[list[WorkerEvent], int]:
        """What the worker has written since ``offset_bytes``, and the offset to go on from. More than
        ``MAX_EVENTS_BYTES`` is not read."""
        try:
            with open_left(self.path / EVENTS_FILE) as stream:
                stream.seek(offset_bytes)
                wanted = min(_MAX_READ_BYTES, max(0, MAX_EVENTS_BYTES - offset_bytes))
                return whole_lines(stream.read(wanted), offset_bytes)
        except FileNotFoundError:
            return [], offset_bytes

    def all_events(self) -> list[WorkerEvent]:
        """Everything that the worker has written."""
        events: list[WorkerEvent] = []
        offset = 0
        while True:
            more, after = self.new_events(offset)
            if after == offset:
                return events
            events += more
            offset = after

    def publish_adapter(self, source: Path, target: Path, sha256: str) -> None:
        """Copy the adapter to ``target``, which appears complete or not at all; again is no error.

        Raises ``ComputilityError`` (``adapter_damaged``) when the weights are not what the worker told of.
        """
        if sha256 and _weights_digest(target) == sha256:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        work = target.parent / f".{target.name}"  # what a killed process left there is written over
        shutil.rmtree(work, ignore_errors=True)
        try:
            with suppress(FileNotFoundError):
                copy_left(source, work, self.path)
            if not sha256 or _weights_digest(work) != sha256:  # of the copy, which changes no more
                raise ComputilityError(
                    f"the adapter at {source} is not what the worker has written", code="adapter_damaged"
                )
            shutil.rmtree(target, ignore_errors=True)
            put_in_place(work, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _weights_digest(folder: Path) -> str:
    try:
        with (folder / WEIGHTS_FILE).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
