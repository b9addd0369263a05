"""What a job asks of the scheduler, and whether the platform lets it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from common.labels import KEY_LABEL, SANDBOX_LABEL
from common.resources import Job, Metadata, Node, Owner, Queue, Workload
from common.resources.jobs import JobSpec
from common.resources.workload import RestartPolicy, Sandbox, WorkloadRole, WorkloadSpec
from common.settings import Settings
from common.vocabulary import one_line

ROLE = "worker"
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 10.0, 360.0
"""Between attempts, as of Kubernetes Jobs."""
_BELOW_DEFAULT = 10
_LEAST_PRIORITY = -1_000_000


def refusal_of(spec: JobSpec, settings: Settings, nodes: Iterable[Node]) -> tuple[str, str] | None:
    """The field and the reason why such a job may not run here, and what to do; None where it may."""
    allowed = settings.jobs
    for field, asks in (("spec.network", spec.network), ("spec.replicas", spec.replicas > 1)):
        if asks and not allowed.allow_network:
            what = "a network" if field == "spec.network" else "several replicas, which need the network"
            return field, (
                f"jobs may not have {what}, by which they would reach whatever their node reaches; a "
                "platform-admin permits it with the setting jobs.allow_network "
                "(COMPUTILITY_JOBS__ALLOW_NETWORK=true)"
            )
    if spec.session is not None and spec.session.ports and allowed.allow_unconfined:
        return "spec.session.ports", (
            "ports of a job are reached in its cell only; with the setting jobs.allow_unconfined it may "
            "run without one, where a port would be the node's"
        )
    cells = [node.status.labels.get(SANDBOX_LABEL) == "works" for node in nodes]
    if cells and not any(cells) and not allowed.allow_unconfined:
        return "spec", (
            "no node can make a cell to run it in; a platform-admin installs bubblewrap on the nodes "
            "(`computility doctor` says what is missing), or permits jobs that see all that the platform's "
            "user sees with the setting jobs.allow_unconfined (COMPUTILITY_JOBS__ALLOW_UNCONFINED=true)"
        )
    return None


def job_workload(job: Job, queue: Queue | None, folder: Path, settings: Settings) -> Workload:
    """The ranks of a job. Nothing of its environment or command is in the Workload: see ``jobs.rank``."""
    spec, confined = job.spec, not settings.jobs.allow_unconfined
    devices = spec.devices.model_copy(deep=True)
    if confined:
        devices.node_labels = {**devices.node_labels, SANDBOX_LABEL: "works"}
    role = WorkloadRole(
        name=ROLE,
        replicas=spec.replicas,
        command=["$(PYTHON)", "-m", "jobs.rank", str(folder)],
        env={"OMP_NUM_THREADS": str(max(1, devices.count)), "PYTHONSAFEPATH": "1"},
        devices=devices,
        sandbox=Sandbox(writable=[str(folder)], network=spec.network, required=confined),
        session=spec.session,
    )
    return Workload(
        metadata=Metadata(
            name=job.name,
            project=job.project,
            labels={KEY_LABEL: one_line(job.metadata.annotations.get(KEY_LABEL, ""))},
            owner=Owner(kind="Job", name=job.name, uid=job.metadata.uid),
        ),
        spec=WorkloadSpec(
            queue=spec.queue,
            priority=_priority(job, queue),
            kind="training",
            roles=[role],
            restart=RestartPolicy(
                policy="OnFailure",
                max_restarts=spec.retries,
                backoff_seconds=FIRST_PAUSE_SECONDS,
                backoff_max_seconds=LONGEST_PAUSE_SECONDS,
            ),
            expected_seconds=spec.deadline_seconds,
        ),
    )


def _priority(job: Job, queue: Queue | None) -> int:
    """Unless the job says otherwise: below what serves in the same queue."""
    if job.spec.priority is not None:
        return job.spec.priority
    usual = queue.spec.default_priority if queue else 0
    return max(_LEAST_PRIORITY, usual - _BELOW_DEFAULT)
