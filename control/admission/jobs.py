"""What a Job may ask for: it is made once, within the limits of its project, and runs only where the platform
lets it."""

from __future__ import annotations

from common.errors import Conflict, Forbidden, InvalidInput, Problem
from common.labels import KEY_LABEL
from common.limits import check_priority, check_room
from common.resources import File, Job, Node, Queue, Workload
from control.admission.access import Caller
from control.admission.lookup import References, missing
from control.core.permissions import allows
from jobs.job_folders import file_problem
from jobs.job_workload import refusal_of

_MAY_CHANGE = ("cancelled", "ttl_seconds_after_finished")


async def check_job(job: Job, caller: Caller, references: References) -> bool:
    """Raise unless the Job may be made, or changed so. Returns whether it is new."""
    old = await references.stored(job)
    _keep_its_key(job, old, caller)
    if old is not None:
        _check_change(job, old)
        return False
    refused = refusal_of(job.spec, references.settings, await references.list(Node))
    if refused is not None:
        raise Forbidden(f"{refused[0]}: {refused[1]}", "not_permitted", refused[0], (Problem(*refused),))
    if job.spec.folder:
        wrong = file_problem(await references.find(File, job.spec.folder, job.project), job.spec.folder)
        if wrong:
            raise missing("spec.folder", wrong)
    taken = await references.find(Workload, job.name, job.project)
    if taken is not None and (taken.metadata.owner is None or taken.metadata.owner.kind != Job.__name__):
        message = f"a Workload {job.name} is there already; choose another name"
        raise Conflict(f"metadata.name: {message}", param="metadata.name")
    if not allows(caller.principal.role, "limits", "write"):
        await _check_demands(job, references)
    return True


def _keep_its_key(job: Job, old: Job | None, caller: Caller) -> None:
    """The device time of a job is that of the key by which it was made."""
    notes = {key: value for key, value in job.metadata.annotations.items() if key != KEY_LABEL}
    made_by = caller.principal.key if old is None else old.metadata.annotations.get(KEY_LABEL, "")
    job.metadata.annotations = {**notes, KEY_LABEL: made_by} if made_by else notes


def _check_change(job: Job, old: Job) -> None:
    wanted, known = job.spec.model_copy(), old.spec.model_copy()
    for name in _MAY_CHANGE:
        setattr(wanted, name, getattr(known, name))
    if wanted != known:
        message = (
            "a job is made once, and only cancelled and ttlSecondsAfterFinished change later; make another "
            "one, or delete this one first"
        )
        raise InvalidInput(f"spec: {message}", param="spec", problems=(Problem("spec", message),))
    if old.spec.cancelled and not job.spec.cancelled:
        raise InvalidInput("spec.cancelled: it is cancelled for good", param="spec.cancelled")


async def _check_demands(job: Job, references: References) -> None:
    limits = await references.limits_of(job.project or "")
    queue = await references.find(Queue, job.spec.queue)
    check_priority("spec.priority", job.spec.priority, queue, limits)
    check_room(f"a Job of project {job.project}", "maxReplicas", limits.max_replicas, 0, job.spec.replicas)
    others = [other for other in await references.list(Job) if other.project == job.project]
    unfinished = sum(not other.has_ended for other in others)
    check_room(f"project {job.project}", "maxJobs", limits.max_jobs, unfinished - 1, 1)
