"""FineTunes: a job is made once, from a file or from a ConfigMap, and cancelled when its document goes.

The job has a tag with the uid of its custom resource, and all that is made has Idempotency-Keys that come
from it: whoever is killed in between makes nothing twice.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from common.errors import ComputilityError, Conflict, InvalidInput, NotFound
from common.ids import derived_id
from operators.control.link import Document
from operators.control.view import Item
from operators.core.reconcile import Do, Step
from operators.crds.specs import DataSource, FineTuneManifest
from operators.documents import (
    Body,
    Key,
    Place,
    has_finalizer,
    is_leaving,
    manifest_of,
    reason_of,
)
from operators.kube.client import core_path
from operators.parts import Parts

TAG = "kubernetes-uid"
MAX_TAGS = 15
ENDED = frozenset(("succeeded", "failed", "cancelled"))


def digest_of(spec: Mapping[str, Any]) -> str:
    """What tells a spec from others."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def request_of(manifest: FineTuneManifest, uid: str, training: str, validation: str | None) -> Document:
    """The body of the request that makes the job."""
    if len(manifest.metadata) > MAX_TAGS:
        raise InvalidInput(f"spec.metadata: must have at most {MAX_TAGS} entries", param="spec.metadata")
    placement: Document = {"queue": manifest.queue, "devices": manifest.devices.to_dict()}
    if manifest.priority is not None:
        placement["priority"] = manifest.priority
    if manifest.adapter_rank is not None:
        placement["adapter_rank"] = manifest.adapter_rank
    optional = {"validation_file": validation, "suffix": manifest.suffix, "seed": manifest.seed}
    return {
        "model": manifest.model,
        "training_file": training,
        **{name: value for name, value in optional.items() if value is not None},
        "metadata": {**manifest.metadata, TAG: uid},
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": manifest.hyperparameters.model_dump(mode="json")},
        },
        "computility": placement,
    }


def job_of(uid: str, project: str, known: Iterable[Document]) -> Document | None:
    """The job of a custom resource; None where there is none yet."""
    for job in known:
        if job["metadata"].get("project") == project and (job["spec"].get("metadata") or {}).get(TAG) == uid:
            return job
    return None


class FineTunes:
    """Takes the steps for one custom resource."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def reconcile(self, key: Key) -> None:
        """Raises an error of ``common.errors`` where it is to be tried again."""
        body = self._parts.cluster.find(key)
        if body is None:
            return
        place = self._parts.cluster.place(key.namespace)
        uid = body["metadata"]["uid"]
        seen = job_of(uid, place.project, self._parts.view.all_of("FineTune"))
        if seen is not None:
            self._parts.cluster.link(Item("FineTune", place.project, seen["metadata"]["name"]), key)
        try:
            if is_leaving(body):
                known = await self._parts.lists.fresh("finetunes")  # control's word, before it is let go
                await self._leave(body, place, job_of(uid, place.project, known))
            else:
                await self._keep(key, body, place, seen)
        except ComputilityError as error:
            body = self._parts.cluster.find(key) or body
            await self._parts.tell(
                body, seen, Step(Do.NOTHING, False, reason_of(error), error.message), _told(body)
            )
            raise

    async def _keep(self, key: Key, body: Body, place: Place, seen: Document | None) -> None:
        manifest = manifest_of(body)
        assert isinstance(manifest, FineTuneManifest)
        told = _told(body)
        if not has_finalizer(body):
            await self._parts.hold(body)
            body = self._parts.cluster.find(key) or body
        digest = digest_of(body["spec"])
        if told.get("specDigest", digest) != digest:
            message = "spec: a job is made once; make another one"
            await self._parts.tell(body, seen, Step(Do.NOTHING, False, "Immutable", message), told)
            return
        if seen is None and "job" in told:
            message = f"control has the job {told['job']} no longer"
            await self._parts.tell(body, None, Step(Do.NOTHING, False, "JobGone", message), told)
            return
        if seen is None:
            told = await self._make(key, body, place, manifest)
            body = self._parts.cluster.find(key) or body
        else:
            spec = seen["spec"]
            told = {"job": seen["metadata"]["name"], "trainingFile": spec["trainingFile"]}
        told["specDigest"] = digest
        await self._parts.tell(body, seen, Step(Do.NOTHING, True, "Applied", "control has the job"), told)

    async def _make(self, key: Key, body: Body, place: Place, manifest: FineTuneManifest) -> dict[str, Any]:
        if not await self._parts.is_there(body):
            raise Conflict(f"{key.name} is being deleted")
        training, validation = manifest.training_file, manifest.validation_file
        uploads: dict[str, str] = {}
        try:
            if training is None:
                training = await self._uploaded(key, body, place, manifest.training_data, uploads)
            if manifest.validation_data is not None:
                validation = await self._uploaded(key, body, place, manifest.validation_data, uploads)
        finally:
            await self._remember(body, place, uploads)
        uid = body["metadata"]["uid"]
        request = request_of(manifest, uid, training, validation)
        once = derived_id("idem", "job", uid)
        job = await self._parts.link.create_job(request, place.project, place.acts_as, once)
        self._parts.cluster.link(Item("FineTune", place.project, job["id"]), key)
        return {"job": job["id"], "trainingFile": training}

    async def _uploaded(
        self, key: Key, body: Body, place: Place, source: DataSource | None, uploads: dict[str, str]
    ) -> str:
        """The id of the file that a key of a ConfigMap became; it is written down in ``uploads``, by a digest
        of its content."""
        assert source is not None
        path = core_path(key.namespace, "configmaps", source.config_map)
        where = f"the ConfigMap {source.config_map}"
        try:
            found = await self._parts.kube.get(path)
        except NotFound as error:
            raise InvalidInput(f"spec.trainingData: there is no {where[4:]}") from error
        text, coded = found.get("data") or {}, found.get("binaryData") or {}
        if source.key not in text and source.key not in coded:
            raise InvalidInput(f"spec.trainingData.key: {where} has no key {source.key}")
        content = text[source.key].encode() if source.key in text else base64.b64decode(coded[source.key])
        digest, before = hashlib.sha256(content).hexdigest()[:16], _uploads(body)
        if digest in before:
            uploads[digest] = before[digest]
            return before[digest]
        # What replaced other files before is another upload, though its content was there once.
        once = derived_id("idem", "file", body["metadata"]["uid"], digest, *sorted(before.values()))
        name = source.key if source.key.endswith(".jsonl") else f"{source.key}.jsonl"
        made = await self._parts.link.upload(name, content, place.project, place.acts_as, once)
        uploads[digest] = made
        return made

    async def _remember(self, body: Body, place: Place, uploads: dict[str, str]) -> None:
        """Have the status name the files, until a job has them; what was uploaded before from a ConfigMap
        that has other content now is deleted."""
        before = _uploads(body)
        if uploads == before or not uploads:
            return
        step = Step(Do.NOTHING, False, "Uploaded", "the data are uploaded, the job is not made yet")
        await self._parts.tell(body, None, step, {**_told(body), "uploads": uploads})
        known = await self._parts.lists.fresh("finetunes")  # a job may be there whose answer was lost
        if job_of(body["metadata"]["uid"], place.project, known) is None:
            await self._delete_files(set(before.values()) - set(uploads.values()), place)

    async def _delete_files(self, files: Iterable[str], place: Place) -> None:
        for file_id in files:
            with suppress(NotFound, Conflict):  # somebody else uses it, or has deleted it
                await self._parts.link.delete_file(file_id, place.project, place.acts_as)

    async def _leave(self, body: Body, place: Place, seen: Document | None) -> None:
        """Cancel what runs, and wait for its end; what was made stays."""
        if not has_finalizer(body):
            return
        if seen is not None and _state(seen) not in ENDED:
            job = seen["metadata"]["name"]
            if not seen["spec"].get("cancelled"):
                with suppress(InvalidInput, Conflict):
                    await self._parts.link.cancel_job(job, place.project, place.acts_as)
            now = await self._parts.link.get("finetunes", job, place.project)
            self._parts.view.learn(now)
            if _state(now) not in ENDED:
                raise Conflict(f"the job {job} is cancelled, but has not ended")
        if seen is None:
            await self._delete_files(_uploads(body).values(), place)
        await self._parts.let_go(body)


def _state(job: Document) -> str:
    return str((job.get("status") or {}).get("state", ""))


def _uploads(body: Body) -> dict[str, str]:
    """Files that were uploaded for a job that is not made yet, by digests of their content."""
    known = _told(body).get("uploads")
    return {str(key): str(name) for key, name in known.items()} if isinstance(known, dict) else {}


def _told(body: Body) -> dict[str, Any]:
    status = body.get("status") or {}
    return {name: status[name] for name in ("job", "trainingFile", "specDigest", "uploads") if name in status}
