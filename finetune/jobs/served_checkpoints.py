"""Checkpoints that are served for a try: one that a job lists becomes an Adapter of its own."""

from __future__ import annotations

import asyncio

from common.errors import NotFound
from common.resources import Adapter, FineTune
from common.resources.tuning import Checkpoint
from common.settings import Settings
from common.store.port import Store
from finetune.core.worker_events import WorkerEvent
from finetune.jobs.job_folder import JobFolder
from finetune.jobs.publisher import adapter_of, lineage_of
from finetune.jobs.trainer_workload import adapter_name, checkpoint_served_name


def find_checkpoint(job: FineTune, named: str) -> Checkpoint:
    """The checkpoint of that id, or of that step. Raises ``NotFound``."""
    for checkpoint in job.status.checkpoints:
        if named in (checkpoint.id, str(checkpoint.step)):
            return checkpoint
    steps = ", ".join(str(one.step) for one in job.status.checkpoints) or "none"
    raise NotFound(
        f"job {job.name} has no checkpoint {named[:60]!r}; it has those of steps {steps}",
        code="checkpoint_not_found",
        param="checkpoint_id",
    )


def checkpoint_adapter_name(job: FineTune, step: int) -> str:
    """The name of the Adapter that serves it."""
    return f"{adapter_name(job)}-step-{step}"


async def serve_checkpoint(
    store: Store, settings: Settings, job: FineTune, tenant: str, checkpoint: Checkpoint
) -> Adapter:
    """The Adapter, whose files are copied and verified; again is no error.

    Raises ``NotFound`` where the job's files are gone, ``ComputilityError`` (``adapter_damaged``) where they
    are not what the worker told of.
    """
    folder, step = JobFolder(settings.folder("jobs"), job), checkpoint.step
    told = await asyncio.to_thread(_told, folder, step)
    if told is None or not folder.checkpoint(step).is_dir():
        raise NotFound(
            f"the files of step {step} of job {job.name} are gone (settings: retention)",
            code="checkpoint_not_found",
            param="checkpoint_id",
        )
    digest, name = str(told.data.get("adapter_sha256", "")), checkpoint_adapter_name(job, step)
    target = settings.folder("adapters") / (job.project or "") / name
    await asyncio.to_thread(folder.publish_adapter, folder.checkpoint(step), target, digest)
    lineage = await lineage_of(store, job, told, checkpoint.metrics)
    served_name = checkpoint_served_name(job, tenant, step)
    wanted = adapter_of(job, name, served_name, target, digest, lineage)
    return (await store.apply(wanted)).resource


def _told(folder: JobFolder, step: int) -> WorkerEvent | None:
    """What the worker told last of the checkpoint of that step."""
    found = (one for one in folder.all_events() if one.type == "checkpoint" and one.count("step") == step)
    return next(reversed(list(found)), None)
