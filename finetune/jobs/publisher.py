"""From a worker's result to an Adapter, a result file and a bill: every step may be done again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from billing.core.events import UsageEvent
from billing.core.sink import UsageSink, post_all
from common.clock import Clock
from common.ids import derived_id
from common.resources import Adapter, Endpoint, File, FineTune, Metadata, Model, Project, Workload
from common.resources.lineage import Lineage
from common.resources.serving import AdapterSpec, model_identity
from common.settings import Settings
from common.store.port import Store
from common.vocabulary import one_line
from finetune.core.worker_events import WorkerEvent, last_of, result_csv
from finetune.jobs.job_folder import JobFolder
from finetune.jobs.trainer_workload import ROLE, adapter_name, adapter_served_name, result_file
from finetune.ports import Blobs

LOAD_WAIT_SECONDS = 120


class Publisher:
    """Registers what a job has made."""

    def __init__(self, store: Store, blobs: Blobs, settings: Settings, clock: Clock) -> None:
        self._store, self._blobs, self._settings, self._clock = store, blobs, settings, clock

    async def publish(
        self, job: FineTune, folder: JobFolder, result: WorkerEvent, events: list[WorkerEvent]
    ) -> Adapter:
        """The Adapter; its files are copied and verified, and the result file is in ``job.status``.

        Raises ``ComputilityError`` (``adapter_damaged``) when the files are not what the worker told of.
        """
        digest = str(result.data.get("adapter_sha256", ""))
        target = self._settings.folder("adapters") / (job.project or "") / adapter_name(job)
        await asyncio.to_thread(folder.publish_adapter, folder.adapter, target, digest)
        job.status.result_files = [await self._keep_results(job, events)]
        wanted = await self._adapter(job, target, digest, result, events)
        return (await self._store.apply(wanted)).resource

    async def must_wait(self, adapter: Adapter) -> bool:
        """Whether an engine that is up should hold the adapter but does not yet; at most two minutes."""
        if adapter.status.is_true("Served"):
            return False
        if self._clock.now_ms() - adapter.metadata.created_ms >= 1000 * LOAD_WAIT_SECONDS:
            return False
        return any(
            adapter.may_be_on(endpoint)
            and endpoint.status.ready_replicas > 0
            and endpoint.spec.engine.max_adapters > 0
            and endpoint.spec.engine.max_adapter_rank >= adapter.spec.rank
            for endpoint in await self._store.list(Endpoint)
        )

    async def _keep_results(self, job: FineTune, events: list[WorkerEvent]) -> str:
        name = derived_id("file", job.metadata.uid, "results")
        kept = await self._blobs.put(result_csv(events).encode())
        await self._store.apply(result_file(job, name, kept.sha256, kept.size_bytes))
        return name

    async def _adapter(
        self, job: FineTune, path: Path, digest: str, result: WorkerEvent, events: list[WorkerEvent]
    ) -> Adapter:
        tenant = (await self._store.get(Project, job.project or "")).spec.tenant
        metrics = last_of(events, "metrics")
        lineage = await lineage_of(self._store, job, result, metrics.metrics if metrics else {})
        return adapter_of(job, adapter_name(job), adapter_served_name(job, tenant), path, digest, lineage)


async def lineage_of(store: Store, job: FineTune, told: WorkerEvent, metrics: Mapping[str, float]) -> Lineage:
    """Where an adapter of the job comes from; ``told``: by what the worker told of it."""
    model = await store.find(Model, job.spec.base, job.spec.base_project)
    training = await store.find(File, job.spec.training_file, job.project)
    return Lineage(
        job=job.name,
        training_file=job.spec.training_file,
        training_file_sha256=training.spec.sha256 if training else "",
        base_digest=model.status.digest if model else "",
        template_sha256=str(told.data.get("template_sha256", "")),
        seed=job.spec.seed,
        hyperparameters=dict(job.status.resolved),
        trained_tokens=told.count("trained_tokens") or 0,
        metrics=dict(metrics),
    )


def adapter_of(
    job: FineTune, name: str, served_name: str, path: Path, digest: str, lineage: Lineage
) -> Adapter:
    """An Adapter of what the job has trained."""
    return Adapter(
        metadata=Metadata(name=name, project=job.project),
        spec=AdapterSpec(
            model=job.spec.base,
            model_project=job.spec.base_project,
            served_name=served_name,
            path=str(path),
            digest=digest,
            rank=job.spec.adapter_rank,
            lineage=lineage,
        ),
    )


async def post_usage(
    store: Store,
    usage: UsageSink,
    job: FineTune,
    workload: Workload | None,
    last: WorkerEvent | None,
) -> None:
    """Bill the trained tokens: one event per job, whose id is always the same, so it counts once.

    Its times come from the worker's ``last`` line and not from a clock: made again, it is the same event.
    Names are for reports, so an odd one makes nothing free. Raises ``InvalidInput`` for what can never be
    billed.
    """
    tokens = job.status.trained_tokens
    if not tokens:
        return
    project = await store.get(Project, job.project or "")
    ended_ms = 1000 * last.created_at if last else job.metadata.created_ms
    base = await store.find(Model, job.spec.base, job.spec.base_project)
    event = UsageEvent(
        id=derived_id("use", job.metadata.uid, "training"),
        kind="training",
        tenant=project.spec.tenant,
        project=project.name,
        key=one_line(job.spec.api_key),
        model=one_line(job.spec.model),
        base_model=one_line(job.spec.model),
        model_identity=model_identity(job.base_key),
        model_shared=base is not None and base.spec.shared,
        device_class=_device_class(workload),
        resource=job.name,
        outcome="completed" if job.status.state == "succeeded" else "cancelled",
        started_ms=min(job.status.started_ms or ended_ms, ended_ms),
        ended_ms=ended_ms,
        quantities={"trained_tokens": tokens},
        admitted_ms=min(job.metadata.created_ms, ended_ms),
    )
    await post_all(usage, [event])


def _device_class(workload: Workload | None) -> str:
    ranks = workload.status.ranks if workload else []
    grants = [grant for rank in ranks if rank.role == ROLE for grant in rank.grants]
    return f"{grants[0].vendor}/{grants[0].model}" if grants else ""
