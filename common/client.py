"""A small client of the control API, for the CLI and for scripts.

Every method raises an error of ``common.errors``: the one that the API's error body says, or ``Unavailable``
when control cannot be reached.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from common.error_bodies import error_from_body
from common.errors import NO_LEADER, NOT_LEADING, Unavailable
from common.ids import new_id

Document = dict[str, Any]
Documents = list[Document]
T = TypeVar("T")

DRAIN_MARGIN_SECONDS = 15.0
CONNECT_SECONDS = 5.0
"""Where there is another address: a machine that is off says nothing at all."""
TAKEOVER_SECONDS = 30.0
"""So long is waited for a control process to lead, where another one says that none does now."""
_LOOK_AGAIN_SECONDS = 1.0


class Client:
    """Speaks to control at ``base_url`` (like ``http://127.0.0.1:8001``) with an API key; where nothing takes
    a connection there, at the next of the ``others``.

    ``verify`` says whom to trust at an https URL (see ``common.tls``); in tests ``transport`` replaces the
    network, and ``sleep`` the wait for a control process that leads.
    """

    def __init__(
        self,
        base_url: str,
        key: str = "",
        *,
        timeout_seconds: float = 30.0,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None,
        others: Sequence[str] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._others = [url.rstrip("/") for url in others]
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(
            base_url=self.base_url,
            headers=headers,
            timeout=self._patience(timeout_seconds),
            verify=verify,
            transport=transport,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the connections."""
        self._http.close()

    # Resources

    def apply(self, doc: Mapping[str, Any], dry_run: bool = False) -> Document:
        """Apply one resource; answers ``{"outcome": "created|configured|unchanged", "resource": {…}}``."""
        results: Documents = self._write("POST", "/api/v1/apply", doc, dry_run=dry_run)["results"]
        return results[0]

    def apply_all(self, docs: Sequence[Mapping[str, Any]], dry_run: bool = False) -> Documents:
        """Apply several resources in the order given; all are checked before the first is written."""
        results: Documents = self._write("POST", "/api/v1/apply", list(docs), dry_run=dry_run)["results"]
        return results

    def get(self, plural: str, name: str, project: str | None = None) -> Document:
        """One resource; raises ``NotFound``."""
        return self._read(f"/api/v1/{plural}/{name}", project=project)

    def list(
        self, plural: str, project: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Documents:
        """All visible resources of a kind (of one project, with these labels)."""
        chosen = ",".join(f"{key}={value}" for key, value in (labels or {}).items()) or None
        items: Documents = self._read(f"/api/v1/{plural}", project=project, labels=chosen)["items"]
        return items

    def delete(
        self,
        plural: str,
        name: str,
        project: str | None = None,
        *,
        dry_run: bool = False,
        resource_version: int | None = None,
    ) -> Document:
        """Delete and return a resource; ``Conflict`` names what still uses it."""
        return self._write(
            "DELETE",
            f"/api/v1/{plural}/{name}",
            None,
            project=project,
            dry_run=dry_run,
            resource_version=resource_version,
        )

    def watch(
        self,
        kinds: Sequence[str] = (),
        project: str | None = None,
        since: int | None = None,
        *,
        heartbeats: bool = False,
    ) -> Iterator[Document]:
        """Changes as ``{"type": "put|delete", "revision": n, "resource": {…}}``, without end.

        ``kinds`` are kind names; ``since`` is a revision (unset = from now on). With ``heartbeats``
        ``{"type": "heartbeat", "revision": n}`` is given out too, so that a caller wakes when nothing
        changes.
        """
        params = {"kinds": ",".join(kinds) or None, "project": project, "since": since}
        for line in self._stream("/api/v1/watch", params):
            if line.strip():
                change: Document = json.loads(line)
                if heartbeats or change["type"] != "heartbeat":
                    yield change

    def events(
        self,
        kind: str | None = None,
        name: str | None = None,
        project: str | None = None,
        *,
        after: str | None = None,
        limit: int = 100,
    ) -> Documents:
        """Events, oldest first; ``after`` is an event id."""
        answer = self._read("/api/v1/events", kind=kind, name=name, project=project, after=after, limit=limit)
        items: Documents = answer["items"]
        return items

    # Workloads, usage, audit

    def explain(self, name: str, project: str | None = None) -> Document:
        """Why a workload is where it is, or what it waits for."""
        return self._read(f"/api/v1/workloads/{name}/explain", project=project)

    def explain_endpoint(self, name: str, project: str | None = None) -> Document:
        """How many engines an endpoint is to have, has, and why."""
        return self._read(f"/api/v1/endpoints/{name}/explain", project=project)

    def overview(self, limit: int = 10) -> Document:
        """The pool now: devices, nodes, queues and workloads, as far as the key may see them; at most
        ``limit`` nodes and workloads."""
        return self._read("/api/v1/overview", limit=limit)

    def series(
        self, node: str, *, device: str | None = None, window_seconds: int = 3600, step_seconds: int = 0
    ) -> Document:
        """The load of a node's devices (or of that one) lately; as means over steps, or (0) every sample."""
        path = f"/api/v1/nodes/{node}/series"
        return self._read(path, device=device, window_seconds=window_seconds, step_seconds=step_seconds)

    def simulate(self, docs: Sequence[Mapping[str, Any]], *, at_head: bool = False) -> Document:
        """What the scheduler would decide if these Workloads were applied; nothing is written."""
        return self._answer(
            self._send(
                "POST", "/api/v1/simulate", params=_query({"at_head": at_head or None}), json=list(docs)
            )
        )

    def plan(
        self,
        docs: Sequence[Mapping[str, Any]],
        *,
        config: Mapping[str, Any] | None = None,
        devices: Sequence[Mapping[str, Any]] | None = None,
    ) -> Document:
        """What would serve the Endpoints among these documents, and at what cost; nothing is written.
        ``config``: their Model's config.json. ``devices``: in place of the pool's."""
        body = {"documents": list(docs), "config": config, "devices": devices}
        return self._answer(
            self._send("POST", "/api/v1/plan", json={k: v for k, v in body.items() if v is not None})
        )

    def logs(
        self,
        name: str,
        project: str | None = None,
        rank: int = 0,
        follow: bool = False,
        *,
        attempt: int | None = None,
        tail_lines: int | None = None,
    ) -> Iterator[str]:
        """The lines that a rank of a workload printed, without line ends."""
        params = {
            "project": project,
            "rank": rank,
            "attempt": attempt,
            "follow": follow,
            "tail_lines": tail_lines,
        }
        return self._stream(f"/api/v1/workloads/{name}/logs", params)

    def usage(self, **params: Any) -> Document:
        """The usage report; parameters as of ``GET /api/v1/usage`` (``from_`` stands for ``from``)."""
        return self._read("/api/v1/usage", **{name.rstrip("_"): value for name, value in params.items()})

    def audit(self, limit: int = 100) -> Documents:
        """The newest entries of the audit log, newest first."""
        items: Documents = self._read("/api/v1/audit", limit=limit)["items"]
        return items

    def limits(self, project: str) -> Document:
        """What a project may hold and what it holds, by limit; and the queues it may use."""
        return self._read(f"/api/v1/projects/{project}/limits")

    def set_aside(self) -> Documents:
        """Stored resources that control does not take any more, with the reason; for platform-admins."""
        items: Documents = self._read("/api/v1/set-aside")["items"]
        return items

    # Keys and who asks

    def create_key(
        self,
        name: str,
        role: str,
        *,
        tenant: str | None = None,
        project: str | None = None,
        models: Sequence[str] = (),
        expires_ms: int | None = None,
    ) -> Document:
        """Make an API key. ``secret`` in the answer is shown this once."""
        body: Document = {"name": name, "role": role, "models": list(models)}
        optional = {"tenant": tenant, "project": project, "expiresMs": expires_ms}
        body.update({key: value for key, value in optional.items() if value is not None})
        return self._write("POST", "/api/v1/keys", body)

    def list_keys(self) -> Documents:
        """The visible keys, without their secrets."""
        items: Documents = self._read("/api/v1/keys")["items"]
        return items

    def revoke_key(self, name: str, *, made: bool = False) -> Document:
        """Make a key invalid from now on; with ``made`` also all that were made with it."""
        return self._write("DELETE", f"/api/v1/keys/{name}{'?made=true' if made else ''}", None)

    def whoami(self) -> Document:
        """Name, role, tenant and project of the key in use."""
        return self._read("/api/v1/whoami")

    def version(self) -> Document:
        """Version of the server and of the API."""
        return self._read("/api/v1/version")

    # Internal: with the instance's token instead of a key

    def bootstrap(self, token: str, *, rotate: bool = False) -> Document:
        """Make the first admin key; ``Conflict`` when one is in force (unless ``rotate``)."""
        return self._write("POST", "/internal/v1/bootstrap", {"rotate": rotate}, token=token)

    def drain(self, token: str, *, timeout_seconds: float = 60.0, dismiss_agents: bool = False) -> Document:
        """Stop all gangs and wait until none runs; answers ``{"drained": bool, "gangs": [uids left]}``.

        ``dismiss_agents``: nothing of the instance is left in Ray then; control is to be stopped next.
        """
        body = {"timeoutSeconds": timeout_seconds, "dismissAgents": dismiss_agents}
        return self._write(
            "POST",
            "/internal/v1/drain",
            body,
            token=token,
            timeout_seconds=timeout_seconds + DRAIN_MARGIN_SECONDS,
        )

    def ready(self) -> Document:
        """The content of ``/readyz``: whether control is ready, and which loop is in what trouble."""
        response = self._send("GET", "/readyz")
        if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            return self._answer(response)
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, dict) or "loops" not in content:
            raise error_from_body(response.status_code, response.text)
        return content

    # Transport

    def _read(self, path: str, **params: Any) -> Document:
        return self._answer(self._send("GET", path, params=_query(params)))

    def _write(
        self,
        method: str,
        path: str,
        body: object,
        *,
        token: str | None = None,
        timeout_seconds: float | None = None,
        dry_run: bool = False,
        **params: Any,
    ) -> Document:
        """A write with an Idempotency-Key, so that it may be sent again when the answer got lost."""
        headers = {"Idempotency-Key": new_id("idem")}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        query = _query({**params, "dryRun": dry_run or None})
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        timeout = self._patience(timeout_seconds or self._timeout_seconds)
        return self._answer(
            self._send(method, path, params=query, content=content, headers=headers, timeout=timeout)
        )

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Sent again for as long as no control process leads: a takeover takes some seconds."""
        for _ in range(int(TAKEOVER_SECONDS / _LOOK_AGAIN_SECONDS)):
            response = self._send_once(method, path, **options)
            if not _has_no_leader(response):
                return response
            self._sleep(_LOOK_AGAIN_SECONDS)
        return self._send_once(method, path, **options)

    def _send_once(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            try:
                return self._reach(lambda: self._http.request(method, path, **options))
            except (httpx.ReadError, httpx.RemoteProtocolError):
                return self._reach(lambda: self._http.request(method, path, **options))
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _patience(self, seconds: float, *, ends: bool = True) -> httpx.Timeout:
        """``ends``: an answer may not be silent for longer."""
        connect_seconds = min(seconds, CONNECT_SECONDS) if self._others else seconds
        return httpx.Timeout(seconds, connect=connect_seconds, read=seconds if ends else None)

    def _reach(self, ask: Callable[[], T]) -> T:
        """What ``ask`` gets, at the first address that takes a connection."""
        for _ in self._others:
            try:
                return ask()
            except (httpx.ConnectError, httpx.ConnectTimeout):
                self._others.append(self.base_url)
                self.base_url = self._others.pop(0)
                self._http.base_url = httpx.URL(self.base_url)
        return ask()

    def _stream(self, path: str, params: Mapping[str, Any]) -> Iterator[str]:
        silence = self._patience(self._timeout_seconds, ends=False)
        try:
            ask = partial(self._http.stream, "GET", path, params=_query(params), timeout=silence)
            with ExitStack() as opened:
                response = self._reach(lambda: opened.enter_context(ask()))
                if response.is_error:
                    response.read()
                    self._answer(response)
                yield from response.iter_lines()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.HTTPError) -> Unavailable:
        reason = str(error) or type(error).__name__
        return Unavailable(
            f"cannot reach control at {self.base_url} ({reason}); is it running? `computility up` starts it"
        )

    def _answer(self, response: httpx.Response) -> Document:
        if response.is_error:
            raise error_from_body(response.status_code, response.text)
        content: Document = response.json()
        return content


def _has_no_leader(response: httpx.Response) -> bool:
    """Whether nothing was done because no control process leads, or one that did leads no more."""
    if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
        return False
    return error_from_body(response.status_code, response.text).code in (NO_LEADER, NOT_LEADING)


def _query(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters that are set, booleans in lower case, lists joined by commas, names as the API spells
    them.
    """
    spelled = {"resource_version": "resourceVersion", "at_head": "atHead"}
    query: dict[str, str] = {}
    for name, value in params.items():
        if value is None or value is False:
            continue
        if isinstance(value, (list, tuple)):
            value = ",".join(str(part) for part in value)
        query[spelled.get(name, name)] = "true" if value is True else str(value)
    return query
