"""ApiKeys: made in control, kept in a Secret, revoked when they go.

Control shows a key once, so one whose Secret could not be written is revoked and made anew. The name in
control tells of the custom resource, of what the key may do and of the value of the rotating annotation:
where any of these is another one, another key is made, and the older ones are revoked when the Secret has it.
Nothing is made or revoked before the Secret is known to take it, and a key that somebody else revoked stays
so: the status remembers which one it was, and which one was revoked here to be made anew.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import ComputilityError, Conflict, InvalidInput, NotFound
from common.resources.meta import API_VERSION
from operators.control.link import Document
from operators.control.view import Item
from operators.core.reconcile import Do, Step
from operators.crds.specs import ApiKeyManifest
from operators.documents import Body, Key, has_finalizer, is_leaving, manifest_of, reason_of
from operators.kube.client import core_path
from operators.parts import Parts

ROTATE = "computility.io/rotate"
KEY_UID = "computility.io/key-uid"
FIELD = "api-key"
HINT_CHARACTERS = 8
_SHOWN_CHARACTERS = 20
_TOLD = ("secretName", "keyName", "revoked", "replacing")
_TRIAL = {"resource": {"metadata": {"uid": "trial"}}, "secret": "trial"}


@dataclass(frozen=True)
class Wanted:
    """A key that should be in force, and the Secret that should hold it."""

    name: str
    secret: str
    request: Mapping[str, Any]
    acts_as: str


def prefix_of(key: Key, uid: str) -> str:
    """How all keys of a custom resource begin: readable, and no other's."""
    shown = f"{key.namespace[:_SHOWN_CHARACTERS]}.{key.name[:_SHOWN_CHARACTERS]}"
    return f"{shown}.{hashlib.sha256(uid.encode()).hexdigest()[:8]}."


def wanted_of(key: Key, body: Body, project: str) -> Wanted:
    """What the custom resource asks for. Raises ``InvalidInput`` naming every path that is wrong."""
    manifest = manifest_of(body)
    assert isinstance(manifest, ApiKeyManifest)
    notes = body["metadata"].get("annotations") or {}
    request: dict[str, Any] = {"role": manifest.role, "project": project, "models": manifest.models}
    if manifest.expires_ms is not None:
        request["expiresMs"] = manifest.expires_ms
    told = json.dumps([request, notes.get(ROTATE, "")], sort_keys=True)
    name = prefix_of(key, body["metadata"]["uid"]) + hashlib.sha256(told.encode()).hexdigest()[:10]
    return Wanted(
        name, manifest.secret_name or key.name, {**request, "name": name}, f"tenant-admin/{project}"
    )


def holds(secret: Body | None, seen: Mapping[str, Any]) -> bool:
    """Whether the Secret holds this key of control."""
    if secret is None:
        return False
    notes = secret["metadata"].get("annotations") or {}
    try:
        content = base64.b64decode((secret.get("data") or {}).get(FIELD, "")).decode()
    except ValueError:
        return False
    hint = (seen.get("status") or {}).get("hint", "")
    return notes.get(KEY_UID) == seen["metadata"]["uid"] and bool(hint) and content.startswith(hint)


def told_of(body: Body) -> dict[str, Any]:
    """What the status remembers: ``keyName`` is the key that was asked for last, ``revoked`` that somebody
    revoked it, ``replacing`` the uid of one that was revoked here."""
    status = body.get("status") or {}
    return {name: status[name] for name in _TOLD if name in status}


def is_revoked(told: Mapping[str, Any], wanted: Wanted, seen: Mapping[str, Any] | None) -> bool:
    """Whether somebody else revoked the key that is wanted, and nothing else was asked for since."""
    if told.get("keyName") != wanted.name:
        return False
    if seen is None:
        return bool(told.get("revoked"))
    return bool(seen["spec"].get("revoked")) and told.get("replacing") != seen["metadata"]["uid"]


def is_ours(secret: Body, body: Body) -> bool:
    """Whether the Secret belongs to the custom resource."""
    owners = secret["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == body["metadata"]["uid"] for owner in owners)


class ApiKeys:
    """Takes the steps for one custom resource."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def reconcile(self, key: Key) -> None:
        """Raises an error of ``common.errors`` where it is to be tried again."""
        body = self._parts.cluster.find(key)
        if body is None:
            return
        if is_leaving(body):
            if has_finalizer(body):
                known = await self._parts.lists.fresh("apikeys")  # control's word, before it is let go
                await self._revoke_others(prefix_of(key, body["metadata"]["uid"]), "", known)
                await self._parts.let_go(body)
            return
        try:
            await self._hand_out(key, body)
        except ComputilityError as error:
            body = self._parts.cluster.find(key) or body
            step = Step(Do.NOTHING, False, reason_of(error), error.message)
            await self._parts.tell(body, None, step, told_of(body))
            raise

    async def _hand_out(self, key: Key, body: Body) -> None:
        wanted = wanted_of(key, body, self._parts.cluster.place(key.namespace).project)
        if not has_finalizer(body):
            await self._parts.hold(body)
            body = self._parts.cluster.find(key) or body
        self._parts.cluster.link(Item("ApiKey", "", wanted.name), key)
        secret = await self._secret(key.namespace, wanted.secret)
        if secret is not None and not is_ours(secret, body):
            raise Conflict(f"spec.secretName: there is a Secret {wanted.secret} of somebody else")
        seen = await self._in_control(wanted.name)
        extra = {"secretName": wanted.secret, "keyName": wanted.name}
        if is_revoked(told_of(body), wanted, seen):
            again = f"control revoked it; another value of the annotation {ROTATE} makes a new one"
            step = Step(Do.NOTHING, False, "Revoked", again)
            await self._parts.tell(body, seen, step, {**extra, "revoked": True})
            return
        if seen is None or seen["spec"].get("revoked") or not holds(secret, seen):
            seen = await self._make(key, body, wanted, secret, seen)
            body = self._parts.cluster.find(key) or body
        known = list(self._parts.view.all_of("ApiKey"))
        await self._revoke_others(prefix_of(key, body["metadata"]["uid"]), wanted.name, known)
        await self._parts.tell(body, seen, Step(Do.NOTHING, True, "Applied", "the Secret has it"), extra)

    async def _make(
        self, key: Key, body: Body, wanted: Wanted, secret: Body | None, seen: Document | None
    ) -> Document:
        """A key, and the Secret with it. One that is in force already was shown to nobody who remembers."""
        if not await self._parts.is_there(body):
            raise Conflict(f"{key.name} is being deleted")
        await self._write_secret(key, body, wanted, secret, _TRIAL, dry_run=True)
        if seen is not None and not seen["spec"].get("revoked"):
            step = Step(Do.NOTHING, False, "Replacing", "the Secret does not have the key: it is made anew")
            extra = {"secretName": wanted.secret, "keyName": wanted.name}
            await self._parts.tell(body, seen, step, {**extra, "replacing": seen["metadata"]["uid"]})
            await self._parts.link.revoke_key(wanted.name)
        made = await self._parts.link.make_key(wanted.request, wanted.acts_as)
        self._parts.view.learn(made["resource"])
        if made["secret"] is None:
            raise Conflict(f"the answer with the key {wanted.name} was lost; it is made anew")
        await self._write_secret(key, body, wanted, secret, made)
        resource: Document = made["resource"]
        return resource

    async def _write_secret(
        self,
        key: Key,
        body: Body,
        wanted: Wanted,
        secret: Body | None,
        made: Mapping[str, Any],
        *,
        dry_run: bool = False,
    ) -> None:
        if secret is not None and secret.get("immutable"):
            message = f"spec.secretName: the Secret {wanted.secret} is immutable; delete it, or name another"
            raise InvalidInput(message, param="spec.secretName")
        owner = {
            "apiVersion": API_VERSION,
            "kind": key.kind,
            "name": key.name,
            "uid": body["metadata"]["uid"],
            "controller": True,
        }
        notes = {KEY_UID: made["resource"]["metadata"]["uid"]}
        data = {FIELD: base64.b64encode(made["secret"].encode()).decode()}
        content = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": wanted.secret,
                "annotations": notes,
                "labels": {"app.kubernetes.io/managed-by": "computility-operator"},
                "ownerReferences": [owner],
            },
            "type": "Opaque",
            "data": data,
        }
        path = core_path(key.namespace, "secrets")
        if secret is None:
            await self._parts.kube.create(path, content, dry_run=dry_run)
        else:
            patch = {"metadata": {"annotations": notes}, "data": data}
            path = core_path(key.namespace, "secrets", wanted.secret)
            await self._parts.kube.merge(path, patch, dry_run=dry_run)

    async def _revoke_others(self, prefix: str, kept: str, known: Sequence[Document]) -> None:
        names = [
            document["metadata"]["name"]
            for document in known
            if document["metadata"]["name"].startswith(prefix) and not document["spec"].get("revoked")
        ]
        for name in names:
            if name != kept:
                await self._parts.link.revoke_key(name)

    async def _secret(self, namespace: str, name: str) -> Body | None:
        try:
            return await self._parts.kube.get(core_path(namespace, "secrets", name))
        except NotFound:
            return None

    async def _in_control(self, name: str) -> Document | None:
        """The key as control has it now: an answer may have been lost."""
        try:
            found = await self._parts.link.get("apikeys", name)
        except NotFound:
            return None
        self._parts.view.learn(found)
        return found
